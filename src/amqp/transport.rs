//! The stream under a connection: frames are read into one buffer and written out of another.

use std::io::ErrorKind;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::io::poll_read_buf;

use super::codec::{Cutter, Frame, FrameType, PROTOCOL_HEADER, write_frame};
use super::{ANSWER_TIMEOUT, AmqpError};
use crate::broker::Stream;

/// Room that is made for what arrives, in bytes. What was read stays where it is: messages are slices of it.
const READ_BYTES: usize = 64 * 1024;

/// Room below which more is made, in bytes: a system call for less costs more than the memory.
const MIN_READ_BYTES: usize = 8 * 1024;

/// Frames over a stream.
pub(super) struct Transport {
    stream: Box<dyn Stream>,
    cutter: Cutter,
    /// Read, and not a whole frame yet.
    input: BytesMut,
    /// Written, and not sent yet.
    output: BytesMut,
}

impl Transport {
    /// Begins with the protocol header, which the next flush sends.
    pub(super) fn new(stream: Box<dyn Stream>) -> Self {
        Transport {
            stream,
            cutter: Cutter::default(),
            input: BytesMut::new(),
            output: BytesMut::from(PROTOCOL_HEADER),
        }
    }

    /// Takes the next frame of what was read; `None` where more has to be read first. Heartbeats are left out.
    pub(super) fn take(&mut self) -> Result<Option<Frame>, AmqpError> {
        while let Some(frame) = self.cutter.cut(&mut self.input)? {
            if frame.kind != FrameType::Heartbeat {
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    /// Waits for bytes, and reads them. Cancel-safe.
    pub(super) async fn fill(&mut self) -> Result<(), AmqpError> {
        if self.input.capacity() - self.input.len() < MIN_READ_BYTES {
            self.input.reserve(READ_BYTES);
        }
        match self.stream.read_buf(&mut self.input).await? {
            0 => Err(std::io::Error::from(ErrorKind::UnexpectedEof).into()),
            _ => Ok(()),
        }
    }

    /// Sends what was written as far as the broker reads, while it waits for bytes; ends when it has read some. Cancel-safe.
    pub(super) async fn exchange(&mut self) -> Result<(), AmqpError> {
        if self.input.capacity() - self.input.len() < MIN_READ_BYTES {
            self.input.reserve(READ_BYTES);
        }
        let Transport { stream, input, output, .. } = self;
        let read = std::future::poll_fn(|context| {
            while !output.is_empty() {
                match Pin::new(&mut **stream).poll_write(context, output) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(ErrorKind::WriteZero.into())),
                    Poll::Ready(Ok(written)) => output.advance(written),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => break,
                }
            }
            if let Poll::Ready(Err(error)) = Pin::new(&mut **stream).poll_flush(context) {
                return Poll::Ready(Err(error));
            }
            poll_read_buf(Pin::new(&mut **stream), context, input)
        });
        match read.await? {
            0 => Err(std::io::Error::from(ErrorKind::UnexpectedEof).into()),
            _ => Ok(()),
        }
    }

    /// Waits for bytes at most for `limit`, and returns whether there are any.
    pub(super) async fn fill_within(&mut self, limit: Duration) -> Result<bool, AmqpError> {
        if !self.input.is_empty() {
            return Ok(true);
        }
        match tokio::time::timeout(limit, self.fill()).await {
            Ok(filled) => filled.map(|()| true),
            Err(_) => Ok(false),
        }
    }

    /// Writes a frame; [`Transport::flush`] sends it.
    pub(super) fn write(&mut self, kind: FrameType, channel: u16, payload: &[u8]) {
        write_frame(&mut self.output, kind, channel, payload);
    }

    /// Sends what was written, within [`ANSWER_TIMEOUT`]: a broker with an alarm stops reading. Cancel-safe: the next flush sends
    /// what this one did not.
    pub(super) async fn flush(&mut self) -> Result<(), AmqpError> {
        let flushing = async {
            while !self.output.is_empty() {
                self.stream.write_buf(&mut self.output).await?;
            }
            self.stream.flush().await
        };
        Ok(tokio::time::timeout(ANSWER_TIMEOUT, flushing).await.map_err(|_| AmqpError::Silence)??)
    }
}
