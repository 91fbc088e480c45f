//! The text of a connection string as keys and values.

use super::UrlError;
use crate::uri::{self, decoded};

/// A key with its value.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Pair {
    pub(super) key: String,
    pub(super) value: String,
    /// Number of the parameter, from 1; 0 in the authority and path of a URI.
    pub(super) number: usize,
}

impl Pair {
    fn new(number: usize, key: &str, value: impl Into<String>) -> Pair {
        Pair { key: key.to_owned(), value: value.into(), number }
    }
}

/// Returns the keys and values of a text, in its order. The authority and the path of a URI are `user`, `password`, `host`, `port`
/// and `dbname`.
pub(super) fn parse(text: &str) -> Result<Vec<Pair>, UrlError> {
    let key = text.split('=').next().unwrap_or_default().trim();
    if text.contains(';') && key.starts_with(|c: char| c.is_ascii_uppercase()) && !text.contains("://") {
        return Err(UrlError::Syntax("it is a list with semicolons, as .NET writes it"));
    }
    if text.contains('=') && !key.is_empty() && key.chars().all(|c| c.is_ascii_lowercase() || c == '_') {
        return keywords(text);
    }
    of_uri(text)
}

fn of_uri(text: &str) -> Result<Vec<Pair>, UrlError> {
    // SQLAlchemy and others name their driver in the scheme: postgresql+psycopg2.
    let (scheme, rest) = text.split_once("://").unwrap_or((text, ""));
    let (base, driver) = scheme.split_once('+').unwrap_or((scheme, ""));
    if base.to_ascii_lowercase().starts_with("postgres")
        && driver.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && text.len() > scheme.len()
    {
        uri::check(&format!("{base}://{rest}"), &["postgres", "postgresql"])
    } else {
        uri::check(text, &["postgres", "postgresql"])
    }
    .map_err(UrlError::Syntax)?;

    let (authority, tail) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (path, query) = tail.split_once('?').unwrap_or((tail, ""));
    let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    let (user, password) = login.split_once(':').unwrap_or((login, ""));
    let password = decoded(password);
    if is_placeholder(&password) {
        return Err(UrlError::Placeholder);
    }
    let mut pairs = vec![Pair::new(0, "user", decoded(user)), Pair::new(0, "password", password)];
    let (hosts, ports) = authority_hosts(hosts)?;
    pairs.push(Pair::new(0, "host", hosts));
    pairs.push(Pair::new(0, "port", ports));
    pairs.push(Pair::new(0, "dbname", decoded(path.strip_prefix('/').unwrap_or(path))));
    for (at, parameter) in query.split('&').filter(|parameter| !parameter.is_empty()).enumerate() {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        pairs.push(Pair::new(at + 1, &decoded(key), decoded(value)));
    }
    Ok(pairs)
}

/// Returns whether a password is a template's text, such as `[YOUR-PASSWORD]`, and not one.
fn is_placeholder(password: &str) -> bool {
    let inner = [('[', ']'), ('<', '>'), ('{', '}')]
        .iter()
        .find_map(|(open, close)| password.strip_prefix(*open)?.strip_suffix(*close));
    inner.is_some_and(|inner| inner.to_ascii_lowercase().contains("password"))
}

/// Splits `host:port,[::1]:port,…` into a list of hosts and a list of ports.
fn authority_hosts(text: &str) -> Result<(String, String), UrlError> {
    let (mut hosts, mut ports) = (Vec::new(), Vec::new());
    for one in text.split(',') {
        let (host, port) = match one.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest
                    .split_once(']')
                    .ok_or(UrlError::Servers("an IPv6 address without its closing bracket"))?;
                (host, port.strip_prefix(':').unwrap_or(port))
            }
            None => one.split_once(':').unwrap_or((one, "")),
        };
        hosts.push(decoded(host));
        ports.push(port.to_owned());
    }
    let ports = if ports.iter().all(String::is_empty) { String::new() } else { ports.join(",") };
    Ok((hosts.join(","), ports))
}

/// Parses `keyword=value …`, where a value with blanks is in single quotes, and a backslash stands before a quote or a backslash.
fn keywords(text: &str) -> Result<Vec<Pair>, UrlError> {
    let mut rest = text.trim();
    let mut pairs = Vec::new();
    while !rest.is_empty() {
        let (key, after) = rest
            .split_once('=')
            .ok_or(UrlError::Syntax("it is a list of keyword=value, and a part has no ="))?;
        let (value, after) = value(after.trim_start())?;
        pairs.push(Pair::new(pairs.len() + 1, key.trim(), value));
        rest = after.trim_start();
    }
    Ok(pairs)
}

/// Returns the first value of a text and what follows it.
fn value(text: &str) -> Result<(String, &str), UrlError> {
    let quoted = text.starts_with('\'');
    let body = if quoted { &text[1..] } else { text };
    let mut value = String::new();
    let mut characters = body.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            '\'' if quoted => return Ok((value, &body[at + 1..])),
            blank if blank.is_whitespace() && !quoted => return Ok((value, &body[at..])),
            other => value.push(other),
        }
    }
    if quoted { Err(UrlError::Syntax("it has a quote that does not end")) } else { Ok((value, "")) }
}
