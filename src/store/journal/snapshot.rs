//! A snapshot of `PostgreSQL`: the transactions whose rows it shows.

use std::fmt;
use std::str::FromStr;

/// Transactions that had ended at one moment: those before `end` that were not running. Its text is that of `pg_snapshot`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// First transaction that had not begun (`xmax`).
    pub(super) end: u64,
    /// Transactions before `end` that were running, in order.
    pub(super) running: Vec<u64>,
}

/// Error for a text that is not a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a snapshot")]
pub struct SnapshotError;

impl Snapshot {
    /// Returns whether a transaction had ended.
    #[must_use]
    pub fn shows(&self, transaction: u64) -> bool {
        transaction < self.end && self.running.binary_search(&transaction).is_err()
    }

    /// Returns the first transaction that may still be running (`xmin`): all before it had ended.
    #[must_use]
    pub fn oldest_running(&self) -> u64 {
        self.running.first().copied().unwrap_or(self.end)
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:", self.oldest_running(), self.end)?;
        for (at, transaction) in self.running.iter().enumerate() {
            write!(f, "{}{transaction}", if at == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl FromStr for Snapshot {
    type Err = SnapshotError;

    fn from_str(text: &str) -> Result<Self, SnapshotError> {
        let mut parts = text.splitn(3, ':');
        let mut part = || parts.next().ok_or(SnapshotError);
        let (_, end, running) = (part()?, part()?, part()?);
        let number = |text: &str| text.parse::<u64>().map_err(|_| SnapshotError);
        let running = running.split(',').filter(|text| !text.is_empty()).map(number);
        Ok(Snapshot { end: number(end)?, running: running.collect::<Result<_, _>>()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_survives_its_text() {
        for text in ["764:764:", "764:766:764", "10:20:10,14,15"] {
            let snapshot: Snapshot = text.parse().unwrap();
            assert_eq!(snapshot.to_string(), text);
        }
        assert_eq!("10:20:14,15".parse::<Snapshot>().unwrap().oldest_running(), 14);
        for text in ["", "1", "1:2", "a:b:c", "1:x:", "1:2:3,x"] {
            assert_eq!(text.parse::<Snapshot>(), Err(SnapshotError), "{text}");
        }
    }
}
