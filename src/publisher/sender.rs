//! Connections to the broker, one after the other, and the messages that are sent on them.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{FutureExt, LocalBoxFuture};
use futures_util::stream::{FuturesUnordered, Stream, StreamExt};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{Channel, Confirmation, Connection, Event};
use tokio::time::Instant;

use super::flow::Flow;
use super::in_flight::{Ended, InFlight};
use super::outbox::Outbox;
use crate::backoff::Backoff;
use crate::broker::{BrokerEndpoint, ConnectError, declare_exchange, refusal};
use crate::message::EncodedEvent;

/// Timeout of opening a channel.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// Timeout of closing the connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Sends the events of the outbox.
pub(super) struct Sender {
    pub(super) broker: BrokerEndpoint,
    pub(super) exchange: ShortString,
    pub(super) app_id: ShortString,
}

/// Attempt to connect.
pub(super) type Connecting<'s> = LocalBoxFuture<'s, Result<Connection, ConnectError>>;

/// Way in which a session ended.
enum SessionEnd {
    /// The publisher ends.
    Closed,
    /// The broker's alarm is over.
    Unblocked,
    /// The connection is lost, or could not be opened.
    Lost(String),
}

/// Reason why a channel cannot be used any more.
enum Failure {
    /// The connection is lost.
    Lost(String),
    /// An alarm of the broker blocks the connection.
    Blocked(String),
    /// The broker closed the channel because of one message.
    Refused(String),
}

impl From<lapin::Error> for Failure {
    fn from(error: lapin::Error) -> Self {
        refusal(&error).map_or_else(|| Failure::Lost(error.to_string()), Failure::Refused)
    }
}

/// Closes a connection, if the broker answers in time.
pub(super) async fn close(connection: &Connection) {
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, connection.close(200, "done".into())).await;
}

impl Sender {
    /// Sends until the publisher ends. Returns an attempt to connect that is not over: the client library's thread uses this
    /// thread's runtime until it is, and panics without it.
    pub(super) async fn run(&self, outbox: &Outbox) -> Option<Connecting<'_>> {
        let mut ending = pin!(outbox.ending());
        let mut backoff = Backoff::default();
        loop {
            let mut connecting = self.connect().boxed_local();
            let connected = tokio::select! {
                biased;
                () = &mut ending => return Some(connecting),
                connected = &mut connecting => connected,
            };
            let ended = match connected {
                Ok(connection) => {
                    let ended = self.session(outbox, &connection, &mut ending, &mut backoff).await;
                    close(&connection).await;
                    ended
                }
                Err(error) => SessionEnd::Lost(error.to_string()),
            };
            match ended {
                SessionEnd::Closed => return None,
                SessionEnd::Unblocked => continue,
                SessionEnd::Lost(reason) => outbox.away(&reason, Instant::now()),
            }
            tokio::select! {
                () = &mut ending => return None,
                () = tokio::time::sleep(backoff.next_delay()) => {}
            }
        }
    }

    /// Sends on one connection, with a new channel after each that the broker closed because of one message.
    async fn session(
        &self,
        outbox: &Outbox,
        connection: &Connection,
        mut ending: &mut (impl Future<Output = ()> + Unpin),
        backoff: &mut Backoff,
    ) -> SessionEnd {
        // One listener for the whole session: an event reaches only one listener, and none if there is none.
        let mut events = pin!(connection.events_listener());
        loop {
            let mut in_flight = InFlight::default();
            let sending = async {
                let channel = timely(open_channel(connection)).await?;
                outbox.connected();
                Ok::<_, lapin::Error>(self.send(outbox, &mut events, &channel, &mut in_flight, backoff).await)
            };
            let failure = tokio::select! {
                biased;
                () = &mut ending => None,
                failure = sending => Some(failure.unwrap_or_else(Failure::from)),
            };
            outbox.shared.counts.in_flight.set(0);
            let unconfirmed = in_flight.recall();
            match failure {
                Some(Failure::Refused(reason)) => outbox.refused(unconfirmed, &reason),
                None => {
                    outbox.recall(unconfirmed);
                    return SessionEnd::Closed;
                }
                Some(Failure::Lost(reason)) => {
                    outbox.recall(unconfirmed);
                    return SessionEnd::Lost(reason);
                }
                Some(Failure::Blocked(reason)) => {
                    outbox.recall(unconfirmed);
                    // A blocked connection cannot even be closed. It works again when the alarm is over.
                    outbox.away(&format!("the broker blocks its publishers: {reason}"), Instant::now());
                    return tokio::select! {
                        () = &mut ending => SessionEnd::Closed,
                        () = unblocked(&mut events) => SessionEnd::Unblocked,
                    };
                }
            }
        }
    }

    async fn connect(&self) -> Result<Connection, ConnectError> {
        let connection = self.broker.connect("publisher").await?;
        // A user who may not declare the exchange may still publish to it.
        if let Err(error) = timely(declare_exchange(&connection, self.exchange.clone(), false)).await {
            tracing::debug!(%error, "cannot declare the exchange");
        }
        Ok(connection)
    }

    /// Sends until the connection fails. The messages that are in flight then are not confirmed.
    async fn send(
        &self,
        outbox: &Outbox,
        events: &mut (impl Stream<Item = Event> + Unpin),
        channel: &Channel,
        in_flight: &mut InFlight,
        backoff: &mut Backoff,
    ) -> Failure {
        let mut failure = pin!(failure(events));
        let mut sending = FuturesUnordered::new();
        let mut flow = Flow::new(outbox, in_flight, backoff);
        loop {
            for (number, message) in flow.take_due() {
                sending.push(self.publish(channel, number, message));
            }
            let first = tokio::select! {
                biased;
                failure = &mut failure => return failure,
                Some(first) = sending.next(), if !sending.is_empty() => first,
                waited = flow.wait() => match waited {
                    Ok(()) => continue,
                    Err(silence) => return Failure::Lost(silence.to_string()),
                },
            };
            if let Some(lost) = flow.settle(all_ended(first, &mut sending)) {
                return lost.into();
            }
        }
    }

    /// Publishes one message and waits for its confirm.
    async fn publish(&self, channel: &Channel, number: u64, message: Arc<EncodedEvent>) -> Ended {
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

async fn open_channel(connection: &Connection) -> lapin::Result<Channel> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    Ok(channel)
}

/// Limits the time of a request to [`OPEN_TIMEOUT`].
async fn timely<T>(request: impl Future<Output = lapin::Result<T>>) -> lapin::Result<T> {
    tokio::time::timeout(OPEN_TIMEOUT, request).await.unwrap_or_else(|_| {
        let error = std::io::Error::new(std::io::ErrorKind::TimedOut, "the broker does not open a channel");
        Err(error.into())
    })
}

/// Collects everything that has ended: only when nothing more comes, it includes all that ended before the last of it.
fn all_ended<F: Future<Output = (u64, lapin::Result<Confirmation>)>>(
    first: Ended,
    sending: &mut FuturesUnordered<F>,
) -> Vec<Ended> {
    let mut ended = vec![first];
    loop {
        let before = ended.len();
        while let Some(Some(next)) = sending.next().now_or_never() {
            ended.push(next);
        }
        if ended.len() == before {
            return ended;
        }
    }
}

/// Waits until the connection fails or is blocked. The refusal of a message is its confirm's result.
async fn failure(events: &mut (impl Stream<Item = Event> + Unpin)) -> Failure {
    loop {
        match events.next().await {
            Some(Event::Error(error)) if refusal(&error).is_some() => {}
            Some(Event::Error(error)) => return error.into(),
            Some(Event::ConnectionBlocked(reason)) => return Failure::Blocked(reason),
            Some(_) => {}
            None => return Failure::Lost("the connection ended".into()),
        }
    }
}

/// Waits until the broker's alarm is over or the connection fails.
async fn unblocked(events: &mut (impl Stream<Item = Event> + Unpin)) {
    while let Some(event) = events.next().await {
        if matches!(event, Event::ConnectionUnblocked | Event::Error(_)) {
            return;
        }
    }
}
