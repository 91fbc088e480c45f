//! Choice of dead letters by id and by condition.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::decode::DeadLetter;

/// Characters of an id that are enough to name a dead letter.
const MIN_ID_CHARS: usize = 8;

/// Conditions on a dead letter. All of them have to hold; an empty condition always does.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Reasons, one of which it has.
    pub reasons: Vec<String>,
    /// Event types, one of which it has.
    pub event_types: Vec<String>,
    /// BOM that it belongs to.
    pub bom_id: Option<Uuid>,
    /// Least time since it was dead-lettered.
    pub older_than: Option<Duration>,
    /// Most time since it was dead-lettered.
    pub newer_than: Option<Duration>,
}

/// Dead letters by id and by condition.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Ids or event ids, see [`is_named`]; none selects every dead letter that the filter matches.
    pub ids: Vec<String>,
    /// Conditions beside the ids.
    pub filter: Filter,
}

impl Filter {
    /// Returns whether every condition holds at the time `now`. A dead letter of an unknown age is neither old nor new.
    #[must_use]
    pub fn matches(&self, dead_letter: &DeadLetter, now: DateTime<Utc>) -> bool {
        let one_of =
            |words: &[String], word: &str| words.is_empty() || words.iter().any(|wanted| wanted == word);
        let age = dead_letter.dead_at.map(|at| (now - at).to_std().unwrap_or_default());
        let bom_id = || dead_letter.bom_id.as_deref().and_then(|id| Uuid::try_parse(id).ok());
        one_of(&self.reasons, &dead_letter.reason)
            && one_of(&self.event_types, dead_letter.event_type.as_deref().unwrap_or_default())
            && self.bom_id.is_none_or(|bom| bom_id() == Some(bom))
            && self.older_than.is_none_or(|than| age.is_some_and(|age| age > than))
            && self.newer_than.is_none_or(|than| age.is_some_and(|age| age < than))
    }
}

impl Selection {
    /// Returns whether a dead letter is selected at the time `now`.
    #[must_use]
    pub fn matches(&self, dead_letter: &DeadLetter, now: DateTime<Utc>) -> bool {
        let named = self.ids.is_empty() || self.ids.iter().any(|id| is_named(dead_letter, id));
        named && self.filter.matches(dead_letter, now)
    }

    /// Returns the ids that name none of the dead letters.
    pub fn missing<'a>(&'a self, found: &[&DeadLetter]) -> Vec<&'a str> {
        let missing = |id: &&String| !found.iter().any(|dead_letter| is_named(dead_letter, id));
        self.ids.iter().filter(missing).map(String::as_str).collect()
    }
}

/// Returns whether a word names a dead letter: its `event_id`, or at least the first eight characters of its id.
#[must_use]
pub fn is_named(dead_letter: &DeadLetter, word: &str) -> bool {
    dead_letter.event_id.as_deref() == Some(word)
        || word.len() >= MIN_ID_CHARS && dead_letter.id.starts_with(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dead_letter(now: DateTime<Utc>) -> DeadLetter {
        DeadLetter {
            id: "0123456789ab".into(),
            dead_at: Some(now - Duration::from_secs(60)),
            reason: "missing_field".into(),
            field: None,
            detail: None,
            sqlstate: None,
            worker: None,
            routing_key: "cns.x".into(),
            event_id: Some("e-1".into()),
            event_type: Some("cache_hit".into()),
            bom_id: Some(Uuid::nil().to_string()),
            replays: 0,
            bytes: 2,
        }
    }

    #[test]
    fn every_condition_has_to_hold() {
        let now = Utc::now();
        let matches = |filter: Filter| filter.matches(&dead_letter(now), now);
        let some = |seconds| Some(Duration::from_secs(seconds));
        assert!(matches(Filter::default()));
        assert!(matches(Filter { reasons: vec!["x".into(), "missing_field".into()], ..Filter::default() }));
        assert!(!matches(Filter { reasons: vec!["x".into()], ..Filter::default() }));
        assert!(!matches(Filter { event_types: vec!["x".into()], ..Filter::default() }));
        assert!(matches(Filter { bom_id: Some(Uuid::nil()), older_than: some(59), ..Filter::default() }));
        assert!(!matches(Filter { bom_id: Some(Uuid::max()), ..Filter::default() }));
        assert!(matches(Filter { newer_than: some(61), ..Filter::default() }));
        assert!(!matches(Filter { older_than: some(61), ..Filter::default() }));
        let ageless = DeadLetter { dead_at: None, ..dead_letter(now) };
        for filter in [
            Filter { older_than: some(0), ..Filter::default() },
            Filter { newer_than: some(u64::MAX), ..Filter::default() },
        ] {
            assert!(!filter.matches(&ageless, now), "{filter:?}");
        }
    }

    #[test]
    fn dead_letters_are_selected_by_id() {
        let now = Utc::now();
        let select = |ids: &[&str]| Selection {
            ids: ids.iter().map(|&id| id.to_owned()).collect(),
            ..Selection::default()
        };
        let one = dead_letter(now);
        for ids in [&[][..], &["01234567"], &["x", "e-1"], &["0123456789ab"]] {
            assert!(select(ids).matches(&one, now), "{ids:?}");
        }
        for ids in [&["0123456"][..], &["x"], &["0123456789abc"], &[""]] {
            assert!(!select(ids).matches(&one, now), "{ids:?}");
        }
        assert_eq!(select(&["x", "e-1"]).missing(&[&one]), ["x"]);
    }
}
