//! Rules of decoding that the configuration sets.

use schemars::JsonSchema;
use serde::Deserialize;

/// Treatment of a payload that does not match the schema of its type (`validation.payload`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PayloadPolicy {
    /// Store the event and count the violation.
    #[default]
    Warn,
    /// Dead-letter the message as [`Reason::PayloadSchema`](super::Reason::PayloadSchema).
    Reject,
    /// Do not check payloads.
    Off,
}

/// Rules of decoding that the configuration sets.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Maximum size of a body, in bytes.
    pub max_message_bytes: usize,
    /// Treatment of a payload that does not match its schema.
    pub payload: PayloadPolicy,
}
