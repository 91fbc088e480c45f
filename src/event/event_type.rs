//! The table of the known event types (section 3 of the contract).
//!
//! Names, routing keys, priorities, payload types, JSON Schemas and documents follow from this one table.

use std::borrow::Cow;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::payload;

/// Priority of a message whose type is not in the table.
pub const DEFAULT_PRIORITY: u8 = 5;

/// A payload that a producer publishes: the payload of one known event type.
pub trait Payload: Serialize {
    /// Returns the event type of this payload.
    fn event_type(&self) -> EventType;

    /// Returns the routing key for this payload.
    fn routing_key(&self) -> Cow<'static, str>;
}

impl<P: Payload> Payload for &P {
    fn event_type(&self) -> EventType {
        (**self).event_type()
    }

    fn routing_key(&self) -> Cow<'static, str> {
        (**self).routing_key()
    }
}

/// A function that is generic over the payload type, for [`EventType::with_payload_type`].
pub(super) trait PayloadFunction<'a> {
    /// The function's result.
    type Output;

    /// Runs the function for one payload type.
    fn call<T: Payload + Deserialize<'a> + JsonSchema>(self) -> Self::Output;
}

/// Defines [`EventType`] and implements [`Payload`], from one row for each type: name, routing key (with the payload's field
/// that fills its parameter), priority (with another one for routing keys that end differently), payload type.
macro_rules! event_types {
    ($(
        $(#[$doc:meta])*
        $Variant:ident, $name:literal, $key:literal $((filled with $field:ident))?,
        $priority:literal $((or $other:literal if the key ends with $ending:literal))?, $Payload:ident;
    )+) => {
        /// A known event type.
        ///
        /// Events of other types are stored as well. They have no payload schema, and metrics count them as `other`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum EventType {
            $($(#[$doc])* $Variant),+
        }

        impl EventType {
            /// Every known type, in the order of the contract's table. The order is part of the stored format: append only.
            pub const ALL: [EventType; [$($name),+].len()] = [$(EventType::$Variant),+];

            /// Returns the value of `event_type`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(EventType::$Variant => $name),+
                }
            }

            /// Returns the known type with this name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<EventType> {
                match name {
                    $($name => Some(EventType::$Variant),)+
                    _ => None,
                }
            }

            /// Returns the routing key; a field of the payload fills its parameter in braces.
            #[must_use]
            pub const fn key_pattern(self) -> &'static str {
                match self {
                    $(EventType::$Variant => $key),+
                }
            }

            /// Returns the AMQP priority, 0-9. The routing key of a risk alert holds its severity.
            #[must_use]
            pub fn priority(self, routing_key: &str) -> u8 {
                match self {
                    $($(EventType::$Variant if routing_key.ends_with($ending) => $other,)?
                    EventType::$Variant => $priority,)+
                }
            }

            /// Calls a function with the payload type of this event type.
            pub(super) fn with_payload_type<'a, F: PayloadFunction<'a>>(self, function: F) -> F::Output {
                match self {
                    $(EventType::$Variant => function.call::<payload::$Payload<'a>>()),+
                }
            }
        }

        $(impl Payload for payload::$Payload<'_> {
            fn event_type(&self) -> EventType {
                EventType::$Variant
            }

            fn routing_key(&self) -> Cow<'static, str> {
                $(return fill($key, self.$field.as_ref());)?
                #[allow(unreachable_code)] // a pattern without parameter is the key itself
                Cow::Borrowed($key)
            }
        })+
    };
}

event_types! {
    /// A workflow started to process a BOM.
    ProcessingStarted, "processing_started", "cns.processing.started", 7, ProcessingStarted;
    /// A stage of the workflow started.
    StageStarted, "stage_started", "cns.stage.{stage}.started" (filled with stage), 6, StageStarted;
    /// A stage of the workflow completed.
    StageCompleted, "stage_completed", "cns.stage.{stage}.completed" (filled with stage), 6, StageCompleted;
    /// The enrichment of one line of the BOM ended.
    EnrichmentProgress, "enrichment_progress", "cns.enrichment.progress", 4, EnrichmentProgress;
    /// A component has a risk that a person should look at.
    RiskAlert, "risk_alert", "cns.risk.alert.{severity}" (filled with severity),
        7 (or 8 if the key ends with ".critical"), RiskAlert;
    /// A user paused the workflow.
    WorkflowPaused, "workflow_paused", "cns.workflow.paused", 9, WorkflowPaused;
    /// A user resumed the workflow.
    WorkflowResumed, "workflow_resumed", "cns.workflow.resumed", 9, WorkflowResumed;
    /// A part of the workflow failed.
    Error, "error", "cns.error", 8, ErrorRaised;
    /// A component was matched with a supplier's part.
    ComponentMatched, "component_matched", "cns.component.matched", 4, ComponentMatched;
    /// A supplier's API was called.
    ApiCallMade, "api_call_made", "cns.api.call", 3, ApiCallMade;
    /// A lookup was answered from the cache.
    CacheHit, "cache_hit", "cns.cache.hit", 2, CacheHit;
    /// A lookup was not in the cache.
    CacheMiss, "cache_miss", "cns.cache.miss", 2, CacheMiss;
}

/// Replaces the parameter of a routing key's pattern.
fn fill(pattern: &str, value: &str) -> Cow<'static, str> {
    let (before, parameter) = pattern.split_once('{').unwrap_or((pattern, ""));
    let after = parameter.split_once('}').map_or("", |(_, after)| after);
    Cow::Owned(format!("{before}{value}{after}"))
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::super::payload::{RiskAlert, RiskScore, Severity, StageStarted};
    use super::*;

    #[test]
    fn names_are_unique_and_lead_back() {
        for event_type in EventType::ALL {
            assert_eq!(EventType::from_name(event_type.name()), Some(event_type));
        }
        assert_eq!(EventType::from_name("Processing_Started"), None);
    }

    #[test]
    fn the_order_of_the_types_never_changes() {
        let names = EventType::ALL.map(EventType::name);
        let contract = [
            "processing_started",
            "stage_started",
            "stage_completed",
            "enrichment_progress",
            "risk_alert",
            "workflow_paused",
            "workflow_resumed",
            "error",
            "component_matched",
            "api_call_made",
            "cache_hit",
            "cache_miss",
        ];
        assert_eq!(names, contract);
        assert!(EventType::ALL.iter().enumerate().all(|(bit, event_type)| *event_type as usize == bit));
    }

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
        assert_eq!(alert.event_type().priority(&alert.routing_key()), 8);
        assert_eq!(EventType::RiskAlert.priority("cns.risk.alert.high"), 7);
        assert_eq!(RiskScore::try_from(60.0).unwrap().severity(), Severity::High);
        assert_eq!(RiskScore::try_from(59.9).unwrap().severity(), Severity::Medium);
        let stage = StageStarted { stage: "risk_analysis".into() };
        assert_eq!(stage.routing_key(), "cns.stage.risk_analysis.started");
        assert_eq!(EventType::WorkflowPaused.priority("cns.workflow.paused"), 9);
    }
}
