//! Publishing: persistent, confirmed, and told when no queue took a message.

use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Confirmation, Connection, ExchangeKind, PublisherConfirm};

use crate::broker::Broker;
use crate::event::Event;
use crate::message;

/// A channel to the exchange, with publisher confirms.
pub struct Publisher {
    channel: Channel,
    exchange: ShortString,
    app_id: String,
    // Dropping it would close the channel.
    _connection: Connection,
}

/// A message was not taken.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The connection failed; the message may have been taken, and its `event_id` makes it safe to send again.
    #[error(transparent)]
    Broker(#[from] lapin::Error),
    /// The event cannot be written as JSON.
    #[error("the event cannot be encoded: {0}")]
    Encoding(#[from] serde_json::Error),
    /// A routing key or an exchange's name longer than the 255 bytes that AMQP has for it.
    #[error("{0} has more than 255 bytes")]
    TooLong(&'static str),
    /// The broker has the exchange, but no queue is bound to it.
    #[error("no queue takes this message ({0}): start a worker, which declares the queue")]
    Unroutable(String),
    /// The broker refused it.
    #[error("the broker refused the message (nack)")]
    Refused,
}

/// A message on its way: await its end with [`Pending::confirmed`].
#[must_use = "a message is safe only once it is confirmed"]
pub struct Pending(PublisherConfirm);

impl Pending {
    /// Waits until the broker has written the message to its queue.
    ///
    /// # Errors
    /// Why it has not.
    pub async fn confirmed(self) -> Result<(), PublishError> {
        match self.0.await? {
            Confirmation::Ack(None) => Ok(()),
            Confirmation::Ack(Some(returned)) => {
                Err(PublishError::Unroutable(returned.reply_text.as_str().to_owned()))
            }
            Confirmation::Nack(_) | Confirmation::NotRequested => Err(PublishError::Refused),
        }
    }
}

impl Publisher {
    /// Connects, and declares the exchange as every producer may (topic, durable).
    ///
    /// # Errors
    /// As the broker or the network gives them.
    pub async fn connect(broker: &Broker, exchange: &str, app_id: &str) -> Result<Self, PublishError> {
        let name = short("the exchange's name", exchange)?;
        let connection = broker.connect("publisher").await?;
        let channel = connection.create_channel().await?;
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        channel.exchange_declare(name.clone(), ExchangeKind::Topic, durable, FieldTable::default()).await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        Ok(Publisher { channel, exchange: name, app_id: app_id.to_owned(), _connection: connection })
    }

    /// Hands one event to the connection.
    ///
    /// # Errors
    /// As the broker or the network gives them.
    pub async fn publish(&self, event: &Event<'_>) -> Result<Pending, PublishError> {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let key = short("the routing key", &event.routing_key)?;
        let properties = message::properties(event, &self.app_id);
        let exchange = self.exchange.clone();
        let confirm =
            self.channel.basic_publish(exchange, key, options, &event.to_json()?, properties).await?;
        Ok(Pending(confirm))
    }
}

fn short(what: &'static str, text: &str) -> Result<ShortString, PublishError> {
    ShortString::try_new(text).map_err(|_| PublishError::TooLong(what))
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher").field("exchange", &self.exchange).finish_non_exhaustive()
    }
}
