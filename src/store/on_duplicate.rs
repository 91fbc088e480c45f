//! The writer's choice between the insert that skips duplicates and the cheaper insert that fails on one (docs/adr/0010).

/// Rows without a duplicate after which the writer omits `ON CONFLICT`. An insert that a duplicate fails costs at most one batch in
/// this many rows.
const ROWS_WITHOUT_DUPLICATE: usize = 20_000;

/// An insert's treatment of a row whose `event_id` is in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OnDuplicate {
    /// Leaves the row out.
    Skip,
    /// Fails as a whole.
    Fail,
}

/// Record of recent duplicates of one writer.
#[derive(Debug, Default)]
pub(super) struct DuplicateHistory {
    /// Rows stored since the last duplicate.
    new_rows: usize,
}

impl DuplicateHistory {
    /// Returns the insert for the next batch.
    pub(super) fn choose(&self) -> OnDuplicate {
        if self.new_rows < ROWS_WITHOUT_DUPLICATE { OnDuplicate::Skip } else { OnDuplicate::Fail }
    }

    /// Records an insert that a duplicate failed.
    pub(super) fn failed(&mut self) {
        self.new_rows = 0;
    }

    /// Records that `stored` of the `rows` of a batch were new.
    pub(super) fn stored(&mut self, stored: usize, rows: usize) {
        self.new_rows = if stored < rows { 0 } else { self.new_rows.saturating_add(stored) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicates_are_skipped_until_they_are_rare() {
        let mut history = DuplicateHistory::default();
        assert_eq!(history.choose(), OnDuplicate::Skip, "a new writer knows nothing");
        history.stored(ROWS_WITHOUT_DUPLICATE - 1, ROWS_WITHOUT_DUPLICATE - 1);
        assert_eq!(history.choose(), OnDuplicate::Skip);
        history.stored(1, 1);
        assert_eq!(history.choose(), OnDuplicate::Fail);
    }

    #[test]
    fn one_duplicate_is_enough_to_skip_them_again() {
        let (mut skipped, mut failed) = (DuplicateHistory::default(), DuplicateHistory::default());
        for history in [&mut skipped, &mut failed] {
            history.stored(ROWS_WITHOUT_DUPLICATE, ROWS_WITHOUT_DUPLICATE);
        }
        skipped.stored(9, 10);
        failed.failed();
        assert_eq!((skipped.choose(), failed.choose()), (OnDuplicate::Skip, OnDuplicate::Skip));
    }
}
