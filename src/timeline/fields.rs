//! Fields of a JSON object, read one by one: what is not of the expected type is absent.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::text::{cut, duration, shortened};

/// Characters of one value that is shown.
const VALUE_CHARS: usize = 60;

/// Fields of a JSON object, each as its JSON text.
pub(super) struct Fields<'a>(BTreeMap<String, &'a RawValue>);

impl<'a> Fields<'a> {
    /// Reads an object; any other JSON has no fields.
    pub(super) fn of(object: &'a RawValue) -> Self {
        Fields(serde_json::from_str(object.get()).unwrap_or_default())
    }

    /// Returns a text as it is, a number or a truth value as it is written; nothing for `null`, an array or an object.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        let raw = self.0.get(name)?.get();
        match raw.as_bytes().first()? {
            b'"' => serde_json::from_str(raw).ok().map(|text: String| shortened(&text, VALUE_CHARS * 2)),
            b'{' | b'[' | b'n' => None,
            _ => Some(shortened(raw, VALUE_CHARS)),
        }
    }

    /// Returns the same, cut to a number of characters without a mark; nothing for an empty text.
    pub(super) fn whole_text(&self, name: &str, max_chars: usize) -> Option<String> {
        let raw = self.0.get(name)?.get();
        let text = match raw.as_bytes().first()? {
            b'"' => serde_json::from_str(raw).ok()?,
            b'{' | b'[' | b'n' => return None,
            _ => raw.to_owned(),
        };
        Some(cut(&text, max_chars)).filter(|text| !text.is_empty())
    }

    /// Returns a number.
    pub(super) fn number(&self, name: &str) -> Option<f64> {
        serde_json::from_str(self.0.get(name)?.get()).ok()
    }

    /// Returns a number that is 0 or more, without its fractions.
    pub(super) fn count(&self, name: &str) -> Option<u64> {
        self.number(name).filter(|number| *number >= 0.0).map(|number| number as u64)
    }

    /// Returns the fields of an object in a field.
    pub(super) fn inner(&self, name: &str) -> Option<Fields<'a>> {
        let fields = Fields::of(self.0.get(name)?);
        (!fields.0.is_empty()).then_some(fields)
    }

    /// Returns the field `duration_ms`, where it is at most a year.
    pub(super) fn milliseconds(&self) -> Option<f64> {
        const YEAR: f64 = 366.0 * 86_400_000.0;
        self.number("duration_ms").filter(|milliseconds| (0.0..YEAR).contains(milliseconds))
    }

    /// Returns the same as people write it.
    pub(super) fn duration(&self) -> String {
        self.milliseconds().map_or_else(|| "?".to_owned(), duration)
    }

    /// Lists every field that has a text, as `name value`.
    pub(super) fn all(&self) -> String {
        let shown = self.0.keys().filter_map(|name| Some((name, self.text(name)?)));
        let shown: Vec<String> =
            shown.map(|(name, value)| format!("{} {value}", name.replace('_', " "))).collect();
        shown.join(", ")
    }
}
