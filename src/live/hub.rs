//! The hub: every feed of a process, and the bounds on streams.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, mpsc, oneshot};
use uuid::Uuid;

use super::feed::{Feed, Join, Joined};
use crate::log_throttle::LogThrottle;
use crate::store::read::{AccessScope, Reader};

/// All streams of a process. Cheap to clone.
#[derive(Clone)]
pub struct Hub {
    shared: Arc<Shared>,
}

struct Shared {
    reader: Reader,
    max_streams: usize,
    max_streams_per_tenant: usize,
    state: Mutex<State>,
    failed: Arc<LogThrottle>,
}

#[derive(Default)]
struct State {
    feeds: HashMap<AccessScope, FeedHandle>,
    streams: HashMap<Uuid, usize>,
}

struct FeedHandle {
    tenant: Uuid,
    joins: mpsc::UnboundedSender<Join>,
    wake: Arc<Notify>,
}

/// Error for a stream beyond a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooMany {
    /// The process has as many as it may.
    #[error("this process has as many streams as it may; retry, another replica may have room")]
    Process,
    /// The tenant has as many as it may.
    #[error("the limit is {0} streams for each tenant and process")]
    Tenant(usize),
}

/// One stream's share of the bounds, which it gives back when it is dropped.
pub(super) struct Permit {
    shared: Arc<Shared>,
    tenant: Uuid,
}

impl Hub {
    /// Returns a hub without streams, which reads with `reader`.
    #[must_use]
    pub fn new(reader: Reader, max_streams: usize, max_streams_per_tenant: usize) -> Self {
        let shared = Shared {
            reader,
            max_streams,
            max_streams_per_tenant,
            state: Mutex::default(),
            failed: Arc::default(),
        };
        Hub { shared: Arc::new(shared) }
    }

    /// Wakes the feeds of these tenants: there is something to look for.
    pub fn wake(&self, tenants: &[Uuid]) {
        for feed in self.lock().feeds.values().filter(|feed| tenants.contains(&feed.tenant)) {
            feed.wake.notify_one();
        }
    }

    pub(super) fn reader(&self) -> &Reader {
        &self.shared.reader
    }

    /// Joins the feed of a scope, which is started where there is none. Cancel-safe.
    pub(super) async fn join(&self, tenant: Uuid, scope: &AccessScope) -> Joined {
        loop {
            let (join, joined) = oneshot::channel();
            self.request(tenant, scope, join);
            // A feed that has just ended drops the request: the next one is another feed's.
            if let Ok(joined) = joined.await {
                return joined;
            }
        }
    }

    fn request(&self, tenant: Uuid, scope: &AccessScope, mut join: Join) {
        let mut state = self.lock();
        if let Some(feed) = state.feeds.get(scope) {
            match feed.joins.send(join) {
                Ok(()) => return,
                Err(mpsc::error::SendError(returned)) => join = returned,
            }
        }
        let (joins, requests) = mpsc::unbounded_channel();
        let wake = Arc::new(Notify::new());
        let _ = joins.send(join); // the receiver is here
        let feed = Feed {
            reader: self.shared.reader.clone(),
            scope: scope.clone(),
            joins: requests,
            wake: wake.clone(),
            failed: self.shared.failed.clone(),
        };
        tokio::spawn(feed.run());
        // Feeds that have ended are forgotten on the way.
        state.feeds.retain(|_, feed| !feed.joins.is_closed());
        state.feeds.insert(scope.clone(), FeedHandle { tenant, joins, wake });
    }

    /// Takes one stream's share of the bounds.
    pub(super) fn permit(&self, tenant: Uuid) -> Result<Permit, TooMany> {
        let mut state = self.lock();
        if state.streams.values().sum::<usize>() >= self.shared.max_streams {
            return Err(TooMany::Process);
        }
        let own = state.streams.entry(tenant).or_default();
        if *own >= self.shared.max_streams_per_tenant {
            return Err(TooMany::Tenant(self.shared.max_streams_per_tenant));
        }
        *own += 1;
        Ok(Permit { shared: self.shared.clone(), tenant })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.shared.lock()
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // No panic can leave the maps in an invalid state.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    pub(super) fn tenant(&self) -> Uuid {
        self.tenant
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        if let Some(own) = state.streams.get_mut(&self.tenant) {
            *own -= 1;
            if *own == 0 {
                state.streams.remove(&self.tenant);
            }
        }
    }
}
