//! Rights of a login, tried on the broker in ways that change nothing.
//!
//! RabbitMQ checks a right before it looks at anything else: a request that cannot succeed tells whether the right is there.

use lapin::Connection;
use lapin::options::BasicConsumeOptions;
use lapin::types::{AMQPValue, FieldTable, LongString};
use uuid::Uuid;

use super::refusal::answer;

/// Reply code of a missing right (AMQP 0-9-1).
const ACCESS_REFUSED: u16 = 403;

/// Reply code of an object that does not exist.
const NOT_FOUND: u16 = 404;

/// Right of a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Right {
    /// The login has it.
    Granted,
    /// The login does not have it; the broker's text.
    Refused(String),
    /// An object does not exist, so that the right was not checked.
    Unknown,
}

/// Tries to consume a queue with an argument that the broker refuses, so that nothing is delivered. The login needs the right to
/// read the queue.
///
/// # Errors
/// The connection failed.
pub async fn right_to_consume(connection: &Connection, queue: &str) -> lapin::Result<Right> {
    let channel = connection.create_channel().await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-priority".into(), AMQPValue::LongString(LongString::from("none")));
    let consumed =
        channel.basic_consume(queue.into(), "".into(), BasicConsumeOptions::default(), arguments).await;
    right(consumed.map(drop))
}

/// Tries to remove a binding that does not exist. The login needs the rights to write to the queue and to read the
/// exchange.
///
/// # Errors
/// The connection failed.
pub async fn right_to_bind(connection: &Connection, queue: &str, exchange: &str) -> lapin::Result<Right> {
    let channel = connection.create_channel().await?;
    let key = format!("cns.doctor.{}", Uuid::new_v4().simple());
    let removed =
        channel.queue_unbind(queue.into(), exchange.into(), key.as_str().into(), FieldTable::default());
    right(removed.await)
}

fn right(outcome: lapin::Result<()>) -> lapin::Result<Right> {
    let Err(error) = outcome else { return Ok(Right::Granted) };
    match answer(&error) {
        Some((ACCESS_REFUSED, answer)) => Ok(Right::Refused(answer.get_message().to_string())),
        Some((NOT_FOUND, _)) => Ok(Right::Unknown),
        // Refused for what was asked, after the right was checked.
        Some(_) => Ok(Right::Granted),
        None => Err(error),
    }
}
