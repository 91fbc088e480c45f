//! The way to the broker: one session after the other, for ever.

use std::borrow::Cow;
use std::collections::HashSet;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::FutureExt;
use futures_util::stream::{FuturesUnordered, Stream, StreamExt};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Confirmation, Connection, Event, ExchangeKind};
use tokio::time::Instant;

use super::background::{OUTAGE_AFTER, Outbox};
use super::in_flight::{InFlight, Judged, Outbound};
use crate::backoff::Backoff;
use crate::broker::BrokerEndpoint;
use crate::message::EncodedEvent;

/// Messages in flight at most: enough to hide the broker's fsync many times over.
const WINDOW_EVENTS: usize = 4096;

/// Bytes in flight at most, or one message: the client library copies them into frames.
const WINDOW_BYTES: usize = 8 * 1024 * 1024;

/// How long the sender waits for more where a few events come one by one. Each look of the sender takes processor time that
/// callers want too.
const TICK: Duration = Duration::from_millis(1);

/// The same where many come.
const BUSY_TICK: Duration = Duration::from_millis(4);

/// Events of one look that are many.
const BUSY: usize = 8;

/// How long the broker may confirm nothing at all before the session is given up.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the broker may take to open a channel.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the broker may take to say goodbye.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Sends what the store has.
pub(super) struct Sender {
    pub(super) broker: BrokerEndpoint,
    pub(super) exchange: ShortString,
    pub(super) app_id: ShortString,
}

/// The connection does not go on.
enum Fails {
    /// It is gone.
    Lost(String),
    /// The broker has an alarm and takes nothing.
    Blocked(String),
}

impl Sender {
    /// Sends until the publisher ends.
    pub(super) async fn run(&self, store: &Outbox) {
        let mut ending = pin!(store.ending());
        let mut backoff = Backoff::default();
        loop {
            let session = tokio::select! {
                biased;
                () = &mut ending => return,
                opened = self.open() => opened,
            };
            let ended = match session {
                Ok((connection, channel)) => {
                    store.connected();
                    // One listener for the whole session: an event reaches one listener only, and none while there is none.
                    let mut events = pin!(connection.events_listener());
                    let mut flight = InFlight::default();
                    let ended = tokio::select! {
                        biased;
                        () = &mut ending => None,
                        why = self.send(store, &mut events, &channel, &mut flight, &mut backoff) => Some(why),
                    };
                    store.recall(flight.recall());
                    store.shared.counts.in_flight.set(0);
                    if let Some(Fails::Blocked(reason)) = &ended {
                        // A blocked connection cannot even be closed; it is good again when the alarm is over.
                        store.away(&format!("the broker blocks its publishers: {reason}"), Instant::now());
                        tokio::select! {
                            () = &mut ending => return,
                            () = unblocked(&mut events) => {}
                        }
                    }
                    let _ = tokio::time::timeout(CLOSE_TIMEOUT, connection.close(200, "done".into())).await;
                    ended
                }
                Err(error) => Some(Fails::Lost(error.to_string())),
            };
            match ended {
                None => return,
                Some(Fails::Blocked(_)) => continue,
                Some(Fails::Lost(reason)) => store.away(&reason, Instant::now()),
            }
            tokio::select! {
                () = &mut ending => return,
                () = tokio::time::sleep(backoff.next_delay()) => {}
            }
        }
    }

    async fn open(&self) -> lapin::Result<(Connection, Channel)> {
        let connection = self.broker.connect("publisher").await?;
        let opening = async {
            // Who may not declare it may still publish to it.
            if let Err(error) = self.declare(&connection).await {
                tracing::debug!(%error, "the exchange was not declared");
            }
            let channel = connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            Ok(channel)
        };
        let opened = tokio::time::timeout(OPEN_TIMEOUT, opening).await.unwrap_or_else(|_| {
            Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "the broker opens no channel").into())
        });
        opened.map(|channel| (connection, channel))
    }

    /// The exchange as every producer may declare it (topic, durable).
    async fn declare(&self, connection: &Connection) -> lapin::Result<()> {
        let channel = connection.create_channel().await?;
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        channel
            .exchange_declare(self.exchange.clone(), ExchangeKind::Topic, durable, FieldTable::default())
            .await?;
        channel.close(200, "done".into()).await
    }

    /// Sends for as long as the connection lasts. What is in `flight` at the end is not confirmed.
    ///
    /// The first message goes alone. Only where that is confirmed there is more than one in flight: a broker that
    /// takes nothing (no queue, an alarm) is asked with one message, not with thousands. What it does not take is put
    /// aside with all that has the same routing key, so that it does not hold up the others.
    async fn send(
        &self,
        store: &Outbox,
        events: &mut (impl Stream<Item = Event> + Unpin),
        channel: &Channel,
        flight: &mut InFlight,
        backoff: &mut Backoff,
    ) -> Fails {
        let mut fails = pin!(fails(events));
        let mut sending = FuturesUnordered::new();
        let mut aside = Parked { store, keys: HashSet::new(), next_try: None };
        let share = store.shared.line.share_in_flight();
        let (window_events, window_bytes) = (share.0.min(WINDOW_EVENTS), share.1.min(WINDOW_BYTES));
        let mut window: usize = 1;
        let mut next_look = Instant::now();
        let mut last_confirm = Instant::now();
        loop {
            if flight.events() == 0 {
                last_confirm = Instant::now();
            }
            let mut parcels = aside.due();
            let room = window.saturating_sub(flight.events());
            let bytes = window_bytes.saturating_sub(flight.bytes());
            let wants = room > 0 && bytes > 0 && !aside.is_full();
            if wants && next_look <= Instant::now() {
                let next = store.next(room, bytes);
                if !next.is_empty() {
                    next_look = Instant::now() + if next.len() < BUSY { TICK } else { BUSY_TICK };
                }
                let taken = next.len();
                let next = aside.unless_held(next);
                if next.len() < taken {
                    next_look = Instant::now(); // these cost nothing
                }
                parcels.extend(next);
            }
            for parcel in parcels {
                let message = parcel.message.clone();
                let number = flight.add(parcel);
                sending.push(self.publish(channel, number, message));
            }
            store.shared.counts.in_flight.set(flight.events());

            let early = next_look > Instant::now();
            let silent_for = last_confirm.elapsed();
            let first = tokio::select! {
                biased;
                fails = &mut fails => return fails,
                Some(first) = sending.next(), if !sending.is_empty() => first,
                () = store.something_to_send(TICK), if wants && !early => {
                    tokio::task::yield_now().await;
                    continue;
                }
                () = tokio::time::sleep_until(next_look), if wants && early => continue,
                () = aside.wait(), if aside.next_try.is_some() => continue,
                () = tokio::time::sleep(OUTAGE_AFTER.saturating_sub(silent_for)), if flight.events() > 0 && silent_for < OUTAGE_AFTER => {
                    store.away("the broker does not confirm", last_confirm);
                    continue;
                }
                () = tokio::time::sleep_until(last_confirm + CONFIRM_TIMEOUT), if flight.events() > 0 => {
                    return Fails::Lost(format!("nothing was confirmed for {} s", CONFIRM_TIMEOUT.as_secs()));
                }
            };
            let mut ended = vec![first];
            // Only when nothing more comes, everything is here that was resolved before the last of these.
            loop {
                let before = ended.len();
                while let Some(Some(next)) = sending.next().now_or_never() {
                    ended.push(next);
                }
                if ended.len() == before {
                    break;
                }
            }
            let Judged { confirmed, returned, refused, why, lost } = flight.judge(ended);
            returned.iter().for_each(|_| store.shared.returned(why.clone()));
            if !confirmed.is_empty() {
                last_confirm = Instant::now();
                window = window_events;
                store.reached();
                store.confirmed(&confirmed);
                aside.release(&confirmed);
                if aside.keys.is_empty() {
                    *backoff = Backoff::default();
                }
            } else if !returned.is_empty() {
                window = 1;
                store.away("no queue takes the messages: start a worker, which declares it", last_confirm);
            } else if !refused.is_empty() {
                window = 1;
                store.away("the broker refuses the messages (nack)", last_confirm);
            }
            aside.put(returned.into_iter().chain(refused), backoff);
            if let Some(lost) = lost {
                return Fails::Lost(lost);
            }
        }
    }

    /// Publishes one message and waits for its end.
    async fn publish(
        &self,
        channel: &Channel,
        number: u64,
        message: Arc<EncodedEvent>,
    ) -> (u64, lapin::Result<Confirmation>) {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let key = ShortString::try_new(message.routing_key.as_ref()).unwrap_or_default();
        let properties = super::properties::of_event(&message, &self.app_id);
        let published =
            channel.basic_publish(self.exchange.clone(), key, options, &message.body, properties).await;
        match published {
            Ok(confirm) => (number, confirm.await),
            Err(error) => (number, Err(error)),
        }
    }
}

/// What the broker did not take, and when it is asked again.
struct Parked<'s> {
    store: &'s Outbox,
    /// Where a message goes depends on its routing key alone.
    keys: HashSet<Cow<'static, str>>,
    next_try: Option<Instant>,
}

impl Parked<'_> {
    /// Puts aside what was not taken: each before the others of its key.
    fn put(&mut self, parcels: impl DoubleEndedIterator<Item = Outbound>, backoff: &mut Backoff) {
        let mut aside = self.store.aside.borrow_mut();
        for parcel in parcels.rev() {
            self.keys.insert(parcel.message.routing_key.clone());
            aside.push_front(parcel);
        }
        if !aside.is_empty() && self.next_try.is_none() {
            self.next_try = Some(Instant::now() + backoff.next_delay());
        }
    }

    /// Gives back those that may be sent; those of a key that is not taken wait behind the others of it.
    fn unless_held(&self, parcels: Vec<Outbound>) -> Vec<Outbound> {
        if self.keys.is_empty() {
            return parcels;
        }
        let held = |parcel: &Outbound| self.keys.contains(&parcel.message.routing_key);
        let (held, free): (Vec<_>, Vec<_>) = parcels.into_iter().partition(held);
        self.store.aside.borrow_mut().extend(held);
        free
    }

    /// The first of each key, if it is time.
    fn due(&mut self) -> Vec<Outbound> {
        if self.next_try.is_none_or(|at| at > Instant::now()) {
            return Vec::new();
        }
        self.next_try = None;
        let mut asked = HashSet::new();
        let mut aside = self.store.aside.borrow_mut();
        let all = std::mem::take(&mut *aside).into_iter();
        let (due, rest): (Vec<_>, Vec<_>) =
            all.partition(|parcel| asked.insert(parcel.message.routing_key.clone()));
        aside.extend(rest);
        self.store.shared.counts.resent.add(due.len());
        due
    }

    /// What is taken now frees the others of its key.
    fn release(&mut self, confirmed: &[Outbound]) {
        let freed = confirmed.iter().filter(|parcel| self.keys.remove(&parcel.message.routing_key)).count();
        if freed == 0 {
            return;
        }
        let mut aside = self.store.aside.borrow_mut();
        let all = std::mem::take(&mut *aside).into_iter();
        let (held, free): (Vec<_>, Vec<_>) =
            all.partition(|parcel| self.keys.contains(&parcel.message.routing_key));
        aside.extend(held);
        self.store.first(free);
    }

    /// Memory is bounded: when so many are aside, the others wait as well.
    fn is_full(&self) -> bool {
        self.store.aside.borrow().len() >= WINDOW_EVENTS
    }

    async fn wait(&self) {
        tokio::time::sleep_until(self.next_try.unwrap_or_else(Instant::now)).await;
    }
}

/// In the next session they are tried again.
impl Drop for Parked<'_> {
    fn drop(&mut self) {
        let aside = std::mem::take(&mut *self.store.aside.borrow_mut());
        self.store.first(aside.into());
    }
}

/// Resolves when the connection does not go on.
async fn fails(events: &mut (impl Stream<Item = Event> + Unpin)) -> Fails {
    loop {
        match events.next().await {
            Some(Event::Error(error)) => return Fails::Lost(error.to_string()),
            Some(Event::ConnectionBlocked(reason)) => return Fails::Blocked(reason),
            Some(_) => {}
            None => return Fails::Lost("the connection ended".into()),
        }
    }
}

/// Resolves when the broker's alarm is over, or the connection with it.
async fn unblocked(events: &mut (impl Stream<Item = Event> + Unpin)) {
    while let Some(event) = events.next().await {
        if matches!(event, Event::ConnectionUnblocked | Event::Error(_)) {
            return;
        }
    }
}
