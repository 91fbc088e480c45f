//! Configuration: section 6 of the contract.
//!
//! `config/default.toml` is built into the binary and defines the keys: name, default and comment. The structs in `types.rs`
//! give each key its type. [`reference()`] returns both for the generated documentation.

mod check;
mod file;
mod keys;
mod layers;
mod listen;
mod problems;
mod secret;
mod types;

use std::ffi::OsString;
use std::path::Path;

use layers::Layers;

pub use keys::{KeyDoc, reference};
pub use listen::Listen;
pub use secret::{Secret, masked};
pub use types::{
    Aggregate, AggregateInWorker, Amqp, Api, Config, Conflicts, DEFAULT, Database, Declare, Http, Log,
    LogFormat, Publisher, Setting, Validation, Worker,
};

/// Key that a database URL sets where it names a pooler and nothing else sets the key.
const PREPARED: &str = "database.prepared_statements";

/// A configuration that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}", .problems.join("\n"))]
pub struct ConfigError {
    /// Every problem, one line each.
    pub problems: Vec<String>,
    /// Value and origin of every key, as they are set.
    pub settings: Vec<Setting>,
}

impl Config {
    /// Reads the configuration from the process's environment and the `config` folder.
    ///
    /// # Errors
    /// Every problem, one line each.
    pub fn load() -> Result<Self, ConfigError> {
        Self::from_layers(std::env::vars_os(), Path::new("config"))
    }

    pub(crate) fn from_layers(
        environment: impl IntoIterator<Item = (OsString, OsString)>,
        folder: &Path,
    ) -> Result<Self, ConfigError> {
        let Layers { merged, mut settings, mut problems } = layers::merge(environment, folder);
        let config = merged.and_then(config::Config::try_deserialize::<Config>);
        let mut config = match config {
            Ok(config) => config,
            Err(error) => {
                problems.add_line(error.to_string());
                return Err(ConfigError { problems: problems.lines, settings });
            }
        };
        let is_default =
            |key: &str| settings.iter().any(|setting| setting.key == key && setting.origin == DEFAULT);
        config.amqp.is_unset = is_default("amqp.uri");
        config.database.is_unset = is_default("database.url");
        check::check(&config, &mut problems);
        if is_default(PREPARED) && config.database.endpoint().is_ok_and(|database| database.is_pooled()) {
            config.database.prepared_statements = false;
            let prepared = settings.iter_mut().find(|setting| setting.key == PREPARED);
            if let Some(setting) = prepared {
                (setting.value, setting.origin) = ("false".to_owned(), "database.url".to_owned());
            }
        }
        // A part of a text that is not understood may be a part of its password.
        for setting in settings.iter_mut().filter(|setting| {
            setting.key == "amqp.uri" && config.amqp.endpoint("check").is_err()
                || setting.key == "database.url" && config.database.endpoint().is_err()
        }) {
            setting.value = "***".to_owned();
        }
        if !problems.lines.is_empty() {
            return Err(ConfigError { problems: problems.lines, settings });
        }
        config.settings = settings;
        Ok(config)
    }
}

#[cfg(test)]
mod tests;
