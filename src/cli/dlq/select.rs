//! Arguments that choose dead letters.

use std::time::Duration;

use clap::Args;
use uuid::Uuid;

use crate::cli::age;
use crate::cli::failure::usage;
use crate::dead_letters;

/// Conditions; a dead letter matches if all of them hold.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Filter {
    /// Select by reason (malformed_json, missing_field, …, or the broker's delivery_limit, rejected, expired)
    #[arg(long, value_name = "REASON", value_delimiter = ',')]
    reason: Vec<String>,
    /// Select by event type
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',')]
    event_type: Vec<String>,
    /// Select by BOM
    #[arg(long, alias = "bom", value_name = "UUID")]
    bom_id: Option<Uuid>,
    /// Select what was dead-lettered longer ago than this (90s, 10m, 2h, 7days)
    #[arg(long, value_name = "AGE", value_parser = age::parse)]
    older_than: Option<Duration>,
    /// Select what was dead-lettered more recently than this
    #[arg(long, value_name = "AGE", value_parser = age::parse)]
    newer_than: Option<Duration>,
}

/// Ids and conditions.
#[derive(Clone, Debug, Default, Args)]
pub(super) struct Selection {
    /// Select by id as `dlq list` prints it (the first eight characters are enough), or by event_id
    #[arg(value_name = "ID", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    ids: Vec<String>,
    /// Same as the argument ID
    #[arg(long = "id", value_name = "ID", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    named: Vec<String>,
    #[command(flatten)]
    filter: Filter,
    /// Select all dead letters
    #[arg(long, conflicts_with_all = ["ids", "named", "reason", "event_type", "bom_id", "older_than", "newer_than"])]
    all: bool,
}

impl Filter {
    /// Returns the conditions as the library takes them.
    pub(super) fn conditions(&self) -> dead_letters::Filter {
        dead_letters::Filter {
            reasons: self.reason.clone(),
            event_types: self.event_type.clone(),
            bom_id: self.bom_id,
            older_than: self.older_than,
            newer_than: self.newer_than,
        }
    }
}

impl Selection {
    /// Ends with a usage error where nothing is selected: a list of ids that turned out empty must not select everything.
    pub(super) fn required(&self) {
        let Filter { reason, event_type, bom_id, older_than, newer_than } = &self.filter;
        let by_id = !self.ids.is_empty() || !self.named.is_empty();
        let by_kind = !reason.is_empty() || !event_type.is_empty() || bom_id.is_some();
        if !(self.all || by_id || by_kind || older_than.is_some() || newer_than.is_some()) {
            usage("no dead letters are selected: name ids or filters, or select all of them with --all");
        }
    }

    /// Returns the selection as the library takes it.
    pub(super) fn conditions(&self) -> dead_letters::Selection {
        dead_letters::Selection {
            ids: [&self.ids[..], &self.named].concat(),
            filter: self.filter.conditions(),
        }
    }
}
