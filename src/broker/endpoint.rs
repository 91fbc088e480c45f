//! The one place that opens connections to RabbitMQ.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use lapin::tcp::{AsyncTcpStream, RustlsConnector};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Connection, ConnectionProperties, runtime};
use rustls::ClientConfig;
use tokio::time::timeout;
use url::Url;

use super::unreached::ConnectError;
use crate::race::race;
use crate::stray::stray;
use crate::tls::{TlsFileError, TlsFiles};
use crate::uri;

/// Timeout of a connection attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Seconds between heartbeats unless the URI says otherwise: a peer that went silent is noticed after two.
const HEARTBEAT_SECONDS: u16 = 10;

/// Virtual host where the URI has none, or an empty one: no broker has a virtual host without a name unless an operator added it.
const DEFAULT_VHOST: &str = "/";

/// Schemes of Celery and kombu that name a client library: the protocol is the same.
const OTHER_SCHEMES: [&str; 3] = ["pyamqp", "py-amqp", "librabbitmq"];

/// Address, login and TLS settings of a broker: a parsed `amqp://` or `amqps://` URI.
///
/// `amqps` verifies the server's certificate and name. The query's `cacertfile`, `certfile` and `keyfile` name PEM
/// files, as in RabbitMQ's own URI query parameters: the authorities to trust instead of the system's, and the
/// certificate and key that this client shows. `auth_mechanism=external` logs in by that certificate. The addresses of a name are
/// tried one after the other, the next one as soon as one has failed or was silent for a second.
#[derive(Clone)]
pub struct BrokerEndpoint {
    pub(super) uri: AMQPUri,
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) name: String,
    /// Number of the address of the name that is tried first: another one after each that took a connection and did not answer.
    first: Arc<AtomicUsize>,
    /// Added to errors: why it is this broker.
    note: &'static str,
}

/// A URI that cannot work. Never quotes it: it holds a password.
#[derive(Debug, thiserror::Error)]
pub enum UriError {
    /// Not exactly one URI of a broker. Has no source: a parser's error may quote the text.
    #[error("is not an AMQP URI ({0}); use the form amqp://user:password@host:5672/vhost")]
    Syntax(&'static str),
    /// A character before or after the text that is not a part of it.
    #[error("{0}")]
    Stray(&'static str),
    /// Several brokers.
    #[error(
        "is a list of brokers; use one URI whose host is a name with an address for each, as in amqp://user:password@host:5672/vhost"
    )]
    List,
    /// The server's certificate would not be verified.
    #[error(
        "has a verify other than verify_peer, which does not verify the server: leave it out, or use amqp:// on a \
         trusted network"
    )]
    Unverified,
    /// A parameter that asks for TLS, and no TLS.
    #[error("asks for TLS with {0}, and is amqp://; use amqps:// instead")]
    TlsParameter(&'static str),
    /// Files for TLS, and no TLS.
    #[error("names a certificate file, and is amqp://; amqps:// would use it")]
    NoTls,
    /// A certificate or key file that cannot be used.
    #[error(transparent)]
    Certificate(#[from] TlsFileError),
}

impl BrokerEndpoint {
    /// Understands a URI. `name` is what the broker shows of these connections.
    ///
    /// # Errors
    /// The problem with it.
    pub fn new(uri: &str, name: &str) -> Result<Self, UriError> {
        if let Some(problem) = stray(uri) {
            return Err(UriError::Stray(problem));
        }
        let (scheme, rest) = uri.split_once("://").unwrap_or_default();
        let renamed = format!("amqp://{rest}");
        let is_other = OTHER_SCHEMES.contains(&scheme.to_ascii_lowercase().as_str());
        let uri = if is_other { &renamed } else { uri };
        if is_list(rest) {
            return Err(UriError::List);
        }
        uri::check(uri, &["amqp", "amqps"]).map_err(UriError::Syntax)?;
        let url = Url::parse(uri).map_err(|_| UriError::Syntax("its host or its port cannot be used"))?;
        let mut parsed: AMQPUri =
            uri.parse().map_err(|_: String| UriError::Syntax("a parameter of its query cannot be used"))?;
        if let Some(url::Host::Ipv6(address)) = url.host() {
            // The client library's own parser takes it for localhost.
            parsed.authority.host = address.to_string();
        }
        if parsed.vhost.is_empty() {
            DEFAULT_VHOST.clone_into(&mut parsed.vhost);
        }
        parsed.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
        let files = files(&url)?;
        let tls = match parsed.scheme {
            AMQPScheme::AMQPS => Some(files.client_config()?),
            AMQPScheme::AMQP if files.any() => return Err(UriError::NoTls),
            AMQPScheme::AMQP => match parameter_for_tls(&url) {
                Some(parameter) => return Err(UriError::TlsParameter(parameter)),
                None => None,
            },
        };
        Ok(BrokerEndpoint { uri: parsed, tls, name: name.to_owned(), first: Arc::default(), note: "" })
    }

    /// Sets a note for the errors about this endpoint, such as the variable that would name another.
    #[must_use]
    pub fn with_note(self, note: &'static str) -> Self {
        BrokerEndpoint { note, ..self }
    }

    /// Returns whether connections leave this machine unencrypted.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.tls.is_none() && !uri::is_loopback(&self.uri.authority.host)
    }

    /// Returns whether connections are encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    /// Returns the host and the port, as errors and logs name the broker.
    #[must_use]
    pub fn place(&self) -> String {
        uri::place(&self.uri.authority.host, self.uri.authority.port)
    }

    /// Returns the host and the port with the note, for errors.
    pub(crate) fn noted_place(&self) -> String {
        if self.note.is_empty() { self.place() } else { format!("{} ({})", self.place(), self.note) }
    }

    /// Opens a connection; `purpose` tells it apart from the others of this process.
    ///
    /// # Errors
    /// As the broker or the network gives them; no answer within ten seconds is one.
    pub async fn connect(&self, purpose: &str) -> Result<Connection, ConnectError> {
        let connected = timeout(CONNECT_TIMEOUT, self.open(purpose)).await;
        let connected = connected.unwrap_or_else(|_| Err(silence().into()));
        connected.map_err(|error| {
            self.try_another_first();
            ConnectError::new(self.noted_place(), &error)
        })
    }

    async fn open(&self, purpose: &str) -> lapin::Result<Connection> {
        let properties =
            ConnectionProperties::default().with_connection_name(format!("{} {purpose}", self.name).into());
        let runtime = runtime::default_runtime()?;
        let tls = self.tls.clone().map(RustlsConnector::from);
        let endpoint = self.clone();
        Connection::connector(
            self.uri.clone(),
            runtime,
            async move |uri: AMQPUri, runtime| {
                // On the library's own thread, which ends only when this has ended.
                let connecting = async {
                    let addresses = endpoint.addresses().await?;
                    let connect = |address| AsyncTcpStream::connect(&runtime, address);
                    let attempts: Vec<_> = addresses.into_iter().map(connect).collect();
                    race(attempts).await.map_err(last)
                };
                let stream = timeout(CONNECT_TIMEOUT, connecting).await.unwrap_or_else(|_| Err(silence()))?;
                match &tls {
                    None => Ok(stream),
                    Some(tls) => Ok(stream.into_rustls(tls, &uri.authority.host).await?),
                }
            },
            properties,
        )
        .await
    }

    /// Returns the addresses of the host, in the order in which they are tried.
    pub(super) async fn addresses(&self) -> std::io::Result<Vec<SocketAddr>> {
        let authority = &self.uri.authority;
        let found = tokio::net::lookup_host((authority.host.as_str(), authority.port)).await?;
        let mut addresses: Vec<SocketAddr> = found.collect();
        let first = self.first.load(Ordering::Relaxed).checked_rem(addresses.len()).unwrap_or_default();
        addresses.rotate_left(first);
        Ok(addresses)
    }

    /// Begins with another address the next time: this one took the connection, and cannot be used.
    pub(crate) fn try_another_first(&self) {
        self.first.fetch_add(1, Ordering::Relaxed);
    }
}

/// Returns the error about the last of the addresses.
pub(super) fn last(mut errors: Vec<std::io::Error>) -> std::io::Error {
    errors.pop().unwrap_or_else(|| std::io::Error::other("its name has no address"))
}

fn silence() -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer within 10 s")
}

/// Returns whether what follows the scheme names several brokers.
fn is_list(rest: &str) -> bool {
    let (authority, _) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let hosts = authority.rsplit_once('@').map_or(authority, |(_, hosts)| hosts);
    rest.contains("://") || hosts.contains([',', ';'])
}

/// Returns the PEM files that the query names.
fn files(url: &Url) -> Result<TlsFiles, UriError> {
    let mut files = TlsFiles::default();
    for (key, value) in url.query_pairs() {
        match key.as_ref() {
            "cacertfile" => files.roots = Some(value.as_ref().into()),
            "certfile" => files.certificate = Some(value.as_ref().into()),
            "keyfile" => files.key = Some(value.as_ref().into()),
            "verify" if value != "verify_peer" => return Err(UriError::Unverified),
            _ => {}
        }
    }
    Ok(files)
}

/// Returns the parameter with which another client asks for TLS.
fn parameter_for_tls(url: &Url) -> Option<&'static str> {
    url.query_pairs().find_map(|(key, value)| {
        let names = ["ssl", "ssl_options", "use_ssl", "tls"];
        let name = *names.iter().find(|name| **name == key)?;
        (!matches!(value.as_ref(), "" | "0" | "false" | "False")).then_some(name)
    })
}

impl std::fmt::Debug for BrokerEndpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BrokerEndpoint")
            .field("host", &self.uri.authority.host)
            .field("port", &self.uri.authority.port)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_about_uris_do_not_quote_them() {
        for (uri, expected) in [
            ("amqp:guest:hunter2@host", "first characters"),
            ("http://guest:hunter2@host", "an HTTP API"),
            ("hunter2", "first characters"),
            ("amqp://u:p@h:5672//;amqp://guest:hunter2@h2//", "a name with an address for each"),
            ("amqp://guest:hunter2@h1:5672,h2:5672/", "a name with an address for each"),
            ("amqp://guest:hunter2@::1/", "written [::1]"),
            ("amqp://guest:hunter2@[::1/", "its host or its port"),
            ("amqp://guest:hunter2@host?heartbeat=hunter2", "parameter of its query"),
            ("amqps://guest:hunter2@host?verify=hunter2", "does not verify"),
            ("amqp://guest:hunter2@host?ssl=true", "use amqps://"),
            ("amqp://guest:hunter2@host?cacertfile=/x", "amqps:// would use it"),
            ("\"amqp://guest:hunter2@host\"", "in quotes"),
            ("amqp://guest:hunter2@host\n", "ends with a blank or a line end"),
            (
                "amqps://guest:hunter2@host?cacertfile=/nowhere/ca.pem",
                "/nowhere/ca.pem, which cannot be used",
            ),
            ("amqps://guest:hunter2@host?certfile=/x", "a client certificate needs its key"),
        ] {
            let error = BrokerEndpoint::new(uri, "test").unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains("hunter2"), "{uri}: {error}");
        }
    }

    #[test]
    fn hosts_and_virtual_hosts_are_understood_as_clients_write_them() {
        for (uri, place, vhost) in [
            ("amqp://h", "h:5672", "/"),
            ("amqp://h:5673/", "h:5673", "/"),
            ("amqp://h//", "h:5672", "/"),
            ("amqp://h/%2F", "h:5672", "/"),
            ("amqp://h/v", "h:5672", "v"),
            ("amqps://u:p@h.example/u", "h.example:5671", "u"),
            ("pyamqp://guest@localhost//", "localhost:5672", "/"),
            ("librabbitmq://h/v?heartbeat=30", "h:5672", "v"),
            ("amqp://[::1]:5673/v", "[::1]:5673", "v"),
            ("amqp://u:p@[2001:db8::1]", "[2001:db8::1]:5672", "/"),
            ("amqp://h?ssl=0", "h:5672", "/"),
        ] {
            let broker = BrokerEndpoint::new(uri, "test").unwrap_or_else(|error| panic!("{uri}: {error}"));
            assert_eq!((broker.place().as_str(), broker.uri.vhost.as_str()), (place, vhost), "{uri}");
        }
        assert!(!BrokerEndpoint::new("amqp://[::1]", "test").unwrap().is_plain());
        assert!(BrokerEndpoint::new("amqp://[2001:db8::1]", "test").unwrap().is_plain());
    }
}
