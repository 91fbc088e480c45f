//! The journal: it holds what was really stored, once, whoever stored it, and a look is by index.

use cns_events::store::journal::{Looked, Position, here, look};
use tokio_postgres::Client;

use crate::env::{TestEnv, connect, event, eventually};

/// Inserts events without a worker, as the services did before; `values` selects (n).
fn insert(ids: &str, count: u32) -> String {
    format!(
        "insert into enrichment_events (event_id, event_type, bom_id, tenant_id, source, state, payload, workflow_id) \
         select '{ids}' || n, 'error', '00000000-0000-4000-8000-00000000000b', \
           ('00000000-0000-4000-8000-00000000000' || n % 3)::uuid, 'staff', '{{}}', '{{}}', 'w' || n % 7 \
         from generate_series(1, {count}) n on conflict do nothing"
    )
}

/// Takes in all that is new after a position; returns the ids and the position after them.
async fn take(client: &Client, mut position: Position, page: u32) -> (Vec<uuid::Uuid>, Position) {
    let mut ids = Vec::new();
    loop {
        match look(client, &position, page).await.unwrap() {
            Looked::Rows(look) => {
                ids.extend(look.rows.iter().flat_map(|row| row.ids.clone()));
                position = look.next;
                if look.complete {
                    return (ids, position);
                }
            }
            Looked::Reset(reset) => panic!("{}", reset.reason),
        }
    }
}

/// Duplicates, failed statements and rollbacks leave no trace; each stored row stands in the journal once, by tenant and type.
#[tokio::test(flavor = "multi_thread")]
async fn the_journal_holds_what_was_stored_and_nothing_else() {
    let env = TestEnv::new("journal").await;
    env.declare().await;
    let worker = env.worker().await;
    for number in 0..30 {
        env.publish(event(&format!("e{number}")).as_bytes()).await;
        env.publish(event(&format!("e{number}")).as_bytes()).await;
    }
    eventually("all are stored", async || env.rows().await == 30).await;
    eventually("duplicates too", async || worker.metric_value("cns_events_duplicates_total") == 30.0).await;
    env.sql.batch_execute(&insert("python", 20)).await.unwrap();
    env.sql.batch_execute(&insert("python", 20)).await.unwrap();
    env.sql.batch_execute(&format!("begin; {}; rollback", insert("rolled", 20))).await.unwrap();
    env.sql.batch_execute(&format!("{}; select 1 / 0", insert("failed", 20))).await.unwrap_err();
    let listed = "select count(*) from (select unnest(ids) from enrichment_journal) j";
    assert_eq!((env.number(listed).await, env.rows().await), (50, 50));
    let matching = "select count(*) from enrichment_journal j cross join unnest(ids) i (id) join enrichment_events e using (id) \
         where e.tenant_id = j.tenant_id and j.types & case e.event_type when 'error' then 128 else 1024 end <> 0 \
           and e.created_at between j.first_at and j.last_at";
    assert_eq!(env.number(matching).await, 50);
    assert_eq!(
        env.number("select count(*) from enrichment_journal where events <> cardinality(ids)").await,
        0
    );
}

/// A transaction that commits late is in the next look, once, and in no look before; pages and rollbacks change nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_commits_last_is_in_the_next_look() {
    let env = TestEnv::new("journallate").await;
    let (first, second) = (connect(&env.database_url).await, connect(&env.database_url).await);
    let start = here(&env.sql).await.unwrap();
    first.batch_execute(&format!("begin; {}", insert("late", 10))).await.unwrap();
    second.batch_execute(&format!("begin; {}", insert("never", 10))).await.unwrap();
    env.sql.batch_execute(&insert("early", 10)).await.unwrap();
    let (early, position) = take(&env.sql, start.clone(), 2).await;
    assert_eq!(early.len(), 10);
    // While the position names two running transactions, more is stored.
    env.sql.batch_execute(&insert("more", 10)).await.unwrap();
    second.batch_execute("rollback").await.unwrap();
    let (more, position) = take(&env.sql, position, 2).await;
    assert_eq!(more.len(), 10);
    first.batch_execute("commit").await.unwrap();
    let (late, position) = take(&env.sql, position, 2).await;
    assert_eq!(late.len(), 10);
    assert!(take(&env.sql, position, 2).await.0.is_empty());
    // From the start at once, and by pages of two rows, the same.
    let all = |mut ids: Vec<uuid::Uuid>| {
        ids.sort();
        ids
    };
    let expected = all([early, more, late].concat());
    for page in [2, 3, 1000] {
        assert_eq!(all(take(&env.sql, start.clone(), page).await.0), expected, "{page}");
    }
}

/// A position goes on exactly within a row, also where more becomes visible between two pages.
#[tokio::test(flavor = "multi_thread")]
async fn a_position_within_a_look_misses_nothing_and_repeats_nothing() {
    let env = TestEnv::new("journalpage").await;
    let start = here(&env.sql).await.unwrap();
    let open = connect(&env.database_url).await;
    open.batch_execute(&format!("begin; {}", insert("open", 9))).await.unwrap();
    for number in 0..5 {
        env.sql.batch_execute(&insert(&format!("a{number}-"), 9)).await.unwrap();
    }
    let (mut seen, mut position, mut steps) = (Vec::new(), start, 0);
    loop {
        let Looked::Rows(look) = look(&env.sql, &position, 2).await.unwrap() else { panic!() };
        steps += 1;
        if steps == 3 {
            open.batch_execute("commit").await.unwrap();
            env.sql.batch_execute(&insert("b", 9)).await.unwrap();
        }
        // A client that is cut after the first id of a page comes back with a position within the row.
        if let (Some(row), Some(page)) = (look.rows.first(), look.next.page.clone()) {
            seen.push(row.ids[0]);
            let looked = position.page.clone();
            let taken = looked.filter(|page| (page.transaction, page.seq) == (row.transaction, row.seq));
            let taken = taken.map_or(0, |page| page.taken) + 1;
            let page = cns_events::store::journal::Page {
                transaction: row.transaction,
                seq: row.seq,
                taken,
                ..page
            };
            position = Position { page: Some(page), ..position }.to_string().parse().unwrap();
            continue;
        }
        seen.extend(look.rows.iter().flat_map(|row| row.ids.clone()));
        position = look.next;
        if look.complete {
            break;
        }
    }
    let distinct: std::collections::BTreeSet<_> = seen.iter().collect();
    assert_eq!((seen.len(), distinct.len()), (63, 63));
}

/// Looks of one tenant and of all are by index, also beside an old transaction and with a full journal.
#[tokio::test(flavor = "multi_thread")]
async fn a_look_reads_an_index() {
    let env = TestEnv::new("journalplan").await;
    let old = connect(&env.database_url).await;
    old.batch_execute(&format!("begin; {}", insert("old", 3))).await.unwrap();
    env.sql
        .batch_execute(
            "insert into enrichment_journal (xact, tenant_id, events, types, first_at, last_at, ids) \
             select (3 + n % 3000)::text::xid8, ('00000000-0000-4000-8000-00000000000' || n % 3)::uuid, 1, 1, now(), now(), array[gen_random_uuid()] \
             from generate_series(1, 30000) n; analyze enrichment_journal",
        )
        .await
        .unwrap();
    let mut position = here(&env.sql).await.unwrap();
    env.sql.batch_execute(&insert("new", 9)).await.unwrap();
    for (role, claims, index) in [
        (
            "authenticated",
            r#"{"tenant_id":"00000000-0000-4000-8000-000000000001"}"#,
            "enrichment_journal_tenant_xact",
        ),
        ("cns_events_aggregate", "{}", "enrichment_journal_xact"),
    ] {
        env.sql
            .batch_execute(&format!(
                "begin; set local role {role}; select set_config('request.jwt.claims', '{claims}', true); \
                 set local enable_seqscan = off; set local enable_bitmapscan = off"
            ))
            .await
            .unwrap();
        let plan = cns_events::store::journal::explain(&env.sql, &position, 200).await.unwrap().join("\n");
        env.sql.batch_execute("commit").await.unwrap();
        let scans: Vec<&str> = plan.lines().filter(|line| line.contains("on enrichment_journal ")).collect();
        assert_eq!(scans.len(), 2, "{plan}");
        assert!(scans.iter().all(|scan| scan.contains(&format!("Index Scan using {index} "))), "{plan}");
        assert_eq!(plan.matches("Index Cond: ").count(), 3, "those two and the state's: {plan}");
    }
    old.batch_execute("commit").await.unwrap();
    let (new, after) = take(&env.sql, position.clone(), 500).await;
    assert_eq!(new.len(), 12);
    position = after;
    assert!(take(&env.sql, position, 500).await.0.is_empty());
}

/// Each role sees what it may: a worker's login nothing, a tenant its own, and nobody writes but the trigger.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_reads_or_writes_the_journal_of_others() {
    let env = TestEnv::new("journalroles").await;
    let (login, url) = env.login("in role service_role, authenticated").await;
    let client = connect(&url).await;
    client
        .batch_execute(&format!("set role service_role; {}; reset role", insert("worker", 9)))
        .await
        .unwrap();
    for (role, table) in [
        ("service_role", "enrichment_journal"),
        ("service_role", "enrichment_positions"),
        ("cns_events_support", "enrichment_journal"),
        ("cns_events_support", "enrichment_events"),
    ] {
        let select = format!("begin; set local role {role}; select count(*) from {table}");
        let refused = env.sql.batch_execute(&select).await.unwrap_err();
        env.sql.batch_execute("rollback").await.unwrap();
        assert_eq!(refused.code().unwrap().code(), "42501", "{role} {table}");
    }
    let claims = r#"{"tenant_id":"00000000-0000-4000-8000-000000000001"}"#;
    client
        .batch_execute(&format!(
            "set role authenticated; select set_config('request.jwt.claims', '{claims}', false)"
        ))
        .await
        .unwrap();
    let row = client
        .query_one("select count(distinct tenant_id), sum(events) from enrichment_journal", &[])
        .await
        .unwrap();
    assert_eq!((row.get::<_, i64>(0), row.get::<_, i64>(1)), (1, 3));
    for write in [
        "insert into enrichment_journal (tenant_id, events, types, first_at, last_at, ids) values (gen_random_uuid(), 1, 1, now(), now(), '{}')",
        "delete from enrichment_journal",
        "update enrichment_journal_state set journal_pruned_to = '99999999'",
        "delete from enrichment_positions",
        "select enrichment_journal_write()",
    ] {
        assert_eq!(client.batch_execute(write).await.unwrap_err().code().unwrap().code(), "42501", "{write}");
    }
    drop(client);
    env.drop_login(&login).await;
}

/// The owner of the tables is subject to row-level security too, and is neither a superuser nor exempt: the trigger writes all the same.
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_without_privileges_is_enough() {
    let env = TestEnv::empty("journalowner").await;
    let (login, url) = env.login("createrole").await;
    let roles = [
        "service_role",
        "authenticated",
        "cns_events_retention",
        "cns_events_aggregate",
        "cns_events_support",
    ];
    for role in roles {
        // The cluster may have them from another database.
        let _ = env.sql.batch_execute(&format!("create role {role} nologin")).await;
        env.sql.batch_execute(&format!("grant {role} to {login}")).await.unwrap();
    }
    env.sql
        .batch_execute(&format!(
            "alter database {} owner to {login}; alter schema public owner to {login}",
            env.name
        ))
        .await
        .unwrap();
    let migrated = env.command().env("CNS_EVENTS__DATABASE__URL", &url).arg("migrate").output().unwrap();
    assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
    let worker = env.start(|command| {
        command.env("CNS_EVENTS__DATABASE__URL", &url).env("CNS_EVENTS__AGGREGATE__ENABLED", "auto");
    });
    worker.ready().await;
    for number in 0..10 {
        env.publish(event(&format!("e{number}")).as_bytes()).await;
    }
    eventually("all are stored", async || env.rows().await == 10).await;
    assert_eq!(env.number("select sum(events) from enrichment_journal").await, 10);
    let summed = "select coalesce(sum(events), 0)::bigint from event_counts";
    eventually("the worker sums up", async || env.number(summed).await == 10).await;
    drop(worker);
}
