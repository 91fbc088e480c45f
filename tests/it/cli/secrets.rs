//! Planted secrets: passwords, a token's key and the contents of events. Every failure that can be caused is caused, at the
//! most verbose log level, and no output may quote a secret.

use std::process::{Command, Output};

use lapin::BasicProperties;

use crate::env::relay::Relay;
use crate::env::{TestEnv, amqp_url, event, eventually};

/// Stands in bodies: in every field that a producer chooses but the ids, which logs may name.
const IN_BODY: &str = "body-s3cret-c0ntent";

/// Stands in `api.jwt_secret`.
const JWT: &str = "jwt-s3cret-key-of-at-least-32-bytes";

fn both(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn outputs_and_logs_hold_no_secrets() {
    let env = TestEnv::new("secrets").await;
    env.declare().await;
    let (login, _) = env.login("in role service_role").await;
    let password = "db-s3cret-p%23ss";
    env.sql.batch_execute(&format!("alter role {login} password 'db-s3cret-p#ss'")).await.unwrap();
    let mut database = url::Url::parse(&env.database_url).unwrap();
    database.set_username(&login).unwrap();
    let database = database.to_string().replacen(
        &format!("{login}:{}@", database.password().unwrap_or_default()),
        &format!("{login}:{password}@"),
        1,
    );
    let broker_password = url::Url::parse(&amqp_url()).unwrap().password().unwrap_or("guest").to_owned();
    let relay = Relay::before(&database).await;
    relay.open().await;
    let mut planted = vec!["db-s3cret", IN_BODY, JWT];
    // A password that is a word like any other would be found everywhere.
    planted.extend(Some(broker_password.as_str()).filter(|password| password.len() >= 12));
    let clean = |what: &str, text: &str| {
        for secret in &planted {
            let at = text.find(*secret);
            assert!(at.is_none(), "{what} quotes {secret}: …{}…", &text[at.unwrap().saturating_sub(200)..]);
        }
    };
    let configured = |command: &mut Command| {
        command
            .env("CNS_EVENTS__DATABASE__URL", relay.url(&database))
            .env("CNS_EVENTS__API__JWT_SECRET", JWT)
            .env("CNS_EVENTS__LOG__LEVEL", "trace")
            .env("CNS_EVENTS__WORKER__HOLD_SECONDS", "1")
            .env("CNS_EVENTS__DATABASE__STATEMENT_TIMEOUT_MS", "1000")
            .env("CNS_EVENTS__VALIDATION__PAYLOAD", "reject");
    };
    for format in ["json", "human"] {
        let mut worker = env.start(|command| {
            configured(command);
            // The address is read from the log, which only JSON says in a way that the test knows.
            command.env("CNS_EVENTS__LOG__FORMAT", format);
        });
        let secretive = event(&format!("good-{format}")).replace("parts", IN_BODY);
        let constraint = "alter table enrichment_events add constraint c check (payload->>'cache' is distinct from \
                          'body-s3cret-c0ntent!') not valid";
        if format == "json" {
            env.sql.batch_execute(constraint).await.unwrap();
        }
        let bad = [
            format!("not json {IN_BODY}"),
            format!("{{\"{IN_BODY}\":1,\"{IN_BODY}\":2}}"),
            secretive.replace("6f9619ff-8b86-4d01-b42d-00cf4fc964ff", IN_BODY),
            secretive.replace(r#""payload":{"#, r#""payload":{"nul":"\u0000","#),
            secretive.replace(r#""key":"#, r#""kee":"#),
            secretive.replace("customer", IN_BODY).replace(IN_BODY, &format!("{IN_BODY}!")),
            secretive.replace("2026-01-02T03:04:05Z", IN_BODY),
        ];
        for body in &bad {
            env.publish(body.as_bytes()).await;
        }
        let properties = BasicProperties::default().with_correlation_id(IN_BODY.into());
        env.publish_with(secretive.as_bytes(), "cns.test", properties).await;
        // The same event_id with another body, and an outage with all of it in flight.
        env.publish(secretive.replace("\"key\":\"good", "\"key\":\"other").as_bytes()).await;
        eventually("they are settled", async || {
            env.depth(&env.dead_letter_queue()).await.0 >= bad.len() as u32
                && env
                    .number(&format!(
                        "select count(*) from enrichment_events where event_id = 'good-{format}'"
                    ))
                    .await
                    == 1
        })
        .await;
        eventually("the conflict is told", async || worker.log().contains("conflict")).await;
        relay.cut();
        env.publish(secretive.replace("good-", "late-").as_bytes()).await;
        eventually("it lets go", async || {
            worker.log().contains("everything unsettled was returned to the queue")
        })
        .await;
        relay.open().await;
        let late = format!("select count(*) from enrichment_events where event_id = 'late-{format}'");
        eventually("it is stored", async || env.number(&late).await == 1).await;
        if format == "json" {
            for path in ["/metrics", "/readyz", "/livez"] {
                clean(path, &worker.get(path).unwrap().1);
            }
        }
        assert!(worker.terminate().await.success());
        clean("the worker's log", &worker.log());
        assert!(worker.log().len() > 1000, "it did say something");
        while env.depth(&env.dead_letter_queue()).await.0 > 0 {
            env.dead_letter().await;
        }
    }

    let run = |arguments: &[&str], change: Option<(&str, &str)>| {
        let mut command = env.command();
        configured(&mut command);
        command.envs(change);
        let output = command.args(arguments).output().unwrap();
        clean(&format!("{arguments:?}"), &both(&output));
        output.status.code()
    };
    for arguments in [
        &["config"][..],
        &["config", "--json"],
        &["doctor"],
        &["doctor", "--json"],
        &["doctor", "serve"],
        &["query", "bom", "6f9619ff-8b86-4d01-b42d-00cf4fc964ff", "--all-tenants"],
        &["dlq", "list"],
        &["migrate", "--status"],
        &["publish", "--type", "x"],
    ] {
        run(arguments, None);
    }
    // URLs that cannot be used, and servers that refuse what they are given.
    let (amqp, database) = ("CNS_EVENTS__AMQP__URI", "CNS_EVENTS__DATABASE__URL");
    for unusable in [
        (database, "postgres://u:db-s3cret@h:port/d"),
        (database, "db-s3cret"),
        (database, "postgres://u:db-s3cret#x@h/d?sslmode=prefer"),
        (amqp, "amqp:guest:db-s3cret@h"),
        (amqp, "amqp://guest:db-s3cret@h:port"),
        ("CNS_EVENTS__WORKER__LANES", "none"),
    ] {
        assert_eq!(run(&["worker"], Some(unusable)), Some(78));
        assert_eq!(run(&["doctor"], Some(unusable)), Some(1));
        assert_eq!(run(&["config"], Some(unusable)), Some(78));
        assert_eq!(run(&["serve"], Some(unusable)), Some(78));
    }
    let event =
        ["--bom-id", "6f9619ff-8b86-4d01-b42d-00cf4fc964ff", "--organization-id", "o", "--timeout", "1"];
    for refused in
        [(database, "postgres://u:db-s3cret@127.0.0.1:1/d"), (amqp, "amqp://u:db-s3cret@127.0.0.1:1/%2f")]
    {
        assert_eq!(run(&["doctor"], Some(refused)), Some(1));
        run(&["migrate"], Some(refused));
        run(&["query", "errors", "--all-tenants"], Some(refused));
        run(&["dlq", "list"], Some(refused));
        run(&[&["publish", "--type", "x"], &event[..]].concat(), Some(refused));
    }
    env.drop_login(&login).await;
}
