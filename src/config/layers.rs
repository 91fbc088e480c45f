//! The layers of the configuration, merged key by key: defaults, profile, environment.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use config::Value;

use super::file;
use super::keys::{DEFAULTS, KEYS, PREFIX, flatten, key_of, parse, text_of, unknown};
use super::problems::Problems;
use super::types::{DEFAULT, Setting};

/// Variable that names the profile.
const PROFILE: &str = "CNS_EVENTS_PROFILE";

/// Variables that set a key when its prefixed variable is unset.
const FALLBACKS: [(&str, &str); 2] = [("AMQP_URL", "amqp.uri"), ("DATABASE_URL", "database.url")];

/// The layers, merged. A key whose value cannot be read has its default, and a line among the problems.
pub(super) struct Layers {
    pub(super) merged: Result<config::Config, config::ConfigError>,
    /// Value and origin of every key, as they are set.
    pub(super) settings: Vec<Setting>,
    pub(super) problems: Problems,
}

/// Merges defaults, profile and environment.
pub(super) fn merge(environment: impl IntoIterator<Item = (OsString, OsString)>, folder: &Path) -> Layers {
    let mut merged = Merged::default();
    let environment = merged.readable(environment);
    if let Some(profile) = environment.get(PROFILE).filter(|profile| !profile.is_empty()) {
        merged.add_profile(profile, folder);
    }
    for (key, (variable, text)) in merged.overrides(&environment) {
        merged.add_variable(&key, variable, &text);
    }
    merged.finish()
}

/// The values over the defaults, each with its layer, and the problems found so far.
#[derive(Default)]
struct Merged {
    values: BTreeMap<String, (Value, String)>,
    /// Values that cannot be used, as they may be shown, each with its layer.
    unusable: BTreeMap<String, (String, String)>,
    problems: Problems,
    /// The profile cannot be read: a key that no variable sets may have any value.
    has_lost_profile: bool,
}

impl Merged {
    /// Returns the variables whose names and values are text.
    fn readable(
        &mut self,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> BTreeMap<String, String> {
        let mut readable = BTreeMap::new();
        for (name, value) in environment {
            let Ok(name) = name.into_string() else { continue };
            match value.into_string() {
                Ok(value) => drop(readable.insert(name, value)),
                Err(_) if is_own(&name) => {
                    self.problems.add_line(format!("{name}: the value is not UTF-8; write it anew"));
                    self.lose(&name);
                }
                Err(_) => {}
            }
        }
        readable
    }

    /// Marks the key of a variable whose value is not known.
    fn lose(&mut self, variable: &str) {
        let fallback = FALLBACKS.iter().find(|(name, _)| *name == variable);
        let key = fallback.map_or_else(|| key_of(variable), |(_, key)| (*key).to_owned());
        let key = key.strip_suffix("_file").filter(|base| KEYS.contains_key(*base)).unwrap_or(&key);
        self.problems.add_unknown(key);
        self.unusable.insert(key.to_owned(), (String::new(), variable.to_owned()));
    }

    /// Adds the values of `folder/{profile}.toml`.
    fn add_profile(&mut self, profile: &str, folder: &Path) {
        let path = folder.join(format!("{profile}.toml"));
        let place = path.display().to_string();
        let layer = std::fs::read_to_string(&path)
            .map_err(|error| format!("{PROFILE} = {profile}: cannot read {place}: {error}"))
            .and_then(|text| table(&text, &place));
        let layer = match layer {
            Ok(layer) => layer,
            Err(line) => {
                self.has_lost_profile = true;
                return self.problems.add_line(line);
            }
        };
        for (name, value) in flatten(&layer) {
            let Some(key) = KEYS.get(&name) else {
                self.problems.add_line(unknown(&format!("{name} in {place}"), &name));
                continue;
            };
            let text = text_of(&value);
            let problem = match key.read(&text) {
                Err(problem) => problem,
                Ok(_) if !key.kind.has_type_of(&value) => {
                    format!(
                        "has the wrong type, {} is expected; for example {}",
                        key.kind,
                        key.toml_example()
                    )
                }
                Ok(_) => {
                    self.values.insert(name, (value, place.clone()));
                    continue;
                }
            };
            let line = format!("{name} = {} in {place}: {problem}", key.quoted(&text));
            self.problems.add_wrong(&name, line);
            self.unusable.insert(name, (key.shown(&text), place.clone()));
        }
    }

    /// Returns the texts that the environment sets, each with its variable, by key.
    fn overrides(&mut self, environment: &BTreeMap<String, String>) -> BTreeMap<String, (String, String)> {
        let mut overrides = BTreeMap::new();
        for (variable, key) in FALLBACKS {
            if let Some(value) = environment.get(variable).filter(|value| !value.is_empty()) {
                overrides.insert(key.to_owned(), (variable.to_owned(), value.clone()));
            }
        }
        for (variable, value) in environment.iter().filter(|(variable, _)| variable.starts_with(PREFIX)) {
            let key = key_of(variable);
            if KEYS.contains_key(&key) {
                if environment.contains_key(&format!("{variable}_FILE")) {
                    let line = format!("{variable}: is set, and so is {variable}_FILE; unset one of them");
                    self.problems.add_line(line);
                }
                overrides.insert(key, (variable.clone(), value.clone()));
            } else if let Some((base, known)) =
                key.strip_suffix("_file").and_then(|base| KEYS.get_key_value(base))
            {
                match file::read(Path::new(value)) {
                    Ok(text) => drop(overrides.insert(base.clone(), (variable.clone(), text))),
                    Err(problem) => {
                        // The variable may hold the secret itself instead of a path.
                        let value = if known.secret { "…" } else { value };
                        self.problems.add_line(format!("{variable} = {value}: {problem}"));
                        overrides.remove(base);
                        self.lose(variable);
                    }
                }
            } else {
                self.problems.add_line(unknown(variable, &key));
            }
        }
        overrides
    }

    /// Adds the value that a variable, or the file that it names, holds.
    fn add_variable(&mut self, name: &str, variable: String, text: &str) {
        let Some(key) = KEYS.get(name) else { return };
        let problem = match key.read(text) {
            Ok(value) => {
                self.unusable.remove(name);
                self.values.insert(name.to_owned(), (value, variable));
                return;
            }
            Err(problem) => problem,
        };
        // The file may hold a secret that was meant for another key.
        let (shown, line) = if variable.ends_with("_FILE") && !KEYS.contains_key(&key_of(&variable)) {
            ("…".to_owned(), format!("{variable}: the content of the file {problem}"))
        } else {
            (key.shown(text), format!("{variable} = {}: {problem}", key.quoted(text)))
        };
        self.problems.add_wrong(name, line);
        self.unusable.insert(name.to_owned(), (shown, variable));
    }

    fn finish(mut self) -> Layers {
        if self.has_lost_profile {
            for name in KEYS.keys().filter(|name| !self.values.contains_key(*name)) {
                self.problems.add_unknown(name);
            }
        }
        let merged = || {
            let defaults = config::File::from_str(DEFAULTS, config::FileFormat::Toml);
            let mut builder = config::Config::builder().add_source(defaults);
            for (key, (value, _)) in self.values.iter().filter(|(key, _)| !self.unusable.contains_key(*key)) {
                builder = builder.set_override(key, value.clone())?;
            }
            builder.build()
        };
        let settings = KEYS.iter().map(|(name, key)| {
            let (value, origin) = match (self.unusable.get(name), self.values.get(name)) {
                (Some((shown, layer)), _) => (shown.clone(), layer.as_str()),
                (None, Some((value, layer))) => (key.shown(&text_of(value)), layer.as_str()),
                (None, None) => (key.shown(&text_of(&key.default)), DEFAULT),
            };
            Setting { key: name.clone(), value, origin: origin.to_owned() }
        });
        Layers { merged: merged(), settings: settings.collect(), problems: self.problems }
    }
}

/// Returns whether a variable is one of the configuration's.
fn is_own(name: &str) -> bool {
    name.starts_with(PREFIX) || name == PROFILE || FALLBACKS.iter().any(|(variable, _)| *variable == name)
}

/// Parses a profile, or returns the line about its problem.
fn table(text: &str, place: &str) -> Result<Value, String> {
    if text.starts_with('\u{feff}') {
        return Err(format!("{place}: begins with a byte order mark; save it as UTF-8 without one"));
    }
    // This parser names the line of an error and does not quote it: the line may hold a secret.
    if let Err(error) = text.parse::<toml::Table>() {
        let line = error.span().map_or(0, |span| text[..span.start].lines().count().max(1));
        return Err(format!("{place}: line {line}: {}", error.message()));
    }
    parse(text).map_err(|_| format!("{place}: is not readable as TOML"))
}
