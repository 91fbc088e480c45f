//! Dead letters: messages that cannot be stored, kept in a queue of their own with the reason in their headers.
//!
//! ```text
//! the worker     delivery + rejection → encode → publish → dead-letter queue
//! the operator   dead-letter queue → queue → decode → filter → list | export | purge | replay
//! ```
//!
//! The names of the headers stand in [`event::headers`](crate::event::headers). Nothing here knows a terminal: progress goes
//! to a callback, and results are values.

mod decode;
mod encode;
mod export;
mod filter;
mod json;
mod known;
mod publish;
mod queue;
mod replay;
mod reserved;

pub use decode::DeadLetter;
pub use encode::RejectedDelivery;
pub use export::{ExportError, ExportTarget};
pub use filter::{Filter, Selection, is_named};
pub use json::to_json;
pub use publish::{DeadLetterPublisher, DeadLetterSettings, DeliveryKey, NotTaken, Outcome};
pub use queue::{DeadLetterQueue, Held, Progress, QueueError};
pub use replay::{NotReplayed, ReplayOptions, ReplayReport, ReplayTarget, replay};
