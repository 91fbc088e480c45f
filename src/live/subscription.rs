//! One watcher's stream.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::mpsc;
use uuid::Uuid;

use super::feed::{Joined, PAGE_EVENTS, PAGE_ROWS, Sent};
use super::hub::{Hub, Permit, TooMany};
use super::portion::{LiveEvent, Portion};
use crate::backoff::Backoff;
use crate::store::journal::{Looked, Position, ResetReason};
use crate::store::read::AccessScope;

/// Events that a watcher wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this BOM.
    pub bom_id: Option<Uuid>,
    /// Of this workflow.
    pub workflow_id: Option<String>,
    /// Of these types; empty for all.
    pub types: Vec<String>,
}

impl Filter {
    fn takes(&self, LiveEvent { event, .. }: &LiveEvent) -> bool {
        self.bom_id.is_none_or(|bom_id| bom_id == event.bom_id)
            && self.workflow_id.as_ref().is_none_or(|id| Some(id) == event.workflow_id.as_ref())
            && (self.types.is_empty() || self.types.contains(&event.event_type))
    }
}

/// Next thing of a stream.
#[derive(Debug)]
pub enum Item {
    /// An event, and the position after it.
    Event(Arc<LiveEvent>, Position),
    /// The stream goes on at this position; there is no event before it that was not given.
    At(Position),
    /// The position cannot be continued: what was missed has to be read in another way. The stream goes on at this position.
    Reset(ResetReason, Position),
}

/// Events after a position, each once, in the order in which they became visible.
pub struct Subscription {
    hub: Hub,
    permit: Permit,
    scope: AccessScope,
    filter: Filter,
    state: State,
    /// Items of the portion in hand.
    ready: VecDeque<Item>,
    backoff: Backoff,
}

enum State {
    /// Not with the feed: to join it, and then to continue after the position, or at the feed's own.
    Apart(Option<Position>),
    /// With the feed, and to read first what is between the position and the feed's.
    Behind(Position, Joined),
    /// With the feed; the position is that after its last portion.
    Live(Position, mpsc::Receiver<Sent>),
}

impl Subscription {
    /// Starts a stream of a tenant's events after a position, or from now on.
    ///
    /// # Errors
    /// A bound is reached.
    pub fn start(
        hub: &Hub,
        tenant: Uuid,
        scope: AccessScope,
        filter: Filter,
        after: Option<Position>,
    ) -> Result<Self, TooMany> {
        let (permit, hub) = (hub.permit(tenant)?, hub.clone());
        let (state, ready, backoff) = (State::Apart(after), VecDeque::new(), Backoff::default());
        Ok(Subscription { hub, permit, scope, filter, state, ready, backoff })
    }

    /// Waits for the next item. Cancel-safe: nothing is lost where the caller stops waiting.
    pub async fn next(&mut self) -> Item {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return item;
            }
            match &mut self.state {
                State::Apart(after) => {
                    let joined = self.hub.join(self.permit.tenant(), &self.scope).await;
                    match after.take() {
                        Some(after) => self.state = State::Behind(after, joined),
                        None => {
                            self.ready.push_back(Item::At(joined.position.clone()));
                            self.state = State::Live(joined.position, joined.portions);
                        }
                    }
                }
                State::Behind(position, joined) => {
                    // What was begun is ended first; then all up to the feed's position, which is of a later look.
                    let from = match &position.page {
                        Some(_) => position.clone(),
                        None => position.until(&joined.position.passed),
                    };
                    let was_last =
                        position.page.as_ref().is_none_or(|page| page.look == joined.position.passed);
                    let looked = self.hub.reader().look(&self.scope, &from, PAGE_ROWS).await;
                    let looked = match looked {
                        Ok(Looked::Rows(look)) => {
                            let look = look.limited(&from, PAGE_EVENTS);
                            Portion::read(self.hub.reader(), &self.scope, from, look).await.map(Ok)
                        }
                        Ok(Looked::Reset(reset)) => Ok(Err(reset)),
                        Err(failure) => Err(failure),
                    };
                    match looked {
                        Ok(Ok(portion)) => {
                            self.backoff = Backoff::default();
                            let ended = portion.next.page.is_none();
                            *position = portion.next.clone();
                            give(&mut self.ready, &self.filter, &portion);
                            if ended && was_last {
                                self.ready.push_back(Item::At(position.clone()));
                                self.go_live();
                            }
                        }
                        Ok(Err(reset)) => {
                            self.ready.push_back(Item::Reset(reset.reason, joined.position.clone()));
                            self.go_live();
                        }
                        // The feed reports a database that is away.
                        Err(_) => tokio::time::sleep(self.backoff.next_delay()).await,
                    }
                }
                State::Live(position, portions) => match portions.recv().await {
                    Some(Ok(portion)) => {
                        *position = portion.next.clone();
                        give(&mut self.ready, &self.filter, &portion);
                    }
                    Some(Err(reset)) => {
                        *position = reset.here.clone();
                        self.ready.push_back(Item::Reset(reset.reason, reset.here));
                    }
                    // Left behind by the feed, because this watcher is slow, or the feed has ended.
                    None => self.state = State::Apart(Some(position.clone())),
                },
            }
        }
    }

    /// Returns the position up to which everything was given, where the stream is with its feed and has nothing in hand.
    #[must_use]
    pub fn position(&self) -> Option<&Position> {
        match &self.state {
            State::Live(position, _) if self.ready.is_empty() => Some(position),
            _ => None,
        }
    }

    /// Continues with the feed's own portions.
    fn go_live(&mut self) {
        let state = std::mem::replace(&mut self.state, State::Apart(None));
        if let State::Behind(_, joined) = state {
            self.state = State::Live(joined.position, joined.portions);
        }
    }
}

/// Adds the events of a portion that the filter takes.
fn give(ready: &mut VecDeque<Item>, filter: &Filter, portion: &Portion) {
    let taken = portion.events.iter().filter(|placed| filter.takes(&placed.event));
    ready.extend(taken.map(|placed| Item::Event(placed.event.clone(), portion.after(placed))));
}
