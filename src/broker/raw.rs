//! The endpoint as [`crate::amqp`] connects to it: a stream, a login and the names that go with them.

use lapin::uri::SASLMechanism;
use tokio::net::TcpStream;

use super::BrokerEndpoint;
use super::endpoint::last;
use crate::race::race;

/// Stream of bytes, encrypted or not.
pub(crate) trait Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + Sync {}

impl<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + Sync> Stream for S {}

impl BrokerEndpoint {
    /// Connects, and returns the stream for frames that [`crate::amqp`] reads.
    pub(crate) async fn stream(&self) -> std::io::Result<Box<dyn Stream>> {
        let authority = &self.uri.authority;
        let attempts: Vec<_> = self.addresses().await?.into_iter().map(TcpStream::connect).collect();
        let stream = race(attempts).await.map_err(last)?;
        stream.set_nodelay(true)?;
        let Some(tls) = &self.tls else { return Ok(Box::new(stream)) };
        let name =
            rustls::pki_types::ServerName::try_from(authority.host.clone()).map_err(std::io::Error::other)?;
        Ok(Box::new(tokio_rustls::TlsConnector::from(tls.clone()).connect(name, stream).await?))
    }

    /// Returns the name that the broker shows of these connections.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns the name of the user.
    pub(crate) fn user(&self) -> &str {
        &self.uri.authority.userinfo.username
    }

    /// Returns the virtual host.
    pub(crate) fn vhost(&self) -> &str {
        &self.uri.vhost
    }

    /// Returns the interval of heartbeats that this side wants, in seconds; 0 for none.
    pub(crate) fn heartbeat_seconds(&self) -> u16 {
        self.uri.query.heartbeat.unwrap_or_default()
    }

    /// Returns how to log in.
    ///
    /// # Errors
    /// `auth_mechanism` names a mechanism that is not supported.
    pub(crate) fn login(&self) -> Result<Login, String> {
        let user = &self.uri.authority.userinfo;
        let mechanism = self.uri.query.auth_mechanism.unwrap_or_default();
        let response = match mechanism {
            SASLMechanism::Plain => format!("\0{}\0{}", user.username, user.password).into_bytes(),
            SASLMechanism::External | SASLMechanism::Anonymous => Vec::new(),
            other => return Err(format!("auth_mechanism={other} is not supported")),
        };
        Ok(Login { mechanism: mechanism.name(), response })
    }
}

/// Login of a connection (SASL). Never printed: the response holds the password.
pub(crate) struct Login {
    /// Name of the mechanism.
    pub(crate) mechanism: &'static str,
    /// Initial response.
    pub(crate) response: Vec<u8>,
}
