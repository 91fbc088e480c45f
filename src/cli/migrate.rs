//! `cns-events migrate`

use clap::Args;
use serde_json::json;

use super::output;
use crate::config::Config;
use crate::store::{DatabaseEndpoint, migrate};

#[derive(Debug, Args)]
pub(super) struct Migrate {
    /// List the migrations and their state without running any
    #[arg(long)]
    status: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Migrate {
    pub(super) async fn run(&self, config: &Config) -> anyhow::Result<()> {
        let database = DatabaseEndpoint::from_url(config.database.url.expose())?;
        if self.status {
            return self.show(&migrate::status(&database).await?);
        }
        let run = migrate::run(&database).await?;
        if self.json {
            output::json(&json!({ "applied": run }))
        } else if run.is_empty() {
            output::line("no migration is pending");
            Ok(())
        } else {
            run.iter().for_each(|name| output::line(&format!("applied {name}")));
            Ok(())
        }
    }

    fn show(&self, migrations: &[migrate::Migration]) -> anyhow::Result<()> {
        if self.json {
            let all: Vec<_> = migrations
                .iter()
                .map(|migration| json!({ "name": migration.name, "applied": migration.applied }))
                .collect();
            return output::json(&all);
        }
        let mut table = output::table(["migration", "state"]);
        for migration in migrations {
            table.add_row([migration.name.as_str(), if migration.applied { "applied" } else { "pending" }]);
        }
        output::line(&table.to_string());
        Ok(())
    }
}
