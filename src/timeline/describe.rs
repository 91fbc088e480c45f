//! One line of text for each event.

use super::event::Event;
use super::fields::Fields;
use super::text::shortened;
use crate::event::EventType;

/// Characters of a whole line.
const LINE_CHARS: usize = 160;

/// Returns whether an event is about a single line of its BOM: there are as many of those as the BOM has lines.
#[must_use]
pub fn is_line_item(event_type: &str) -> bool {
    matches!(
        EventType::from_name(event_type),
        Some(
            EventType::EnrichmentProgress
                | EventType::ComponentMatched
                | EventType::ApiCallMade
                | EventType::CacheHit
                | EventType::CacheMiss
        )
    )
}

/// Describes an event in one line. The text holds what producers chose: a terminal needs it escaped.
#[must_use]
pub fn describe(event: &Event<'_>) -> String {
    let fields = Fields::of(event.payload);
    let text = match EventType::from_name(event.event_type) {
        Some(event_type) => describe_known(event_type, &fields),
        None => fields.all(),
    };
    shortened(&text, LINE_CHARS)
}

fn describe_known(event_type: EventType, fields: &Fields<'_>) -> String {
    let text = |name| fields.text(name).unwrap_or_else(|| "?".to_owned());
    let with =
        |before: &str, name| fields.text(name).map(|value| format!("{before}{value}")).unwrap_or_default();
    match event_type {
        EventType::ProcessingStarted => {
            fields.text("message").unwrap_or_else(|| format!("{} items to process", text("total_items")))
        }
        EventType::StageStarted => format!("{} began", text("stage")),
        EventType::StageCompleted => {
            let metrics =
                fields.inner("metrics").map(|metrics| format!(": {}", metrics.all())).unwrap_or_default();
            format!("{} took {}{metrics}", text("stage"), fields.duration())
        }
        EventType::EnrichmentProgress => {
            let status = text("status");
            let of = match status.as_str() {
                "no_match" => "no match".to_owned(),
                _ => status,
            };
            format!(
                "{}: {of}{}{}",
                text("mpn"),
                with(" at ", "supplier"),
                with(", confidence ", "confidence")
            )
        }
        EventType::RiskAlert => {
            format!("{} risk {} for {}", text("severity"), text("risk_score"), text("component_id"))
        }
        EventType::WorkflowPaused => format!("paused: {}", text("reason")),
        EventType::WorkflowResumed => format!("resumed: {}", text("reason")),
        EventType::Error => {
            let code = fields.text("error_code").map(|code| format!(" ({code})")).unwrap_or_default();
            format!("{}{code}", text("error_message"))
        }
        EventType::ComponentMatched => {
            format!("{} is {}{}", text("mpn"), text("matched_mpn"), with(" by ", "manufacturer"))
        }
        EventType::ApiCallMade => format!(
            "{} {}{} in {}",
            text("supplier"),
            text("endpoint"),
            with(" answered ", "status_code"),
            fields.duration()
        ),
        EventType::CacheHit => format!("{} in {}", text("key"), text("cache")),
        EventType::CacheMiss => format!("{} not in {}", text("key"), text("cache")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(event_type: &str, payload: &str) -> String {
        let payload = serde_json::value::RawValue::from_string(payload.to_owned()).unwrap();
        let state = serde_json::value::RawValue::from_string("{}".to_owned()).unwrap();
        describe(&Event {
            id: uuid::Uuid::nil(),
            event_type,
            bom_id: uuid::Uuid::nil(),
            workflow_id: None,
            organization_id: None,
            created_at: chrono::DateTime::UNIX_EPOCH,
            state: &state,
            payload: &payload,
        })
    }

    #[test]
    fn every_type_has_a_line_without_json() {
        let payload = r#"{"total_items":66,"stage":"parsing","duration_ms":4200,"metrics":{"lines":66},"mpn":"LM358",
            "status":"no_match","severity":"high","risk_score":71.5,"component_id":"C1","reason":"quota",
            "error_message":"it broke","error_code":"E1","matched_mpn":"LM358DR","supplier":"DigiKey","endpoint":"/parts",
            "status_code":200,"cache":"parts","key":"k"}"#;
        let expected = [
            "66 items to process",
            "parsing began",
            "parsing took 4.2 s: lines 66",
            "LM358: no match at DigiKey",
            "high risk 71.5 for C1",
            "paused: quota",
            "resumed: quota",
            "it broke (E1)",
            "LM358 is LM358DR",
            "DigiKey /parts answered 200 in 4.2 s",
            "k in parts",
            "k not in parts",
        ];
        for (kind, words) in EventType::ALL.into_iter().zip(expected) {
            assert_eq!(line(kind.name(), payload), words);
        }
    }

    #[test]
    fn an_unknown_type_shows_its_fields() {
        let words =
            line("label_printed", r#"{"printer_name":"zebra","copies":2,"deep":{"a":1},"none":null}"#);
        assert_eq!(words, "copies 2, printer name zebra");
    }

    #[test]
    fn odd_payloads_have_a_line_too() {
        assert_eq!(line("error", "{}"), "?");
        assert_eq!(
            line("error", r#"{"error_message":"\u001b[2Jgone"}"#),
            "\u{1b}[2Jgone",
            "the terminal's escaping is the command line's"
        );
        let deep = format!(r#"{{"a":{}{},"error_message":"deep"}}"#, "[".repeat(500), "]".repeat(500));
        assert_eq!(line("error", &deep), "deep");
        assert!(line("error", &format!(r#"{{"error_message":"{}"}}"#, "x".repeat(9999))).len() < 200);
        assert_eq!(line("stage_completed", r#"{"stage":"x","duration_ms":1e300}"#).split(' ').count(), 3);
    }
}
