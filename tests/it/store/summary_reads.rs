//! Reads of the summaries from Rust: their plans, and one round trip for each.

use std::time::Duration;

use cns_events::store::DatabaseEndpoint;
use cns_events::store::read::summaries::{
    By, CountsQuery, RiskQuery, Severity, StagesQuery, Step, WorkflowAt, WorkflowFilter, WorkflowQuery,
};
use cns_events::store::read::{AccessScope, Reader};
use uuid::Uuid;

use crate::env::TestEnv;
use crate::env::relay::Relay;

fn reader(url: &str) -> Reader {
    Reader::new(DatabaseEndpoint::from_url(url).unwrap(), 1, Duration::from_secs(20))
}

/// Id of a tenant.
fn tenant(number: u32) -> Uuid {
    Uuid::from_u128(0x4000_8000_0000_0000_0000 + u128::from(number))
}

/// 20,000 runs of 40 tenants, of which one has half, each with parts; and as many events, some of them risk alerts.
const FILL: &str = "
    create function pg_temp.tenant(n bigint) returns uuid language sql immutable as $$
        select ('00000000-0000-4000-8000-' || lpad(to_hex(case when n % 2 = 0 then 0 else n % 40 end), 12, '0'))::uuid $$;
    insert into workflow_runs (tenant_id, workflow_id, bom_id, organization_id, status, stage, events, errors, risks_critical, risks_high,
        risks_medium, pauses, paused_ms, first_at, last_at, fold)
    select pg_temp.tenant(n), 'enrich-' || n, md5((n / 3)::text)::uuid, 'org-' || n % 40, (array['running', 'completed', 'failed'])[1 + n % 3], 'parsing', 5, 0, 0, 0, 0,
        0, 0, now() - interval '60 days', now() - random() * interval '30 days', '{}' from generate_series(1, 20000) n;
    insert into workflow_parts select tenant_id, 'LM' || n % 1000, workflow_id, bom_id
        from (select *, row_number() over () as n from workflow_runs) r;
    insert into enrichment_events (event_id, event_type, bom_id, tenant_id, source, workflow_id, payload, created_at)
    select n::text, case when n % 50 = 0 then 'risk_alert' else 'cache_hit' end, md5((n / 3)::text)::uuid, pg_temp.tenant(n / 50), 'customer',
        'enrich-' || n, jsonb_build_object('risk_score', n % 100), now() - random() * interval '20 hours' from generate_series(1, 20000) n;
    analyze";

/// A page comes from an index in order, whoever reads: nothing is sorted, and no table is read as a whole.
#[tokio::test(flavor = "multi_thread")]
async fn pages_of_workflows_and_risks_use_their_indexes() {
    let env = TestEnv::new("runplans").await;
    env.sql.batch_execute(FILL).await.unwrap();
    assert!(env.command().args(["aggregate", "--once"]).output().unwrap().status.success());
    env.sql.batch_execute("analyze").await.unwrap();
    let (login, url) = env.login("in role authenticated, cns_events_support").await;
    let reader = reader(&url);
    let by = |change: fn(&mut WorkflowFilter)| {
        let mut filter = WorkflowFilter::default();
        change(&mut filter);
        filter
    };
    let status = |filter: &mut WorkflowFilter| filter.status = Some("failed".to_owned());
    for (number, index, filter) in [
        (0, "workflow_runs_recent", by(|_| {})),
        (7, "workflow_runs_recent", by(|_| {})),
        (0, "workflow_runs_status", by(status)),
        (7, "workflow_runs_status", by(status)),
        // Of a third of all runs, either index is one.
        (0, "workflow_runs_", by(|filter| filter.status = Some("stalled".to_owned()))),
        (
            0,
            "workflow_runs_bom",
            by(|filter| filter.bom = Some("c81e728d-9d4c-2f63-6f06-7f89cc14862c".parse().unwrap())),
        ),
        (0, "workflow_parts_pkey", by(|filter| filter.mpn = Some("LM7".to_owned()))),
        (
            0,
            "(workflow_id >= 'enrich-77'::text) AND (workflow_id < 'enrich-78'::text))",
            by(|filter| filter.prefix = Some("enrich-77".to_owned())),
        ),
        (u32::MAX, "workflow_runs_all_recent", by(|_| {})),
    ] {
        let scope = if number == u32::MAX {
            AccessScope::support()
        } else {
            AccessScope::tenant(format!("00000000-0000-4000-8000-{number:012x}").parse().unwrap())
        };
        for limit in [1, 100, 1000] {
            let first = WorkflowQuery::new(filter.clone(), 30, Some(limit)).unwrap();
            let next = reader.workflows(&scope, &first).await.unwrap();
            let cursor = next.workflows.last().map(|run| run.cursor());
            for query in [first.clone(), first.after(cursor)] {
                let plan = reader.explain_workflows(&scope, &query).await.unwrap().join("\n");
                assert!(
                    plan.contains(index) && !plan.contains("Seq Scan") && !plan.contains("Bitmap"),
                    "{query:?}\n{plan}"
                );
                let selective = filter.bom.is_some() || filter.mpn.is_some() || filter.prefix.is_some();
                assert!(
                    selective || !plan.contains(" Sort") || plan.contains("Incremental Sort"),
                    "{query:?}\n{plan}"
                );
            }
        }
    }
    let scope = AccessScope::tenant("00000000-0000-4000-8000-000000000007".parse().unwrap());
    for severity in [None, Some(Severity::Critical)] {
        let query = RiskQuery::new(severity, Some(8760), None).unwrap();
        let plan = reader.explain_risks(&scope, &query).await.unwrap().join("\n");
        assert!(plan.contains("idx_enrichment_events_risks") && plan.contains("(tenant_id = $"), "{plan}");
    }
    drop(reader);
    env.drop_login(&login).await;
}

/// Role, claims, state of the summaries, questions and end are sent together and answered together.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_of_summaries_is_one_round_trip() {
    let env = TestEnv::new("sumtrips").await;
    env.sql.batch_execute(FILL).await.unwrap();
    assert!(env.command().args(["aggregate", "--once"]).output().unwrap().status.success());
    let relay = Relay::before(&env.database_url).await;
    relay.open().await;
    let (reader, scope) = (reader(&relay.url(&env.database_url)), AccessScope::tenant(tenant(0)));
    let list = WorkflowQuery::new(WorkflowFilter::default(), 30, Some(5)).unwrap();
    let counts = CountsQuery::new(None, None, Step::Hour, By::Type).unwrap();
    let (stages, risks) =
        (StagesQuery::new(None, None).unwrap(), RiskQuery::new(None, None, Some(5)).unwrap());
    reader.workflows(&scope, &list).await.unwrap(); // the connection is there now
    relay.slow(Duration::from_millis(150));
    let before = relay.turns();
    reader.workflows(&scope, &list).await.unwrap();
    reader.workflow(&scope, &WorkflowAt::new("enrich-4", None).unwrap()).await.unwrap();
    reader.bom(&scope, tenant(0)).await.unwrap();
    reader.counts(&scope, &counts).await.unwrap();
    reader.stages(&scope, &stages).await.unwrap();
    reader.risks(&scope, &risks).await.unwrap();
    assert_eq!(relay.turns() - before, 6);
}
