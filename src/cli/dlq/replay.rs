//! `cns-events dlq replay`

use std::time::{Duration, Instant};

use clap::Args;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::json;

use super::letter::{Letter, replays};
use super::{DeadQueue, REPLAYS, Selection};
use crate::amqp::{Published, RawMessage, Tag};
use crate::broker::{is_own_header, set_apart};
use crate::cli::{Failure, output};
use crate::config::Config;
use crate::event::Rejection;
use crate::message::MAX_KEY_BYTES;

/// Copies on their way at the same time.
const WINDOW: usize = 100;

/// Windows a second, where a rate is asked for: how evenly it goes.
const WINDOWS_PER_SECOND: usize = 5;

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
        let closed = queue.close(true).await;
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
    if let Err(rejection) = letter.check() {
        let Rejection { detail, .. } = rejection;
        return Err(format!("its {detail}: the worker cannot read it either; export it, then purge it"));
    }
    let headers = letter.properties.headers().unwrap_or_default();
    let routing_key = match headers.inner().get("x-cns-routing-key") {
        Some(AMQPValue::LongString(key)) => key.as_bytes().to_owned(),
        _ => letter.routing_key.clone(),
    };
    if routing_key.len() > MAX_KEY_BYTES {
        return Err(format!("x-cns-routing-key has more than {MAX_KEY_BYTES} bytes"));
    }
    let mut own = FieldTable::default();
    for (name, value) in headers.inner().iter().filter(|(name, _)| !is_own_header(name.as_str())) {
        own.insert(name.clone(), value.clone());
    }
    own.insert(REPLAYS.into(), AMQPValue::LongLongInt(replays(&headers).saturating_add(1)));
    let mut properties = letter.properties.clone();
    set_apart(&mut properties, &mut own); // the broker's own letters still have what it would act on
    properties.set_headers(&own);
    Ok(RawMessage { routing_key, properties, body: letter.body.clone() })
}
