//! Stored once, whatever happens: duplicates, several workers, crashes, restarts.

use std::collections::BTreeSet;

use crate::env::{TestEnv, event, eventually, header};

/// Bodies of `count` events, in an order that has nothing to do with their numbers.
pub(super) fn shuffled(count: usize, step: usize) -> Vec<String> {
    (0..count).map(|number| event(&format!("e{:06}", number * step % count))).collect()
}

/// Three workers share what a plain AMQP client publishes twice, shuffled: each event is one row and one
/// duplicate, and nothing is left in the queue, ready or unacknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn three_workers_store_20_000_events_published_twice_once_each() {
    const EVENTS: usize = 20_000;
    let env = TestEnv::new("twice").await;
    let mut workers = [env.worker().await, env.worker().await, env.worker().await];
    env.publish_all(&shuffled(EVENTS, 7_919)).await;
    env.publish_all(&shuffled(EVENTS, 104_729)).await;

    let duplicates =
        || workers.iter().map(|worker| worker.metric_value("cns_events_duplicates_total")).sum::<f64>();
    eventually("all are counted", async || {
        duplicates() >= EVENTS as f64
            && env.rows().await == EVENTS as i64
            && env.depth(&env.queue()).await.0 == 0
    })
    .await;
    // A lane that changes its prefetch closes a channel: RabbitMQ 3.10 may deliver again what was acked just before.
    let redelivered: f64 =
        workers.iter().map(|worker| worker.metric_value("cns_events_redelivered_total")).sum();
    let again = duplicates() - EVENTS as f64;
    assert!((0.0..=redelivered).contains(&again), "{again} duplicates too many, {redelivered} redelivered");
    let stored = |kind: &str| format!(r#"cns_events_stored_total{{event_type="{kind}"}}"#);
    let total: f64 = workers.iter().map(|worker| worker.metric_value(&stored("cache_hit"))).sum();
    assert_eq!(total, EVENTS as f64);
    assert!(workers.iter().all(|worker| worker.metric_value("cns_events_conflicts_total") == 0.0));
    eventually("nothing is in flight", async || {
        workers.iter().all(|worker| worker.metric_value("cns_events_in_flight") == 0.0)
    })
    .await;
    for worker in &mut workers {
        assert!(worker.terminate().await.success());
    }
    // What was unacknowledged would be ready again now.
    assert_eq!(env.depth(&env.queue()).await, (0, 0));
    assert_eq!(env.depth(&env.dead_letter_queue()).await.0, 0);
}

/// After many events without a duplicate the insert omits `on conflict`: only the database notices when one
/// comes all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_after_20_000_new_events_is_counted() {
    const NEW: usize = 20_000;
    let env = TestEnv::new("rare").await;
    let worker = env.start(|command| {
        command.env("CNS_EVENTS__WORKER__LANES", "1");
    });
    worker.ready().await;
    let rollbacks = "select xact_rollback from pg_stat_database where datname = current_database()";
    env.publish_all(&shuffled(NEW, 7_919)).await;
    eventually("the new ones are stored", async || env.rows().await == NEW as i64).await;
    let before = env.number(rollbacks).await;

    let mut mixed: Vec<String> =
        (NEW - 300..NEW + 300).map(|number| event(&format!("e{number:06}"))).collect();
    mixed.push(event("e000000").replace("cache_hit", "cache_miss"));
    env.publish_all(&mixed).await;
    eventually("all of them are settled", async || {
        env.rows().await == (NEW + 300) as i64 && worker.metric_value("cns_events_in_flight") == 0.0
    })
    .await;
    assert_eq!(worker.metric_value("cns_events_duplicates_total"), 301.0);
    assert_eq!(worker.metric_value("cns_events_conflicts_total"), 1.0);
    assert_eq!(worker.metric_value(r#"cns_events_stored_total{event_type="cache_hit"}"#), (NEW + 300) as f64);
    assert_eq!(worker.metric_value(r#"cns_events_store_retries_total{reason="unknown"}"#), 0.0);
    assert_eq!(env.depth(&env.dead_letter_queue()).await.0, 0);
    eventually("one insert failed", async || env.number(rollbacks).await > before).await;
}

/// With a backlog the merge of the payload index's pending list is put off; the next event that comes alone does it, on the same
/// connection: the settings are the statement's only.
#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_defers_the_merge_of_the_gin_pending_list() {
    const EVENTS: usize = 20_000;
    let env = TestEnv::new("pending").await;
    env.sql.batch_execute("create extension pgstattuple").await.unwrap();
    env.sql.batch_execute("alter table enrichment_events set (autovacuum_enabled = false)").await.unwrap();
    let pending = "select pending_pages::bigint from pgstatginindex('idx_enrichment_events_payload_path')";
    env.declare().await;
    env.publish_all(&shuffled(EVENTS, 7_919)).await;
    let worker = env.start(|command| {
        command.env("CNS_EVENTS__WORKER__LANES", "1");
    });
    // 512 kB are 64 pages.
    eventually("the list is longer than an idle worker leaves it", async || env.number(pending).await > 80)
        .await;
    eventually("all are stored", async || env.rows().await == EVENTS as i64).await;
    let mut alone = 0;
    while env.number(pending).await > 64 {
        alone += 1;
        assert!(alone < 100, "single events do not make it short");
        env.publish_all(&[event(&format!("alone {alone}"))]).await;
        eventually("the one is stored", async || env.rows().await == (EVENTS + alone) as i64).await;
    }
    assert_eq!(worker.metric_value("cns_events_duplicates_total"), 0.0);
}

/// A table that leaves a row out for a reason of its own loses no event: it becomes a dead letter, and its neighbours are stored.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_a_trigger_suppresses_is_dead_lettered() {
    let env = TestEnv::new("leftout").await;
    env.sql.batch_execute("create unique index on enrichment_events (project_id)").await.unwrap();
    let of_project = |id: &str| {
        event(id).replace(r#""source""#, r#""project_id":"6f9619ff-8b86-4d01-b42d-00cf4fc964ff","source""#)
    };
    env.declare().await;
    env.publish_all(&[event("a"), of_project("b"), of_project("c"), event("d"), event("a")]).await;
    let worker = env.worker().await;
    let letter = env.dead_letter().await;
    let body = String::from_utf8(letter.delivery.data.clone()).unwrap();
    assert!(body.contains(r#""b""#) || body.contains(r#""c""#), "{body}");
    assert_eq!(crate::env::header(&letter, "x-cns-reason").as_deref(), Some("database_rejected"));
    eventually("the others are stored", async || env.rows().await == 3).await;
    eventually("nothing is in flight", async || worker.metric_value("cns_events_in_flight") == 0.0).await;
    assert_eq!(worker.metric_value("cns_events_duplicates_total"), 1.0);
}

/// kill -9 in full flight, ten times: what was committed but not acknowledged comes again and is a duplicate.
#[tokio::test(flavor = "multi_thread")]
async fn sigkill_loses_and_repeats_nothing() {
    const EVENTS: usize = 20_000;
    let env = TestEnv::new("kill").await;
    env.declare().await;
    env.publish_all(&shuffled(EVENTS, 7_919)).await;
    for round in 1..=10 {
        let before = env.rows().await;
        let mut worker = env.start(|command| {
            // Small batches, so that there is always one in flight.
            command.env("CNS_EVENTS__WORKER__BATCH_SIZE", "50").env("CNS_EVENTS__WORKER__PREFETCH", "200");
        });
        eventually(&format!("kill {round} finds it at work"), async || env.rows().await > before).await;
        worker.child.kill().unwrap();
        worker.child.wait().unwrap();
    }
    assert!(env.rows().await < EVENTS as i64, "the kills came too late to prove anything");
    let mut last = env.worker().await;
    eventually("all are stored", async || env.rows().await == EVENTS as i64).await;
    eventually("the queue is empty", async || last.metric_value("cns_events_in_flight") == 0.0).await;
    assert!(last.terminate().await.success());
    assert_eq!(env.depth(&env.queue()).await.0, 0);
    let ids = env.sql.query("select event_id from enrichment_events", &[]).await.unwrap();
    let ids: BTreeSet<String> = ids.iter().map(|row| row.get(0)).collect();
    let published: BTreeSet<String> = (0..EVENTS).map(|number| format!("e{number:06}")).collect();
    assert_eq!(ids, published);
    assert_eq!(env.depth(&env.dead_letter_queue()).await.0, 0, "a crash dead-letters nothing");
}

/// SIGTERM under load: what is in hand is stored and acknowledged, the rest is back in the queue at once.
#[tokio::test(flavor = "multi_thread")]
async fn sigterm_settles_the_batch_and_requeues_the_rest() {
    const EVENTS: usize = 20_000;
    let env = TestEnv::new("stop").await;
    env.declare().await;
    env.publish_all(&shuffled(EVENTS, 7_919)).await;
    let mut worker = env.start(|command| {
        command.env("CNS_EVENTS__WORKER__BATCH_SIZE", "100");
    });
    eventually("it is at work", async || env.rows().await > 0).await;
    assert!(worker.terminate().await.success());
    let rows = env.rows().await;
    assert!(rows < EVENTS as i64, "it was done before it was stopped");
    eventually("everything is back", async || {
        i64::from(env.depth(&env.queue()).await.0) + rows == EVENTS as i64
    })
    .await;
    assert!(!worker.log().contains("panicked"), "{}", worker.log());

    // Nothing that was stored is delivered again.
    let mut next = env.worker().await;
    eventually("the rest is stored", async || env.rows().await == EVENTS as i64).await;
    assert_eq!(next.metric_value("cns_events_duplicates_total"), 0.0);
    assert!(next.terminate().await.success());
}

/// The second signal does not wait.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_the_worker_at_once() {
    let env = TestEnv::new("second").await;
    let mut worker = env.worker().await;
    worker.signal("-INT");
    worker.signal("-INT");
    let status = worker.ended().await;
    assert!(status.success() || status.code() == Some(130), "{status}");
}

/// The same event_id with other data: the stored event stays, and both digests are told.
#[tokio::test(flavor = "multi_thread")]
async fn conflicts_are_counted_and_logged() {
    let env = TestEnv::new("conflict").await;
    let worker = env.worker().await;
    env.publish(event("same").as_bytes()).await;
    eventually("it is stored", async || env.rows().await == 1).await;
    // Another order of keys and another routing key are no other data; another value is.
    env.publish_with(event("same").as_bytes(), "cns.other", Default::default()).await;
    env.publish(
        event("same")
            .replace(r#""cache":"parts","key":"same""#, r#""key":"same", "cache":"parts""#)
            .as_bytes(),
    )
    .await;
    eventually("both are duplicates", async || worker.metric_value("cns_events_duplicates_total") == 2.0)
        .await;
    assert_eq!(worker.metric_value("cns_events_conflicts_total"), 0.0);
    env.publish(event("same").replace("parts", "s3cret").as_bytes()).await;
    eventually("it is a conflict", async || worker.metric_value("cns_events_conflicts_total") == 1.0).await;
    assert_eq!(env.rows().await, 1);
    let log = worker.log();
    let line = log.lines().find(|line| line.contains("conflict: this event_id")).unwrap();
    assert!(
        line.contains(r#""event_id":"same""#) && line.contains("stored") && line.contains("received"),
        "{line}"
    );
    assert!(!log.contains("s3cret"), "a body has no place in a log");
}

/// An event of another tenant under a known `event_id` is not acknowledged as if it were stored, also within one batch.
#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_with_another_tenant_is_dead_lettered() {
    let env = TestEnv::new("othertenant").await;
    env.declare().await;
    let of = |organization: &str| event("same").replace("org-1", organization);
    env.publish_all(&[event("same"), of("org-2"), event("same"), of("org-3"), of("org-2")]).await;
    let worker = env.worker().await;
    for _ in 0..3 {
        let letter = env.dead_letter().await;
        assert_eq!(header(&letter, "x-cns-reason").as_deref(), Some("conflict"));
        let text = format!("{:?}", letter.properties.headers());
        assert!(!text.contains("org-1"), "{text}");
    }
    eventually("all is settled", async || worker.metric_value("cns_events_in_flight") == 0.0).await;
    assert_eq!((env.rows().await, env.depth(&env.dead_letter_queue()).await.0), (1, 0));
    assert_eq!(worker.metric_value("cns_events_conflicts_total"), 3.0);
}

/// Within a tenant `worker.conflicts` decides.
#[tokio::test(flavor = "multi_thread")]
async fn conflicts_within_a_tenant_are_dead_lettered_where_configured() {
    let env = TestEnv::new("conflictletter").await;
    let worker = env.start(|command| {
        command.env("CNS_EVENTS__WORKER__CONFLICTS", "dead_letter");
    });
    worker.ready().await;
    env.publish(event("same").as_bytes()).await;
    env.publish(event("same").as_bytes()).await;
    eventually("a duplicate is none", async || worker.metric_value("cns_events_duplicates_total") == 1.0)
        .await;
    env.publish(event("same").replace("parts", "other").as_bytes()).await;
    assert_eq!(header(&env.dead_letter().await, "x-cns-reason").as_deref(), Some("conflict"));
    assert_eq!(env.rows().await, 1);
}

/// A classic queue with priorities is another set of arguments, and the same worker.
#[tokio::test(flavor = "multi_thread")]
async fn a_classic_queue_with_priorities_is_consumed() {
    let env = TestEnv::new("classic").await;
    let mut worker = env.start(|command| {
        command.env("CNS_EVENTS__AMQP__QUEUE_TYPE", "classic");
    });
    worker.ready().await;
    assert!(worker.log().contains("10 strict levels"), "{}", worker.log());
    env.publish_all(&shuffled(2000, 7)).await;
    env.publish(b"not json").await;
    eventually("all are stored", async || env.rows().await == 2000).await;
    env.dead_letter().await;
    assert!(worker.terminate().await.success());
    assert_eq!(env.depth(&env.queue()).await.0, 0);
}
