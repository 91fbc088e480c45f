//! `cns-events demo`

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;
use clap::Args;
use encoding_rs::Encoding;
use serde_json::json;

use super::failure::Failure;
use crate::config::Config;
use crate::demo::{Bom, Report, Scenario, TypeCount};
use crate::encoding::by_name as encoding_by_name;
use crate::terminal::output;
use crate::terminal::{bars, demo};

#[derive(Debug, Args)]
pub(super) struct Demo {
    /// Read the BOM from this CSV file; - is stdin. Its encoding, separator, header line and columns are found
    #[arg(long, value_name = "FILE")]
    bom: Option<PathBuf>,
    /// Read the BOM in this encoding, such as windows-1252, gbk, shift_jis, macintosh
    #[arg(long, value_name = "NAME", requires = "bom", value_parser = encoding)]
    encoding: Option<&'static Encoding>,
    /// Publish the workflow as this organization's
    #[arg(
        long = "organization",
        alias = "organization-id",
        value_name = "ID",
        default_value = "demo-organization"
    )]
    organization_id: String,
    /// Publish over this many connections
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    connections: u8,
    /// Wait at most this long for the pool, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Demo {
    pub(super) async fn run(&self, config: &Config) -> Result<(), Failure> {
        let bom = self.bom.as_ref().map_or_else(Bom::sample, |path| Bom::open(path, self.encoding));
        let bom = bom.map_err(|refusal| anyhow!("{}", output::safe_lines(&refusal.to_string())))?;
        bom.warnings
            .iter()
            .for_each(|warning| output::note(&format!("warning: {}: {warning}", output::safe(&bom.name))));
        let scenario = Scenario {
            config,
            bom,
            organization_id: &self.organization_id,
            connections: self.connections,
            timeout: Duration::from_secs(self.timeout),
        };
        let bar = bars::bar(0, "events");
        let report = scenario
            .run(&|published, all| {
                bar.set_length(all as u64);
                bar.set_position(published as u64);
            })
            .await;
        bar.finish_and_clear();
        let report = report?;
        let metrics = format!("http://{}/metrics", config.http.listen);
        if self.json {
            print_json(&report, &scenario.bom, &metrics)?;
        } else {
            output::line(&demo::report(&report, &scenario.bom, &metrics));
        }
        if report.is_complete() { Ok(()) } else { Err(Failure::Reported) }
    }
}

fn encoding(name: &str) -> Result<&'static Encoding, String> {
    encoding_by_name(name)
        .ok_or_else(|| "not the name of an encoding: try windows-1252 or utf-16le".to_owned())
}

fn print_json(report: &Report, bom: &Bom, metrics: &str) -> anyhow::Result<()> {
    let counts = |count: &TypeCount| {
        let duplicates = count.duplicates();
        json!({"published": count.published, "stored": count.stored, "duplicates": duplicates})
    };
    let types: BTreeMap<_, _> = report.types.iter().map(|count| (count.name, counts(count))).collect();
    output::json(&json!({
        "bom_id": report.bom_id,
        "bom": bom,
        "complete": report.is_complete(),
        "events": report.events,
        "types": types,
        "not_stored_once": report.not_stored_once,
        "state": report.final_state(),
        "publish_to_commit_seconds": report.latency.map(|latency| json!({"p50": latency.p50, "p99": latency.p99})),
        "metrics": metrics,
    }))
}
