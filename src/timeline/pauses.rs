//! Pauses of a workflow, from the events that pause and resume it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::register::Moment;

/// Pause and resume events that are kept, the newest: a workflow that is paused more often has a shorter memory, not a larger row.
const MAX_EDGES: usize = 200;

/// Kind of an event that pauses or resumes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Edge {
    /// The workflow was paused.
    Pause,
    /// The workflow went on.
    Resume,
}

/// The newest pause and resume events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(Moment, Edge)>", into = "Vec<(Moment, Edge)>")]
pub(super) struct Pauses(BTreeMap<Moment, Edge>);

impl From<Vec<(Moment, Edge)>> for Pauses {
    fn from(edges: Vec<(Moment, Edge)>) -> Self {
        Pauses(edges.into_iter().collect())
    }
}

impl From<Pauses> for Vec<(Moment, Edge)> {
    fn from(pauses: Pauses) -> Self {
        pauses.0.into_iter().collect()
    }
}

impl Pauses {
    /// Returns whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

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
