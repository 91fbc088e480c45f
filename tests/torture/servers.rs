//! A pair of servers that may be killed, and the relays in front of them.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use crate::env::relay::Relay;
use crate::env::{TestEnv, amqp_url};

/// Names the folder of the servers to `scripts/services`.
const OWN: &str = "CNS_EVENTS_SERVICES_DIR";

/// Set in the environment of the run that has servers of its own.
pub const AGAIN: &str = "CNS_EVENTS_TORTURE";

/// Starts a pair of servers, runs this program again with their URLs, and stops them. Returns its exit code.
pub fn with_own() -> i32 {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("torture-servers");
    let _ = std::fs::remove_dir_all(&folder);
    let services = |action: &str| {
        let mut command = Command::new("scripts/services");
        command.arg(action).env(OWN, &folder).env_remove("AMQP_URL").env_remove("DATABASE_URL");
        command
    };
    if !services("start").status().unwrap().success() {
        eprintln!("torture: there are no servers to torture");
        return 1;
    }
    let lines = String::from_utf8(services("env").output().unwrap().stdout).unwrap();
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.env(OWN, &folder).env(AGAIN, "1");
    for line in lines.lines() {
        let (name, value) = line.trim_start_matches("export ").split_once('=').unwrap();
        again.env(name, value.replace('\\', ""));
    }
    let code = again.status().unwrap().code().unwrap_or(1);
    let _ = services("stop").status();
    if code == 0 {
        let _ = std::fs::remove_dir_all(&folder);
    }
    code
}

/// The servers, as faults want them.
pub struct Servers {
    folder: PathBuf,
    pub broker: Arc<Relay>,
    pub database: Arc<Relay>,
}

impl Servers {
    pub async fn new(env: &TestEnv) -> Self {
        let (broker, database) = (Relay::before(&amqp_url()).await, Relay::before(&env.database_url).await);
        broker.open().await;
        database.open().await;
        Servers { folder: std::env::var_os(OWN).unwrap().into(), broker, database }
    }

    /// Sends a signal to PostgreSQL's postmaster.
    pub fn signal_database(&self, signal: &str) {
        kill(signal, &self.folder.join("postgres/postmaster.pid"));
    }

    /// Sends a signal to RabbitMQ.
    pub fn signal_broker(&self, signal: &str) {
        kill(signal, &self.folder.join("rabbitmq/pid"));
    }

    /// Starts what does not run, and waits until both answer.
    pub async fn start(&self) {
        self.script(&["start"]).await;
    }

    pub async fn rabbitmqctl(&self, arguments: &[&str]) {
        self.script(&[&["rabbitmqctl", "-q"], arguments].concat()).await;
    }

    async fn script(&self, arguments: &[&str]) {
        let mut command = Command::new("scripts/services");
        command.args(arguments).env(OWN, &self.folder).env_remove("AMQP_URL").env_remove("DATABASE_URL");
        command.stdout(Stdio::null());
        let status = tokio::task::spawn_blocking(move || command.status().unwrap()).await.unwrap();
        assert!(status.success(), "scripts/services {arguments:?}");
    }
}

/// Ends when the process has: a signal is not an end.
fn kill(signal: &str, pid_file: &std::path::Path) {
    let text = std::fs::read_to_string(pid_file).unwrap();
    let pid = text.lines().next().unwrap().trim().to_owned();
    Command::new("kill").args([signal, &pid]).status().unwrap();
    let running = || std::path::Path::new("/proc").join(&pid).join("stat").exists();
    while running() && !zombie(&pid) {
        std::thread::yield_now();
    }
}

fn zombie(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| stat.contains(") Z "))
}
