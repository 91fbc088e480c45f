//! The broker: connections, topology, dead letters. Names nothing of the database.

mod connect;
#[cfg(feature = "service")]
mod dead_letters;
mod topology;
mod version;

pub use connect::{Broker, UriError};
#[cfg(feature = "service")]
pub use dead_letters::{DeadLetters, Undelivered};
pub use topology::{QueueType, Topology, TopologyError};
pub use version::Version;
