//! Addresses to listen on.

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;

/// Host and port of a server of this process. The host is an address, or a name of this machine such as `localhost`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Listen(String);

impl Listen {
    /// Returns the host and the port.
    ///
    /// # Errors
    /// The problem, as the end of a sentence whose subject is the value.
    pub fn parts(&self) -> Result<(&str, u16), &'static str> {
        let text = self.0.as_str();
        if text.contains('/') {
            return Err("is not a host and a port");
        }
        let Some((host, port)) = text.rsplit_once(':') else {
            return Err(if text.chars().all(|c| c.is_ascii_digit()) { "has no host" } else { "has no port" });
        };
        let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        match inner {
            Some(address) if address.parse::<std::net::Ipv6Addr>().is_err() => {
                return Err("has an IPv6 address that is none");
            }
            None if host.contains(':') => return Err("has an IPv6 address without brackets, or no port"),
            None if host.is_empty() || host == "*" => {
                return Err("has no host, which is 0.0.0.0 for all addresses");
            }
            None if !host.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '-' | '_')) => {
                return Err("has a host that is no name and no address");
            }
            _ => {}
        }
        let port = port.parse().map_err(|_| "has a port that is not a number from 0 to 65535")?;
        Ok((inner.unwrap_or(host), port))
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_and_addresses() {
        for (text, parts) in [
            ("127.0.0.1:9464", ("127.0.0.1", 9464)),
            ("localhost:9464", ("localhost", 9464)),
            ("0.0.0.0:0", ("0.0.0.0", 0)),
            ("[::1]:9464", ("::1", 9464)),
            ("[::]:9464", ("::", 9464)),
            ("worker-1.example:80", ("worker-1.example", 80)),
        ] {
            assert_eq!(Listen(text.to_owned()).parts(), Ok(parts), "{text}");
        }
    }

    #[test]
    fn the_problem_of_other_texts_is_named() {
        for (text, named) in [
            ("", "no host"),
            ("9464", "no host"),
            (":9464", "0.0.0.0 for all"),
            ("*:9464", "0.0.0.0 for all"),
            ("localhost", "no port"),
            ("localhost:", "port that is not a number"),
            ("localhost:http", "port that is not a number"),
            ("localhost:70000", "port that is not a number"),
            ("::1:9464", "without brackets"),
            ("[::g]:9464", "that is none"),
            ("http://localhost:9464", "not a host and a port"),
            ("local host:9464", "no name and no address"),
        ] {
            let problem = Listen(text.to_owned()).parts().expect_err(text);
            assert!(problem.contains(named), "{text}: {problem}");
        }
    }
}
