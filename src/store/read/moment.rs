//! The times that a stored event can have.

use std::ops::RangeInclusive;

use chrono::{DateTime, Utc};

/// Microseconds since 1970 of the years 0 to 9999: RFC 3339 has no others.
pub(super) const YEARS: RangeInclusive<i64> = -62_167_219_200_000_000..=253_402_300_799_999_999;

/// Returns the time of a number of microseconds since 1970, or the nearest time within [`YEARS`].
pub(super) fn nearest(micros: i64) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_micros(micros.clamp(*YEARS.start(), *YEARS.end()))
}
