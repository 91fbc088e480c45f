//! A scenario that shows the pipeline: the workflow of a BOM through a running pool, and a report of what is stored.

mod bom;
mod report;
mod scenario;
mod script;

pub use bom::{Bom, BomError, Line, SkipReason, SkippedRow};
pub use report::{Report, TimelineRow, TypeCount};
pub use scenario::{COPIES, Progress, Scenario};
