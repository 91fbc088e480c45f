//! The way to the broker: one session after the other, for ever.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::FutureExt;
use futures_util::stream::{FuturesUnordered, Stream, StreamExt};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Confirmation, Connection, Event, ExchangeKind};
use tokio::time::Instant;

use super::background::Store;
use super::flight::{Flight, Judged};
use crate::broker::Broker;
use crate::message::Outgoing;
use crate::patience::Patience;

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
    pub(super) broker: Broker,
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
    pub(super) async fn run(&self, store: &Store) {
        let mut ending = pin!(store.ending());
        let mut patience = Patience::endless();
        loop {
            let session = tokio::select! {
                biased;
                () = &mut ending => return,
                opened = self.open() => opened,
            };
            let ended = match session {
                Ok((connection, channel)) => {
                    store.reached();
                    // One listener for the whole session: an event reaches one listener only, and none while there is none.
                    let mut events = pin!(connection.events_listener());
                    let mut flight = Flight::default();
                    let ended = tokio::select! {
                        biased;
                        () = &mut ending => None,
                        why = self.send(store, &mut events, &channel, &mut flight, &mut patience) => Some(why),
                    };
                    store.recall(flight.recall());
                    store.shared.counts.in_flight.set(0);
                    if let Some(Fails::Blocked(reason)) = &ended {
                        // A blocked connection cannot even be closed; it is good again when the alarm is over.
                        store.away(&format!("the broker blocks its publishers: {reason}"));
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
                Some(Fails::Lost(reason)) => store.away(&reason),
            }
            tokio::select! {
                () = &mut ending => return,
                () = tokio::time::sleep(patience.pause().unwrap_or(CLOSE_TIMEOUT)) => {}
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
    /// takes nothing (no queue, an alarm) is asked with one message, not with thousands.
    async fn send(
        &self,
        store: &Store,
        events: &mut (impl Stream<Item = Event> + Unpin),
        channel: &Channel,
        flight: &mut Flight,
        patience: &mut Patience,
    ) -> Fails {
        let mut fails = pin!(fails(events));
        let mut sending = FuturesUnordered::new();
        let mut window = 1;
        // When the next message may go: after one that was not taken, and where events come one by one.
        let (mut paused_until, mut next_look) = (None, Instant::now());
        let mut last_confirm = Instant::now();
        loop {
            let not_before = paused_until.unwrap_or(next_look);
            while not_before <= Instant::now()
                && flight.events() < window
                && (flight.bytes() < WINDOW_BYTES || flight.events() == 0)
            {
                let room = (window - flight.events(), WINDOW_BYTES - flight.bytes().min(WINDOW_BYTES));
                let parcels = match store.next(room.0, room.1) {
                    Ok(parcels) if parcels.is_empty() => break,
                    Ok(parcels) => parcels,
                    Err(error) => return Fails::Lost(error.to_string()),
                };
                if flight.events() == 0 {
                    last_confirm = Instant::now();
                }
                next_look = Instant::now() + if parcels.len() < BUSY { TICK } else { BUSY_TICK };
                for parcel in parcels {
                    let message = parcel.message.clone();
                    let number = flight.add(parcel);
                    sending.push(self.publish(channel, number, message));
                }
            }
            store.shared.counts.in_flight.set(flight.events());
            let not_before = paused_until.unwrap_or(next_look);
            let early = not_before > Instant::now();
            let room = flight.events() < window;
            let first = tokio::select! {
                biased;
                fails = &mut fails => return fails,
                Some(first) = sending.next(), if !sending.is_empty() => first,
                () = store.shared.line.something_to_send(TICK), if room && !early => continue,
                () = tokio::time::sleep_until(not_before), if room && early => continue,
                () = tokio::time::sleep_until(last_confirm + CONFIRM_TIMEOUT), if flight.events() > 0 => {
                    return Fails::Lost(format!("nothing was confirmed for {} s", CONFIRM_TIMEOUT.as_secs()));
                }
            };
            let mut ended = vec![first];
            while let Some(Some(next)) = sending.next().now_or_never() {
                ended.push(next);
            }
            let judged = flight.judge(ended);
            if !judged.confirmed.is_empty() {
                last_confirm = Instant::now();
            }
            match settle(store, judged) {
                Ok(true) => {
                    (window, paused_until) = (WINDOW_EVENTS, None);
                    *patience = Patience::endless();
                }
                Ok(false) => {
                    window = 1;
                    paused_until = Some(Instant::now() + patience.pause().unwrap_or(CLOSE_TIMEOUT));
                }
                Err(lost) => return Fails::Lost(lost),
            }
        }
    }

    /// Publishes one message and waits for its end.
    async fn publish(
        &self,
        channel: &Channel,
        number: u64,
        message: Arc<Outgoing>,
    ) -> (u64, lapin::Result<Confirmation>) {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let key = ShortString::try_new(message.routing_key.as_ref()).unwrap_or_default();
        let properties = message.properties(&self.app_id);
        let published =
            channel.basic_publish(self.exchange.clone(), key, options, &message.body, properties).await;
        match published {
            Ok(confirm) => (number, confirm.await),
            Err(error) => (number, Err(error)),
        }
    }
}

/// Does with each parcel what became of it. Whether the broker took all of them.
fn settle(store: &Store, judged: Judged) -> Result<bool, String> {
    let Judged { confirmed, returned, refused, why, lost } = judged;
    store.confirmed(&confirmed).map_err(|error| error.to_string())?;
    let taken = returned.is_empty() && refused.is_empty();
    for parcel in returned {
        store.shared.returned(why.clone());
        store.put_last(parcel).map_err(|error| error.to_string())?;
    }
    for parcel in refused {
        store.put_last(parcel).map_err(|error| error.to_string())?;
    }
    lost.map_or(Ok(taken), Err)
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
