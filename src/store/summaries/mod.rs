//! The tables of summaries: the one writer that keeps them exact, their comparison with the events, and reads of them.
//!
//! The writer folds what the journal shows as new, and adds it together with its position in one transaction: whatever crashes, each
//! event is summed once. Merges commute, so that late, dated-back and reordered events do not matter.

mod aggregator;
mod apply;
mod events;
mod fill;
mod position;
mod verify;

pub use aggregator::{Aggregator, Folded, ROLE, Round};
pub use fill::Filled;
pub use verify::{Difference, Verified};
