//! The test environment: a database and broker names of a test's own, processes of the program, and clients for them.
//!
//! One module tree for every test program and benchmark; each includes it by `#[path]` as `crate::env`.
//!
//! - `test_env`: [`TestEnv`], a test's database and names; `broker` has its messages, queues and dead letters
//! - `database`: the migrated template database, its clones, and the removal of what killed runs left
//! - `process`: [`Worker`] and other processes of the program; `http` and `api_server` read from them
//! - `services`: the servers of `scripts/services`, also a pair of a program's own
//! - `relay`: a TCP relay that cuts or delays connections
//! - `sse`: a client of Server-Sent Events
//! - `messages`: event bodies and headers; `tokens`: signed tokens; `python`: environments for Python tools

#![allow(dead_code, unused_imports)] // not every program uses all of it
#![allow(clippy::print_stderr)] // a note on a failure or a missing tool

pub mod api_server;
mod broker;
pub mod database;
pub mod http;
mod messages;
mod process;
pub mod promtool;
pub mod python;
pub mod relay;
pub mod services;
pub mod snapshot;
pub mod sse;
mod test_env;
pub mod tokens;
mod wait;

pub use broker::depth_of;
pub use database::connect;
pub use http::{get, metric_in, metric_value};
pub use messages::{event, header, header_bytes, header_of};
pub use process::{Launcher, Worker, output_text};
pub use services::{amqp_url, database_url, servers_are_private};
pub use test_env::TestEnv;
pub use wait::{POLL_INTERVAL, TIMEOUT, eventually};
