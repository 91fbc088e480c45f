//! The objects of k8s/components/rabbitmq-operator, created by hand on a real broker as RabbitMQ's operators would: a worker finds what it
//! expects, its user may do what it has to and nothing else, and KEDA's user can read the length of the queue.

use lapin::options::{
    BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};
use serde_json::Value;

use super::{renderings, yaml};
use crate::env::services::Services;
use crate::env::{TestEnv, amqp_url, event, eventually, servers_are_private};

fn rabbitmqctl(arguments: &[&str]) {
    let output = Services::private().script("rabbitmqctl").args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A virtual host with the objects' topology, policies and users. Gone on drop.
struct VirtualHost {
    name: String,
    users: Vec<String>,
}

impl VirtualHost {
    async fn of(env: &TestEnv, objects: &[Value]) -> VirtualHost {
        let name = env.name.clone();
        rabbitmqctl(&["add_vhost", &name]);
        rabbitmqctl(&["set_permissions", "-p", &name, "cns", ".*", ".*", ".*"]);
        let mut host = VirtualHost { name, users: Vec::new() };
        let channel = host.channel("cns", None).await;
        let text = |object: &Value, key: &str| {
            object["spec"][key].as_str().unwrap_or_else(|| panic!("{object} {key}")).to_owned()
        };
        let of = |kind: &str| {
            objects
                .iter()
                .filter(|one| one["kind"] == kind && one["apiVersion"] == "rabbitmq.com/v1beta1")
                .cloned()
                .collect::<Vec<_>>()
        };
        for exchange in of("Exchange") {
            assert_eq!(exchange["spec"]["type"], "topic");
            let options = ExchangeDeclareOptions {
                durable: exchange["spec"]["durable"] == true,
                ..ExchangeDeclareOptions::default()
            };
            channel
                .exchange_declare(
                    text(&exchange, "name").into(),
                    ExchangeKind::Topic,
                    options,
                    FieldTable::default(),
                )
                .await
                .unwrap();
        }
        for queue in of("Queue") {
            let mut arguments = FieldTable::default();
            for (key, value) in queue["spec"]["arguments"].as_object().unwrap() {
                let value = match value {
                    // Brokers before 4.0 have no limit by themselves; a limit of -1 is one that is passed at once there.
                    Value::Number(limit) if limit.as_i64() == Some(-1) => continue,
                    Value::Number(number) => AMQPValue::LongLongInt(number.as_i64().unwrap()),
                    text => AMQPValue::LongString(text.as_str().unwrap().into()),
                };
                arguments.insert(key.as_str().into(), value);
            }
            let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
            channel.queue_declare(text(&queue, "name").into(), options, arguments).await.unwrap();
        }
        for binding in of("Binding") {
            let [queue, exchange, key] =
                ["destination", "source", "routingKey"].map(|part| text(&binding, part));
            channel
                .queue_bind(
                    queue.into(),
                    exchange.into(),
                    key.into(),
                    QueueBindOptions::default(),
                    FieldTable::default(),
                )
                .await
                .unwrap();
        }
        for policy in of("Policy") {
            let definition = policy["spec"]["definition"].to_string();
            let [policy_name, pattern, apply] =
                ["name", "pattern", "applyTo"].map(|part| text(&policy, part));
            rabbitmqctl(&[
                "set_policy",
                "-p",
                &host.name,
                &policy_name,
                &pattern,
                &definition,
                "--apply-to",
                &apply,
            ]);
        }
        for permission in of("Permission") {
            let user = host.user(permission["spec"]["userReference"]["name"].as_str().unwrap());
            rabbitmqctl(&["add_user", &user, "p"]);
            let may = |what: &str| permission["spec"]["permissions"][what].as_str().unwrap().to_owned();
            rabbitmqctl(&[
                "set_permissions",
                "-p",
                &host.name,
                &user,
                &may("configure"),
                &may("write"),
                &may("read"),
            ]);
            host.users.push(user);
        }
        for permission in of("TopicPermission") {
            let user = host.user(permission["spec"]["userReference"]["name"].as_str().unwrap());
            let may = |what: &str| permission["spec"]["permissions"][what].as_str().unwrap().to_owned();
            rabbitmqctl(&[
                "set_topic_permissions",
                "-p",
                &host.name,
                &user,
                &may("exchange"),
                &may("write"),
                &may("read"),
            ]);
        }
        host
    }

    fn user(&self, object: &str) -> String {
        format!("{}-{object}", self.name)
    }

    fn url(&self, user: &str, password: Option<&str>) -> String {
        let mut url = url::Url::parse(&amqp_url()).unwrap();
        if let Some(password) = password {
            url.set_username(user).unwrap();
            url.set_password(Some(password)).unwrap();
        }
        url.set_path(&self.name);
        url.to_string()
    }

    async fn channel(&self, user: &str, password: Option<&str>) -> Channel {
        let connection =
            Connection::connect(&self.url(user, password), ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        // It lives as long as the process of this test.
        std::mem::forget(connection);
        channel
    }

    /// Returns true if the broker accepts a message of this user.
    async fn takes(&self, user: &str, exchange: &str, key: &str, body: &[u8]) -> bool {
        let channel = self.channel(&self.user(user), Some("p")).await;
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let properties = BasicProperties::default().with_delivery_mode(2);
        match channel.basic_publish(exchange.into(), key.into(), options, body, properties).await {
            Ok(confirm) => {
                confirm.await.is_ok_and(|confirm| confirm.is_ack() && confirm.take_message().is_none())
            }
            Err(_) => false,
        }
    }
}

impl Drop for VirtualHost {
    fn drop(&mut self) {
        rabbitmqctl(&["delete_vhost", &self.name]);
        self.users.iter().for_each(|user| rabbitmqctl(&["delete_user", user]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_uses_the_topology_of_the_messaging_operators() {
    if !servers_are_private() {
        eprintln!("AMQP_URL names a broker that is not private: no users are made there");
        return;
    }
    let (_, text) = renderings().pop().unwrap();
    let env = TestEnv::new("operators").await;
    let host = VirtualHost::of(&env, &yaml(&text)).await;
    let worker = env.start(|command| {
        for name in ["EXCHANGE", "QUEUE", "DEAD_LETTER_EXCHANGE", "DEAD_LETTER_QUEUE"] {
            command.env_remove(format!("CNS_EVENTS__AMQP__{name}"));
        }
        command
            .env("CNS_EVENTS__AMQP__URI", host.url(&host.user("cns-events-worker"), Some("p")))
            .env("CNS_EVENTS__AMQP__DECLARE", "passive");
    });
    worker.ready().await;
    assert!(host.takes("cns-events-producer", "cns.events", "cns.cache.hit", event("good").as_bytes()).await);
    assert!(host.takes("cns-events-producer", "cns.events", "cns.cache.hit", b"no json").await);
    eventually("it is stored, and what is bad is a dead letter", async || {
        env.rows().await == 1
            && worker.metric_value("cns_events_dead_lettered_total{reason=\"malformed_json\"}") == 1.0
    })
    .await;
    // Producers publish under cns.… alone, and to nothing else; workers publish dead letters and nothing else.
    assert!(!host.takes("cns-events-producer", "cns.events", "other.key", b"{}").await);
    assert!(!host.takes("cns-events-producer", "cns.events.dlx", "cns.x", b"{}").await);
    assert!(!host.takes("cns-events-worker", "cns.events", "cns.x", b"{}").await);
    // Nobody but the administrator makes or removes anything.
    for user in ["worker", "producer", "operator", "scaler"] {
        let channel = host.channel(&host.user(&format!("cns-events-{user}")), Some("p")).await;
        let options = lapin::options::QueueDeleteOptions::default();
        let refused = channel.queue_delete("cns.events.persist".into(), options).await;
        assert!(refused.is_err(), "{user}");
    }
    // The operators' user can list what is dead. A message under a foreign key became a dead letter by the policy.
    let admin = host.channel("cns", None).await;
    admin
        .basic_publish(
            "cns.events".into(),
            "foreign".into(),
            BasicPublishOptions::default(),
            b"{}",
            BasicProperties::default(),
        )
        .await
        .unwrap()
        .await
        .unwrap();
    eventually("the dead letters are listed", async || {
        let mut dlq = env.command();
        for name in ["EXCHANGE", "QUEUE", "DEAD_LETTER_EXCHANGE", "DEAD_LETTER_QUEUE"] {
            dlq.env_remove(format!("CNS_EVENTS__AMQP__{name}"));
        }
        dlq.env("CNS_EVENTS__AMQP__URI", host.url(&host.user("cns-events-operator"), Some("p")));
        let output = dlq.args(["dlq", "list", "--json"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap().as_array().unwrap().len() == 2
    })
    .await;
}
