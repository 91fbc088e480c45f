//! The database: migrations, roles, reads, retention and poolers.

mod existing;
mod migrations;
mod pooler;
mod reads;
mod retention;
mod roles;
