//! Checks of the database: connection, durability, clock, migrations, privileges, row-level security, and an insert or a read.

use uuid::Uuid;

use super::journal;
use super::report::Report;
use super::service::Service;
use crate::config::Config;
use crate::store::fix::{Purpose, fix};
use crate::store::inspect::{Facts, Table, facts};
use crate::store::read::{AccessScope, Reader};
use crate::store::{DatabaseEndpoint, FailureClass, StoreFailure, Writer};

/// Difference of the clocks from which latencies are meaningless.
const MAX_CLOCK_DIFFERENCE: chrono::Duration = chrono::Duration::seconds(1);

/// Number of policies in the contract.
const POLICIES: i64 = 2;

pub(super) async fn check(report: &mut Report, config: &Config, service: Service) {
    let database = match config.database.endpoint() {
        Ok(database) => database,
        Err(error) => return report.wrong("database", error.to_string(), "set database.url (DATABASE_URL)"),
    };
    let facts = match facts(&database).await {
        Ok(facts) => facts,
        Err(failure) => {
            return report.wrong(
                "database",
                failure.to_string(),
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
    match service {
        Service::Worker => {
            primary(report, &facts);
            worker_login(report, &facts);
        }
        Service::Serve => reader_login(report, &facts),
    }
    match &facts.hidden_schemas {
        Some(schemas) if facts.table.is_none() => return hidden_table(report, &facts.login, schemas),
        _ => migrations(report, &facts),
    }
    schema(report, &facts);
    match &facts.table {
        Some(table) => {
            roles(report, table);
            row_level_security(report, table);
        }
        None if facts.hidden_schemas.is_none() && facts.pending.as_ref().is_some_and(Vec::is_empty) => report.wrong(
            "table",
            "enrichment_events does not exist, but its migrations are recorded",
            "restore it from a backup; or, for an empty table: drop table __diesel_schema_migrations; then run `cns-events migrate`",
        ),
        None => {} // the check of the migrations reports it
    }
    match service {
        Service::Worker => {
            journal::trigger(report, &facts);
            storing(report, config, database).await;
        }
        Service::Serve => {
            journal::positions(report, &facts, &database).await;
            reading(report, config, database).await;
        }
    }
}

async fn storing(report: &mut Report, config: &Config, database: DatabaseEndpoint) {
    let mut writer =
        Writer::new(database, config.database.statement_timeout(), config.database.prepared_statements);
    match writer.probe().await {
        Ok(()) => report.ok("storing", "a row was inserted and rolled back"),
        Err(failure) if failure.about_row || failure.class == FailureClass::Data => report.warning(
            "storing",
            format!("the server writes, but refuses the row of the probe: {failure}"),
            "if the constraint, trigger or policy refuses events too, drop it or satisfy it: they become dead letters",
        ),
        Err(failure) => report.wrong("storing", failure.to_string(), fix_or_log(&failure, Purpose::Store)),
    }
}

/// Reads as a tenant that does not exist: every tenant sees the events that this one sees.
async fn reading(report: &mut Report, config: &Config, database: DatabaseEndpoint) {
    let reader = Reader::new(database, 1, config.database.statement_timeout());
    match reader.sees_any_event(&AccessScope::tenant(Uuid::now_v7())).await {
        Ok(false) => report.ok("reading", "a tenant that does not exist sees no event"),
        Ok(true) => report.wrong(
            "reading",
            "a tenant that does not exist sees events: a policy of the table shows them to every tenant",
            "select policyname, roles, qual from pg_policies where tablename = 'enrichment_events'; and drop the policy that is too wide",
        ),
        Err(failure) => {
            report.wrong("reading", failure.to_string(), fix_or_log(&failure, Purpose::Read));
        }
    }
}

fn fix_or_log(failure: &StoreFailure, purpose: Purpose) -> &'static str {
    fix(failure, purpose).unwrap_or("check the server's log")
}

/// Checks that the server can store events durably.
fn primary(report: &mut Report, facts: &Facts) {
    if facts.standby {
        report.wrong(
            "primary",
            "the server is a standby, which cannot store events",
            "point database.url at the primary",
        );
    }
    if facts.durable {
        report.ok("durability", "fsync and synchronous_commit are on");
    } else {
        report.wrong(
            "durability",
            "a commit is confirmed before it is on disk: acknowledged events can be lost",
            format!(
                "alter system set synchronous_commit = on; alter system set fsync = on; select pg_reload_conf(); also, if it \
                 is set for the role or the database: alter role {} reset synchronous_commit; alter database … reset synchronous_commit",
                facts.login
            ),
        );
    }
    let seconds = facts.clock.num_milliseconds() as f64 / 1000.0;
    if facts.clock.abs() > MAX_CLOCK_DIFFERENCE {
        report.warning(
            "clock",
            format!("the database's clock differs from this machine's by {seconds:+.1} s"),
            "run NTP on both machines: latencies are measured between them",
        );
    } else {
        report.ok("clock", format!("{seconds:+.3} s between the database and this machine"));
    }
}

/// Reports a table that the login does not find: a migration as this login would make a second, empty one.
fn hidden_table(report: &mut Report, login: &str, schemas: &str) {
    report.wrong(
        "table",
        format!(
            "enrichment_events is in the schema {schemas}, which the search path of {login} does not have"
        ),
        format!("alter role {login} set search_path = {schemas}; grant usage on schema {schemas} to {login}"),
    );
}

fn migrations(report: &mut Report, facts: &Facts) {
    match &facts.pending {
        None => report
            .ok("migrations", "this login cannot read which have run; the next checks find what is missing"),
        Some(pending) if pending.is_empty() => report.ok("migrations", "up to date"),
        Some(pending) => {
            report.wrong("migrations", format!("pending: {}", pending.join(", ")), "run `cns-events migrate`")
        }
    }
}

/// Checks that no other role can create objects beside the table, which could take the place of others.
fn schema(report: &mut Report, facts: &Facts) {
    if let Some(roles) = &facts.schema_creators {
        report.warning(
            "schema",
            format!("{roles} may create objects in the table's schema"),
            format!("if they do not need it: revoke create on schema … from {roles}"),
        );
    }
}

fn worker_login(report: &mut Report, facts: &Facts) {
    let login = &facts.login;
    if facts.powerful {
        report.warning(
            "login",
            format!("{login} is a superuser, the table's owner or exempt from row-level security: a worker needs less"),
            "create role cns_worker login password '…' in role service_role; and use it in database.url",
        );
    } else if facts.service_role {
        report.ok("login", format!("{login} is a member of service_role"));
    } else {
        report.wrong(
            "login",
            format!("{login} is not a member of service_role"),
            format!("grant service_role to {login}"),
        );
    }
    let Some(table) = &facts.table else { return };
    match (table.insert, table.lookup) {
        (true, true) => report.ok("privileges", "the login may insert, and look up event_ids"),
        (insert, _) => report.wrong(
            "privileges",
            if insert {
                "the login may not execute enrichment_events_lookup"
            } else {
                "the login may not insert into enrichment_events"
            },
            "grant insert on enrichment_events to service_role; \
             grant execute on function enrichment_events_lookup(text[], uuid[]) to service_role; grant service_role to the login",
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
            format!("{login} {more}: a reader needs less"),
            "create role cns_reader login password '…' in role authenticated; and use it in database.url",
        );
    } else if facts.authenticated {
        report.ok("login", format!("{login} is a member of authenticated"));
    } else {
        report.wrong(
            "login",
            format!("{login} is not a member of authenticated"),
            format!("grant authenticated to {login}"),
        );
    }
    // A choice, not a fault: most services have no support staff to answer.
    let answered = if facts.support {
        format!("{login} is a member of cns_events_support: tokens of support staff are answered")
    } else {
        format!(
            "{login} is not a member of cns_events_support: tokens of support staff get 403, until you \
             grant cns_events_support to {login}"
        )
    };
    report.ok("support staff", answered);
}

/// Checks the privileges of the two roles.
fn roles(report: &mut Report, table: &Table) {
    match &table.worker_role_excess {
        None => report.ok("worker's role", "service_role may insert and not read"),
        Some(excess) => report.warning(
            "worker's role",
            format!("service_role may also {excess}"),
            "if no other service needs it: revoke select, update, delete, truncate on enrichment_events from service_role",
        ),
    }
    match &table.reader_role_excess {
        None if table.reader_role_reads => report.ok("reader's role", "authenticated may read and not write"),
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
            "enabled with both policies, but not forced: the table's owner sees every tenant",
            "once no service writes as the owner: alter table enrichment_events force row level security",
        );
    }
}
