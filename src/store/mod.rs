//! The table: connections, migrations, the insert, the reads and retention. Names nothing of the broker.

mod connect;
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

pub use connect::{ConnectError, Database, UrlError};
pub use failure::{Class, Failure, SQLSTATES, classify};
pub use insert::Row;
pub use writer::{Duplicate, Writer};
