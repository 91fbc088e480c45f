//! A payload against the schema of its type: it is read as the type that a producer would have written.

use std::borrow::Cow;

use serde::Deserialize;

use super::event_type::EventType;
use super::payload::Payload;

/// Calls a function that is generic over the payload's type with the type that belongs to a kind.
macro_rules! with_type {
    ($kind:expr, $payload:expr, $function:ident) => {
        match $kind {
            $crate::event::EventType::ProcessingStarted => {
                $function::<$crate::event::payload::ProcessingStarted<'_>>($payload)
            }
            $crate::event::EventType::StageStarted => {
                $function::<$crate::event::payload::StageStarted<'_>>($payload)
            }
            $crate::event::EventType::StageCompleted => {
                $function::<$crate::event::payload::StageCompleted<'_>>($payload)
            }
            $crate::event::EventType::EnrichmentProgress => {
                $function::<$crate::event::payload::EnrichmentProgress<'_>>($payload)
            }
            $crate::event::EventType::RiskAlert => {
                $function::<$crate::event::payload::RiskAlert<'_>>($payload)
            }
            $crate::event::EventType::WorkflowPaused => {
                $function::<$crate::event::payload::WorkflowPaused<'_>>($payload)
            }
            $crate::event::EventType::WorkflowResumed => {
                $function::<$crate::event::payload::WorkflowResumed<'_>>($payload)
            }
            $crate::event::EventType::Error => $function::<$crate::event::payload::ErrorRaised<'_>>($payload),
            $crate::event::EventType::ComponentMatched => {
                $function::<$crate::event::payload::ComponentMatched<'_>>($payload)
            }
            $crate::event::EventType::ApiCallMade => {
                $function::<$crate::event::payload::ApiCallMade<'_>>($payload)
            }
            $crate::event::EventType::CacheHit => $function::<$crate::event::payload::CacheHit<'_>>($payload),
            $crate::event::EventType::CacheMiss => {
                $function::<$crate::event::payload::CacheMiss<'_>>($payload)
            }
        }
    };
}
pub(super) use with_type;

/// Checks a received payload against the schema of its type.
///
/// # Errors
/// One line for a person, which names the field and never quotes the payload.
pub fn check(kind: EventType, payload: &str) -> Result<(), String> {
    fn read<'a, T: Deserialize<'a>>(payload: &'a str) -> Result<(), String> {
        match serde_json::from_str::<T>(payload) {
            Ok(_) => Ok(()),
            Err(_) => Err(explain::<T>(payload)),
        }
    }
    with_type!(kind, payload, read)
}

/// The key under which an event is published whose producer names none: that of its type, read from the payload
/// where it says more; for a type that the contract does not know, its words under `cns.`
#[must_use]
pub fn routing_key(event_type: &str, payload: &str) -> Cow<'static, str> {
    fn read<'a, T: Deserialize<'a> + Payload>(payload: &'a str) -> Option<Cow<'static, str>> {
        serde_json::from_str::<T>(payload).ok().map(|payload| payload.routing_key())
    }
    EventType::from_name(event_type)
        .and_then(|kind| with_type!(kind, payload, read))
        .unwrap_or_else(|| Cow::Owned(format!("cns.{}", event_type.replace('_', "."))))
}

/// Reads the payload once more to say which field is wrong; only a failed check comes here.
fn explain<'a, T: Deserialize<'a>>(payload: &'a str) -> String {
    let mut reader = serde_json::Deserializer::from_str(payload);
    let Err(error) = serde_path_to_error::deserialize::<_, T>(&mut reader) else {
        return "does not match its schema".to_owned();
    };
    let path = match error.path().to_string() {
        path if path == "." => "payload".to_owned(),
        path => format!("payload.{path}"),
    };
    let message = error.inner().to_string();
    // serde writes the offending value before ", expected": what stands after it comes from the schema alone.
    let message = match message.rsplit_once(", expected ") {
        Some((_, expected)) => format!("expected {expected}"),
        None => message,
    };
    let message = message.split(" at line ").next().unwrap_or_default();
    format!("{path}: {message}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_the_contract_names_and_more() {
        let payload =
            r#"{"mpn":"LM358","status":"no_match","confidence":0.5,"supplier":null,"extra":[1,{"a":2}]}"#;
        assert_eq!(check(EventType::EnrichmentProgress, payload), Ok(()));
    }

    #[test]
    fn names_the_field_and_never_the_value() {
        let missing = check(EventType::EnrichmentProgress, r#"{"status":"matched"}"#).unwrap_err();
        assert_eq!(missing, "payload: missing field `mpn`");
        let range = check(EventType::RiskAlert, r#"{"component_id":"c","risk_score":120,"severity":"high"}"#)
            .unwrap_err();
        assert_eq!(range, "payload.risk_score: not within 0-100");
        let wrong = check(EventType::StageStarted, r#"{"stage":{"secret":1}}"#).unwrap_err();
        assert_eq!(wrong, "payload.stage: expected a string");
        let word = check(EventType::EnrichmentProgress, r#"{"mpn":"x","status":"hunter2"}"#).unwrap_err();
        assert!(!word.contains("hunter2"), "{word}");
    }

    #[test]
    fn every_type_has_a_key() {
        let alert = r#"{"component_id":"c","risk_score":91,"severity":"critical"}"#;
        assert_eq!(routing_key("risk_alert", alert), "cns.risk.alert.critical");
        assert_eq!(routing_key("risk_alert", "{}"), "cns.risk.alert");
        assert_eq!(routing_key("price_changed", "{}"), "cns.price.changed");
    }

    #[test]
    fn a_deep_extra_field_is_no_violation() {
        let deep = format!(r#"{{"stage":"x","deep":{}1{}}}"#, "[".repeat(500), "]".repeat(500));
        assert_eq!(check(EventType::StageStarted, &deep), Ok(()));
    }
}
