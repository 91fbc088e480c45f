//! The publisher of this process: started at its first event, forgotten by a process that was forked from it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cns_events::publisher::{Publisher, PublisherConfig, Stats};

/// Time after which a publisher that could not be started is started again.
const START_AGAIN: Duration = Duration::from_secs(30);

/// Minimum time between two log lines about refused calls.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// State of one process.
pub(crate) struct Running {
    pid: u32,
    publisher: Option<Publisher>,
    failed_at: Option<Instant>,
    refused_at: Option<Instant>,
    /// Counts of the publishers of this process that were closed.
    closed: BTreeMap<&'static str, u64>,
    /// Calls that were refused before they became an event.
    invalid: u64,
    /// Values that were changed because JSON or the database cannot hold them.
    coerced: u64,
}

impl Running {
    pub(crate) fn new() -> Self {
        Running {
            pid: std::process::id(),
            publisher: None,
            failed_at: None,
            refused_at: None,
            closed: BTreeMap::new(),
            invalid: 0,
            coerced: 0,
        }
    }

    /// Returns the state of this process. What a parent left is forgotten: its locks may be held by threads that are not here.
    pub(crate) fn here(&mut self) -> &mut Self {
        if self.pid != std::process::id() {
            *self = Running::new();
        }
        self
    }

    /// Returns the publisher, and whether this call started it. `None` where it cannot be started.
    pub(crate) fn started(&mut self, config: &PublisherConfig) -> Option<(Publisher, bool)> {
        if let Some(publisher) = &self.publisher {
            return Some((publisher.clone(), false));
        }
        if self.failed_at.is_some_and(|at| at.elapsed() < START_AGAIN) {
            return None;
        }
        match Publisher::start(config.clone()) {
            Ok(publisher) => {
                self.failed_at = None;
                self.publisher = Some(publisher.clone());
                Some((publisher, true))
            }
            Err(error) => {
                self.failed_at = Some(Instant::now());
                tracing::error!("cannot start the publisher: {error}");
                None
            }
        }
    }

    /// Returns the publisher, where it is started.
    pub(crate) fn publisher(&self) -> Option<&Publisher> {
        self.publisher.as_ref()
    }

    /// Takes the publisher, so that the next event starts another.
    pub(crate) fn take(&mut self) -> Option<Publisher> {
        self.publisher.take()
    }

    /// Counts and logs a call that is no event.
    pub(crate) fn refuse(&mut self, error: &str) {
        self.invalid += 1;
        if self.refused_at.is_none_or(|at| at.elapsed() >= LOG_INTERVAL) {
            self.refused_at = Some(Instant::now());
            tracing::error!("refused an event: {error}");
        }
    }

    /// Counts changed values, and logs the first.
    pub(crate) fn coerce(&mut self, values: u64) {
        if self.coerced == 0 {
            tracing::warn!(
                "values that JSON or the database cannot hold were replaced (NaN, infinity, lone surrogates)"
            );
        }
        self.coerced += values;
    }

    /// Adds the counts of a publisher that was closed.
    pub(crate) fn add_closed(&mut self, stats: &Stats) {
        for (name, count) in counts(stats) {
            *self.closed.entry(name).or_default() += count;
        }
    }

    /// Returns the counts of this process.
    pub(crate) fn counts(&self) -> BTreeMap<&'static str, u64> {
        let mut sums = self.closed.clone();
        let now = self.publisher.as_ref().map(Publisher::stats).unwrap_or_default();
        for (name, count) in counts(&now) {
            *sums.entry(name).or_default() += count;
        }
        *sums.entry("invalid").or_default() += self.invalid;
        sums.insert("coerced", self.coerced);
        sums.insert("waiting", now.waiting);
        sums.insert("in_flight", now.in_flight);
        sums.insert("in_spool", now.in_spool);
        sums.insert("left", now.left());
        sums
    }
}

/// Returns what only grows.
fn counts(stats: &Stats) -> [(&'static str, u64); 11] {
    [
        ("accepted", stats.accepted),
        ("invalid", stats.invalid),
        ("violations", stats.violations),
        ("dropped", stats.dropped),
        ("confirmed", stats.confirmed),
        ("rejected", stats.rejected),
        ("returned", stats.returned),
        ("resent", stats.resent),
        ("spooled", stats.spooled),
        ("recovered", stats.recovered),
        ("damaged", stats.damaged),
    ]
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.pid != std::process::id() {
            std::mem::forget(self.publisher.take());
        }
    }
}
