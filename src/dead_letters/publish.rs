//! Publishing dead letters: a task that takes them one by one and answers with the end of each.
//!
//! The task has a connection of its own, because an alarm of the broker blocks publishing connections, and with them every ack on the
//! same connection. It waits for the end of an alarm on this connection: a connection that publishes during an alarm leaves a copy of
//! the dead letter with the broker, even if it is closed.
//!
//! ```text
//! waiting ──▶ in flight ──▶ published
//!    ▲            │  └────▶ impossible: the broker refuses it however it is sent
//!    └────────────┘ returned, nack, connection lost: again on the next connection, after a pause
//! ```

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use chrono::Utc;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;

use super::encode::RejectedDelivery;
use crate::amqp::{AmqpError, ConfirmChannel, ConfirmEvent};
use crate::backoff::Backoff;
use crate::broker::{BrokerEndpoint, Topology};

/// Maximum time without any confirm while dead letters are in flight and no alarm blocks the connection.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(30);

/// Maximum dead letters in flight.
const MAX_IN_FLIGHT: usize = 100;

/// Maximum bytes in flight, or one dead letter.
const MAX_IN_FLIGHT_BYTES: usize = 8 * 1024 * 1024;

/// Reply codes by which the broker refuses a message for what it holds, and closes the channel or the connection: too large,
/// a frame or a method that it cannot read, a property or header that it does not accept (AMQP 0-9-1, 1.2).
const MESSAGE_REFUSED: [u16; 4] = [311, 406, 501, 502];

/// Name of a delivery: its channel and tag.
pub type DeliveryKey = (u16, u64);

/// End of a dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The broker has confirmed it.
    Published,
    /// The broker refuses it also without the message's own properties and headers; its reason.
    Impossible(String),
}

/// Reason why dead letters are not taken at the moment.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// The connection failed.
    #[error("cannot publish dead letters: {0}")]
    Connection(#[from] AmqpError),
    /// The exchange took one and no queue did; the broker's reason.
    #[error("no queue takes dead letters: the broker returned one ({0})")]
    Returned(String),
    /// The broker refused one.
    #[error("the broker refused a dead letter (nack)")]
    Refused,
    /// An alarm blocks the connection; the broker's reason.
    #[error("an alarm of the broker blocks dead letters: {0}")]
    Blocked(String),
    /// The broker did not confirm.
    #[error("the broker did not confirm a dead letter within {} s", CONFIRM_TIMEOUT.as_secs())]
    Unconfirmed,
}

impl NotTaken {
    /// Returns whether the broker closed the channel for what a message holds.
    fn is_about_a_message(&self) -> bool {
        matches!(self, NotTaken::Connection(AmqpError::Closed { code, .. }) if MESSAGE_REFUSED.contains(code))
    }
}

/// Settings of a publisher.
#[derive(Clone, Debug)]
pub struct DeadLetterSettings {
    /// Broker.
    pub broker: BrokerEndpoint,
    /// Topology, which is declared again after a failure. It has the dead-letter exchange.
    pub topology: Topology,
    /// Value of the header `x-cns-worker`.
    pub worker: String,
}

/// Publisher of dead letters. Dropping it ends its task and its connection.
pub struct DeadLetterPublisher {
    letters: UnboundedSender<(DeliveryKey, RejectedDelivery)>,
    outcomes: UnboundedReceiver<(DeliveryKey, RejectedDelivery, Outcome)>,
    flowing: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
    open: usize,
}

impl DeadLetterPublisher {
    /// Starts a publisher, which connects when there is a dead letter. `report` receives the reason whenever dead letters are not
    /// taken, and `None` when they are again.
    #[must_use]
    pub fn start(
        settings: DeadLetterSettings,
        report: impl Fn(Option<&NotTaken>) + Send + Sync + 'static,
    ) -> Self {
        let (letters, requests) = unbounded_channel();
        let (ended, outcomes) = unbounded_channel();
        let flowing = Arc::new(AtomicBool::new(true));
        let task = Task {
            settings,
            requests,
            ended,
            flowing: flowing.clone(),
            report: Box::new(report),
            waiting: VecDeque::new(),
        };
        DeadLetterPublisher { letters, outcomes, flowing, task: tokio::spawn(task.run()), open: 0 }
    }

    /// Hands over a dead letter.
    pub fn publish(&mut self, key: DeliveryKey, rejected: RejectedDelivery) {
        // The task ends only with this value.
        if self.letters.send((key, rejected)).is_ok() {
            self.open += 1;
        }
    }

    /// Waits for the next dead letter that has its end. Cancel-safe.
    pub async fn next(&mut self) -> (DeliveryKey, RejectedDelivery, Outcome) {
        match self.outcomes.recv().await {
            Some(ended) => {
                self.open -= 1;
                ended
            }
            None => std::future::pending().await, // the task has ended, and nothing more comes
        }
    }

    /// Returns the number of dead letters without an end.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open
    }

    /// Returns whether the broker takes dead letters, as far as is known.
    #[must_use]
    pub fn is_flowing(&self) -> bool {
        self.flowing.load(Ordering::Relaxed)
    }
}

impl Drop for DeadLetterPublisher {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A dead letter that is not published yet.
struct Letter {
    key: DeliveryKey,
    rejected: RejectedDelivery,
    form: Form,
    /// Set for one that was in flight when the broker refused a message: it is sent alone.
    suspect: bool,
}

/// Form in which a dead letter is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// With the message's own properties and headers.
    Whole,
    /// Without them.
    Stripped,
}

/// A dead letter in flight.
struct InFlight {
    number: u64,
    letter: Letter,
    routing_key: Vec<u8>,
    returned: Option<String>,
}

/// Receiver of the reason why dead letters are not taken.
type Report = Box<dyn Fn(Option<&NotTaken>) + Send + Sync>;

/// State of the task.
struct Task {
    settings: DeadLetterSettings,
    requests: UnboundedReceiver<(DeliveryKey, RejectedDelivery)>,
    ended: UnboundedSender<(DeliveryKey, RejectedDelivery, Outcome)>,
    flowing: Arc<AtomicBool>,
    report: Report,
    waiting: VecDeque<Letter>,
}

impl Task {
    async fn run(mut self) {
        let mut backoff = Backoff::default();
        loop {
            if self.waiting.is_empty() {
                match self.requests.recv().await {
                    Some(request) => self.accept(request),
                    None => return,
                }
            }
            let mut in_flight = VecDeque::new();
            let Err(error) = self.session(&mut in_flight, &mut backoff).await else { return };
            let refused = error.is_about_a_message();
            self.take_back(in_flight, &error);
            if refused {
                continue; // another connection, and each suspect alone
            }
            self.not_taken(&error);
            tokio::time::sleep(backoff.next_delay()).await;
            // What is missing is declared again. A failure shows in the next session.
            if let Err(error) = self.settings.topology.ensure(&self.settings.broker).await {
                tracing::debug!(%error, "cannot declare the topology");
            }
        }
    }

    /// Publishes on one connection until it fails, or a dead letter has to be sent again on another. Ends without an error when the
    /// publisher is dropped.
    async fn session(
        &mut self,
        in_flight: &mut VecDeque<InFlight>,
        backoff: &mut Backoff,
    ) -> Result<(), NotTaken> {
        let mut channel = ConfirmChannel::open_through_alarms(&self.settings.broker).await?;
        // One dead letter shows whether the broker takes them.
        let mut window = 1;
        let (mut blocked, mut failed) = (false, None);
        let mut last_confirm = Instant::now();
        loop {
            while failed.is_none() && self.may_send(in_flight, window) {
                let Some(letter) = self.waiting.pop_front() else { break };
                if in_flight.is_empty() {
                    last_confirm = Instant::now();
                }
                in_flight.push_back(self.send(&mut channel, letter)?);
            }
            if in_flight.is_empty()
                && let Some(error) = failed
            {
                return Err(error);
            }
            let event = tokio::select! {
                biased;
                event = channel.next() => event?,
                request = self.requests.recv() => match request {
                    Some(request) => {
                        self.accept(request);
                        continue;
                    }
                    None => return Ok(()),
                },
                () = tokio::time::sleep_until(last_confirm + CONFIRM_TIMEOUT), if !in_flight.is_empty() && !blocked => {
                    return Err(NotTaken::Unconfirmed);
                }
            };
            match event {
                ConfirmEvent::Blocked(reason) => {
                    blocked = true;
                    self.not_taken(&NotTaken::Blocked(reason));
                }
                ConfirmEvent::Unblocked => (blocked, last_confirm) = (false, Instant::now()),
                ConfirmEvent::Returned { reason, routing_key, body } => {
                    returned(in_flight, reason, &routing_key, &body);
                }
                ConfirmEvent::Acked { number, multiple } => {
                    last_confirm = Instant::now();
                    for one in settled(in_flight, number, multiple) {
                        match one.returned {
                            None => {
                                (window, *backoff) = (MAX_IN_FLIGHT, Backoff::default());
                                self.end(one.letter, Outcome::Published);
                            }
                            Some(reason) => {
                                failed.get_or_insert(NotTaken::Returned(reason));
                                self.waiting.push_back(one.letter);
                            }
                        }
                    }
                }
                ConfirmEvent::Nacked { number, multiple } => {
                    let refused = settled(in_flight, number, multiple);
                    failed.get_or_insert(NotTaken::Refused);
                    self.waiting.extend(refused.into_iter().map(|one| one.letter));
                }
            }
        }
    }

    fn accept(&mut self, (key, rejected): (DeliveryKey, RejectedDelivery)) {
        self.waiting.push_back(Letter { key, rejected, form: Form::Whole, suspect: false });
    }

    /// Returns whether the next dead letter may be sent: a suspect alone, the others within the limits.
    fn may_send(&self, in_flight: &VecDeque<InFlight>, window: usize) -> bool {
        let bytes: usize = in_flight.iter().map(|one| one.letter.rejected.delivery.weight()).sum();
        let suspect = |letter: Option<&Letter>| letter.is_some_and(|letter| letter.suspect);
        let alone = suspect(self.waiting.front()) || suspect(in_flight.front().map(|one| &one.letter));
        in_flight.is_empty() || !alone && in_flight.len() < window && bytes < MAX_IN_FLIGHT_BYTES
    }

    fn send(&self, channel: &mut ConfirmChannel, letter: Letter) -> Result<InFlight, AmqpError> {
        let (worker, now) = (&self.settings.worker, Utc::now());
        let message = match letter.form {
            Form::Whole => letter.rejected.encode(worker, now, channel.max_properties_bytes()),
            Form::Stripped => letter.rejected.encode_stripped(worker, now),
        };
        let number = channel.write(&self.settings.topology.dead_letter_exchange, &message)?;
        Ok(InFlight { number, letter, routing_key: message.routing_key, returned: None })
    }

    fn end(&mut self, letter: Letter, outcome: Outcome) {
        if !self.flowing.swap(true, Ordering::Relaxed) {
            (self.report)(None);
        }
        // Without a receiver the publisher is being dropped.
        let _ = self.ended.send((letter.key, letter.rejected, outcome));
    }

    fn not_taken(&self, error: &NotTaken) {
        self.flowing.store(false, Ordering::Relaxed);
        (self.report)(Some(error));
    }

    /// Takes back what was in flight when the connection failed. Where the broker refused a message, a suspect that was alone is
    /// sent in the next form, or has its end.
    fn take_back(&mut self, in_flight: VecDeque<InFlight>, error: &NotTaken) {
        let refused = error.is_about_a_message();
        let alone = in_flight.len() == 1;
        for InFlight { mut letter, .. } in in_flight.into_iter().rev() {
            letter.suspect |= refused;
            match letter.form {
                Form::Whole if refused && alone => letter.form = Form::Stripped,
                Form::Stripped if refused && alone => {
                    self.end(letter, Outcome::Impossible(error.to_string()));
                    continue;
                }
                Form::Whole | Form::Stripped => {}
            }
            self.waiting.push_front(letter);
        }
    }
}

/// Takes the dead letters that a confirm is about out of those in flight.
fn settled(in_flight: &mut VecDeque<InFlight>, number: u64, multiple: bool) -> Vec<InFlight> {
    let is_settled = |one: &InFlight| one.number == number || multiple && one.number <= number;
    let (settled, rest) = std::mem::take(in_flight).into_iter().partition::<Vec<_>, _>(is_settled);
    *in_flight = rest.into();
    settled
}

/// Records the reason of a returned dead letter, which is known by its key and its body. Equal dead letters share their returns.
fn returned(in_flight: &mut VecDeque<InFlight>, reason: String, routing_key: &Bytes, body: &Bytes) {
    let same = |one: &&mut InFlight| {
        one.returned.is_none()
            && one.routing_key == *routing_key
            && one.letter.rejected.delivery.body == *body
    };
    if let Some(one) = in_flight.iter_mut().find(same) {
        one.returned = Some(reason);
    }
}
