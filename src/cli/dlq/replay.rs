//! `cns-events dlq replay`

use std::time::{Duration, Instant};

use clap::Args;
use lapin::types::AMQPValue;
use serde_json::json;

use super::letter::{Letter, replays};
use super::{DeadQueue, REPLAYS, Selection};
use crate::broker::{Published, RawMessage, RawProperties, Tag, is_own_header};
use crate::cli::{Failure, output};
use crate::config::Config;

/// Copies on their way at the same time.
const WINDOW: usize = 100;

/// Windows a second, where a rate is asked for: how evenly it goes.
const WINDOWS_PER_SECOND: usize = 5;

/// `delivery_mode` of a message that the broker writes to disk (AMQP 0-9-1).
const PERSISTENT: u8 = 2;

#[derive(Debug, Args)]
pub(super) struct Replay {
    #[command(flatten)]
    selection: Selection,
    /// Letters a second at most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Only say which ones it would replay
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Letters whose copies go out together.
#[derive(Default)]
struct Window {
    tags: Vec<Tag>,
    letters: Vec<Letter>,
    copies: Vec<RawMessage>,
}

/// What became of the letters.
#[derive(Default)]
struct Outcome {
    replayed: Vec<Letter>,
    /// And why not.
    left: Vec<(Letter, String)>,
}

impl Replay {
    pub(super) async fn run(&self, config: &Config) -> Result<(), Failure> {
        let mut queue = DeadQueue::open(config).await?;
        let size = self.rate.map_or(WINDOW, |rate| {
            (usize::try_from(rate).unwrap_or(WINDOW) / WINDOWS_PER_SECOND).clamp(1, WINDOW)
        });
        let mut window = Window::default();
        let mut outcome = Outcome::default();
        let sent = self.send_all(&mut queue, config, size, &mut window, &mut outcome).await;
        // What went wrong in the middle does not hide what was done before it.
        let closed = queue.close().await;
        self.report(&outcome)?;
        sent?;
        closed?;
        let selected: Vec<_> = outcome.letters().cloned().collect();
        match self.selection.missing(&selected).as_slice() {
            [] if outcome.left.is_empty() => Ok(()),
            [] => Err(Failure::Said),
            missing => Err(anyhow::anyhow!("no dead letter is called {}", missing.join(", ")).into()),
        }
    }

    async fn send_all(
        &self,
        queue: &mut DeadQueue,
        config: &Config,
        size: usize,
        window: &mut Window,
        outcome: &mut Outcome,
    ) -> anyhow::Result<()> {
        let started = Instant::now();
        while let Some((letter, got)) = queue.next().await? {
            if !self.selection.matches(&letter) {
                continue;
            }
            match copy(&got.message) {
                Err(why) => outcome.left.push((letter, why)),
                Ok(_) if self.dry_run => outcome.replayed.push(letter),
                Ok(copy) => {
                    window.tags.push(got.tag);
                    window.letters.push(letter);
                    window.copies.push(copy);
                    if window.copies.len() == size {
                        send(queue, config, window, outcome).await?;
                        self.keep_pace(started, outcome.replayed.len()).await;
                    }
                }
            }
        }
        send(queue, config, window, outcome).await
    }

    /// Waits until so many letters may have been replayed.
    async fn keep_pace(&self, started: Instant, replayed: usize) {
        if let Some(rate) = self.rate {
            let due = Duration::from_secs_f64(replayed as f64 / f64::from(rate));
            tokio::time::sleep(due.saturating_sub(started.elapsed())).await;
        }
    }

    fn report(&self, outcome: &Outcome) -> anyhow::Result<()> {
        let Outcome { replayed, left } = outcome;
        if self.json {
            let left: Vec<_> =
                left.iter().map(|(letter, why)| json!({"id": letter.id, "why": why})).collect();
            let ids: Vec<_> = replayed.iter().map(|letter| &letter.id).collect();
            let verb = if self.dry_run { "would_replay" } else { "replayed" };
            return output::json(&json!({ verb: ids, "left": left }));
        }
        for (letter, why) in left {
            output::complain(&format!("{} stays: {}", letter.id, output::safe(why)));
        }
        if self.dry_run {
            output::line(&format!(
                "{}\nwould replay {} dead letters",
                super::table(replayed),
                replayed.len()
            ));
        } else {
            output::line(&format!("replayed: {}, left: {}", replayed.len(), left.len()));
        }
        Ok(())
    }
}

impl Outcome {
    fn letters(&self) -> impl Iterator<Item = &Letter> {
        self.replayed.iter().chain(self.left.iter().map(|(letter, _)| letter))
    }
}

/// Publishes a window; what the broker has confirmed leaves the dead-letter queue.
async fn send(
    queue: &mut DeadQueue,
    config: &Config,
    window: &mut Window,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let Window { tags, letters, copies } = std::mem::take(window);
    let published = queue.wire.publish(&config.amqp.exchange, &copies).await?;
    for ((tag, letter), published) in tags.into_iter().zip(letters).zip(published) {
        match published {
            Published::Confirmed => {
                queue.wire.ack(tag).await?;
                outcome.replayed.push(letter);
            }
            Published::Returned(words) => {
                let why = format!("no queue takes its routing key {:?} ({words})", letter.routing_key);
                outcome.left.push((letter, why));
            }
            Published::Refused => outcome.left.push((letter, "the broker refused its copy (nack)".into())),
        }
    }
    Ok(())
}

/// The message as it was before it died, with one replay more.
fn copy(letter: &RawMessage) -> Result<RawMessage, String> {
    let properties = letter.properties.read().map_err(|property| {
        format!(
            "its {} is not UTF-8: the worker cannot read it either; export it, then purge it",
            property.name()
        )
    })?;
    let mut headers = properties.headers().clone().unwrap_or_default();
    let routing_key = match headers.inner().get("x-cns-routing-key") {
        Some(AMQPValue::LongString(key)) => key.as_bytes().to_owned(),
        _ => letter.routing_key.clone(),
    };
    let again = replays(&headers) + 1;
    let kept = headers.inner().iter().filter(|(name, _)| !is_own_header(name.as_str()));
    headers = kept
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect::<std::collections::BTreeMap<_, _>>()
        .into();
    headers.insert(REPLAYS.into(), AMQPValue::LongLongInt(again));
    let properties = properties.with_headers(headers).with_delivery_mode(PERSISTENT);
    Ok(RawMessage { routing_key, properties: RawProperties::of(&properties), body: letter.body.clone() })
}
