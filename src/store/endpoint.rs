//! The one place that opens connections to `PostgreSQL`.

use std::time::Duration;

use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::{Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;
use url::Url;

use crate::tls::{TlsFileError, TlsFiles};
use crate::uri;

/// Timeout of a connection attempt, unless the URL has `connect_timeout`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// TCP keepalive and user timeout, unless the URL has its own: time without traffic before the first probe, time between two
/// probes, and maximum time without an acknowledgement.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const UNACKNOWLEDGED: Duration = Duration::from_secs(60);

/// Address, login and TLS settings of a database: a parsed `postgres://` URL.
///
/// `sslmode` is `disable` (also when absent), or `require`, `verify-ca` or `verify-full`, which all verify the
/// server's certificate and name. `sslrootcert`, `sslcert` and `sslkey` name PEM files.
#[derive(Clone)]
pub struct DatabaseEndpoint {
    config: Config,
    tls: Option<MakeRustlsConnect>,
}

/// Error in a database URL. It never quotes the URL, which may contain a password.
#[derive(Debug, thiserror::Error)]
pub enum UrlError {
    /// Not exactly one URL of a `PostgreSQL` database. Has no source: a parser's error may quote the text.
    #[error("is not a PostgreSQL URL ({0}); use the form postgres://user:password@host:5432/database")]
    Syntax(&'static str),
    /// An `sslmode` that does not verify, or that does not exist.
    #[error(
        "has an sslmode that does not verify the server: use verify-full, or disable on a trusted network"
    )]
    SslMode,
    /// Certificate files without TLS.
    #[error("names a certificate file that its sslmode does not use; use sslmode=verify-full")]
    NoTls,
    /// A certificate or key file that cannot be used.
    #[error(transparent)]
    Certificate(#[from] TlsFileError),
}

impl DatabaseEndpoint {
    /// Parses a URL.
    ///
    /// # Errors
    /// The problem with the URL.
    pub fn from_url(url: &str) -> Result<Self, UrlError> {
        uri::check(url, &["postgres", "postgresql"]).map_err(UrlError::Syntax)?;
        let mut url = Url::parse(url).map_err(|_| UrlError::Syntax("its host or its port cannot be used"))?;
        let mut tls = TlsFiles::default();
        let mut verify = false;
        // Other parameters stay as they are: the driver decodes percent signs, but not plus signs.
        let mut kept = Vec::new();
        for raw in url.query().unwrap_or_default().split('&').filter(|raw| !raw.is_empty()) {
            let Some((key, value)) = url::form_urlencoded::parse(raw.as_bytes()).next() else { continue };
            let (key, value) = (key.into_owned(), value.into_owned());
            match key.as_str() {
                "sslmode" => match value.as_str() {
                    "disable" => verify = false,
                    "require" | "verify-ca" | "verify-full" => verify = true,
                    _ => return Err(UrlError::SslMode),
                },
                "sslrootcert" => tls.roots = Some(value.into()),
                "sslcert" => tls.certificate = Some(value.into()),
                "sslkey" => tls.key = Some(value.into()),
                _ => kept.push(raw.to_owned()),
            }
        }
        if tls.any() && !verify {
            return Err(UrlError::NoTls);
        }
        let kept = kept.join("&");
        url.set_query(Some(kept.as_str()).filter(|kept| !kept.is_empty()));
        let mut config: Config = url.as_str().parse().map_err(|_: tokio_postgres::Error| {
            UrlError::Syntax("a parameter of its query cannot be used")
        })?;
        config.ssl_mode(if verify { SslMode::Require } else { SslMode::Disable });
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT_TIMEOUT);
        }
        // A connection that a firewall has dropped is noticed after a minute instead of two hours.
        if !kept.contains("keepalives") {
            config
                .keepalives_idle(KEEPALIVE_IDLE)
                .keepalives_interval(KEEPALIVE_INTERVAL)
                .keepalives_retries(3);
        }
        if !kept.contains("tcp_user_timeout") {
            config.tcp_user_timeout(UNACKNOWLEDGED);
        }
        if config.get_application_name().is_none() {
            config.application_name("cns-events");
        }
        let tls = if verify { Some(MakeRustlsConnect::new((*tls.client_config()?).clone())) } else { None };
        Ok(Self { config, tls })
    }

    /// Returns whether connections leave this machine unencrypted.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        let addresses = self.config.get_hostaddrs();
        let elsewhere = |host: &Host| matches!(host, Host::Tcp(name) if !uri::is_loopback(name));
        self.tls.is_none()
            && match addresses {
                [] => self.config.get_hosts().iter().any(elsewhere),
                addresses => addresses.iter().any(|address| !address.is_loopback()),
            }
    }

    /// Opens a connection and drives it until it ends.
    ///
    /// # Errors
    /// The failure of the server or the network.
    pub async fn connect(&self) -> Result<Client, ConnectError> {
        // The driver's own timeout covers the TCP connection only; a server may be silent after that.
        let timeout = self.config.get_connect_timeout().copied().unwrap_or(CONNECT_TIMEOUT);
        let connecting = async {
            match &self.tls {
                None => {
                    let (client, connection) = self.config.connect(NoTls).await?;
                    tokio::spawn(connection);
                    Ok(client)
                }
                Some(tls) => {
                    let (client, connection) = self.config.connect(tls.clone()).await?;
                    tokio::spawn(connection);
                    Ok(client)
                }
            }
        };
        tokio::time::timeout(timeout, connecting)
            .await
            .unwrap_or_else(|_| Err(ConnectError::Silent(timeout.as_secs())))
    }

    /// Opens a connection for Diesel's own query methods.
    ///
    /// # Errors
    /// The failure of the server or the network.
    pub async fn connect_diesel(&self) -> Result<diesel_async::AsyncPgConnection, ConnectError> {
        Ok(diesel_async::AsyncPgConnection::try_from(self.connect().await?).await?)
    }

    /// Requests the server to cancel a connection's statement. Best effort: the server may be unreachable.
    pub(super) async fn cancel(&self, token: &tokio_postgres::CancelToken) {
        // The result does not matter: the connection is closed in any case.
        let _ = match &self.tls {
            None => token.cancel_query(NoTls).await,
            Some(tls) => token.cancel_query(tls.clone()).await,
        };
    }
}

impl std::fmt::Debug for DatabaseEndpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DatabaseEndpoint").field("tls", &self.tls.is_some()).finish_non_exhaustive()
    }
}

/// Failure to open a connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Failure of the server or the network. The message includes its cause.
    #[error("{}", describe(.0))]
    Postgres(tokio_postgres::Error),
    /// The server accepted the connection and did not answer.
    #[error("no answer within {0} s")]
    Silent(u64),
    /// Diesel could not set up the connection.
    #[error(transparent)]
    Setup(#[from] diesel::ConnectionError),
}

impl From<tokio_postgres::Error> for ConnectError {
    fn from(error: tokio_postgres::Error) -> Self {
        ConnectError::Postgres(error)
    }
}

/// Returns an error of the driver with its cause, which `Display` omits.
pub(crate) fn describe(error: &tokio_postgres::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_that_does_not_verify_is_refused() {
        for mode in ["prefer", "allow", "nonsense"] {
            let error =
                DatabaseEndpoint::from_url(&format!("postgres://u:hunter2@h/d?sslmode={mode}")).unwrap_err();
            assert!(matches!(error, UrlError::SslMode));
            assert!(!error.to_string().contains("hunter2"));
        }
    }

    #[test]
    fn a_certificate_without_tls_is_refused() {
        for url in ["postgres://u@h/d?sslrootcert=/ca.pem", "postgres://u@h/d?sslmode=disable&sslcert=/c.pem"]
        {
            assert!(matches!(DatabaseEndpoint::from_url(url), Err(UrlError::NoTls)), "{url}");
        }
    }

    #[test]
    fn parameters_that_are_not_about_tls_are_kept() {
        let database = DatabaseEndpoint::from_url(
            "postgresql://u@h:1/d?sslmode=disable&application_name=x&connect_timeout=3",
        )
        .unwrap();
        assert_eq!(database.config.get_application_name(), Some("x"));
        let spaced = DatabaseEndpoint::from_url("postgres://u@h/d?application_name=my%20app").unwrap();
        assert_eq!(spaced.config.get_application_name(), Some("my app"));
        assert_eq!(database.config.get_connect_timeout(), Some(&Duration::from_secs(3)));
    }

    #[test]
    fn no_error_quotes_the_password() {
        for url in [
            "mysql://u:hunter2@h/d",
            "postgres://u:hunter2@h:port/d",
            "hunter2",
            "postgres://u:p@h/d;postgres://u:hunter2@h2/d",
            "postgres://u:p@h/d?hunter2=1",
            "postgres://u:p@h/d?connect_timeout=hunter2",
            "postgres://u:p@h/d?sslmode=hunter2",
        ] {
            assert!(!DatabaseEndpoint::from_url(url).unwrap_err().to_string().contains("hunter2"), "{url}");
        }
    }
}
