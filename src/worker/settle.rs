//! How every delivery ends: section 5 of the contract.

use std::borrow::Cow;
use std::time::Duration;

use chrono::Utc;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::persist::Progress;
use crate::amqp::Delivery;
use crate::backoff::RetryBudget;
use crate::broker::{DeadLetters, Letter, Version};
use crate::event::{Decoded, Reason, Rejection, decode};
use crate::metrics::Dependency;
use crate::store::{Row, Writer};

/// Who did not take what a batch had for it.
pub(super) enum Outage {
    /// The database.
    Database,
    /// The dead-letter exchange. This letter is tried again before anything is consumed again.
    DeadLetters(Box<Letter>),
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

/// A batch that was held for as long as may be, and could not be settled whole.
pub(super) struct Unfinished {
    pub(super) outage: Outage,
    /// The deliveries, by their place in the batch, that are stored or dead-lettered all the same.
    pub(super) done: Vec<bool>,
}

/// Held for as long as may be.
pub(super) struct HoldExpired;

impl Settler {
    /// Decodes, stores and dead-letters, in this order. What is left is to acknowledge.
    pub(super) async fn settle(&mut self, deliveries: &[Delivery]) -> Result<(), Unfinished> {
        let mut budget = RetryBudget::new(Duration::from_secs(self.shared.config.worker.hold_seconds));
        let (candidates, mut refused) = self.decode(deliveries);
        let (rows, origins): (Vec<Row<'_>>, Vec<usize>) =
            candidates.into_iter().map(|candidate| (candidate.row, candidate.delivery)).unzip();
        let mut progress = Progress::of(&rows);
        let persisted = self.persist(&mut progress, &mut budget).await;
        let mut done = vec![false; deliveries.len()];
        progress.stored().for_each(|row| done[origins[row]] = true);
        if let Err(HoldExpired) = persisted {
            return Err(Unfinished { outage: Outage::Database, done });
        }
        let rejected = progress.into_rejected().into_iter();
        refused.extend(rejected.map(|(row, rejection)| (origins[row], rejection)));
        let (origins, letters): (Vec<usize>, Vec<Letter>) = refused
            .into_iter()
            .map(|(index, rejection)| (index, Letter { delivery: deliveries[index].clone(), rejection }))
            .unzip();
        let mut buried = 0;
        self.bury(&letters, &mut buried, &mut budget).await.map_err(|outage| {
            origins[..buried].iter().for_each(|index| done[*index] = true);
            Unfinished { outage, done }
        })
    }

    /// Decodes every delivery. Rows come out sorted by `event_id`: two writers that take their locks in the same
    /// order never wait for each other in a circle.
    fn decode<'a>(&self, deliveries: &'a [Delivery]) -> (Vec<Candidate<'a>>, Vec<(usize, Rejection)>) {
        let rules = self.shared.rules();
        let metrics = &self.shared.metrics;
        let received_at = Utc::now();
        let mut candidates = Vec::with_capacity(deliveries.len());
        let mut refused = Vec::new();
        for (index, delivery) in deliveries.iter().enumerate() {
            let decoded = delivery.incoming(received_at).and_then(|incoming| decode(&incoming, &rules));
            match decoded {
                Ok(Decoded { event, source_corrected, ignored_fields, schema_violation }) => {
                    if source_corrected {
                        metrics.corrected.with_label_values(&["source"]).inc();
                    }
                    if ignored_fields > 0 {
                        metrics.ignored_fields.inc_by(ignored_fields);
                    }
                    let traceparent = delivery.traceparent();
                    if let Some(violation) = schema_violation {
                        let kind = event.kind().map_or("other", |kind| kind.name());
                        metrics.schema_violations.with_label_values(&[kind]).inc();
                        tracing::debug!(event_id = %event.event_id.escape_debug(), %violation, traceparent, "payload breaks its schema");
                    }
                    candidates.push(Candidate { row: Row::new(event, traceparent), delivery: index });
                }
                Err(_) if delivery.is_probe() => {}
                Err(rejection) => refused.push((index, rejection)),
            }
        }
        candidates.sort_by(|a, b| a.row.event.event_id.cmp(&b.row.event.event_id));
        (candidates, refused)
    }

    /// Publishes the dead letters, however long the broker does not take them.
    async fn bury(
        &mut self,
        letters: &[Letter],
        done: &mut usize,
        budget: &mut RetryBudget,
    ) -> Result<(), Outage> {
        while let Err(error) = self.dead_letters.publish(letters, done).await {
            if self.shared.health.lost(Dependency::Broker, &error.to_string()) {
                tracing::warn!(letters = letters.len() - *done, %error, "dead letters are not taken: holding the batch");
            }
            if let Err(HoldExpired) = self.wait(budget).await {
                self.count_letters(&letters[..*done]);
                return Err(Outage::DeadLetters(Box::new(letters[*done].clone())));
            }
        }
        if !letters.is_empty() {
            self.shared.health.reached(Dependency::Broker);
        }
        self.count_letters(letters);
        Ok(())
    }

    /// Counts and tells what was dead-lettered.
    fn count_letters(&self, letters: &[Letter]) {
        for Letter { delivery, rejection } in letters {
            self.shared.metrics.dead_lettered.with_label_values(&[rejection.reason.name()]).inc();
            // The database's own words may quote a value; they stand in the letter only.
            let detail = match rejection.reason {
                Reason::DatabaseRejected => "refused by the database",
                _ => rejection.detail.as_str(),
            };
            // What a producer chose is escaped; a field that the contract does not name is part of the body.
            let field = rejection.field.as_ref().filter(|field| matches!(field, Cow::Borrowed(_)));
            tracing::warn!(
                reason = %rejection.reason,
                field = field.map(AsRef::as_ref),
                sqlstate = rejection.sqlstate.as_deref(),
                message_id = delivery.message_id().map(|id| tracing::field::display(id.escape_debug().to_string())),
                traceparent = delivery.traceparent(),
                detail,
                "dead-lettered"
            );
        }
    }

    /// A stopping worker does not hold: what it could not store at once goes back to the queue.
    pub(super) async fn wait(&self, budget: &mut RetryBudget) -> Result<(), HoldExpired> {
        let pause = budget.next_delay().ok_or(HoldExpired)?;
        tokio::select! {
            () = self.shared.shutdown.cancelled() => Err(HoldExpired),
            () = self.session.cancelled() => Err(HoldExpired),
            () = tokio::time::sleep(pause) => Ok(()),
        }
    }

    /// The database did what it was asked.
    pub(super) fn database_answered(&mut self) {
        if self.writer.reconnected() {
            self.shared.metrics.reconnects.with_label_values(&[Dependency::Database.name()]).inc();
        }
        if self.shared.health.reached(Dependency::Database) {
            tracing::info!("the database can store");
        }
    }
}
