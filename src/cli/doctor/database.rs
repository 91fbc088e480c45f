//! The database: reached, durable, its clock, migrations, privileges, row-level security, and whether a row can be stored, or read
//! by its tenant alone.

use uuid::Uuid;

use super::{Patient, Report};
use crate::config::Config;
use crate::store::fix::{Purpose, fix};
use crate::store::inspect::{Facts, Table, facts};
use crate::store::read::{AccessScope, Reader};
use crate::store::{DatabaseEndpoint, StoreFailure, Writer};

/// More than this between the clocks, and latencies mean nothing.
const CLOCK: chrono::Duration = chrono::Duration::seconds(1);

/// The two policies of the contract.
const POLICIES: i64 = 2;

pub(super) async fn check(report: &mut Report, config: &Config, patient: Patient) {
    let database = match DatabaseEndpoint::from_url(config.database.url.expose()) {
        Ok(database) => database,
        Err(error) => return report.wrong("database", error.to_string(), "set database.url (DATABASE_URL)"),
    };
    let facts = match facts(&database).await {
        Ok(facts) => facts,
        Err(failure) => {
            return report.wrong(
                "database",
                format!("not reached: {failure}"),
                "check database.url (DATABASE_URL), that PostgreSQL runs, and its pg_hba.conf",
            );
        }
    };
    report.ok(
        "database",
        format!(
            "PostgreSQL {}, {}",
            facts.version,
            if facts.encrypted { "encrypted" } else { "not encrypted" }
        ),
    );
    match patient {
        Patient::Worker => {
            primary(report, &facts);
            worker_login(report, &facts);
        }
        Patient::Serve => reader_login(report, &facts),
    }
    migrations(report, &facts);
    match &facts.table {
        Some(table) => {
            roles(report, table);
            row_level_security(report, table);
        }
        None if facts.pending.as_ref().is_some_and(Vec::is_empty) => report.wrong(
            "table",
            "enrichment_events is not there, though its migrations are recorded",
            "restore it from a backup; or, for an empty one: drop table __diesel_schema_migrations; then cns-events migrate",
        ),
        None => {} // said by the migrations
    }
    match patient {
        Patient::Worker => storing(report, config, database).await,
        Patient::Serve => reading(report, config, database).await,
    }
}

async fn storing(report: &mut Report, config: &Config, database: DatabaseEndpoint) {
    let mut writer =
        Writer::new(database, config.database.statement_timeout(), config.database.prepared_statements);
    match writer.probe().await {
        Ok(()) => report.ok("storing", "a row was inserted and rolled back"),
        Err(failure) => report.wrong("storing", failure.to_string(), fix_or_log(&failure, Purpose::Store)),
    }
}

/// Reads as a tenant that nobody has: what it sees, everybody does.
async fn reading(report: &mut Report, config: &Config, database: DatabaseEndpoint) {
    let reader = Reader::new(database, 1, config.database.statement_timeout());
    match reader.sees_any_event(&AccessScope::tenant(Uuid::now_v7())).await {
        Ok(false) => report.ok("reading", "a tenant that does not exist sees nothing"),
        Ok(true) => report.wrong(
            "reading",
            "a tenant that does not exist sees rows: a policy of the table shows them to everybody",
            "select policyname, roles, qual from pg_policies where tablename = 'enrichment_events'; and drop what is too wide",
        ),
        Err(failure) => {
            report.wrong("reading", failure.to_string(), fix_or_log(&failure, Purpose::Read));
        }
    }
}

fn fix_or_log(failure: &StoreFailure, purpose: Purpose) -> &'static str {
    fix(failure, purpose).unwrap_or("look at the server's log")
}

/// What a database has to be to be stored into.
fn primary(report: &mut Report, facts: &Facts) {
    if facts.standby {
        report.wrong(
            "primary",
            "this is a standby, which stores nothing",
            "point database.url at the primary",
        );
    }
    if facts.durable {
        report.ok("durability", "fsync and synchronous_commit are on");
    } else {
        report.wrong(
            "durability",
            "a commit is confirmed before it is on disk: events would be acknowledged and lost",
            format!(
                "alter system set synchronous_commit = on; alter system set fsync = on; select pg_reload_conf(); and, where it was set \
                 for them alone: alter role {} reset synchronous_commit; alter database … reset synchronous_commit",
                facts.login
            ),
        );
    }
    let seconds = facts.clock.num_milliseconds() as f64 / 1000.0;
    if facts.clock.abs() > CLOCK {
        report.warning(
            "clock",
            format!("the database's clock is {seconds:+.1} s off this machine's"),
            "run NTP on both: latencies are measured between them",
        );
    } else {
        report.ok("clock", format!("{seconds:+.3} s between the database and this machine"));
    }
}

fn migrations(report: &mut Report, facts: &Facts) {
    match &facts.pending {
        None => report.ok("migrations", "this login may not ask which have run; what follows tells"),
        Some(pending) if pending.is_empty() => report.ok("migrations", "up to date"),
        Some(pending) => {
            report.wrong("migrations", format!("pending: {}", pending.join(", ")), "cns-events migrate")
        }
    }
}

fn worker_login(report: &mut Report, facts: &Facts) {
    let login = &facts.login;
    if facts.powerful {
        report.warning(
            "login",
            format!("{login} is a superuser, the table's owner or exempt from row-level security: more than a worker needs"),
            "create role cns_worker login password '…' in role service_role; and use it in database.url",
        );
    } else if facts.service_role {
        report.ok("login", format!("{login} is a member of service_role"));
    } else {
        report.wrong(
            "login",
            format!("{login} is no member of service_role"),
            format!("grant service_role to {login}"),
        );
    }
    let Some(table) = &facts.table else { return };
    match (table.insert, table.lookup) {
        (true, true) => report.ok("privileges", "may insert, and ask about event_ids"),
        (insert, _) => report.wrong(
            "privileges",
            if insert {
                "may not execute enrichment_events_lookup"
            } else {
                "may not insert into enrichment_events"
            },
            "grant insert on enrichment_events to service_role; \
             grant execute on function enrichment_events_lookup(text[]) to service_role; grant service_role to the login",
        ),
    }
    if table.select && !facts.powerful {
        report.warning(
            "privileges to read",
            format!("{login} may read rows"),
            format!("revoke select on enrichment_events from {login}"),
        );
    }
}

fn reader_login(report: &mut Report, facts: &Facts) {
    let login = &facts.login;
    if facts.powerful || facts.service_role {
        let more = if facts.powerful {
            "is a superuser, the table's owner or exempt from row-level security"
        } else {
            "is a member of service_role, and may insert"
        };
        report.warning(
            "login",
            format!("{login} {more}: more than a reader needs"),
            "create role cns_reader login password '…' in role authenticated; and use it in database.url",
        );
    } else if facts.authenticated {
        report.ok("login", format!("{login} is a member of authenticated"));
    } else {
        report.wrong(
            "login",
            format!("{login} is no member of authenticated"),
            format!("grant authenticated to {login}"),
        );
    }
}

/// What each of the two roles may do, whoever asks.
fn roles(report: &mut Report, table: &Table) {
    match &table.worker_role_excess {
        None => report.ok("worker's role", "service_role may insert, and not read"),
        Some(excess) => report.warning(
            "worker's role",
            format!("service_role may also {excess}"),
            "where nothing else of yours needs it: revoke select, update, delete, truncate on enrichment_events from service_role",
        ),
    }
    match &table.reader_role_excess {
        None if table.reader_role_reads => {
            report.ok("reader's role", "authenticated may read, and not write")
        }
        None => report.wrong(
            "reader's role",
            "authenticated may not read",
            "grant select on enrichment_events to authenticated",
        ),
        Some(excess) => report.warning(
            "reader's role",
            format!("authenticated may also {excess}"),
            "revoke insert, update, delete, truncate on enrichment_events from authenticated, public",
        ),
    }
}

fn row_level_security(report: &mut Report, table: &Table) {
    let Table { row_security, forced, policies, .. } = *table;
    if !row_security || policies < POLICIES {
        report.wrong(
            "row-level security",
            if row_security { "a policy is missing" } else { "is disabled: every reader sees every tenant" },
            "alter table enrichment_events enable row level security; the policies are in migrations/*_row_level_security/up.sql, \
             which can be run again",
        );
    } else if forced {
        report.ok("row-level security", "enabled and forced, with both policies");
    } else {
        report.warning(
            "row-level security",
            "enabled with both policies, and not forced: the table's owner sees every tenant",
            "alter table enrichment_events force row level security, when nobody writes as the owner any more",
        );
    }
}
