//! A connection: handshake and login (AMQP 0-9-1, 2.2.4), methods and their answers, contents.

use std::time::Duration;

use bytes::{BufMut, BytesMut};

use super::codec::{CONTENT_HEADER_BYTES, FRAME_OVERHEAD_BYTES, Frame, FrameType};
use super::inbox::Inbox;
use super::message::RawMessage;
use super::method::{BASIC_CLASS, Request, Response};
use super::table::Table;
use super::transport::Transport;
use super::{ANSWER_TIMEOUT, AmqpError};
use crate::broker::BrokerEndpoint;

/// Smallest frame that a broker may ask for, in bytes (AMQP 0-9-1, 4.2.3).
const MIN_FRAME_BYTES: u32 = 4096;

/// Largest frame that this side agrees to send, in bytes; also for a broker that sets no limit (RabbitMQ's default).
const MAX_FRAME_BYTES: u32 = 131_072;

/// Purpose of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Publishes, and learns of alarms. It has no heartbeats: nothing on it waits for longer than an answer may take.
    Publishing,
    /// Publishes, learns of alarms and waits for their end, with heartbeats.
    PublishingThroughAlarms,
    /// Holds messages, and waits for answers only.
    Browsing,
    /// Consumes, with heartbeats.
    Consuming,
}

/// An open connection.
pub(super) struct Connection {
    transport: Transport,
    max_frame_bytes: usize,
    /// Maximum channels.
    channel_max: u16,
    /// Interval at which both sides have agreed to send something, where they have.
    heartbeat: Option<Duration>,
}

impl Connection {
    /// Connects and logs in; `name` is what the broker shows of the connection.
    pub(super) async fn open(
        broker: &BrokerEndpoint,
        name: &str,
        purpose: Purpose,
    ) -> Result<Self, AmqpError> {
        Self::log_in(broker, name, purpose).await.map_err(|error| unreached(broker, error))
    }

    async fn log_in(broker: &BrokerEndpoint, name: &str, purpose: Purpose) -> Result<Self, AmqpError> {
        let (mut transport, _) = greet(broker).await?;
        let login = broker.login().map_err(AmqpError::Protocol)?;
        let start = Request::StartOk {
            properties: &client_properties(name, purpose),
            mechanism: login.mechanism,
            response: &login.response,
        };
        send(&mut transport, 0, &start).await?;
        let (channel_max, broker_max, proposed_seconds) = match receive_response(&mut transport).await? {
            Response::Tune { channel_max, frame_max, heartbeat_seconds } => {
                (channel_max, frame_max, heartbeat_seconds)
            }
            other => return Err(other.unexpected()),
        };
        let frame_max = agree_on_frames(broker_max)?;
        let heartbeat_seconds = match purpose {
            Purpose::Consuming | Purpose::PublishingThroughAlarms => {
                agree_on_heartbeats(broker.heartbeat_seconds(), proposed_seconds)
            }
            Purpose::Publishing | Purpose::Browsing => 0,
        };
        send(&mut transport, 0, &Request::TuneOk { channel_max, frame_max, heartbeat_seconds }).await?;
        send(&mut transport, 0, &Request::Open { vhost: broker.vhost() }).await?;
        match receive_response(&mut transport).await? {
            Response::OpenOk => Ok(Connection {
                transport,
                max_frame_bytes: usize::try_from(frame_max).unwrap_or(usize::MAX),
                channel_max: if channel_max == 0 { u16::MAX } else { channel_max },
                heartbeat: (heartbeat_seconds > 0).then(|| Duration::from_secs(heartbeat_seconds.into())),
            }),
            other => Err(other.unexpected()),
        }
    }

    /// Returns the interval at which both sides have agreed to send something, where they have.
    pub(super) fn heartbeat(&self) -> Option<Duration> {
        self.heartbeat
    }

    /// Returns the maximum number of channels that both sides have agreed on.
    pub(super) fn channel_max(&self) -> u16 {
        self.channel_max
    }

    /// Returns the size that the properties of a message may have to fit into a frame, in bytes.
    pub(super) fn max_properties_bytes(&self) -> usize {
        self.max_frame_bytes - CONTENT_HEADER_BYTES - FRAME_OVERHEAD_BYTES
    }

    /// Sends a method that has no answer.
    pub(super) async fn send(&mut self, channel: u16, request: &Request<'_>) -> Result<(), AmqpError> {
        send(&mut self.transport, channel, request).await
    }

    /// Writes a method that has no answer; [`Connection::flush`] sends it.
    pub(super) fn write_method(&mut self, channel: u16, request: &Request<'_>) -> Result<(), AmqpError> {
        self.transport.write(FrameType::Method, channel, &request.encode()?);
        Ok(())
    }

    /// Sends a method and waits for its answer; what is delivered meanwhile goes into the inbox.
    pub(super) async fn call(
        &mut self,
        channel: u16,
        request: &Request<'_>,
        inbox: &mut Inbox,
    ) -> Result<Response, AmqpError> {
        self.send(channel, request).await?;
        loop {
            let frame = self.receive_frame().await?;
            if let Some((of, response)) = inbox.accept(frame)? {
                if matches!(response, Response::Unblocked) {
                    continue;
                }
                return if of == channel { Ok(response) } else { Err(response.unexpected()) };
            }
        }
    }

    /// Closes the connection in order: the broker has handled everything before it then.
    pub(super) async fn close(&mut self, inbox: &mut Inbox) -> Result<(), AmqpError> {
        self.call(0, &Request::Close, inbox).await.map(drop)
    }

    /// Takes the next frame of what was read.
    pub(super) fn take_frame(&mut self) -> Result<Option<Frame>, AmqpError> {
        self.transport.take()
    }

    /// Waits for the next frame within [`ANSWER_TIMEOUT`].
    pub(super) async fn receive_frame(&mut self) -> Result<Frame, AmqpError> {
        receive_frame(&mut self.transport).await
    }

    /// Waits for bytes, and reads them. Cancel-safe.
    pub(super) async fn fill(&mut self) -> Result<(), AmqpError> {
        self.transport.fill().await
    }

    /// Waits for bytes at most for `limit`, and returns whether there are any.
    pub(super) async fn fill_within(&mut self, limit: Duration) -> Result<bool, AmqpError> {
        self.transport.fill_within(limit).await
    }

    /// Writes a heartbeat; [`Connection::exchange`] sends it.
    pub(super) fn write_heartbeat(&mut self) {
        self.transport.write(FrameType::Heartbeat, 0, &[]);
    }

    /// Sends a heartbeat. Cancel-safe.
    pub(super) async fn send_heartbeat(&mut self) -> Result<(), AmqpError> {
        self.transport.write(FrameType::Heartbeat, 0, &[]);
        self.transport.flush().await
    }

    /// Writes a message, mandatory; [`Connection::flush`] sends it.
    pub(super) fn write_message(
        &mut self,
        channel: u16,
        exchange: &str,
        message: &RawMessage,
    ) -> Result<(), AmqpError> {
        let publish = Request::Publish { exchange, routing_key: &message.routing_key }.encode()?;
        self.transport.write(FrameType::Method, channel, &publish);
        let mut header = BytesMut::new();
        header.put_u16(BASIC_CLASS);
        header.put_u16(0); // weight, which is not used
        header.put_u64(message.body.len() as u64);
        header.put_slice(&message.properties.to_bytes());
        self.transport.write(FrameType::Header, channel, &header);
        for part in message.body.chunks(self.max_frame_bytes - FRAME_OVERHEAD_BYTES) {
            self.transport.write(FrameType::Body, channel, part);
        }
        Ok(())
    }

    /// Sends what was written, and reads what arrives meanwhile: a broker with an alarm reads nothing. Ends when bytes have
    /// arrived. Cancel-safe.
    pub(super) async fn exchange(&mut self) -> Result<(), AmqpError> {
        self.transport.exchange().await
    }

    /// Sends what was written.
    pub(super) async fn flush(&mut self) -> Result<(), AmqpError> {
        self.transport.flush().await
    }
}

/// Connects, and returns the broker's version from its greeting, where it has one. Needs no login.
pub(crate) async fn server_version(broker: &BrokerEndpoint) -> Result<Option<String>, AmqpError> {
    Ok(greet(broker).await.map_err(|error| unreached(broker, error))?.1)
}

/// Returns the error about a connection that could not be opened; the next attempt begins with another address of the broker's name.
fn unreached(broker: &BrokerEndpoint, error: AmqpError) -> AmqpError {
    broker.try_another_first();
    error.unreached(broker.noted_place())
}

/// Connects and waits for the greeting.
async fn greet(broker: &BrokerEndpoint) -> Result<(Transport, Option<String>), AmqpError> {
    let stream = tokio::time::timeout(ANSWER_TIMEOUT, broker.stream()).await;
    let mut transport = Transport::new(stream.map_err(|_| AmqpError::Silence)??);
    transport.flush().await?;
    match receive_response(&mut transport).await? {
        Response::Start { version } => Ok((transport, version)),
        other => Err(other.unexpected()),
    }
}

async fn send(transport: &mut Transport, channel: u16, request: &Request<'_>) -> Result<(), AmqpError> {
    transport.write(FrameType::Method, channel, &request.encode()?);
    transport.flush().await
}

async fn receive_frame(transport: &mut Transport) -> Result<Frame, AmqpError> {
    loop {
        if let Some(frame) = transport.take()? {
            return Ok(frame);
        }
        tokio::time::timeout(ANSWER_TIMEOUT, transport.fill()).await.map_err(|_| AmqpError::Silence)??;
    }
}

/// Waits for the next method during the handshake, where nothing else is sent.
async fn receive_response(transport: &mut Transport) -> Result<Response, AmqpError> {
    let frame = receive_frame(transport).await?;
    match Inbox::default().accept(frame)? {
        Some((_, response)) => Ok(response),
        None => Err(AmqpError::Protocol("content during the handshake".into())),
    }
}

/// Returns what this side understands: without it the broker reports no alarm, no wrong password and no deleted queue.
fn client_properties(name: &str, purpose: Purpose) -> Table {
    let mut capabilities = Table::default();
    for capability in
        ["publisher_confirms", "basic.nack", "consumer_cancel_notify", "authentication_failure_close"]
    {
        capabilities.bool(capability, true);
    }
    if matches!(purpose, Purpose::Publishing | Purpose::PublishingThroughAlarms) {
        capabilities.bool("connection.blocked", true); // an alarm does not concern a consumer
    }
    let mut properties = Table::default();
    properties.text("product", b"cns-events");
    properties.text("connection_name", name.as_bytes());
    properties.table("capabilities", &capabilities);
    properties
}

/// Returns the frame size of the smaller limit; 0 is none.
fn agree_on_frames(broker_max: u32) -> Result<u32, AmqpError> {
    match broker_max {
        0 | MAX_FRAME_BYTES.. => Ok(MAX_FRAME_BYTES),
        MIN_FRAME_BYTES.. => Ok(broker_max),
        _ => Err(AmqpError::Protocol(format!("frames of at most {broker_max} bytes"))),
    }
}

/// Returns the shorter of both intervals; 0 is none.
fn agree_on_heartbeats(ours: u16, theirs: u16) -> u16 {
    match (ours, theirs) {
        (0, seconds) | (seconds, 0) => seconds,
        (ours, theirs) => ours.min(theirs),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smaller_limit_is_agreed_on() {
        assert_eq!(agree_on_frames(0).unwrap(), MAX_FRAME_BYTES);
        assert_eq!(agree_on_frames(8192).unwrap(), 8192);
        assert_eq!(agree_on_frames(1 << 20).unwrap(), MAX_FRAME_BYTES);
        assert!(agree_on_frames(100).is_err());
        assert_eq!(agree_on_heartbeats(0, 60), 60);
        assert_eq!(agree_on_heartbeats(10, 0), 10);
        assert_eq!(agree_on_heartbeats(10, 60), 10);
    }
}
