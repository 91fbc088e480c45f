//! One page of a look, for all who watch: events with their positions.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::store::StoreFailure;
use crate::store::journal::{Look, Page, Position, Snapshot};
use crate::store::read::{AccessScope, Reader, StoredEvent};

/// An event on its way to watchers.
#[derive(Debug)]
pub struct LiveEvent {
    /// The stored event.
    pub event: StoredEvent,
    /// Its JSON text, as the API returns events.
    pub json: String,
    /// Begin of the transaction that stored it.
    pub stored_at: DateTime<Utc>,
}

/// Events of one page, in their order.
#[derive(Debug)]
pub(super) struct Portion {
    /// Position before.
    from: Position,
    /// Snapshot of the look.
    look: Snapshot,
    /// Events with the place after each.
    pub(super) events: Vec<Placed>,
    /// Position after.
    pub(super) next: Position,
}

/// An event with its place.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    transaction: u64,
    seq: i64,
    taken: u32,
    pub(super) event: Arc<LiveEvent>,
}

impl Portion {
    /// Reads the events of a look.
    pub(super) async fn read(
        reader: &Reader,
        scope: &AccessScope,
        from: Position,
        look: Look,
    ) -> Result<Portion, StoreFailure> {
        let ids: Vec<Uuid> = look.rows.iter().flat_map(|row| &row.ids).copied().collect();
        let mut found: HashMap<Uuid, StoredEvent> = HashMap::new();
        if !ids.is_empty() {
            found = reader.events_by_id(scope, &ids).await?;
        }
        // Where a row was begun before, its first ids are not in the look any more.
        let begun = from.page.clone();
        let mut events = Vec::with_capacity(found.len());
        for row in look.rows {
            let before = begun
                .as_ref()
                .filter(|page| (page.transaction, page.seq) == (row.transaction, row.seq))
                .map_or(0, |page| page.taken);
            for (at, id) in row.ids.iter().enumerate() {
                let Some(event) = found.remove(id) else { continue };
                let json =
                    serde_json::to_string(&event).map_err(|error| StoreFailure::unserialized(&error))?;
                events.push(Placed {
                    transaction: row.transaction,
                    seq: row.seq,
                    taken: before.saturating_add(u32::try_from(at + 1).unwrap_or(u32::MAX)),
                    event: Arc::new(LiveEvent { event, json, stored_at: row.stored_at }),
                });
            }
        }
        let snapshot = match (&look.next.page, &from.page) {
            (Some(page), _) | (None, Some(page)) => page.look.clone(),
            (None, None) => look.next.passed.clone(),
        };
        Ok(Portion { from, look: snapshot, events, next: look.next })
    }

    /// Returns the position after an event.
    pub(super) fn after(&self, placed: &Placed) -> Position {
        let Placed { transaction, seq, taken, .. } = *placed;
        let page = Page { look: self.look.clone(), transaction, seq, taken };
        Position { epoch: self.from.epoch, passed: self.from.passed.clone(), page: Some(page) }
    }
}
