//! `cns-events dlq list`

use chrono::Utc;
use clap::Args;

use super::queue;
use super::select::Filter;
use crate::config::Config;
use crate::terminal::{dead_letters, output};

#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    filter: Filter,
    /// Print at most N dead letters
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    limit: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl List {
    pub(super) async fn run(&self, config: &Config) -> anyhow::Result<()> {
        let filter = self.filter.conditions();
        let (mut queue, bar) = queue::open(config).await?;
        let mut dead_letters = Vec::new();
        while let Some(held) = queue.next().await? {
            if filter.matches(&held.dead_letter, Utc::now()) {
                dead_letters.push(held.dead_letter);
            }
        }
        let complete = queue.close().await;
        bar.finish_and_clear();
        // A queue delivers in any order what was read before.
        dead_letters.sort_by(|a, b| (a.dead_at, &a.id).cmp(&(b.dead_at, &b.id)));
        let matching = dead_letters.len();
        dead_letters.truncate(self.limit as usize);
        if self.json {
            output::json(&dead_letters)?;
        } else if dead_letters.is_empty() && complete.is_ok() {
            output::line("no dead letters");
        } else {
            output::line(&dead_letters::list(&dead_letters));
            if matching > dead_letters.len() {
                output::line(&format!("{} of {matching} (--limit shows more)", dead_letters.len()));
            }
        }
        Ok(complete?)
    }
}
