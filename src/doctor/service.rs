//! The services that can be checked.

/// Service whose configuration, servers and login are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Service {
    /// `cns-events worker`: the broker, and a database to store into
    Worker,
    /// `cns-events serve`: the keys for tokens, and a database to read from
    Serve,
}
