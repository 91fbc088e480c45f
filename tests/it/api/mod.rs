//! The read API: requests, limits, tokens and its OpenAPI document.

mod limits;
mod openapi;
mod problems;
pub mod requests;
mod stream;
mod stream_cursors;
pub mod summaries;
mod support;
mod tenant_summaries;
pub mod tenants;
mod workflow;
