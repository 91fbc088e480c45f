//! The keys of the configuration: name, default and comment from `config/default.toml`, type from the structs of
//! [`Config`].

use std::collections::BTreeMap;
use std::sync::LazyLock;

use config::{FileFormat, Value, ValueKind};
use schemars::generate::SchemaSettings;
use serde::Serialize;
use serde_json::Value as Json;

use super::secret::masked;
use super::types::Config;
use crate::stray::stray;

/// Every key with its default; built into the binary.
pub(super) const DEFAULTS: &str = include_str!("../../config/default.toml");

/// First part of the name of every environment variable that sets a key.
pub(super) const PREFIX: &str = "CNS_EVENTS__";

/// Documentation of one configuration key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyDoc {
    /// Dotted name.
    pub key: String,
    /// Environment variable that sets the key; with `_FILE` appended it names a file that holds the value.
    pub variable: String,
    /// Accepted values.
    pub kind: String,
    /// Default, as a text.
    pub default: String,
    /// Comment of the key in `config/default.toml`.
    pub help: String,
    /// The value is masked wherever it is printed.
    pub secret: bool,
}

/// Returns the documentation of every key, in the order of `config/default.toml`.
#[must_use]
pub fn reference() -> Vec<KeyDoc> {
    let comments = comments(DEFAULTS);
    let documented = comments.into_iter().filter_map(|(name, help)| {
        let key = KEYS.get(&name)?;
        Some(KeyDoc {
            variable: format!("{PREFIX}{}", name.to_ascii_uppercase().replace('.', "__")),
            kind: key.kind.to_string(),
            default: text_of(&key.default),
            secret: key.secret,
            key: name,
            help,
        })
    });
    documented.collect()
}

/// Every key by its dotted name.
pub(super) static KEYS: LazyLock<BTreeMap<String, Key>> = LazyLock::new(|| {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let schema = settings.into_generator().into_root_schema_for::<Config>().to_value();
    // A test reads the built-in file: it is TOML.
    let defaults = parse(DEFAULTS).map(|defaults| flatten(&defaults)).unwrap_or_default();
    let keys = defaults.into_iter().map(|(name, default)| {
        let pointer = name.split('.').map(|part| format!("/properties/{part}")).collect::<String>();
        let schema = schema.pointer(&pointer).unwrap_or(&Json::Null);
        let secret = schema["writeOnly"] == Json::Bool(true);
        (name, Key { kind: Kind::of(schema), secret, default })
    });
    keys.collect()
});

/// One key: its type and its default.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) kind: Kind,
    pub(super) secret: bool,
    pub(super) default: Value,
}

/// Type of a key's value.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Boolean,
    /// A whole number from 0 up to this limit.
    Number(i64),
    /// One of these words.
    Word(Vec<String>),
    Text,
}

impl Kind {
    /// Reads the type from the JSON Schema of a field.
    fn of(schema: &Json) -> Kind {
        // Variants of an enum that have doc comments are listed as `oneOf`, all others as `enum`.
        let variants = schema["oneOf"].as_array().map(Vec::as_slice).unwrap_or_default();
        let constants = variants.iter().map(|variant| &variant["const"]);
        let listed = std::iter::once(schema).chain(variants).flat_map(|schema| schema["enum"].as_array());
        let words: Vec<String> =
            constants.chain(listed.flatten()).filter_map(|word| Some(word.as_str()?.to_owned())).collect();
        match schema["type"].as_str() {
            _ if !words.is_empty() => Kind::Word(words),
            Some("boolean") => Kind::Boolean,
            Some("integer") => Kind::Number(schema["maximum"].as_i64().unwrap_or(i64::MAX)),
            _ => Kind::Text,
        }
    }

    /// Returns whether a TOML value has this type.
    pub(super) fn has_type_of(&self, value: &Value) -> bool {
        match self {
            Kind::Boolean => matches!(value.kind, ValueKind::Boolean(_)),
            Kind::Number(_) => matches!(value.kind, ValueKind::I64(_)),
            Kind::Word(_) | Kind::Text => matches!(value.kind, ValueKind::String(_)),
        }
    }

    /// Reads a text as this type.
    ///
    /// # Errors
    /// The problem, as the end of a line that names the key and its value.
    fn read(&self, text: &str) -> Result<Value, String> {
        let kind = match self {
            Kind::Boolean => {
                ValueKind::Boolean(text.parse().map_err(|_| "is neither true nor false".to_owned())?)
            }
            Kind::Number(max) => {
                let number = text.parse::<i64>().ok().filter(|number| (0..=*max).contains(number));
                ValueKind::I64(number.ok_or_else(|| format!("is not {self}"))?)
            }
            Kind::Word(words) if !words.iter().any(|word| word == text) => {
                return Err(format!("is not one of {}", words.join(", ")));
            }
            Kind::Word(_) | Kind::Text => ValueKind::String(text.to_owned()),
        };
        Ok(Value::new(None, kind))
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Kind::Boolean => f.write_str("true or false"),
            Kind::Number(i64::MAX) => f.write_str("a whole number, 0 or more"),
            Kind::Number(max) => write!(f, "a whole number from 0 to {max}"),
            Kind::Word(words) => write!(f, "one of {}", words.join(", ")),
            Kind::Text => f.write_str("a text"),
        }
    }
}

impl Key {
    /// Reads a text as this key's type.
    ///
    /// # Errors
    /// The problem, with an example, as the end of a line that names the key and its value.
    pub(super) fn read(&self, text: &str) -> Result<Value, String> {
        if let Some(problem) = stray(text) {
            return Err(problem.to_owned());
        }
        self.kind.read(text).map_err(|problem| match self.kind {
            Kind::Number(_) => format!("{problem}; for example {}", self.example()),
            _ => problem,
        })
    }

    /// Returns the default, as an example of a value.
    pub(super) fn example(&self) -> String {
        text_of(&self.default)
    }

    /// Returns the default as it is written in a profile.
    pub(super) fn toml_example(&self) -> String {
        let example = self.example();
        if matches!(self.kind, Kind::Word(_) | Kind::Text) { format!("{example:?}") } else { example }
    }

    /// Returns a value as it may be printed in a line about its problem.
    pub(super) fn quoted(&self, value: &str) -> String {
        // The marks show a blank, and what else stands at an end.
        if stray(value).is_some() && !self.secret { format!("{value:?}") } else { self.shown(value) }
    }

    /// Returns a value as it may be printed.
    pub(super) fn shown(&self, value: &str) -> String {
        if self.secret { masked(value) } else { value.to_owned() }
    }
}

/// Returns the key that an environment variable's name stands for, known or not.
pub(super) fn key_of(variable: &str) -> String {
    variable.strip_prefix(PREFIX).unwrap_or_default().to_ascii_lowercase().replace("__", ".")
}

/// Returns the line about an unknown key, which lists the keys of the same table.
pub(super) fn unknown(place: &str, key: &str) -> String {
    let table = |key: &str| key.split('.').next().unwrap_or_default().to_owned();
    let siblings: Vec<&str> =
        KEYS.keys().filter(|known| table(known) == table(key)).map(String::as_str).collect();
    if siblings.is_empty() {
        format!("{place}: unknown key; run `cns-events config` for the list of keys")
    } else {
        format!("{place}: unknown key; {} has {}", table(key), siblings.join(", "))
    }
}

/// Parses TOML.
pub(super) fn parse(text: &str) -> Result<Value, config::ConfigError> {
    let source = config::File::from_str(text, FileFormat::Toml);
    Ok(config::Config::builder().add_source(source).build()?.cache)
}

/// Returns a value as a text; a table or a list as its type.
pub(super) fn text_of(value: &Value) -> String {
    match &value.kind {
        ValueKind::Table(_) => "a table".into(),
        ValueKind::Array(_) => "a list".into(),
        _ => value.clone().into_string().unwrap_or_default(),
    }
}

/// Returns the values of a table and its tables by their dotted keys.
pub(super) fn flatten(value: &Value) -> BTreeMap<String, Value> {
    fn walk(prefix: &str, value: &Value, out: &mut BTreeMap<String, Value>) {
        match &value.kind {
            ValueKind::Table(table) => {
                for (key, value) in table {
                    let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                    walk(&path, value, out);
                }
            }
            _ => drop(out.insert(prefix.to_owned(), value.clone())),
        }
    }
    let mut out = BTreeMap::new();
    walk("", value, &mut out);
    out
}

/// Returns the comment above each key, in the file's order.
fn comments(toml: &str) -> Vec<(String, String)> {
    let (mut table, mut comment, mut out) = (String::new(), Vec::new(), Vec::new());
    for line in toml.lines() {
        if let Some(text) = line.strip_prefix('#') {
            comment.push(text.trim());
        } else if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            table = name.to_owned();
            comment.clear();
        } else if let Some((key, _)) = line.split_once(" = ") {
            out.push((format!("{table}.{key}"), comment.join(" ")));
            comment.clear();
        } else {
            comment.clear();
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_documented_with_its_type() {
        let reference = reference();
        let names: Vec<&String> = reference.iter().map(|key| &key.key).collect();
        assert_eq!(names.len(), KEYS.len(), "{names:?}");
        for key in &reference {
            assert!(key.help.ends_with('.'), "{}: `{}`", key.key, key.help);
        }
        let key = |name: &str| reference.iter().find(|key| key.key == name).unwrap();
        assert_eq!(key("amqp.queue_type").kind, "one of quorum, classic");
        assert_eq!(key("amqp.queue_type").default, "quorum");
        assert_eq!(key("amqp.queue_type").variable, "CNS_EVENTS__AMQP__QUEUE_TYPE");
        assert_eq!(key("worker.prefetch").kind, "a whole number from 0 to 65535");
        assert_eq!(key("database.prepared_statements").kind, "true or false");
    }

    #[test]
    fn every_field_of_the_structs_has_a_default_in_the_file() {
        let schema = schemars::schema_for!(Config).to_value();
        for (name, table) in schema["properties"].as_object().unwrap() {
            let definition = table["$ref"].as_str().unwrap().trim_start_matches('#').to_owned();
            for field in schema.pointer(&definition).unwrap()["properties"].as_object().unwrap().keys() {
                assert!(KEYS.contains_key(&format!("{name}.{field}")), "{name}.{field}");
            }
        }
    }

    #[test]
    fn the_secrets_are_the_uris_and_what_signs_and_reads() {
        let secrets: Vec<&str> =
            KEYS.iter().filter(|(_, key)| key.secret).map(|(name, _)| name.as_str()).collect();
        assert_eq!(secrets, ["amqp.uri", "api.jwt_secret", "database.url", "publisher.read_token"]);
    }
}
