//! The dead-letter queue of the configuration, with a progress bar.

use indicatif::ProgressBar;

use crate::config::Config;
use crate::dead_letters::{DeadLetterQueue, Progress};
use crate::terminal::bars;

/// Opens the queue; the bar follows what is read from it.
pub(super) async fn open(config: &Config) -> anyhow::Result<(DeadLetterQueue, ProgressBar)> {
    let broker = config.amqp.endpoint("cns-events dlq")?;
    let bar = bars::bar(0, "dead letters");
    let progress_bar = bar.clone();
    let show = move |Progress { read, total }| {
        progress_bar.set_length(total.into());
        progress_bar.set_position(read.into());
    };
    let queue = DeadLetterQueue::open(&broker, &config.amqp.dead_letter_queue, show).await?;
    Ok((queue, bar))
}

/// Fails if ids were given that name no dead letter.
pub(super) fn all_found(missing: &[&str]) -> anyhow::Result<()> {
    anyhow::ensure!(
        missing.is_empty(),
        "no dead letter has the id or event_id: {}\nhint: list the ids with `cns-events dlq list`",
        missing.join(", ")
    );
    Ok(())
}
