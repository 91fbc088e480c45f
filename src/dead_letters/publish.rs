//! Publishing dead letters under confirms, each with its own outcome.
//!
//! They go out on a connection of their own: an alarm of the broker blocks publishing connections, and with them every ack on
//! the same connection.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;

use super::encode::RejectedDelivery;
use crate::amqp::{AmqpError, ConfirmChannel, Published, RawMessage};
use crate::broker::BrokerEndpoint;

/// Longest wait for the confirms of [`MAX_IN_FLIGHT`] dead letters. A blocked connection never confirms.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(10);

/// Most dead letters in flight: few enough that a slow disk confirms them within [`CONFIRM_TIMEOUT`].
const MAX_IN_FLIGHT: usize = 100;

/// Reply codes by which the broker refuses a message for what it holds, and closes the channel or the connection: too large,
/// a frame or a method that it cannot read, a property or header that it does not accept (AMQP 0-9-1, 1.2).
const MESSAGE_REFUSED: [u16; 4] = [311, 406, 501, 502];

/// Outcome of one dead letter: a queue has it, or the reason why it has to be published again.
pub type Outcome = Result<(), NotTaken>;

/// Reason why a dead letter was not taken.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NotTaken {
    /// The connection failed: the outcome of what was in flight is unknown.
    #[error("cannot publish dead letters: {0}")]
    Connection(#[source] Arc<AmqpError>),
    /// The exchange took it and no queue did; the broker's text.
    #[error("no queue takes dead letters: the broker returned one ({0})")]
    Returned(String),
    /// The broker refused it.
    #[error("the broker refused a dead letter (nack)")]
    Refused,
    /// The broker refuses it however it is sent, also without the message's own properties and headers.
    #[error("the broker refuses the dead letter itself: {0}")]
    Impossible(String),
    /// The broker did not confirm it in time, most likely because an alarm blocks the connection.
    #[error("the broker did not confirm a dead letter within 10 s")]
    Unconfirmed,
}

impl NotTaken {
    /// Returns whether the broker closed the connection for what a message holds.
    fn is_about_a_message(&self) -> bool {
        match self {
            NotTaken::Connection(error) => {
                matches!(**error, AmqpError::Closed { code, .. } if MESSAGE_REFUSED.contains(&code))
            }
            _ => false,
        }
    }
}

/// Form in which a dead letter is sent.
#[derive(Clone, Copy, Debug)]
enum Form {
    /// With the message's own properties and headers.
    Whole,
    /// Without them.
    Stripped,
}

impl From<AmqpError> for NotTaken {
    fn from(error: AmqpError) -> Self {
        NotTaken::Connection(Arc::new(error))
    }
}

/// Publisher of dead letters. It connects when there is one to publish.
pub struct DeadLetterPublisher {
    broker: BrokerEndpoint,
    exchange: String,
    worker: String,
    connection: Option<ConfirmChannel>,
}

impl DeadLetterPublisher {
    /// Creates a publisher to `exchange`; `worker` is the value of `x-cns-worker`.
    #[must_use]
    pub fn new(broker: BrokerEndpoint, exchange: String, worker: String) -> Self {
        DeadLetterPublisher { broker, exchange, worker, connection: None }
    }

    /// Publishes dead letters and waits for the broker's confirms. Returns one outcome for each, in their order.
    ///
    /// When the connection fails, or a confirm is late, the dead letters behind it are not sent and share its outcome. Where the
    /// broker refuses a message for what it holds, those that were sent with it are sent again one by one: only one of them ends
    /// as [`NotTaken::Impossible`].
    pub async fn publish(&mut self, rejected: &[RejectedDelivery]) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(rejected.len());
        for chunk in rejected.chunks(MAX_IN_FLIGHT) {
            let mut published = self.try_publish(chunk, Form::Whole).await;
            if published.as_ref().is_err_and(NotTaken::is_about_a_message) {
                published = self.publish_each(chunk).await;
            }
            match published {
                Ok(published) => outcomes.extend(published),
                Err(error) => {
                    outcomes.resize(rejected.len(), Err(error));
                    break;
                }
            }
        }
        outcomes
    }

    /// Publishes dead letters one by one. A refused one is sent without the message's own properties and headers, and is
    /// impossible where the broker refuses that too.
    async fn publish_each(&mut self, rejected: &[RejectedDelivery]) -> Result<Vec<Outcome>, NotTaken> {
        let mut outcomes = Vec::with_capacity(rejected.len());
        for one in rejected.chunks(1) {
            let mut published = self.try_publish(one, Form::Whole).await;
            if published.as_ref().is_err_and(NotTaken::is_about_a_message) {
                published = self.try_publish(one, Form::Stripped).await;
            }
            match published {
                Err(error) if error.is_about_a_message() => {
                    outcomes.push(Err(NotTaken::Impossible(error.to_string())));
                }
                published => outcomes.extend(published?),
            }
        }
        Ok(outcomes)
    }

    /// Publishes dead letters together, within the time limit. After a failure the next call connects again.
    async fn try_publish(
        &mut self,
        rejected: &[RejectedDelivery],
        form: Form,
    ) -> Result<Vec<Outcome>, NotTaken> {
        let published = tokio::time::timeout(CONFIRM_TIMEOUT, self.publish_together(rejected, form)).await;
        let published = published.unwrap_or(Err(NotTaken::Unconfirmed));
        if published.is_err() {
            self.connection = None;
        }
        published
    }

    async fn publish_together(
        &mut self,
        rejected: &[RejectedDelivery],
        form: Form,
    ) -> Result<Vec<Outcome>, NotTaken> {
        let mut connection = self.connect().await?;
        let max_properties_bytes = connection.max_properties_bytes();
        let now = Utc::now();
        let encode = |one: &RejectedDelivery| match form {
            Form::Whole => one.encode(&self.worker, now, max_properties_bytes),
            Form::Stripped => one.encode_stripped(&self.worker, now),
        };
        let messages: Vec<RawMessage> = rejected.iter().map(encode).collect();
        let published = match connection.publish(&self.exchange, &messages).await {
            // The broker reads the dead letters when its alarm is over, and each retry before that would leave one more copy.
            Err(AmqpError::Blocked(_)) => {
                tokio::time::sleep(CONFIRM_TIMEOUT).await;
                return Err(NotTaken::Unconfirmed);
            }
            published => published?,
        };
        self.connection = Some(connection);
        Ok(published.into_iter().map(outcome).collect())
    }

    /// Returns the open connection, unless the broker has closed it since, or a new one.
    async fn connect(&mut self) -> Result<ConfirmChannel, AmqpError> {
        if let Some(mut connection) = self.connection.take()
            && connection.is_quiet().await
        {
            return Ok(connection);
        }
        ConfirmChannel::open(&self.broker).await
    }
}

fn outcome(published: Published) -> Outcome {
    match published {
        Published::Confirmed => Ok(()),
        Published::Returned(text) => Err(NotTaken::Returned(text)),
        Published::Refused => Err(NotTaken::Refused),
    }
}
