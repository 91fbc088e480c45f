//! AMQP 0-9-1 as bytes, for messages that have to arrive as they are.
//!
//! RabbitMQ takes and delivers short strings that are not UTF-8, headers of any depth and bodies of any size. The client library
//! (lapin) reads every short string as UTF-8 and fails the whole connection over one that is not, and it keeps what it has
//! received without a bound. So whatever has to live with any message is here: the lanes' consumers, dead letters on their
//! way out, and the browsing of a queue. Whatever only declares or publishes this program's own messages is lapin's, in
//! [`crate::broker`] and [`crate::publisher`]. Nothing is implemented in both.
//!
//! ```text
//!   Consumer      Browser      ConfirmChannel     what callers use: one connection each
//!       └────────────┼────────────┘
//!               Connection                        handshake, login, a method and its answer
//!               ┌────┴─────┐
//!             Inbox     Transport                 contents put together │ the stream and its buffers
//!               └────┬─────┘
//!     codec · method · table · properties         bytes ↔ frames, methods, field tables, properties; pure
//! ```
//!
//! A delivery's key, properties and body are slices of the buffer that the stream was read into; nothing is copied unless a
//! body arrives in several frames. No layer recurses, and each bounds what it keeps.

mod browser;
mod codec;
mod confirm;
mod connection;
mod consumer;
mod delivery;
mod error;
#[doc(hidden)]
pub mod fuzz;
mod heartbeat;
mod inbox;
mod message;
mod method;
mod properties;
pub mod table;
mod transport;

use std::time::Duration;

pub use browser::{Browser, HeldMessage, HeldTag};
pub use confirm::{ConfirmChannel, ConfirmEvent, Published};
pub(crate) use connection::server_version;
pub use consumer::{Consumer, Settlement};
pub use delivery::Delivery;
pub use error::AmqpError;
pub use message::RawMessage;
pub use properties::{Property, RawProperties};

/// Time that the broker may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
