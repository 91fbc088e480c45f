//! How a connection begins: who both sides are, the login, what is agreed (AMQP 0-9-1, 2.2.4).

use std::time::Duration;

use bytes::Bytes;
use lapin::protocol::{AMQPClass, connection};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::uri::SASLMechanism;

use super::transport::{ANSWER_TIMEOUT, AmqpError, Frame, MAX_FRAME_BYTES, Transport};
use crate::broker::BrokerEndpoint;

/// The smallest frame that a broker may ask for (AMQP 0-9-1, 4.2.3).
const MIN_FRAME_BYTES: u32 = 4096;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Asks and publishes. It has no heartbeats: nothing on it waits for longer than an answer may take.
    Publishing,
    /// Consumes, and says by heartbeats that it lives.
    Consuming,
}

/// What this side understands: without it the broker says nothing of an alarm, a wrong password or a deleted queue.
fn capabilities(name: &str, used: Use) -> FieldTable {
    let mut capabilities = FieldTable::default();
    let always =
        ["publisher_confirms", "basic.nack", "consumer_cancel_notify", "authentication_failure_close"];
    // An alarm is no matter of a consumer's.
    let blocked = (used == Use::Publishing).then_some("connection.blocked");
    for capability in always.into_iter().chain(blocked) {
        capabilities.insert(capability.into(), AMQPValue::Boolean(true));
    }
    let mut properties = FieldTable::default();
    properties.insert("product".into(), AMQPValue::LongString("cns-events".into()));
    properties.insert("connection_name".into(), AMQPValue::LongString(name.into()));
    properties.insert("capabilities".into(), AMQPValue::FieldTable(capabilities));
    properties
}

impl Transport {
    /// The first frame that the broker sends to anybody: who it is.
    pub(super) async fn greet(broker: &BrokerEndpoint) -> Result<(Self, Bytes), AmqpError> {
        let stream = tokio::time::timeout(ANSWER_TIMEOUT, broker.stream()).await;
        let mut frames = Transport::of(stream.map_err(|_| AmqpError::Silence)??);
        frames.flush().await?;
        match frames.next().await? {
            Frame::Method(.., arguments) => Ok((frames, arguments)),
            Frame::Content(..) => Err(AmqpError::Protocol("no greeting".into())),
        }
    }

    /// Logs in; `name` is what the broker shows of the connection.
    pub(super) async fn open(broker: &BrokerEndpoint, name: &str, used: Use) -> Result<Self, AmqpError> {
        use connection::{AMQPMethod, Open, StartOk, TuneOk};
        let (mut frames, _) = Self::greet(broker).await?;
        let uri = broker.uri();
        let user = &uri.authority.userinfo;
        let mechanism = uri.query.auth_mechanism.unwrap_or_default();
        let response = match mechanism {
            SASLMechanism::Plain => LongString::from(format!("\0{}\0{}", user.username, user.password)),
            SASLMechanism::External | SASLMechanism::Anonymous => LongString::default(),
            other => return Err(AmqpError::Protocol(format!("auth_mechanism={other} is not spoken here"))),
        };
        let start = StartOk {
            client_properties: capabilities(name, used),
            mechanism: mechanism.name().into(),
            response,
            locale: "en_US".into(),
        };
        frames.send(0, AMQPClass::Connection(AMQPMethod::StartOk(start))).await?;
        let AMQPClass::Connection(AMQPMethod::Tune(tune)) = frames.method().await? else {
            return Err(AmqpError::Protocol("no tuning".into()));
        };
        if (1..MIN_FRAME_BYTES).contains(&tune.frame_max) {
            return Err(AmqpError::Protocol(format!("frames of at most {} bytes", tune.frame_max)));
        }
        let limited = (MIN_FRAME_BYTES..MAX_FRAME_BYTES).contains(&tune.frame_max);
        let frame_max = if limited { tune.frame_max } else { MAX_FRAME_BYTES };
        // The shorter of both sides' wishes; 0 is none.
        let heartbeat = match (used, uri.query.heartbeat.unwrap_or_default(), tune.heartbeat) {
            (Use::Publishing, ..) => 0,
            (Use::Consuming, 0, wish) | (Use::Consuming, wish, 0) => wish,
            (Use::Consuming, ours, theirs) => ours.min(theirs),
        };
        frames.agree(frame_max, (heartbeat > 0).then(|| Duration::from_secs(heartbeat.into())));
        let tuned = TuneOk { channel_max: tune.channel_max, frame_max, heartbeat };
        frames.send(0, AMQPClass::Connection(AMQPMethod::TuneOk(tuned))).await?;
        let open = Open { virtual_host: uri.vhost.as_str().into() };
        frames.send(0, AMQPClass::Connection(AMQPMethod::Open(open))).await?;
        frames.method().await?;
        Ok(frames)
    }
}
