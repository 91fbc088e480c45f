//! The database: migrations, roles, reads, journal, summaries, retention and poolers.

mod existing;
mod journal;
mod migrations;
mod pooler;
mod reads;
mod retention;
mod roles;
mod summaries;
mod summary_reads;
