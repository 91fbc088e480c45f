//! Payload types of the known events (section 3 of the contract).
//!
//! The same types serve both ways: a producer serializes one into the `payload` of an event, and the worker
//! checks a received payload by reading it as one (see [`super::schema`]). They fix the named fields; more fields are welcome and are
//! stored untouched.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::event_type::EventType;

/// What a producer hands over: the payload of one known event, which knows where it is published.
pub trait Payload: Serialize {
    /// The event type this payload belongs to.
    fn kind(&self) -> EventType;
    /// The key it is published under.
    fn routing_key(&self) -> Cow<'static, str>;
}

/// The JSON Schema of a type that is read by hand.
macro_rules! schema_of {
    ($name:ty, $word:literal, $schema:tt) => {
        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                Cow::Borrowed($word)
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

impl<P: Payload> Payload for &P {
    fn kind(&self) -> EventType {
        (**self).kind()
    }
    fn routing_key(&self) -> Cow<'static, str> {
        (**self).routing_key()
    }
}

macro_rules! payload {
    ($name:ident, $kind:ident, $key:literal) => {
        impl Payload for $name<'_> {
            fn kind(&self) -> EventType {
                EventType::$kind
            }
            fn routing_key(&self) -> Cow<'static, str> {
                Cow::Borrowed($key)
            }
        }
    };
}

/// A JSON object, carried as it is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "&'_ RawValue", bound(deserialize = "'de: 'a"))]
pub struct Object<'a>(Cow<'a, RawValue>);

schema_of!(Object<'_>, "Object", { "type": "object" });

impl<'a> TryFrom<&'a RawValue> for Object<'a> {
    type Error = &'static str;

    fn try_from(raw: &'a RawValue) -> Result<Self, Self::Error> {
        if raw.get().starts_with('{') { Ok(Object(Cow::Borrowed(raw))) } else { Err("not an object") }
    }
}

impl Object<'_> {
    /// Serializes `value`.
    ///
    /// # Errors
    /// Where `value` cannot be serialized, or is no object.
    pub fn from_value<T: Serialize>(value: &T) -> Result<Object<'static>, serde_json::Error> {
        let raw = serde_json::value::to_raw_value(value)?;
        if raw.get().starts_with('{') {
            Ok(Object(Cow::Owned(raw)))
        } else {
            Err(serde::ser::Error::custom("not an object"))
        }
    }
}

/// A risk score, 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64")]
pub struct RiskScore(f64);

schema_of!(RiskScore, "RiskScore", { "type": "number", "minimum": 0, "maximum": 100 });

impl RiskScore {
    /// A value that nobody has checked: what breaks the schema is found when the event is written.
    #[must_use]
    pub const fn unchecked(value: f64) -> Self {
        RiskScore(value)
    }
}

impl TryFrom<f64> for RiskScore {
    type Error = &'static str;

    fn try_from(score: f64) -> Result<Self, Self::Error> {
        if (0.0..=100.0).contains(&score) { Ok(RiskScore(score)) } else { Err("not within 0-100") }
    }
}

impl RiskScore {
    /// The severity that a score stands for unless one is given: critical from 80, high from 60, else medium.
    #[must_use]
    pub fn severity(self) -> Severity {
        match self.0 {
            score if score >= 80.0 => Severity::Critical,
            score if score >= 60.0 => Severity::High,
            _ => Severity::Medium,
        }
    }
}

/// How sure a match is, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64")]
pub struct Confidence(f64);

schema_of!(Confidence, "Confidence", { "type": "number", "minimum": 0, "maximum": 1 });

impl Confidence {
    /// A value that nobody has checked: what breaks the schema is found when the event is written.
    #[must_use]
    pub const fn unchecked(value: f64) -> Self {
        Confidence(value)
    }
}

impl TryFrom<f64> for Confidence {
    type Error = &'static str;

    fn try_from(confidence: f64) -> Result<Self, Self::Error> {
        if (0.0..=1.0).contains(&confidence) { Ok(Confidence(confidence)) } else { Err("not within 0-1") }
    }
}

/// A length of time in milliseconds, not negative.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64")]
pub struct Milliseconds(f64);

schema_of!(Milliseconds, "Milliseconds", { "type": "number", "minimum": 0 });

impl Milliseconds {
    /// A value that nobody has checked: what breaks the schema is found when the event is written.
    #[must_use]
    pub const fn unchecked(value: f64) -> Self {
        Milliseconds(value)
    }
}

impl TryFrom<f64> for Milliseconds {
    type Error = &'static str;

    fn try_from(milliseconds: f64) -> Result<Self, Self::Error> {
        if milliseconds >= 0.0 { Ok(Milliseconds(milliseconds)) } else { Err("negative") }
    }
}

/// The severity of a risk alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Score 60 to below 80 is high, below 60 medium.
    Medium,
    /// See [`RiskScore::severity`].
    High,
    /// From 80.
    Critical,
}

/// How the enrichment of one line ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MatchStatus {
    /// A supplier knows the part.
    Matched,
    /// No supplier knows the part.
    NoMatch,
    /// Answered from the cache.
    Cached,
    /// The lookup failed.
    Error,
}

/// `processing_started`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ProcessingStarted<'a> {
    /// Lines of the BOM.
    pub total_items: u64,
    /// Where the BOM came from, for people.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Cow<'a, str>>,
}
payload!(ProcessingStarted, ProcessingStarted, "cns.processing.started");

/// `stage_started`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct StageStarted<'a> {
    /// `parsing`, `enrichment`, `risk_analysis` or another word.
    #[serde(borrow)]
    pub stage: Cow<'a, str>,
}

impl Payload for StageStarted<'_> {
    fn kind(&self) -> EventType {
        EventType::StageStarted
    }
    fn routing_key(&self) -> Cow<'static, str> {
        format!("cns.stage.{}.started", self.stage).into()
    }
}

/// `stage_completed`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct StageCompleted<'a> {
    /// The word that [`StageStarted`] used.
    #[serde(borrow)]
    pub stage: Cow<'a, str>,
    /// How long the stage took.
    pub duration_ms: Milliseconds,
    /// Figures of the stage.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Object<'a>>,
}

impl Payload for StageCompleted<'_> {
    fn kind(&self) -> EventType {
        EventType::StageCompleted
    }
    fn routing_key(&self) -> Cow<'static, str> {
        format!("cns.stage.{}.completed", self.stage).into()
    }
}

/// `enrichment_progress`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct EnrichmentProgress<'a> {
    /// The manufacturer's part number as the BOM has it.
    #[serde(borrow)]
    pub mpn: Cow<'a, str>,
    /// How the lookup ended.
    pub status: MatchStatus,
    /// How sure the match is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<Confidence>,
    /// Who answered.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub supplier: Option<Cow<'a, str>>,
    /// Details of the match.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub match_details: Option<Object<'a>>,
}
payload!(EnrichmentProgress, EnrichmentProgress, "cns.enrichment.progress");

/// `risk_alert`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RiskAlert<'a> {
    /// The component at risk.
    #[serde(borrow)]
    pub component_id: Cow<'a, str>,
    /// The score, 0-100.
    pub risk_score: RiskScore,
    /// Follows from the score unless given, see [`RiskScore::severity`].
    pub severity: Severity,
    /// What the score is made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<serde_json::Value>")]
    pub risk_factors: Option<Cow<'a, RawValue>>,
}

impl Payload for RiskAlert<'_> {
    fn kind(&self) -> EventType {
        EventType::RiskAlert
    }
    fn routing_key(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self.severity {
            Severity::Critical => "cns.risk.alert.critical",
            Severity::High => "cns.risk.alert.high",
            Severity::Medium => "cns.risk.alert.medium",
        })
    }
}

/// `workflow_paused`; who paused it stands in the envelope's `user_id`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct WorkflowPaused<'a> {
    /// Why.
    #[serde(borrow)]
    pub reason: Cow<'a, str>,
}
payload!(WorkflowPaused, WorkflowPaused, "cns.workflow.paused");

/// `workflow_resumed`; who resumed it stands in the envelope's `user_id`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct WorkflowResumed<'a> {
    /// Why.
    #[serde(borrow)]
    pub reason: Cow<'a, str>,
}
payload!(WorkflowResumed, WorkflowResumed, "cns.workflow.resumed");

/// `error`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ErrorRaised<'a> {
    /// What went wrong.
    #[serde(borrow)]
    pub error_message: Cow<'a, str>,
    /// A code to search for.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<Cow<'a, str>>,
    /// What else is known.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub error_details: Option<Object<'a>>,
}
payload!(ErrorRaised, Error, "cns.error");

/// `component_matched`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ComponentMatched<'a> {
    /// The part number as the BOM has it.
    #[serde(borrow)]
    pub mpn: Cow<'a, str>,
    /// The part number as the supplier has it.
    #[serde(borrow)]
    pub matched_mpn: Cow<'a, str>,
    /// Who makes it.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub manufacturer: Option<Cow<'a, str>>,
    /// How sure the match is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub confidence: Option<Confidence>,
    /// Who answered.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub supplier: Option<Cow<'a, str>>,
}
payload!(ComponentMatched, ComponentMatched, "cns.component.matched");

/// `api_call_made`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ApiCallMade<'a> {
    /// Whose API.
    #[serde(borrow)]
    pub supplier: Cow<'a, str>,
    /// Which call.
    #[serde(borrow)]
    pub endpoint: Cow<'a, str>,
    /// The HTTP status of the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_code: Option<u16>,
    /// How long the call took.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<Milliseconds>,
}
payload!(ApiCallMade, ApiCallMade, "cns.api.call");

/// `cache_hit`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CacheHit<'a> {
    /// Which cache.
    #[serde(borrow)]
    pub cache: Cow<'a, str>,
    /// Which key.
    #[serde(borrow)]
    pub key: Cow<'a, str>,
}
payload!(CacheHit, CacheHit, "cns.cache.hit");

/// `cache_miss`
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct CacheMiss<'a> {
    /// Which cache.
    #[serde(borrow)]
    pub cache: Cow<'a, str>,
    /// Which key.
    #[serde(borrow)]
    pub key: Cow<'a, str>,
}
payload!(CacheMiss, CacheMiss, "cns.cache.miss");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routing_keys_and_priorities_are_those_of_the_contract() {
        let score = RiskScore::try_from(80.0).unwrap();
        let alert = RiskAlert {
            component_id: "c".into(),
            risk_score: score,
            severity: score.severity(),
            risk_factors: None,
        };
        assert_eq!(alert.routing_key(), "cns.risk.alert.critical");
        assert_eq!(alert.kind().priority(&alert.routing_key()), 8);
        assert_eq!(RiskScore::try_from(60.0).unwrap().severity(), Severity::High);
        assert_eq!(RiskScore::try_from(59.9).unwrap().severity(), Severity::Medium);
        let stage = StageStarted { stage: "risk_analysis".into() };
        assert_eq!(stage.routing_key(), "cns.stage.risk_analysis.started");
    }
}
