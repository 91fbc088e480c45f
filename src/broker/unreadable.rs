//! Messages that the client library cannot read: it fails the whole connection over one of them, and every neighbour in
//! the prefetch goes back. They are taken out of the queue by hand, and dead-lettered like any other.

use lapin::types::AMQPValue;

use super::dead_letters::{PROPERTY_BYTES, reason_headers, set_apart};
use super::wire::{Published, RawMessage, Wire, WireError};
use super::{Broker, Undelivered};
use crate::event::{Reason, Rejection};

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
    /// The dead-letter exchange did not take this letter: it is tried alone before anything is consumed again.
    #[error("{why}")]
    Letter {
        /// The letter.
        letter: Box<RawMessage>,
        /// Why not.
        why: String,
    },
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
    let most = wire.max_properties_bytes();
    let ready = usize::try_from(wire.ready(queue).await?).unwrap_or(usize::MAX);
    let mut bytes = 0;
    for _ in 0..reach.messages.min(ready) {
        let Some(got) = wire.next(queue).await? else { break };
        bytes += got.message.body.len();
        if let Err(rejection) = readable(&got.message, most) {
            let letter = letter(got.message, &rejection, worker, most);
            publish_letter(&mut wire, exchange, &letter).await?;
            wire.ack(got.tag).await?;
            found.push(rejection);
        }
        if bytes > reach.bytes {
            break;
        }
    }
    Ok(wire.close().await?)
}

/// Publishes one letter that was not taken before. Its message is still in the queue: the letter may come twice.
///
/// # Errors
/// It is not taken now either.
pub async fn try_letter(broker: &Broker, exchange: &str, letter: &RawMessage) -> Result<(), NotSetAside> {
    let mut wire = Wire::open(broker).await?;
    publish_letter(&mut wire, exchange, letter).await?;
    Ok(wire.close().await?)
}

async fn publish_letter(wire: &mut Wire, exchange: &str, letter: &RawMessage) -> Result<(), NotSetAside> {
    let why = match wire.publish(exchange, std::slice::from_ref(letter)).await {
        Ok(outcomes) => match outcomes.into_iter().next() {
            Some(Published::Confirmed) => return Ok(()),
            Some(Published::Returned(words)) => Undelivered::Returned(words).to_string(),
            Some(Published::Refused) | None => Undelivered::Refused.to_string(),
        },
        Err(error) => error.to_string(),
    };
    Err(NotSetAside::Letter { letter: Box::new(letter.clone()), why })
}

/// Whether the client library can read a message; `most` is what the properties in a frame may take.
fn readable(message: &RawMessage, most: usize) -> Result<(), Rejection> {
    message.check()?;
    let bytes = message.properties.to_bytes().len();
    if bytes > most {
        let why = format_args!("take {bytes} bytes with the other properties; a frame has room for {most}");
        return Err(Rejection::of(Reason::InvalidField, "headers", why));
    }
    Ok(())
}

/// The message as it is, with the reason behind its own headers.
fn letter(mut message: RawMessage, rejection: &Rejection, worker: &str, most: usize) -> RawMessage {
    let properties = &mut message.properties;
    let mut own = reason_headers(rejection, &message.routing_key, worker);
    set_apart(properties, &mut own);
    let mut whole = properties.clone();
    whole.append_headers(&own);
    // The broker adds headers of its own when the letter is looked at.
    if whole.to_bytes().len() > most.saturating_sub(PROPERTY_BYTES) {
        let left_out = properties.headers().map_or(1, |headers| headers.inner().len());
        let left_out = i64::try_from(left_out).unwrap_or(i64::MAX);
        own.insert("x-cns-headers-left-out".into(), AMQPValue::LongLongInt(left_out));
        whole.set_headers(&own);
    }
    RawMessage { properties: whole, ..message }
}
