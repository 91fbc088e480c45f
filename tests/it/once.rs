//! Stored once, whatever happens: duplicates, several workers, crashes, restarts.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::stand::{Stand, event, until};

/// Bodies of `count` events, in an order that has nothing to do with their numbers.
fn shuffled(count: usize, step: usize) -> Vec<String> {
    (0..count).map(|number| event(&format!("e{:06}", number * step % count))).collect()
}

/// Three workers share what a plain AMQP client publishes twice, shuffled: each event is one row and one
/// duplicate, and nothing is left in the queue, ready or unacknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn three_workers_store_20_000_events_published_twice() {
    const EVENTS: usize = 20_000;
    let stand = Stand::new("twice").await;
    let mut workers = [stand.worker().await, stand.worker().await, stand.worker().await];
    stand.publish_all(&shuffled(EVENTS, 7_919)).await;
    stand.publish_all(&shuffled(EVENTS, 104_729)).await;

    let duplicates =
        || workers.iter().map(|worker| worker.metric("cns_events_duplicates_total")).sum::<f64>();
    until("all are counted", async || {
        duplicates() >= EVENTS as f64
            && stand.rows().await == EVENTS as i64
            && stand.depth(&stand.queue()).await.0 == 0
    })
    .await;
    // A lane that changes its prefetch closes a channel: RabbitMQ 3.10 may deliver again what was acked just before.
    let redelivered: f64 = workers.iter().map(|worker| worker.metric("cns_events_redelivered_total")).sum();
    let again = duplicates() - EVENTS as f64;
    assert!((0.0..=redelivered).contains(&again), "{again} duplicates too many, {redelivered} redelivered");
    let stored = |kind: &str| format!(r#"cns_events_stored_total{{event_type="{kind}"}}"#);
    let total: f64 = workers.iter().map(|worker| worker.metric(&stored("cache_hit"))).sum();
    assert_eq!(total, EVENTS as f64);
    assert!(workers.iter().all(|worker| worker.metric("cns_events_conflicts_total") == 0.0));
    until("nothing is in flight", async || {
        workers.iter().all(|worker| worker.metric("cns_events_in_flight") == 0.0)
    })
    .await;
    for worker in &mut workers {
        assert!(worker.terminate().await.success());
    }
    // What was unacknowledged would be ready again now.
    assert_eq!(stand.depth(&stand.queue()).await, (0, 0));
    assert_eq!(stand.depth(&stand.dead()).await.0, 0);
}

/// After many events without a duplicate an insert is one that a duplicate fails: nobody but the database notices when one
/// comes all the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_after_20_000_events_without_one() {
    const NEW: usize = 20_000;
    let stand = Stand::new("rare").await;
    let worker = stand.start(|command| {
        command.env("CNS_EVENTS__WORKER__LANES", "1");
    });
    worker.ready().await;
    let rollbacks = "select xact_rollback from pg_stat_database where datname = current_database()";
    stand.publish_all(&shuffled(NEW, 7_919)).await;
    until("the new ones are stored", async || stand.rows().await == NEW as i64).await;
    let before = stand.number(rollbacks).await;

    let mut mixed: Vec<String> =
        (NEW - 300..NEW + 300).map(|number| event(&format!("e{number:06}"))).collect();
    mixed.push(event("e000000").replace("cache_hit", "cache_miss"));
    stand.publish_all(&mixed).await;
    until("all of them are settled", async || {
        stand.rows().await == (NEW + 300) as i64 && worker.metric("cns_events_in_flight") == 0.0
    })
    .await;
    assert_eq!(worker.metric("cns_events_duplicates_total"), 301.0);
    assert_eq!(worker.metric("cns_events_conflicts_total"), 1.0);
    assert_eq!(worker.metric(r#"cns_events_stored_total{event_type="cache_hit"}"#), (NEW + 300) as f64);
    assert_eq!(worker.metric(r#"cns_events_store_retries_total{reason="unknown"}"#), 0.0);
    assert_eq!(stand.depth(&stand.dead()).await.0, 0);
    until("one insert failed", async || stand.number(rollbacks).await > before).await;
}

/// With a backlog the merge of the payload index's pending list is put off; the next event that comes alone does it, on the same
/// connection: the settings are the statement's only.
#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_puts_off_the_merge_of_the_payloads_index() {
    const EVENTS: usize = 20_000;
    let stand = Stand::new("pending").await;
    stand.sql.batch_execute("create extension pgstattuple").await.unwrap();
    stand.sql.batch_execute("alter table enrichment_events set (autovacuum_enabled = false)").await.unwrap();
    let pending = "select pending_pages::bigint from pgstatginindex('idx_enrichment_events_payload_path')";
    stand.declare().await;
    stand.publish_all(&shuffled(EVENTS, 7_919)).await;
    let worker = stand.start(|command| {
        command.env("CNS_EVENTS__WORKER__LANES", "1");
    });
    // 512 kB are 64 pages.
    until("the list is longer than an idle worker leaves it", async || stand.number(pending).await > 80)
        .await;
    until("all are stored", async || stand.rows().await == EVENTS as i64).await;
    let mut alone = 0;
    while stand.number(pending).await > 64 {
        alone += 1;
        assert!(alone < 100, "single events do not make it short");
        stand.publish_all(&[event(&format!("alone {alone}"))]).await;
        until("the one is stored", async || stand.rows().await == (EVENTS + alone) as i64).await;
    }
    assert_eq!(worker.metric("cns_events_duplicates_total"), 0.0);
}

/// A table that leaves a row out for a reason of its own loses no event: it becomes a dead letter, and its neighbours are stored.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_the_table_leaves_out_is_dead_lettered() {
    let stand = Stand::new("leftout").await;
    stand.sql.batch_execute("create unique index on enrichment_events (project_id)").await.unwrap();
    let of_project = |id: &str| {
        event(id).replace(r#""source""#, r#""project_id":"6f9619ff-8b86-4d01-b42d-00cf4fc964ff","source""#)
    };
    stand.declare().await;
    stand.publish_all(&[event("a"), of_project("b"), of_project("c"), event("d"), event("a")]).await;
    let worker = stand.worker().await;
    let letter = stand.dead_letter().await;
    let body = String::from_utf8(letter.delivery.data.clone()).unwrap();
    assert!(body.contains(r#""b""#) || body.contains(r#""c""#), "{body}");
    assert_eq!(crate::stand::header(&letter, "x-cns-reason").as_deref(), Some("database_rejected"));
    until("the others are stored", async || stand.rows().await == 3).await;
    until("nothing is in flight", async || worker.metric("cns_events_in_flight") == 0.0).await;
    assert_eq!(worker.metric("cns_events_duplicates_total"), 1.0);
}

/// kill -9 in full flight, ten times: what was committed but not acknowledged comes again and is a duplicate.
#[tokio::test(flavor = "multi_thread")]
async fn kill_nine_ten_times_loses_nothing() {
    const EVENTS: usize = 20_000;
    let stand = Stand::new("kill").await;
    stand.declare().await;
    stand.publish_all(&shuffled(EVENTS, 7_919)).await;
    for round in 1..=10 {
        let before = stand.rows().await;
        let mut worker = stand.start(|command| {
            // Small batches, so that there is always one in flight.
            command.env("CNS_EVENTS__WORKER__BATCH_SIZE", "50").env("CNS_EVENTS__WORKER__PREFETCH", "200");
        });
        until(&format!("kill {round} finds it at work"), async || stand.rows().await > before).await;
        worker.child.kill().unwrap();
        worker.child.wait().unwrap();
    }
    assert!(stand.rows().await < EVENTS as i64, "the kills came too late to prove anything");
    let mut last = stand.worker().await;
    until("all are stored", async || stand.rows().await == EVENTS as i64).await;
    until("the queue is empty", async || last.metric("cns_events_in_flight") == 0.0).await;
    assert!(last.terminate().await.success());
    assert_eq!(stand.depth(&stand.queue()).await.0, 0);
    let ids = stand.sql.query("select event_id from enrichment_events", &[]).await.unwrap();
    let ids: BTreeSet<String> = ids.iter().map(|row| row.get(0)).collect();
    let published: BTreeSet<String> = (0..EVENTS).map(|number| format!("e{number:06}")).collect();
    assert_eq!(ids, published);
    assert_eq!(stand.depth(&stand.dead()).await.0, 0, "a crash is nobody's data's fault");
}

/// SIGTERM under load: what is in hand is stored and acknowledged, the rest is back in the queue at once.
#[tokio::test(flavor = "multi_thread")]
async fn a_stop_is_graceful() {
    const EVENTS: usize = 20_000;
    let stand = Stand::new("stop").await;
    stand.declare().await;
    stand.publish_all(&shuffled(EVENTS, 7_919)).await;
    let mut worker = stand.start(|command| {
        command.env("CNS_EVENTS__WORKER__BATCH_SIZE", "100");
    });
    until("it is at work", async || stand.rows().await > 0).await;
    assert!(worker.terminate().await.success());
    let rows = stand.rows().await;
    assert!(rows < EVENTS as i64, "it was done before it was stopped");
    until("everything is back", async || {
        i64::from(stand.depth(&stand.queue()).await.0) + rows == EVENTS as i64
    })
    .await;
    assert!(!worker.log().contains("panicked"), "{}", worker.log());

    // Nothing that was stored is delivered again.
    let mut next = stand.worker().await;
    until("the rest is stored", async || stand.rows().await == EVENTS as i64).await;
    assert_eq!(next.metric("cns_events_duplicates_total"), 0.0);
    assert!(next.terminate().await.success());
}

/// The second signal does not wait.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_it_at_once() {
    let stand = Stand::new("second").await;
    let mut worker = stand.worker().await;
    worker.signal("-INT");
    worker.signal("-INT");
    let status = worker.ended().await;
    assert!(status.success() || status.code() == Some(130), "{status}");
}

/// The same event_id with other data: the stored event stays, and both digests are told.
#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_is_counted_and_told() {
    let stand = Stand::new("conflict").await;
    let worker = stand.worker().await;
    stand.publish(event("same").as_bytes()).await;
    until("it is stored", async || stand.rows().await == 1).await;
    // Another order of keys and another routing key are no other data; another value is.
    stand.publish_with(event("same").as_bytes(), "cns.other", Default::default()).await;
    stand
        .publish(
            event("same")
                .replace(r#""cache":"parts","key":"same""#, r#""key":"same", "cache":"parts""#)
                .as_bytes(),
        )
        .await;
    until("both are duplicates", async || worker.metric("cns_events_duplicates_total") == 2.0).await;
    assert_eq!(worker.metric("cns_events_conflicts_total"), 0.0);
    stand.publish(event("same").replace("parts", "s3cret").as_bytes()).await;
    until("it is a conflict", async || worker.metric("cns_events_conflicts_total") == 1.0).await;
    assert_eq!(stand.rows().await, 1);
    let log = worker.log();
    let line = log.lines().find(|line| line.contains("conflict: this event_id")).unwrap();
    assert!(
        line.contains(r#""event_id":"same""#) && line.contains("stored") && line.contains("received"),
        "{line}"
    );
    assert!(!log.contains("s3cret"), "a body has no place in a log");
}

/// The worker's login needs to be a member of service_role and nothing else, and can read nothing.
#[tokio::test(flavor = "multi_thread")]
async fn the_workers_login_needs_the_insert_and_the_lookup_only() {
    let stand = Stand::new("least").await;
    let (login, url) = stand.login("in role service_role").await;
    let worker = stand.start(|command| {
        command.env("CNS_EVENTS__DATABASE__URL", &url);
    });
    worker.ready().await;
    stand.publish_all(&[event("a"), event("b"), event("a"), event("b").replace("org-1", "org-2")]).await;
    until("all are counted", async || worker.metric("cns_events_duplicates_total") == 2.0).await;
    assert_eq!(worker.metric("cns_events_conflicts_total"), 1.0);
    assert_eq!(stand.rows().await, 2);
    let own = crate::stand::connect(&url).await;
    for forbidden in [
        "select * from enrichment_events",
        "delete from enrichment_events",
        "update enrichment_events set payload = '{}'",
    ] {
        let error = own.batch_execute(forbidden).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "42501", "{forbidden}");
    }
    drop(worker);
    drop(own);
    stand.drop_login(&login).await;
}

/// Tenants are kept apart by the database: with claims, with none, and with empty ones.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_sees_its_own_rows_only() {
    let stand = Stand::new("tenants").await;
    let worker = stand.worker().await;
    let (a, b) = ("6f9619ff-8b86-4d01-b42d-00cf4fc964aa", "6f9619ff-8b86-4d01-b42d-00cf4fc964bb");
    stand.publish_all(&[event("a").replace("org-1", a), event("b").replace("org-1", b)]).await;
    until("both are stored", async || stand.rows().await == 2).await;
    drop(worker);
    let ids = async |claims: &str| {
        let begin = format!("begin; set local role authenticated; set local request.jwt.claims = '{claims}'");
        stand.sql.batch_execute(&begin).await.unwrap();
        let rows = stand.sql.query("select event_id from enrichment_events", &[]).await.unwrap();
        stand.sql.batch_execute("rollback").await.unwrap();
        rows.iter().map(|row| row.get(0)).collect::<Vec<String>>()
    };
    assert_eq!(ids(&format!(r#"{{"tenant_id":"{a}"}}"#)).await, ["a"]);
    assert_eq!(ids(&format!(r#"{{"app_metadata":{{"tenant_id":"{b}"}}}}"#)).await, ["b"]);
    for nobody in [
        "",
        "{}",
        r#"{"tenant_id":""}"#,
        r#"{"tenant_id":"*"}"#,
        r#"{"user_metadata":{"tenant_id":"6f9619ff-8b86-4d01-b42d-00cf4fc964aa"}}"#,
    ] {
        assert_eq!(ids(nobody).await, Vec::<String>::new(), "{nobody}");
    }
}

/// A classic queue with priorities is another set of arguments, and the same worker.
#[tokio::test(flavor = "multi_thread")]
async fn a_classic_queue_serves_too() {
    let stand = Stand::new("classic").await;
    let mut worker = stand.start(|command| {
        command.env("CNS_EVENTS__AMQP__QUEUE_TYPE", "classic");
    });
    worker.ready().await;
    assert!(worker.log().contains("10 strict levels"), "{}", worker.log());
    stand.publish_all(&shuffled(2000, 7)).await;
    stand.publish(b"not json").await;
    until("all are stored", async || stand.rows().await == 2000).await;
    stand.dead_letter().await;
    assert!(worker.terminate().await.success());
    assert_eq!(stand.depth(&stand.queue()).await.0, 0);
}

/// Memory is bounded by bytes: a lane that may hold 4 MiB consumes 400 messages of 256 KiB a few at a time.
#[tokio::test(flavor = "multi_thread")]
async fn large_messages_are_taken_a_few_at_a_time() {
    let stand = Stand::new("large").await;
    stand.declare().await;
    let filler = "x".repeat(256 * 1024);
    let bodies: Vec<String> =
        (0..400).map(|number| event(&format!("l{number}")).replace("parts", &filler)).collect();
    // Small ones first let the prefetch grow; the large ones then shrink it.
    stand.publish_all(&shuffled(2000, 7)).await;
    stand.publish_all(&bodies).await;
    stand.publish_all(&(0..2000).map(|number| event(&format!("z{number}"))).collect::<Vec<_>>()).await;
    let mut worker = stand.start(|command| {
        command.env("CNS_EVENTS__WORKER__BUFFER_BYTES", "4194304").env("CNS_EVENTS__LOG__LEVEL", "debug");
    });
    worker.ready().await;
    until("all are stored", async || stand.rows().await == 4400).await;
    assert!(worker.log().contains("prefetch changes"), "{}", worker.log());
    assert!(worker.terminate().await.success());
    assert_eq!(stand.depth(&stand.queue()).await.0, 0);
}

/// Messages sixteen times as large as one may be, and as many on their way as the prefetch allows: what comes while the lane
/// turns to a smaller one is bounded too.
#[tokio::test(flavor = "multi_thread")]
async fn far_too_large_messages_do_not_fill_the_memory() {
    const MIB: u64 = 1024 * 1024;
    let stand = Stand::new("huge").await;
    stand.declare().await;
    let huge = event("huge").replace("parts", &"x".repeat(16 * 1024 * 1024));
    for _ in 0..24 {
        stand.publish(huge.as_bytes()).await;
    }
    let mut worker = stand.start(|command| {
        command.env("CNS_EVENTS__WORKER__BUFFER_BYTES", "16777216").env("CNS_EVENTS__WORKER__LANES", "1");
    });
    worker.ready().await;
    let peak = AtomicU64::new(0);
    until("all are dead letters", async || {
        peak.fetch_max(worker.memory(), Ordering::Relaxed);
        worker.metric(r#"cns_events_dead_lettered_total{reason="too_large"}"#) >= 24.0
    })
    .await;
    let peak = peak.into_inner() / MIB;
    assert!(peak < 160, "{peak} MiB");
    assert!(worker.terminate().await.success());
    assert_eq!(stand.depth(&stand.queue()).await.0, 0);
    assert_eq!(stand.depth(&stand.dead()).await.0, 24);
}
