//! The read API over HTTP: sections 9 and 12 of the contract.
//!
//! A request passes through: connection ([`crate::http`]) → request id, deadline and metrics (`request`) → token, rate limit and
//! the tenant that support staff names (`auth`, `caller`) → query (`routes`) → concurrency limits of the tenant (`tenant_limits`) → database, whose row-level security decides
//! which rows are visible ([`crate::store::read`]). A process keeps no state between requests except the counts of its rate
//! limiter, so that any number of replicas can run behind a load balancer.

mod auth;
mod background;
mod caller;
mod event;
mod issue;
mod keys;
mod openapi;
mod problem;
mod request;
mod router;
mod routes;
mod service;
mod signature;
mod tenant_limits;
mod token;
mod token_error;

pub use background::{housekeeping, watch_database};
pub use caller::Caller;
pub use issue::{Holder, NoSecret, sign};
pub use keys::{KeyError, Keys};
pub use problem::{Problem, ProblemType};
pub use router::{document, router};
pub use service::Api;
pub use token::Tokens;
pub use token_error::TokenError;
