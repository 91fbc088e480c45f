//! The decision about a part of a batch that the database did not store. Pure.

use crate::store::{FailureClass, Hold, StoreFailure};

/// SQLSTATE class of missing tables, columns, functions and privileges.
const OBJECT_CLASS: &str = "42";

/// Decision about a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// A probe has to show first whether the database stores rows at all.
    NeedsProbe,
    /// A probe was stored after the single row had failed, and what had been wrong may have ended between them: try the row again, and
    /// judge by that.
    TryAgain,
    /// A row of the part fails, or the rows are too slow together: try its halves.
    Split,
    /// The single row will never be stored.
    Reject,
    /// The single row waits alone: others can be stored, or may be.
    HoldAlone,
    /// Nothing can be stored at the moment.
    HoldAll,
}

/// Scope of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    /// It is about a row of the part.
    Row,
    /// It is about the server, or the connection to it.
    Server,
    /// It may be about either: a lock, a missing object, a corrupt index.
    Unclear,
}

fn scope(failure: &StoreFailure) -> Scope {
    match failure.class {
        _ if failure.about_row => Scope::Row,
        FailureClass::Data | FailureClass::Unknown => Scope::Row,
        FailureClass::Held(hold) => match hold {
            Hold::ReadOnly
            | Hold::Serialization
            | Hold::Deadlock
            | Hold::Rollback
            | Hold::Connection
            | Hold::Resources => Scope::Server,
            // A login is refused, or the database does not exist (classes 28 and 3D).
            Hold::Operator if is_about_the_login(failure) => Scope::Server,
            Hold::Unavailable if is_a_shutdown(failure) => Scope::Server,
            Hold::Session | Hold::Timeout | Hold::Operator | Hold::Unavailable | Hold::Internal => {
                Scope::Unclear
            }
        },
    }
}

fn is_about_the_login(failure: &StoreFailure) -> bool {
    failure.sqlstate.as_deref().is_none_or(|code| code.starts_with("28") || code.starts_with("3D"))
}

fn is_a_shutdown(failure: &StoreFailure) -> bool {
    failure.sqlstate.as_deref().is_none_or(|code| code.starts_with("57"))
}

/// Returns whether a probe that failed shows that the server writes: a constraint, a trigger or a policy refused its row.
pub(super) fn shows_that_the_server_writes(probe: &StoreFailure) -> bool {
    scope(probe) == Scope::Row && probe.sqlstate.is_some()
}

/// Decides about a part of `rows` rows that failed. `any_stored` is set where another row was stored before it failed; `probe` is the
/// result of a probe, where there was one since.
pub(super) fn judge(
    failure: &StoreFailure,
    rows: usize,
    any_stored: bool,
    probe: Option<&Result<(), StoreFailure>>,
) -> Decision {
    let alone = if rows > 1 { Decision::Split } else { Decision::HoldAlone };
    match scope(failure) {
        Scope::Server => Decision::HoldAll,
        Scope::Row if rows > 1 => Decision::Split,
        Scope::Row => match failure.class {
            FailureClass::Held(_) => Decision::HoldAlone,
            FailureClass::Data | FailureClass::Unknown if any_stored => Decision::Reject,
            FailureClass::Data | FailureClass::Unknown => match probe {
                None => Decision::NeedsProbe,
                Some(Ok(())) => Decision::TryAgain,
                Some(Err(probe)) if scope(probe) == Scope::Server => Decision::HoldAll,
                Some(Err(_)) => Decision::HoldAlone,
            },
        },
        // What was stored a moment ago does not show that a statement ends in time now.
        Scope::Unclear if any_stored && failure.class != FailureClass::Held(Hold::Timeout) => alone,
        Scope::Unclear => match probe {
            None => Decision::NeedsProbe,
            Some(Ok(())) => alone,
            Some(Err(probe)) if shows_that_the_server_writes(probe) => alone,
            Some(Err(_)) => Decision::HoldAll,
        },
    }
}

/// Decision about a row that waits alone and has failed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AloneDecision {
    /// It is tried again later.
    Wait,
    /// It will not be stored: the others are, or its hold has expired.
    Reject,
}

/// Decides about a row that waits alone. `rows_are_stored` is set where other rows were stored both before and after it failed the last
/// time but one: where trouble has just ended, or begun, one of the two alone shows nothing. `probe` is the result of a probe, where no
/// other row was stored since.
pub(super) fn judge_alone(
    failure: &StoreFailure,
    expired: bool,
    rows_are_stored: bool,
    probe: Option<&Result<(), StoreFailure>>,
) -> AloneDecision {
    let is_data = matches!(failure.class, FailureClass::Data | FailureClass::Unknown);
    // A constraint that nothing satisfies. Missing objects and privileges are held for as long as that lasts.
    let lasts = failure.sqlstate.as_deref().is_some_and(|code| code.starts_with(OBJECT_CLASS));
    let nothing_satisfies =
        is_data && !lasts && matches!(probe, Some(Err(probe)) if scope(probe) == Scope::Row);
    if rows_are_stored && is_data || expired && (rows_are_stored || nothing_satisfies) {
        AloneDecision::Reject
    } else {
        AloneDecision::Wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::classify;

    fn failed(sqlstate: &str, about_row: bool) -> StoreFailure {
        StoreFailure {
            class: classify(sqlstate),
            sqlstate: Some(sqlstate.to_owned()),
            message: String::new(),
            object: None,
            about_row,
            hint: None,
        }
    }

    #[test]
    fn a_failure_of_the_server_holds_everything() {
        for sqlstate in ["08006", "53100", "57P01", "25006", "28P01", "3D000", "40001", "40P01"] {
            for rows in [1, 100] {
                assert_eq!(
                    judge(&failed(sqlstate, false), rows, true, None),
                    Decision::HoldAll,
                    "{sqlstate}"
                );
            }
        }
    }

    #[test]
    fn a_failure_about_a_row_never_takes_its_neighbours_along() {
        for sqlstate in ["22P05", "23503", "P0001", "3F000", "42883", "42501", "55P03", "08000", "XX002"] {
            assert_eq!(judge(&failed(sqlstate, true), 100, false, None), Decision::Split, "{sqlstate}");
        }
        // Without a context the probe decides.
        for sqlstate in ["42501", "55P03", "0A000", "57014", "XX002", "3F000"] {
            let failure = failed(sqlstate, false);
            assert_eq!(judge(&failure, 100, false, None), Decision::NeedsProbe, "{sqlstate}");
            assert_eq!(judge(&failure, 100, false, Some(&Ok(()))), Decision::Split, "{sqlstate}");
            let constraint = Err(failed("23502", false));
            assert_eq!(judge(&failure, 100, false, Some(&constraint)), Decision::Split, "{sqlstate}");
            assert_eq!(judge(&failure, 1, false, Some(&Ok(()))), Decision::HoldAlone, "{sqlstate}");
            let same = Err(failure.clone());
            assert_eq!(judge(&failure, 100, false, Some(&same)), Decision::HoldAll, "{sqlstate}");
        }
    }

    #[test]
    fn a_single_row_is_rejected_only_if_others_can_be_stored() {
        let data = failed("23502", false);
        assert_eq!(judge(&data, 1, true, None), Decision::Reject);
        assert_eq!(judge(&data, 1, false, None), Decision::NeedsProbe);
        assert_eq!(judge(&data, 1, false, Some(&Ok(()))), Decision::TryAgain);
        assert_eq!(judge(&data, 1, false, Some(&Err(data.clone()))), Decision::HoldAlone);
        assert_eq!(judge(&data, 1, false, Some(&Err(failed("57P01", false)))), Decision::HoldAll);
        for held in ["3F000", "42883", "42501", "55P03", "XX002"] {
            assert_eq!(judge(&failed(held, true), 1, true, None), Decision::HoldAlone, "{held}");
        }
    }

    #[test]
    fn a_timeout_needs_a_probe_also_after_rows_were_stored() {
        let timeout = failed("57014", false);
        assert_eq!(judge(&timeout, 8, true, None), Decision::NeedsProbe);
        assert_eq!(judge(&timeout, 8, true, Some(&Ok(()))), Decision::Split);
        assert_eq!(judge(&timeout, 1, true, Some(&Ok(()))), Decision::HoldAlone);
    }

    #[test]
    fn a_row_alone_is_rejected_only_while_others_are_stored() {
        use AloneDecision::{Reject, Wait};
        let stored = Ok(());
        for held in ["3F000", "42501", "55P03", "XX002", "53100"] {
            let failure = failed(held, true);
            assert_eq!(judge_alone(&failure, false, true, None), Wait, "{held}");
            assert_eq!(judge_alone(&failure, true, true, None), Reject, "{held}");
            // The probe alone does not tell: the disk may have been freed a moment before.
            assert_eq!(judge_alone(&failure, true, false, Some(&stored)), Wait, "{held}");
            // A trigger whose disk is full refuses every row, also the probe: nothing may become a dead letter.
            assert_eq!(judge_alone(&failure, true, false, Some(&Err(failure.clone()))), Wait, "{held}");
        }
    }

    #[test]
    fn data_is_rejected_at_once_if_others_are_stored_and_after_the_hold_if_nothing_satisfies_it() {
        use AloneDecision::{Reject, Wait};
        let data = failed("23503", false);
        let constraint = Err(failed("23514", false));
        assert_eq!(judge_alone(&data, false, true, None), Reject);
        assert_eq!(judge_alone(&data, false, false, Some(&Ok(()))), Wait);
        assert_eq!(judge_alone(&data, false, false, Some(&constraint)), Wait);
        assert_eq!(judge_alone(&data, true, false, Some(&constraint)), Reject);
        assert_eq!(judge_alone(&data, true, false, Some(&Err(failed("57P01", false)))), Wait);
        assert_eq!(judge_alone(&failed("42703", true), true, false, Some(&constraint)), Wait);
    }
}
