//! The dead-letter queue of the configuration, with a progress bar, and its dead letters as a table.

use indicatif::ProgressBar;

use crate::broker::BrokerEndpoint;
use crate::cli::output;
use crate::config::Config;
use crate::dead_letters::{DeadLetter, DeadLetterQueue, Progress};
use crate::terminal::bars;

/// Opens the queue; the bar follows what is read from it.
pub(super) async fn open(config: &Config) -> anyhow::Result<(DeadLetterQueue, ProgressBar)> {
    let broker = BrokerEndpoint::new(config.amqp.uri.expose(), "cns-events dlq")?;
    let bar = bars::bar(0, "dead letters");
    let progress_bar = bar.clone();
    let show = move |Progress { read, total }| {
        progress_bar.set_length(total.into());
        progress_bar.set_position(read.into());
    };
    let queue = DeadLetterQueue::open(&broker, &config.amqp.dead_letter_queue, show).await?;
    Ok((queue, bar))
}

/// Returns dead letters as a table, one row each.
pub(super) fn table<'a>(dead_letters: impl IntoIterator<Item = &'a DeadLetter>) -> String {
    let mut table = output::table(["id", "when (UTC)", "reason", "field", "type", "BOM", "replays"]);
    for dead_letter in dead_letters {
        let when = dead_letter.dead_at.map(|at| at.format("%Y-%m-%d %H:%M:%S").to_string());
        let or_dash = |text: &Option<String>| output::safe(text.as_deref().unwrap_or("-"));
        table.add_row([
            dead_letter.id.clone(),
            or_dash(&when),
            output::safe(&dead_letter.reason),
            or_dash(&dead_letter.field),
            or_dash(&dead_letter.event_type),
            or_dash(&dead_letter.bom_id),
            dead_letter.replays.to_string(),
        ]);
    }
    table.to_string()
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
