//! Reads: the events of a BOM, the events of a workflow, and recent errors, newest first; and [`summaries`].
//!
//! Every read is one transaction, sent as a whole and answered in one round trip: it sets the role `authenticated` with the
//! tenant's claims, whatever login the connection has, runs the query, and commits. Row-level security decides which rows are
//! visible; no query names a tenant in its `WHERE` clause (docs/adr/0007-a-read-is-one-round-trip.md).
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use cns_events::store::DatabaseEndpoint;
//! use cns_events::store::read::{Query, Reader, AccessScope};
//! use futures_util::TryStreamExt;
//!
//! let database = DatabaseEndpoint::from_url(&std::env::var("DATABASE_URL")?)?;
//! let reader = Reader::new(database, 5, std::time::Duration::from_secs(10));
//! let tenant = AccessScope::tenant(cns_events::event::tenant_of("org-123"));
//! let bom_id = uuid::uuid!("6f9619ff-8b86-4d01-b42d-00cf4fc964ff");
//!
//! // The newest 100 events, and the cursor of the next page.
//! let page = reader.page(&tenant, &Query::events_by_bom(bom_id, ["error"], None)?).await?;
//! let _older = page.next;
//!
//! // All of them, for an export.
//! let mut all = std::pin::pin!(reader.stream(tenant, Query::events_by_workflow("enrich-bom-42", None)?));
//! while let Some(event) = all.try_next().await? {
//!     println!("{} {}", event.created_at, event.event_type);
//! }
//! # Ok(())
//! # }
//! ```

mod connections;
mod cursor;
mod event;
mod figures;
mod freshness;
mod journal;
mod limits;
mod moment;
mod query;
mod reader;
mod rows;
mod scope;
pub mod summaries;
mod tail;

pub use cursor::{Cursor, CursorError};
pub use event::StoredEvent;
pub(super) use event::{Document, Moment};
pub use figures::Latency;
pub use freshness::{Freshness, SummaryError, position_text};
pub use limits::Limits;
pub use query::{Query, QueryError};
pub use reader::{Page, Reader};
pub use scope::{AccessScope, SubjectError};
pub use tail::{TailItem, Watermark};
