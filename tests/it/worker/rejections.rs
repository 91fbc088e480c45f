//! Bad input: dead-lettered with its reason, its good neighbours stored, the worker runs on.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, LongString};

use crate::env::{TestEnv, event, eventually, header};

/// Everything that can be wrong with a message, each among good neighbours.
#[tokio::test(flavor = "multi_thread")]
async fn invalid_messages_are_dead_lettered_with_their_reason() {
    let env = TestEnv::new("bad").await;
    let worker = env.worker().await;
    let good = event("x");
    let cases: Vec<(Vec<u8>, &str, Option<&str>)> = vec![
        (b"not json".to_vec(), "malformed_json", None),
        (Vec::new(), "malformed_json", None),
        (b"\xff\xfe{}".to_vec(), "malformed_json", None),
        (b"[1,2]".to_vec(), "malformed_json", None),
        (good.replace(r#""event_id":"x","#, "").into_bytes(), "missing_field", Some("event_id")),
        (good.replace(r#""organization_id":"org-1","#, "").into_bytes(), "missing_field", Some("tenant_id")),
        (good.replace("6f9619ff-8b86", "zzzzzzzz-8b86").into_bytes(), "invalid_field", Some("bom_id")),
        (
            good.replace(r#""payload":{"#, r#""payload":{"nul":"a\u0000b","#).into_bytes(),
            "unstorable",
            Some("payload"),
        ),
        (
            good.replace(r#""payload":{"#, r#""payload":{"n":1e999999,"#).into_bytes(),
            "unstorable",
            Some("payload"),
        ),
        (good.replace("parts", &"y".repeat(2 * 1024 * 1024)).into_bytes(), "too_large", None),
    ];
    for (number, (body, _, _)) in cases.iter().enumerate() {
        env.publish(event(&format!("before{number}")).as_bytes()).await;
        env.publish(body).await;
    }
    // Two lanes dead-letter side by side: the letters come in any order.
    let mut letters = Vec::new();
    for _ in &cases {
        letters.push(env.dead_letter().await);
    }
    for (body, reason, field) in &cases {
        let letter = letters.iter().find(|letter| &letter.data == body).expect("byte for byte as published");
        let counted = worker.metric_value(&format!(r#"cns_events_dead_lettered_total{{reason="{reason}"}}"#));
        assert!(counted >= 1.0, "{reason}");
        if *reason == "too_large" {
            // Skipped as it arrived, and left to the broker's own dead-lettering.
            assert_eq!(header(letter, "x-first-death-reason").as_deref(), Some("rejected"));
            continue;
        }
        assert_eq!(header(letter, "x-cns-reason").as_deref(), Some(*reason));
        assert_eq!(header(letter, "x-cns-field").as_deref(), *field, "{reason}");
        assert_eq!(header(letter, "x-cns-routing-key").as_deref(), Some("cns.test"));
        let detail = header(letter, "x-cns-detail").unwrap();
        assert!(!detail.is_empty() && !detail.contains('\n'), "{detail}");
        assert!(header(letter, "x-cns-dead-at").is_some() && header(letter, "x-cns-worker").is_some());
    }
    eventually("the neighbours are stored", async || env.rows().await == cases.len() as i64).await;
    env.publish(event("after").as_bytes()).await;
    eventually("it runs on", async || env.rows().await == cases.len() as i64 + 1).await;
    assert_eq!(env.depth(&env.queue()).await.0, 0);
}

/// A letter keeps its properties, save the two that the broker would act on, and headers too large for a frame.
#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_keep_the_properties_of_the_message() {
    let env = TestEnv::new("letter").await;
    let _worker = env.worker().await;
    let mut headers = FieldTable::default();
    headers.insert("traceparent".into(), AMQPValue::LongString(LongString::from("00-abc-def-01")));
    headers.insert("large".into(), AMQPValue::LongString(LongString::from("x".repeat(130_000))));
    let properties = BasicProperties::default()
        .with_message_id("m-1".into())
        .with_type("t-1".into())
        .with_priority(8)
        .with_correlation_id("c-1".into())
        .with_expiration("3600000".into())
        .with_headers(headers);
    env.publish_with(b"not json", "cns.some.key", properties).await;
    let letter = env.dead_letter().await;
    assert_eq!(letter.properties.message_id().as_ref().unwrap().as_str(), "m-1");
    assert_eq!(letter.properties.correlation_id().as_ref().unwrap().as_str(), "c-1");
    assert_eq!(*letter.properties.priority(), Some(8));
    assert_eq!(*letter.properties.expiration(), None);
    assert_eq!(header(&letter, "x-cns-expiration").as_deref(), Some("3600000"));
    assert_eq!(header(&letter, "traceparent").as_deref(), Some("00-abc-def-01"));
    assert_eq!(header(&letter, "large"), None);
    assert_eq!(header(&letter, "x-cns-headers-left-out").as_deref(), Some("LongLongInt(1)"));
    assert_eq!(letter.routing_key.as_str(), "cns.some.key");
}

/// A row that only the database rejects is found by halving; its neighbours are stored. An error that
/// without a known class is about the row where a probe can be stored.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_the_database_rejects_is_dead_lettered_alone() {
    let env = TestEnv::new("halving").await;
    env
        .sql
        .batch_execute(
            "alter table enrichment_events add constraint no_poison check (event_id <> 'poison-check');
             create function refuse() returns trigger language plpgsql as $$ begin raise exception 'no %', new.event_id; end $$;
             create trigger refuse before insert on enrichment_events for each row when (new.event_id = 'poison-raise') execute function refuse()",
        )
        .await
        .unwrap();
    env.declare().await;
    let mut bodies: Vec<String> = (0..1000).map(|number| event(&format!("g{number}"))).collect();
    bodies[333] = event("poison-check");
    bodies[777] = event("poison-raise");
    env.publish_all(&bodies).await;
    let worker = env.worker().await;
    eventually("the neighbours are stored", async || env.rows().await == 998).await;
    let mut letters = [env.dead_letter().await, env.dead_letter().await];
    letters.sort_by_key(|letter| header(letter, "x-cns-sqlstate"));
    for (letter, sqlstate) in letters.iter().zip(["23514", "P0001"]) {
        assert_eq!(header(letter, "x-cns-reason").as_deref(), Some("database_rejected"));
        assert_eq!(header(letter, "x-cns-sqlstate").as_deref(), Some(sqlstate));
    }
    eventually("nothing is left", async || worker.metric_value("cns_events_in_flight") == 0.0).await;
    assert_eq!(worker.metric_value("cns_events_store_retries_total{reason=\"unknown\"}"), 0.0);
    // Two bad rows in a thousand: a few batches, and for each of the two some ten halves; not a statement for each row.
    let statements = worker.metric_value("cns_events_batch_rows_count");
    assert!(statements <= 60.0, "{statements} inserts for 998 rows");
}

/// An error of the data's class is the table's fault where no row can be stored: nothing is dead-lettered for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_constraint_that_rejects_every_row_is_held_before_dead_lettering() {
    let env = TestEnv::new("newcolumn").await;
    let worker = env.worker().await;
    env.sql.batch_execute("alter table enrichment_events add column x int not null").await.unwrap();
    env.publish_all(&[event("a"), event("b")]).await;
    eventually("it says so", async || worker.get("/readyz").is_some_and(|(_, body)| body.contains("23502")))
        .await;
    env.sql.batch_execute("alter table enrichment_events drop column x").await.unwrap();
    eventually("all are stored", async || env.rows().await == 2).await;
    assert_eq!(env.depth(&env.dead_letter_queue()).await.0, 0);
}

/// A row that waits for another session's lock is held alone, and is stored after the lock's end.
#[tokio::test(flavor = "multi_thread")]
async fn a_locked_row_is_held_alone() {
    let env = TestEnv::new("locked").await;
    let insert = "insert into enrichment_events (event_id, event_type, bom_id, tenant_id, source) \
                  values ('e7', 'x', gen_random_uuid(), gen_random_uuid(), 'customer')";
    env.declare().await;
    env.publish_all(&(0..40).map(|number| event(&format!("e{number}"))).collect::<Vec<_>>()).await;
    let other = crate::env::connect(&env.database_url).await;
    other.batch_execute(&format!("begin; {insert}")).await.unwrap();
    let worker = env.start(|command| {
        command
            .env("CNS_EVENTS__WORKER__LANES", "1")
            .env("CNS_EVENTS__WORKER__HOLD_SECONDS", "120")
            .env("CNS_EVENTS__DATABASE__STATEMENT_TIMEOUT_MS", "1500");
    });
    eventually("the neighbours are stored", async || env.rows().await == 39).await;
    // The lane goes on while the row waits.
    env.publish(event("later").as_bytes()).await;
    eventually("a later event is stored", async || env.rows().await == 40).await;
    assert_eq!(worker.metric_value("cns_events_in_flight"), 1.0);
    other.batch_execute("rollback").await.unwrap();
    eventually("all are stored", async || env.rows().await == 41).await;
    eventually("all is settled", async || worker.metric_value("cns_events_in_flight") == 0.0).await;
    assert_eq!(env.depth(&env.queue()).await.0, 0);
    assert_eq!(env.depth(&env.dead_letter_queue()).await.0, 0);
    // A statement of a busy machine may run out of time and be committed all the same; its rows come again.
    let again = worker.metric_value("cns_events_duplicates_total");
    assert!(again < 39.0, "what was stored was acknowledged: {again} came again");
}

/// Numbers that take little here and much when written out: compared by their hashes, and bounded.
#[tokio::test(flavor = "multi_thread")]
async fn duplicates_with_huge_numbers_are_no_conflicts() {
    let env = TestEnv::new("huge").await;
    let worker = env.worker().await;
    let huge = |count: usize| {
        event("huge")
            .replace(r#""key":"huge""#, &format!(r#""key":"huge","n":[{}1]"#, "1e131071,".repeat(count)))
    };
    env.publish_all(&[huge(30), huge(30), huge(31)]).await;
    eventually("they are compared", async || worker.metric_value("cns_events_duplicates_total") == 2.0).await;
    assert_eq!(worker.metric_value("cns_events_conflicts_total"), 1.0);
    env.publish(huge(32).as_bytes()).await;
    assert_eq!(header(&env.dead_letter().await, "x-cns-reason").as_deref(), Some("unstorable"));
}

/// `validation.payload = "reject"` makes a broken payload a dead letter; the default stores and counts it.
#[tokio::test(flavor = "multi_thread")]
async fn validation_payload_decides_about_schema_violations() {
    let env = TestEnv::new("policy").await;
    let broken = event("p").replace(r#""key":"p""#, r#""other":1"#);
    let worker = env.worker().await;
    env.publish(broken.as_bytes()).await;
    eventually("it is stored", async || env.rows().await == 1).await;
    eventually("it is counted", async || {
        worker.metric_value(r#"cns_events_schema_violations_total{event_type="cache_hit"}"#) == 1.0
    })
    .await;
    drop(worker);
    let worker = env.start(|command| {
        command.env("CNS_EVENTS__VALIDATION__PAYLOAD", "reject");
    });
    worker.ready().await;
    env.publish(broken.replace("\"p\"", "\"q\"").as_bytes()).await;
    let letter = env.dead_letter().await;
    assert_eq!(header(&letter, "x-cns-reason").as_deref(), Some("payload_schema"));
    assert_eq!(header(&letter, "x-cns-detail").as_deref(), Some("payload: missing field `key`"));
}
