//! The broker: connections, topology, dead letters. Names nothing of the database.

mod connect;
#[cfg(feature = "service")]
mod dead_letters;
#[cfg(feature = "service")]
mod topology;
#[cfg(feature = "service")]
mod version;

pub use connect::{Broker, UriError};
#[cfg(feature = "service")]
pub use dead_letters::{DeadLetters, KeptLetter, Letter, Undelivered};
#[cfg(feature = "service")]
pub use topology::{QueueType, Topology, TopologyError};
#[cfg(feature = "service")]
pub use version::Version;
