//! The layers of the configuration, merged key by key: defaults, profile, environment.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

use config::Value;

use super::keys::{DEFAULTS, KEYS, PREFIX, flatten, key_of, parse, text_of, unknown};
use super::types::{DEFAULT, Setting};

/// Variable that names the profile.
const PROFILE: &str = "CNS_EVENTS_PROFILE";

/// Variables that set a key when its prefixed variable is unset.
const FALLBACKS: [(&str, &str); 2] = [("AMQP_URL", "amqp.uri"), ("DATABASE_URL", "database.url")];

/// Merges defaults, profile and environment.
///
/// # Errors
/// Every problem, one line each.
pub(super) fn merge(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    folder: &Path,
) -> Result<(config::Config, Vec<Setting>), Vec<String>> {
    let environment: BTreeMap<String, String> = environment
        .into_iter()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let mut merged = Merged::default();
    if let Some(profile) = environment.get(PROFILE).filter(|profile| !profile.is_empty()) {
        merged.add_profile(profile, folder)?;
    }
    for (key, (variable, text)) in merged.overrides(&environment) {
        merged.add_variable(key, variable, &text);
    }
    merged.finish()
}

/// The values over the defaults, each with its layer, and the problems found so far.
#[derive(Default)]
struct Merged {
    values: BTreeMap<String, (Value, String)>,
    problems: Vec<String>,
}

impl Merged {
    /// Adds the values of `folder/{profile}.toml`.
    fn add_profile(&mut self, profile: &str, folder: &Path) -> Result<(), Vec<String>> {
        let path = folder.join(format!("{profile}.toml"));
        let place = path.display().to_string();
        let text = std::fs::read_to_string(&path)
            .map_err(|error| vec![format!("{PROFILE} = {profile}: cannot read {place}: {error}")])?;
        // This parser names the line of an error and does not quote it: the line may hold a secret.
        if let Err(error) = text.parse::<toml::Table>() {
            let line = error.span().map_or(0, |span| text[..span.start].lines().count().max(1));
            return Err(vec![format!("{place}: line {line}: {}", error.message())]);
        }
        let layer = parse(&text).map_err(|_| vec![format!("{place}: is not readable as TOML")])?;
        for (name, value) in flatten(&layer) {
            let Some(key) = KEYS.get(&name) else {
                self.problems.push(unknown(&format!("{name} in {place}"), &name));
                continue;
            };
            let text = text_of(&value);
            let problem = match key.kind.read(&text) {
                Err(problem) => problem,
                Ok(_) if !key.kind.has_type_of(&value) => {
                    format!("has the wrong type, {} is expected", key.kind)
                }
                Ok(_) => {
                    self.values.insert(name, (value, place.clone()));
                    continue;
                }
            };
            self.problems.push(format!("{name} = {} in {place}: {problem}", key.shown(&text)));
        }
        Ok(())
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
                    self.problems
                        .push(format!("{variable}: is set, and so is {variable}_FILE; unset one of them"));
                }
                overrides.insert(key, (variable.clone(), value.clone()));
            } else if let Some((base, known)) =
                key.strip_suffix("_file").and_then(|base| KEYS.get_key_value(base))
            {
                match std::fs::read_to_string(value) {
                    Ok(text) => {
                        let text = text.trim_end_matches(['\r', '\n']).to_owned();
                        overrides.insert(base.clone(), (variable.clone(), text));
                    }
                    Err(error) => {
                        // The variable may hold the secret itself instead of a path.
                        let value = if known.secret { "…" } else { value };
                        self.problems.push(format!("{variable} = {value}: cannot read the file: {error}"));
                    }
                }
            } else {
                self.problems.push(unknown(variable, &key));
            }
        }
        overrides
    }

    /// Adds the value that a variable, or the file that it names, holds.
    fn add_variable(&mut self, name: String, variable: String, text: &str) {
        let Some(key) = KEYS.get(&name) else { return };
        match key.kind.read(text) {
            Ok(value) => drop(self.values.insert(name, (value, variable))),
            // The file may hold a secret that was meant for another key.
            Err(problem) if variable.ends_with("_FILE") && !KEYS.contains_key(&key_of(&variable)) => {
                self.problems.push(format!("{variable}: the content of the file {problem}"));
            }
            Err(problem) => self.problems.push(format!("{variable} = {}: {problem}", key.shown(text))),
        }
    }

    fn finish(self) -> Result<(config::Config, Vec<Setting>), Vec<String>> {
        if !self.problems.is_empty() {
            return Err(self.problems);
        }
        let one = |error: config::ConfigError| vec![error.to_string()];
        let mut builder =
            config::Config::builder().add_source(config::File::from_str(DEFAULTS, config::FileFormat::Toml));
        for (key, (value, _)) in &self.values {
            builder = builder.set_override(key, value.clone()).map_err(one)?;
        }
        let settings = KEYS.iter().map(|(name, key)| {
            let (value, origin) = match self.values.get(name) {
                Some((value, layer)) => (value, layer.as_str()),
                None => (&key.default, DEFAULT),
            };
            Setting { key: name.clone(), value: key.shown(&text_of(value)), origin: origin.to_owned() }
        });
        Ok((builder.build().map_err(one)?, settings.collect()))
    }
}
