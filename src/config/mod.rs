//! Configuration: section 6 of the contract.
//!
//! `config/default.toml` is built into the binary and defines the keys: name, default and comment. The structs in `types.rs`
//! give each key its type. [`reference()`] returns both for the generated documentation.

mod check;
mod keys;
mod layers;
mod secret;
mod types;

use std::ffi::OsString;
use std::path::Path;

pub use keys::{KeyDoc, reference};
pub use secret::{Secret, masked};
pub use types::{
    Aggregate, AggregateInWorker, Amqp, Api, Config, Conflicts, DEFAULT, Database, Declare, Http, Log,
    LogFormat, Publisher, Setting, Validation, Worker,
};

/// A configuration that cannot be used: one line for each problem.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigError(pub Vec<String>);

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
        let (merged, settings) = layers::merge(environment, folder).map_err(ConfigError)?;
        let mut config: Config =
            merged.try_deserialize().map_err(|error| ConfigError(vec![error.to_string()]))?;
        config.settings = settings;
        let problems = check::problems(&config);
        if problems.is_empty() { Ok(config) } else { Err(ConfigError(problems)) }
    }
}

#[cfg(test)]
mod tests;
