//! Which letters are meant.

use std::time::Duration;

use chrono::Utc;
use clap::Args;
use uuid::Uuid;

use super::letter::Letter;

/// What a letter has to be. All of it has to hold; nothing said means every letter.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Filter {
    /// Dead-lettered for this reason (malformed_json, missing_field, …, or the broker's delivery_limit, rejected, expired)
    #[arg(long, value_name = "REASON", value_delimiter = ',')]
    reason: Vec<String>,
    /// Of this event type
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',')]
    event_type: Vec<String>,
    /// Of this BOM
    #[arg(long, value_name = "UUID")]
    bom_id: Option<Uuid>,
    /// Dead for longer than this (90s, 10m, 2h, 7days)
    #[arg(long, value_name = "AGE", value_parser = humantime::parse_duration)]
    older_than: Option<Duration>,
    /// Dead for less than this
    #[arg(long, value_name = "AGE", value_parser = humantime::parse_duration)]
    newer_than: Option<Duration>,
}

/// The letters that a command is about.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Selection {
    /// Letters by their id in `dlq list` (its first eight characters will do), or by event_id
    #[arg(value_name = "ID", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    ids: Vec<String>,
    /// The same as ID
    #[arg(long = "id", value_name = "ID", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    named: Vec<String>,
    #[command(flatten)]
    filter: Filter,
    /// Every letter there is: what is meant anyway where nothing else is said
    #[arg(long, conflicts_with_all = ["ids", "named", "reason", "event_type", "bom_id", "older_than", "newer_than"])]
    all: bool,
}

impl Filter {
    pub(super) fn matches(&self, letter: &Letter) -> bool {
        let one_of =
            |words: &[String], word: &str| words.is_empty() || words.iter().any(|wanted| wanted == word);
        // A letter that does not say since when is neither old nor new.
        let age = letter.dead_at.map(|at| (Utc::now() - at).to_std().unwrap_or_default());
        one_of(&self.reason, &letter.reason)
            && one_of(&self.event_type, letter.event_type.as_deref().unwrap_or_default())
            && self.bom_id.is_none_or(|bom| {
                letter.bom_id.as_deref().and_then(|id| Uuid::try_parse(id).ok()) == Some(bom)
            })
            && self.older_than.is_none_or(|than| age.is_some_and(|age| age > than))
            && self.newer_than.is_none_or(|than| age.is_some_and(|age| age < than))
    }
}

impl Selection {
    pub(super) fn matches(&self, letter: &Letter) -> bool {
        let said = self.ids().next().is_some();
        (!said || self.ids().any(|id| is_named(letter, id))) && self.filter.matches(letter)
    }

    fn ids(&self) -> impl Iterator<Item = &String> {
        self.ids.iter().chain(&self.named)
    }

    /// The ids that none of the letters has.
    pub(super) fn missing<'a>(&'a self, letters: &[Letter]) -> Vec<&'a str> {
        let missing = |id: &&String| !letters.iter().any(|letter| is_named(letter, id));
        self.ids().filter(missing).map(String::as_str).collect()
    }
}

/// Characters of an id that tell it apart from any other.
const ENOUGH: usize = 8;

/// Whether a word names a letter.
pub(super) fn is_named(letter: &Letter, word: &str) -> bool {
    letter.event_id.as_deref() == Some(word) || word.len() >= ENOUGH && letter.id.starts_with(word)
}
