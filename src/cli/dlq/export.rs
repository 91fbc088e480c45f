//! `cns-events dlq export`

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use chrono::Utc;
use clap::Args;
use tempfile::NamedTempFile;

use super::queue;
use super::select::Selection;
use crate::cli::output;
use crate::config::Config;
use crate::dead_letters::to_json;

#[derive(Debug, Args)]
pub(super) struct Export {
    #[command(flatten)]
    selection: Selection,
    /// Write to this file [default: stdout]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Export {
    pub(super) async fn run(&self, config: &Config) -> anyhow::Result<()> {
        let selection = self.selection.conditions();
        let (mut queue, bar) = queue::open(config).await?;
        // An earlier export is replaced only when this one is complete.
        let mut file = self.output.as_deref().map(temporary_beside).transpose()?;
        let mut dead_letters = Vec::new();
        while let Some(held) = queue.next().await? {
            if selection.matches(&held.dead_letter, Utc::now()) {
                let json = to_json(&held.dead_letter, &held.message);
                let line = output::printable(&serde_json::to_string(&json)?);
                match &mut file {
                    Some(file) => writeln!(file, "{line}").context("cannot write the export")?,
                    None => output::line(&line),
                }
                dead_letters.push(held.dead_letter);
            }
        }
        queue.close().await?;
        bar.finish_and_clear();
        if let (Some(file), Some(path)) = (file, &self.output) {
            file.as_file().sync_all()?;
            file.persist(path).with_context(|| format!("cannot write to {}", path.display()))?;
            output::line(&format!("exported {} dead letters to {}", dead_letters.len(), path.display()));
        }
        queue::all_found(&selection.missing(&dead_letters.iter().collect::<Vec<_>>()))
    }
}

/// Creates a temporary file in the folder of `path`, so that it can be renamed to it.
fn temporary_beside(path: &Path) -> anyhow::Result<NamedTempFile> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))
        .with_context(|| format!("cannot write to {}", path.display()))
}
