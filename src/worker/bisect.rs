//! Halving of a batch: finds the rows that the database does not take, so that their neighbours are stored.
//!
//! Pure: the caller tries each part that [`Bisect::next`] gives and reports what happened. One bad row in a thousand costs
//! about twenty statements.

use std::ops::Range;

/// Result of storing one part of the rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The part is in the table.
    Stored,
    /// The part holds a row that fails, or rows that are too slow together: try its halves.
    Split,
    /// The single row will never be stored.
    Rejected,
    /// The single row waits alone, and is not tried again here.
    Held,
    /// Nothing can be stored at the moment: try the part again later.
    Retry,
    /// A probe was stored since: try the part again at once.
    TryAgain,
}

/// Progress over the rows of a batch. It outlives a retry: what is stored is not stored again.
#[derive(Debug)]
pub(super) struct Bisect {
    /// Parts still to be stored in this round, the first one last.
    todo: Vec<Range<usize>>,
    /// Parts that wait for the next round.
    waiting: Vec<Range<usize>>,
    any_stored: bool,
}

impl Bisect {
    /// Starts with all of `rows` as one part.
    pub(super) fn new(rows: usize) -> Self {
        let mut todo = Vec::new();
        if rows > 0 {
            todo.push(0..rows);
        }
        Bisect { todo, waiting: Vec::new(), any_stored: false }
    }

    /// Takes the next part of this round. The caller has to report it.
    pub(super) fn next(&mut self) -> Option<Range<usize>> {
        self.todo.pop()
    }

    /// Takes in the result of a part.
    pub(super) fn report(&mut self, part: Range<usize>, verdict: Verdict) {
        match verdict {
            Verdict::Stored => self.any_stored = true,
            Verdict::Split if part.len() > 1 => {
                let middle = part.start + part.len() / 2;
                self.todo.push(middle..part.end);
                self.todo.push(part.start..middle);
            }
            Verdict::Split | Verdict::Retry => self.waiting.push(part),
            Verdict::TryAgain => {
                self.any_stored = true;
                self.todo.push(part);
            }
            Verdict::Rejected | Verdict::Held => {
                debug_assert_eq!(part.len(), 1, "only a single row is rejected or held");
            }
        }
    }

    /// Ends the round: what waits, and what was not tried, is the next one. Returns how many rows that is.
    pub(super) fn end_round(&mut self) -> usize {
        self.todo.append(&mut self.waiting);
        self.todo.iter().map(ExactSizeIterator::len).sum()
    }

    /// Returns whether any part, or a probe, was stored: then the database takes rows, and a failure is a row's own.
    pub(super) fn any_stored(&self) -> bool {
        self.any_stored
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// Runs a round against a database that takes every row but the bad ones; returns stored, rejected and statements.
    fn round(rows: usize, bad: &BTreeSet<usize>) -> (BTreeSet<usize>, BTreeSet<usize>, usize) {
        let mut bisect = Bisect::new(rows);
        let (mut stored, mut rejected, mut statements) = (BTreeSet::new(), BTreeSet::new(), 0);
        while let Some(part) = bisect.next() {
            statements += 1;
            let verdict = match part.clone().any(|row| bad.contains(&row)) {
                false => Verdict::Stored,
                true if part.len() > 1 => Verdict::Split,
                true => Verdict::Rejected,
            };
            match verdict {
                Verdict::Stored => stored.extend(part.clone()),
                Verdict::Rejected => rejected.extend(part.clone()),
                Verdict::Split | Verdict::Retry | Verdict::TryAgain | Verdict::Held => {}
            }
            bisect.report(part, verdict);
        }
        assert_eq!(bisect.end_round(), 0);
        (stored, rejected, statements)
    }

    #[test]
    fn one_bad_row_in_a_thousand_costs_about_twenty_statements() {
        let (stored, rejected, statements) = round(1000, &BTreeSet::from([617]));
        assert_eq!((stored.len(), rejected.len()), (999, 1));
        assert!(statements <= 21, "{statements}");
    }

    #[test]
    fn a_row_that_waits_does_not_hold_its_neighbours() {
        let mut bisect = Bisect::new(2);
        let both = bisect.next().unwrap();
        bisect.report(both, Verdict::Split);
        let first = bisect.next().unwrap();
        bisect.report(first, Verdict::Split); // alone, and too slow
        let second = bisect.next().unwrap();
        assert!(!bisect.any_stored());
        bisect.report(second, Verdict::Stored);
        assert!(bisect.any_stored());
        assert_eq!((bisect.next(), bisect.end_round()), (None, 1));
        assert_eq!(bisect.next(), Some(0..1));
    }

    #[test]
    fn what_was_not_tried_is_tried_in_the_next_round() {
        let mut bisect = Bisect::new(8);
        let all = bisect.next().unwrap();
        bisect.report(all, Verdict::Split);
        let half = bisect.next().unwrap();
        bisect.report(half, Verdict::Retry);
        assert_eq!(bisect.end_round(), 8);
        assert_eq!(Bisect::new(0).next(), None);
    }

    proptest! {
        #[test]
        fn every_row_ends_once_and_good_rows_are_stored(
            rows in 0_usize..600, bad in proptest::collection::btree_set(0_usize..600, 0..20),
        ) {
            let bad: BTreeSet<usize> = bad.into_iter().filter(|row| *row < rows).collect();
            let (stored, rejected, statements) = round(rows, &bad);
            prop_assert_eq!(&rejected, &bad);
            prop_assert!(stored.is_disjoint(&rejected));
            prop_assert_eq!(stored.len() + rejected.len(), rows);
            // A bad row costs two statements for each halving of the batch.
            let halvings = usize::try_from(usize::BITS - rows.leading_zeros()).unwrap();
            prop_assert!(statements <= 1 + bad.len() * 2 * halvings);
        }
    }
}
