//! Dead-lettering the rejected deliveries of a batch.

use std::borrow::Cow;

use super::Shared;
use super::batch::Batch;
use super::fate::Fate;
use super::session::{HoldExpired, Session, Stop};
use crate::backoff::{Backoff, RetryBudget};
use crate::broker::{BrokerEndpoint, DeadLetters, Letter};
use crate::event::Reason;
use crate::metrics::Dependency;

/// The lane's way to the dead-letter exchange.
pub(super) struct DeadLetterDesk {
    shared: Shared,
    session: Session,
    broker: BrokerEndpoint,
    publisher: DeadLetters,
}

impl DeadLetterDesk {
    /// Creates a desk that connects when there is a dead letter to publish.
    pub(super) fn new(shared: Shared, session: Session, broker: BrokerEndpoint) -> Self {
        let exchange = shared.config.amqp.dead_letter_exchange.clone();
        let publisher = DeadLetters::new(broker.clone(), exchange, shared.name.clone());
        DeadLetterDesk { shared, session, broker, publisher }
    }

    /// Publishes the rejected deliveries of a batch, retrying within the budget while the broker does not take them.
    ///
    /// # Errors
    /// The budget ended first. The dead letter that was not taken comes back: it has to be taken before more is consumed.
    pub(super) async fn publish(
        &mut self,
        batch: &mut Batch,
        budget: &mut RetryBudget,
    ) -> Result<(), Box<Letter>> {
        let (deliveries, fates) = batch.parts();
        let (rejected, letters): (Vec<usize>, Vec<Letter>) = deliveries
            .iter()
            .enumerate()
            .filter_map(|(index, delivery)| match &fates[index] {
                Fate::Rejected(rejection) => {
                    Some((index, Letter { delivery: delivery.clone(), rejection: rejection.clone() }))
                }
                _ => None,
            })
            .unzip();
        if letters.is_empty() {
            return Ok(());
        }
        let mut confirmed = 0;
        let published = self.publish_all(&letters, &mut confirmed, budget).await;
        for (index, letter) in rejected.into_iter().zip(&letters).take(confirmed) {
            fates[index] = Fate::DeadLettered;
            self.count(letter);
        }
        published.map_err(|HoldExpired| Box::new(letters[confirmed].clone()))
    }

    async fn publish_all(
        &mut self,
        letters: &[Letter],
        confirmed: &mut usize,
        budget: &mut RetryBudget,
    ) -> Result<(), HoldExpired> {
        while let Err(error) = self.publisher.publish(letters, confirmed).await {
            if self.shared.health.lost(Dependency::Broker, &error.to_string()) {
                let letters = letters.len() - *confirmed;
                tracing::warn!(letters, %error, "the broker does not take dead letters: holding the batch");
            }
            let delay = budget.next_delay().ok_or(HoldExpired)?;
            self.session.sleep(delay).await.map_err(|Stop| HoldExpired)?;
        }
        self.shared.health.reached(Dependency::Broker);
        Ok(())
    }

    /// Waits until a dead letter that was not taken is taken, and declares what may be missing for it. The message itself
    /// is back in its queue: there may be two dead letters of it.
    pub(super) async fn wait_until_taken(&mut self, letter: &Letter) -> Result<(), Stop> {
        let mut backoff = Backoff::default();
        loop {
            if let Err(error) = self.shared.config.amqp.topology().ensure(&self.broker).await {
                tracing::debug!(%error, "cannot declare the topology");
            }
            let mut confirmed = 0;
            match self.publisher.publish(std::slice::from_ref(letter), &mut confirmed).await {
                Ok(()) => return Ok(()),
                Err(error) => drop(self.shared.health.lost(Dependency::Broker, &error.to_string())),
            }
            self.session.sleep(backoff.next_delay()).await?;
        }
    }

    /// Counts and logs a dead letter.
    fn count(&self, Letter { delivery, rejection }: &Letter) {
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
