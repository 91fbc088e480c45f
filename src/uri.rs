//! The form of the URIs that name a server. A text that is not exactly one URI is refused before any parser reads it: lists of
//! servers, pasted quotes and unescaped passwords would otherwise move a password into a part that errors and logs show.

use crate::stray::is_invisible;

/// Characters that separate the entries of a list of servers.
const SEPARATORS: [char; 2] = [',', ';'];

/// Characters that no URI contains (RFC 3986), apart from control characters, blanks and invisible characters.
const FORBIDDEN: [char; 10] = ['"', '<', '>', '\\', '^', '`', '{', '|', '}', '\u{feff}'];

/// Checks that a text is one URI with one of these schemes. No problem quotes any part of the text.
///
/// # Errors
/// The problem, as the end of a sentence whose subject is the text.
pub(crate) fn check(text: &str, schemes: &[&str]) -> Result<(), &'static str> {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    if !scheme.is_some_and(|scheme| schemes.contains(&scheme.as_str())) {
        return Err(beginning(text));
    }
    form(text)
}

/// Beginnings of texts that are pasted for a URI, and what they are. The longer of two comes first.
const BEGINNINGS: [(&str, &str); 16] = [
    ("psql ", "it begins with the command psql; write the URL alone"),
    ("export ", "it begins with export; write the URL alone"),
    ("jdbc:", "it is a URL of Java's drivers; leave out jdbc:"),
    ("r2dbc:", "it is a URL of Java's drivers; leave out r2dbc:"),
    ("mysql", "it is the URL of a MySQL database"),
    ("mariadb", "it is the URL of a MariaDB database"),
    ("sqlite", "it is the URL of a SQLite database"),
    ("mongodb", "it is the URL of a MongoDB database"),
    ("redis", "it is the URL of a Redis server"),
    ("kafka", "it is the URL of a Kafka server"),
    ("mqtt", "it is the URL of MQTT, another protocol of the broker"),
    ("stomp", "it is the URL of STOMP, another protocol of the broker"),
    ("rabbit", "its scheme is another program's; RabbitMQ's own is amqp or amqps"),
    ("prisma", "it is the URL of a service of Prisma; take the one of the database itself"),
    ("http", "it is the URL of a page or an HTTP API; take the one for programs that connect"),
    ("postgis", "its scheme is another program's; write postgres"),
];

/// Returns the problem with the first characters of a text.
fn beginning(text: &str) -> &'static str {
    let lower = text.to_ascii_lowercase();
    if let Some((_, problem)) = BEGINNINGS.iter().find(|(beginning, _)| lower.starts_with(beginning)) {
        return problem;
    }
    let (name, value) = text.split_once('=').unwrap_or_default();
    let is_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    if !name.is_empty() && name.chars().all(is_name) && value.contains("://") {
        return "it begins with the name of a variable; write what follows the =";
    }
    "its first characters are not its scheme and ://"
}

/// Checks that a text is one URI, of any scheme.
///
/// # Errors
/// As [`check()`].
pub(crate) fn form(text: &str) -> Result<(), &'static str> {
    let (_, rest) = text.split_once("://").ok_or("it has no scheme")?;
    if text.chars().any(|c| c.is_control() || c.is_whitespace() || FORBIDDEN.contains(&c) || is_invisible(c))
    {
        return Err("it contains a blank, a quote or another character that a URI has only percent-encoded");
    }
    if rest.contains("://") {
        return Err("it contains a second ://; it must be one URI, not a list");
    }
    if rest.matches('@').count() > 1 {
        return Err("it contains a second @; it must be one URI, and an @ in a password is written %40");
    }
    if rest.contains('#') {
        return Err("it contains a #, which is written %23");
    }
    let (authority, tail) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if tail.contains('@') {
        return Err("it contains an @ after the host; in a password, / is written %2F and ? is written %3F");
    }
    let (path, _) = tail.split_once('?').unwrap_or((tail, ""));
    if path.contains(SEPARATORS) {
        return Err("it contains a comma or a semicolon after the host; it must be one URI, not a list");
    }
    if decoded(path).contains("://") {
        return Err("it contains a second URI after the host");
    }
    let (login, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if !login.contains(':') && decoded(login).contains(':') {
        return Err("the colon between user and password is percent-encoded");
    }
    check_host(host)
}

/// Checks the host, or hosts, with their ports.
fn check_host(hosts: &str) -> Result<(), &'static str> {
    if decoded(hosts).contains('@') || hosts.to_ascii_lowercase().contains("%3a") {
        return Err("the @ before its host, or a colon, is percent-encoded");
    }
    if hosts.contains([';', '\'', '(', ')', '*', '!', '$', '&', '+', '=']) {
        return Err(
            "its host contains a character that no host name contains; it must be one URI, not a list",
        );
    }
    for host in hosts.split(',').filter(|host| !host.starts_with('[')) {
        if host.matches(':').count() > 1 {
            return Err("its IPv6 address is without brackets, which are written [::1]");
        }
        let port = host.split_once(':').map_or("", |(_, port)| port);
        if !port.is_empty() && port.parse::<u16>().is_err() {
            return Err("its port is not a number from 0 to 65535");
        }
    }
    Ok(())
}

/// Decodes percent signs. A plus sign is itself.
pub(crate) fn decoded(text: &str) -> String {
    let form = text.replace('+', "%2B");
    url::form_urlencoded::parse(format!("x={}", form.replace('&', "%26")).as_bytes())
        .next()
        .map(|(_, value)| value.into_owned())
        .unwrap_or_default()
}

/// Returns a host with its port, as errors and logs name a server.
pub(crate) fn place(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Returns whether a host is this machine: a loopback address or name, or the path of a Unix socket.
pub(crate) fn is_loopback(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host.is_empty()
        || host.starts_with(['/', '@'])
        || host.eq_ignore_ascii_case("localhost")
        || host.to_ascii_lowercase().ends_with(".localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMES: [&str; 2] = ["amqp", "amqps"];

    #[test]
    fn what_is_not_one_uri_is_refused_and_hidden() {
        for text in [
            "amqp://u:p@h:5672//;amqp://guest:hunter2@h2//",
            "amqp://u:p@h,amqp://guest:hunter2@h2",
            "amqp://u:p@h amqp://guest:hunter2@h2",
            "amqp://u:p@h\namqp://guest:hunter2@h2",
            "amqp://u:p@h|guest:hunter2@h2",
            "amqp://u:p@h;guest:hunter2@h2",
            "amqp://u:p@h;hunter2",
            "amqp://u:p@h:5672;hunter2",
            "amqp://u:p@h/v;guest:hunter2",
            "amqp://u:p@h/v,hunter2",
            "amqp://u:p@ss@hunter2",
            "amqp://u:12/hunter2@h/v",
            "amqp://u:12?hunter2@h/v",
            "amqp://u:12#hunter2@h/v",
            "amqp://u:p@h/v#hunter2",
            "amqp://u:hunter2",
            "amqp://u:hunter2/v",
            "amqp://u%3Ahunter2%40h/v",
            "amqp://u%3Ahunter2@h/v",
            "amqp://u:p@h/%3Bamqp%3A%2F%2Fguest%3Ahunter2%40h2",
            "amqp://u:\"hunter2\"@h/v",
            "amqp://u:hunter2@h/v\"",
            "\"amqp://u:hunter2@h/v\"",
            "'amqp://u:hunter2@h/v'",
            "\u{feff}amqp://u:hunter2@h/v",
            "amqp://u:hunter2@h/v\u{feff}",
            "amqp://u:hunter2@h/v\u{200b}",
            "amqp://u:hun\tter2@h/v",
            " amqp://u:hunter2@h/v",
            "amqp://u:hunter2@h/v\r",
            "[\"amqp://u:hunter2@h/v\"]",
            "amqp:u:hunter2@h",
            "hunter2",
        ] {
            let problem = check(text, &SCHEMES).expect_err(text);
            assert!(!problem.contains("hunter2"), "{text}: {problem}");
        }
    }

    #[test]
    fn single_uris_are_accepted() {
        for text in [
            "amqp://guest:guest@127.0.0.1:5672/%2f",
            "AMQPS://u:p'a,b;c%40%23@h.example//?heartbeat=5",
            "amqp://h",
            "amqp://u:ü:é!$&*@h_1/v?heartbeat=5",
        ] {
            assert_eq!(check(text, &SCHEMES), Ok(()), "{text}");
        }
        for text in
            ["postgres://u@h1:1,h2:2/d", "postgres://%2Fvar%2Frun/d?host=/x", "postgres://u:p@[::1]:5/d"]
        {
            assert_eq!(check(text, &["postgres"]), Ok(()), "{text}");
        }
    }

    #[test]
    fn other_beginnings_are_named() {
        for (text, named) in [
            ("psql postgresql://u:hunter2@h/d", "the command psql"),
            ("jdbc:postgresql://h/d?password=hunter2", "leave out jdbc:"),
            ("DATABASE_URL=postgres://u:hunter2@h/d", "the name of a variable"),
            ("https://hunter2.example.co", "an HTTP API"),
            ("prisma+postgres://x/?api_key=hunter2", "of Prisma"),
            ("RABBIT://u:hunter2@h", "amqp or amqps"),
            ("hunter2=x", "first characters"),
        ] {
            let problem = check(text, &SCHEMES).expect_err(text);
            assert!(problem.contains(named) && !problem.contains("hunter2"), "{text}: {problem}");
        }
    }

    #[test]
    fn hosts_of_this_machine_are_recognised() {
        for host in
            ["localhost", "LOCALHOST", "127.0.0.1", "127.1.2.3", "::1", "[::1]", "/var/run", "x.localhost"]
        {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["h", "localhost.example", "10.0.0.1", "128.0.0.1", "::2", "0.0.0.0"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
