//! The broker for a producer alone: its endpoint, and the exchange.

mod endpoint;
mod exchange;
mod refusal;
mod unreached;

pub use endpoint::{BrokerEndpoint, UriError};
pub(crate) use exchange::declare_exchange;
pub(crate) use refusal::refusal;
pub use unreached::ConnectError;
