//! Dead letters that were read before their connection was lost: on the next connection they are read again. Pure.

use std::collections::HashMap;

/// Number of dead letters by their id; equal dead letters have the same id.
#[derive(Debug, Default)]
struct Counts(HashMap<String, usize>);

impl Counts {
    fn add(&mut self, id: &str) {
        *self.0.entry(id.to_owned()).or_default() += 1;
    }

    /// Takes one away. Returns whether there was one.
    fn take(&mut self, id: &str) -> bool {
        let Some(count) = self.0.get_mut(id) else { return false };
        *count -= 1;
        if *count == 0 {
            self.0.remove(id);
        }
        true
    }

    fn sum(&self) -> usize {
        self.0.values().sum()
    }
}

/// Dead letter that was just read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// It was not read before.
    New,
    /// It was read on an earlier connection.
    Again,
    /// It was removed on an earlier connection, and the broker did not receive the ack.
    Removed,
}

/// Dead letters that were read, by what became of them.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Read, and still in the queue.
    held: Counts,
    /// Removed on this connection.
    removed: Counts,
    /// To be read again on this connection.
    again: Counts,
    /// To be removed when they are read again.
    to_remove: Counts,
}

impl Known {
    /// Records a dead letter that was read.
    pub(super) fn read(&mut self, id: &str) -> Read {
        if self.to_remove.take(id) {
            self.removed.add(id);
            Read::Removed
        } else if self.again.take(id) {
            Read::Again
        } else {
            self.held.add(id);
            Read::New
        }
    }

    /// Records a dead letter whose ack was sent on this connection.
    pub(super) fn removed(&mut self, id: &str) {
        self.held.take(id);
        self.removed.add(id);
    }

    /// Records a dead letter that has to be removed and whose connection is lost.
    pub(super) fn remove_later(&mut self, id: &str) {
        self.held.take(id);
        if self.again.take(id) {
            self.to_remove.add(id);
        } else {
            self.removed.add(id); // read again on this connection already: the next one removes it
        }
    }

    /// Records that the connection was lost. Which of its acks have arrived is not known.
    pub(super) fn lost(&mut self) {
        for (id, count) in std::mem::take(&mut self.removed.0) {
            *self.to_remove.0.entry(id).or_default() += count;
        }
        self.again = Counts(self.held.0.clone());
    }

    /// Returns the number of dead letters that this connection may read again.
    pub(super) fn outstanding(&self) -> usize {
        self.again.sum() + self.to_remove.sum()
    }

    /// Returns the number of dead letters that are still to be removed.
    pub(super) fn to_remove(&self) -> usize {
        self.to_remove.sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_is_known_on_the_next_connection() {
        let mut known = Known::default();
        for id in ["a", "a", "b", "c"] {
            assert_eq!(known.read(id), Read::New);
        }
        known.removed("b");
        known.lost();
        assert_eq!(known.outstanding(), 4);
        known.remove_later("c");
        // The order on the next connection is any.
        assert_eq!(known.read("c"), Read::Removed);
        assert_eq!(known.read("a"), Read::Again);
        assert_eq!(known.read("d"), Read::New);
        assert_eq!(known.read("a"), Read::Again);
        assert_eq!(known.read("a"), Read::New, "a third of the kind");
        assert_eq!(known.read("b"), Read::Removed, "its ack was lost");
        assert_eq!((known.to_remove(), known.outstanding()), (0, 0));
        known.lost();
        assert_eq!(known.read("b"), Read::Removed, "lost once more");
        assert_eq!(known.read("a"), Read::Again);
    }
}
