//! The broker: endpoint, topology, version and reply codes. lapin declares and publishes here; never names Diesel.

mod endpoint;
#[cfg(feature = "service")]
pub mod failure;
#[cfg(feature = "service")]
mod inspect;
#[cfg(feature = "service")]
mod raw;
#[cfg(feature = "service")]
mod topology;
#[cfg(feature = "service")]
mod version;

pub use endpoint::{BrokerEndpoint, UriError};
#[cfg(feature = "service")]
pub use inspect::{Inspected, MAX_PROBE_READS, Route, State, drain_probes, probe_route};
#[cfg(feature = "service")]
pub use lapin::Connection;
#[cfg(feature = "service")]
pub(crate) use raw::Stream;
#[cfg(feature = "service")]
pub use topology::{Declared, QueueType, Topology, TopologyError, queue_depth, queue_depth_on};
#[cfg(feature = "service")]
pub use version::Version;
