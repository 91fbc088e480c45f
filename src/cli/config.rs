//! `cns-events config`

use std::collections::BTreeMap;

use clap::Args;

use super::failure::Failure;
use crate::config::{Config, ConfigError};
use crate::terminal::output;

#[derive(Debug, Args)]
pub(super) struct Show {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Show {
    /// Prints every key as it is set, also where the configuration cannot be used; the problems follow on stderr then.
    pub(super) fn run(&self, config: Result<Config, ConfigError>) -> Result<(), Failure> {
        let settings = match &config {
            Ok(config) => &config.settings,
            Err(error) => &error.settings,
        };
        if self.json {
            let by_key: BTreeMap<_, _> = settings.iter().map(|setting| (&setting.key, setting)).collect();
            output::json(&by_key)?;
        } else {
            let mut table = output::table(["key", "value", "from"]);
            for setting in settings {
                table.add_row([&setting.key, &setting.value, &setting.origin]);
            }
            output::line(&table.to_string());
        }
        Ok(config.map(drop)?)
    }
}
