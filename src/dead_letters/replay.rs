//! Replay: dead letters are published again under the keys that they came with.
//!
//! A dead letter leaves its queue when the broker has confirmed its copy, so that a failure in between leaves both and the
//! table's deduplication drops one.

use std::time::{Duration, Instant};

use chrono::Utc;

use super::decode::{DeadLetter, header, replays};
use super::filter::Selection;
use super::queue::{DeadLetterQueue, QueueError, Tag};
use super::reserved::{keep_headers, move_reserved_properties};
use crate::amqp::table::{Table, Value};
use crate::amqp::{Published, RawMessage};
use crate::event::headers;
use crate::message::MAX_KEY_BYTES;

/// Most copies in flight.
const MAX_WINDOW: usize = 100;

/// Windows per second when a rate is set: an even flow, not one burst a second.
const WINDOWS_PER_SECOND: usize = 5;

/// Options of a replay.
#[derive(Clone, Copy, Debug)]
pub struct ReplayOptions<'a> {
    /// Place that the copies are published to.
    pub to: ReplayTarget<'a>,
    /// Dead letters to replay.
    pub selection: &'a Selection,
    /// Most dead letters per second.
    pub max_per_second: Option<u32>,
    /// Publish nothing; only report.
    pub dry_run: bool,
}

/// Place that copies are published to.
#[derive(Clone, Copy, Debug)]
pub enum ReplayTarget<'a> {
    /// An exchange, under the keys that the messages came with.
    Exchange(&'a str),
    /// A queue itself, for messages that came by another exchange. They are stored with the queue's name as their routing key.
    Queue(&'a str),
}

impl ReplayTarget<'_> {
    /// Returns the exchange; the nameless one delivers to the queue that the routing key names (AMQP 0-9-1, 3.1.3.1).
    fn exchange(&self) -> &str {
        match self {
            ReplayTarget::Exchange(name) => name,
            ReplayTarget::Queue(_) => "",
        }
    }

    fn routing_key(&self, original: Vec<u8>) -> Vec<u8> {
        match self {
            ReplayTarget::Exchange(_) => original,
            ReplayTarget::Queue(name) => name.as_bytes().to_vec(),
        }
    }
}

/// Result of a replay.
#[derive(Debug, Default)]
pub struct ReplayReport {
    /// Dead letters whose copy the broker has confirmed; in a dry run, those that would be published.
    pub replayed: Vec<DeadLetter>,
    /// Dead letters that stay in the queue.
    pub left: Vec<(DeadLetter, NotReplayed)>,
}

/// Reason why a dead letter stays in its queue.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotReplayed {
    /// The worker could not read the copy either.
    #[error("{0}: the worker cannot read it\nhint: export it, then purge it")]
    Unreadable(String),
    /// The routing key does not fit into a message.
    #[error("{} has more than {MAX_KEY_BYTES} bytes", headers::ROUTING_KEY)]
    RoutingKeyTooLong,
    /// The broker returned the copy.
    #[error(
        "no queue takes its routing key {routing_key:?} ({text})\nhint: if it came by another exchange, replay it with --to-queue"
    )]
    Returned {
        /// Routing key of the copy.
        routing_key: String,
        /// The broker's text.
        text: String,
    },
    /// The broker refused the copy.
    #[error("the broker refused its copy (nack)")]
    Refused,
}

impl ReplayReport {
    /// Returns all dead letters that were selected.
    #[must_use]
    pub fn selected(&self) -> Vec<&DeadLetter> {
        self.replayed.iter().chain(self.left.iter().map(|(dead_letter, _)| dead_letter)).collect()
    }
}

/// Dead letters whose copies go out together.
#[derive(Default)]
struct Window {
    tags: Vec<Tag>,
    dead_letters: Vec<DeadLetter>,
    copies: Vec<RawMessage>,
}

/// Replays the selected dead letters of a queue.
///
/// The report is valid in any case: it holds what was done before the error.
pub async fn replay(
    queue: &mut DeadLetterQueue,
    options: &ReplayOptions<'_>,
) -> (ReplayReport, Result<(), QueueError>) {
    let mut report = ReplayReport::default();
    let done = replay_all(queue, options, &mut report).await;
    (report, done)
}

async fn replay_all(
    queue: &mut DeadLetterQueue,
    options: &ReplayOptions<'_>,
    report: &mut ReplayReport,
) -> Result<(), QueueError> {
    let window_size = window_size(options.max_per_second);
    let mut window = Window::default();
    let started = Instant::now();
    while let Some(held) = queue.next().await? {
        if !options.selection.matches(&held.dead_letter, Utc::now()) {
            continue;
        }
        match copy(&held.message, options.to) {
            Err(error) => report.left.push((held.dead_letter, error)),
            Ok(_) if options.dry_run => report.replayed.push(held.dead_letter),
            Ok(copy) => {
                window.tags.push(held.tag);
                window.dead_letters.push(held.dead_letter);
                window.copies.push(copy);
            }
        }
        if window.copies.len() == window_size {
            send(queue, options.to.exchange(), &mut window, report).await?;
            if let Some(rate) = options.max_per_second {
                let due = Duration::from_secs_f64(report.replayed.len() as f64 / f64::from(rate));
                tokio::time::sleep(due.saturating_sub(started.elapsed())).await;
            }
        }
    }
    send(queue, options.to.exchange(), &mut window, report).await
}

fn window_size(max_per_second: Option<u32>) -> usize {
    let evenly = |rate| usize::try_from(rate).unwrap_or(MAX_WINDOW) / WINDOWS_PER_SECOND;
    max_per_second.map_or(MAX_WINDOW, evenly).clamp(1, MAX_WINDOW)
}

/// Publishes a window, and removes the dead letters whose copies the broker has confirmed.
async fn send(
    queue: &mut DeadLetterQueue,
    exchange: &str,
    window: &mut Window,
    report: &mut ReplayReport,
) -> Result<(), QueueError> {
    let Window { tags, dead_letters, copies } = std::mem::take(window);
    if copies.is_empty() {
        return Ok(()); // nothing to publish: no connection is opened for it
    }
    let published = queue.publish(exchange, &copies).await?;
    for ((tag, dead_letter), published) in tags.into_iter().zip(dead_letters).zip(published) {
        match published {
            Published::Confirmed => {
                queue.remove(tag).await?;
                report.replayed.push(dead_letter);
            }
            Published::Returned(text) => {
                let routing_key = dead_letter.routing_key.clone();
                report.left.push((dead_letter, NotReplayed::Returned { routing_key, text }));
            }
            Published::Refused => report.left.push((dead_letter, NotReplayed::Refused)),
        }
    }
    Ok(())
}

/// Returns the message as it was before it was dead-lettered, with one replay more.
fn copy(dead_letter: &RawMessage, to: ReplayTarget<'_>) -> Result<RawMessage, NotReplayed> {
    dead_letter.check().map_err(|rejection| NotReplayed::Unreadable(rejection.detail))?;
    let original = &dead_letter.properties;
    let routing_key = match header(original, headers::ROUTING_KEY) {
        Some(Value::Text(key)) => key.to_owned(),
        _ => dead_letter.routing_key.clone(),
    };
    let routing_key = to.routing_key(routing_key);
    if routing_key.len() > MAX_KEY_BYTES {
        return Err(NotReplayed::RoutingKeyTooLong);
    }
    let mut kept = Table::default();
    kept.int(headers::REPLAYS, replays(original).saturating_add(1));
    let mut properties = original.clone();
    // A message that the broker dead-lettered by itself still has its reserved properties.
    move_reserved_properties(&mut properties, &mut kept);
    keep_headers(&mut kept, original, usize::MAX, headers::is_about_dead_letter);
    properties.set_headers(&kept);
    Ok(RawMessage { routing_key, properties, body: dead_letter.body.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amqp::{Property, RawProperties};

    #[test]
    fn a_copy_is_the_original_message_with_one_replay_more() {
        let mut table = Table::default();
        table.text(headers::REASON, b"unstorable");
        table.text(headers::ROUTING_KEY, b"cns.original");
        table.text("x-first-death-queue", b"q");
        table.int(headers::REPLAYS, 1);
        table.text("mine", b"kept");
        let mut properties = RawProperties::default().with_text(Property::Expiration, "60000");
        properties.set_headers(&table);
        let mut dead_letter =
            RawMessage { routing_key: b"cns.dead".to_vec(), properties, body: b"body".to_vec() };
        let copy = super::copy(&dead_letter, ReplayTarget::Exchange("e")).unwrap();
        assert_eq!((&copy.routing_key[..], &copy.body[..]), (&b"cns.original"[..], &b"body"[..]));
        assert_eq!(replays(&copy.properties), 2);
        assert_eq!(copy.properties.text(Property::Expiration), None);
        let names: Vec<_> = copy.properties.headers().map(|entry| entry.name.to_owned()).collect();
        assert_eq!(names, [&b"x-cns-replays"[..], b"x-cns-expiration", b"mine"]);

        dead_letter.routing_key = b"\xff".to_vec();
        assert!(matches!(
            super::copy(&dead_letter, ReplayTarget::Exchange("e")),
            Err(NotReplayed::Unreadable(_))
        ));
    }

    #[test]
    fn a_rate_is_spread_over_the_second() {
        assert_eq!(window_size(None), MAX_WINDOW);
        assert_eq!(window_size(Some(1)), 1);
        assert_eq!(window_size(Some(50)), 10);
        assert_eq!(window_size(Some(u32::MAX)), MAX_WINDOW);
    }
}
