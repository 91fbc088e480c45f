//! A pair of servers that may be killed, and the relays in front of them.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;

use crate::env::relay::Relay;
use crate::env::services::{FOLDER_VARIABLE, Services};
use crate::env::{TestEnv, amqp_url};

/// Environment variable that marks the run that has servers of its own.
pub const AGAIN: &str = "CNS_EVENTS_TORTURE";

/// Starts a pair of servers, runs this program again with their URLs, and stops them. Returns its exit code.
pub fn with_own() -> i32 {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("torture-servers");
    let _ = std::fs::remove_dir_all(&folder);
    let services = Services::start(folder.clone(), None);
    let mut again = Command::new(std::env::current_exe().unwrap());
    again.env(FOLDER_VARIABLE, &folder).env(AGAIN, "1").envs(services.urls());
    let code = again.status().unwrap().code().unwrap_or(1);
    drop(services);
    if code == 0 {
        let _ = std::fs::remove_dir_all(&folder);
    }
    code
}

/// The servers of this run, and the relays in front of them.
pub struct Servers {
    services: Services,
    pub broker: Arc<Relay>,
    pub database: Arc<Relay>,
}

impl Servers {
    pub async fn new(env: &TestEnv) -> Self {
        let (broker, database) = (Relay::before(&amqp_url()).await, Relay::before(&env.database_url).await);
        broker.open().await;
        database.open().await;
        let folder = std::env::var_os(FOLDER_VARIABLE).expect("this run has servers of its own");
        Servers { services: Services::running(folder.into()), broker, database }
    }

    /// Sends a signal to PostgreSQL's postmaster.
    pub fn signal_database(&self, signal: &str) {
        kill(signal, self.services.database_pid().unwrap());
    }

    /// Sends a signal to RabbitMQ.
    pub fn signal_broker(&self, signal: &str) {
        kill(signal, self.services.broker_pid().unwrap());
    }

    /// Starts what does not run, and waits until both answer.
    pub async fn start(&self) {
        self.script(&["start"]).await;
    }

    pub async fn rabbitmqctl(&self, arguments: &[&str]) {
        self.script(&[&["rabbitmqctl", "-q"], arguments].concat()).await;
    }

    async fn script(&self, arguments: &[&str]) {
        let mut command = self.services.script(arguments[0]);
        command.args(&arguments[1..]).stdout(Stdio::null());
        let status = tokio::task::spawn_blocking(move || command.status().unwrap()).await.unwrap();
        assert!(status.success(), "scripts/services {arguments:?}");
    }
}

/// Sends a signal and waits until the process has ended: a signal is not an end.
fn kill(signal: &str, pid: u32) {
    Command::new("kill").args([signal, &pid.to_string()]).status().unwrap();
    let running = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        stat.is_ok_and(|stat| !stat.contains(") Z "))
    };
    while running() {
        std::thread::yield_now();
    }
}
