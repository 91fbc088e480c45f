//! `cns-events migrate`

use clap::Args;
use serde_json::json;

use crate::config::Config;
use crate::store::migrate::{self, Applied};
use crate::terminal::output;

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
        let database = config.database.endpoint()?;
        if self.status {
            return self.show(&migrate::status(&database).await?);
        }
        let show = |name: &str| {
            if !self.json {
                output::line(&format!("applied {name}"));
            }
        };
        let Applied { names, schema } = migrate::run(&database, show).await?;
        if self.json {
            return output::json(&json!({ "applied": names, "schema": schema }));
        }
        let done = if names.is_empty() { "no migration is pending" } else { "done" };
        output::line(&format!("{done}: the table is {schema}.enrichment_events"));
        Ok(())
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
