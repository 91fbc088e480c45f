//! A feed: looks at the journal that all who watch with the same claims share.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

use super::portion::Portion;
use crate::backoff::Backoff;
use crate::log_throttle::LogThrottle;
use crate::store::StoreFailure;
use crate::store::journal::{Looked, Position, Reset};
use crate::store::read::{AccessScope, Reader};

/// Minimum time between two looks: the database answers no more than five a second for each feed.
const INTERVAL: Duration = Duration::from_millis(200);

/// Share of the time that looks may take: a look that takes long is followed by a pause of twenty times that.
const PAUSE_FACTOR: u32 = 20;

/// Time after which a feed looks without a notice.
const LOOK_ANYWAY: Duration = Duration::from_secs(2);

/// Rows of the journal in one page.
pub(super) const PAGE_ROWS: u32 = 100;

/// Events in one page: each may have a megabyte.
pub(super) const PAGE_EVENTS: usize = 200;

/// Portions that wait for one watcher. One that is slower continues by itself from its own position, and holds up nobody.
const WAITING: usize = 4;

/// Portions for one watcher, from a position on.
pub(super) struct Joined {
    pub(super) position: Position,
    pub(super) portions: mpsc::Receiver<Sent>,
}

/// Message of a feed to one who watches.
pub(super) type Sent = Result<Arc<Portion>, Reset>;

/// Request for portions.
pub(super) type Join = oneshot::Sender<Joined>;

/// State of a feed's task.
pub(super) struct Feed {
    pub(super) reader: Reader,
    pub(super) scope: AccessScope,
    pub(super) joins: mpsc::UnboundedReceiver<Join>,
    pub(super) wake: Arc<Notify>,
    pub(super) failed: Arc<LogThrottle>,
}

impl Feed {
    /// Looks until nobody watches.
    pub(super) async fn run(mut self) {
        let Ok(mut position) = self.first().await else { return };
        let mut watchers: Vec<mpsc::Sender<Sent>> = Vec::new();
        let mut joining = Vec::new();
        let mut backoff = Backoff::default();
        loop {
            let began = Instant::now();
            match self.look(&mut position, &mut watchers).await {
                Ok(()) => {
                    backoff = Backoff::default();
                    // Whoever joins does so after a look that began after the request: nothing that its own position shows is later.
                    for join in joining.drain(..) {
                        let (sender, portions) = mpsc::channel(WAITING);
                        if Join::send(join, Joined { position: position.clone(), portions }).is_ok() {
                            watchers.push(sender);
                        }
                    }
                }
                Err(failure) => {
                    if let Some(suppressed) = self.failed.allow() {
                        let sqlstate = failure.sqlstate.as_deref();
                        tracing::warn!(sqlstate, suppressed, error = %failure, "streams wait: cannot look at the journal: {failure}");
                    }
                    tokio::time::sleep(backoff.next_delay()).await;
                }
            }
            watchers.retain(|watcher| !watcher.is_closed());
            let rest =
                INTERVAL.saturating_sub(began.elapsed()).max(began.elapsed() * PAUSE_FACTOR).min(LOOK_ANYWAY);
            tokio::time::sleep(rest).await;
            if joining.is_empty() && self.joins.is_empty() {
                if watchers.is_empty() {
                    return;
                }
                tokio::select! {
                    () = self.wake.notified() => {}
                    () = tokio::time::sleep(LOOK_ANYWAY) => {}
                    join = self.joins.recv() => joining.extend(join),
                }
            }
            while let Ok(join) = self.joins.try_recv() {
                joining.push(join);
            }
        }
    }

    async fn first(&mut self) -> Result<Position, StoreFailure> {
        let mut backoff = Backoff::default();
        loop {
            match self.reader.position(&self.scope).await {
                Ok(position) => return Ok(position),
                // Those who asked have left meanwhile.
                Err(failure) if self.joins.is_closed() => return Err(failure),
                Err(failure) => {
                    if self.failed.allow().is_some() {
                        tracing::warn!(error = %failure, "streams wait: cannot look at the journal: {failure}");
                    }
                    tokio::time::sleep(backoff.next_delay()).await;
                }
            }
        }
    }

    /// Gives all that is new to those who watch, and moves the position behind it.
    async fn look(
        &self,
        position: &mut Position,
        watchers: &mut Vec<mpsc::Sender<Sent>>,
    ) -> Result<(), StoreFailure> {
        loop {
            match self.reader.look(&self.scope, position, PAGE_ROWS).await? {
                Looked::Rows(look) => {
                    let look = look.limited(position, PAGE_EVENTS);
                    let complete = look.complete;
                    if look.rows.is_empty() && complete {
                        *position = look.next;
                        return Ok(());
                    }
                    let portion = Portion::read(&self.reader, &self.scope, position.clone(), look).await?;
                    *position = portion.next.clone();
                    send(watchers, &Ok(Arc::new(portion)));
                    if complete {
                        return Ok(());
                    }
                }
                Looked::Reset(reset) => {
                    *position = reset.here.clone();
                    send(watchers, &Err(reset));
                    return Ok(());
                }
            }
        }
    }
}

/// Sends to all who watch. One whose channel is full is left behind: it finds that its channel is closed.
fn send(watchers: &mut Vec<mpsc::Sender<Sent>>, sent: &Sent) {
    watchers.retain(|watcher| watcher.try_send(sent.clone()).is_ok());
}
