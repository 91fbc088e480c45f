//! `cns-events dlq`: dead letters for people.
//!
//! Letters are read as the bytes they are, one at a time, and held while they are looked at; at the end they go back as they
//! were. A letter leaves the queue only when it is replayed (its copy confirmed first) or purged.

mod letter;
mod replay;
mod select;

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use indicatif::ProgressBar;
use serde_json::json;

use self::letter::{Letter, whole};
use self::replay::Replay;
use self::select::{Filter, Selection, is_named};
use super::{Failure, output};
use crate::broker::{Broker, Got, Wire, WireError};
use crate::config::Config;

/// The header that counts how often a message was replayed. The worker keeps it when it dead-letters the message again.
const REPLAYS: &str = "x-cns-replays";

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
    /// Its id in `dlq list` (the beginning will do), or its event_id
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
        let broker = Broker::new(config.amqp.uri.expose(), "cns-events dlq")?;
        let queue = config.amqp.dead_letter_queue.clone();
        let mut wire = Wire::open(&broker).await.context("cannot reach the broker")?;
        let left = wire.ready(&queue).await.map_err(|error| match &error {
            WireError::Closed { code: 404, .. } => anyhow::Error::new(error)
                .context("there is no dead-letter queue yet: a worker declares it when it starts"),
            _ => error.into(),
        })?;
        Ok(DeadQueue { wire, queue, left, bar: output::bar(left.into(), "letters") })
    }

    /// The next letter, which is held from now on.
    async fn next(&mut self) -> anyhow::Result<Option<(Letter, Got)>> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        self.bar.inc(1);
        let got = self.wire.next(&self.queue).await.context("cannot read the dead letters")?;
        Ok(got.map(|got| (Letter::of(&got.message), got)))
    }

    /// Lets go of what is held.
    async fn close(self) -> anyhow::Result<()> {
        self.bar.finish_and_clear();
        Ok(self.wire.close().await?)
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
        queue.close().await?;
        // A queue gives what was looked at before in any order.
        letters.sort_by(|a, b| (a.dead_at, &a.id).cmp(&(b.dead_at, &b.id)));
        let matching = letters.len();
        letters.truncate(self.limit);
        if self.json {
            return output::json(&letters);
        }
        if letters.is_empty() {
            output::line("no dead letters");
            return Ok(());
        }
        output::line(&table(&letters));
        if matching > letters.len() {
            output::line(&format!("{} of {matching} (--limit shows more)", letters.len()));
        }
        Ok(())
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
        queue.close().await?;
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
                serde_json::Value::String(text) if name == "body" => pretty(text),
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

/// A body for a person: indented where it is JSON.
fn pretty(body: &str) -> String {
    let value: Result<&serde_json::value::RawValue, _> = serde_json::from_str(body);
    let indented = value.ok().and_then(|_| {
        let value: serde_json::Value = serde_json::from_str(body).ok()?;
        serde_json::to_string_pretty(&value).ok()
    });
    indented.unwrap_or_else(|| body.to_owned()).lines().map(output::safe).collect::<Vec<_>>().join("\n")
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
        queue.close().await?;
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
        write!(std::io::stderr(), "Purge {letters} dead letters for good? [y/N] ")?;
        let mut answer = String::new();
        std::io::stdin().read_line(&mut answer)?;
        Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
    }
}

impl Export {
    async fn run(&self, config: &Config) -> anyhow::Result<()> {
        let mut out: Box<dyn Write + Send> = match &self.output {
            Some(path) => Box::new(std::io::BufWriter::new(
                std::fs::File::create(path).with_context(|| format!("cannot write to {}", path.display()))?,
            )),
            None => Box::new(std::io::BufWriter::new(std::io::stdout())),
        };
        let mut queue = DeadQueue::open(config).await?;
        let mut letters = Vec::new();
        while let Some((letter, got)) = queue.next().await? {
            if self.selection.matches(&letter) {
                serde_json::to_writer(&mut out, &whole(&letter, &got.message))?;
                out.write_all(b"\n")?;
                letters.push(letter);
            }
        }
        out.flush()?;
        queue.close().await?;
        if let Some(path) = &self.output {
            output::line(&format!("exported {} dead letters to {}", letters.len(), path.display()));
        }
        let missing = self.selection.missing(&letters);
        if missing.is_empty() { Ok(()) } else { bail!("no dead letter is called {}", missing.join(", ")) }
    }
}
