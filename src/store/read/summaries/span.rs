//! Span of time of a question, in whole hours or days.

use chrono::{DateTime, TimeDelta, Utc};

use super::super::query::QueryError;
use crate::summaries::hour;

/// Length of an hour and of a day, which is that of UTC.
pub(super) const HOUR: TimeDelta = TimeDelta::hours(1);
pub(super) const DAY: TimeDelta = TimeDelta::days(1);

/// Span of time: it begins and ends with an hour or a day, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Begin.
    pub from: DateTime<Utc>,
    /// End, which is not a part of it.
    pub to: DateTime<Utc>,
}

impl Span {
    /// Maximum days of a span whose steps are hours, and of one whose steps are days.
    pub const MAX_DAYS_BY_HOUR: u32 = 31;
    /// See [`Span::MAX_DAYS_BY_HOUR`].
    pub const MAX_DAYS: u32 = 400;

    /// Returns the span from `from`, by default `default` before the end, to `to`, by default now, widened to whole steps.
    pub(super) fn new(
        from: Option<DateTime<Utc>>,
        to: Option<DateTime<Utc>>,
        step: TimeDelta,
        default: TimeDelta,
        max_days: u32,
    ) -> Result<Self, QueryError> {
        let to = to.unwrap_or_else(Utc::now);
        let from = from.unwrap_or(to - default);
        if from >= to {
            return Err(QueryError::new("from", "is not before `to`"));
        }
        if to - from > TimeDelta::days(max_days.into()) {
            let more = if step == HOUR && max_days < Self::MAX_DAYS {
                format!("; with step=day it may be {} days", Self::MAX_DAYS)
            } else {
                String::new()
            };
            return Err(QueryError::new("from", format!("is more than {max_days} days before `to`{more}")));
        }
        let begin = |time| if step == DAY { day(time) } else { hour(time) };
        let end = begin(to);
        Ok(Span { from: begin(from), to: if end < to { end + step } else { end } })
    }
}

/// Returns the begin of the day, in UTC.
fn day(time: DateTime<Utc>) -> DateTime<Utc> {
    let seconds = time.timestamp();
    let begin = seconds - seconds.rem_euclid(DAY.num_seconds());
    DateTime::from_timestamp(begin, 0).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn span(from: &str, to: &str, step: TimeDelta) -> Result<Span, QueryError> {
        Span::new(Some(at(from)), Some(at(to)), step, DAY, 31)
    }

    #[test]
    fn a_span_is_widened_to_whole_steps() {
        let hours = span("2026-03-01T10:59:59Z", "2026-03-01T12:00:01Z", HOUR).unwrap();
        assert_eq!((hours.from, hours.to), (at("2026-03-01T10:00:00Z"), at("2026-03-01T13:00:00Z")));
        let days = span("2026-03-01T10:59:59Z", "2026-03-02T00:00:00Z", DAY).unwrap();
        assert_eq!((days.from, days.to), (at("2026-03-01T00:00:00Z"), at("2026-03-02T00:00:00Z")));
        let default = Span::new(None, Some(at("2026-03-02T10:00:00Z")), HOUR, DAY, 31).unwrap();
        assert_eq!(default.from, at("2026-03-01T10:00:00Z"));
    }

    #[test]
    fn a_span_has_an_order_and_a_limit() {
        assert_eq!(span("2026-03-01T00:00:00Z", "2026-03-01T00:00:00Z", HOUR).unwrap_err().parameter, "from");
        assert!(span("2026-03-01T00:00:00Z", "2026-04-01T00:00:00Z", HOUR).is_ok());
        let long = span("2026-03-01T00:00:00Z", "2026-04-01T00:00:01Z", HOUR).unwrap_err();
        assert_eq!(
            long.to_string(),
            "from: is more than 31 days before `to`; with step=day it may be 400 days"
        );
        assert!(span("0000-01-01T00:00:00Z", "9999-12-31T23:59:59Z", DAY).is_err());
    }
}
