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
    /// The broker did not confirm it in time, most likely because an alarm blocks the connection.
    #[error("the broker did not confirm a dead letter within 10 s")]
    Unconfirmed,
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
    /// When the connection fails, or a confirm is late, the dead letters behind it are not sent and share its outcome.
    pub async fn publish(&mut self, rejected: &[RejectedDelivery]) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(rejected.len());
        for chunk in rejected.chunks(MAX_IN_FLIGHT) {
            let published = tokio::time::timeout(CONFIRM_TIMEOUT, self.publish_chunk(chunk)).await;
            match published.unwrap_or(Err(NotTaken::Unconfirmed)) {
                Ok(published) => outcomes.extend(published),
                Err(error) => {
                    self.connection = None;
                    outcomes.resize(rejected.len(), Err(error));
                    break;
                }
            }
        }
        outcomes
    }

    async fn publish_chunk(&mut self, rejected: &[RejectedDelivery]) -> Result<Vec<Outcome>, NotTaken> {
        let mut connection = self.connect().await?;
        let max_properties_bytes = connection.max_properties_bytes();
        let now = Utc::now();
        let messages: Vec<RawMessage> =
            rejected.iter().map(|one| one.encode(&self.worker, now, max_properties_bytes)).collect();
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
