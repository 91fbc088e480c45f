//! The machine and the servers of the measurement: figures of other machines cannot be compared with these.

use std::process::Command;

use serde_json::{Value, json};

use crate::bench_env::BenchEnv;
use crate::env::connect;

/// Settings of the database that decide about speed or durability.
const SETTINGS: [&str; 10] = [
    "synchronous_commit",
    "fsync",
    "full_page_writes",
    "wal_level",
    "wal_compression",
    "shared_buffers",
    "max_wal_size",
    "checkpoint_timeout",
    "work_mem",
    "gin_pending_list_limit",
];

pub async fn describe(env: &BenchEnv) -> Value {
    let client = connect(&env.database_url).await;
    let mut settings = serde_json::Map::new();
    for name in SETTINGS {
        let value: String = client.query_one(&format!("show {name}"), &[]).await.unwrap().get(0);
        settings.insert(name.to_owned(), value.into());
    }
    let database: String = client.query_one("show server_version", &[]).await.unwrap().get(0);
    let first = |file: &str, name: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.split_once(':'));
        value.map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
    };
    let memory: f64 = first("/proc/meminfo", "MemTotal").trim_end_matches(" kB").parse().unwrap_or_default();
    json!({
        "date": chrono::Utc::now().date_naive(),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "processor": first("/proc/cpuinfo", "model name"),
        "memory_gib": (memory / 1_048_576.0).round(),
        "system": said("uname", &["-sr"]),
        "cns_events": said(env!("CARGO_BIN_EXE_cns-events"), &["--version"]),
        "postgresql": database,
        "rabbitmq": said("scripts/services", &["rabbitmqctl", "-q", "version"]),
        "python": said("python3", &["--version"]),
        "postgresql_settings": settings,
        "table": "of the migrations, with all its indexes; the worker's insert sets gin_pending_list_limit and work_mem for itself; autovacuum off while measuring, vacuum and checkpoint between",
    })
}

/// The last line that a command printed.
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.trim().lines().last().unwrap_or_default().to_owned()
}
