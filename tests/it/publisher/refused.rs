//! Events that the broker refuses by closing the channel: they are set aside, and the others arrive.

use cns_events::publisher::Publisher;

use crate::env::services::Services;
use crate::env::{TIMEOUT, TestEnv, amqp_url, eventually, servers_are_private};
use crate::publisher::workflow::{log_numbered, workflow};

/// A user of the private broker who may write only some routing keys. Gone on drop.
struct RestrictedUser(String);

fn rabbitmqctl(arguments: &[&str]) {
    let output = Services::private().script("rabbitmqctl").args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

impl RestrictedUser {
    fn new(env: &TestEnv, keys: &str) -> RestrictedUser {
        let name = format!("{}-restricted", env.name);
        rabbitmqctl(&["add_user", &name, "p"]);
        rabbitmqctl(&["set_permissions", &name, ".*", ".*", ".*"]);
        rabbitmqctl(&["set_topic_permissions", &name, &env.exchange(), keys, ".*"]);
        RestrictedUser(name)
    }

    fn url(&self) -> String {
        let mut url = url::Url::parse(&amqp_url()).unwrap();
        url.set_username(&self.0).unwrap();
        url.set_password(Some("p")).unwrap();
        url.to_string()
    }
}

impl Drop for RestrictedUser {
    fn drop(&mut self) {
        rabbitmqctl(&["delete_user", &self.0]);
    }
}

/// One of a hundred events has a routing key that the user may not write: with a spool it is in the file, in any case the others
/// arrive, in order.
#[tokio::test(flavor = "multi_thread")]
async fn a_refused_routing_key_blocks_no_other() {
    if !servers_are_private() {
        return eprintln!("this is not the private broker: no user was restricted");
    }
    let env = TestEnv::empty("refusedkey").await;
    env.declare_foreign_queue().await;
    let user = RestrictedUser::new(&env, r"^cns\.cache\.");
    let folder = tempfile::tempdir().unwrap();
    for spool in [false, true] {
        let mut config = env.publisher_config(&user.url());
        if spool {
            config = config.spool(folder.path());
        }
        let publisher = Publisher::start(config).unwrap();
        let workflow = workflow(&publisher);
        for number in 0..1000 {
            if number % 100 == 50 {
                workflow.log_error("not permitted").event_id(format!("refused-{number}"));
            }
            log_numbered(&workflow, number..number + 1);
        }
        let flushed = publisher.flush(TIMEOUT).await;
        assert_eq!((flushed.confirmed, flushed.rejected, flushed.left), (1000, 10, 0));
        assert_eq!(env.drained().await, (0..1000).collect::<Vec<_>>());
        log_numbered(&workflow, 1000..1200);
        assert_eq!(publisher.flush(TIMEOUT).await.confirmed, 1200, "those after it are not held up");
        assert_eq!(env.drained().await, (1000..1200).collect::<Vec<_>>());
        assert!(publisher.outage().is_none());
        let closed = publisher.close(TIMEOUT).await;
        assert_eq!((closed.in_spool, closed.lost.len()), (0, 0));
    }
    let set_aside = std::fs::read_to_string(folder.path().join("refused.jsonl")).unwrap();
    let ids: Vec<_> = set_aside
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["event_id"].clone())
        .collect();
    assert_eq!(ids, (0..10).map(|number| format!("refused-{}", number * 100 + 50)).collect::<Vec<_>>());
    let left = Publisher::start(env.publisher_config(&user.url()).spool(folder.path())).unwrap();
    assert_eq!(left.stats().recovered, 0, "a restart does not send them again");

    // The file is what `publish` reads, once the permission is there.
    let file = std::fs::File::open(folder.path().join("refused.jsonl")).unwrap();
    let published = env.command().arg("publish").stdin(file).output().unwrap();
    assert!(published.status.success(), "{published:?}");
    assert_eq!(env.depth(&env.queue()).await.0, 10);
}

/// A user without the right to write to the exchange is an outage: every event waits, none is set aside.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_right_to_the_exchange_is_an_outage() {
    if !servers_are_private() {
        return eprintln!("this is not the private broker: no user was restricted");
    }
    let env = TestEnv::empty("refusedexchange").await;
    env.declare_foreign_queue().await;
    let user = RestrictedUser::new(&env, ".*");
    rabbitmqctl(&["set_permissions", &user.0, "", "", ""]);
    let publisher = Publisher::start(env.publisher_config(&user.url())).unwrap();
    log_numbered(&workflow(&publisher), 0..50);
    eventually("the reason is known", async || {
        publisher.outage().is_some_and(|reason| reason.contains("access to exchange"))
    })
    .await;
    assert_eq!((publisher.stats().rejected, publisher.stats().left()), (0, 50));
    rabbitmqctl(&["set_permissions", &user.0, ".*", ".*", ".*"]);
    assert_eq!(publisher.flush(TIMEOUT).await.left, 0);
    assert_eq!(env.drained().await, (0..50).collect::<Vec<_>>());
}

/// `publish` reports refused events as failed.
#[tokio::test(flavor = "multi_thread")]
async fn the_command_reports_refused_events() {
    if !servers_are_private() {
        return eprintln!("this is not the private broker: no user was restricted");
    }
    let env = TestEnv::empty("refusedcommand").await;
    env.declare_foreign_queue().await;
    let user = RestrictedUser::new(&env, r"^cns\.error");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), [crate::env::event("a"), crate::env::event("b")].join("\n")).unwrap();
    let mut command = env.command();
    command.arg("publish").stdin(file.reopen().unwrap()).env("CNS_EVENTS__AMQP__URI", user.url());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("the broker refused 2 events") && text.contains("access to topic"), "{text}");
}
