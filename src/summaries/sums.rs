//! Sums of a set of events, before they are added to the tables. They merge in any order.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use uuid::Uuid;

use super::histogram;
use crate::event::EventType;
use crate::timeline::{self, Event, Run};

/// Type that events of unknown types count as.
pub const OTHER: &str = "other";

/// Characters of a workflow's id in summaries: the column of events is as long, unless an older table has a longer one.
const WORKFLOW_CHARS: usize = 255;

/// Characters of a source.
const SOURCE_CHARS: usize = 20;

/// Types outside the contract's table that are counted by their own name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamedTypes(BTreeSet<String>);

impl NamedTypes {
    /// Reads a list of types, separated by commas.
    #[must_use]
    pub fn from_list(list: &str) -> Self {
        NamedTypes(
            list.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect(),
        )
    }

    fn name<'a>(&self, event_type: &'a str) -> &'a str {
        let named = EventType::from_name(event_type).is_some() || self.0.contains(event_type);
        if named { event_type } else { OTHER }
    }
}

/// Key of a count: tenant, hour, type, source.
pub type CountKey = (Uuid, DateTime<Utc>, String, String);

/// Key of a stage's time: tenant, hour, stage, bucket.
pub type StageKey = (Uuid, DateTime<Utc>, String, i16);

/// Key of a run: tenant, workflow, BOM.
pub type RunKey = (Uuid, String, Uuid);

/// Key of a part number: tenant, part number, workflow, BOM.
pub type PartKey = (Uuid, String, String, Uuid);

/// Sums of events.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sums {
    /// Events by hour, type and source.
    pub counts: BTreeMap<CountKey, i64>,
    /// Durations of stages.
    pub stage_times: BTreeMap<StageKey, i64>,
    /// Workflows.
    pub runs: BTreeMap<RunKey, Run>,
    /// Part numbers of workflows.
    pub parts: BTreeSet<PartKey>,
    /// Number of events.
    pub events: u64,
}

impl Sums {
    /// Takes in an event.
    pub fn add(&mut self, tenant: Uuid, source: &str, event: &Event<'_>, named: &NamedTypes) {
        self.add_counts(tenant, source, event, named);
        self.add_run(tenant, event);
    }

    /// Takes in an event's part of the counts and the times.
    pub fn add_counts(&mut self, tenant: Uuid, source: &str, event: &Event<'_>, named: &NamedTypes) {
        let hour = hour(event.created_at);
        self.events += 1;
        let source: String = source.chars().take(SOURCE_CHARS).collect();
        let key = (tenant, hour, named.name(event.event_type).to_owned(), source);
        *self.counts.entry(key).or_default() += 1;
        if let Some((stage, duration)) = timeline::stage_time(event) {
            *self.stage_times.entry((tenant, hour, stage, histogram::bucket(duration))).or_default() += 1;
        }
    }

    /// Takes in an event's part of its workflow. An event without one has no run.
    pub fn add_run(&mut self, tenant: Uuid, event: &Event<'_>) {
        let Some(workflow_id) = event.workflow_id else { return };
        let workflow_id: String = workflow_id.chars().take(WORKFLOW_CHARS).collect();
        if let Some(part) = timeline::part_number(event) {
            self.parts.insert((tenant, part, workflow_id.clone(), event.bom_id));
        }
        self.runs.entry((tenant, workflow_id, event.bom_id)).or_default().add(event);
    }

    /// Takes in the sums of other events.
    pub fn merge(&mut self, other: Sums) {
        self.events += other.events;
        other.counts.into_iter().for_each(|(key, events)| *self.counts.entry(key).or_default() += events);
        for (key, events) in other.stage_times {
            *self.stage_times.entry(key).or_default() += events;
        }
        other.runs.into_iter().for_each(|(key, run)| self.runs.entry(key).or_default().merge(run));
        self.parts.extend(other.parts);
    }
}

/// Returns the begin of the hour, in UTC.
#[must_use]
pub fn hour(time: DateTime<Utc>) -> DateTime<Utc> {
    time.duration_trunc(TimeDelta::hours(1)).unwrap_or_else(|_| {
        // Times that do not fit into nanoseconds.
        let seconds = time.timestamp();
        DateTime::from_timestamp(seconds - seconds.rem_euclid(3600), 0).unwrap_or(time)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::value::RawValue;

    use super::*;

    #[derive(Clone, Debug)]
    struct Sample {
        number: u128,
        event_type: &'static str,
        seconds: i64,
        workflow: Option<&'static str>,
        payload: &'static str,
        state: &'static str,
    }

    fn sums(samples: &[Sample]) -> Sums {
        let mut sums = Sums::default();
        for sample in samples {
            let raw = |text: &str| RawValue::from_string(text.to_owned()).unwrap();
            let (state, payload) = (raw(sample.state), raw(sample.payload));
            let event = Event {
                id: Uuid::from_u128(sample.number),
                event_type: sample.event_type,
                bom_id: Uuid::from_u128(7),
                workflow_id: sample.workflow,
                organization_id: None,
                created_at: DateTime::from_timestamp(1_767_225_600 + sample.seconds, 0).unwrap(),
                state: &state,
                payload: &payload,
            };
            sums.add(Uuid::nil(), "customer", &event, &NamedTypes::default());
        }
        sums
    }

    fn samples() -> impl Strategy<Value = Vec<Sample>> {
        let types = prop::sample::select(vec![
            ("stage_completed", r#"{"stage":"parsing","duration_ms":40}"#),
            ("stage_completed", r#"{"stage":"parsing","duration_ms":"soon"}"#),
            ("enrichment_progress", r#"{"mpn":"LM358","status":"matched"}"#),
            ("risk_alert", r#"{"component_id":"c","risk_score":91,"severity":"critical"}"#),
            ("workflow_paused", "{}"),
            ("workflow_resumed", "{}"),
            ("error", r#"{"error_message":"broke"}"#),
            ("label_printed", "{}"),
        ]);
        let state = prop::sample::select(vec![
            "{}",
            r#"{"status":"completed"}"#,
            r#"{"percent":40,"total_items":9}"#,
        ]);
        let workflow = prop::sample::select(vec![None, Some("w1"), Some("w2")]);
        let sample = (types, 0_i64..20_000, workflow, state);
        prop::collection::vec(sample, 0..60).prop_map(|samples| {
            let sample = |(number, ((event_type, payload), seconds, workflow, state)): (usize, _)| Sample {
                number: number as u128,
                event_type,
                seconds,
                workflow,
                payload,
                state,
            };
            samples.into_iter().enumerate().map(sample).collect()
        })
    }

    proptest! {
        #[test]
        fn any_order_and_any_split_of_the_events_gives_the_same_sums(all in samples(), split: prop::sample::Index, seed: u64) {
            let mut shuffled = all.clone();
            shuffled.sort_by_key(|sample| (sample.number as u64).wrapping_mul(seed | 1).rotate_left(17));
            let (first, second) = shuffled.split_at(if shuffled.is_empty() { 0 } else { split.index(shuffled.len()) });
            let mut merged = sums(second);
            merged.merge(sums(first));
            prop_assert_eq!(merged, sums(&all));
        }
    }

    #[test]
    fn unknown_types_count_as_other_unless_named() {
        let sample = Sample {
            number: 1,
            event_type: "label_printed",
            seconds: 3700,
            workflow: None,
            payload: "{}",
            state: "{}",
        };
        let sums = sums(std::slice::from_ref(&sample));
        let (key, events) = sums.counts.first_key_value().unwrap();
        assert_eq!((key.2.as_str(), key.1.timestamp() % 3600, *events, sums.runs.len()), ("other", 0, 1, 0));
        assert_eq!(NamedTypes::from_list("label_printed, x").name("label_printed"), "label_printed");
    }

    #[test]
    fn every_time_has_an_hour() {
        for time in [
            DateTime::<Utc>::MIN_UTC,
            DateTime::UNIX_EPOCH,
            DateTime::from_timestamp(253_402_300_799, 0).unwrap(),
        ] {
            assert!(hour(time) <= time);
        }
    }
}
