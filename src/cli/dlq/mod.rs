//! `cns-events dlq`: dead letters for people.
//!
//! Letters are read as the bytes they are, one at a time, and held while they are looked at; at the end they go back as they
//! were. A letter leaves the queue only when it is replayed (its copy confirmed first) or purged.

mod letter;
mod replay;
mod select;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use serde_json::json;

use self::letter::{Letter, whole};
use self::replay::Replay;
use self::select::{Filter, Selection, is_named};
use super::{Failure, output};
use crate::amqp::{AmqpError, Got, Wire};
use crate::broker::BrokerEndpoint;
use crate::config::Config;

/// The header that counts how often a message was replayed. The worker keeps it when it dead-letters the message again.
const REPLAYS: &str = "x-cns-replays";

/// How long the next letter may take: as long as any answer. A letter that is not seen is an error here.
const NEXT_LETTER: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(super) struct Dlq {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The letters as a table, oldest first
    List(List),
    /// One letter: why it is dead, its properties and its body
    Show(Show),
    /// Publish letters again under the keys they came with; each leaves the queue when the broker has confirmed its copy
    Replay(Replay),
    /// Remove letters for good; asks first
    Purge(Purge),
    /// Write letters as JSON lines; they stay in the queue
    Export(Export),
}

#[derive(Debug, Args)]
struct List {
    #[command(flatten)]
    filter: Filter,
    /// Rows at most
    #[arg(long, default_value_t = 100)]
    limit: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Show {
    /// Its id in `dlq list` (the first eight characters will do), or its event_id
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    id: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Purge {
    #[command(flatten)]
    selection: Selection,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Only say how many it would remove
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Export {
    #[command(flatten)]
    selection: Selection,
    /// Where to; stdout where it is not given
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
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

/// The dead-letter queue, letter by letter.
struct DeadQueue {
    wire: Wire,
    queue: String,
    /// Letters that were there at the start and are not read yet: what comes meanwhile is for another time.
    left: u32,
    bar: ProgressBar,
}

impl DeadQueue {
    async fn open(config: &Config) -> anyhow::Result<Self> {
        let broker = BrokerEndpoint::new(config.amqp.uri.expose(), "cns-events dlq")?;
        let queue = config.amqp.dead_letter_queue.clone();
        let mut wire =
            Wire::open(&broker).await.context("cannot reach the broker")?.with_patience(NEXT_LETTER);
        let left = wire.ready(&queue).await.map_err(|error| match &error {
            AmqpError::Closed { code: 404, .. } => anyhow::Error::new(error)
                .context("there is no dead-letter queue yet: a worker declares it when it starts"),
            _ => error.into(),
        })?;
        Ok(DeadQueue { wire, queue, left, bar: output::bar(left.into(), "letters") })
    }

    /// The next letter, which is held from now on.
    async fn next(&mut self) -> anyhow::Result<Option<(Letter, Got)>> {
        if self.left == 0 {
            return Ok(None);
        }
        let got = self.wire.next(&self.queue).await.context("cannot read the dead letters")?;
        self.left -= u32::from(got.is_some());
        self.bar.inc(got.is_some().into());
        Ok(got.map(|got| (Letter::of(&got.message), got)))
    }

    /// Lets go of what is held. Where not every letter was to be had, that is an error: what was printed is not all.
    async fn close(self, all: bool) -> anyhow::Result<()> {
        self.bar.finish_and_clear();
        self.wire.close().await?;
        match self.left {
            left @ 1.. if all => {
                bail!("{left} letters were not seen: somebody else holds them, or has taken them; try again")
            }
            _ => Ok(()),
        }
    }
}

impl List {
    async fn run(&self, config: &Config) -> anyhow::Result<()> {
        let mut queue = DeadQueue::open(config).await?;
        let mut letters = Vec::new();
        while let Some((letter, _)) = queue.next().await? {
            if self.filter.matches(&letter) {
                letters.push(letter);
            }
        }
        let complete = queue.close(true).await;
        // A queue gives what was looked at before in any order.
        letters.sort_by(|a, b| (a.dead_at, &a.id).cmp(&(b.dead_at, &b.id)));
        let matching = letters.len();
        letters.truncate(self.limit);
        if self.json {
            output::json(&letters)?;
        } else if letters.is_empty() && complete.is_ok() {
            output::line("no dead letters");
        } else {
            output::line(&table(&letters));
            if matching > letters.len() {
                output::line(&format!("{} of {matching} (--limit shows more)", letters.len()));
            }
        }
        complete
    }
}

fn table(letters: &[Letter]) -> String {
    let mut table = output::table(["id", "when (UTC)", "reason", "field", "type", "BOM", "replays"]);
    for letter in letters {
        let when = letter.dead_at.map_or_else(|| "-".into(), |at| at.format("%Y-%m-%d %H:%M:%S").to_string());
        let or_dash = |text: &Option<String>| output::safe(text.as_deref().unwrap_or("-"));
        table.add_row([
            letter.id.clone(),
            when,
            output::safe(&letter.reason),
            or_dash(&letter.field),
            or_dash(&letter.event_type),
            or_dash(&letter.bom_id),
            letter.replays.to_string(),
        ]);
    }
    table.to_string()
}

impl Show {
    async fn run(&self, config: &Config) -> anyhow::Result<()> {
        let mut queue = DeadQueue::open(config).await?;
        let mut found = None;
        while let Some((letter, got)) = queue.next().await? {
            if is_named(&letter, &self.id) {
                found = Some((letter, got.message));
                break;
            }
        }
        queue.close(found.is_none()).await?;
        let Some((letter, message)) = found else {
            bail!("no dead letter is called {:?}: `cns-events dlq list` shows those there are", self.id);
        };
        let whole = whole(&letter, &message);
        if self.json {
            return output::json(&whole);
        }
        let mut table = output::table(["", "dead letter"]);
        for (name, value) in whole.as_object().into_iter().flatten() {
            let text = match value {
                serde_json::Value::Null => continue,
                // As it came: indenting would hide what may be wrong with it.
                serde_json::Value::String(text) if name == "body" => {
                    text.lines().map(output::safe).collect::<Vec<_>>().join("\n")
                }
                serde_json::Value::String(text) => output::safe(text),
                serde_json::Value::Object(entries) => entries
                    .iter()
                    .map(|(name, value)| {
                        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                        format!("{}: {}", output::safe(name), output::safe(&value))
                    })
                    .collect::<Vec<_>>()
                    .join("\n"),
                other => other.to_string(),
            };
            table.add_row([name, &text]);
        }
        output::line(&table.to_string());
        Ok(())
    }
}

impl Purge {
    async fn run(&self, config: &Config) -> anyhow::Result<()> {
        let mut queue = DeadQueue::open(config).await?;
        let (mut tags, mut letters) = (Vec::new(), Vec::new());
        while let Some((letter, got)) = queue.next().await? {
            if self.selection.matches(&letter) {
                tags.push(got.tag);
                letters.push(letter);
            }
        }
        queue.bar.finish_and_clear();
        let purging = !self.dry_run && !tags.is_empty() && self.sure(tags.len())?;
        if purging {
            for tag in &tags {
                queue.wire.ack(*tag).await?;
            }
        }
        queue.close(true).await?;
        let purged = if purging { tags.len() } else { 0 };
        if self.json {
            return output::json(&json!({ "matching": tags.len(), "purged": purged }));
        }
        output::line(&match (self.dry_run, purging) {
            (true, _) => format!("would purge {} dead letters", tags.len()),
            (false, true) => format!("purged {purged} dead letters"),
            (false, false) => format!("purged nothing; {} dead letters match", tags.len()),
        });
        let missing = self.selection.missing(&letters);
        if missing.is_empty() { Ok(()) } else { bail!("no dead letter is called {}", missing.join(", ")) }
    }

    fn sure(&self, letters: usize) -> anyhow::Result<bool> {
        if self.yes {
            return Ok(true);
        }
        if !std::io::stdin().is_terminal() {
            bail!("would purge {letters} dead letters for good: --yes does it without asking");
        }
        Ok(output::confirmed(&format!("Purge {letters} dead letters for good?"))?)
    }
}

impl Export {
    async fn run(&self, config: &Config) -> anyhow::Result<()> {
        let mut queue = DeadQueue::open(config).await?;
        // An earlier export is replaced when this one is complete, and not before.
        let mut file = match &self.output {
            Some(path) => {
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
                let file = tempfile::NamedTempFile::new_in(folder.unwrap_or(std::path::Path::new(".")));
                Some(file.with_context(|| format!("cannot write to {}", path.display()))?)
            }
            None => None,
        };
        let mut letters = Vec::new();
        while let Some((letter, got)) = queue.next().await? {
            if self.selection.matches(&letter) {
                let line = output::printable(&serde_json::to_string(&whole(&letter, &got.message))?);
                match &mut file {
                    Some(file) => writeln!(file, "{line}").context("cannot write the export")?,
                    None => output::line(&line),
                }
                letters.push(letter);
            }
        }
        queue.close(true).await?;
        if let (Some(file), Some(path)) = (file, &self.output) {
            file.as_file().sync_all()?;
            file.persist(path).with_context(|| format!("cannot write to {}", path.display()))?;
            output::line(&format!("exported {} dead letters to {}", letters.len(), path.display()));
        }
        let missing = self.selection.missing(&letters);
        if missing.is_empty() { Ok(()) } else { bail!("no dead letter is called {}", missing.join(", ")) }
    }
}
