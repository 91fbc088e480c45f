use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::*;

fn tcp(name: &str, port: u16) -> Server {
    Server::Tcp { name: name.to_owned(), address: None, port }
}

fn unix(folder: &str, port: u16) -> Server {
    Server::Unix { folder: PathBuf::from(folder), port }
}

fn servers(text: &str) -> Vec<Server> {
    ConnInfo::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).servers
}

fn refused(text: &str) -> String {
    ConnInfo::parse(text).err().unwrap_or_else(|| panic!("accepted: {text}")).to_string()
}

#[test]
fn servers_are_named_in_every_form_of_libpq() {
    for (text, expected) in [
        ("postgres://h/d", vec![tcp("h", 5432)]),
        ("postgresql://u:p@h:1", vec![tcp("h", 1)]),
        ("postgres://u:p@h1:1,h2:2/d", vec![tcp("h1", 1), tcp("h2", 2)]),
        ("postgres://u:p@h1,h2:2/d", vec![tcp("h1", 5432), tcp("h2", 2)]),
        ("postgres://u:p@h1,h2/d?port=7", vec![tcp("h1", 7), tcp("h2", 7)]),
        ("postgres://u:p@h1,h2/d?port=7,8", vec![tcp("h1", 7), tcp("h2", 8)]),
        ("postgres://u:p@/d?host=h1,h2&port=7,8", vec![tcp("h1", 7), tcp("h2", 8)]),
        ("postgresql+psycopg2://u:p@/d?host=h1:7&host=h2:8", vec![tcp("h1", 7), tcp("h2", 8)]),
        ("postgres://u:p@[::1]:7/d", vec![tcp("::1", 7)]),
        ("postgres://u:p@[::1]/d", vec![tcp("::1", 5432)]),
        ("postgres://u:p@[::1]:7,127.0.0.1:8/d", vec![tcp("::1", 7), tcp("127.0.0.1", 8)]),
        ("postgres://%2Fvar%2Frun/d", vec![unix("/var/run", 5432)]),
        ("postgres://%2Fvar%2Frun:7/d", vec![unix("/var/run", 7)]),
        ("postgres:///d?host=/var/run&port=7", vec![unix("/var/run", 7)]),
        ("postgres://localhost/d?host=/cloudsql/p:r:i", vec![unix("/cloudsql/p:r:i", 5432)]),
        ("postgres:///d?host=/var/run/.s.PGSQL.7", vec![unix("/var/run", 7)]),
        ("postgres:///d", vec![unix("/var/run/postgresql", 5432), unix("/tmp", 5432)]),
        ("host=h1,h2 port=7,8 dbname=d", vec![tcp("h1", 7), tcp("h2", 8)]),
        ("host = /var/run  port=7", vec![unix("/var/run", 7)]),
        ("host=::1 dbname=d", vec![tcp("::1", 5432)]),
        ("dbname=d user=u", vec![unix("/var/run/postgresql", 5432), unix("/tmp", 5432)]),
    ] {
        assert_eq!(servers(text), expected, "{text}");
    }
    let address: IpAddr = "192.0.2.1".parse().unwrap();
    let named = |name: &str| vec![Server::Tcp { name: name.to_owned(), address: Some(address), port: 5432 }];
    assert_eq!(servers("postgres://h/d?hostaddr=192.0.2.1"), named("h"));
    assert_eq!(servers("hostaddr=192.0.2.1 dbname=d"), named("192.0.2.1"));
    let mut random = servers("postgres://h1,h2,h3/d?load_balance_hosts=random");
    random.sort_by_key(ToString::to_string);
    assert_eq!(random, [tcp("h1", 5432), tcp("h2", 5432), tcp("h3", 5432)]);
}

#[test]
fn lists_that_do_not_fit_each_other_are_refused() {
    for (text, named) in [
        ("postgres://h1,h2,h3/d?port=1,2", "another number of ports"),
        ("host=h1,h2 hostaddr=127.0.0.1", "another number of hostaddr"),
        ("host=h hostaddr=example.org", "hostaddr that cannot be used"),
        ("host=h port=many", "port that cannot be used"),
        ("host=h port=0", "port that cannot be used"),
        ("postgres://u:p@::1/d", "written [::1]"),
        ("postgres://u:p@[::1/d", "closing bracket"),
        ("host=@abstract", "abstract Unix socket"),
    ] {
        assert!(refused(text).contains(named), "{text}: {}", refused(text));
    }
}

#[test]
fn keywords_have_quotes_and_escapes() {
    let parsed =
        ConnInfo::parse(r"host=h password = 'it\'s a \\ secret' user=a\ b application_name=''").unwrap();
    assert_eq!(parsed.config.get_password(), Some(&br"it's a \ secret"[..]));
    assert_eq!(parsed.config.get_user(), Some("a b"));
    assert_eq!(parsed.config.get_application_name(), Some("cns-events"));
    assert!(refused("host='h").contains("a quote that does not end"));
    assert!(refused("host=h dbname").contains("has no ="));
}

#[test]
fn words_of_platforms_and_other_drivers_are_understood() {
    let parsed = |text| ConnInfo::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert!(parsed("postgresql://u:p@h:6543/d?pgbouncer=true&connection_limit=1").pooled);
    assert!(parsed("postgresql+asyncpg://u:p@h/d?prepared_statement_cache_size=0&ssl=require").pooled);
    assert!(!parsed("postgres://u:p@h/d?pgbouncer=false").pooled);
    for (text, encrypted) in [
        ("postgres://u:p@h/d?ssl=true", true),
        ("postgres://u:p@h/d?ssl=false", false),
        ("postgres://u:p@h/d?ssl=true&sslmode=disable", false),
        ("postgres://u:p@h/d?sslmode=require&channel_binding=require", true),
        ("postgres://u:p@h/d?sslmode=verify-full&sslrootcert=system", true),
        ("postgres://u:p@h/d?sslrootcert=system", true),
        ("postgres://u:p@h/d?sslmode=", false),
    ] {
        assert_eq!(parsed(text).tls.is_some(), encrypted, "{text}");
    }
    assert_eq!(parsed("postgres://u:p@h/d?schema=public").config.get_options(), None);
    let schema = parsed("postgres://u:p@h/d?options=-c%20geqo%3Doff&schema=my%20own");
    assert_eq!(schema.config.get_options(), Some(r"-c geqo=off -c search_path=my\ own"));
    assert_eq!(
        parsed("postgres://u@h/d?application_name=a%20b+c").config.get_application_name(),
        Some("a b+c")
    );
    assert_eq!(parsed("postgres://u@h/d?connect_timeout=3").timeout, Some(Duration::from_secs(3)));
    assert_eq!(parsed("postgres://u@h/d?connect_timeout=0").timeout, None);
}

#[test]
fn what_is_refused_is_named_with_what_to_write() {
    for (text, named) in [
        ("postgres://u:p@h/d?sslmode=no-verify", "sslmode=no-verify, which does not verify"),
        ("postgres://u:p@h/d?sslmode=prefer", "use sslmode=verify-full"),
        ("postgres://u:p@h/d?ssl=no-verify", "does not verify the server"),
        ("postgres://u:p@h/d?sslaccept=accept_invalid_certs", "does not verify the server"),
        ("postgres://u:p@h/d?sslnegotiation=direct", "sslnegotiation=direct, which is not supported"),
        ("postgres://u:p@h/d?passfile=/x", "CNS_EVENTS__DATABASE__URL_FILE"),
        ("postgres://u:p@h/d?target_session_attrs=master", "read-write, read-only, primary"),
        ("postgres://u:p@h/d?connect_timeout=soon", "a number of seconds, such as 10"),
        ("postgres://u:p@h/d?sslmode=require&sslmod=x", "unknown parameter (number 2)"),
        ("postgres://postgres:[YOUR-PASSWORD]@h/d", "placeholder"),
        ("postgres://postgres:%7Byour_password%7D@h/d", "placeholder"),
        ("Host=h;Username=u;Password=p", ".NET"),
        ("\"postgres://u:p@h/d\"", "in quotes"),
        ("postgres://u:p@h/d\n", "ends with a blank or a line end"),
    ] {
        assert!(refused(text).contains(named), "{text}: {}", refused(text));
    }
}
