//! `cns-events config`

use std::collections::BTreeMap;

use clap::Args;

use crate::config::Config;
use crate::terminal::output;

#[derive(Debug, Args)]
pub(super) struct Show {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Show {
    pub(super) fn run(&self, config: &Config) -> anyhow::Result<()> {
        if self.json {
            let by_key: BTreeMap<_, _> =
                config.settings.iter().map(|setting| (&setting.key, setting)).collect();
            return output::json(&by_key);
        }
        let mut table = output::table(["key", "value", "from"]);
        for setting in &config.settings {
            table.add_row([&setting.key, &setting.value, &setting.origin]);
        }
        output::line(&table.to_string());
        Ok(())
    }
}
