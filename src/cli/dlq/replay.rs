//! `cns-events dlq replay`

use clap::Args;
use serde_json::json;

use super::queue;
use super::select::Selection;
use crate::cli::failure::Failure;
use crate::config::Config;
use crate::counted::counted;
use crate::dead_letters::{ReplayOptions, ReplayReport, ReplayTarget, replay};
use crate::terminal::{dead_letters, output};

#[derive(Debug, Args)]
pub(super) struct Replay {
    #[command(flatten)]
    selection: Selection,
    /// Replay at most N dead letters a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Publish into the worker's queue itself, for messages that came by another exchange
    #[arg(long)]
    to_queue: bool,
    /// Print the dead letters that would be replayed, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Replay {
    pub(super) async fn run(&self, config: &Config) -> Result<(), Failure> {
        self.selection.required();
        let selection = self.selection.conditions();
        let queue = ReplayTarget::Queue(&config.amqp.queue);
        let exchange = ReplayTarget::Exchange(&config.amqp.exchange);
        let options = ReplayOptions {
            to: if self.to_queue { queue } else { exchange },
            selection: &selection,
            max_per_second: self.rate,
            dry_run: self.dry_run,
        };
        let (mut queue, bar) = queue::open(config).await?;
        let (report, replayed) = replay(&mut queue, &options).await;
        let not_read = queue.not_read();
        let closed = queue.close().await;
        bar.finish_and_clear();
        self.print(&report, not_read)?;
        replayed.map_err(anyhow::Error::from)?;
        closed.map_err(anyhow::Error::from)?;
        queue::all_found(&selection.missing(&report.selected()))?;
        if report.left.is_empty() { Ok(()) } else { Err(Failure::Reported) }
    }

    fn print(&self, ReplayReport { replayed, left }: &ReplayReport, not_read: u32) -> anyhow::Result<()> {
        if self.json {
            let left: Vec<_> = left
                .iter()
                .map(|(dead_letter, error)| json!({"id": dead_letter.id, "error": error.to_string()}))
                .collect();
            let ids: Vec<_> = replayed.iter().map(|dead_letter| &dead_letter.id).collect();
            let verb = if self.dry_run { "would_replay" } else { "replayed" };
            return output::json(&json!({ verb: ids, "left": left, "not_read": not_read }));
        }
        for (dead_letter, error) in left {
            let error = output::safe_lines(&error.to_string());
            output::error(&format!("cannot replay {}: {error}", dead_letter.id));
        }
        if self.dry_run {
            output::line(&dead_letters::list(replayed));
            output::line(&format!("would replay {}", counted(replayed.len(), "dead letter")));
        } else {
            let not_read = if not_read == 0 { String::new() } else { format!(", not read: {not_read}") };
            output::line(&format!("replayed: {}, left: {}{not_read}", replayed.len(), left.len()));
        }
        Ok(())
    }
}
