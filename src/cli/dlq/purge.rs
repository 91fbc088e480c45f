//! `cns-events dlq purge`

use std::io::IsTerminal;

use anyhow::bail;
use chrono::Utc;
use clap::Args;
use serde_json::json;

use super::queue;
use super::select::Selection;
use crate::config::Config;
use crate::counted::counted;
use crate::terminal::output;

#[derive(Debug, Args)]
pub(super) struct Purge {
    #[command(flatten)]
    selection: Selection,
    /// Skip the confirmation
    #[arg(long, short)]
    yes: bool,
    /// Print the number of dead letters that would be removed, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Purge {
    pub(super) async fn run(&self, config: &Config) -> anyhow::Result<()> {
        self.selection.required();
        let selection = self.selection.conditions();
        let (mut queue, bar) = queue::open(config).await?;
        let (mut tags, mut dead_letters) = (Vec::new(), Vec::new());
        while let Some(held) = queue.next().await? {
            if selection.matches(&held.dead_letter, Utc::now()) {
                tags.push(held.tag);
                dead_letters.push(held.dead_letter);
            }
        }
        bar.finish_and_clear();
        let matching = tags.len();
        let purging = !self.dry_run && matching > 0 && self.is_confirmed(matching)?;
        if purging {
            for tag in tags {
                queue.remove(tag).await?;
            }
        }
        queue.close().await?;
        let purged = if purging { matching } else { 0 };
        if self.json {
            return output::json(&json!({ "matching": matching, "purged": purged }));
        }
        output::line(&match (self.dry_run, purging) {
            (true, _) => format!("would purge {}", counted(matching, "dead letter")),
            (false, true) => format!("purged {}", counted(purged, "dead letter")),
            (false, false) => format!("purged nothing of {}", counted(matching, "matching dead letter")),
        });
        queue::all_found(&selection.missing(&dead_letters.iter().collect::<Vec<_>>()))
    }

    fn is_confirmed(&self, matching: usize) -> anyhow::Result<bool> {
        if self.yes {
            return Ok(true);
        }
        if !std::io::stdin().is_terminal() {
            bail!(
                "cannot ask for a confirmation to purge {}: stdin is not a terminal\nhint: confirm with --yes",
                counted(matching, "dead letter")
            );
        }
        Ok(output::confirmed(&format!("Purge {} for good?", counted(matching, "dead letter")))?)
    }
}
