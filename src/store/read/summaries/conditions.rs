//! Conditions of a query that is put together, with their values.

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::sql_types::{Text, Timestamptz, Uuid as SqlUuid};
use uuid::Uuid;

use crate::store::failure::StoreFailure;
use crate::store::statement::Typed;

/// Value of a condition.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(String),
    Time(DateTime<Utc>),
    Uuid(Uuid),
}

/// Conditions, all of which a row has to meet.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    terms: Vec<String>,
    values: Vec<Value>,
}

impl Conditions {
    /// Adds a condition; each `?` in it stands for the next of its values.
    pub(super) fn add(&mut self, term: &str, values: impl IntoIterator<Item = Value>) {
        let mut parts = term.split('?');
        let mut numbered = parts.next().unwrap_or_default().to_owned();
        for (part, value) in parts.zip(values) {
            self.values.push(value);
            numbered.push_str(&format!("${}{part}", self.values.len()));
        }
        self.terms.push(numbered);
    }

    /// Adds a condition with one value, where there is one.
    pub(super) fn text(&mut self, term: &str, value: Option<&String>) {
        if let Some(value) = value {
            self.add(term, [Value::Text(value.clone())]);
        }
    }

    /// Returns the statement of `before where … after`.
    pub(super) fn statement(self, before: &str, after: &str) -> Result<Typed, StoreFailure> {
        let wanted = if self.terms.is_empty() { "true".to_owned() } else { self.terms.join(" and ") };
        let mut query = diesel::sql_query(format!("{before} where {wanted} {after}")).into_boxed::<Pg>();
        for value in self.values {
            query = match value {
                Value::Text(text) => query.bind::<Text, _>(text),
                Value::Time(time) => query.bind::<Timestamptz, _>(time),
                Value::Uuid(id) => query.bind::<SqlUuid, _>(id),
            };
        }
        Typed::of(&query)
    }
}

/// Returns the least text that is greater than each text with this prefix, byte by byte; `None` where there is none.
pub(super) fn after_prefix(prefix: &str) -> Option<String> {
    let mut characters: Vec<char> = prefix.chars().collect();
    while let Some(last) = characters.pop() {
        let next = match last {
            '\u{d7ff}' => Some('\u{e000}'), // in between are surrogates, which no text has
            last => char::from_u32(u32::from(last) + 1),
        };
        if let Some(next) = next {
            characters.push(next);
            return Some(characters.into_iter().collect());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_has_the_prefix_is_below_the_end_and_what_is_greater_is_not(prefix in "\\PC{1,4}", rest in "\\PC{0,4}", other in "\\PC{0,8}") {
            let end = after_prefix(&prefix).unwrap();
            let inside = |text: &str| text >= prefix.as_str() && text < end.as_str();
            prop_assert!(inside(&[prefix.as_str(), &rest].concat()));
            prop_assert_eq!(inside(&other), other.starts_with(&prefix));
        }
    }

    #[test]
    fn the_last_characters_have_none_after_them() {
        assert_eq!(after_prefix("a\u{10ffff}").as_deref(), Some("b"));
        assert_eq!(after_prefix("\u{10ffff}"), None);
        assert_eq!(after_prefix("\u{d7ff}").as_deref(), Some("\u{e000}"));
    }

    #[test]
    fn values_are_numbered_in_order() {
        let mut conditions = Conditions::default();
        conditions.text("a = ?", Some(&"1".to_owned()));
        conditions.add("(b, c) > (?, ?)", [Value::Text("2".to_owned()), Value::Uuid(Uuid::nil())]);
        assert_eq!(conditions.terms, ["a = $1", "(b, c) > ($2, $3)"]);
    }
}
