use proptest::prelude::*;
use serde_json::value::RawValue;

use super::*;

/// Event of a golden history: seconds, type, payload, state.
type Sample = (i64, &'static str, &'static str, &'static str);

#[derive(Debug)]
struct Stored {
    id: Uuid,
    event_type: String,
    created_at: DateTime<Utc>,
    payload: Box<RawValue>,
    state: Box<RawValue>,
}

impl Stored {
    fn new(number: usize, seconds: i64, event_type: &str, payload: &str, state: &str) -> Self {
        let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
        Stored {
            id: Uuid::from_u128(number as u128 + 1),
            event_type: event_type.to_owned(),
            created_at: DateTime::from_timestamp(1_767_225_600 + seconds, 0).unwrap(),
            payload: raw(payload),
            state: raw(state),
        }
    }

    fn event(&self) -> Event<'_> {
        Event {
            id: self.id,
            event_type: &self.event_type,
            bom_id: Uuid::from_u128(7),
            workflow_id: Some("w-1"),
            organization_id: Some("org-1"),
            created_at: self.created_at,
            state: &self.state,
            payload: &self.payload,
        }
    }
}

fn history(samples: &[Sample]) -> Vec<Stored> {
    let stored =
        |(number, sample): (usize, &Sample)| Stored::new(number, sample.0, sample.1, sample.2, sample.3);
    samples.iter().enumerate().map(stored).collect()
}

fn fold<'a>(events: impl IntoIterator<Item = &'a Stored>) -> Run {
    let mut run = Run::default();
    events.into_iter().for_each(|stored| run.add(&stored.event()));
    run
}

fn summary(samples: &[Sample]) -> Summary {
    fold(&history(samples)).summary().unwrap()
}

const WHOLE: &[Sample] = &[
    (0, "processing_started", r#"{"total_items":4}"#, "{}"),
    (1, "stage_started", r#"{"stage":"parsing"}"#, "{}"),
    (3, "stage_completed", r#"{"stage":"parsing","duration_ms":1500}"#, "{}"),
    (4, "stage_started", r#"{"stage":"enrichment"}"#, "{}"),
    (5, "enrichment_progress", r#"{"mpn":"a","status":"matched"}"#, "{}"),
    (6, "enrichment_progress", r#"{"mpn":"b","status":"error"}"#, "{}"),
    (7, "workflow_paused", r#"{"reason":"quota"}"#, "{}"),
    (17, "workflow_resumed", r#"{"reason":"quota"}"#, "{}"),
    (18, "error", r#"{"error_message":"broke"}"#, "{}"),
    (19, "risk_alert", r#"{"component_id":"C1","risk_score":91}"#, "{}"),
    (20, "stage_completed", r#"{"stage":"enrichment"}"#, "{}"),
];

#[test]
fn a_whole_workflow() {
    let end = summary(WHOLE);
    assert_eq!((end.status.as_str(), end.stage.as_deref()), ("running", Some("enrichment")));
    assert_eq!((end.completed_items, end.failed_items, end.percent), (Some(1), Some(1), Some(50)));
    assert_eq!((end.errors, end.pauses, end.paused_ms), (1, 1, 10_000));
    assert_eq!(end.last_error.as_deref(), Some("broke"));
    assert_eq!(end.risks, Risks { critical: 1, high: 0, medium: 0 });
    assert_eq!((end.events, end.ended_at), (11, None));
    let took: Vec<_> = end.stages.iter().map(|run| run.duration_ms).collect();
    assert_eq!(took, [Some(1500.0), Some(16_000.0)], "as the event states it, else from the times");
}

#[test]
fn every_prefix_of_a_whole_workflow_has_its_state() {
    let events = history(WHOLE);
    let states: Vec<_> = (1..=events.len())
        .map(|length| fold(&events[..length]).summary().unwrap())
        .map(|state| (state.status, state.stage, state.completed_items, state.pauses))
        .collect();
    let state = |status: &str, stage: Option<&str>, completed, pauses| {
        (status.to_owned(), stage.map(str::to_owned), completed, pauses)
    };
    assert_eq!(
        states,
        [
            state("running", None, None, 0),
            state("running", Some("parsing"), None, 0),
            state("running", Some("parsing"), None, 0),
            state("running", Some("enrichment"), None, 0),
            state("running", Some("enrichment"), Some(1), 0),
            state("running", Some("enrichment"), Some(1), 0),
            state("paused", Some("enrichment"), Some(1), 1),
            state("running", Some("enrichment"), Some(1), 1),
            state("running", Some("enrichment"), Some(1), 1),
            state("running", Some("enrichment"), Some(1), 1),
            state("running", Some("enrichment"), Some(1), 1),
        ]
    );
}

#[test]
fn the_last_statement_of_each_register_wins() {
    let end = summary(&[
        (0, "stage_started", r#"{"stage":"parsing"}"#, r#"{"status":"running","percent":1,"total_items":9}"#),
        (1, "x", "{}", r#"{"status":"completed","percent":100,"completed_items":9,"current_stage":"risk"}"#),
        (2, "cache_hit", "{}", "{}"),
    ]);
    assert_eq!(
        (end.status.as_str(), end.percent, end.stage.as_deref()),
        ("completed", Some(100), Some("risk"))
    );
    assert_eq!((end.completed_items, end.total_items), (Some(9), Some(9)));
    assert_eq!(end.ended_at.unwrap() - end.first_at, chrono::TimeDelta::seconds(1));
}

#[test]
fn a_workflow_that_begins_again_is_running() {
    let end = summary(&[
        (0, "x", "{}", r#"{"status":"failed"}"#),
        (5, "processing_started", r#"{"total_items":3}"#, "{}"),
        (6, "cache_hit", "{}", r#"{"status":""}"#),
    ]);
    assert_eq!((end.status.as_str(), end.ended_at, end.total_items), ("running", None, Some(3)));
}

#[test]
fn a_pause_that_is_reported_twice_lasts_from_the_first_report() {
    let end = summary(&[
        (0, "workflow_paused", "{}", "{}"),
        (600, "workflow_paused", "{}", r#"{"percent": 250}"#),
        (660, "workflow_resumed", "{}", "{}"),
        (661, "stage_completed", r#"{"stage":"x","duration_ms":-5}"#, "{}"),
    ]);
    assert_eq!((end.pauses, end.paused_ms, end.percent), (2, 660_000, Some(100)));
    assert_eq!(end.stages[0].duration_ms, None);
    let open = summary(&[(0, "workflow_paused", "{}", "{}")]);
    assert_eq!((open.status.as_str(), open.pauses, open.paused_ms), ("paused", 1, 0));
}

#[test]
fn a_stage_that_is_repeated_is_listed_again() {
    let end = summary(&[
        (0, "stage_started", r#"{"stage":"parsing"}"#, "{}"),
        (1, "stage_started", r#"{"stage":"parsing"}"#, "{}"),
        (2, "stage_completed", r#"{"stage":"parsing"}"#, "{}"),
        (3, "stage_completed", r#"{"stage":"risk_analysis"}"#, "{}"),
    ]);
    let runs: Vec<_> = end.stages.iter().map(|run| (run.stage.as_str(), run.duration_ms)).collect();
    assert_eq!(runs, [("parsing", None), ("parsing", Some(1000.0)), ("risk_analysis", None)]);
}

#[test]
fn severities_follow_from_the_score_unless_they_are_given() {
    let end = summary(&[
        (0, "risk_alert", r#"{"risk_score":80}"#, "{}"),
        (1, "risk_alert", r#"{"risk_score":79.9}"#, "{}"),
        (2, "risk_alert", r#"{"risk_score":1e308,"severity":"medium"}"#, "{}"),
        (3, "risk_alert", r#"{"risk_score":"?"}"#, "{}"),
    ]);
    assert_eq!(end.risks, Risks { critical: 1, high: 1, medium: 2 });
}

#[test]
fn nothing_folds_to_nothing() {
    assert!(Run::default().is_empty() && Run::default().summary().is_none());
}

/// Objects with odd values: of other types than expected, huge, deep or missing.
fn object() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        Just("null".to_owned()),
        Just("1e400".to_owned()),
        Just("-1".to_owned()),
        Just(format!("{}{}", "[".repeat(300), "]".repeat(300))),
        Just("{\"a\":1}".to_owned()),
        Just("\"running\"".to_owned()),
        Just("\"completed\"".to_owned()),
        (0_u32..200).prop_map(|number| number.to_string()),
        any::<String>().prop_map(|text| serde_json::to_string(&text).unwrap()),
    ];
    let name = prop::sample::select(vec![
        "status",
        "current_stage",
        "total_items",
        "completed_items",
        "failed_items",
        "percent",
        "stage",
        "duration_ms",
        "risk_score",
        "severity",
        "error_message",
        "reason",
    ]);
    proptest::collection::vec((name, value), 0..5).prop_map(|fields| {
        let fields: Vec<_> = fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        format!("{{{}}}", fields.join(","))
    })
}

fn events() -> impl Strategy<Value = Vec<Stored>> {
    let types: Vec<_> = EventType::ALL.map(EventType::name).into_iter().chain(["other"]).collect();
    let event = (0_i64..50, prop::sample::select(types), object(), object());
    proptest::collection::vec(event, 0..60).prop_map(|samples| {
        let stored =
            |(number, (seconds, event_type, payload, state)): (usize, (i64, &str, String, String))| {
                Stored::new(number, seconds, event_type, &payload, &state)
            };
        samples.into_iter().enumerate().map(stored).collect()
    })
}

proptest! {
    #[test]
    fn any_order_and_any_split_of_the_events_gives_the_same_run(
        events in events(), shuffled in any::<prop::sample::Index>(), splits in proptest::collection::vec(0_usize..4, 60),
    ) {
        let whole = fold(&events);
        let mut order: Vec<&Stored> = events.iter().rev().collect();
        if !order.is_empty() {
            let middle = shuffled.index(order.len());
            order.rotate_left(middle);
        }
        prop_assert_eq!(&fold(order.iter().copied()), &whole);
        let mut parts = vec![Run::default(); 4];
        for (stored, part) in order.iter().zip(splits) {
            parts[part].add(&stored.event());
        }
        let mut merged = Run::default();
        parts.into_iter().for_each(|part| merged.merge(part));
        prop_assert_eq!(merged.summary(), whole.summary());
    }
}

#[test]
fn a_run_that_was_stored_goes_on_where_it_was() {
    for at in 0..=WHOLE.len() {
        let events = history(WHOLE);
        let (before, after) = events.split_at(at);
        let stored = serde_json::to_string(&fold(before)).unwrap();
        let mut run: Run = serde_json::from_str(&stored).unwrap();
        run.merge(fold(after));
        let expected = fold(&events).summary().map(|summary| Summary { stages: Vec::new(), ..summary });
        let found = run.summary().map(|summary| Summary { stages: Vec::new(), ..summary });
        assert_eq!(found, expected, "{at}");
    }
}

#[test]
fn statements_can_be_merged_again() {
    let whole = fold(&history(WHOLE));
    let mut again = whole.clone();
    again.merge_statements(fold(&history(WHOLE)[5..]));
    assert_eq!(again, whole);
}
