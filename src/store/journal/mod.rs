//! The journal: what was stored, in the order in which it became visible (section 10 of the contract).
//!
//! A reader has a [`Position`] and asks for a [`look`]: the rows that became visible since, each once, by index, and the next
//! position. Both come from one statement, and so from one snapshot.

mod look;
mod position;
mod snapshot;

pub use look::{JournalRow, Look, Looked, Reset, ResetReason, explain, here, look};
pub use position::{Epoch, MAX_TEXT, Page, Position, PositionError};
pub use snapshot::{Snapshot, SnapshotError};
