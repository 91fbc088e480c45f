//! What an event says, in words.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::output;
use crate::event::EventType;
use crate::store::read::StoredEvent;

/// Characters of one value that is shown, and of a whole line.
const VALUE_CHARS: usize = 60;
const LINE_CHARS: usize = 160;

/// Whether an event is about a single line of its BOM: there are as many of those as lines.
pub(super) fn is_about_a_line(event: &StoredEvent) -> bool {
    matches!(
        EventType::from_name(&event.event_type),
        Some(
            EventType::EnrichmentProgress
                | EventType::ComponentMatched
                | EventType::ApiCallMade
                | EventType::CacheHit
                | EventType::CacheMiss
        )
    )
}

/// What happened, in one line. What somebody else chose is shown without what a terminal would act on.
pub(super) fn of(event: &StoredEvent) -> String {
    let fields = Fields::of(&event.payload);
    let words = match EventType::from_name(&event.event_type) {
        Some(kind) => known(kind, &fields),
        None => fields.all(),
    };
    shortened(&output::safe(&words), LINE_CHARS)
}

fn known(kind: EventType, fields: &Fields<'_>) -> String {
    let text = |name| fields.text(name).unwrap_or_else(|| "?".to_owned());
    let with =
        |words: &str, name| fields.text(name).map(|value| format!("{words}{value}")).unwrap_or_default();
    match kind {
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

/// The fields of a JSON object, each as its text.
pub(super) struct Fields<'a>(BTreeMap<String, &'a RawValue>);

impl<'a> Fields<'a> {
    pub(super) fn of(object: &'a RawValue) -> Self {
        Fields(serde_json::from_str(object.get()).unwrap_or_default())
    }

    /// A text as it is, a number or a truth as it is written; nothing for `null`, a list or an object.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        let raw = self.0.get(name)?.get();
        match raw.as_bytes().first()? {
            b'"' => serde_json::from_str(raw).ok().map(|text: String| shortened(&text, VALUE_CHARS * 2)),
            b'{' | b'[' | b'n' => None,
            _ => Some(shortened(raw, VALUE_CHARS)),
        }
    }

    fn number(&self, name: &str) -> Option<f64> {
        serde_json::from_str(self.0.get(name)?.get()).ok()
    }

    /// A whole number, 0 or more.
    pub(super) fn count(&self, name: &str) -> Option<u64> {
        self.number(name).filter(|number| *number >= 0.0).map(|number| number as u64)
    }

    fn inner(&self, name: &str) -> Option<Fields<'a>> {
        let fields = Fields::of(self.0.get(name)?);
        (!fields.0.is_empty()).then_some(fields)
    }

    /// The field `duration_ms`, where it is one that can be.
    pub(super) fn milliseconds(&self) -> Option<f64> {
        const YEAR: f64 = 366.0 * 86_400_000.0;
        self.number("duration_ms").filter(|milliseconds| (0.0..YEAR).contains(milliseconds))
    }

    /// The same, as people write it.
    fn duration(&self) -> String {
        self.milliseconds().map_or_else(|| "?".to_owned(), duration)
    }

    /// Every field that has a short text, as `name value`.
    fn all(&self) -> String {
        let shown = self.0.keys().filter_map(|name| Some((name, self.text(name)?)));
        let shown: Vec<String> =
            shown.map(|(name, value)| format!("{} {value}", name.replace('_', " "))).collect();
        shown.join(", ")
    }
}

/// Milliseconds, as people write them.
pub(super) fn duration(milliseconds: f64) -> String {
    match milliseconds {
        short if short < 1000.0 => format!("{short:.0} ms"),
        short if short < 60_000.0 => format!("{:.1} s", short / 1000.0),
        long => {
            let seconds = std::time::Duration::try_from_secs_f64((long / 1000.0).round()).unwrap_or_default();
            humantime::format_duration(seconds).to_string()
        }
    }
}

fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(event_type: &str, payload: &str) -> StoredEvent {
        StoredEvent::example(0, event_type, payload, "{}")
    }

    #[test]
    fn every_kind_has_words_and_no_json() {
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
            assert_eq!(of(&event(kind.name(), payload)), words);
        }
    }

    #[test]
    fn an_unknown_type_shows_its_fields() {
        let words =
            of(&event("label_printed", r#"{"printer_name":"zebra","copies":2,"deep":{"a":1},"none":null}"#));
        assert_eq!(words, "copies 2, printer name zebra");
    }

    #[test]
    fn what_is_missing_strange_or_dangerous_is_shown_all_the_same() {
        assert_eq!(of(&event("error", "{}")), "?");
        assert_eq!(of(&event("error", r#"{"error_message":"\u001b[2Jgone"}"#)), "\u{fffd}[2Jgone");
        let deep = format!(r#"{{"a":{}{},"error_message":"deep"}}"#, "[".repeat(500), "]".repeat(500));
        assert_eq!(of(&event("error", &deep)), "deep");
        assert!(of(&event("error", &format!(r#"{{"error_message":"{}"}}"#, "x".repeat(9999)))).len() < 200);
        assert_eq!(
            of(&event("stage_completed", r#"{"stage":"x","duration_ms":1e300}"#)).split(' ').count(),
            3
        );
    }

    #[test]
    fn durations_read_well() {
        assert_eq!(duration(12.4), "12 ms");
        assert_eq!(duration(4_200.0), "4.2 s");
        assert_eq!(duration(3_723_000.0), "1h 2m 3s");
    }
}
