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

/// Maximum length of a document when it is read back, in units of the maximum body.
const MAX_TEXT_FACTOR: usize = 4;

impl Rules {
    /// Returns the maximum length of `state` or `payload` when `PostgreSQL` returns it, in bytes (section 2 of the contract).
    #[must_use]
    pub fn max_text_bytes(&self) -> usize {
        self.max_message_bytes.saturating_mul(MAX_TEXT_FACTOR)
    }
}
