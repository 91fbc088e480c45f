//! Errors in connection strings.

use crate::tls::TlsFileError;

/// Error in a database URL. It never quotes the URL, which may contain a password.
#[derive(Debug, thiserror::Error)]
pub enum UrlError {
    /// Not exactly one URL of a `PostgreSQL` database. Has no source: a parser's error may quote the text.
    #[error("is not a PostgreSQL URL ({0}); use the form postgres://user:password@host:5432/database")]
    Syntax(&'static str),
    /// A character before or after the text that is not a part of it.
    #[error("{0}")]
    Stray(&'static str),
    /// A template's text in the place of the password.
    #[error("has a placeholder for its password; write the password in its place")]
    Placeholder,
    /// A list of servers that cannot be used.
    #[error(
        "has {0}; write a host and a port for each server, as in postgres://user:password@host1:5432,host2:5432/database"
    )]
    Servers(&'static str),
    /// An `sslmode`, or another driver's word for it, that does not verify the server.
    #[error(
        "has {0}, which does not verify the server; use sslmode=verify-full, with sslrootcert=FILE for an authority that the system \
         does not know, or sslmode=disable on a trusted network"
    )]
    SslMode(&'static str),
    /// Certificate files without TLS.
    #[error("names a certificate file that its sslmode does not use; use sslmode=verify-full")]
    NoTls,
    /// A certificate or key file that cannot be used.
    #[error(transparent)]
    Certificate(#[from] TlsFileError),
    /// A parameter with a value that cannot be used: its name, and the values that can.
    #[error("has a value of {0} that cannot be used; use {1}")]
    Value(&'static str, &'static str),
    /// A parameter that would have an effect with another client: its name, and the fix.
    #[error("has {0}, which is not supported; {1}")]
    Unsupported(&'static str, &'static str),
    /// A parameter that is not known: its number. Its name may be a part of a password.
    #[error(
        "has an unknown parameter (number {0}); parameters are those of libpq, such as sslmode=verify-full and connect_timeout=10"
    )]
    Unknown(usize),
}
