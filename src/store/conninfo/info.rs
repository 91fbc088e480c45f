//! A connection string, read.

use std::time::Duration;

use tokio_postgres::Config;

use super::servers::Server;
use crate::tls::TlsFiles;

/// Kind of server that a session is wanted on: `target_session_attrs` of libpq.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::store) enum SessionKind {
    #[default]
    Any,
    /// Sessions can write by default.
    ReadWrite,
    /// Sessions cannot write by default.
    ReadOnly,
    /// Not in hot standby.
    Primary,
    /// In hot standby.
    Standby,
    /// In hot standby, or any where none is.
    PreferStandby,
}

/// A parsed connection string.
pub(in crate::store) struct ConnInfo {
    /// Login, database and settings, without a server.
    pub(in crate::store) config: Config,
    /// Servers in the order in which they are tried. At least one.
    pub(in crate::store) servers: Vec<Server>,
    /// Kind of server that is wanted.
    pub(in crate::store) session: SessionKind,
    /// Files of a connection that is encrypted, and verifies the server.
    pub(in crate::store) tls: Option<TlsFiles>,
    /// Timeout of an attempt to connect, where it is set.
    pub(in crate::store) timeout: Option<Duration>,
    /// The text names a pooler in transaction mode, in the words of another client.
    pub(in crate::store) pooled: bool,
}
