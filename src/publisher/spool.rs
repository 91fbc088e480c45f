//! Events on disk, in order, until the broker has confirmed them.
//!
//! Each process that uses the folder has a redb file of its own. A commit is on disk when it returns, and a file that was not closed
//! opens in the state of its last commit.

use std::borrow::Cow;
use std::fs::{File, TryLockError};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};

use redb::{
    Database, Durability, ReadableDatabase, ReadableTable, ReadableTableMetadata, Table, TableDefinition,
};

use crate::event::EventType;
use crate::message::EncodedEvent;

/// Routing key, `event_id`, `event_type`, priority, timestamp, traceparent (empty for none), body.
type Stored = (&'static str, &'static str, &'static str, u8, i64, &'static str, &'static [u8]);

/// Events by their place in the order.
const EVENTS: TableDefinition<'_, u64, Stored> = TableDefinition::new("events");

/// `bytes`: size of all events in the table.
const TOTALS: TableDefinition<'_, &'static str, u64> = TableDefinition::new("totals");

/// Size of redb's cache in bytes: the spool is written and read once, in order.
const CACHE_BYTES: usize = 4 * 1024 * 1024;

/// Maximum processes that use a folder at the same time.
const MAX_FILES: usize = 64;

/// Place of the first event of an empty spool: it leaves room for events that go before it.
const MIDDLE: u64 = 1 << 62;

/// Size in bytes from which an empty file is compacted.
const COMPACT_BYTES: u64 = 16 * 1024 * 1024;

/// Failure of the spool.
#[derive(Debug, thiserror::Error)]
pub(super) enum SpoolError {
    /// The folder or the file cannot be used.
    #[error("{path}: {error}")]
    File { path: PathBuf, error: std::io::Error },
    /// The file is damaged.
    #[error("{path}: the file is damaged")]
    Damaged { path: PathBuf },
    /// The database in the file failed.
    #[error("{path}: {error}")]
    Redb { path: PathBuf, error: Box<redb::Error> },
    /// The limit of bytes is reached.
    #[error("the spool is full ({0} bytes)")]
    Full(u64),
    /// Other processes use every file of the folder.
    #[error("{0}: {MAX_FILES} processes already use this folder")]
    Crowded(PathBuf),
}

/// An event of the spool, with its place in the order.
pub(super) struct Kept {
    pub(super) key: u64,
    pub(super) message: EncodedEvent,
}

/// The file of this process.
#[derive(Debug)]
pub(super) struct Spool {
    path: PathBuf,
    /// Lock of the file: redb's own lock is released when the database is opened again.
    _lock: File,
    /// Database; `None` after a failure, because redb has to be opened again.
    open: Option<Database>,
    max_bytes: u64,
    /// Place of the first event.
    first: u64,
    /// Place after the last event, where the next is written.
    next: u64,
    /// Place of the next event to read.
    unread: u64,
    events: u64,
    bytes: u64,
    /// Number of events in damaged files.
    damaged: u64,
}

impl Spool {
    /// Opens the first file of the folder that no other process uses, and takes over the events of files whose processes have
    /// ended. Creates folder and file where they are missing. A damaged file is renamed and logged.
    pub(super) fn open(folder: &Path, max_bytes: u64) -> Result<Self, SpoolError> {
        std::fs::create_dir_all(folder)
            .map_err(|error| SpoolError::File { path: folder.to_owned(), error })?;
        let mut spool = (0..MAX_FILES)
            .find_map(|number| Self::open_file(file(folder, number), max_bytes).transpose())
            .unwrap_or_else(|| Err(SpoolError::Crowded(folder.to_owned())))?;
        if let Err(error) = spool.adopt(folder) {
            tracing::error!(%error, "cannot take over the spool files of other processes");
        }
        Ok(spool)
    }

    /// Opens a file; `None` where another process uses it.
    fn open_file(path: PathBuf, max_bytes: u64) -> Result<Option<Self>, SpoolError> {
        let lock = private_file(&path.with_extension("lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(SpoolError::File { path, error }),
        }
        let (first, next) = (MIDDLE, MIDDLE);
        let mut spool = Spool {
            path,
            _lock: lock,
            open: None,
            max_bytes,
            first,
            next,
            unread: 0,
            events: 0,
            bytes: 0,
            damaged: 0,
        };
        match spool.reopen() {
            Ok(()) => {}
            Err(SpoolError::Damaged { .. }) => spool.rename_damaged()?,
            Err(error) => return Err(error),
        }
        Ok(Some(spool))
    }

    fn reopen(&mut self) -> Result<(), SpoolError> {
        drop(private_file(&self.path)?);
        let path = self.path.clone();
        let (database, first, next, events, bytes) = guarded(&path, || {
            let database = Database::builder().set_cache_size(CACHE_BYTES).create(&path)?;
            let write = database.begin_write()?;
            let (first, next, count, bytes);
            {
                let events = write.open_table(EVENTS)?;
                count = events.len()?;
                first = events.first()?.map(|(key, _)| key.value());
                next = events.last()?.map(|(key, _)| key.value() + 1);
                bytes = write.open_table(TOTALS)?.get("bytes")?.map_or(0, |bytes| bytes.value());
            }
            write.commit()?;
            Ok((database, first, next, count, bytes))
        })?;
        self.first = first.map_or(self.first, |first| first.min(self.first));
        self.next = next.map_or(self.next, |next| next.max(self.next));
        (self.open, self.events, self.bytes) = (Some(database), events, bytes);
        Ok(())
    }

    /// Renames a damaged file, for an operator to inspect, and begins a new one.
    fn rename_damaged(&mut self) -> Result<(), SpoolError> {
        self.open = None;
        self.damaged += self.events;
        let renamed = self.path.with_extension(format!("broken-{}", uuid::Uuid::now_v7().simple()));
        std::fs::rename(&self.path, &renamed)
            .map_err(|error| SpoolError::File { path: self.path.clone(), error })?;
        tracing::error!(file = %renamed.display(), "the spool file is damaged: it is renamed, and a new one is begun");
        self.reopen()
    }

    /// Takes over the events of files whose processes have ended. Emptied files stay: removing one could race with a process that
    /// opens it.
    fn adopt(&mut self, folder: &Path) -> Result<(), SpoolError> {
        for number in 0..MAX_FILES {
            let path = file(folder, number);
            if path == self.path || !path.exists() {
                continue;
            }
            let mut other = match Self::open_file(path, u64::MAX) {
                Ok(Some(other)) => other,
                Ok(None) => continue,
                Err(error) => {
                    tracing::error!(%error, "cannot read a file of the spool folder: {error}");
                    continue;
                }
            };
            while other.has_unread() {
                let kept = other.read(10_000, 16 * 1024 * 1024)?;
                self.append(kept.iter().map(|kept| &kept.message))?;
                other.remove(&kept.iter().map(|kept| kept.key).collect::<Vec<_>>())?;
            }
        }
        Ok(())
    }

    /// Writes events after the others. They are on disk when this returns.
    pub(super) fn append<'a>(
        &mut self,
        messages: impl IntoIterator<Item = &'a EncodedEvent>,
    ) -> Result<(), SpoolError> {
        self.next = self.insert(self.next, messages)?;
        Ok(())
    }

    /// Writes events before the others and returns the place of the first. They count as read.
    pub(super) fn prepend<'a>(
        &mut self,
        messages: impl ExactSizeIterator<Item = &'a EncodedEvent>,
    ) -> Result<u64, SpoolError> {
        let place = self.first - messages.len() as u64;
        self.insert(place, messages)?;
        self.unread = self.unread.max(self.first);
        self.first = place;
        Ok(place)
    }

    /// Removes events.
    pub(super) fn remove(&mut self, keys: &[u64]) -> Result<(), SpoolError> {
        let mut bytes = self.bytes;
        self.events = self.change(|events, totals| {
            for key in keys {
                if let Some(removed) = events.remove(key)? {
                    bytes = bytes.saturating_sub(removed.value().6.len() as u64);
                }
            }
            totals.insert("bytes", bytes)?;
            Ok(())
        })?;
        self.bytes = bytes;
        let large = || std::fs::metadata(&self.path).is_ok_and(|of| of.len() > COMPACT_BYTES);
        if self.events == 0
            && large()
            && let Some(database) = &mut self.open
        {
            let _ = database.compact(); // a failure only costs space
        }
        Ok(())
    }

    /// Writes events from a place on and returns the place after them.
    fn insert<'a>(
        &mut self,
        mut place: u64,
        messages: impl IntoIterator<Item = &'a EncodedEvent>,
    ) -> Result<u64, SpoolError> {
        let messages: Vec<_> = messages.into_iter().collect();
        let bytes = self.bytes + messages.iter().map(|message| message.body.len() as u64).sum::<u64>();
        if bytes > self.max_bytes {
            return Err(SpoolError::Full(self.max_bytes));
        }
        self.events = self.change(|events, totals| {
            for message in messages {
                events.insert(place, row(message))?;
                place += 1;
            }
            totals.insert("bytes", bytes)?;
            Ok(())
        })?;
        self.bytes = bytes;
        Ok(place)
    }

    /// Runs one commit and returns the number of events after it.
    fn change(
        &mut self,
        act: impl FnOnce(
            &mut Table<'_, u64, Stored>,
            &mut Table<'_, &'static str, u64>,
        ) -> Result<(), redb::Error>,
    ) -> Result<u64, SpoolError> {
        self.with(|database| {
            let mut write = database.begin_write()?;
            write.set_durability(Durability::Immediate)?;
            let left = {
                let (mut events, mut totals) = (write.open_table(EVENTS)?, write.open_table(TOTALS)?);
                act(&mut events, &mut totals)?;
                events.len()?
            };
            write.commit()?;
            Ok(left)
        })
    }

    /// Reads the next events, within both limits, and at least one.
    pub(super) fn read(&mut self, max_events: usize, max_bytes: usize) -> Result<Vec<Kept>, SpoolError> {
        let from = self.unread;
        let kept = self.with(|database| {
            let table = database.begin_read()?.open_table(EVENTS)?;
            let mut kept: Vec<Kept> = Vec::new();
            let mut bytes = 0;
            for entry in table.range(from..)?.take(max_events) {
                let (key, row) = entry?;
                let message = message(row.value());
                bytes += message.size();
                if !kept.is_empty() && bytes > max_bytes {
                    break;
                }
                kept.push(Kept { key: key.value(), message });
            }
            Ok(kept)
        })?;
        self.unread = kept.last().map_or(self.next, |last| last.key + 1);
        Ok(kept)
    }

    /// Returns whether there are unread events.
    pub(super) fn has_unread(&self) -> bool {
        self.events > 0 && self.unread < self.next
    }

    /// Returns the number of events.
    pub(super) fn len(&self) -> usize {
        usize::try_from(self.events).unwrap_or(usize::MAX)
    }

    /// Returns the number of events in damaged files.
    pub(super) fn damaged(&self) -> usize {
        usize::try_from(self.damaged).unwrap_or(usize::MAX)
    }

    /// Returns the number of bytes until the limit.
    pub(super) fn room(&self) -> usize {
        usize::try_from(self.max_bytes.saturating_sub(self.bytes)).unwrap_or(usize::MAX)
    }

    /// Runs `act` on the database, which is opened again first where it failed before.
    fn with<T>(&mut self, act: impl FnOnce(&Database) -> Result<T, redb::Error>) -> Result<T, SpoolError> {
        if self.open.is_none() {
            self.reopen()?;
        }
        let Some(database) = &self.open else { return Err(SpoolError::Damaged { path: self.path.clone() }) };
        let done = guarded(&self.path, || act(database));
        match &done {
            Err(SpoolError::Damaged { .. }) => self.rename_damaged()?,
            Err(_) => self.open = None,
            Ok(_) => {}
        }
        done
    }
}

/// Runs `act` and turns a panic into an error: redb panics over some damaged files.
fn guarded<T>(path: &Path, act: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, SpoolError> {
    let damaged = || SpoolError::Damaged { path: path.to_owned() };
    match std::panic::catch_unwind(AssertUnwindSafe(act)) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(redb::Error::Corrupted(_))) | Err(_) => Err(damaged()),
        // Not a redb file.
        Ok(Err(redb::Error::Io(error))) if error.kind() == std::io::ErrorKind::InvalidData => Err(damaged()),
        Ok(Err(error)) => Err(SpoolError::Redb { path: path.to_owned(), error: Box::new(error) }),
    }
}

/// Opens or creates a file that only its owner may read: events are confidential.
pub(super) fn private_file(path: &Path) -> Result<File, SpoolError> {
    let mut options = File::options();
    options.read(true).append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(|error| SpoolError::File { path: path.to_owned(), error })
}

fn file(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("events-{number}.redb"))
}

fn row(message: &EncodedEvent) -> (&str, &str, &str, u8, i64, &str, &[u8]) {
    (
        &message.routing_key,
        &message.event_id,
        &message.event_type,
        message.priority,
        message.timestamp,
        message.traceparent.as_deref().unwrap_or_default(),
        &message.body,
    )
}

fn message(row: (&str, &str, &str, u8, i64, &str, &[u8])) -> EncodedEvent {
    let (routing_key, event_id, event_type, priority, timestamp, traceparent, body) = row;
    EncodedEvent {
        body: body.to_vec(),
        routing_key: Cow::Owned(routing_key.to_owned()),
        event_id: event_id.to_owned(),
        event_type: match EventType::from_name(event_type) {
            Some(event_type) => Cow::Borrowed(event_type.name()),
            None => Cow::Owned(event_type.to_owned()),
        },
        priority,
        timestamp,
        traceparent: (!traceparent.is_empty()).then(|| traceparent.to_owned()),
    }
}

#[cfg(test)]
#[path = "spool_tests.rs"]
mod tests;
