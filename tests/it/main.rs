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

#[path = "../env/mod.rs"]
mod env;

mod api;
mod cli;
mod deploy;
mod docs;
mod publisher;
mod store;
mod worker;
