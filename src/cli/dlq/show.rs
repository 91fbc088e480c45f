//! `cns-events dlq show`

use clap::Args;
use serde_json::Value;

use super::queue;
use crate::config::Config;
use crate::dead_letters::{is_named, to_json};
use crate::terminal::output;

#[derive(Debug, Args)]
pub(super) struct Show {
    /// Id as `dlq list` prints it (the first eight characters are enough), or event_id
    #[arg(value_parser = clap::builder::NonEmptyStringValueParser::new())]
    id: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Show {
    pub(super) async fn run(&self, config: &Config) -> anyhow::Result<()> {
        let (mut queue, bar) = queue::open(config).await?;
        let mut found = None;
        while let Some(held) = queue.next().await? {
            if is_named(&held.dead_letter, &self.id) {
                found = Some(to_json(&held.dead_letter, &held.message));
                break;
            }
        }
        let closed = if found.is_some() { queue.close_early().await } else { queue.close().await };
        bar.finish_and_clear();
        closed?;
        let Some(whole) = found else { return queue::all_found(&[&self.id]) };
        if self.json {
            return output::json(&whole);
        }
        let mut table = output::table(["", "dead letter"]);
        for (name, value) in whole.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
            table.add_row([name, &cell(name, value)]);
        }
        output::line(&table.to_string());
        Ok(())
    }
}

fn cell(name: &str, value: &Value) -> String {
    match value {
        // The body is printed as it is: indenting it would hide its faults.
        Value::String(text) if name == "body" => output::safe_lines(text),
        Value::String(text) => output::safe(text),
        Value::Object(entries) => entries
            .iter()
            .map(|(name, value)| {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                format!("{}: {}", output::safe(name), output::safe(&value))
            })
            .collect::<Vec<_>>()
            .join("\n"),
        other => other.to_string(),
    }
}
