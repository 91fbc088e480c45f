//! Latency of the read API: 1,000,000 rows, 200 requests a second, each endpoint alone and all of them together.
//!
//!     make reading                                             # about three minutes, most of them for the rows
//!     cargo bench --bench read -- --rows 100000 --seconds 5 --json
//!
//! Needs AMQP_URL and DATABASE_URL (`make -s env`) and a login that may create databases and roles. The API runs as its own
//! process, with its default configuration but for the rate limit (the large BOM is one tenant's) and a login that is a member
//! of `authenticated` and of nothing else. Requests come at fixed times, whether responses have come or not, and a request's
//! time is counted from when it was due. Broker and worker are idle.

#![allow(
    unreachable_pub,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic
)]

#[path = "../tests/env/mod.rs"]
mod env;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, mpsc};
use tokio::time::Instant;
use uuid::Uuid;

use env::TestEnv;
use env::api_server::ApiServer;
use env::tokens::{Issuer, claims};

/// Latency of the read API
#[derive(Parser)]
struct Options {
    /// Rows in the table
    #[arg(long, default_value_t = 1_000_000)]
    rows: u32,
    /// Rows of a BOM and its workflow; of the first there are more: one of a hundred of all
    #[arg(long, default_value_t = 250)]
    bom_rows: u32,
    /// Requests a second
    #[arg(long, default_value_t = 200)]
    rate: u32,
    /// Seconds of load on each endpoint
    #[arg(long, default_value_t = 20)]
    seconds: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Added by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

/// The BOM and the path of a request, by its number.
type Ask = Arc<dyn Fn(u32) -> (u32, String) + Send + Sync>;

const TENANTS: u32 = 40;

/// HTTP connections, as a balancer would keep them.
const CONNECTIONS: usize = 32;

/// About 760 bytes a row; types and errors as a workflow has them; all of the last 24 hours.
const FILL: &str = "
    create function pg_temp.scattered(n bigint) returns uuid language sql immutable as $$
        select (lpad(to_hex(n * 2654435761 % 4294967296), 8, '0') || '-0000-4000-8000-' || lpad(to_hex(n), 12, '0'))::uuid
    $$;
    insert into enrichment_events (event_id, event_type, routing_key, bom_id, tenant_id, organization_id, source, workflow_id,
        state, payload, created_at)
    select n::text, kind, 'cns.' || replace(kind, '_', '.'), pg_temp.scattered(bom), pg_temp.scattered(bom % TENANTS),
        'org-' || bom % TENANTS, 'customer', 'enrich-bom-' || bom,
        jsonb_build_object('status', 'running', 'current_stage', 'enrichment', 'total_items', 500, 'completed_items', n % 500,
            'failed_items', 3, 'percent', n % 100),
        jsonb_build_object('mpn', 'C' || part, 'status', 'matched', 'confidence', (n % 1000) / 1000.0, 'supplier', 'DigiKey',
            'error_message', case when kind = 'error' then 'price lookup timed out' end,
            'match_details', jsonb_build_object('manufacturer', 'Maker ' || part % 300, 'description', 'Capacitor ' || part ||
                ' nF 50 V X7R, automotive grade', 'lifecycle', 'active', 'stock', n::bigint * 7919 % 1000000, 'price', n % 90)),
        now() - make_interval(secs => (n::bigint * 7919 % 86400000) / 1000.0)
    from (select n, n::bigint * 7919 % 50000 as part,
            case when n % 100 = 0 then 0 else n / BOM_ROWS end as bom,
            case when n % 200 = 7 then 'error' when n % 50 = 1 then 'risk_alert' else 'enrichment_progress' end as kind
        from generate_series(1, ROWS) n) as events";

#[tokio::main]
async fn main() {
    let options = Options::parse();
    let env = ReadEnv::new(&options).await;
    let boms = options.rows / options.bom_rows;
    let bom = move |n: u32| (n.wrapping_mul(2_654_435_761) >> 7) % boms;
    let ask: [(&'static str, Ask); 9] = [
        ("boms", Arc::new(move |n| (bom(n), format!("/v1/boms/{}/events", scattered(bom(n)))))),
        (
            "boms, some types",
            Arc::new(move |n| {
                (bom(n), format!("/v1/boms/{}/events?type=risk_alert,error", scattered(bom(n))))
            }),
        ),
        ("workflows", Arc::new(move |n| (bom(n), format!("/v1/workflows/enrich-bom-{}/events", bom(n))))),
        ("a large bom", Arc::new(|_| (0, format!("/v1/boms/{}/events", scattered(0))))),
        ("errors", Arc::new(move |n| (bom(n), "/v1/errors".to_owned()))),
        ("list of workflows", Arc::new(move |n| (bom(n), "/v1/workflows".to_owned()))),
        ("running workflows", Arc::new(move |n| (bom(n), "/v1/workflows?status=running".to_owned()))),
        ("one workflow", Arc::new(move |n| (bom(n), format!("/v1/workflows/enrich-bom-{}", bom(n))))),
        ("summary by day", Arc::new(move |n| (bom(n), "/v1/summary?step=day".to_owned()))),
    ];
    let mut figures = Vec::new();
    for (name, ask) in ask.clone() {
        figures.push(env.load(name, &options, ask).await);
    }
    let all = ask.map(|(_, ask)| ask);
    figures.push(env.load("all together", &options, Arc::new(move |n| all[n as usize % all.len()](n))).await);
    env.tear_down().await;
    if options.json {
        let rows: Vec<Value> = figures.iter().map(Figures::json).collect();
        println!("{}", json!({"rows": options.rows, "requests_per_second": options.rate, "endpoints": rows}));
    } else {
        println!("{} rows, {} requests/s, latencies in ms", options.rows, options.rate);
        println!(
            "{:<18}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}",
            "endpoint", "requests", "events", "p50", "p99", "p99.9", "most"
        );
        figures.iter().for_each(Figures::print);
    }
}

/// Figures of one load.
struct Figures {
    name: &'static str,
    requests: usize,
    events_per_answer: f64,
    /// Sorted, in milliseconds.
    latencies: Vec<f64>,
}

impl Figures {
    fn quantile(&self, of: f64) -> f64 {
        self.latencies[((self.latencies.len() - 1) as f64 * of).round() as usize]
    }

    fn print(&self) {
        let [p50, p99, p999, most] = [0.5, 0.99, 0.999, 1.0].map(|of| self.quantile(of));
        println!(
            "{:<18}{:>9}{:>9.1}{p50:>9.1}{p99:>9.1}{p999:>9.1}{most:>9.1}",
            self.name, self.requests, self.events_per_answer
        );
    }

    fn json(&self) -> Value {
        let [p50, p99, p999, most] = [0.5, 0.99, 0.999, 1.0].map(|of| self.quantile(of));
        json!({"endpoint": self.name, "requests": self.requests, "events_per_answer": self.events_per_answer,
            "p50_ms": p50, "p99_ms": p99, "p999_ms": p999, "most_ms": most})
    }
}

/// A database with its rows, and the API that reads it.
struct ReadEnv {
    env: TestEnv,
    login: String,
    api: ApiServer,
    tokens: Vec<String>,
}

impl ReadEnv {
    async fn new(options: &Options) -> ReadEnv {
        let env = TestEnv::new("read").await;
        let fill =
            FILL.replace("TENANTS", &TENANTS.to_string()).replace("BOM_ROWS", &options.bom_rows.to_string());
        env.sql.batch_execute(&fill.replace("ROWS", &options.rows.to_string())).await.unwrap();
        let summed = env.command().args(["aggregate", "--once"]).status().unwrap();
        assert!(summed.success(), "the summaries are filled");
        for step in [
            "vacuum analyze enrichment_events",
            "vacuum analyze workflow_runs",
            "vacuum analyze event_counts",
            "checkpoint",
        ] {
            env.sql.batch_execute(step).await.unwrap();
        }
        let (login, reader) = env.login("in role authenticated").await;
        let api = ApiServer::start(&env, |command| {
            command.env("CNS_EVENTS__DATABASE__URL", reader).env("CNS_EVENTS__API__RATE_LIMIT", "0");
        })
        .await;
        let tokens = (0..TENANTS).map(|tenant| token(scattered(tenant))).collect();
        ReadEnv { env, login, api, tokens }
    }

    /// Asks at fixed times; every third answer's next page is asked for too, in its own turn.
    async fn load(&self, name: &'static str, options: &Options, ask: Ask) -> Figures {
        let (due, waiting) =
            mpsc::channel::<(Instant, u32)>(options.rate as usize * options.seconds as usize);
        let (waiting, next) = (Arc::new(Mutex::new(waiting)), Arc::new(Mutex::new(Vec::new())));
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            let (waiting, next, ask) = (waiting.clone(), next.clone(), ask.clone());
            let (tokens, mut connection) =
                (self.tokens.clone(), Connection::open(self.api.address).await.unwrap());
            clients.push(tokio::spawn(async move {
                let (mut latencies, mut events) = (Vec::new(), 0);
                loop {
                    let Some((due, n)) = waiting.lock().await.recv().await else {
                        return (latencies, events);
                    };
                    let older: Option<(u32, String)> = next.lock().await.pop();
                    let (bom, path) = older.filter(|_| n % 3 == 0).unwrap_or_else(|| ask(n));
                    let (status, body) =
                        connection.get(&path, &tokens[(bom % TENANTS) as usize]).await.unwrap();
                    latencies.push(due.elapsed().as_secs_f64() * 1e3);
                    assert_eq!(status, 200, "{path}: {}", String::from_utf8_lossy(&body));
                    let answer: Value = serde_json::from_slice(&body).unwrap();
                    let lists = ["events", "workflows", "runs", "steps"].map(|name| answer[name].as_array());
                    events += lists.into_iter().flatten().next().map_or(0, Vec::len);
                    if let Some(cursor) = answer["next_cursor"].as_str() {
                        let plain = path.split("cursor=").next().unwrap().trim_end_matches(['?', '&']);
                        let joint = if plain.contains('?') { '&' } else { '?' };
                        next.lock().await.push((bom, format!("{plain}{joint}cursor={cursor}")));
                    }
                }
            }));
        }
        let (start, period) = (Instant::now(), Duration::from_secs(1) / options.rate);
        for n in 0..options.rate * options.seconds {
            tokio::time::sleep_until(start + period * n).await; // the rate of the load
            due.send((start + period * n, n)).await.unwrap();
        }
        drop(due);
        let (mut latencies, mut events) = (Vec::new(), 0);
        for client in clients {
            let (took, found) = client.await.unwrap();
            latencies.extend(took);
            events += found;
        }
        latencies.sort_by(f64::total_cmp);
        let requests = latencies.len();
        Figures { name, requests, events_per_answer: events as f64 / requests as f64, latencies }
    }

    async fn tear_down(self) {
        drop(self.api);
        self.env.drop_login(&self.login).await;
    }
}

/// One HTTP connection that is kept.
struct Connection(BufReader<TcpStream>);

impl Connection {
    async fn open(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Connection(BufReader::new(stream)))
    }

    async fn get(&mut self, path: &str, token: &str) -> std::io::Result<(u16, Vec<u8>)> {
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n");
        self.0.get_mut().write_all(request.as_bytes()).await?;
        let (mut status, mut length, mut line) = (0, 0, String::new());
        loop {
            line.clear();
            self.0.read_line(&mut line).await?;
            let header = line.trim_end().to_ascii_lowercase();
            if let Some(code) = header.strip_prefix("http/1.1 ") {
                status = code[..3].parse().unwrap_or_default();
            } else if let Some(bytes) = header.strip_prefix("content-length: ") {
                length = bytes.parse().unwrap_or_default();
            } else if header.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await?;
        Ok((status, body))
    }
}

/// Returns a token that is valid longer than the longest run.
fn token(tenant: Uuid) -> String {
    let mut claims = claims(tenant);
    claims["exp"] = (chrono::Utc::now().timestamp() + 86_400).into();
    Issuer::new().good("HS256", &claims)
}

/// As the database's function of that name.
fn scattered(n: u32) -> Uuid {
    let first = (u64::from(n) * 2_654_435_761 % 4_294_967_296) as u32;
    Uuid::from_fields(
        first,
        0,
        0x4000,
        &[0x80, 0, 0, 0, (n >> 24) as u8, (n >> 16) as u8, (n >> 8) as u8, n as u8],
    )
}
