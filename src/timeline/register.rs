//! Registers: the latest statement wins, in whatever order the statements are read.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Place of an event in the order of its workflow: its time, and its id where times are equal.
pub(super) type Moment = (DateTime<Utc>, Uuid);

/// Value that was stated last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Register<T>(Option<(Moment, T)>);

impl<T> Default for Register<T> {
    fn default() -> Self {
        Register(None)
    }
}

impl<T> Register<T> {
    /// Takes in a statement.
    pub(super) fn state(&mut self, at: Moment, value: Option<T>) {
        if let Some(value) = value
            && self.0.as_ref().is_none_or(|(latest, _)| *latest <= at)
        {
            self.0 = Some((at, value));
        }
    }

    /// Takes in what another part of the events stated.
    pub(super) fn merge(&mut self, other: Self) {
        if let Some((at, value)) = other.0 {
            self.state(at, Some(value));
        }
    }

    /// Returns whether no event stated it.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Returns the value, where any event stated it.
    pub(super) fn get(&self) -> Option<&T> {
        self.0.as_ref().map(|(_, value)| value)
    }

    /// Returns the time of the statement.
    pub(super) fn at(&self) -> Option<DateTime<Utc>> {
        self.0.as_ref().map(|((at, _), _)| *at)
    }
}
