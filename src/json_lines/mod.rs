//! Events as JSON: validated as a worker validates them, and published.

mod framer;
mod input;

use std::collections::{HashSet, VecDeque};
use std::io::Read;
use std::time::{Duration, Instant};

use chrono::Utc;

use crate::counted::counted;
use crate::event::{Event, Reason, ReceivedMessage, Rejection, Rules, decode, fresh_id, schema};
use crate::publisher::{CloseReport, LogError, Publisher};
use framer::{Content, Framer, Item};

/// Maximum events that are read and not confirmed: enough to keep the broker busy.
pub const BUFFER_EVENTS: usize = 10_000;

/// Maximum errors that a report keeps. All of them are told as they come.
const MAX_ERRORS: usize = 1000;

/// Receiver of errors, as they come.
pub type Tell = Box<dyn Fn(&str) + Send + Sync>;

/// Publisher of events from a stream. What is not a valid event is reported and does not stop the others.
pub struct LinePublisher {
    /// `None` for a dry run.
    publisher: Option<Publisher>,
    rules: Rules,
    /// Routing key of every event, instead of that of its type.
    routing_key: Option<String>,
    timeout: Duration,
    report: LineReport,
    tell: Tell,
    /// `event_id` and line of the last accepted events, as many as can be unconfirmed.
    unconfirmed: VecDeque<(String, Option<u64>)>,
    /// Set where the broker took nothing for `timeout`. Nothing is read after it.
    timed_out: bool,
}

/// Result of publishing lines.
#[derive(Clone, Debug, Default)]
pub struct LineReport {
    /// Events that are confirmed, or valid in a dry run.
    pub accepted: u64,
    /// Events that are not valid or not confirmed.
    pub failed: u64,
    /// One text for each of the first thousand problems.
    pub errors: Vec<String>,
    /// Events of an earlier run that were sent from the spool.
    pub recovered: u64,
    /// Events that wait in the spool.
    pub in_spool: u64,
}

impl LinePublisher {
    /// Returns a publisher of lines; without a `publisher` it only validates. `timeout` is the time that the broker may take
    /// nothing. `tell` receives each error.
    #[must_use]
    pub fn new(
        publisher: Option<Publisher>,
        rules: Rules,
        routing_key: Option<String>,
        timeout: Duration,
        tell: Tell,
    ) -> Self {
        LinePublisher {
            publisher,
            rules,
            routing_key,
            timeout,
            report: LineReport::default(),
            tell,
            unconfirmed: VecDeque::new(),
            timed_out: false,
        }
    }

    /// Returns the reason why nothing can be sent at the moment.
    #[must_use]
    pub fn outage(&self) -> Option<String> {
        self.publisher.as_ref().and_then(Publisher::outage)
    }

    /// Publishes every event of a stream: one a line, objects over several lines, arrays, and JSON text sequences, in UTF-8 or
    /// UTF-16. `before_event` is called before each with the result of [`LinePublisher::outage`]. Returns the number of events that
    /// were read, valid or not.
    ///
    /// # Errors
    /// The input cannot be read, or is not text.
    pub async fn events(
        &mut self,
        input: impl Read + 'static,
        before_event: impl Fn(Option<String>),
    ) -> std::io::Result<u64> {
        let mut events = 0;
        let mut input = input::utf8(input)?;
        let mut framer = Framer::new(self.rules.max_message_bytes);
        while !self.timed_out {
            let bytes = input.fill_buf().map_err(|error| at_line(&framer, &error))?;
            let (used, item) = match bytes {
                [] => (0, framer.finish()),
                bytes => framer.read(bytes),
            };
            let is_end = bytes.is_empty();
            input.consume(used);
            match item {
                Some(item) => {
                    events += 1;
                    before_event(self.outage());
                    self.item(item).await;
                }
                None if is_end => break,
                None => {}
            }
        }
        Ok(events)
    }

    async fn item(&mut self, Item { line, content }: Item) {
        let (reason, detail) = match content {
            Content::Value(body) => return self.event(Some(line), &body).await,
            Content::TooLarge => {
                let limit = self.rules.max_message_bytes;
                (Reason::TooLarge, format!("the event has more than the limit of {limit} bytes"))
            }
            Content::OpenArray => (Reason::MalformedJson, "the array that begins here is not closed".into()),
        };
        self.fail(Some(line), &Rejection::new(reason, detail));
    }

    /// Validates one event and hands it to the publisher. Errors name the line on which it begins, if any.
    pub async fn event(&mut self, line: Option<u64>, body: &[u8]) {
        let fresh_id = fresh_id();
        let event = match event_of(body, &fresh_id, &self.rules, self.routing_key.as_deref()) {
            Ok(event) => event,
            Err(rejection) => return self.fail(line, &rejection),
        };
        let Some(publisher) = &self.publisher else {
            self.report.accepted += 1;
            return;
        };
        let event_id = event.event_id.clone().into_owned();
        match publisher.log_wait(event, Instant::now() + self.timeout).await {
            Ok(()) => {
                self.report.accepted += 1;
                self.unconfirmed.push_back((event_id, line));
                if self.unconfirmed.len() > BUFFER_EVENTS {
                    self.unconfirmed.pop_front();
                }
            }
            Err(LogError::Invalid(rejection)) => self.fail(line, &rejection),
            Err(LogError::NoRoom | LogError::Closed) => self.timed_out = true,
        }
    }

    /// Waits for the broker's confirms. Events that are not confirmed in time are one error, with the line from which to publish
    /// again.
    pub async fn finish(mut self) -> LineReport {
        let Some(publisher) = self.publisher.take() else { return self.report };
        let flushed = publisher.flush(self.timeout).await;
        let reason = (flushed.left > 0 || self.timed_out).then(|| unconfirmed_reason(&publisher));
        let CloseReport { rejected, left, in_spool, lost, .. } = publisher.close(Duration::ZERO).await;
        (self.report.recovered, self.report.in_spool) = (publisher.stats().recovered, in_spool);
        if rejected > 0 {
            self.report.accepted = self.report.accepted.saturating_sub(rejected);
            self.report.failed += rejected;
            self.error(format!(
                "the broker refused {}: too large for it, or with a routing key that is not permitted\nhint: the log above names each with the broker's reason",
                counted(rejected, "event")
            ));
        }
        let Some(reason) = reason else { return self.report };
        self.report.accepted = self.report.accepted.saturating_sub(left);
        self.report.failed += left;
        if in_spool > 0 {
            self.error(format!(
                "in the spool: {}: {reason}\nhint: run `cns-events publish` with the same --spool to send what waits there",
                counted(in_spool, "event")
            ));
        }
        let lost: HashSet<_> = lost.iter().map(String::as_str).collect();
        let first = self.unconfirmed.iter().find(|(event_id, _)| lost.contains(event_id.as_str()));
        match first {
            Some((_, Some(line))) => self.error(format!(
                "line {line}: not confirmed: {reason}\nhint: publish again from this line on; an event with an event_id is stored once"
            )),
            Some((_, None)) => self.error(format!("not confirmed: {reason}")),
            None => {}
        }
        self.report
    }

    fn fail(&mut self, line: Option<u64>, error: &Rejection) {
        self.report.failed += 1;
        self.error(match line {
            Some(line) => format!("line {line}: {error}"),
            None => error.to_string(),
        });
    }

    fn error(&mut self, error: String) {
        (self.tell)(&error);
        if self.report.errors.len() < MAX_ERRORS {
            self.report.errors.push(error);
        }
    }
}

/// Adds the line to an error that the input has after its first bytes.
fn at_line(framer: &Framer, error: &std::io::Error) -> std::io::Error {
    std::io::Error::new(error.kind(), format!("line {}: {error}", framer.line()))
}

/// Returns the reason why events are not confirmed.
fn unconfirmed_reason(publisher: &Publisher) -> String {
    match (publisher.outage(), publisher.stats().returned) {
        (Some(outage), _) => outage,
        (None, 0) => "the broker confirms too slowly".to_owned(),
        (None, _) => "no queue takes them; start a worker, which declares the queue".to_owned(),
    }
}

/// Decodes a body as a worker does, and adds what a producer may leave out: the `event_id` and the routing key.
fn event_of<'a>(
    body: &'a [u8],
    fresh_id: &'a str,
    rules: &Rules,
    routing_key: Option<&'a str>,
) -> Result<Event<'a>, Rejection> {
    let message = ReceivedMessage {
        body,
        routing_key: routing_key.unwrap_or_default(),
        message_id: Some(fresh_id),
        event_type: None,
        timestamp: None,
        received_at: Utc::now(),
    };
    let mut event = decode(&message, rules)?.event;
    if routing_key.is_none() {
        event.routing_key = schema::routing_key(&event.event_type, event.payload.get());
    }
    Ok(event)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::PayloadPolicy;

    async fn dry_run(text: &'static str) -> (LineReport, Vec<String>) {
        let rules = Rules { max_message_bytes: 1000, payload: PayloadPolicy::Reject };
        let (sender, told) = std::sync::mpsc::channel();
        let tell = Box::new(move |error: &str| sender.send(error.to_owned()).unwrap_or_default());
        let mut lines = LinePublisher::new(None, rules, None, Duration::ZERO, tell);
        lines.events(text.as_bytes(), |_| ()).await.unwrap();
        (lines.finish().await, told.try_iter().collect())
    }

    #[tokio::test]
    async fn invalid_lines_are_told_and_do_not_stop_the_others() {
        let (report, told) = dry_run(concat!(
            r#"{"event_type":"x","bom_id":"6f9619ff-8b86-4d01-b42d-00cf4fc964ff","organization_id":"o"}"#,
            "\n\n  \nnot json\r\n",
            r#"{"event_type":"x","bom_id":"6f9619ff-8b86-4d01-b42d-00cf4fc964ff","organization_id":"o"}"#,
            "\r\n{}",
        ))
        .await;
        assert_eq!((report.accepted, report.failed), (2, 2));
        assert!(told[0].starts_with("line 4: ") && told[1].starts_with("line 6: "), "{told:?}");
        assert_eq!(report.errors, told);
    }
}
