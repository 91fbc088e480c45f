use super::*;
use crate::broker::QueueType;
use crate::publisher::SpoolWhen;

fn load(environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
    Config::from_layers(environment.iter().map(|(name, value)| (name.into(), value.into())), &folder)
}

fn refused(environment: &[(&str, &str)]) -> String {
    load(environment).expect_err("refused").to_string()
}

#[test]
fn the_defaults_are_valid() {
    let config = load(&[]).unwrap();
    assert_eq!((config.worker.lanes, config.worker.batch_size, config.worker.prefetch), (2, 1000, 2000));
    assert_eq!(config.amqp.queue_type, QueueType::Quorum);
    assert!(config.settings.iter().all(|setting| setting.origin == "default"));
}

#[test]
fn prefixed_variables_have_precedence_over_plain_urls() {
    let config = load(&[
        ("AMQP_URL", "amqp://a"),
        ("DATABASE_URL", "postgres://d"),
        ("CNS_EVENTS__DATABASE__URL", "postgres://e"),
    ])
    .unwrap();
    assert_eq!((config.amqp.uri.expose(), config.database.url.expose()), ("amqp://a", "postgres://e"));
}

#[test]
fn a_profile_has_precedence_over_defaults_only() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("p.toml"), "[worker]\nlanes = 7\nprefetch = 5000\n[nothing]\nx = 1\n")
        .unwrap();
    let layers = |more: &[(&str, &str)]| {
        let environment = [("CNS_EVENTS_PROFILE", "p")].iter().chain(more);
        Config::from_layers(environment.map(|(name, value)| (name.into(), value.into())), folder.path())
    };
    assert!(layers(&[]).unwrap_err().to_string().contains("nothing.x"));
    std::fs::write(folder.path().join("p.toml"), "[worker]\nlanes = 7\nprefetch = 5000\n").unwrap();
    let config = layers(&[("CNS_EVENTS__WORKER__LANES", "3")]).unwrap();
    assert_eq!((config.worker.lanes, config.worker.prefetch), (3, 5000));
    std::fs::write(folder.path().join("p.toml"), "[worker]\nlanes = \"7\"\n").unwrap();
    assert!(layers(&[]).unwrap_err().to_string().contains("worker.lanes = 7"));
}

#[test]
fn a_file_variable_names_a_file_with_the_value() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "postgres://u:p@h/d\n").unwrap();
    let path = file.path().to_str().unwrap();
    let config = load(&[("CNS_EVENTS__DATABASE__URL_FILE", path)]).unwrap();
    assert_eq!(config.database.url.expose(), "postgres://u:p@h/d");
    // The file has a secret, because it was meant for another key.
    let error = refused(&[("CNS_EVENTS__WORKER__LANES_FILE", path)]);
    assert!(
        error.contains("LANES_FILE: the content of the file is not a whole number") && !error.contains("u:p"),
        "{error}"
    );
    let both = [("CNS_EVENTS__DATABASE__URL_FILE", path), ("CNS_EVENTS__DATABASE__URL", "postgres://x")];
    assert!(refused(&both).contains("unset one of them"));
    assert!(refused(&[("CNS_EVENTS__AMQP__URI_FILE", "/nonexistent")]).contains("cannot read the file"));
}

#[test]
fn every_problem_is_one_line_with_key_value_and_fix() {
    let lines = refused(&[
        ("CNS_EVENTS__WORKER__LANES", "many"),
        ("CNS_EVENTS__AMQP__QUEUE_TYPE", "stream"),
        ("CNS_EVENTS__WORKER__BATCHSIZE", "1"),
    ]);
    assert_eq!(lines.lines().count(), 3, "{lines}");
    assert!(lines.contains("CNS_EVENTS__WORKER__LANES = many: is not a whole number"));
    assert!(lines.contains("CNS_EVENTS__AMQP__QUEUE_TYPE = stream: is not one of quorum, classic"));
    assert!(lines.contains("CNS_EVENTS__WORKER__BATCHSIZE: unknown key; worker has worker.batch_bytes"));

    let lines =
        refused(&[("CNS_EVENTS__WORKER__BATCH_SIZE", "3000"), ("CNS_EVENTS__WORKER__HOLD_SECONDS", "1800")]);
    assert!(lines.contains("worker.batch_size = 3000: is larger than worker.prefetch (2000)"), "{lines}");
    assert!(lines.contains("worker.hold_seconds = 1800"), "{lines}");
}

#[test]
fn secrets_are_never_shown() {
    let secrets = [
        ("AMQP_URL", "amqp://u:hunter2@h/v"),
        ("DATABASE_URL", "postgres://u:hunter2@h/d"),
        ("CNS_EVENTS__API__JWT_SECRET", "hunter2-hunter2-hunter2-hunter2-"),
    ];
    let config = load(&secrets).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
    let broken = [("AMQP_URL", "http://u:hunter2@h"), ("DATABASE_URL", "u:hunter2@h/d")];
    assert!(!refused(&broken).contains("hunter2"), "{}", refused(&broken));
    let slip = [("CNS_EVENTS__DATABASE__URL_FILE", "postgres://u:hunter2@h/d")];
    assert!(!refused(&slip).contains("hunter2"), "{}", refused(&slip));
    for unescaped in
        ["postgres://u:12#hunter2@h/d", "postgres://u:12?hunter2@h/d", "postgres://u:12/hunter2@h/d"]
    {
        assert!(!masked(unescaped).contains("hunter2"), "{}", masked(unescaped));
    }

    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("p.toml"), "[amqp]\nuri = \"amqp://u:hunter2@h\n").unwrap();
    let environment = [("CNS_EVENTS_PROFILE".into(), "p".into())];
    let error = Config::from_layers(environment, folder.path()).unwrap_err().to_string();
    assert!(error.contains("line 2") && !error.contains("hunter2") && error.lines().count() == 1, "{error}");
}

#[test]
fn passwords_of_uris_and_their_queries_are_masked() {
    for (text, shown) in [
        ("amqp://guest:guest@127.0.0.1:5672/%2f", "amqp://guest:***@127.0.0.1:5672/%2f"),
        ("amqp://u:p'a,b;c%40%23@h.example//?heartbeat=5", "amqp://u:***@h.example//?heartbeat=5"),
        ("amqp://h?password=x&y&verify=a,b", "amqp://h?***&***&***"),
        ("amqp://u:p@h//;amqp://u:hunter2@h2//", "***"),
        ("amqp://u:p@h/v;hunter2", "***"),
        ("postgres://u%3Ahunter2%40h/d", "***"),
        ("postgres://u:p@h/d\u{feff}", "***"),
    ] {
        assert_eq!(masked(text), shown, "{text}");
    }
}

#[test]
fn short_secrets_and_secrets_with_stray_characters_are_refused() {
    let good = "k".repeat(32);
    load(&[("CNS_EVENTS__API__JWT_SECRET", &good)]).unwrap();
    load(&[("CNS_EVENTS__API__JWT_SECRET", "")]).unwrap();
    let short = "k".repeat(31);
    let error = refused(&[("CNS_EVENTS__API__JWT_SECRET", &short)]);
    assert!(error.contains("api.jwt_secret = ***: has 31 bytes") && !error.contains("kkk"), "{error}");
    for stray in [" ", "\n", "\r\n", "\t", "\u{feff}", "\u{a0}"] {
        for secret in [format!("{stray}{good}"), format!("{good}{stray}")] {
            let error = refused(&[("CNS_EVENTS__API__JWT_SECRET", &secret)]);
            let is_named = error.contains("begins with a") || error.contains("ends with a");
            assert!(is_named && !error.contains("kkk"), "{secret:?}: {error}");
        }
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("\u{feff}{good}\n")).unwrap();
    let error = refused(&[("CNS_EVENTS__API__JWT_SECRET_FILE", file.path().to_str().unwrap())]);
    assert!(error.contains("byte order mark"), "{error}");
}

#[test]
fn a_hold_shorter_than_the_statement_timeout_is_refused() {
    for (hold, timeout) in [("1", "1001"), ("9", "10000"), ("300", "300001")] {
        let error = refused(&[
            ("CNS_EVENTS__WORKER__HOLD_SECONDS", hold),
            ("CNS_EVENTS__DATABASE__STATEMENT_TIMEOUT_MS", timeout),
        ]);
        assert!(error.contains(&format!("worker.hold_seconds = {hold}: is shorter than")), "{error}");
    }
    load(&[("CNS_EVENTS__WORKER__HOLD_SECONDS", "10")]).unwrap();
}

#[test]
fn plain_connections_to_other_machines_are_refused_where_tls_is_required() {
    let required = |variable: &'static str, value: &str| {
        load(&[
            (variable, value),
            ("CNS_EVENTS__AMQP__REQUIRE_TLS", "true"),
            ("CNS_EVENTS__DATABASE__REQUIRE_TLS", "true"),
        ])
    };
    for (variable, value) in [
        ("AMQP_URL", "amqp://u:p@broker.example/"),
        ("AMQP_URL", "amqp://u:p@10.0.0.1/"),
        ("DATABASE_URL", "postgres://u:p@db.example/d"),
        ("DATABASE_URL", "postgres://u:p@db.example/d?sslmode=disable"),
        ("DATABASE_URL", "postgres://u:p@localhost,db.example/d"),
        ("DATABASE_URL", "postgres://u:p@localhost/d?hostaddr=10.0.0.1"),
    ] {
        let error = required(variable, value).expect_err(value).to_string();
        assert!(error.contains("require_tls is true") && !error.contains(":p@"), "{error}");
        load(&[(variable, value)]).unwrap();
    }
    for (variable, value) in [
        ("AMQP_URL", "amqp://u:p@localhost/"),
        ("AMQP_URL", "amqp://u:p@127.0.0.2/"),
        ("DATABASE_URL", "postgres://u@127.0.0.1/d"),
        ("DATABASE_URL", "postgres://u@%2Fvar%2Frun/d"),
    ] {
        required(variable, value).expect(value);
    }
}

/// A worker's environment may be a producer's too.
#[test]
fn the_keys_of_producers_are_accepted_and_checked() {
    let config = load(&[
        ("CNS_EVENTS__PUBLISHER__SPOOL", "/var/spool/cns"),
        ("CNS_EVENTS__PUBLISHER__SPOOL_WHEN", "buffer_full"),
        ("CNS_EVENTS__PUBLISHER__ENABLED", "false"),
        ("CNS_EVENTS__PUBLISHER__READ_TOKEN", "hidden-token"),
    ])
    .unwrap();
    assert_eq!(
        (config.publisher.spool.as_str(), config.publisher.spool_when),
        ("/var/spool/cns", SpoolWhen::BufferFull)
    );
    assert!(!config.publisher.enabled && !format!("{:?}", config.settings).contains("hidden-token"));
    assert!(refused(&[("CNS_EVENTS__PUBLISHER__SPOOL_WHEN", "sometimes")]).contains("is not one of always"));
    assert!(refused(&[("CNS_EVENTS__PUBLISHER__SPOL", "x")]).contains("publisher has publisher.app_id"));
}

/// A wrong type hides no wrong value, and no problem follows from the default that takes the place of a wrong one.
#[test]
fn every_mistake_is_reported_at_once() {
    let error = refused(&[
        ("CNS_EVENTS__WORKER__BATCH_SIZE", "many"),
        ("CNS_EVENTS__WORKER__PREFETCH", "10"),
        ("CNS_EVENTS__WORKER__LANES", "0"),
        ("CNS_EVENTS__HTTP__LISTEN", "9464"),
        ("CNS_EVENTS__API__LISTEN", "http://localhost:8080"),
        ("CNS_EVENTS__LOG__LEVEL", "loud"),
        ("AMQP_URL", "http://u:hunter2@h"),
        ("DATABASE_URL", "mysql://u:hunter2@h"),
        ("CNS_EVENTS__NOTHING", "x"),
        ("CNS_EVENTS_PROFILE", "nowhere"),
    ]);
    for named in [
        "BATCH_SIZE = many: is not a whole number, 0 or more; for example 1000",
        "worker.lanes = 0: must be at least 1; for example 2",
        "http.listen = 9464: has no host; use an address and a port, such as 127.0.0.1:9464",
        "api.listen = http://localhost:8080: is not a host and a port",
        "amqp.uri = ***",
        "database.url = ***: is not a PostgreSQL URL (it is the URL of a MySQL database)",
        "CNS_EVENTS__NOTHING: unknown key",
        "CNS_EVENTS_PROFILE = nowhere: cannot read",
    ] {
        assert!(error.contains(named), "{named}: {error}");
    }
    assert!(!error.contains("hunter2") && !error.contains("is larger than worker.prefetch"), "{error}");
    load(&[("CNS_EVENTS__HTTP__LISTEN", "localhost:9464")]).unwrap();
}

#[test]
fn what_is_known_is_shown_beside_a_wrong_key() {
    let environment = [
        ("CNS_EVENTS__WORKER__LANES", "many"),
        ("CNS_EVENTS__WORKER__PREFETCH", "3000"),
        ("AMQP_URL", "amqp://u:hunter2@h/v "),
        ("DATABASE_URL", "postgres://u:hunter2@h/d"),
    ];
    let settings = load(&environment).unwrap_err().settings;
    let shown = |key: &str| {
        let setting = settings.iter().find(|setting| setting.key == key).unwrap();
        (setting.value.clone(), setting.origin.clone())
    };
    let pair = |value: &str, origin: &str| (value.to_owned(), origin.to_owned());
    assert_eq!(shown("worker.lanes"), pair("many", "CNS_EVENTS__WORKER__LANES"));
    assert_eq!(shown("worker.prefetch"), pair("3000", "CNS_EVENTS__WORKER__PREFETCH"));
    assert_eq!(shown("amqp.uri"), pair("***", "AMQP_URL"));
    assert_eq!(shown("database.url"), pair("postgres://u:***@h/d", "DATABASE_URL"));
    assert_eq!(shown("worker.batch_size"), pair("1000", "default"));
}

#[test]
fn files_and_values_that_are_not_plain_text_are_named() {
    use std::os::unix::ffi::OsStringExt;

    let file = tempfile::NamedTempFile::new().unwrap();
    let url = "postgres://u:hunter2@h/d";
    let utf_16: Vec<u8> =
        std::iter::once(0xfeff).chain(url.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    for (content, named) in [
        (utf_16, "in UTF-16"),
        (b"postgres://u:hunter2\xff@h/d".to_vec(), "is not UTF-8"),
        (format!("\u{feff}{url}").into_bytes(), "the content of the file begins with a byte order mark"),
        (format!("{url} \n").into_bytes(), "the content of the file ends with a blank"),
        (format!("\"{url}\"\n").into_bytes(), "the content of the file is in quotes"),
        (b"\r\n".to_vec(), "the file is empty"),
    ] {
        std::fs::write(file.path(), content).unwrap();
        let error = refused(&[("CNS_EVENTS__DATABASE__URL_FILE", file.path().to_str().unwrap())]);
        assert!(error.contains(named) && !error.contains("hunter2"), "{named}: {error}");
        assert!(error.starts_with("CNS_EVENTS__DATABASE__URL_FILE"), "{error}");
    }
    std::fs::write(file.path(), format!("{url}\r\n")).unwrap();
    load(&[("CNS_EVENTS__DATABASE__URL_FILE", file.path().to_str().unwrap())]).unwrap();

    let value = std::ffi::OsString::from_vec(b"amqp://u:hunter2\xff@h".to_vec());
    let error =
        Config::from_layers([("AMQP_URL".into(), value)], std::path::Path::new("config")).unwrap_err();
    assert!(error.to_string().starts_with("AMQP_URL: the value is not UTF-8"), "{error}");
    assert!(refused(&[("CNS_EVENTS__WORKER__LANES", "2 ")]).contains(r#"LANES = "2 ": ends with a blank"#));
    assert!(refused(&[("CNS_EVENTS__LOG__FORMAT", "'json'")]).contains("in quotes"));
}
