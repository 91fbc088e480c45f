//! Privileges of each role in SQL: readers see their tenant's rows and do nothing else, workers insert and see nothing.

use serde_json::json;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use crate::api::tenants::Rows;
use crate::env::{TestEnv, connect, event, eventually};

/// As `authenticated`, with whatever claims a connection may set.
#[tokio::test(flavor = "multi_thread")]
async fn no_sql_returns_another_tenants_rows() {
    let env = TestEnv::new("sqlmatrix").await;
    let rows = Rows::fill(&env).await;
    env.sql.batch_execute("analyze enrichment_events").await.unwrap();
    let (login, url) = env.login("in role authenticated").await;
    let client = connect(&url).await;
    let [a, b, _] = rows.tenants;
    let known: Vec<(Option<String>, Option<Uuid>)> = rows
        .tenants
        .iter()
        .flat_map(|tenant| {
            [
                json!({"tenant_id": tenant}),
                json!({"app_metadata": {"tenant_id": tenant}}),
                json!({"tenant_id": tenant, "role": "service_role"}),
            ]
            .map(|claims| (Some(claims.to_string()), Some(*tenant)))
        })
        .collect();
    let unknown = [
        None,
        Some(String::new()),
        Some("{}".to_owned()),
        Some("null".to_owned()),
        Some("[]".to_owned()),
        Some(r#"{"tenant_id": null}"#.to_owned()),
        Some(r#"{"tenant_id": ""}"#.to_owned()),
        Some(r#"{"tenant_id": "x"}"#.to_owned()),
        Some(r#"{"tenant_id": "' or true --"}"#.to_owned()),
        Some(json!({"tenant_id": [a]}).to_string()),
        Some(json!({"tenant_id": a.urn().to_string()}).to_string()),
        Some(json!({"user_metadata": {"tenant_id": a}}).to_string()),
        Some("no json".to_owned()),
    ];
    let mut claims = known;
    claims.extend(unknown.map(|claims| (claims, None)));

    // A function that tells what it was called with: it must not be called for rows that are not to be seen.
    client
        .batch_execute(
            "create temp table heard (tenant uuid); grant all on heard to authenticated; create function pg_temp.tell(t uuid) returns boolean language plpgsql cost 0.0000001 \
             as $$ begin insert into heard values (t); return true; end $$",
        )
        .await
        .unwrap();
    let questions = [
        "select tenant_id from enrichment_events".to_owned(),
        "select tenant_id from enrichment_events where true or tenant_id is not null".to_owned(),
        format!("select tenant_id from enrichment_events where tenant_id = '{b}'"),
        format!("select tenant_id from enrichment_events where bom_id = '{}'", rows.boms[3]),
        "select tenant_id from enrichment_events where workflow_id = 'w-shared' order by created_at desc limit 5".to_owned(),
        "select tenant_id from enrichment_events where event_type = 'error'".to_owned(),
        format!("select tenant_id from enrichment_events where payload @> '{{\"secret\": \"{b}\"}}'"),
        "select tenant_id from enrichment_events where pg_temp.tell(tenant_id)".to_owned(),
        "select a.tenant_id from enrichment_events a join enrichment_events b using (bom_id)".to_owned(),
        "with all_of_them as (select * from enrichment_events) select tenant_id from all_of_them".to_owned(),
        "select max(tenant_id::text)::uuid from enrichment_events having count(*) > 0".to_owned(),
        "select tenant_id from enrichment_events tablesample system (100)".to_owned(),
        format!(
            "select tenant_id from enrichment_events where 1 / (case when tenant_id = '{b}' then 0 else 1 end) = 1 or true"
        ),
    ];
    let (mut tried, mut told) = (0, 0);
    for (claims, tenant) in &claims {
        for role in ["set local role authenticated", "select 1"] {
            for question in &questions {
                client.batch_execute(&format!("begin; {role}")).await.unwrap();
                if let Some(claims) = claims {
                    client
                        .query_one("select set_config('request.jwt.claims', $1, true)", &[claims])
                        .await
                        .unwrap();
                }
                match client.query(question.as_str(), &[]).await {
                    Ok(found) => {
                        // Of its own it sees something, whatever is asked, but for what names another.
                        assert!(
                            tenant.is_none() || !found.is_empty() || question.contains(&b.to_string()),
                            "{claims:?}: {question}"
                        );
                        for row in &found {
                            assert_eq!(row.get::<_, Option<Uuid>>(0), *tenant, "{claims:?}: {question}");
                        }
                        assert!(tenant.is_some() || found.is_empty(), "{claims:?}: {question}");
                    }
                    // Claims that are no JSON, and a division by zero in the tenant's own rows.
                    Err(error) => {
                        let code = error.code().unwrap().clone();
                        let own = *tenant == Some(b) && code == SqlState::DIVISION_BY_ZERO;
                        assert!(
                            own || code == SqlState::INVALID_TEXT_REPRESENTATION,
                            "{claims:?}: {question}: {error:?}"
                        );
                    }
                }
                // A failed transaction has nothing to tell.
                for row in client.query("select tenant from heard", &[]).await.unwrap_or_default() {
                    assert_eq!(row.get::<_, Option<Uuid>>(0), *tenant, "told: {claims:?}: {question}");
                    told += 1;
                }
                client.batch_execute("rollback").await.unwrap();
                tried += 1;
            }
        }
    }
    assert!(told > 0, "the function was never called");
    tried += nothing_else(&client).await;
    // After a SET LOCAL the setting reads as an empty string: a connection that carried claims once shows nothing.
    let after = client.query("select 1 from enrichment_events", &[]).await.unwrap();
    assert!(after.is_empty());
    println!(
        "{tried} statements as authenticated with {} kinds of claims: no statement returned another tenant's rows",
        claims.len()
    );
    drop(client);
    env.drop_login(&login).await;
}

/// Readers read: they do not write, ask about event_ids, or look at statistics.
async fn nothing_else(client: &Client) -> usize {
    let forbidden = [
        "insert into enrichment_events (event_id, event_type, bom_id, tenant_id, source) values ('x', 'x', gen_random_uuid(), gen_random_uuid(), 'customer')",
        "update enrichment_events set payload = '{}'",
        "delete from enrichment_events",
        "truncate enrichment_events",
        "select enrichment_events_lookup(array['x'])",
        "select enrichment_events_lookup(array['x'], array[gen_random_uuid()])",
        "select enrichment_event_digest('', null, null, null, null, null, null, null, null, null)",
        "alter table enrichment_events disable row level security",
        "drop policy \"Users can view own org enrichment events\" on enrichment_events",
        "create policy everything on enrichment_events for select using (true)",
        "set role service_role",
        "copy enrichment_events from stdin",
        "create trigger t before insert on enrichment_events for each row execute function suppress_redundant_updates_trigger()",
        "set local row_security = off; select 1 from enrichment_events",
        "select 1 from enrichment_events for update",
    ];
    for statement in forbidden {
        let begun = format!("begin; {statement}");
        let error = client.batch_execute(&begun).await.expect_err(statement);
        assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{statement}: {error:?}");
        client.batch_execute("rollback").await.unwrap();
    }
    let statistics =
        client.query("select 1 from pg_stats where tablename = 'enrichment_events'", &[]).await.unwrap();
    assert!(statistics.is_empty(), "the commonest values would tell of every tenant");
    forbidden.len() + 1
}

/// A role that may create objects in the schema cannot take the place of what the lookup calls: it runs with its owner's rights.
#[tokio::test(flavor = "multi_thread")]
async fn the_lookup_cannot_be_shadowed() {
    let env = TestEnv::new("shadow").await;
    let (attacker, url) = env.login("").await;
    env.sql.batch_execute(&format!("grant create, usage on schema public to {attacker}")).await.unwrap();
    let mine = crate::env::connect(&url).await;
    let body = "returns text language plpgsql as $$ begin insert into public.stolen values ($10::text); return ''; end $$";
    mine.batch_execute(&format!(
        "create table public.stolen (payload text); grant insert on public.stolen to public;
         create function public.enrichment_event_digest(varchar, uuid, uuid, text, uuid, uuid, varchar, varchar, jsonb, jsonb) {body};
         create function public.unnest(text[]) returns setof text language sql as 'select null::text from public.stolen';
         create function public.set_config(text, text, boolean) returns text language sql as 'select null::text';
         create function public.same(varchar, text) returns boolean language sql as 'select true';
         create operator public.= (leftarg = varchar, rightarg = text, function = public.same)"
    ))
    .await
    .unwrap();
    let worker = env.worker().await;
    env.publish(event("secret").as_bytes()).await;
    eventually("it is stored", async || env.rows().await == 1).await;
    env.publish(event("secret").as_bytes()).await;
    eventually("it is a duplicate", async || worker.metric_value("cns_events_duplicates_total") == 1.0).await;
    for arguments in ["array['secret']", "array['secret'], array[gen_random_uuid()]"] {
        let looked_up = format!("select count(*) from enrichment_events_lookup({arguments})");
        assert_eq!(env.number(&looked_up).await, 1, "{arguments}");
    }
    assert_eq!(env.number("select count(*) from public.stolen").await, 0);
    let doctor = env.command().args(["doctor", "--json"]).output().unwrap();
    let text = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(text.contains("may create objects in the table's schema"), "{text}");
    drop(worker);
    env.sql.batch_execute(&format!("drop owned by {attacker} cascade")).await.unwrap();
    env.drop_login(&attacker).await;
}

/// The worker inserts and asks about event_ids that it names, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_login_cannot_read_events() {
    let env = TestEnv::new("workerrole").await;
    Rows::fill(&env).await;
    let (login, url) = env.login("in role service_role").await;
    let client = connect(&url).await;
    let columns = env.sql.query("select attname::text from pg_attribute where attrelid = 'enrichment_events'::regclass and attnum > 0", &[]).await.unwrap();
    for column in
        columns.iter().map(|row| row.get::<_, String>(0)).chain(["*".into(), "count(*)".into(), "1".into()])
    {
        for role in ["", "set local role service_role;"] {
            let select = format!("begin; {role} select {column} from enrichment_events");
            let error = client.batch_execute(&select).await.expect_err(&select);
            assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{select}");
            client.batch_execute("rollback").await.unwrap();
        }
    }
    for statement in [
        "update enrichment_events set payload = '{}'",
        "delete from enrichment_events",
        "truncate enrichment_events",
        "insert into enrichment_events (event_id, event_type, bom_id, tenant_id, source) values ('x', 'x', gen_random_uuid(), gen_random_uuid(), 'customer') returning payload",
        "set role authenticated",
        "copy enrichment_events to stdout",
    ] {
        let error = client.batch_execute(statement).await.expect_err(statement);
        assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{statement}: {error:?}");
    }
    drop(client);
    env.drop_login(&login).await;
}

/// The worker's login needs to be a member of service_role and nothing else, and can read nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_login_needs_insert_and_lookup_only() {
    let env = TestEnv::new("least").await;
    let (login, url) = env.login("in role service_role").await;
    let worker = env.start(|command| {
        command.env("CNS_EVENTS__DATABASE__URL", &url);
    });
    worker.ready().await;
    env.publish_all(&[event("a"), event("b"), event("a"), event("b").replace("org-1", "org-2")]).await;
    eventually("all are counted", async || worker.metric_value("cns_events_duplicates_total") == 2.0).await;
    assert_eq!(worker.metric_value("cns_events_conflicts_total"), 1.0);
    assert_eq!(env.rows().await, 2);
    let own = crate::env::connect(&url).await;
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
    env.drop_login(&login).await;
}

/// Tenants are kept apart by the database: with claims, with none, and with empty ones.
#[tokio::test(flavor = "multi_thread")]
async fn tenants_see_their_own_rows_only() {
    let env = TestEnv::new("tenants").await;
    let worker = env.worker().await;
    let (a, b) = ("6f9619ff-8b86-4d01-b42d-00cf4fc964aa", "6f9619ff-8b86-4d01-b42d-00cf4fc964bb");
    env.publish_all(&[event("a").replace("org-1", a), event("b").replace("org-1", b)]).await;
    eventually("both are stored", async || env.rows().await == 2).await;
    drop(worker);
    let ids = async |claims: &str| {
        let begin = format!("begin; set local role authenticated; set local request.jwt.claims = '{claims}'");
        env.sql.batch_execute(&begin).await.unwrap();
        let rows = env.sql.query("select event_id from enrichment_events", &[]).await.unwrap();
        env.sql.batch_execute("rollback").await.unwrap();
        rows.iter().map(|row| row.get(0)).collect::<Vec<String>>()
    };
    assert_eq!(ids(&format!(r#"{{"tenant_id":"{a}"}}"#)).await, ["a"]);
    assert_eq!(ids(&format!(r#"{{"app_metadata":{{"tenant_id":"{b}"}}}}"#)).await, ["b"]);
    for unknown in [
        "",
        "{}",
        r#"{"tenant_id":""}"#,
        r#"{"tenant_id":"*"}"#,
        r#"{"user_metadata":{"tenant_id":"6f9619ff-8b86-4d01-b42d-00cf4fc964aa"}}"#,
    ] {
        assert_eq!(ids(unknown).await, Vec::<String>::new(), "{unknown}");
    }
}
