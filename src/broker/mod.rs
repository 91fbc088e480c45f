//! The broker: connections, topology, dead letters. Names nothing of the database.

mod connect;
#[cfg(feature = "service")]
mod dead_letters;
#[cfg(feature = "service")]
pub mod failure;
#[cfg(feature = "service")]
mod inspect;
#[cfg(feature = "service")]
mod topology;
#[cfg(feature = "service")]
mod version;
#[cfg(feature = "service")]
mod wire;

pub use connect::{Broker, UriError};
#[cfg(feature = "service")]
pub use dead_letters::{DeadLetters, Letter, Undelivered, is_own_header, set_apart};
#[cfg(feature = "service")]
pub use inspect::{Inspected, Route, State, TAKE_BACK, take_probes_back, try_route};
#[cfg(feature = "service")]
pub use topology::{Declared, QueueType, Topology, TopologyError};
#[cfg(feature = "service")]
pub use version::Version;
#[cfg(feature = "service")]
pub use wire::{
    Consumer, Delivery, Got, Property, Published, RawMessage, RawProperties, Tag, Wire, WireError,
};
