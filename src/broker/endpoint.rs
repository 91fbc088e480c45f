//! The one place that opens connections to RabbitMQ.

use std::sync::Arc;
use std::time::Duration;

use lapin::tcp::{AMQPUriTcpExt, RustlsConnector};
use lapin::uri::{AMQPScheme, AMQPUri};
use lapin::{Connection, ConnectionProperties, runtime};
use rustls::ClientConfig;
use url::Url;

use crate::tls::{TlsFileError, TlsFiles};
use crate::uri;

/// Timeout of a connection attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Seconds between heartbeats unless the URI says otherwise: a peer that went silent is noticed after two.
const HEARTBEAT_SECONDS: u16 = 10;

/// Address, login and TLS settings of a broker: a parsed `amqp://` or `amqps://` URI.
///
/// `amqps` verifies the server's certificate and name. The query's `cacertfile`, `certfile` and `keyfile` name PEM
/// files, as in RabbitMQ's own URI query parameters: the authorities to trust instead of the system's, and the
/// certificate and key that this client shows. `auth_mechanism=external` logs in by that certificate.
#[derive(Clone)]
pub struct BrokerEndpoint {
    pub(super) uri: AMQPUri,
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) name: String,
}

/// A URI that cannot work. Never quotes it: it holds a password.
#[derive(Debug, thiserror::Error)]
pub enum UriError {
    /// Not exactly one URI of a broker. Has no source: a parser's error may quote the text.
    #[error("is not an AMQP URI ({0}); use the form amqp://user:password@host:5672/vhost")]
    Syntax(&'static str),
    /// The server's certificate would not be verified.
    #[error(
        "has a verify other than verify_peer, which does not verify the server: leave it out, or use amqp:// on a \
         trusted network"
    )]
    Unverified,
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
        uri::check(uri, &["amqp", "amqps"]).map_err(UriError::Syntax)?;
        let url = Url::parse(uri).map_err(|_| UriError::Syntax("its host or its port cannot be used"))?;
        if matches!(url.host(), Some(url::Host::Ipv6(_))) {
            // The client library would connect to localhost instead.
            return Err(UriError::Syntax("its host is an IPv6 address; use a name that resolves to it"));
        }
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
        let mut uri: AMQPUri =
            uri.parse().map_err(|_: String| UriError::Syntax("a parameter of its query cannot be used"))?;
        uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
        let tls = match uri.scheme {
            AMQPScheme::AMQPS => Some(files.client_config()?),
            AMQPScheme::AMQP if files.any() => return Err(UriError::NoTls),
            AMQPScheme::AMQP => None,
        };
        Ok(BrokerEndpoint { uri, tls, name: name.to_owned() })
    }

    /// Returns whether connections leave this machine unencrypted.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.tls.is_none() && !uri::is_loopback(&self.uri.authority.host)
    }

    /// Opens a connection; `purpose` tells it apart from the others of this process.
    ///
    /// # Errors
    /// As the broker or the network gives them; no answer within ten seconds is one.
    pub async fn connect(&self, purpose: &str) -> lapin::Result<Connection> {
        let properties =
            ConnectionProperties::default().with_connection_name(format!("{} {purpose}", self.name).into());
        let runtime = runtime::default_runtime()?;
        let tls = self.tls.clone().map(RustlsConnector::from);
        let connecting = Connection::connector(
            self.uri.clone(),
            runtime,
            async move |uri: AMQPUri, runtime| {
                let host = uri.authority.host.clone();
                // The library's own amqps would trust the system's authorities as well.
                let stream = AMQPUri { scheme: AMQPScheme::AMQP, ..uri }.connect_async(&runtime).await?;
                match &tls {
                    None => Ok(stream),
                    Some(tls) => Ok(stream.into_rustls(tls, &host).await?),
                }
            },
            properties,
        );
        tokio::time::timeout(CONNECT_TIMEOUT, connecting).await.unwrap_or_else(|_| {
            Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer within 10 s").into())
        })
    }
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
            ("http://guest:hunter2@host", "first characters"),
            ("hunter2", "first characters"),
            ("amqp://u:p@h:5672//;amqp://guest:hunter2@h2//", "second ://"),
            ("amqp://guest:hunter2@[::1]/", "IPv6"),
            ("amqp://guest:hunter2@host?heartbeat=hunter2", "parameter of its query"),
            ("amqps://guest:hunter2@host?verify=hunter2", "does not verify"),
            ("amqp://guest:hunter2@host?cacertfile=/x", "amqps:// would use it"),
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
}
