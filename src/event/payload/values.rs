//! Values that payloads are made of, each with its limits.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Implements the JSON Schema of a type that validates itself.
macro_rules! json_schema_of {
    ($name:ty, $title:literal, $schema:tt) => {
        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                Cow::Borrowed($title)
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!($schema)
            }
        }
    };
}

/// Defines a number within limits.
macro_rules! number {
    ($(#[$doc:meta])* $Name:ident, $title:literal, $limits:expr, $problem:literal, $schema:tt) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
        #[serde(try_from = "f64")]
        pub struct $Name(f64);

        json_schema_of!($Name, $title, $schema);

        impl $Name {
            /// Returns a value without checking its limits. The publisher finds and reports a value outside them when it
            /// writes the event.
            #[must_use]
            pub const fn unchecked(value: f64) -> Self {
                $Name(value)
            }
        }

        impl TryFrom<f64> for $Name {
            type Error = &'static str;

            fn try_from(value: f64) -> Result<Self, Self::Error> {
                if $limits.contains(&value) { Ok($Name(value)) } else { Err($problem) }
            }
        }
    };
}

number! {
    /// A risk score, 0 to 100.
    RiskScore, "RiskScore", (0.0..=100.0), "not within 0-100", { "type": "number", "minimum": 0, "maximum": 100 }
}

number! {
    /// Confidence of a match, 0 to 1.
    Confidence, "Confidence", (0.0..=1.0), "not within 0-1", { "type": "number", "minimum": 0, "maximum": 1 }
}

number! {
    /// A duration in milliseconds, 0 or more.
    Milliseconds, "Milliseconds", (0.0..), "negative", { "type": "number", "minimum": 0 }
}

impl RiskScore {
    /// Returns the severity of a score for which none is given: critical from 80, high from 60, else medium.
    #[must_use]
    pub fn severity(self) -> Severity {
        match self.0 {
            score if score >= 80.0 => Severity::Critical,
            score if score >= 60.0 => Severity::High,
            _ => Severity::Medium,
        }
    }
}

/// The severity of a risk alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Score below 60.
    Medium,
    /// Score from 60 to below 80.
    High,
    /// Score from 80.
    Critical,
}

impl AsRef<str> for Severity {
    fn as_ref(&self) -> &str {
        match self {
            Severity::Medium => "medium",
            Severity::High => "high",
            Severity::Critical => "critical",
        }
    }
}

/// The result of the enrichment of one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MatchStatus {
    /// A supplier has the part.
    Matched,
    /// No supplier has the part.
    NoMatch,
    /// The cache had the result.
    Cached,
    /// The lookup failed.
    Error,
}

/// A JSON object, kept as its text.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "&'_ RawValue", bound(deserialize = "'de: 'a"))]
pub struct Object<'a>(Cow<'a, RawValue>);

json_schema_of!(Object<'_>, "Object", { "type": "object" });

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
    /// Fails if `value` cannot be serialized, or is not an object.
    pub fn from_value<T: Serialize>(value: &T) -> Result<Object<'static>, serde_json::Error> {
        let raw = serde_json::value::to_raw_value(value)?;
        if raw.get().starts_with('{') {
            Ok(Object(Cow::Owned(raw)))
        } else {
            Err(serde::ser::Error::custom("not an object"))
        }
    }
}
