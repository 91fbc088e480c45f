//! The table in `PostgreSQL`: connections, migrations, the insert, reads and retention. Nothing here names the broker.

mod conninfo;
mod endpoint;
mod failure;
pub mod fix;
mod insert;
pub mod inspect;
pub mod journal;
pub mod migrate;
mod on_duplicate;
mod pending_list;
mod preflight;
pub mod read;
pub mod retention;
mod schema;
mod session;
mod statement;
pub mod summaries;
mod unreached;
mod writer;

pub use conninfo::UrlError;
pub use endpoint::DatabaseEndpoint;
pub use failure::{FailureClass, Hold, SQLSTATES, StoreFailure, classify};
pub use insert::Row;
pub use unreached::ConnectError;
pub use writer::{Duplicate, Writer};
