//! Pauses of a workflow, from the events that pause and resume it.

use std::collections::BTreeMap;

use super::register::Moment;

/// Pause and resume events that are kept, the newest: a workflow that is paused more often has a shorter memory, not a larger row.
const MAX_EDGES: usize = 200;

/// Kind of an event that pauses or resumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Edge {
    /// The workflow was paused.
    Pause,
    /// The workflow went on.
    Resume,
}

/// The newest pause and resume events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pauses(BTreeMap<Moment, Edge>);

impl Pauses {
    /// Takes in an event.
    pub(super) fn add(&mut self, at: Moment, edge: Edge) {
        self.0.insert(at, edge);
        while self.0.len() > MAX_EDGES {
            self.0.pop_first();
        }
    }

    /// Takes in the events of another part.
    pub(super) fn merge(&mut self, other: Self) {
        other.0.into_iter().for_each(|(at, edge)| self.add(at, edge));
    }

    /// Returns the number of pause events, and the milliseconds of the pauses that ended. A pause that was reported twice lasts
    /// from the first report.
    pub(super) fn totals(&self) -> (u64, i64) {
        let (mut pauses, mut paused_ms, mut since) = (0, 0, None);
        for ((at, _), edge) in &self.0 {
            match edge {
                Edge::Pause => {
                    pauses += 1;
                    since.get_or_insert(*at);
                }
                Edge::Resume => {
                    let paused = since.take().map_or(0, |since| (*at - since).num_milliseconds());
                    paused_ms += paused;
                }
            }
        }
        (pauses, paused_ms)
    }
}
