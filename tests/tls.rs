//! TLS to both servers, with an authority, a server certificate and a client certificate made here: what is right works, and
//! nothing that does not verify does. The servers are a pair of this test's own.

#![allow(
    unreachable_pub,
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout
)]

#[path = "env/mod.rs"]
mod env;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::Value;

use env::services::Services;

/// The pair of servers, and the folder with everything that was made for it.
struct Servers {
    folder: PathBuf,
    urls: BTreeMap<String, String>,
    /// Stops them when it is dropped.
    _services: Services,
}

impl Servers {
    /// The server's certificate is for `localhost`, and for nothing else: 127.0.0.1 is a wrong name.
    fn start() -> Servers {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tls-servers");
        let _ = std::fs::remove_dir_all(&folder);
        let tls = folder.join("tls");
        std::fs::create_dir_all(&tls).unwrap();
        let ca = authority("cns-events test");
        let write = |name: &str, text: String| std::fs::write(tls.join(name), text).unwrap();
        write("ca.pem", ca.pem());
        write("other-ca.pem", authority("another authority").pem());
        for (name, subject) in [("server", "localhost"), ("client", "worker.example")] {
            let key = KeyPair::generate().unwrap();
            let certificate =
                CertificateParams::new([subject.to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
            write(&format!("{name}.pem"), certificate.pem());
            write(&format!("{name}.key"), key.serialize_pem());
        }
        let services = Services::start(folder.clone(), Some(tls));
        Servers { folder, urls: services.urls(), _services: services }
    }

    fn file(&self, name: &str) -> String {
        self.folder.join("tls").join(name).to_str().unwrap().to_owned()
    }

    fn amqps(&self, host: &str, query: &str) -> String {
        let mut url = url::Url::parse(&self.urls["AMQP_URL"]).unwrap();
        url.set_port(Some(self.urls["AMQPS_PORT"].parse().unwrap())).unwrap();
        url.set_host(Some(host)).unwrap();
        format!("{}?{query}", url.as_str().replacen("amqp:", "amqps:", 1))
    }

    fn postgres(&self, host: &str, query: &str) -> String {
        let mut url = url::Url::parse(&self.urls["DATABASE_URL"]).unwrap();
        url.set_host(Some(host)).unwrap();
        format!("{url}?{query}")
    }

    /// The binary with these URLs, each in a file, as a Kubernetes secret would be mounted.
    fn command(&self, amqp: &str, postgres: &str) -> Command {
        let file = |name: &str, text: &str| {
            // A file of its own for each value: another process may be reading the last one.
            let path = self.folder.join(format!("{name}-{}", uuid::Uuid::new_v4()));
            std::fs::write(&path, format!("{text}\n")).unwrap();
            path
        };
        let mut command = Command::new(env!("CARGO_BIN_EXE_cns-events"));
        command
            .env_remove("AMQP_URL")
            .env_remove("DATABASE_URL")
            .env("CNS_EVENTS__AMQP__URI_FILE", file("amqp-uri", amqp))
            .env("CNS_EVENTS__DATABASE__URL_FILE", file("database-url", postgres))
            .env("CNS_EVENTS__HTTP__LISTEN", "127.0.0.1:0");
        command
    }

    /// Returns `doctor`'s finding about a server: `cannot connect: …`, or the kind of connection.
    fn found(&self, check: &str, amqp: &str, postgres: &str) -> String {
        let output = self.command(amqp, postgres).args(["doctor", "--json"]).output().unwrap();
        let checks: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let found = checks.iter().find(|one| one["check"] == check).map(|one| one["found"].as_str().unwrap());
        found.map_or_else(|| format!("{output:?}"), str::to_owned)
    }
}

fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until a condition holds. It is about other processes, which send no signal.
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        #[allow(clippy::disallowed_methods)] // no runtime here
        // Other processes send no signal.
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

#[test]
fn tls_to_both_servers_is_verified_with_client_certificates() {
    if !env::servers_are_private() {
        eprintln!(
            "TLS needs servers of its own, which `scripts/services` starts where AMQP_URL is unset: nothing was shown"
        );
        return;
    }
    let servers = Servers::start();
    let file = |name: &str| servers.file(name);
    let broker_files = format!(
        "cacertfile={}&certfile={}&keyfile={}",
        file("ca.pem"),
        file("client.pem"),
        file("client.key")
    );
    let database_files = format!(
        "sslmode=verify-full&sslrootcert={}&sslcert={}&sslkey={}",
        file("ca.pem"),
        file("client.pem"),
        file("client.key")
    );
    let amqp = servers.amqps("localhost", &broker_files);
    let postgres = servers.postgres("localhost", &database_files);

    // The whole way: migrate, store, dead-letter, look.
    let run = |arguments: &[&str]| {
        let output = servers.command(&amqp, &postgres).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", text(&output));
        text(&output)
    };
    run(&["migrate"]);
    let mut worker = servers.command(&amqp, &postgres);
    worker
        .arg("worker")
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(servers.folder.join("worker.log")).unwrap());
    let _worker = Running(worker.spawn().unwrap());
    let bom = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff";
    eventually("a worker has declared the queue", || {
        let mut publish = servers.command(&amqp, &postgres);
        publish.args(["publish", "--type", "x", "--bom-id", bom, "--organization-id", "o", "--timeout", "1"]);
        publish.output().unwrap().status.success()
    });
    // Read in the clear, which the server allows without a certificate: this side is not what is tested.
    let rows = || {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let sql = env::connect(&servers.urls["DATABASE_URL"]).await;
            sql.query_one("select count(*) from enrichment_events", &[]).await.unwrap().get::<_, i64>(0)
        })
    };
    eventually("it is stored", || rows() == 1);
    assert!(run(&["doctor"]).contains("0 messages ready, 2 consumers"));
    assert!(servers.found("broker", &amqp, &postgres).ends_with(", encrypted"));
    assert!(servers.found("database", &amqp, &postgres).ends_with(", encrypted"));
    assert!(run(&["dlq", "list"]).contains("no dead letters"));

    // What does not verify, or shows no certificate, is refused; the reason names it.
    let ca = format!("cacertfile={}", file("ca.pem"));
    for (host, query, said) in [
        ("localhost", "", "UnknownIssuer"),
        ("localhost", &format!("cacertfile={}", file("other-ca.pem")), "certificate"),
        ("127.0.0.1", &broker_files, "not valid for name"),
        ("localhost", &ca, ""), // the server's alert for a missing certificate may come as a closed connection
    ] {
        let found = servers.found("broker", &servers.amqps(host, query), &postgres);
        assert!(found.starts_with("cannot connect") && found.contains(said), "{host} {query}: {found}");
    }
    let root = format!("sslmode=verify-full&sslrootcert={}", file("ca.pem"));
    for (host, query, said) in [
        ("localhost", "sslmode=verify-full", "UnknownIssuer"),
        ("localhost", &format!("sslmode=require&sslrootcert={}", file("other-ca.pem")), "certificate"),
        ("127.0.0.1", &database_files, "not valid for name"),
        ("localhost", &root, "valid client certificate"),
    ] {
        let found = servers.found("database", &amqp, &servers.postgres(host, query));
        assert!(found.starts_with("cannot connect") && found.contains(said), "{host} {query}: {found}");
    }

    // A file that cannot be used is the configuration's fault, found at the start, without the password.
    let password = url::Url::parse(&servers.urls["AMQP_URL"]).unwrap().password().unwrap().to_owned();
    for (amqp, postgres, said) in [
        (servers.amqps("localhost", "cacertfile=/nowhere.pem"), postgres.clone(), "amqp.uri"),
        (
            amqp.clone(),
            servers.postgres("localhost", "sslmode=verify-full&sslrootcert=/nowhere.pem"),
            "database.url",
        ),
        (amqp.clone(), servers.postgres("localhost", "sslmode=prefer"), "does not verify"),
    ] {
        let output = servers.command(&amqp, &postgres).arg("worker").output().unwrap();
        assert_eq!(output.status.code(), Some(78), "{}", text(&output));
        assert!(text(&output).contains(said) && !text(&output).contains(&password), "{}", text(&output));
    }
    let log = std::fs::read_to_string(servers.folder.join("worker.log")).unwrap();
    assert!(!log.contains(&password) && !log.contains("WARN"), "{log}");
}
