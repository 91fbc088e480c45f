//! Dead-lettering the rejected deliveries of a batch.

use std::borrow::Cow;

use super::Shared;
use super::batch::Batch;
use super::fate::Fate;
use super::session::{HoldExpired, Session, Stop};
use crate::backoff::Backoff;
use crate::broker::BrokerEndpoint;
use crate::dead_letters::{DeadLetterPublisher, NotTaken, RejectedDelivery};
use crate::event::Reason;
use crate::metrics::Dependency;
use crate::retry_budget::RetryBudget;

/// The lane's way to the dead-letter exchange.
pub(super) struct DeadLetterDesk {
    shared: Shared,
    session: Session,
    broker: BrokerEndpoint,
    publisher: DeadLetterPublisher,
}

impl DeadLetterDesk {
    /// Creates a desk that connects when there is a dead letter to publish.
    pub(super) fn new(shared: Shared, session: Session, broker: BrokerEndpoint) -> Self {
        let exchange = shared.config.amqp.dead_letter_exchange.clone();
        let publisher = DeadLetterPublisher::new(broker.clone(), exchange, shared.name.clone());
        DeadLetterDesk { shared, session, broker, publisher }
    }

    /// Publishes the rejected deliveries of a batch, retrying within the budget those that the broker does not take.
    ///
    /// # Errors
    /// The budget ended first. A dead letter that was not taken comes back: it has to be taken before more is consumed.
    pub(super) async fn publish(
        &mut self,
        batch: &mut Batch,
        budget: &mut RetryBudget,
    ) -> Result<(), Box<RejectedDelivery>> {
        let (deliveries, fates) = batch.parts();
        let (mut indexes, mut waiting): (Vec<usize>, Vec<RejectedDelivery>) = deliveries
            .iter()
            .enumerate()
            .filter_map(|(index, delivery)| match &fates[index] {
                Fate::Rejected(rejection) => {
                    let (delivery, rejection) = (delivery.clone(), rejection.clone());
                    Some((index, RejectedDelivery { delivery, rejection }))
                }
                _ => None,
            })
            .unzip();
        if waiting.is_empty() {
            return Ok(());
        }
        loop {
            let outcomes = self.publisher.publish(&waiting).await;
            let mut refused = Vec::new();
            let mut error = None;
            for ((index, rejected), outcome) in indexes.drain(..).zip(waiting.drain(..)).zip(outcomes) {
                match outcome {
                    Ok(()) => {
                        fates[index] = Fate::DeadLettered;
                        self.count(&rejected);
                    }
                    Err(NotTaken::Impossible(detail)) => {
                        fates[index] = Fate::Refused;
                        self.count(&rejected);
                        tracing::warn!(error = detail, "rejected to the broker's own dead-lettering");
                    }
                    Err(not_taken) => {
                        error.get_or_insert(not_taken);
                        refused.push((index, rejected));
                    }
                }
            }
            (indexes, waiting) = refused.into_iter().unzip();
            let Some(error) = error else { break };
            if self.shared.health.lost(Dependency::Broker, &error.to_string()) {
                let dead_letters = waiting.len();
                tracing::warn!(dead_letters, %error, "the broker does not take dead letters: holding the batch");
            }
            if self.pause(budget).await.is_err() {
                // There is one: the error is its outcome.
                return Err(Box::new(waiting.swap_remove(0)));
            }
        }
        self.shared.health.reached(Dependency::Broker);
        Ok(())
    }

    async fn pause(&self, budget: &mut RetryBudget) -> Result<(), HoldExpired> {
        let delay = budget.next_delay().ok_or(HoldExpired)?;
        self.session.sleep(delay).await.map_err(|Stop| HoldExpired)
    }

    /// Waits until a dead letter that was not taken is taken, and declares what may be missing for it. The message itself
    /// is back in its queue: there may be two dead letters of it.
    pub(super) async fn wait_until_taken(&mut self, rejected: &RejectedDelivery) -> Result<(), Stop> {
        let mut backoff = Backoff::default();
        loop {
            if let Err(error) = self.shared.config.amqp.topology().ensure(&self.broker).await {
                tracing::debug!(%error, "cannot declare the topology");
            }
            let outcomes = self.publisher.publish(std::slice::from_ref(rejected)).await;
            match outcomes.into_iter().find_map(Result::err) {
                None | Some(NotTaken::Impossible(_)) => return Ok(()),
                Some(error) => drop(self.shared.health.lost(Dependency::Broker, &error.to_string())),
            }
            self.session.sleep(backoff.next_delay()).await?;
        }
    }

    /// Counts and logs a dead letter.
    fn count(&self, RejectedDelivery { delivery, rejection }: &RejectedDelivery) {
        self.shared.metrics.dead_lettered.with_label_values(&[rejection.reason.name()]).inc();
        // The database's message may quote a value: it is in the dead letter only.
        let detail = match rejection.reason {
            Reason::DatabaseRejected => "refused by the database",
            _ => rejection.detail.as_str(),
        };
        // A field that the contract does not name is part of the body.
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
