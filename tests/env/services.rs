//! The servers that tests run against: those of the environment, and pairs that `scripts/services` starts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Environment variable that names the folder of a pair of servers to `scripts/services`.
pub const FOLDER_VARIABLE: &str = "CNS_EVENTS_SERVICES_DIR";

/// Returns the URL of the broker under test.
pub fn amqp_url() -> String {
    std::env::var("AMQP_URL").expect("AMQP_URL is not set: run the tests by `make test`")
}

/// Returns the URL of the database server under test.
pub fn database_url() -> String {
    std::env::var("DATABASE_URL").expect("DATABASE_URL is not set: run the tests by `make test`")
}

/// Returns the URL of another database on the same server.
pub fn on_database(url: &str, name: &str) -> String {
    let mut url = url::Url::parse(url).expect("DATABASE_URL is a URL");
    url.set_path(name);
    url.into()
}

/// Returns true if the broker under test is the private one, on which a test may raise alarms.
pub fn servers_are_private() -> bool {
    let Ok(url) = std::env::var("AMQP_URL") else { return true };
    Services::private().urls().get("AMQP_URL") == Some(&url)
}

/// A pair of servers of `scripts/services`.
pub struct Services {
    folder: Option<PathBuf>,
    tls: Option<PathBuf>,
    stop_on_drop: bool,
}

impl Services {
    /// Returns the private pair that `make test` starts.
    pub fn private() -> Services {
        Services { folder: None, tls: None, stop_on_drop: false }
    }

    /// Returns the running pair in this folder.
    pub fn running(folder: PathBuf) -> Services {
        Services { folder: Some(folder), tls: None, stop_on_drop: false }
    }

    /// Starts a pair with its data in this folder, with the TLS files of `tls` if any. It stops when it is dropped.
    pub fn start(folder: PathBuf, tls: Option<PathBuf>) -> Services {
        let services = Services { folder: Some(folder), tls, stop_on_drop: true };
        let started = services.script("start").status().unwrap().success();
        assert!(started, "scripts/services cannot start servers in {}", services.folder().display());
        services
    }

    /// Returns the folder of the pair's data.
    pub fn folder(&self) -> &Path {
        self.folder.as_deref().expect("the private pair's folder is chosen by scripts/services")
    }

    /// Returns what `scripts/services env` exports, by name.
    pub fn urls(&self) -> BTreeMap<String, String> {
        let output = self.script("env").output().unwrap();
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter_map(|line| line.strip_prefix("export ")?.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.replace('\\', "")))
            .collect()
    }

    /// Returns `scripts/services ACTION` for this pair.
    pub fn script(&self, action: &str) -> Command {
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/services"));
        command.arg(action).env_remove("AMQP_URL").env_remove("DATABASE_URL");
        if let Some(folder) = &self.folder {
            command.env(FOLDER_VARIABLE, folder);
        }
        if let Some(tls) = &self.tls {
            command.env("CNS_EVENTS_SERVICES_TLS", tls);
        }
        command
    }

    /// Returns the process id of the broker.
    pub fn broker_pid(&self) -> Option<u32> {
        self.pid("rabbitmq/pid")
    }

    /// Returns the process id of PostgreSQL's postmaster.
    pub fn database_pid(&self) -> Option<u32> {
        self.pid("postgres/postmaster.pid")
    }

    fn pid(&self, file: &str) -> Option<u32> {
        let text = std::fs::read_to_string(self.folder().join(file)).ok()?;
        text.lines().next()?.trim().parse().ok()
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        if self.stop_on_drop {
            let _ = self.script("stop").status();
        }
    }
}
