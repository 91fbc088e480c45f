//! The publisher: its contract on the wire, outages and the spool.

mod outages;
mod spool;
pub mod workflow;
