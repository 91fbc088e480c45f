//! A row that was stored lately: a probe like it shows whether the table still takes such rows, whatever an operator has added.

use std::sync::{Mutex, PoisonError};

use crate::event::Event;

/// Maximum size of the documents of a kept event, in bytes: one is copied for each batch.
const MAX_DOCUMENT_BYTES: usize = 16 * 1024;

/// Event of a row that this process stored last.
#[derive(Debug, Default)]
pub struct LastStored(Mutex<Option<Event<'static>>>);

impl LastStored {
    /// Keeps an event, unless it is large.
    pub(super) fn set(&self, event: &Event<'_>) {
        if event.state.get().len() + event.payload.get().len() <= MAX_DOCUMENT_BYTES {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(event.to_static());
        }
    }

    /// Returns the event, where there is one.
    pub(super) fn get(&self) -> Option<Event<'static>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
