//! Start of a publisher: the check of its configuration, and its thread.

use std::sync::Arc;
use std::sync::mpsc::{Sender as Starting, channel};

use lapin::types::ShortString;

use super::buffer::Buffer;
use super::config::PublisherConfig;
use super::outbox::Outbox;
use super::outcome::StartError;
use super::refused::Refused;
use super::sender::Sender;
use super::shared::Shared;
use super::spool::Spool;
use super::thread;
use crate::broker::BrokerEndpoint;

impl PublisherConfig {
    /// Checks everything but the spool folder, without starting anything.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub fn check(&self) -> Result<(), StartError> {
        self.sender().map(drop)
    }

    /// Returns the sender of this configuration.
    fn sender(&self) -> Result<Sender, StartError> {
        let (events, bytes) = (self.buffer_events, self.buffer_bytes);
        let max_message_bytes = self.max_message_bytes;
        if events == 0 || bytes < max_message_bytes {
            return Err(StartError::Buffer { events, bytes, max_message_bytes });
        }
        if self.spool_when.is_some() && self.spool_folder.is_none() {
            return Err(StartError::NoSpool);
        }
        let bytes_of_spool = usize::try_from(self.spool_bytes).unwrap_or(usize::MAX);
        if self.spool_folder.is_some() && bytes_of_spool < max_message_bytes {
            return Err(StartError::Buffer { events, bytes: bytes_of_spool, max_message_bytes });
        }
        let broker = BrokerEndpoint::new(&self.uri, &self.app_id)?.with_note(self.note);
        let short = |what, text: &str| ShortString::try_new(text).map_err(|_| StartError::TooLong(what));
        let exchange = short("the exchange's name", &self.exchange)?;
        let app_id = short("app_id", &self.app_id)?;
        Ok(Sender { broker, exchange, app_id })
    }

    /// Opens the spool, where there is one.
    fn spool_of_this_process(&self) -> Result<Option<Spool>, StartError> {
        let opened = self.spool_folder.as_ref().map(|folder| Spool::open(folder, self.spool_bytes));
        opened.transpose().map_err(|error| StartError::Spool(error.to_string()))
    }
}

/// Starts the thread of a publisher.
pub(super) fn start(config: PublisherConfig) -> Result<Arc<Shared>, StartError> {
    let sender = config.sender()?;
    let shared = Arc::new(Shared::new(Buffer::new(config.buffer_events, config.buffer_bytes)));
    let (started, starting) = channel();
    let of_thread = shared.clone();
    std::thread::Builder::new()
        .name("cns-publisher".to_owned())
        .spawn(move || run(&config, sender, of_thread, &started))?;
    starting.recv().unwrap_or_else(|gone| Err(std::io::Error::other(gone).into()))?;
    Ok(shared)
}

/// Opens the spool and runs the publisher. Reports the start as soon as the caller need not wait any more.
fn run(
    config: &PublisherConfig,
    sender: Sender,
    shared: Arc<Shared>,
    started: &Starting<Result<(), StartError>>,
) {
    thread::yield_to_callers();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return drop(started.send(Err(error.into()))),
    };
    if config.open_spool_later {
        let _ = started.send(Ok(()));
    }
    let spool = match config.spool_of_this_process() {
        Ok(spool) => spool,
        Err(error) if config.open_spool_later => {
            tracing::error!(%error, "the publisher has no spool and keeps events in memory");
            None
        }
        Err(error) => return drop(started.send(Err(error))),
    };
    let refused = Refused::new(config.spool_folder.as_deref(), config.spool_bytes);
    let outbox = Outbox::new(shared, spool, refused, config.spool_when.unwrap_or_default());
    let _ = started.send(Ok(()));
    runtime.block_on(thread::run(outbox, sender));
}
