//! The check of a payload against the schema of its event type: it is deserialized as the type that a producer writes.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::Deserialize;

use super::event_type::{EventType, Payload, PayloadFunction};

/// Checks a received payload against the schema of its type.
///
/// # Errors
/// One line for the operator, which names the field and never quotes the payload.
pub fn check(event_type: EventType, payload: &str) -> Result<(), String> {
    event_type.with_payload_type(Check(payload))
}

struct Check<'a>(&'a str);

impl<'a> PayloadFunction<'a> for Check<'a> {
    type Output = Result<(), String>;

    fn call<T: Payload + Deserialize<'a> + JsonSchema>(self) -> Self::Output {
        match serde_json::from_str::<T>(self.0) {
            Ok(_) => Ok(()),
            Err(_) => Err(explain::<T>(self.0)),
        }
    }
}

/// Returns the routing key for an event whose producer names none: the key of its type, filled from the payload. For an
/// unknown type it is the type's name, with dots in place of underscores, behind `cns.`.
#[must_use]
pub fn routing_key(event_type: &str, payload: &str) -> Cow<'static, str> {
    let known = EventType::from_name(event_type);
    if let Some(key) = known.map(EventType::key_pattern).filter(|pattern| !pattern.contains('{')) {
        return Cow::Borrowed(key);
    }
    known
        .and_then(|known| known.with_payload_type(RoutingKey(payload)))
        .unwrap_or_else(|| Cow::Owned(format!("cns.{}", event_type.replace('_', "."))))
}

struct RoutingKey<'a>(&'a str);

impl<'a> PayloadFunction<'a> for RoutingKey<'a> {
    type Output = Option<Cow<'static, str>>;

    fn call<T: Payload + Deserialize<'a> + JsonSchema>(self) -> Self::Output {
        serde_json::from_str::<T>(self.0).ok().map(|payload| payload.routing_key())
    }
}

/// Returns the line about a failed check. Deserializes the payload once more to find the field.
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
    // serde writes the offending value before ", expected": the text behind it comes from the schema alone. A test of this
    // file fails if serde changes its messages.
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
    fn named_and_further_fields_are_accepted() {
        let payload =
            r#"{"mpn":"LM358","status":"no_match","confidence":0.5,"supplier":null,"extra":[1,{"a":2}]}"#;
        assert_eq!(check(EventType::EnrichmentProgress, payload), Ok(()));
    }

    #[test]
    fn a_violation_names_the_field_and_never_the_value() {
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
    fn every_type_has_a_routing_key() {
        let alert = r#"{"component_id":"c","risk_score":91,"severity":"critical"}"#;
        assert_eq!(routing_key("risk_alert", alert), "cns.risk.alert.critical");
        assert_eq!(routing_key("risk_alert", "{}"), "cns.risk.alert");
        assert_eq!(routing_key("price_changed", "{}"), "cns.price.changed");
    }

    #[test]
    fn a_deeply_nested_further_field_is_accepted() {
        let deep = format!(r#"{{"stage":"x","deep":{}1{}}}"#, "[".repeat(500), "]".repeat(500));
        assert_eq!(check(EventType::StageStarted, &deep), Ok(()));
    }
}
