//! Reads from Rust: pages, streams, new events, plans, round trips, and a pool that carries no claims over.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use cns_events::store::DatabaseEndpoint;
use cns_events::store::read::{AccessScope, Query, Reader};
use futures_util::TryStreamExt;
use uuid::Uuid;

use crate::env::relay::Relay;
use crate::env::{TestEnv, eventually};

const TIMEOUT: Duration = Duration::from_secs(20);

fn reader(url: &str, connections: usize) -> Reader {
    Reader::new(DatabaseEndpoint::from_url(url).unwrap(), connections, TIMEOUT)
}

async fn fill(env: &TestEnv, bom: Uuid, tenant: Uuid, of: &str, rows: i32) {
    let insert = "insert into enrichment_events (id, event_id, event_type, bom_id, tenant_id, organization_id, source, workflow_id, created_at) \
                  select gen_random_uuid(), $3 || '-' || n || '-' || $2::uuid, case when n % 10 = 0 then 'error' when n % 10 = 1 then 'a,b' else 'cache_hit' end, \
                  $1, $2, 'org-' || n % 3, 'customer', $3, now() - make_interval(secs => n / 7) from generate_series(1, $4) n";
    env.sql.execute(insert, &[&bom, &tenant, &of, &rows]).await.unwrap();
}

/// Page by page, newest first, with many events of the same moment: every event once, in order, whatever the page's size.
#[tokio::test(flavor = "multi_thread")]
async fn pages_return_every_event_once() {
    let env = TestEnv::new("pages").await;
    let (tenant, other, bom) = (Uuid::new_v4(), Uuid::new_v4(), Uuid::new_v4());
    fill(&env, bom, tenant, "w", 250).await;
    fill(&env, bom, other, "w", 250).await;
    let (reader, scope) = (reader(&env.database_url, 2), AccessScope::tenant(tenant));
    let none = [""; 0];
    for limit in [1, 6, 7, 100, 249, 250, 1000] {
        let mut query = Query::events_by_bom(bom, none, Some(limit)).unwrap();
        let (mut seen, mut pages): (Vec<(DateTime<Utc>, Uuid)>, _) = (Vec::new(), 0);
        loop {
            let page = reader.page(&scope, &query).await.unwrap();
            assert!(page.events.len() == limit || page.next.is_none());
            seen.extend(page.events.iter().map(|event| (event.created_at, event.id)));
            pages += 1;
            let Some(next) = page.next else { break };
            query = query.after(next.to_string().parse::<cns_events::store::read::Cursor>().unwrap());
        }
        assert_eq!((seen.len(), pages), (250, 250_usize.div_ceil(limit)), "limit {limit}");
        assert!(seen.is_sorted_by(|newer, older| newer > older), "limit {limit}");
    }
    let types = |types: &[&str]| Query::events_by_bom(bom, types.iter().copied(), Some(1000)).unwrap();
    let count = async |query: &Query| reader.page(&scope, query).await.unwrap().events.len();
    assert_eq!(count(&types(&["error"])).await, 25);
    assert_eq!(count(&types(&["error", "a,b", "nothing"])).await, 50);
    assert_eq!(count(&Query::events_by_workflow("w", Some(1000)).unwrap()).await, 250);
    assert_eq!(count(&Query::events_by_workflow("x", None).unwrap()).await, 0);
    assert_eq!(count(&Query::recent_errors(None, None, Some(1000)).unwrap()).await, 25);
    assert_eq!(count(&Query::recent_errors(Some("org-0"), None, None).unwrap()).await, 8);
    env.sql.batch_execute("update enrichment_events set created_at = created_at - interval '25 hours' where event_id like 'w-1%'").await.unwrap();
    assert_eq!(count(&Query::recent_errors(None, None, None).unwrap()).await, 14);
    assert_eq!(count(&Query::recent_errors(None, Some(26), None).unwrap()).await, 25);

    let all = reader.stream(scope.clone(), Query::events_by_bom(bom, none, Some(1)).unwrap());
    assert_eq!(all.try_collect::<Vec<_>>().await.unwrap().len(), 250, "a stream goes on to the end");
    let operator = reader.stream(AccessScope::operator(), Query::events_by_bom(bom, none, None).unwrap());
    assert_eq!(operator.try_collect::<Vec<_>>().await.unwrap().len(), 500, "an operator sees every tenant");
}

/// Large events make short pages, and none is left out.
#[tokio::test(flavor = "multi_thread")]
async fn a_page_is_bounded_in_bytes() {
    let env = TestEnv::new("large").await;
    let (tenant, bom) = (Uuid::new_v4(), Uuid::new_v4());
    // Written out, each has a megabyte of zeros.
    let insert = "insert into enrichment_events (event_id, event_type, bom_id, tenant_id, source, payload) select n::text, 'x', $1, $2, 'customer', \
                  '{\"a\":[1e131071,1e131071,1e131071,1e131071,1e131071,1e131071,1e131071,1e131071]}' from generate_series(1, 40) n";
    env.sql.execute(insert, &[&bom, &tenant]).await.unwrap();
    let (reader, scope) = (reader(&env.database_url, 1), AccessScope::tenant(tenant));
    let mut query = Query::events_by_bom(bom, [""; 0], Some(1000)).unwrap();
    let (mut pages, mut events) = (0, 0);
    loop {
        let page = reader.page(&scope, &query).await.unwrap();
        (pages, events) = (pages + 1, events + page.events.len());
        assert!(page.events.len() <= 4);
        let Some(next) = page.next else { break };
        query = query.after(next);
    }
    assert_eq!((pages, events), (11, 40), "the last page is empty: the one before could not know");
}

/// Times that only SQL by hand can have put there are shown as the nearest that can be written.
#[tokio::test(flavor = "multi_thread")]
async fn times_outside_of_rfc_3339_do_not_hide_a_bom() {
    let env = TestEnv::new("times").await;
    let (tenant, bom) = (Uuid::new_v4(), Uuid::new_v4());
    let insert = "insert into enrichment_events (event_id, event_type, bom_id, tenant_id, source, created_at) select at, 'x', $1, $2, 'customer', at::timestamptz \
                  from unnest(array['infinity', '-infinity', '20000-01-01', '0044-03-15 BC', '2026-01-01']) at";
    env.sql.execute(insert, &[&bom, &tenant]).await.unwrap();
    let reader = reader(&env.database_url, 1);
    let page = reader
        .page(&AccessScope::tenant(tenant), &Query::events_by_bom(bom, [""; 0], None).unwrap())
        .await
        .unwrap();
    let years: Vec<String> =
        page.events.iter().map(|event| event.created_at.format("%Y").to_string()).collect();
    assert_eq!(years, ["9999", "9999", "2026", "0000", "0000"]);
}

/// Every committed event is returned once: also one with an older `created_at`, and one with a slow commit.
#[tokio::test(flavor = "multi_thread")]
async fn new_events_are_returned_once() {
    let env = TestEnv::new("newer").await;
    let (tenant, bom) = (Uuid::new_v4(), Uuid::new_v4());
    fill(&env, bom, tenant, "before", 20).await;
    let slow = crate::env::connect(&env.database_url).await;
    slow.batch_execute("begin").await.unwrap();
    let insert = |id: &str, created_at: &str| {
        format!(
            "insert into enrichment_events (event_id, event_type, bom_id, tenant_id, source, created_at) \
             values ('{id}', 'x', '{bom}', '{tenant}', 'customer', {created_at})"
        )
    };
    slow.batch_execute(&insert("slow", "now()")).await.unwrap();
    let (reader, scope) = (reader(&env.database_url, 1), AccessScope::tenant(tenant));
    let query = Query::events_by_bom(bom, [""; 0], Some(1)).unwrap();
    let mut mark = reader.watermark(&scope, &query).await.unwrap();
    let told = async |mark: &mut _| {
        let events = reader.since(&scope, &query, mark).await.unwrap();
        events.into_iter().map(|event| event.event_id).collect::<Vec<_>>()
    };
    assert!(told(&mut mark).await.is_empty(), "what was there before is not new");
    env.sql.batch_execute(&insert("late", "now() - interval '3 days'")).await.unwrap();
    env.sql.batch_execute(&insert("fresh", "now()")).await.unwrap();
    assert_eq!(told(&mut mark).await, ["late", "fresh"]);
    assert!(told(&mut mark).await.is_empty());
    slow.batch_execute("commit").await.unwrap();
    assert_eq!(told(&mut mark).await, ["slow"]);
    assert!(told(&mut mark).await.is_empty());
}

/// Each query is answered from an index, from its first page and from any other.
#[tokio::test(flavor = "multi_thread")]
async fn every_query_uses_its_index() {
    let env = TestEnv::new("plans").await;
    let tenants: Vec<Uuid> = (0..50).map(|_| Uuid::new_v4()).collect();
    let boms: Vec<Uuid> = (0..100).map(|_| Uuid::new_v4()).collect();
    for (number, bom) in boms.iter().enumerate() {
        fill(&env, *bom, tenants[number % 50], &format!("w-{number}"), 300).await;
    }
    // One tenant has much more than its share, and a BOM that is larger than an average tenant.
    let (large, owner) = (Uuid::new_v4(), tenants[0]);
    fill(&env, large, owner, "large", 3000).await;
    fill(&env, Uuid::new_v4(), owner, "rest", 9000).await;
    let spread = "update enrichment_events set created_at = created_at - random() * interval '20 hours'; analyze enrichment_events";
    env.sql.batch_execute(spread).await.unwrap();
    let (login, url) = env.login("in role authenticated").await;
    let (reader, scope) = (reader(&url, 1), AccessScope::tenant(tenants[0]));
    for limit in [None, Some(1), Some(1000)] {
        let queries = [
            ("idx_enrichment_events_bom_created", Query::events_by_bom(boms[0], [""; 0], limit)),
            ("idx_enrichment_events_bom_created", Query::events_by_bom(boms[0], ["cache_hit"], limit)),
            ("idx_enrichment_events_bom_created", Query::events_by_bom(large, [""; 0], limit)),
            ("idx_enrichment_events_workflow_created", Query::events_by_workflow("w-0", limit)),
            ("idx_enrichment_events_workflow_created", Query::events_by_workflow("large", limit)),
            ("idx_enrichment_events_errors", Query::recent_errors(None, None, limit)),
            ("idx_enrichment_events_errors", Query::recent_errors(Some("org-1"), None, limit)),
        ];
        for (index, query) in queries {
            let query = query.unwrap();
            let next = reader
                .page(&scope, &query)
                .await
                .unwrap()
                .events
                .last()
                .map(cns_events::store::read::StoredEvent::cursor);
            for query in [query.clone(), query.after(next)] {
                let plan = reader.explain(&scope, &query).await.unwrap().join("\n");
                assert!(plan.contains(index) && !plan.contains("Seq Scan"), "{query:?}\n{plan}");
                assert!(!plan.contains("Bitmap"), "the index has them in order: {plan}");
                if index == "idx_enrichment_events_errors" {
                    assert!(
                        plan.contains("(tenant_id = $"),
                        "the policy itself is what the index is asked for: {plan}"
                    );
                }
            }
        }
    }
    // An operator's are not picked by a tenant.
    let (reader, errors) =
        (self::reader(&env.database_url, 1), Query::recent_errors(None, None, None).unwrap());
    let plan = reader.explain(&AccessScope::operator(), &errors).await.unwrap().join("\n");
    assert!(
        plan.contains("idx_enrichment_events_errors_time") && plan.contains("Index Cond: (created_at > "),
        "{plan}"
    );
    drop(reader);
    env.drop_login(&login).await;
}

/// Role, claims, question and end are sent together and answered together.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_is_one_round_trip() {
    let env = TestEnv::new("trips").await;
    let (tenant, bom) = (Uuid::new_v4(), Uuid::new_v4());
    fill(&env, bom, tenant, "w", 50).await;
    let relay = Relay::before(&env.database_url).await;
    relay.open().await;
    let (reader, scope) = (reader(&relay.url(&env.database_url), 1), AccessScope::tenant(tenant));
    let query = Query::events_by_bom(bom, ["error"], None).unwrap();
    reader.page(&scope, &query).await.unwrap(); // the connection is there now
    relay.slow(Duration::from_millis(150));
    let before = relay.turns();
    for _ in 0..3 {
        assert_eq!(reader.page(&scope, &query).await.unwrap().events.len(), 5);
    }
    assert_eq!(relay.turns() - before, 3);
}

/// One connection, two tenants, and readers that disconnect at any moment: no tenant is shown another's events.
#[tokio::test(flavor = "multi_thread")]
async fn pooled_connections_carry_no_claims_over() {
    const READS: usize = 400;
    let env = TestEnv::new("carry").await;
    let (tenants, bom) = ([Uuid::new_v4(), Uuid::new_v4()], Uuid::new_v4());
    for tenant in tenants {
        fill(&env, bom, tenant, "w", 60).await;
    }
    let (login, url) = env.login("in role authenticated").await;
    let relay = Relay::before(&url).await;
    relay.open().await;
    relay.slow(Duration::from_millis(1)); // so that there is a middle to be cancelled in
    let reader = reader(&relay.url(&url), 1);
    let (read, cancelled) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut readers = Vec::new();
    for n in 0..4 {
        let (reader, read, cancelled, own) =
            (reader.clone(), read.clone(), cancelled.clone(), tenants[n % 2]);
        readers.push(tokio::spawn(async move {
            let scope = AccessScope::tenant(own);
            let query = Query::events_by_bom(bom, [""; 0], Some(1000)).unwrap();
            for _ in 0..READS / 4 {
                let hasty = fastrand::bool();
                let limit = if hasty { Duration::from_micros(fastrand::u64(0..20_000)) } else { TIMEOUT };
                match tokio::time::timeout(limit, reader.page(&scope, &query)).await {
                    Ok(page) => {
                        let page = page.unwrap();
                        assert_eq!(page.events.len(), 60);
                        assert!(page.events.iter().all(|event| event.tenant_id == own));
                        read.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(_) => drop(cancelled.fetch_add(1, Ordering::Relaxed)),
                }
            }
        }));
    }
    for reader in readers {
        reader.await.unwrap();
    }
    let (read, cancelled) = (read.load(Ordering::Relaxed), cancelled.load(Ordering::Relaxed));
    println!("{read} reads, {cancelled} cancelled");
    assert!(read > 20 && cancelled > 20, "{read} reads, {cancelled} cancelled");
    // However many went away, there is never more than the one connection, and nothing of theirs is left in it.
    let connections = format!("select count(*) from pg_stat_activity where usename = '{login}'");
    let unfinished = format!("{connections} and state <> 'idle'");
    assert_eq!(
        reader
            .page(&AccessScope::tenant(tenants[0]), &Query::recent_errors(None, None, None).unwrap())
            .await
            .unwrap()
            .events
            .len(),
        6
    );
    eventually("no transaction is left", async || env.number(&unfinished).await == 0).await;
    assert_eq!(env.number(&connections).await, 1);
    assert!(!reader.sees_any_event(&AccessScope::tenant(Uuid::new_v4())).await.unwrap());
    drop(reader);
    env.drop_login(&login).await;
}

/// A login without privileges is refused with the reason, and reads nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_reads_with_its_own_privileges() {
    let env = TestEnv::new("logins").await;
    let (tenant, bom) = (Uuid::new_v4(), Uuid::new_v4());
    fill(&env, bom, tenant, "w", 3).await;
    let query = Query::events_by_bom(bom, [""; 0], None).unwrap();
    let (login, url) = env.login("in role authenticated").await;
    let reading = reader(&url, 1);
    assert_eq!(reading.page(&AccessScope::tenant(tenant), &query).await.unwrap().events.len(), 3);
    let refused = reading.page(&AccessScope::operator(), &query).await.unwrap_err();
    assert_eq!(refused.sqlstate.as_deref(), Some("42501"), "it is not exempt from row-level security");
    env.sql
        .batch_execute(&format!("revoke authenticated from {login}; grant service_role to {login}"))
        .await
        .unwrap();
    let working = reader(&url, 1);
    for scope in [AccessScope::tenant(tenant), AccessScope::operator()] {
        let refused = working.page(&scope, &query).await.unwrap_err();
        assert_eq!(refused.sqlstate.as_deref(), Some("42501"), "{scope:?}");
    }
    drop((reading, working));
    env.drop_login(&login).await;
}
