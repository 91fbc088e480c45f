//! Connection strings as people, platforms and other clients write them: each works, or is answered with what to write.

use std::path::Path;
use std::process::{Command, Output};

use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixListener};

use crate::env::snapshot::assert_text;
use crate::env::{TestEnv, amqp_url, eventually, output_text};

/// Password of every string here. No output may show it.
const SECRET: &str = "hunter2";

/// Login, host and port of a URL.
struct Parts {
    user: String,
    password: String,
    host: String,
    port: u16,
}

impl Parts {
    fn of(url: &str, default_port: u16) -> Parts {
        let url = url::Url::parse(url).unwrap();
        Parts {
            user: url.username().to_owned(),
            password: url.password().unwrap_or_default().to_owned(),
            host: url.host_str().unwrap().to_owned(),
            port: url.port().unwrap_or(default_port),
        }
    }
}

fn shown_without_secret(output: &Output, secret: &str) -> String {
    let text = output_text(output);
    assert!(!text.contains(secret), "{text}");
    text
}

/// Runs a command that reads the database.
fn migrations(env: &TestEnv, url: &str) -> Output {
    let mut command = env.command();
    command.args(["migrate", "--status"]).env("CNS_EVENTS__DATABASE__URL", url).output().unwrap()
}

/// Accepts connections on a listener and passes them on to a TCP server.
async fn pass_on(mut near: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, host: String, port: u16) {
    if let Ok(mut far) = TcpStream::connect((host.as_str(), port)).await {
        let _ = copy_bidirectional(&mut near, &mut far).await; // either end may close
    }
}

/// Passes connections to `[::1]` on to a server; returns its port.
async fn on_ipv6(to: &Parts) -> u16 {
    let listener = TcpListener::bind("[::1]:0").await.unwrap();
    let (port, host, to) = (listener.local_addr().unwrap().port(), to.host.clone(), to.port);
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            tokio::spawn(pass_on(near, host.clone(), to));
        }
    });
    port
}

/// Passes connections to a Unix socket on to a server.
fn on_socket(path: &Path, to: &Parts) {
    let (listener, host, to) = (UnixListener::bind(path).unwrap(), to.host.clone(), to.port);
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            tokio::spawn(pass_on(near, host.clone(), to));
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_is_reached_by_every_form_of_libpq_and_of_other_drivers() {
    let env = TestEnv::new("libpqforms").await;
    let Parts { user, password, host, port } = &Parts::of(&env.database_url, 5432);
    let (name, folder) = (&env.name, tempfile::tempdir().unwrap());
    on_socket(&folder.path().join(".s.PGSQL.7654"), &Parts::of(&env.database_url, 5432));
    let socket = folder.path().to_str().unwrap();
    let encoded = socket.replace('/', "%2F");
    let v6 = on_ipv6(&Parts::of(&env.database_url, 5432)).await;
    for url in [
        format!(
            "postgresql://{user}:{password}@{host}:{port}/{name}?connect_timeout=10&application_name=my%20app"
        ),
        format!("POSTGRES://{user}:{password}@{host}:{port}/{name}"),
        format!("postgresql:///{name}?host={host}&port={port}&user={user}&password={password}"),
        format!("host={host} port={port} dbname={name} user={user} password='{password}'"),
        format!("postgresql+psycopg2://{user}:{password}@/{name}?host={host}:{port}"),
        format!("postgresql+asyncpg://{user}:{password}@{host}:{port}/{name}?ssl=disable"),
        format!(
            "postgresql://{user}:{password}@{host}:{port}/{name}?schema=public&connection_limit=5&pgbouncer=true"
        ),
        format!("postgres://{user}:{password}@{host}:{port}/{name}?sslmode=disable&statement_cache_size=0"),
        format!("postgres://{user}:{password}@[::1]:{v6}/{name}"),
        format!("host=::1 port={v6} dbname={name} user={user} password={password}"),
        format!("postgres://{user}:{password}@{encoded}:7654/{name}"),
        format!("postgres://{user}:{password}@/{name}?host={socket}&port=7654"),
        format!("host={socket} port=7654 dbname={name} user={user} password={password}"),
        format!("postgres://{user}:{password}@localhost/{name}?host={socket}/.s.PGSQL.7654"),
        format!("postgres://{user}:{password}@{host}/{name}?hostaddr=127.0.0.1&port={port}"),
    ] {
        let output = migrations(&env, &url);
        assert!(output.status.success(), "{url}: {}", output_text(&output));
    }
    let pooled = format!("{}?pgbouncer=true", env.database_url);
    let output = env.command().args(["config", "--json"]).env("CNS_EVENTS__DATABASE__URL", pooled).output();
    let config: serde_json::Value = serde_json::from_slice(&output.unwrap().stdout).unwrap();
    assert_eq!(config["database.prepared_statements"]["value"], "false");
    assert_eq!(config["database.prepared_statements"]["origin"], "database.url");
}

/// A first server that is silent, refuses or has no name does not keep the second from being tried.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_server_is_tried_while_the_first_is_silent() {
    let env = TestEnv::new("severalhosts").await;
    let Parts { user, password, host, port } = &Parts::of(&env.database_url, 5432);
    let (name, login) = (&env.name, format!("{user}:{password}"));
    // The system accepts its connections, and nothing answers.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = listener.local_addr().unwrap();
    for url in [
        format!("postgres://{login}@{silent},{host}:{port}/{name}"),
        format!("postgres://{login}@/{name}?host=127.0.0.1,{host}&port={},{port}", silent.port()),
        format!("postgresql+psycopg2://{login}@/{name}?host={silent}&host={host}:{port}"),
        format!(
            "host=127.0.0.1,{host} port={},{port} dbname={name} user={user} password={password}",
            silent.port()
        ),
        format!("postgres://{login}@127.0.0.1:1,{host}:{port}/{name}"),
        format!("postgres://{login}@nowhere.invalid,{host}:{port}/{name}"),
        format!("postgres://{login}@{silent},{host}:{port}/{name}?load_balance_hosts=random"),
    ] {
        let output = migrations(&env, &url);
        assert!(output.status.success(), "{url}: {}", output_text(&output));
    }
    // A lane connects within its statement timeout, which is as long as the timeout of one attempt.
    let worker = env.start(|command| {
        command.env("CNS_EVENTS__DATABASE__URL", format!("postgres://{login}@{silent},{host}:{port}/{name}"));
    });
    worker.ready().await;
    let unreached = migrations(&env, &format!("postgres://u:{SECRET}@127.0.0.1:1,127.0.0.1:2/{name}"));
    let text = shown_without_secret(&unreached, SECRET);
    assert!(text.contains("cannot connect to 127.0.0.1:1: Connection refused"), "{text}");
    assert!(text.contains("; 127.0.0.1:2: Connection refused"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kind_of_server_is_chosen_by_the_words_of_libpq() {
    let env = TestEnv::new("sessionattrs").await;
    let (login, url) = env.login("superuser").await;
    let look = |attribute: &str| migrations(&env, &format!("{url}?target_session_attrs={attribute}"));
    for attribute in ["any", "read-write", "primary", "prefer-standby"] {
        let output = look(attribute);
        assert!(output.status.success(), "{attribute}: {}", output_text(&output));
    }
    for (attribute, reason) in [("read-only", "sessions can write there"), ("standby", "it is a primary")] {
        let text = output_text(&look(attribute));
        assert!(text.contains(reason) && text.contains("target_session_attrs wants another"), "{text}");
    }
    let read_only = format!("alter role {login} set default_transaction_read_only = on");
    env.sql.batch_execute(&read_only).await.unwrap();
    assert!(look("read-only").status.success());
    assert!(output_text(&look("read-write")).contains("sessions are read-only there"));
    env.drop_login(&login).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_is_reached_as_its_clients_write_it() {
    let env = TestEnv::new("amqpforms").await;
    env.declare().await;
    let broker = Parts::of(&amqp_url(), 5672);
    let v6 = on_ipv6(&broker).await;
    let Parts { user, password, host, port } = &broker;
    for uri in [
        format!("amqp://{user}:{password}@{host}:{port}"),
        format!("amqp://{user}:{password}@{host}:{port}/"),
        format!("amqp://{user}:{password}@{host}:{port}//"),
        format!("amqp://{user}:{password}@{host}:{port}/%2F?heartbeat=30&connection_timeout=5000"),
        format!("pyamqp://{user}:{password}@{host}:{port}//"),
        format!("AMQP://{user}:{password}@{host}:{port}/%2f?ssl=0"),
        format!("amqp://{user}:{password}@[::1]:{v6}/"),
    ] {
        // By the own client, and by the client library.
        let mut command = env.command();
        let output = command.args(["dlq", "list"]).env("CNS_EVENTS__AMQP__URI", &uri).output().unwrap();
        assert!(output.status.success(), "{uri}: {}", output_text(&output));
    }
    let mut worker = env.start(|command| {
        command
            .env("CNS_EVENTS__AMQP__URI", format!("amqp://{user}:{password}@[::1]:{v6}/"))
            .env("CNS_EVENTS__HTTP__LISTEN", "localhost:0");
    });
    worker.ready().await;
    assert!(worker.terminate().await.success());
}

/// Strings as the documentation or the console of each has them. Every one is taken, or answered with what to write.
const AS_WRITTEN: [(&str, &str, &str); 44] = [
    (
        "libpq: a URI",
        "DATABASE_URL",
        "postgresql://other:hunter2@localhost/otherdb?connect_timeout=10&application_name=myapp",
    ),
    (
        "libpq: keywords",
        "DATABASE_URL",
        "host=localhost port=5432 dbname=mydb user=u password=hunter2 connect_timeout=10",
    ),
    (
        "libpq: several hosts",
        "DATABASE_URL",
        "postgresql://u:hunter2@host1:123,host2:456/somedb?target_session_attrs=read-write",
    ),
    ("libpq: a Unix socket", "DATABASE_URL", "postgresql://u:hunter2@%2Fvar%2Flib%2Fpostgresql/dbname"),
    ("libpq: IPv6", "DATABASE_URL", "postgresql://u:hunter2@[2001:db8::1234]/database"),
    ("IPv6 without brackets", "DATABASE_URL", "postgresql://u:hunter2@2001:db8::1234/database"),
    ("libpq: prefer", "DATABASE_URL", "postgres://u:hunter2@h/d?sslmode=prefer"),
    ("libpq: a service", "DATABASE_URL", "service=mine password=hunter2"),
    ("another word of libpq", "DATABASE_URL", "postgres://u:hunter2@h/d?target_session_attrs=master"),
    ("Heroku", "DATABASE_URL", "postgres://u:hunter2@ec2-1-2-3-4.compute-1.amazonaws.com:5432/d1a2b3"),
    (
        "Heroku with Node",
        "DATABASE_URL",
        "postgres://u:hunter2@ec2-1-2-3-4.compute-1.amazonaws.com:5432/d1a2b3?sslmode=no-verify",
    ),
    (
        "Supabase: direct",
        "DATABASE_URL",
        "postgresql://postgres:hunter2@db.abcdefgh.supabase.co:5432/postgres",
    ),
    (
        "Supabase: pooler",
        "DATABASE_URL",
        "postgres://postgres.abcdefgh:hunter2@aws-0-eu-central-1.pooler.supabase.com:6543/postgres?pgbouncer=true",
    ),
    (
        "Supabase: as copied",
        "DATABASE_URL",
        "postgresql://postgres:[YOUR-PASSWORD]@db.abcdefgh.supabase.co:5432/postgres",
    ),
    ("Supabase: the API", "DATABASE_URL", "https://hunter2.supabase.co"),
    (
        "Neon",
        "DATABASE_URL",
        "postgresql://u:hunter2@ep-cool-darkness-123456-pooler.eu-central-1.aws.neon.tech/neondb?sslmode=require&channel_binding=require",
    ),
    (
        "Neon: as copied",
        "DATABASE_URL",
        "psql 'postgresql://u:hunter2@ep-cool-darkness-123456.eu-central-1.aws.neon.tech/neondb?sslmode=require'",
    ),
    (
        "Prisma",
        "DATABASE_URL",
        "postgresql://u:hunter2@localhost:5432/mydb?schema=public&connection_limit=5&pool_timeout=10&sslmode=disable",
    ),
    ("Prisma Accelerate", "DATABASE_URL", "prisma+postgres://accelerate.prisma-data.net/?api_key=hunter2"),
    ("SQLAlchemy: psycopg2", "DATABASE_URL", "postgresql+psycopg2://scott:hunter2@localhost/mydatabase"),
    (
        "SQLAlchemy: several hosts",
        "DATABASE_URL",
        "postgresql+psycopg2://u:hunter2@/dbname?host=HostA:5432&host=HostB:5433",
    ),
    (
        "SQLAlchemy: asyncpg",
        "DATABASE_URL",
        "postgresql+asyncpg://u:hunter2@h/d?ssl=require&prepared_statement_cache_size=0",
    ),
    (
        "Google Cloud SQL",
        "DATABASE_URL",
        "postgresql://u:hunter2@localhost/d?host=/cloudsql/project:region:instance",
    ),
    ("JDBC", "DATABASE_URL", "jdbc:postgresql://localhost:5432/d?user=u&password=hunter2&ssl=true"),
    (".NET", "DATABASE_URL", "Host=localhost;Username=u;Password=hunter2;Database=d"),
    ("MySQL", "DATABASE_URL", "mysql://u:hunter2@h:3306/d"),
    ("an env file's quotes", "DATABASE_URL", "\"postgres://u:hunter2@h/d\""),
    ("an env file's line", "DATABASE_URL", "DATABASE_URL=postgres://u:hunter2@h/d"),
    ("a blank at the end", "DATABASE_URL", "postgres://u:hunter2@h/d "),
    ("a byte order mark", "DATABASE_URL", "\u{feff}postgres://u:hunter2@h/d"),
    ("a misspelt parameter", "DATABASE_URL", "postgres://u:hunter2@h/d?sslmod=require"),
    ("CloudAMQP", "AMQP_URL", "amqps://abcdefgh:hunter2@dog.lmq.cloudamqp.com/abcdefgh"),
    ("Amazon MQ", "AMQP_URL", "amqps://u:hunter2@b-1234-5678.mq.eu-central-1.amazonaws.com:5671"),
    ("RabbitMQ", "AMQP_URL", "amqp://u:hunter2@host:10000/vhost"),
    ("RabbitMQ: an empty virtual host", "AMQP_URL", "amqp://u:hunter2@host:5672/"),
    ("RabbitMQ: IPv6", "AMQP_URL", "amqp://u:hunter2@[2001:db8::1]:5672/vhost"),
    ("Celery", "AMQP_URL", "pyamqp://guest:hunter2@localhost//"),
    ("Celery: with TLS", "AMQP_URL", "amqp://u:hunter2@h:5671//?ssl=true"),
    ("kombu: a list", "AMQP_URL", "amqp://u:hunter2@h1:5672//;amqp://u:hunter2@h2:5672//"),
    ("Spring: a list", "AMQP_URL", "amqp://u:hunter2@h1:5672,h2:5672/vhost"),
    ("MassTransit", "AMQP_URL", "rabbitmq://u:hunter2@h/vhost"),
    ("the management API", "AMQP_URL", "http://u:hunter2@h:15672/api"),
    ("unescaped characters", "AMQP_URL", "amqp://u:hunter2/x@h/"),
    ("a line end", "AMQP_URL", "amqp://u:hunter2@h/\n"),
];

/// Returns how `config` answers: the value that it takes over, or the problem.
fn answer(variable: &str, value: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_cns-events"))
        .args(["config", "--json"])
        .env_remove("AMQP_URL")
        .env_remove("DATABASE_URL")
        .env_remove("CNS_EVENTS_PROFILE")
        .env(variable, value)
        .output()
        .unwrap();
    shown_without_secret(&output, SECRET);
    let settings: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let key = if variable == "AMQP_URL" { "amqp.uri" } else { "database.url" };
    match output.status.code() {
        Some(0) => format!("taken: {}", settings[key]["value"].as_str().unwrap()),
        code => {
            assert_eq!(code, Some(78), "{value}");
            let text = String::from_utf8(output.stderr).unwrap();
            text.lines().skip(1).collect::<Vec<_>>().join("\n  ")
        }
    }
}

#[test]
fn what_is_written_elsewhere_is_taken_or_answered_with_what_to_write() {
    let mut text = String::new();
    for (writer, variable, value) in AS_WRITTEN {
        let answer = answer(variable, value);
        text.push_str(&format!("{writer}: {value:?}\n  {answer}\n"));
    }
    assert_text("cli", "connection-strings", None, &text.replace(SECRET, "…"));
}

/// An error about a connection names the server, and the variable that would name another.
#[tokio::test(flavor = "multi_thread")]
async fn the_variable_that_is_not_set_is_named() {
    let program = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cns-events"));
        command.args(arguments).env_remove("AMQP_URL").env_remove("DATABASE_URL");
        // Nothing listens on the default ports of the loopback address that is named here instead.
        output_text(&command.output().unwrap())
    };
    for (arguments, variable) in [
        (&["migrate", "--status"][..], "DATABASE_URL"),
        (&["query", "errors", "--all-tenants"], "DATABASE_URL"),
        (&["dlq", "list"], "AMQP_URL"),
    ] {
        let text = program(arguments);
        // A server may run on the default port of this machine; then there is an answer of it.
        if text.contains("cannot connect to") {
            assert!(text.contains(&format!("(the default: {variable} is not set)")), "{text}");
            assert!(text.contains("127.0.0.1:5"), "{text}");
        }
    }
    let env = TestEnv::new("unsetvariable").await;
    let mut worker = env.start(|command| {
        command.env("CNS_EVENTS__AMQP__URI", "amqp://u:hunter2@127.0.0.1:1/");
    });
    eventually("the log names the broker", async || {
        worker.log().contains("cannot connect to 127.0.0.1:1: Connection refused")
    })
    .await;
    assert!(!worker.log().contains("is not set") && !worker.log().contains(SECRET));
    worker.terminate().await;
}
