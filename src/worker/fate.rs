//! The end of one delivery: section 5 of the contract as a type.

use crate::event::Rejection;
use crate::store::StoreFailure;

/// State of one delivery on its way to its end.
#[derive(Debug)]
pub(super) enum Fate {
    /// Nothing is decided: the event is not in the table yet.
    Pending,
    /// The row cannot be stored at the moment although others can: it waits alone.
    Held(StoreFailure),
    /// The event is in the table, stored by this delivery.
    Stored,
    /// The event was in the table before.
    Duplicate,
    /// A probe of `doctor`, which is dropped.
    Probe,
    /// The message cannot be stored, and its dead letter is not confirmed yet.
    Rejected(Rejection),
    /// The broker has confirmed the dead letter.
    DeadLettered,
    /// The delivery is rejected, and the broker dead-letters it by itself: it was too large to be received, or the broker refuses its
    /// dead letter however it is sent.
    Refused,
}

impl Fate {
    /// Returns whether the delivery is rejected instead of acknowledged.
    pub(super) fn is_refused(&self) -> bool {
        matches!(self, Fate::Refused)
    }

    /// Returns whether the delivery has its end: it may be acknowledged, or rejected where it is refused.
    pub(super) fn is_settled(&self) -> bool {
        match self {
            Fate::Stored | Fate::Duplicate | Fate::Probe | Fate::DeadLettered | Fate::Refused => true,
            Fate::Pending | Fate::Held(_) | Fate::Rejected(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Reason;

    #[test]
    fn only_deliveries_with_an_end_are_settled() {
        for settled in [Fate::Stored, Fate::Duplicate, Fate::Probe, Fate::DeadLettered, Fate::Refused] {
            assert!(settled.is_settled(), "{settled:?}");
        }
        let rejected = Fate::Rejected(Rejection::of(Reason::InvalidField, "bom_id", "is not a UUID"));
        let held = Fate::Held(StoreFailure::timeout(std::time::Duration::ZERO));
        for open in [rejected, held, Fate::Pending] {
            assert!(!open.is_settled(), "{open:?}");
        }
    }
}
