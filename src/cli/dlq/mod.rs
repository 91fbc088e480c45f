//! `cns-events dlq`: the dead-letter queue on the command line.

mod export;
mod list;
mod purge;
mod queue;
mod replay;
mod select;
mod show;

use clap::{Args, Subcommand};

use super::failure::Failure;
use crate::config::Config;

#[derive(Debug, Args)]
pub(super) struct Dlq {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List dead letters as a table, oldest first
    List(list::List),
    /// Show one dead letter: its reason, properties and body
    Show(show::Show),
    /// Publish dead letters again under their original routing keys; each leaves the queue when the broker confirms its copy
    Replay(replay::Replay),
    /// Remove dead letters for good, after a confirmation
    Purge(purge::Purge),
    /// Write dead letters as JSON lines; they stay in the queue
    Export(export::Export),
}

impl Dlq {
    pub(super) async fn run(&self, config: &Config) -> Result<(), Failure> {
        match &self.command {
            Command::List(command) => command.run(config).await.map_err(Failure::from),
            Command::Show(command) => command.run(config).await.map_err(Failure::from),
            Command::Replay(command) => command.run(config).await,
            Command::Purge(command) => command.run(config).await.map_err(Failure::from),
            Command::Export(command) => command.run(config).await.map_err(Failure::from),
        }
    }
}
