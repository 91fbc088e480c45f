//! Either server away: at the start, in full flight, and for longer than a batch is held.

use crate::env::relay::Relay;
use crate::env::{TestEnv, amqp_url, event, eventually};

/// The database comes up after the worker: it waits, says so, takes nothing from the queue, and goes on.
#[tokio::test(flavor = "multi_thread")]
async fn the_worker_waits_for_a_database_that_starts_later() {
    let env = TestEnv::new("latedb").await;
    env.declare().await;
    env.publish(event("a").as_bytes()).await;
    let relay = Relay::before(&env.database_url).await;
    let worker = env.start(|command| {
        command.env("CNS_EVENTS__DATABASE__URL", relay.url(&env.database_url));
    });
    eventually("it says what it waits for", async || {
        worker.get("/readyz").is_some_and(|(status, body)| {
            let reasons = body.contains(r#""reasons":{"database":"cannot connect to 127.0.0.1:"#);
            status == 503 && reasons && body.contains(r#""broker":{"state":"reached""#)
        })
    })
    .await;
    assert_eq!(worker.get("/livez").unwrap().0, 200, "waiting is living");
    assert_eq!(worker.metric_value(r#"cns_events_up{peer="database"}"#), 0.0);
    assert_eq!(env.depth(&env.queue()).await, (1, 0), "nothing is consumed that could not be stored");
    relay.open().await;
    worker.ready().await;
    eventually("it is stored", async || env.rows().await == 1).await;
}

/// The broker comes up after the worker.
#[tokio::test(flavor = "multi_thread")]
async fn the_worker_waits_for_a_broker_that_starts_later() {
    let env = TestEnv::new("latemq").await;
    let relay = Relay::before(&amqp_url()).await;
    let worker = env.start(|command| {
        command.env("CNS_EVENTS__AMQP__URI", relay.url(&amqp_url()));
    });
    eventually("it says what it waits for", async || {
        worker
            .get("/readyz")
            .is_some_and(|(status, body)| status == 503 && body.contains(r#""broker":"cannot connect to"#))
    })
    .await;
    relay.open().await;
    worker.ready().await;
    env.publish(event("a").as_bytes()).await;
    eventually("it is stored", async || env.rows().await == 1).await;
}

/// The table is not there yet: the operator's fault, so that nothing is dead-lettered for it.
#[tokio::test(flavor = "multi_thread")]
async fn the_worker_waits_for_migrations() {
    let env = TestEnv::empty("latemig").await;
    let worker = env.start(|_| {});
    eventually("it says what is missing", async || {
        worker.get("/readyz").is_some_and(|(status, body)| status == 503 && body.contains("42P01"))
    })
    .await;
    assert!(env.command().arg("migrate").output().unwrap().status.success());
    worker.ready().await;
    env.publish(event("a").as_bytes()).await;
    eventually("it is stored", async || env.rows().await == 1).await;
}

/// The database goes in full flight: batches are held, then given back; nothing is dead-lettered, nothing is
/// requeued in a loop, and the backlog is worked off when it is back.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_outage_loses_and_repeats_nothing() {
    const EVENTS: usize = 20_000;
    let env = TestEnv::new("dbcut").await;
    env.declare().await;
    let relay = Relay::before(&env.database_url).await;
    relay.open().await;
    let worker = env.start(|command| {
        command
            .env("CNS_EVENTS__DATABASE__URL", relay.url(&env.database_url))
            .env("CNS_EVENTS__WORKER__BATCH_SIZE", "100")
            .env("CNS_EVENTS__WORKER__HOLD_SECONDS", "2")
            .env("CNS_EVENTS__DATABASE__STATEMENT_TIMEOUT_MS", "2000");
    });
    worker.ready().await;
    let bodies: Vec<String> = (0..EVENTS).map(|number| event(&format!("e{number}"))).collect();
    let (first, second) = bodies.split_at(EVENTS / 2);
    env.publish_all(first).await;
    eventually("it is at work", async || env.rows().await > 0).await;
    relay.cut();
    env.publish_all(second).await;
    eventually("it holds", async || {
        worker.metric_value(r#"cns_events_store_retries_total{reason="connection"}"#) > 0.0
    })
    .await;
    // Past hold_seconds everything is requeued, and no worker consumes.
    eventually("it lets go", async || env.depth(&env.queue()).await.1 == 0).await;
    let ready = i64::from(env.depth(&env.queue()).await.0);
    // Each of the two lanes may have committed one batch whose answer the cut took away.
    let total = ready + env.rows().await;
    assert!(
        (EVENTS as i64..=EVENTS as i64 + 200).contains(&total),
        "what is not stored is in the queue: {total}"
    );
    assert_eq!(worker.get("/readyz").unwrap().0, 503);
    assert_eq!(worker.metric_value("cns_events_in_flight"), 0.0);

    relay.open().await;
    eventually("the backlog is worked off", async || env.rows().await == EVENTS as i64).await;
    eventually("the queue is empty", async || env.depth(&env.queue()).await.0 == 0).await;
    assert_eq!(env.depth(&env.dead_letter_queue()).await.0, 0);
    let redelivered = worker.metric_value("cns_events_redelivered_total");
    assert!(
        redelivered <= 6_000.0,
        "each lane's prefetch comes again once or twice, not in a loop: {redelivered}"
    );
}

/// The broker's connection is cut in full flight: a new session, and what was committed but not acknowledged is
/// a duplicate.
#[tokio::test(flavor = "multi_thread")]
async fn a_cut_broker_connection_loses_and_repeats_nothing() {
    const EVENTS: usize = 20_000;
    let env = TestEnv::new("mqcut").await;
    env.declare().await;
    let bodies: Vec<String> = (0..EVENTS).map(|number| event(&format!("e{number}"))).collect();
    env.publish_all(&bodies).await;
    let relay = Relay::before(&amqp_url()).await;
    relay.open().await;
    let mut worker = env.start(|command| {
        command
            .env("CNS_EVENTS__AMQP__URI", relay.url(&amqp_url()))
            .env("CNS_EVENTS__WORKER__BATCH_SIZE", "50");
    });
    for _ in 0..3 {
        let before = env.rows().await;
        eventually("it is at work", async || env.rows().await > before).await;
        relay.cut();
        eventually("it notices", async || worker.metric_value(r#"cns_events_up{peer="broker"}"#) == 0.0)
            .await;
        relay.open().await;
        worker.ready().await;
    }
    eventually("all are stored", async || env.rows().await == EVENTS as i64).await;
    eventually("nothing is in flight", async || worker.metric_value("cns_events_in_flight") == 0.0).await;
    assert!(worker.metric_value(r#"cns_events_reconnects_total{peer="broker"}"#) >= 3.0);
    assert!(!worker.log().contains("panicked"), "{}", worker.log());
    assert!(worker.terminate().await.success());
    assert_eq!(env.depth(&env.queue()).await.0, 0);
    assert_eq!(env.depth(&env.dead_letter_queue()).await.0, 0);
}

/// SIGTERM while the database is away ends in time, and everything is in the queue.
#[tokio::test(flavor = "multi_thread")]
async fn sigterm_during_a_database_outage_requeues_and_exits_0() {
    let env = TestEnv::new("stopout").await;
    env.declare().await;
    let relay = Relay::before(&env.database_url).await;
    relay.open().await;
    let mut worker = env.start(|command| {
        command.env("CNS_EVENTS__DATABASE__URL", relay.url(&env.database_url));
    });
    worker.ready().await;
    relay.cut();
    env.publish(event("a").as_bytes()).await;
    eventually("it holds", async || worker.metric_value("cns_events_in_flight") == 1.0).await;
    assert!(worker.terminate().await.success());
    eventually("it is back", async || env.depth(&env.queue()).await.0 == 1).await;
    assert_eq!(env.rows().await, 0);
}

/// A privilege goes while the worker runs: the operator's fault, so that nothing is dead-lettered, and when the
/// hold is over nothing is consumed until a whole batch could be stored again.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_privilege_is_held() {
    let env = TestEnv::new("revoke").await;
    let (login, url) = env.login("in role service_role").await;
    let worker = env.start(|command| {
        command
            .env("CNS_EVENTS__DATABASE__URL", &url)
            .env("CNS_EVENTS__WORKER__HOLD_SECONDS", "1")
            .env("CNS_EVENTS__DATABASE__STATEMENT_TIMEOUT_MS", "1000");
    });
    worker.ready().await;
    for privilege in
        ["insert on enrichment_events", "execute on function enrichment_events_lookup(text[], uuid[])"]
    {
        let before = env.rows().await;
        env.sql.batch_execute(&format!("revoke {privilege} from service_role")).await.unwrap();
        // One new, one duplicate: only then is the function asked.
        env.publish_all(&[event("same"), event("same"), event(&format!("n{before}"))]).await;
        eventually("it says so", async || {
            worker.get("/readyz").is_some_and(|(_, body)| body.contains("42501"))
        })
        .await;
        eventually("it lets go", async || env.depth(&env.queue()).await.1 == 0).await;
        env.sql.batch_execute(&format!("grant {privilege} to service_role")).await.unwrap();
        eventually("all is settled", async || {
            env.depth(&env.queue()).await == (0, 2) && worker.metric_value("cns_events_in_flight") == 0.0
        })
        .await;
    }
    assert_eq!(env.rows().await, 3);
    assert_eq!(env.depth(&env.dead_letter_queue()).await.0, 0);
    drop(worker);
    env.drop_login(&login).await;
}

/// Missing objects of dead letters are declared again, while the lane goes on: no delivery is spent on it.
#[tokio::test(flavor = "multi_thread")]
async fn missing_dead_letter_queues_are_declared_again() {
    let env = TestEnv::new("redeclare").await;
    let worker = env.start(|command| {
        command
            .env("CNS_EVENTS__WORKER__HOLD_SECONDS", "1")
            .env("CNS_EVENTS__DATABASE__STATEMENT_TIMEOUT_MS", "1000");
    });
    worker.ready().await;
    env.channel.queue_delete(env.dead_letter_queue().into(), Default::default()).await.unwrap();
    env.publish(b"not json").await;
    env.publish(event("good").as_bytes()).await;
    let dead_lettered = r#"cns_events_dead_lettered_total{reason="malformed_json"}"#;
    eventually("the letter is taken", async || worker.metric_value(dead_lettered) == 1.0).await;
    env.dead_letter().await;
    eventually("all is settled", async || {
        env.rows().await == 1
            && env.depth(&env.queue()).await.0 == 0
            && worker.metric_value("cns_events_in_flight") == 0.0
    })
    .await;
    worker.ready().await;
    assert_eq!(worker.metric_value("cns_events_redelivered_total"), 0.0);
}

/// Dead letters that no queue takes are held, and the message is not acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_whose_dead_letter_is_returned_is_held() {
    let env = TestEnv::new("nodead").await;
    let worker = env.worker().await;
    env.channel.queue_delete(env.dead_letter_queue().into(), Default::default()).await.unwrap();
    env.publish(b"not json").await;
    eventually("it says so", async || worker.metric_value("cns_events_dead_letters_blocked") == 1.0).await;
    assert!(worker.log().contains("no queue takes dead letters"));
    assert_eq!(worker.get("/readyz").unwrap().0, 200, "it reaches both servers, and stores what it can");
    assert_eq!(worker.metric_value("cns_events_in_flight"), 1.0);
    drop(worker);
    let worker = env.worker().await; // declares it anew
    env.dead_letter().await;
    eventually("it is settled", async || worker.metric_value("cns_events_in_flight") == 0.0).await;
}

/// SQLSTATEs about the server itself (read-only, out of connections): the batch is held and reported until the state ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_store_is_held() {
    let env = TestEnv::new("cannot").await;
    let (login, url) = env.login("in role service_role").await;
    let worker = env.start(|command| {
        command
            .env("CNS_EVENTS__DATABASE__URL", &url)
            .env("CNS_EVENTS__WORKER__HOLD_SECONDS", "1")
            .env("CNS_EVENTS__DATABASE__STATEMENT_TIMEOUT_MS", "1000");
    });
    worker.ready().await;
    let end_sessions =
        format!("select pg_terminate_backend(pid) from pg_stat_activity where usename = '{login}'");
    for (number, (breaks, mends, sqlstate)) in [
        ("set default_transaction_read_only = on", "reset default_transaction_read_only", "25006"),
        ("connection limit 0", "connection limit -1", "53300"),
    ]
    .into_iter()
    .enumerate()
    {
        env.sql.batch_execute(&format!("alter role {login} {breaks}; {end_sessions}")).await.unwrap();
        env.publish(event(&format!("e{number}")).as_bytes()).await;
        eventually("it says so", async || {
            worker.get("/readyz").is_some_and(|(_, body)| body.contains(sqlstate))
        })
        .await;
        eventually("it lets go", async || env.depth(&env.queue()).await == (1, 0)).await;
        // No session is ended: those there are have what they took over at their login.
        env.sql.batch_execute(&format!("alter role {login} {mends}")).await.unwrap();
        eventually("it is stored", async || env.rows().await == number as i64 + 1).await;
        eventually("all consume again", async || env.depth(&env.queue()).await == (0, 2)).await;
    }
    assert_eq!(env.depth(&env.dead_letter_queue()).await.0, 0);
    drop(worker);
    env.drop_login(&login).await;
}

/// A real deadlock with another writer, in which the worker is the victim: tried again, nothing is dead-lettered.
#[tokio::test(flavor = "multi_thread")]
async fn deadlocks_are_retried() {
    let env = TestEnv::new("deadlock").await;
    // After the first event the lane waits until a batch is full: the three that matter come together.
    let worker = env.start(|command| {
        command
            .env("CNS_EVENTS__WORKER__LANES", "1")
            .env("CNS_EVENTS__WORKER__BATCH_SIZE", "3")
            .env("CNS_EVENTS__WORKER__LINGER_MS", "10000");
    });
    worker.ready().await;
    env.publish(event("first").as_bytes()).await;
    eventually("it is stored", async || env.rows().await == 1).await;
    let insert = |id: &str| {
        format!(
            "insert into enrichment_events (event_id, event_type, bom_id, tenant_id, source) \
             values ('{id}', 'x', gen_random_uuid(), gen_random_uuid(), 'customer')"
        )
    };
    let other = crate::env::connect(&env.database_url).await;
    // Of two that wait for each other, the one that looks first gives way: this one looks late.
    other.batch_execute(&format!("set deadlock_timeout = '1min'; begin; {}", insert("b"))).await.unwrap();
    env.publish_all(&[event("a"), event("b"), event("c")]).await;
    let waiting = "select count(*) from pg_stat_activity where datname = current_database() \
                   and application_name = 'cns-events' and wait_event_type = 'Lock'";
    eventually("the worker waits for b", async || env.number(waiting).await >= 1).await;
    other.batch_execute(&insert("a")).await.unwrap();
    eventually("it is tried again", async || {
        worker.metric_value(r#"cns_events_store_retries_total{reason="deadlock"}"#) >= 1.0
    })
    .await;
    other.batch_execute("rollback").await.unwrap();
    eventually("all are stored", async || env.rows().await == 4).await;
    assert_eq!(env.depth(&env.dead_letter_queue()).await.0, 0);
}

/// The channel goes while a batch is being committed: its acks are counted as lost, and its events come again as
/// duplicates, not as conflicts.
#[tokio::test(flavor = "multi_thread")]
async fn acks_on_a_dead_channel_are_counted_as_lost() {
    let env = TestEnv::new("acklost").await;
    let relay = Relay::before(&amqp_url()).await;
    relay.open().await;
    let worker = env.start(|command| {
        command.env("CNS_EVENTS__AMQP__URI", relay.url(&amqp_url()));
    });
    worker.ready().await;
    let other = crate::env::connect(&env.database_url).await;
    other.batch_execute("begin; lock table enrichment_events in share mode").await.unwrap();
    env.publish_all(&[event("a"), event("b")]).await;
    let waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    eventually("the batch is being committed", async || env.number(waiting).await >= 1).await;
    relay.cut();
    eventually("it notices", async || worker.metric_value(r#"cns_events_up{peer="broker"}"#) == 0.0).await;
    other.batch_execute("rollback").await.unwrap();
    eventually("it is stored", async || env.rows().await >= 1).await;
    eventually("the acks are lost", async || worker.metric_value("cns_events_acks_lost_total") >= 1.0).await;
    relay.open().await;
    eventually("they come again", async || {
        worker.metric_value("cns_events_duplicates_total") >= 1.0 && env.depth(&env.queue()).await.0 == 0
    })
    .await;
    eventually("all is settled", async || worker.metric_value("cns_events_in_flight") == 0.0).await;
    assert_eq!(env.rows().await, 2);
    assert_eq!(worker.metric_value("cns_events_conflicts_total"), 0.0);
}

/// Somebody deletes the queue: the broker ends the consumer, which is a fault and not an end. The queue is declared anew.
#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_queue_is_declared_again() {
    let env = TestEnv::new("deleted").await;
    let worker = env.worker().await;
    env.channel.queue_delete(env.queue().into(), Default::default()).await.unwrap();
    eventually("it consumes again", async || {
        crate::env::depth_of(&env.queue()).await.is_some() && env.depth(&env.queue()).await == (0, 2)
    })
    .await;
    worker.ready().await;
    // Which words it has for it depends on what the lane was asking when the queue went.
    assert!(worker.log().contains("connected to RabbitMQ again"), "{}", worker.log());
    env.publish(event("a").as_bytes()).await;
    eventually("it is stored", async || env.rows().await == 1).await;
}
