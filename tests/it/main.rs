//! Tests against the real servers: `make test` starts them and sets AMQP_URL and DATABASE_URL.
//!
//! Each test has a database and a set of exchange and queue names of its own, so that all run in parallel, and
//! drives the real binary as a process.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout
)]

mod http;
mod relay;
mod stand;
mod tokens;

mod api;
mod bad_input;
mod bounds;
mod commands;
mod corpus;
mod dlq;
mod docs;
mod doctor;
mod document;
mod examples;
mod generated;
mod manifests;
mod migrations;
mod once;
mod outages;
mod pooler;
mod publisher;
mod publisher_outages;
mod query;
mod reading;
mod retention;
mod roles;
mod rolling;
mod secrets;
mod spool;
mod tenants;
mod topology;
mod unreadable;
