//! The one place that opens connections to `PostgreSQL`.

use std::net::IpAddr;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::conninfo::{ConnInfo, Server, SessionKind, UrlError};
use super::unreached::{ConnectError, Unreached};
use crate::race::race;

/// Timeout of an attempt to connect to one server, unless the URL has `connect_timeout`.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Addresses, login and TLS settings of a database: a parsed connection string, in the forms of libpq.
///
/// `sslmode` is `disable` (also when absent), or `require`, `verify-ca` or `verify-full`, which all verify the
/// server's certificate and name. `sslrootcert`, `sslcert` and `sslkey` name PEM files. Several hosts are tried in their order,
/// the next one as soon as one has failed or was silent for a second.
#[derive(Clone)]
pub struct DatabaseEndpoint {
    /// Login, database and settings, without a server.
    config: Config,
    servers: Vec<Server>,
    session: SessionKind,
    tls: Option<MakeRustlsConnect>,
    timeout: Duration,
    pooled: bool,
    /// Added to errors: why it is this server.
    note: &'static str,
}

impl DatabaseEndpoint {
    /// Parses a connection string.
    ///
    /// # Errors
    /// The problem with it.
    pub fn from_url(url: &str) -> Result<Self, UrlError> {
        let ConnInfo { config, servers, session, tls, timeout, pooled } = ConnInfo::parse(url)?;
        let tls = match tls {
            Some(files) => Some(MakeRustlsConnect::new((*files.client_config()?).clone())),
            None => None,
        };
        let timeout = timeout.unwrap_or(CONNECT_TIMEOUT);
        Ok(Self { config, servers, session, tls, timeout, pooled, note: "" })
    }

    /// Sets a note for the errors about this endpoint, such as the variable that would name another.
    pub(crate) fn with_note(self, note: &'static str) -> Self {
        DatabaseEndpoint { note, ..self }
    }

    /// Returns whether connections leave this machine unencrypted.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.tls.is_none() && !self.servers.iter().all(Server::is_local)
    }

    /// Returns whether the text names a pooler in transaction mode, behind which no statement may be prepared.
    #[must_use]
    pub fn is_pooled(&self) -> bool {
        self.pooled
    }

    /// Returns the servers as errors and logs name them.
    #[must_use]
    pub fn place(&self) -> String {
        self.servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    /// Opens a connection and drives it until it ends.
    ///
    /// # Errors
    /// The failure of each server, or of the network.
    pub async fn connect(&self) -> Result<Client, ConnectError> {
        let passes: &[SessionKind] = match self.session {
            SessionKind::PreferStandby => &[SessionKind::Standby, SessionKind::Any],
            _ => std::slice::from_ref(&self.session),
        };
        let mut failures = Vec::new();
        for wanted in passes {
            let attempts: Vec<_> =
                self.servers.iter().map(|server| self.connect_to(server, *wanted)).collect();
            match race(attempts).await {
                Ok(client) => return Ok(client),
                Err(all) => failures = all,
            }
        }
        Err(ConnectError::of(failures, self.note))
    }

    /// Opens a connection within a time that may be shorter than the URL's own.
    ///
    /// # Errors
    /// As [`DatabaseEndpoint::connect`].
    pub(super) async fn connect_within(&self, limit: Duration) -> Result<Client, ConnectError> {
        let silence = |_| Err(ConnectError::of(vec![Unreached::silent(self.place(), limit)], self.note));
        timeout(limit, self.connect()).await.unwrap_or_else(silence)
    }

    /// Opens a connection for Diesel's own query methods.
    ///
    /// # Errors
    /// The failure of the server or the network.
    pub async fn connect_diesel(&self) -> Result<diesel_async::AsyncPgConnection, ConnectError> {
        Ok(diesel_async::AsyncPgConnection::try_from(self.connect().await?).await?)
    }

    /// Opens a connection to one server, at any of the addresses of its name.
    async fn connect_to(&self, server: &Server, wanted: SessionKind) -> Result<Client, Unreached> {
        let connecting = async {
            let targets = self.targets(server).await.map_err(|error| Unreached::network(server, &error))?;
            let attempts: Vec<_> = targets.iter().map(|target| self.open(server, target, wanted)).collect();
            race(attempts).await.map_err(|failures| Unreached::most_telling(failures, server))
        };
        // The driver's own timeout covers the TCP connection only; a server may be silent after that.
        let silence = |_| Err(Unreached::silent(server.to_string(), self.timeout));
        timeout(self.timeout, connecting).await.unwrap_or_else(silence)
    }

    /// Returns the settings for each address of a server.
    async fn targets(&self, server: &Server) -> std::io::Result<Vec<Config>> {
        let (name, port, addresses) = match server {
            Server::Unix { folder, port } => {
                let mut config = self.config.clone();
                config.host_path(folder).port(*port);
                return Ok(vec![config]);
            }
            Server::Tcp { name, address: Some(address), port } => (name, port, vec![*address]),
            Server::Tcp { name, address: None, port } => {
                let found = lookup_host((name.as_str(), *port)).await?;
                (name, port, found.map(|address| address.ip()).collect())
            }
        };
        let target = |address: IpAddr| {
            let mut config = self.config.clone();
            config.host(name).hostaddr(address).port(*port);
            config
        };
        Ok(addresses.into_iter().map(target).collect())
    }

    /// Opens a connection to an address, and checks that the server is of the kind that is wanted.
    async fn open(&self, server: &Server, target: &Config, wanted: SessionKind) -> Result<Client, Unreached> {
        let mut config = target.clone();
        // As with libpq, a Unix socket is never encrypted.
        let opened = match self.tls.as_ref().filter(|_| matches!(server, Server::Tcp { .. })) {
            None => config.ssl_mode(SslMode::Disable).connect(NoTls).await.map(|(client, connection)| {
                tokio::spawn(connection);
                client
            }),
            Some(tls) => {
                let connected = config.ssl_mode(SslMode::Require).connect(tls.clone()).await;
                connected.map(|(client, connection)| {
                    tokio::spawn(connection);
                    client
                })
            }
        };
        let client = opened.map_err(|error| Unreached::refused(server, error))?;
        match is_of_kind(&client, wanted).await {
            Ok(None) => Ok(client),
            Ok(Some(other)) => Err(Unreached::other_kind(server, other)),
            Err(error) => Err(Unreached::refused(server, error)),
        }
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

/// Returns `None` for a session of the kind that is wanted, else what the server is instead.
async fn is_of_kind(
    client: &Client,
    wanted: SessionKind,
) -> Result<Option<&'static str>, tokio_postgres::Error> {
    let (question, good, other) = match wanted {
        SessionKind::Any | SessionKind::PreferStandby => return Ok(None),
        SessionKind::ReadWrite => ("show transaction_read_only", "off", "sessions are read-only there"),
        SessionKind::ReadOnly => ("show transaction_read_only", "on", "sessions can write there"),
        SessionKind::Primary => ("select pg_catalog.pg_is_in_recovery()", "f", "it is a standby"),
        SessionKind::Standby => ("select pg_catalog.pg_is_in_recovery()", "t", "it is a primary"),
    };
    let answers = client.simple_query(question).await?;
    let answer = answers.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    Ok((answer != Some(good)).then_some(other))
}
