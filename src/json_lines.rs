//! Events as JSON lines: validated as a worker validates them, and published.

use std::collections::{HashSet, VecDeque};
use std::io::BufRead;
use std::time::{Duration, Instant};

use chrono::Utc;

use crate::event::{Event, ReceivedMessage, Rejection, Rules, decode, fresh_id, schema};
use crate::publisher::{CloseReport, LogError, Publisher};

/// Maximum events that are read and not confirmed: enough to keep the broker busy.
pub const BUFFER_EVENTS: usize = 10_000;

/// Publisher of lines. A line that is not a valid event is reported and does not stop the others.
pub struct LinePublisher {
    /// `None` for a dry run.
    publisher: Option<Publisher>,
    rules: Rules,
    /// Routing key of every event, instead of that of its type.
    routing_key: Option<String>,
    timeout: Duration,
    report: LineReport,
    /// `event_id` and line of the last accepted events, as many as can be unconfirmed.
    unconfirmed: VecDeque<(String, u64)>,
    /// Set where the broker took nothing for `timeout`. Nothing is read after it.
    timed_out: bool,
}

/// Result of publishing lines.
#[derive(Clone, Debug, Default)]
pub struct LineReport {
    /// Events that are confirmed, or valid in a dry run.
    pub accepted: u64,
    /// Lines that are not valid, and events that are not confirmed.
    pub failed: u64,
    /// One text for each problem.
    pub errors: Vec<String>,
    /// Events of an earlier run that were sent from the spool.
    pub recovered: u64,
    /// Events that wait in the spool.
    pub in_spool: u64,
}

impl LinePublisher {
    /// Returns a publisher of lines; without a `publisher` it only validates. `timeout` is the time that the broker may take
    /// nothing.
    #[must_use]
    pub fn new(
        publisher: Option<Publisher>,
        rules: Rules,
        routing_key: Option<String>,
        timeout: Duration,
    ) -> Self {
        LinePublisher {
            publisher,
            rules,
            routing_key,
            timeout,
            report: LineReport::default(),
            unconfirmed: VecDeque::new(),
            timed_out: false,
        }
    }

    /// Returns the reason why nothing can be sent at the moment.
    #[must_use]
    pub fn outage(&self) -> Option<String> {
        self.publisher.as_ref().and_then(Publisher::outage)
    }

    /// Publishes every line that is not blank. `before_line` is called before each with the result of [`LinePublisher::outage`].
    ///
    /// # Errors
    /// The input cannot be read.
    pub async fn lines(
        &mut self,
        lines: impl BufRead,
        before_line: impl Fn(Option<String>),
    ) -> std::io::Result<()> {
        for (number, line) in (1..).zip(lines.split(b'\n')) {
            let line = line?;
            if !line.trim_ascii().is_empty() {
                before_line(self.outage());
                self.line(number, line.trim_ascii()).await;
            }
            if self.timed_out {
                break;
            }
        }
        Ok(())
    }

    /// Validates one event and hands it to the publisher.
    pub async fn line(&mut self, number: u64, body: &[u8]) {
        let fresh_id = fresh_id();
        let event = match event_of(body, &fresh_id, &self.rules, self.routing_key.as_deref()) {
            Ok(event) => event,
            Err(rejection) => return self.report.fail(number, &rejection),
        };
        let Some(publisher) = &self.publisher else {
            self.report.accepted += 1;
            return;
        };
        let event_id = event.event_id.clone().into_owned();
        match publisher.log_wait(event, Instant::now() + self.timeout).await {
            Ok(()) => {
                self.report.accepted += 1;
                self.unconfirmed.push_back((event_id, number));
                if self.unconfirmed.len() > BUFFER_EVENTS {
                    self.unconfirmed.pop_front();
                }
            }
            Err(LogError::Invalid(rejection)) => self.report.fail(number, &rejection),
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
        let mut report = self.report;
        (report.recovered, report.in_spool) = (publisher.stats().recovered, in_spool);
        if rejected > 0 {
            report.accepted = report.accepted.saturating_sub(rejected);
            report.failed += rejected;
            report.errors.push(format!(
                "the broker refused {rejected} of the events: too large for it, or their routing key is not permitted\nhint: the log above names each with the broker's reason"
            ));
        }
        let Some(reason) = reason else { return report };
        report.accepted = report.accepted.saturating_sub(left);
        report.failed += left;
        if in_spool > 0 {
            report.errors.push(format!(
                "{in_spool} events wait in the spool: {reason}\nhint: run `cns-events publish` with the same --spool to send them"
            ));
        }
        let lost: HashSet<_> = lost.iter().map(String::as_str).collect();
        let first = self.unconfirmed.iter().find(|(event_id, _)| lost.contains(event_id.as_str()));
        if let Some((_, line)) = first {
            report.errors.push(format!(
                "line {line}: not confirmed: {reason}\nhint: publish again from this line on; an event with an event_id is stored once"
            ));
        }
        report
    }
}

impl LineReport {
    fn fail(&mut self, number: u64, error: &dyn std::fmt::Display) {
        self.failed += 1;
        self.errors.push(format!("line {number}: {error}"));
    }
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

    #[tokio::test]
    async fn invalid_lines_are_reported_and_do_not_stop_the_others() {
        let rules = Rules { max_message_bytes: 1000, payload: PayloadPolicy::Reject };
        let mut lines = LinePublisher::new(None, rules, None, Duration::ZERO);
        let good =
            r#"{"event_type":"x","bom_id":"6f9619ff-8b86-4d01-b42d-00cf4fc964ff","organization_id":"o"}"#;
        let text = format!("{good}\n\n  \nnot json\r\n{good}\r\n{{}}");
        lines.lines(text.as_bytes(), |_| ()).await.unwrap();
        let report = lines.finish().await;
        assert_eq!((report.accepted, report.failed), (2, 2));
        assert!(report.errors[0].starts_with("line 4: ") && report.errors[1].starts_with("line 6: "));
    }
}
