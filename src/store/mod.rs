//! The table: connections, migrations, the insert, the reads and retention. Names nothing of the broker.

mod endpoint;
mod failure;
mod insert;
pub mod inspect;
pub mod migrate;
mod pending_list;
pub mod prune;
pub mod read;
mod schema;
mod statement;
mod writer;

pub use endpoint::{ConnectError, DatabaseEndpoint, UrlError};
pub use failure::{Failure, FailureClass, Hold, SQLSTATES, classify};
pub use insert::Row;
pub use writer::{Duplicate, Writer};
