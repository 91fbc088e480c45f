//! The publisher: its contract on the wire, outages and the spool.

mod outages;
mod refused;
mod spool;
pub mod workflow;
