//! Summaries of what is stored: counts by hour, times of stages, and the state of each workflow (section 11 of the contract).
//!
//! [`Sums`] is pure: it folds events, and merges in any order. The task `aggregate` folds what the journal shows as new and adds it to
//! the tables with its position, in one transaction ([`crate::store::summaries`]).

pub mod histogram;
mod pace;
mod sums;
mod task;

pub use sums::{CountKey, NamedTypes, OTHER, PartKey, RunKey, StageKey, Sums, hour};
pub use task::Task;
