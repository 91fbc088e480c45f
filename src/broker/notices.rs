//! Notices of what was stored: after a commit a worker tells a fanout exchange whose events it stored, so that streams look at once.
//!
//! A notice is transient, unconfirmed and without content but the tenants' ids, 16 bytes each. Whoever misses one looks two seconds
//! later. Nothing waits for a notice: where the broker is away, they are dropped.

use std::time::Duration;

use futures_util::StreamExt;
use lapin::options::{
    BasicConsumeOptions, BasicPublishOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ExchangeKind};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::endpoint::BrokerEndpoint;
use crate::backoff::Backoff;

/// Notices that wait for the broker; more are dropped.
const WAITING: usize = 64;

/// Notices that a queue holds for a listener; the oldest are dropped.
const QUEUE_LENGTH: i64 = 1000;

/// Pause after a connection that could not be used: notices are not worth more.
const PAUSE: Duration = Duration::from_secs(5);

/// Sends notices. Cheap to clone; without an exchange it sends none.
#[derive(Clone, Debug, Default)]
pub struct Notifier(Option<mpsc::Sender<Vec<Uuid>>>);

impl Notifier {
    /// Starts the task that sends notices to this exchange. It declares the exchange unless `passive`.
    #[must_use]
    pub fn start(broker: BrokerEndpoint, exchange: &str, passive: bool, shutdown: CancellationToken) -> Self {
        if exchange.is_empty() {
            return Notifier(None);
        }
        let (sender, notices) = mpsc::channel(WAITING);
        let sending = Sending { broker, exchange: exchange.to_owned(), passive, notices };
        tokio::spawn(async move {
            tokio::select! {
                () = sending.run() => {}
                () = shutdown.cancelled() => {}
            }
        });
        Notifier(Some(sender))
    }

    /// Tells that events of these tenants are stored. Returns at once, whatever the broker does.
    pub fn stored(&self, tenants: impl Iterator<Item = Uuid>) {
        let Some(sender) = &self.0 else { return };
        let Ok(place) = sender.try_reserve() else { return };
        // The place is given back where it is not used.
        let mut tenants: Vec<Uuid> = tenants.collect();
        if tenants.is_empty() {
            return; // duplicates only
        }
        tenants.sort_unstable();
        tenants.dedup();
        place.send(tenants);
    }
}

/// State of the sending task.
struct Sending {
    broker: BrokerEndpoint,
    exchange: String,
    passive: bool,
    notices: mpsc::Receiver<Vec<Uuid>>,
}

impl Sending {
    async fn run(mut self) {
        loop {
            // Nothing is connected before there is something to tell.
            let Some(mut notice) = self.notices.recv().await else { return };
            if let Ok((_connection, channel)) = self.connect().await {
                loop {
                    while let Ok(more) = self.notices.try_recv() {
                        notice.extend(more);
                    }
                    notice.sort_unstable();
                    notice.dedup();
                    if publish(&channel, &self.exchange, &notice).await.is_err()
                        || !channel.status().connected()
                    {
                        break;
                    }
                    match self.notices.recv().await {
                        Some(next) => notice = next,
                        None => return,
                    }
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn connect(&self) -> Result<(Connection, Channel), NoNotices> {
        let connection = self.broker.connect("notices").await?;
        let channel = connection.create_channel().await?;
        if !self.passive {
            declare(&channel, &self.exchange).await?;
        }
        Ok((connection, channel))
    }
}

/// Reason why notices are not sent or received.
type NoNotices = Box<dyn std::error::Error + Send + Sync>;

async fn declare(channel: &Channel, exchange: &str) -> lapin::Result<()> {
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    channel.exchange_declare(exchange.into(), ExchangeKind::Fanout, options, FieldTable::default()).await
}

async fn publish(channel: &Channel, exchange: &str, tenants: &[Uuid]) -> lapin::Result<()> {
    let body: Vec<u8> = tenants.iter().flat_map(|tenant| *tenant.as_bytes()).collect();
    let properties = BasicProperties::default().with_delivery_mode(1).with_type("cns-events.stored".into());
    channel
        .basic_publish(exchange.into(), "".into(), BasicPublishOptions::default(), &body, properties)
        .await
        .map(drop)
}

/// Receives notices until `shutdown`, and hands the tenants of each to `wake`. A broker that is away is tried again.
pub async fn listen(
    broker: BrokerEndpoint,
    exchange: String,
    wake: impl Fn(&[Uuid]),
    shutdown: CancellationToken,
) {
    let mut backoff = Backoff::default();
    let mut logged = None;
    while !shutdown.is_cancelled() {
        let ended = tokio::select! {
            ended = receive(&broker, &exchange, &wake, &mut backoff, &mut logged) => ended,
            () = shutdown.cancelled() => return,
        };
        let reason = ended.map_or_else(|error| error.to_string(), |()| "the connection ended".to_owned());
        if logged.as_ref() != Some(&reason) {
            tracing::warn!(
                error = reason,
                "no notices from the broker, streams look every two seconds: {reason}"
            );
            logged = Some(reason);
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.next_delay()) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

async fn receive(
    broker: &BrokerEndpoint,
    exchange: &str,
    wake: &impl Fn(&[Uuid]),
    backoff: &mut Backoff,
    logged: &mut Option<String>,
) -> Result<(), NoNotices> {
    let connection = broker.connect("streams").await?;
    // The login may not be allowed to declare it; it may be there all the same. A refusal ends that channel.
    let _ = declare(&connection.create_channel().await?, exchange).await;
    let channel = connection.create_channel().await?;
    let options =
        QueueDeclareOptions { exclusive: true, auto_delete: true, ..QueueDeclareOptions::default() };
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongLongInt(QUEUE_LENGTH));
    // In the namespace of the exchange, so that the login's permissions fit; the name is of nobody else.
    let name = format!("{exchange}.{}", Uuid::now_v7().simple());
    channel.queue_declare(name.as_str().into(), options, arguments).await?;
    let bind = QueueBindOptions::default();
    channel.queue_bind(name.as_str().into(), exchange.into(), "".into(), bind, FieldTable::default()).await?;
    let consume = BasicConsumeOptions { no_ack: true, exclusive: true, ..BasicConsumeOptions::default() };
    let mut notices =
        channel.basic_consume(name.as_str().into(), "".into(), consume, FieldTable::default()).await?;
    if logged.take().is_some() {
        tracing::info!("notices from the broker are received");
    }
    *backoff = Backoff::default();
    while let Some(notice) = notices.next().await {
        let notice = notice?;
        let tenants: Vec<Uuid> =
            notice.data.chunks_exact(16).filter_map(|id| Uuid::from_slice(id).ok()).collect();
        wake(&tenants);
    }
    Ok(())
}
