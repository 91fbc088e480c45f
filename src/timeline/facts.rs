//! Facts that single events state, for summaries.

use super::event::Event;
use super::fields::Fields;
use super::text::cut;
use crate::event::EventType;

/// Characters of a stage's name in summaries.
const STAGE_CHARS: usize = 100;

/// Characters of a part number in summaries.
const PART_CHARS: usize = 255;

/// Returns the stage that an event completes and its duration in milliseconds; `None` where the event states no number of 0 or more.
#[must_use]
pub fn stage_time(event: &Event<'_>) -> Option<(String, f64)> {
    if EventType::from_name(event.event_type) != Some(EventType::StageCompleted) {
        return None;
    }
    let payload = Fields::of(event.payload);
    let duration = payload.number("duration_ms").filter(|milliseconds| *milliseconds >= 0.0)?;
    Some((payload.whole_text("stage", STAGE_CHARS)?, duration))
}

/// Returns the manufacturer's part number that an event is about.
#[must_use]
pub fn part_number(event: &Event<'_>) -> Option<String> {
    match EventType::from_name(event.event_type)? {
        EventType::EnrichmentProgress | EventType::ComponentMatched => {
            Fields::of(event.payload).whole_text("mpn", PART_CHARS)
        }
        _ => None,
    }
}

/// Cuts a part number as [`part_number`] does, to look for it.
#[must_use]
pub fn part_number_to_find(text: &str) -> String {
    cut(text, PART_CHARS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with<T>(event_type: &str, payload: &str, read: impl Fn(&Event<'_>) -> T) -> T {
        let raw = |text: &str| serde_json::value::RawValue::from_string(text.to_owned()).unwrap();
        read(&Event {
            id: uuid::Uuid::nil(),
            event_type,
            bom_id: uuid::Uuid::nil(),
            workflow_id: None,
            organization_id: None,
            created_at: chrono::DateTime::UNIX_EPOCH,
            state: &raw("{}"),
            payload: &raw(payload),
        })
    }

    #[test]
    fn a_stage_time_is_a_number_of_0_or_more() {
        let time = |payload: &str| with("stage_completed", payload, stage_time);
        assert_eq!(time(r#"{"stage":"parsing","duration_ms":12.5}"#), Some(("parsing".to_owned(), 12.5)));
        assert_eq!(time(r#"{"stage":"parsing","duration_ms":0}"#), Some(("parsing".to_owned(), 0.0)));
        for odd in ["-1", "\"12\"", "null", "1e999", "[1]", "true"] {
            assert_eq!(time(&format!(r#"{{"stage":"parsing","duration_ms":{odd}}}"#)), None, "{odd}");
        }
        assert_eq!(time(r#"{"duration_ms":1}"#), None);
        let long = format!(r#"{{"stage":"{}","duration_ms":1}}"#, "ü".repeat(200));
        assert_eq!(time(&long).unwrap().0.chars().count(), 100);
        assert_eq!(with("stage_started", r#"{"stage":"parsing","duration_ms":1}"#, stage_time), None);
    }

    #[test]
    fn a_part_number_is_that_of_the_customer() {
        let part = |event_type: &str| with(event_type, r#"{"mpn":"LM358","matched_mpn":"X"}"#, part_number);
        assert_eq!(part("component_matched").as_deref(), Some("LM358"));
        assert_eq!(part("enrichment_progress").as_deref(), Some("LM358"));
        assert_eq!(part("risk_alert"), None);
    }
}
