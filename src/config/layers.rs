//! The layers of the configuration, merged key by key.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use config::{FileFormat, Value, ValueKind};

const DEFAULTS: &str = include_str!("../../config/default.toml");

const PREFIX: &str = "CNS_EVENTS__";

/// Keys whose values are never shown.
const SECRETS: [&str; 3] = ["amqp.uri", "database.url", "api.jwt_secret"];

/// Keys that can take one of a few words only.
const WORDS: [(&str, &[&str]); 4] = [
    ("amqp.queue_type", &["quorum", "classic"]),
    ("amqp.declare", &["active", "passive"]),
    ("validation.payload", &["warn", "reject", "off"]),
    ("log.format", &["human", "json"]),
];

/// One key of the effective configuration.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Setting {
    /// Its dotted name.
    pub key: String,
    /// Its value; masked where it is a secret.
    pub value: String,
    /// The layer it comes from.
    pub origin: String,
}

/// Hides the password of a URL, and a secret of any other kind altogether.
#[must_use]
pub fn masked(secret: &str) -> String {
    match url::Url::parse(secret) {
        // A password with an unescaped #, ? or / in it makes a URL whose parts are not what they seem.
        Ok(mut url)
            if url.has_host()
                && url.fragment().is_none()
                && !url[url::Position::BeforePath..].contains('@') =>
        {
            if url.password().is_some() && url.set_password(Some("***")).is_err() {
                return "***".into();
            }
            // A query may hold certificates' paths, and in some drivers a password.
            if url.query_pairs().any(|(key, _)| key == "password") {
                url.set_query(None);
            }
            url.into()
        }
        _ if secret.is_empty() => String::new(),
        _ => "***".into(),
    }
}

/// Merges defaults, profile and environment. Every problem is one line.
pub(super) fn merge(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    folder: &Path,
) -> Result<(config::Config, Vec<Setting>), Vec<String>> {
    let environment: BTreeMap<String, String> = environment
        .into_iter()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let one = |error: &dyn std::fmt::Display| vec![error.to_string()];
    let defaults = config::Config::builder()
        .add_source(config::File::from_str(DEFAULTS, FileFormat::Toml))
        .build()
        .map_err(|error| one(&error))?;
    let known = flatten(&defaults.cache);

    let mut builder =
        config::Config::builder().add_source(config::File::from_str(DEFAULTS, FileFormat::Toml));
    let mut origins: BTreeMap<String, String> = BTreeMap::new();
    let mut problems = Vec::new();

    if let Some(profile) = environment.get("CNS_EVENTS_PROFILE").filter(|profile| !profile.is_empty()) {
        let path = folder.join(format!("{profile}.toml"));
        let text = std::fs::read_to_string(&path).map_err(|error| {
            vec![format!("CNS_EVENTS_PROFILE = {profile}: cannot read {}: {error}", path.display())]
        })?;
        // Parsed here first for the sake of its error, which names the line and does not quote it.
        if let Err(error) = text.parse::<toml::Table>() {
            let line = error.span().map_or(0, |span| text[..span.start].lines().count().max(1));
            return Err(vec![format!("{}: line {line}: {}", path.display(), error.message())]);
        }
        let layer = config::Config::builder()
            .add_source(config::File::from_str(&text, FileFormat::Toml))
            .build()
            .map_err(|_| vec![format!("{}: is no TOML that can be read", path.display())])?;
        for (key, value) in flatten(&layer.cache) {
            let shown = show(&key, &text_of(&value));
            match known.get(&key) {
                None => problems.push(unknown(&format!("{} in {}", key, path.display()), &known, &key)),
                Some(like) => match typed(&key, &text_of(&value), like) {
                    Ok(_) if same_type(&value, like) => drop(origins.insert(key, path.display().to_string())),
                    Ok(_) => problems.push(format!(
                        "{key} = {shown} in {}: has the wrong type, {} is expected",
                        path.display(),
                        type_name(like)
                    )),
                    Err(problem) => {
                        problems.push(format!("{key} = {shown} in {}: {problem}", path.display()))
                    }
                },
            }
        }
        builder = builder.add_source(config::File::from_str(&text, FileFormat::Toml));
    }

    let mut overrides: BTreeMap<String, (String, String)> = BTreeMap::new();
    for (name, fallback) in [("AMQP_URL", "amqp.uri"), ("DATABASE_URL", "database.url")] {
        if let Some(value) = environment.get(name).filter(|value| !value.is_empty()) {
            overrides.insert(fallback.to_owned(), (name.to_owned(), value.clone()));
        }
    }
    for (name, value) in &environment {
        if !name.starts_with(PREFIX) {
            continue;
        }
        let key = key_of(name);
        let (key, value) = if known.contains_key(&key) {
            if environment.contains_key(&format!("{name}_FILE")) {
                problems.push(format!("{name}: is set, and so is {name}_FILE; unset one of them"));
            }
            (key, value.clone())
        } else if let Some(base) = key.strip_suffix("_file").filter(|base| known.contains_key(*base)) {
            match std::fs::read_to_string(value) {
                Ok(text) => (base.to_owned(), text.trim_end_matches(['\r', '\n']).to_owned()),
                Err(error) => {
                    let value = if SECRETS.contains(&base) { "…" } else { value };
                    problems.push(format!("{name} = {value}: the file it names cannot be read: {error}"));
                    continue;
                }
            }
        } else {
            problems.push(unknown(name, &known, &key));
            continue;
        };
        overrides.insert(key, (name.clone(), value));
    }
    for (key, (name, text)) in overrides {
        let Some(like) = known.get(&key) else { continue };
        match typed(&key, &text, like) {
            Ok(value) => {
                origins.insert(key.clone(), name);
                builder = builder.set_override(&key, value).map_err(|error| one(&error))?;
            }
            // What a file holds may be a secret that was meant for another key.
            Err(problem) if name.ends_with("_FILE") && !known.contains_key(&key_of(&name)) => {
                problems.push(format!("{name}: what the file holds {problem}"));
            }
            Err(problem) => problems.push(format!("{name} = {}: {problem}", show(&key, &text))),
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let merged = builder.build().map_err(|error| one(&error))?;
    let settings = flatten(&merged.cache)
        .into_iter()
        .map(|(key, value)| Setting {
            value: show(&key, &text_of(&value)),
            origin: origins.get(&key).cloned().unwrap_or_else(|| "default".into()),
            key,
        })
        .collect();
    Ok((merged, settings))
}

/// The key that a variable's name stands for, if it is one.
fn key_of(name: &str) -> String {
    name.strip_prefix(PREFIX).unwrap_or_default().to_ascii_lowercase().replace("__", ".")
}

fn show(key: &str, value: &str) -> String {
    if SECRETS.contains(&key) { masked(value) } else { value.to_owned() }
}

fn unknown(name: &str, known: &BTreeMap<String, Value>, key: &str) -> String {
    let table = key.split('.').next().unwrap_or_default();
    let siblings: Vec<&str> =
        known.keys().filter(|known| known.split('.').next() == Some(table)).map(String::as_str).collect();
    if siblings.is_empty() {
        format!("{name}: unknown key; `cns-events config` lists the keys there are")
    } else {
        format!("{name}: unknown key; {table} has {}", siblings.join(", "))
    }
}

/// Reads a text as the type that the default has, and as one of the words that serve.
fn typed(key: &str, text: &str, like: &Value) -> Result<Value, String> {
    if let Some((_, words)) = WORDS.iter().find(|(of, _)| *of == key)
        && !words.contains(&text)
    {
        return Err(format!("is not one of {}", words.join(", ")));
    }
    let kind = match &like.kind {
        ValueKind::Boolean(_) => {
            text.parse().map(ValueKind::Boolean).map_err(|_| "is neither true nor false".to_owned())?
        }
        ValueKind::I64(_) => text
            .parse::<i64>()
            .ok()
            .filter(|number| *number >= 0)
            .map(ValueKind::I64)
            .ok_or("is not a whole number, 0 or more")?,
        _ => ValueKind::String(text.to_owned()),
    };
    Ok(Value::new(None, kind))
}

fn same_type(value: &Value, like: &Value) -> bool {
    std::mem::discriminant(&value.kind) == std::mem::discriminant(&like.kind)
}

fn type_name(value: &Value) -> &'static str {
    match value.kind {
        ValueKind::Boolean(_) => "true or false",
        ValueKind::I64(_) => "a whole number",
        _ => "a text in quotes",
    }
}

fn text_of(value: &Value) -> String {
    match &value.kind {
        ValueKind::Table(_) => "a table".into(),
        ValueKind::Array(_) => "a list".into(),
        _ => value.clone().into_string().unwrap_or_default(),
    }
}

/// Dotted keys and their values.
fn flatten(value: &Value) -> BTreeMap<String, Value> {
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
