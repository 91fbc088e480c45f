//! Looks at the journal as a tenant, and the events that they name.

use std::collections::HashMap;

use uuid::Uuid;

use super::connections::Stopped;
use super::event::StoredEvent;
use super::query;
use super::reader::Reader;
use super::rows::rows;
use super::scope::AccessScope;
use crate::store::failure::StoreFailure;
use crate::store::journal::{self, Looked, Position};

impl Reader {
    /// Returns the position of now: everything that is visible is before it.
    ///
    /// # Errors
    /// As [`Reader::page`]; on a standby there is no position.
    pub async fn position(&self, scope: &AccessScope) -> Result<Position, StoreFailure> {
        self.connections
            .transaction(scope, async |client| journal::here(client).await.map_err(Stopped::Failed))
            .await
    }

    /// Returns the rows of the journal after a position, `max_rows` at most, as far as this scope sees them.
    ///
    /// # Errors
    /// As [`Reader::position`].
    pub async fn look(
        &self,
        scope: &AccessScope,
        position: &Position,
        max_rows: u32,
    ) -> Result<Looked, StoreFailure> {
        let look = self.connections.transaction(scope, async |client| {
            journal::look(client, position, max_rows).await.map_err(Stopped::Failed)
        });
        look.await
    }

    /// Returns the events with these ids, by id. One that was deleted since is not among them.
    ///
    /// # Errors
    /// As [`Reader::page`].
    pub async fn events_by_id(
        &self,
        scope: &AccessScope,
        ids: &[Uuid],
    ) -> Result<HashMap<Uuid, StoredEvent>, StoreFailure> {
        let statement = query::by_id(ids)?;
        let read = self.connections.transaction(scope, async |client| Ok(rows(client, &statement).await?));
        read.await?.iter().map(|row| StoredEvent::from_row(row).map(|event| (event.id, event))).collect()
    }
}
