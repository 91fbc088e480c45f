//! The database: migrations, roles, reads, retention and poolers.

mod migrations;
mod pooler;
mod reads;
mod retention;
mod roles;
