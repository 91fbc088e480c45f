//! The one place that opens connections to RabbitMQ.

use std::time::Duration;

use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Seconds between heartbeats unless the URI says otherwise: a peer that went silent is noticed after two.
const HEARTBEAT_SECONDS: u16 = 10;

/// Where the broker is: an `amqp://` or `amqps://` URI, understood.
#[derive(Clone)]
pub struct Broker {
    uri: AMQPUri,
    name: String,
}

/// A URI that cannot work. Never quotes it: it holds a password.
#[derive(Debug, thiserror::Error)]
#[error("is not an AMQP URI ({0}); amqp://user:password@host:5672/vhost would be one")]
pub struct UriError(String);

impl Broker {
    /// Understands a URI. `name` is what the broker shows of these connections.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn new(uri: &str, name: &str) -> Result<Self, UriError> {
        let mut uri: AMQPUri = uri.parse().map_err(|error: String| UriError(error))?;
        uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
        Ok(Broker { uri, name: name.to_owned() })
    }

    /// Opens a connection; `purpose` tells it apart from the others of this process.
    ///
    /// # Errors
    /// As the broker or the network gives them; no answer within ten seconds is one.
    pub async fn connect(&self, purpose: &str) -> lapin::Result<Connection> {
        let properties =
            ConnectionProperties::default().with_connection_name(format!("{} {purpose}", self.name).into());
        let connecting = Connection::connect_uri(self.uri.clone(), properties);
        tokio::time::timeout(CONNECT_TIMEOUT, connecting).await.unwrap_or_else(|_| {
            Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer within 10 s").into())
        })
    }

    /// TLS with the certificates that the system trusts, for the greeting that is read by hand.
    #[cfg(feature = "service")]
    pub(super) fn tls() -> std::io::Result<tokio_rustls::TlsConnector> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(std::io::Error::other)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(std::sync::Arc::new(config).into())
    }

    #[cfg(feature = "service")]
    pub(super) fn uri(&self) -> &AMQPUri {
        &self.uri
    }
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker")
            .field("host", &self.uri.authority.host)
            .field("port", &self.uri.authority.port)
            .finish_non_exhaustive()
    }
}
