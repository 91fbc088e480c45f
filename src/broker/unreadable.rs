//! Messages that the client library cannot read: it fails the whole connection over one of them, and every neighbour in
//! the prefetch goes back. They are taken out of the queue by hand, and dead-lettered like any other.

use lapin::types::{AMQPValue, LongString};

use super::dead_letters::reason_headers;
use super::wire::{Property, Published, RawMessage, Wire, WireError};
use super::{Broker, Undelivered};
use crate::event::Rejection;

/// What headers and properties of a letter may take: a frame, less its framing (RabbitMQ's `frame_max`).
const MAX_HEADER_BYTES: usize = 131_072 - 32;

/// How far to look: what can have come back from a session that failed.
#[derive(Clone, Copy, Debug)]
pub struct Reach {
    /// Messages.
    pub messages: usize,
    /// Bytes of bodies.
    pub bytes: usize,
}

/// Why the queue could not be looked through.
#[derive(Debug, thiserror::Error)]
pub enum NotSetAside {
    /// The connection.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The dead-letter exchange.
    #[error(transparent)]
    Letter(#[from] Undelivered),
}

/// Looks through the front of `queue` for what cannot be read. Each such message is published to `exchange` with the
/// reason in its headers, and acknowledged after the confirm; everything else goes back.
///
/// `found` grows by each that was set aside, also where the look ends in an error.
///
/// # Errors
/// As the broker or the network gives them; what was held is back in the queue.
pub async fn set_unreadable_aside(
    broker: &Broker,
    queue: &str,
    exchange: &str,
    worker: &str,
    reach: Reach,
    found: &mut Vec<Rejection>,
) -> Result<(), NotSetAside> {
    let mut wire = Wire::open(broker).await?;
    let mut bytes = 0;
    let ready = usize::try_from(wire.ready(queue).await?).unwrap_or(usize::MAX);
    for _ in 0..reach.messages.min(ready) {
        let Some(got) = wire.next(queue).await? else { break };
        bytes += got.message.body.len();
        if let Err(rejection) = got.message.check() {
            let letter = letter(got.message, &rejection, worker);
            match wire.publish(exchange, &[letter]).await?.pop() {
                Some(Published::Confirmed) => wire.ack(got.tag).await?,
                Some(Published::Returned(words)) => return Err(Undelivered::Returned(words).into()),
                Some(Published::Refused) | None => return Err(Undelivered::Refused.into()),
            }
            found.push(rejection);
        }
        if bytes > reach.bytes {
            break;
        }
    }
    Ok(wire.close().await?)
}

/// The message as it is, with the reason behind its own headers.
fn letter(mut message: RawMessage, rejection: &Rejection, worker: &str) -> RawMessage {
    let properties = &mut message.properties;
    let mut own = reason_headers(rejection, &message.routing_key, worker);
    // The broker refuses a foreign user_id, and an expiration would erase the letter.
    for (property, header) in
        [(Property::UserId, "x-cns-user-id"), (Property::Expiration, "x-cns-expiration")]
    {
        if let Some(text) = properties.text(property) {
            own.insert(header.into(), AMQPValue::LongString(LongString::from(text.as_ref())));
            properties.remove(property);
        }
    }
    let mut whole = properties.clone();
    whole.append_headers(&own);
    if whole.to_bytes().len() > MAX_HEADER_BYTES {
        own.insert("x-cns-headers-left-out".into(), AMQPValue::Boolean(true));
        whole.set_headers(&own);
    }
    RawMessage { properties: whole, ..message }
}
