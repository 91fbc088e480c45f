//! The broker: endpoint, topology, version and reply codes. lapin declares and publishes here; never names Diesel.

mod endpoint;
mod exchange;
pub mod failure;
mod inspect;
pub mod notices;
mod raw;
mod refusal;
mod rights;
mod topology;
mod unreached;
mod version;

pub use endpoint::{BrokerEndpoint, UriError};
pub(crate) use exchange::declare_exchange;
pub use inspect::{Inspected, MAX_PROBE_READS, Route, State, drain_probes, probe_route};
pub use lapin::Connection;
pub(crate) use raw::Stream;
pub(crate) use refusal::refusal;
pub use rights::{Right, right_to_bind, right_to_consume};
pub use topology::{Declared, QueueType, Topology, TopologyError, queue_depth, queue_depth_on};
pub use unreached::ConnectError;
pub use version::Version;
