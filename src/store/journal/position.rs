//! A position in the journal: what its reader has taken in.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::snapshot::Snapshot;

/// First byte of the text form before base64; another form will have another one.
const FORM: u8 = 1;

/// Maximum length of a position's text, in characters: the transactions that were running are listed in it.
pub const MAX_TEXT: usize = 8192;

/// Cluster and timeline that a position is of. In another one its transactions are others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// Identifier that `initdb` gave the cluster.
    pub system_identifier: u64,
    /// Timeline, which each promotion of a standby increments.
    pub timeline: u32,
}

/// Place within a look that is longer than a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Snapshot of the look: rows of later transactions belong to the next one.
    pub look: Snapshot,
    /// Transaction of the last row that was taken in.
    pub transaction: u64,
    /// Number of that row.
    pub seq: i64,
    /// Ids of that row that were taken in.
    pub taken: u32,
}

/// Position of a reader. Its text is safe in a URL and at most 8 KiB long, names no tenant, and shows nothing that row-level security
/// does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Cluster that the position is of.
    pub epoch: Epoch,
    /// Snapshot whose rows were taken in.
    pub passed: Snapshot,
    /// Set within a look.
    pub page: Option<Page>,
}

impl Position {
    /// Returns the position from which a look ends with what `until` shows: for a reader that continues there in another way.
    #[must_use]
    pub fn until(&self, until: &Snapshot) -> Position {
        let page = Page { look: until.clone(), transaction: 0, seq: 0, taken: 0 };
        Position { page: Some(page), ..self.clone() }
    }
}

/// Error for a text that is not a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a position: use a stream_cursor, or the id of an event of the stream, unchanged")]
pub struct PositionError;

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![FORM];
        bytes.extend(self.epoch.system_identifier.to_be_bytes());
        put(&mut bytes, self.epoch.timeline.into());
        put_snapshot(&mut bytes, &self.passed);
        if let Some(page) = &self.page {
            put_snapshot(&mut bytes, &page.look);
            put(&mut bytes, page.transaction);
            put(&mut bytes, page.seq.unsigned_abs());
            put(&mut bytes, page.taken.into());
        }
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for Position {
    type Err = PositionError;

    fn from_str(text: &str) -> Result<Self, PositionError> {
        if text.len() > MAX_TEXT {
            return Err(PositionError);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| PositionError)?;
        let mut rest = bytes.strip_prefix(&[FORM]).ok_or(PositionError)?;
        let (identifier, after) = rest.split_first_chunk::<8>().ok_or(PositionError)?;
        rest = after;
        let epoch = Epoch {
            system_identifier: u64::from_be_bytes(*identifier),
            timeline: u32::try_from(take(&mut rest)?).map_err(|_| PositionError)?,
        };
        let passed = take_snapshot(&mut rest)?;
        let page = match rest {
            [] => None,
            _ => Some(Page {
                look: take_snapshot(&mut rest)?,
                transaction: take(&mut rest)?,
                seq: i64::try_from(take(&mut rest)?).map_err(|_| PositionError)?,
                taken: u32::try_from(take(&mut rest)?).map_err(|_| PositionError)?,
            }),
        };
        if rest.is_empty() { Ok(Position { epoch, passed, page }) } else { Err(PositionError) }
    }
}

/// Appends a number in groups of 7 bits, the lowest first.
fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn take(bytes: &mut &[u8]) -> Result<u64, PositionError> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or(PositionError)?;
        *bytes = rest;
        let group = u64::from(byte & 0x7f);
        if group << shift >> shift != group {
            return Err(PositionError); // more than 64 bits
        }
        number |= group << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(PositionError)
}

/// Appends a snapshot: its end, and the distances of the running transactions from it and from each other, the latest first.
fn put_snapshot(bytes: &mut Vec<u8>, snapshot: &Snapshot) {
    put(bytes, snapshot.end);
    put(bytes, snapshot.running.len() as u64);
    let mut after = snapshot.end;
    for transaction in snapshot.running.iter().rev() {
        put(bytes, after.saturating_sub(*transaction));
        after = *transaction;
    }
}

fn take_snapshot(bytes: &mut &[u8]) -> Result<Snapshot, PositionError> {
    let (end, count) = (take(bytes)?, take(bytes)?);
    let (mut running, mut after) = (Vec::new(), end);
    for _ in 0..count {
        let distance = take(bytes)?;
        after = after.checked_sub(distance).filter(|_| distance > 0).ok_or(PositionError)?;
        running.push(after);
    }
    running.reverse();
    Ok(Snapshot { end, running })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn snapshots() -> impl Strategy<Value = Snapshot> {
        (any::<u64>(), proptest::collection::btree_set(1_u64..5000, 0..40)).prop_map(
            |(end, distances): (u64, BTreeSet<u64>)| {
                let running = distances.iter().rev().filter_map(|distance| end.checked_sub(*distance));
                Snapshot { end, running: running.collect() }
            },
        )
    }

    proptest! {
        #[test]
        fn a_position_survives_its_text(
            identifier: u64, timeline: u32, passed in snapshots(),
            page in proptest::option::of((snapshots(), any::<u64>(), 0..i64::MAX, any::<u32>())),
        ) {
            let page = page.map(|(look, transaction, seq, taken)| Page { look, transaction, seq, taken });
            let position = Position { epoch: Epoch { system_identifier: identifier, timeline }, passed, page };
            let text = position.to_string();
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
            prop_assert_eq!(text.parse(), Ok(position));
        }

        #[test]
        fn any_other_text_is_refused_or_read_without_a_panic(text in "[A-Za-z0-9_-]{0,200}") {
            let _ = text.parse::<Position>();
        }
    }

    #[test]
    fn a_position_beside_a_thousand_open_transactions_is_short_enough() {
        let epoch = Epoch { system_identifier: u64::MAX, timeline: 9 };
        let snapshot =
            |end: u64| Snapshot { end, running: (0..1000).map(|at| end - 2000 + at * 2).collect() };
        let page = Page { look: snapshot(1 << 50), transaction: 1 << 50, seq: i64::MAX, taken: u32::MAX };
        let position = Position { epoch, passed: snapshot(1 << 49), page: Some(page) };
        assert!(position.to_string().len() <= MAX_TEXT, "{}", position.to_string().len());
    }
}
