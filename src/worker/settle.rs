//! How every delivery ends: section 5 of the contract.

use std::ops::Range;
use std::time::{Duration, Instant};

use chrono::Utc;
use lapin::message::Delivery;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::batch::Batch;
use super::intake::count;
use super::patience::Patience;
use super::session::{SessionLost, unless_ended};
use crate::broker::{DeadLetters, KeptLetter, Letter, Version};
use crate::event::{Decoded, Reason, Rejection, decode};
use crate::message;
use crate::metrics::Peer;
use crate::store::{Class, Duplicate, Failure, Row, Writer};

/// What became of a batch.
pub(super) enum Settled {
    /// Stored or dead-lettered, and acknowledged.
    Done,
    /// Held for as long as may be: everything goes back to the queue.
    Held(Batch, Outage),
}

/// Who did not take what a batch had for it.
pub(super) enum Outage {
    /// The database.
    Database,
    /// The dead-letter exchange. This letter is tried again before anything is consumed again.
    DeadLetters(Box<KeptLetter>),
}

/// The far side of a lane: where batches go.
pub(super) struct Settler {
    pub(super) shared: Shared,
    pub(super) writer: Writer,
    pub(super) dead_letters: DeadLetters,
    /// Cancelled when the session has ended: nothing of it can be acknowledged any more.
    pub(super) session: CancellationToken,
    /// The broker's version, where it says.
    pub(super) version: Option<Version>,
}

/// A row and the delivery it came from.
struct Candidate<'a> {
    row: Row<'a>,
    delivery: usize,
}

/// A delivery that is dead-lettered, and why.
struct Refused {
    delivery: usize,
    rejection: Rejection,
}

/// What became of the rows of a batch.
#[derive(Default)]
struct Persisted {
    /// Rows of each commit.
    commits: Vec<usize>,
    /// Rows that were in the table already.
    duplicates: Vec<Duplicate>,
    /// Rows, by their place in the batch, that the database will never take.
    rejected: Vec<(usize, Rejection)>,
}

/// Held for as long as may be.
struct OutOfPatience;

impl Settler {
    /// Decodes, stores, dead-letters and acknowledges, in this order.
    pub(super) async fn settle(&mut self, batch: Batch) -> Result<Settled, SessionLost> {
        let settled = self.store(batch.deliveries()).await;
        let rows = batch.len();
        if self.session.is_cancelled() {
            self.shared.metrics.in_flight.sub(count(rows));
            if settled.is_ok() {
                self.shared.metrics.acks_lost.inc_by(rows as u64);
            }
            batch.abandon();
            return Err(SessionLost::Ended);
        }
        if let Err(outage) = settled {
            return Ok(Settled::Held(batch, outage));
        }
        let acked = unless_ended(&self.session, batch.ack()).await;
        self.shared.metrics.in_flight.sub(count(rows));
        acked.map(|()| Settled::Done).inspect_err(|_| self.shared.metrics.acks_lost.inc_by(rows as u64))
    }

    async fn store(&mut self, deliveries: &[Delivery]) -> Result<(), Outage> {
        let mut patience = Patience::of(Duration::from_secs(self.shared.config.worker.hold_seconds));
        let (candidates, mut refused) = self.decode(deliveries);
        let (rows, origins): (Vec<Row<'_>>, Vec<usize>) =
            candidates.into_iter().map(|candidate| (candidate.row, candidate.delivery)).unzip();
        if !rows.is_empty() {
            let rejected =
                self.persist(&rows, &mut patience).await.map_err(|OutOfPatience| Outage::Database)?;
            refused.extend(
                rejected.into_iter().map(|(row, rejection)| Refused { delivery: origins[row], rejection }),
            );
        }
        self.bury(deliveries, &refused, &mut patience).await
    }

    /// Decodes every delivery. Rows come out sorted by `event_id`: two writers that take their locks in the same
    /// order never wait for each other in a circle.
    fn decode<'a>(&self, deliveries: &'a [Delivery]) -> (Vec<Candidate<'a>>, Vec<Refused>) {
        let rules = self.shared.rules();
        let metrics = &self.shared.metrics;
        let received_at = Utc::now();
        let mut candidates = Vec::with_capacity(deliveries.len());
        let mut refused = Vec::new();
        for (index, delivery) in deliveries.iter().enumerate() {
            match decode(&message::incoming(delivery, received_at), &rules) {
                Ok(Decoded { event, source_corrected, ignored_fields, schema_violation }) => {
                    if source_corrected {
                        metrics.corrected.with_label_values(&["source"]).inc();
                    }
                    if ignored_fields > 0 {
                        metrics.ignored_fields.inc_by(ignored_fields);
                    }
                    if let Some(violation) = schema_violation {
                        let kind = event.kind().map_or("other", |kind| kind.name());
                        metrics.schema_violations.with_label_values(&[kind]).inc();
                        tracing::debug!(event_id = %event.event_id, %violation, "payload breaks its schema");
                    }
                    candidates.push(Candidate { row: Row::new(event), delivery: index });
                }
                Err(rejection) => refused.push(Refused { delivery: index, rejection }),
            }
        }
        candidates.sort_by(|a, b| a.row.event.event_id.cmp(&b.row.event.event_id));
        (candidates, refused)
    }

    /// Stores the rows, however long the database is away; returns those that it will never take.
    async fn persist(
        &mut self,
        rows: &[Row<'_>],
        patience: &mut Patience,
    ) -> Result<Vec<(usize, Rejection)>, OutOfPatience> {
        loop {
            let started = Instant::now();
            let failure = match self.try_persist(rows).await {
                Ok(persisted) => {
                    self.database_answered();
                    self.shared.metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
                    self.count(rows, &persisted);
                    return Ok(persisted.rejected);
                }
                Err(failure) => failure,
            };
            let reason = match failure.class {
                Class::Held(reason) => reason,
                Class::Data | Class::Unknown => "unknown",
            };
            self.shared.metrics.store_retries.with_label_values(&[reason]).inc();
            if self.shared.health.lost(Peer::Database, &failure.to_string()) {
                tracing::warn!(rows = rows.len(), %failure, "the database cannot store: holding the batch");
            }
            self.wait(patience).await?;
        }
    }

    /// One try. Rows that are their own fault are found by halving, so that one bad row in a thousand costs a
    /// few statements, and its neighbours are stored.
    async fn try_persist(&mut self, rows: &[Row<'_>]) -> Result<Persisted, Failure> {
        let mut persisted = Persisted::default();
        // The parts still to be stored, the first one last.
        let mut parts: Vec<Range<usize>> = Vec::new();
        parts.push(0..rows.len());
        while let Some(part) = parts.pop() {
            let rows = &rows[part.clone()];
            match self.writer.insert(rows).await {
                Ok(stored) => {
                    let mut duplicates =
                        if stored < rows.len() { self.writer.duplicates(rows).await? } else { Vec::new() };
                    for duplicate in &mut duplicates {
                        duplicate.index += part.start;
                    }
                    persisted.duplicates.extend(duplicates);
                    persisted.commits.push(rows.len());
                }
                Err(failure) if matches!(failure.class, Class::Held(_)) => return Err(failure),
                Err(_) if rows.len() > 1 => {
                    let middle = part.start + rows.len() / 2;
                    parts.push(middle..part.end);
                    parts.push(part.start..middle);
                }
                Err(failure) => {
                    if failure.class == Class::Unknown {
                        // Nobody knows this error. If any row can be stored, it is this one's.
                        self.writer.probe().await?;
                    }
                    persisted.rejected.push((part.start, rejection(failure)));
                }
            }
        }
        Ok(persisted)
    }

    /// Counts a batch, once: when all of it has been stored or refused.
    fn count(&self, rows: &[Row<'_>], persisted: &Persisted) {
        let metrics = &self.shared.metrics;
        let mut new = vec![true; rows.len()];
        for (row, _) in &persisted.rejected {
            new[*row] = false;
        }
        for duplicate in &persisted.duplicates {
            new[duplicate.index] = false;
            if duplicate.conflicts() {
                metrics.conflicts.inc();
                tracing::warn!(
                    event_id = %rows[duplicate.index].event.event_id,
                    stored = duplicate.stored,
                    received = duplicate.received,
                    "conflict: this event_id is stored with other data; the stored event stays"
                );
            }
        }
        metrics.duplicates.inc_by(persisted.duplicates.len() as u64);
        for commit in &persisted.commits {
            metrics.batch_rows.observe(*commit as f64);
        }
        let now = Utc::now();
        for (row, _) in rows.iter().zip(new).filter(|(_, new)| *new) {
            metrics.count_stored(row.event.kind());
            let age = (now - row.event.created_at).to_std().unwrap_or(Duration::ZERO);
            metrics.end_to_end_seconds.observe(age.as_secs_f64());
        }
    }

    /// Publishes the dead letters, however long the broker does not take them.
    async fn bury(
        &mut self,
        deliveries: &[Delivery],
        refused: &[Refused],
        patience: &mut Patience,
    ) -> Result<(), Outage> {
        let letters: Vec<_> = refused
            .iter()
            .map(|refused| Letter::about(&deliveries[refused.delivery], &refused.rejection))
            .collect();
        let mut done = 0;
        while let Err(error) = self.dead_letters.publish(&letters, &mut done).await {
            if self.shared.health.lost(Peer::Broker, &error.to_string()) {
                tracing::warn!(letters = letters.len() - done, %error, "dead letters are not taken: holding the batch");
            }
            if let Err(OutOfPatience) = self.wait(patience).await {
                return Err(Outage::DeadLetters(Box::new(letters[done].keep())));
            }
        }
        if !letters.is_empty() {
            self.shared.health.reached(Peer::Broker);
        }
        for Letter { properties, rejection, .. } in letters {
            self.shared.metrics.dead_lettered.with_label_values(&[rejection.reason.name()]).inc();
            // The database's own words may quote a value; they stand in the letter only.
            let detail = match rejection.reason {
                Reason::DatabaseRejected => "refused by the database",
                _ => rejection.detail.as_str(),
            };
            tracing::warn!(
                reason = %rejection.reason,
                field = rejection.field.as_deref(),
                sqlstate = rejection.sqlstate.as_deref(),
                message_id = properties.message_id().as_ref().map(|id| id.as_str()),
                detail,
                "dead-lettered"
            );
        }
        Ok(())
    }

    /// A stopping worker does not hold: what it could not store at once goes back to the queue.
    async fn wait(&self, patience: &mut Patience) -> Result<(), OutOfPatience> {
        let pause = patience.pause().ok_or(OutOfPatience)?;
        tokio::select! {
            () = self.shared.shutdown.cancelled() => Err(OutOfPatience),
            () = self.session.cancelled() => Err(OutOfPatience),
            () = tokio::time::sleep(pause) => Ok(()),
        }
    }

    /// The database did what it was asked.
    pub(super) fn database_answered(&mut self) {
        if self.writer.reconnected() {
            self.shared.metrics.reconnects.with_label_values(&[Peer::Database.name()]).inc();
        }
        if self.shared.health.reached(Peer::Database) {
            tracing::info!("the database can store");
        }
    }
}

fn rejection(failure: Failure) -> Rejection {
    Rejection {
        reason: Reason::DatabaseRejected,
        field: None,
        detail: format!("the database refused the row: {}", failure.message),
        sqlstate: failure.sqlstate,
    }
}
