//! The servers that a process depends on.

/// A server that a process depends on, and reconnects to when it was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dependency {
    /// RabbitMQ.
    Broker,
    /// `PostgreSQL`.
    Database,
}

impl Dependency {
    /// Every dependency.
    pub const ALL: [Dependency; 2] = [Dependency::Broker, Dependency::Database];

    /// Returns the value of the `peer` label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Dependency::Broker => "broker",
            Dependency::Database => "database",
        }
    }
}
