//! Facts that events state about their workflow: the run with its stages, and one line of text for each event.
//!
//! Pure: no I/O, no terminal. Odd data never fails it: a field of another type than expected is not stated.
//!
//! A [`Run`] merges in any order. Each of status, stage, total, completed, failed and percent is a register of its own: the
//! value of the greatest (created_at, id) that stated it. Counts, times and pauses are sums, bounds and sets. So late,
//! dated-back and reordered events do not matter, and any split of the events gives the same run. Each event is added once.

mod describe;
mod event;
mod facts;
mod fields;
mod pauses;
mod register;
mod run;
mod stages;
mod summary_lines;
mod text;

pub use describe::{describe, is_line_item};
pub use event::Event;
pub use facts::{part_number, part_number_to_find, stage_time};
pub use run::{Risks, Run, Summary};
pub use stages::{Stage, Stages};
pub use summary_lines::summary_lines;
pub use text::duration;
