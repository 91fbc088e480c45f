//! Behind PgBouncer in transaction mode: each transaction may run on another server connection. Needs `pgbouncer`
//! (`scripts/services install pgbouncer`); without it there is nothing to show.

use std::process::{Child, Command, Stdio};

use std::time::Duration;

use cns_events::store::DatabaseEndpoint;
use cns_events::store::read::{AccessScope, Query, Reader};
use uuid::Uuid;

use crate::env::{TestEnv, event, eventually, header};

struct Pooler {
    child: Child,
    url: String,
    _folder: tempfile::TempDir,
}

impl Pooler {
    /// Starts PgBouncer in front of the test's database, with two server connections in all.
    fn start(env: &TestEnv) -> Option<Pooler> {
        let folder = tempfile::tempdir().unwrap();
        let server = url::Url::parse(&env.database_url).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let log = folder.path().join("pgbouncer.log");
        let ini = folder.path().join("pgbouncer.ini");
        let settings = format!(
            "[databases]\n* = host={} port={} user={} password={}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
             pool_mode = transaction\ndefault_pool_size = 2\nmax_client_conn = 100\nlogfile = {}\n",
            server.host_str().unwrap(),
            server.port().unwrap_or(5432),
            server.username(),
            server.password().unwrap_or_default(),
            log.display(),
        );
        std::fs::write(&ini, settings).unwrap();
        let root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
        let mut command = Command::new("pgbouncer");
        if root {
            // It refuses root, and as another user has to reach its files.
            Command::new("chmod").args(["-R", "a+rwX"]).arg(folder.path()).status().unwrap();
            command.args(["-u", "nobody"]);
        }
        let child = command.arg("-q").arg(&ini).stderr(Stdio::null()).spawn().ok()?;
        let mut url = server.clone();
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(port)).unwrap();
        Some(Pooler { child, url: url.to_string(), _folder: folder })
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_run_behind_pgbouncer() {
    const EVENTS: usize = 3000;
    let env = TestEnv::new("pooler").await;
    let Some(pooler) = Pooler::start(&env) else {
        eprintln!("pgbouncer is not installed: `scripts/services install pgbouncer`; nothing was shown");
        return;
    };
    env.declare().await;
    let mut bodies: Vec<String> = (0..EVENTS).map(|number| event(&format!("e{number}"))).collect();
    bodies.extend_from_within(..500);
    bodies.push(event("e7").replace("parts", "other"));
    env.publish_all(&bodies).await;
    env.publish(b"not json").await;
    let start = || {
        env.start(|command| {
            command
                .env("CNS_EVENTS__DATABASE__URL", &pooler.url)
                .env("CNS_EVENTS__DATABASE__PREPARED_STATEMENTS", "false")
                .env("CNS_EVENTS__WORKER__BATCH_SIZE", "100");
        })
    };
    let workers = [start(), start()];
    for worker in &workers {
        worker.ready().await;
    }
    eventually("all are stored", async || env.rows().await == EVENTS as i64).await;
    let sum = |name: &str| workers.iter().map(|worker| worker.metric_value(name)).sum::<f64>();
    eventually("all is settled", async || sum("cns_events_in_flight") == 0.0).await;
    assert_eq!(sum("cns_events_duplicates_total"), 501.0);
    assert_eq!(sum("cns_events_conflicts_total"), 1.0);
    assert_eq!(header(&env.dead_letter().await, "x-cns-reason").as_deref(), Some("malformed_json"));
    for reason in ["session", "operator", "connection"] {
        assert_eq!(sum(&format!(r#"cns_events_store_retries_total{{reason="{reason}"}}"#)), 0.0, "{reason}");
    }
    // Looking works through it as well, and says so.
    let output = env
        .command()
        .env("CNS_EVENTS__DATABASE__URL", &pooler.url)
        .env("CNS_EVENTS__DATABASE__PREPARED_STATEMENTS", "false")
        .arg("doctor")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// Readers of two tenants share the pooler's two connections, and each sees its own.
#[tokio::test(flavor = "multi_thread")]
async fn readers_run_behind_pgbouncer() {
    let env = TestEnv::new("poolread").await;
    let Some(pooler) = Pooler::start(&env) else {
        eprintln!("pgbouncer is not installed: `scripts/services install pgbouncer`; nothing was shown");
        return;
    };
    let tenants = [Uuid::new_v4(), Uuid::new_v4()];
    for tenant in tenants {
        let insert = "insert into enrichment_events (event_id, event_type, bom_id, tenant_id, source) \
                      select gen_random_uuid(), 'error', $1, $1, 'customer' from generate_series(1, 20)";
        env.sql.execute(insert, &[&tenant]).await.unwrap();
    }
    let reader = Reader::new(DatabaseEndpoint::from_url(&pooler.url).unwrap(), 6, Duration::from_secs(20));
    eventually("the pooler answers", async || {
        reader.sees_any_event(&AccessScope::tenant(tenants[0])).await.is_ok()
    })
    .await;
    let mut readers = Vec::new();
    for n in 0..6 {
        let (reader, tenant) = (reader.clone(), tenants[n % 2]);
        readers.push(tokio::spawn(async move {
            for _ in 0..50 {
                let query = Query::recent_errors(None, None, None).unwrap();
                let events = reader.page(&AccessScope::tenant(tenant), &query).await.unwrap().events;
                assert_eq!(events.len(), 20);
                assert!(events.iter().all(|event| event.tenant_id == tenant));
            }
        }));
    }
    for reader in readers {
        reader.await.unwrap();
    }
}
