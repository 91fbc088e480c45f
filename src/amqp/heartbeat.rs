//! Heartbeats of a connection that waits for longer than an answer may take.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use super::AmqpError;

/// Heartbeats that this side sends before a silent broker counts as gone. It sends one in half of the agreed interval, and the
/// broker is gone after two intervals (RabbitMQ's rule, too).
const MAX_SILENT_BEATS: u32 = 4;

/// Interval of the timer where no heartbeats are agreed: it has to be set to something.
const NO_HEARTBEAT: Duration = Duration::from_secs(3600);

/// Timer of the next heartbeat, and the silence of the broker.
pub(super) struct Heartbeat {
    timer: Pin<Box<Sleep>>,
    interval: Option<Duration>,
    /// Heartbeats since anything was received.
    silent_beats: u32,
}

impl Heartbeat {
    /// Starts the timer; `agreed` is the interval of both sides, where there is one.
    pub(super) fn new(agreed: Option<Duration>) -> Self {
        let interval = agreed.map(|agreed| agreed / 2);
        let timer = Box::pin(tokio::time::sleep(interval.unwrap_or(NO_HEARTBEAT)));
        Heartbeat { timer, interval, silent_beats: 0 }
    }

    /// Waits until a heartbeat is due. Cancel-safe.
    pub(super) async fn due(&mut self) {
        self.timer.as_mut().await;
    }

    /// Starts the next interval. Returns whether a heartbeat has to be sent.
    pub(super) fn restart(&mut self) -> bool {
        self.timer.as_mut().reset(Instant::now() + self.interval.unwrap_or(NO_HEARTBEAT));
        self.interval.is_some()
    }

    /// Counts an interval without anything received.
    ///
    /// # Errors
    /// The broker has been silent for too long.
    pub(super) fn silence(&mut self) -> Result<(), AmqpError> {
        self.silent_beats += 1;
        let gone = self.interval.is_some() && self.silent_beats > MAX_SILENT_BEATS;
        if gone { Err(AmqpError::Silence) } else { Ok(()) }
    }

    /// Records that something was received.
    pub(super) fn received(&mut self) {
        self.silent_beats = 0;
    }
}
