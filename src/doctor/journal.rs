//! Checks of the journal and the summaries.

use super::report::Report;
use crate::store::DatabaseEndpoint;
use crate::store::inspect::{self, Facts, Journal, Trigger};

/// Delay of the summaries from which nothing keeps them: the task writes its position at least every ten seconds.
const MAX_DELAY: chrono::Duration = chrono::Duration::minutes(1);

/// Checks that the trigger writes the journal, where the migrations have made it.
pub(super) fn trigger(report: &mut Report, facts: &Facts) {
    let Some(table) = &facts.table else { return };
    let recreate =
        "its definition is in migrations/*_journal/up.sql; then run `cns-events aggregate rebuild`";
    match table.journal_trigger {
        Trigger::Enabled => report.ok("journal", "a trigger records what is stored"),
        Trigger::Disabled => report.wrong(
            "journal",
            "its trigger is disabled: streams, summaries and alerts miss what is stored",
            "alter table enrichment_events enable trigger enrichment_journal_write; then run `cns-events aggregate rebuild`",
        ),
        // The check of the migrations reports it.
        Trigger::Missing if facts.pending.as_ref().is_some_and(|pending| !pending.is_empty()) => {}
        Trigger::Missing => report.wrong(
            "journal",
            "its trigger is missing: streams, summaries and alerts miss what is stored",
            recreate,
        ),
    }
}

/// Checks that positions in the journal mean something here, and that the summaries are kept.
pub(super) async fn positions(report: &mut Report, facts: &Facts, database: &DatabaseEndpoint) {
    if facts.standby {
        return report.warning(
            "positions",
            "the server is a standby, which has no positions in the journal: streams are refused",
            "point database.url at the primary, or use this process for other reads only",
        );
    }
    // A login without the role, and a table without migrations, are other checks' findings.
    let Ok(Journal { foreign, as_of, now }) = inspect::journal(database).await else { return };
    if foreign {
        report.wrong(
            "positions",
            "the journal is of another cluster: the database was restored, or upgraded",
            "run `cns-events aggregate`: it empties the journal and makes the summaries anew",
        );
    }
    match as_of {
        None => report.warning("summaries", "nothing keeps them yet", "run `cns-events aggregate`"),
        Some(as_of) if now - as_of > MAX_DELAY => report.warning(
            "summaries",
            format!("nothing keeps them since {}", as_of.format("%Y-%m-%d %H:%M:%S UTC")),
            "run `cns-events aggregate`, or look at its log",
        ),
        Some(_) => report.ok("summaries", "up to date"),
    }
}
