//! `cns-events dlq export`

use std::path::{Path, PathBuf};

use chrono::Utc;
use clap::Args;

use super::queue;
use super::select::Selection;
use crate::config::Config;
use crate::counted::counted;
use crate::dead_letters::{ExportTarget, to_json};
use crate::terminal::output;

#[derive(Debug, Args)]
pub(super) struct Export {
    #[command(flatten)]
    selection: Selection,
    /// Write to this file; - is stdout [default: -]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Export {
    pub(super) async fn run(&self, config: &Config) -> anyhow::Result<()> {
        let selection = self.selection.conditions();
        let (mut queue, bar) = queue::open(config).await?;
        // `-` is stdout.
        let path = self.output.as_deref().filter(|path| *path != Path::new("-"));
        let mut target = path.map(ExportTarget::open).transpose()?;
        let mut dead_letters = Vec::new();
        while let Some(held) = queue.next().await? {
            if selection.matches(&held.dead_letter, Utc::now()) {
                let json = to_json(&held.dead_letter, &held.message);
                let line = output::printable(&serde_json::to_string(&json)?);
                match &mut target {
                    Some(target) => target.line(&line)?,
                    None => output::line(&line),
                }
                dead_letters.push(held.dead_letter);
            }
        }
        queue.close().await?;
        bar.finish_and_clear();
        if let Some(target) = target {
            let path = target.finish()?;
            output::line(&format!(
                "exported {} to {}",
                counted(dead_letters.len(), "dead letter"),
                path.display()
            ));
        }
        queue::all_found(&selection.missing(&dead_letters.iter().collect::<Vec<_>>()))
    }
}
