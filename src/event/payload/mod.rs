//! Payload types of the known events (section 3 of the contract).
//!
//! A producer serializes one of these into the `payload` of an event. The worker checks the payload of a received event by
//! deserializing the type of its event type. The types define the named fields; further fields are allowed, and stored
//! unchanged.

mod values;

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub use values::{Confidence, MatchStatus, Milliseconds, Object, RiskScore, Severity};

/// `processing_started`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ProcessingStarted<'a> {
    /// Number of lines of the BOM.
    pub total_items: u64,
    /// Origin of the BOM, as a text for people.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Cow<'a, str>>,
}

/// `stage_started`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct StageStarted<'a> {
    /// Name of the stage: `parsing`, `enrichment`, `risk_analysis` or another word.
    #[serde(borrow)]
    pub stage: Cow<'a, str>,
}

/// `stage_completed`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct StageCompleted<'a> {
    /// Name of the stage, as in [`StageStarted`].
    #[serde(borrow)]
    pub stage: Cow<'a, str>,
    /// Duration of the stage, in milliseconds.
    pub duration_ms: Milliseconds,
    /// Measurements of the stage.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Object<'a>>,
}

/// `enrichment_progress`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct EnrichmentProgress<'a> {
    /// Manufacturer's part number, as in the BOM.
    #[serde(borrow)]
    pub mpn: Cow<'a, str>,
    /// Result of the lookup.
    pub status: MatchStatus,
    /// Confidence of the match, 0-1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<Confidence>,
    /// Supplier that answered.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub supplier: Option<Cow<'a, str>>,
    /// Details of the match.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub match_details: Option<Object<'a>>,
}

/// `risk_alert`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RiskAlert<'a> {
    /// Component at risk.
    #[serde(borrow)]
    pub component_id: Cow<'a, str>,
    /// Risk score, 0-100.
    pub risk_score: RiskScore,
    /// Severity; see [`RiskScore::severity`] for its default.
    pub severity: Severity,
    /// Factors of the score.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Value>")]
    pub risk_factors: Option<Cow<'a, RawValue>>,
}

/// `workflow_paused`; the envelope's `user_id` names the user who paused the workflow.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct WorkflowPaused<'a> {
    /// Reason that the user gave.
    #[serde(borrow)]
    pub reason: Cow<'a, str>,
}

/// `workflow_resumed`; the envelope's `user_id` names the user who resumed the workflow.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct WorkflowResumed<'a> {
    /// Reason that the user gave.
    #[serde(borrow)]
    pub reason: Cow<'a, str>,
}

/// `error`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ErrorRaised<'a> {
    /// Description of the error.
    #[serde(borrow)]
    pub error_message: Cow<'a, str>,
    /// Error code, for searches.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<Cow<'a, str>>,
    /// Further details of the error.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub error_details: Option<Object<'a>>,
}

/// `component_matched`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ComponentMatched<'a> {
    /// Part number, as in the BOM.
    #[serde(borrow)]
    pub mpn: Cow<'a, str>,
    /// Part number, as the supplier has it.
    #[serde(borrow)]
    pub matched_mpn: Cow<'a, str>,
    /// Manufacturer of the part.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub manufacturer: Option<Cow<'a, str>>,
    /// Confidence of the match, 0-1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<Confidence>,
    /// Supplier that answered.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub supplier: Option<Cow<'a, str>>,
}

/// `api_call_made`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ApiCallMade<'a> {
    /// Supplier whose API was called.
    #[serde(borrow)]
    pub supplier: Cow<'a, str>,
    /// Called endpoint.
    #[serde(borrow)]
    pub endpoint: Cow<'a, str>,
    /// HTTP status of the response.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_code: Option<u16>,
    /// Duration of the call, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<Milliseconds>,
}

/// `cache_hit`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CacheHit<'a> {
    /// Name of the cache.
    #[serde(borrow)]
    pub cache: Cow<'a, str>,
    /// Key that was looked up.
    #[serde(borrow)]
    pub key: Cow<'a, str>,
}

/// `cache_miss`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CacheMiss<'a> {
    /// Name of the cache.
    #[serde(borrow)]
    pub cache: Cow<'a, str>,
    /// Key that was looked up.
    #[serde(borrow)]
    pub key: Cow<'a, str>,
}
