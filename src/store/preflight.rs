//! Checks before the first migration: a database that cannot be migrated is refused before anything in it is changed.

use diesel::sql_types::{Array, Bool, Nullable, Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

/// Roles that the migrations make where they are missing.
pub(super) const ROLES: [&str; 5] =
    ["service_role", "authenticated", "cns_events_retention", "cns_events_aggregate", "cns_events_support"];

/// Facts about the database that the migrations will run in.
#[derive(Clone, Debug, diesel::QueryableByName)]
struct Facts {
    #[diesel(sql_type = Text)]
    database: String,
    #[diesel(sql_type = Text)]
    encoding: String,
    #[diesel(sql_type = Text)]
    login: String,
    #[diesel(sql_type = Bool)]
    standby: bool,
    #[diesel(sql_type = Bool)]
    creates_roles: bool,
    #[diesel(sql_type = Array<Text>)]
    missing_roles: Vec<String>,
    /// Schema that a new table would be in.
    #[diesel(sql_type = Nullable<Text>)]
    schema: Option<String>,
    #[diesel(sql_type = Bool)]
    creates_in_schema: bool,
    /// Set where the search path is the server's default, and not one that somebody chose.
    #[diesel(sql_type = Bool)]
    default_path: bool,
    /// Schema of the table that the search path finds.
    #[diesel(sql_type = Nullable<Text>)]
    table_schema: Option<String>,
    /// Kind of that table, where it is not a plain one.
    #[diesel(sql_type = Nullable<Text>)]
    odd_kind: Option<String>,
    /// Schemas with such a table that the search path does not find.
    #[diesel(sql_type = Array<Text>)]
    hidden_schemas: Vec<String>,
}

const QUERY: &str = "
    select current_database()::text as database, getdatabaseencoding()::text as encoding, current_user::text as login, \
      pg_is_in_recovery() as standby, \
      (select rolsuper or rolcreaterole from pg_roles where rolname = current_user) as creates_roles, \
      array(select name from unnest($1) name where not exists (select from pg_roles where rolname = name)) as missing_roles, \
      current_schema()::text as schema, \
      coalesce(has_schema_privilege(current_schema(), 'create'), false) as creates_in_schema, \
      current_setting('search_path') = '\"$user\", public' as default_path, \
      n.nspname::text as table_schema, \
      case when c.relkind = 'p' then 'a partitioned table' when c.relispartition then 'a partition of another table' \
        when c.relkind = 'v' then 'a view' when c.relkind = 'm' then 'a materialized view' when c.relkind = 'f' then 'a foreign table' \
        when c.relkind <> 'r' then 'not a table' when c.relpersistence = 'u' then 'an unlogged table, which a crash empties' \
        when c.relpersistence = 't' then 'a temporary table' \
        when exists (select from pg_inherits where inhparent = c.oid) then 'the parent of other tables (inheritance, or a hypertable)' \
        when exists (select from pg_inherits where inhrelid = c.oid) then 'the child of another table (inheritance)' end as odd_kind, \
      array(select hn.nspname::text from pg_class h join pg_namespace hn on hn.oid = h.relnamespace \
        where h.relname = 'enrichment_events' and h.relkind in ('r', 'p') and h.oid is distinct from c.oid \
          and hn.nspname not like 'pg_temp%' order by 1) as hidden_schemas \
    from (select to_regclass('enrichment_events')::oid as oid) t \
      left join pg_class c on c.oid = t.oid left join pg_namespace n on n.oid = c.relnamespace";

/// Reason why a database cannot be migrated, with the fix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}\nhint: {fix}")]
pub(super) struct Refused {
    problem: String,
    fix: String,
}

/// Returns the schema that the table is in, or will be.
pub(super) async fn check(connection: &mut AsyncPgConnection) -> anyhow::Result<String> {
    let facts: Facts =
        diesel::sql_query(QUERY).bind::<Array<Text>, _>(ROLES.to_vec()).get_result(connection).await?;
    Ok(decide(&facts)?)
}

fn decide(facts: &Facts) -> Result<String, Refused> {
    let refused = |problem: String, fix: String| Err(Refused { problem, fix });
    let Facts { database, encoding, login, .. } = facts;
    if facts.standby {
        let fix = "point database.url at the primary".to_owned();
        return refused("the server is a standby, which cannot be migrated".to_owned(), fix);
    }
    if encoding != "UTF8" {
        return refused(
            format!(
                "the database {database} has the encoding {encoding}: events are UTF-8, and some could not be stored"
            ),
            "create a database for the events: create database cns encoding 'UTF8' template template0"
                .to_owned(),
        );
    }
    if !facts.missing_roles.is_empty() && !facts.creates_roles {
        let create: Vec<_> =
            facts.missing_roles.iter().map(|role| format!("create role {role} nologin;")).collect();
        return refused(
            format!(
                "the login {login} may not create roles, and these are missing: {}",
                facts.missing_roles.join(", ")
            ),
            format!(
                "run as a superuser: {} grant {} to {login}",
                create.join(" "),
                facts.missing_roles.join(", ")
            ),
        );
    }
    if let Some(kind) = &facts.odd_kind {
        return refused(
            format!("enrichment_events is {kind}, and cannot be migrated in place"),
            "rename it, migrate again, and copy its rows into the new table".to_owned(),
        );
    }
    if let Some(schema) = &facts.table_schema {
        return Ok(schema.clone());
    }
    // A login that does not find the table would make a second, empty one.
    if let [hidden, ..] = &facts.hidden_schemas[..]
        && facts.default_path
    {
        return refused(
            format!(
                "the table enrichment_events is in the schema {hidden}, which the search path of {login} does not have: a second, empty \
                 table would be made"
            ),
            format!(
                "alter role {login} set search_path = {hidden}; for a second table on purpose name its schema in database.url: \
                 ?options=-csearch_path%3Dschema"
            ),
        );
    }
    let Some(schema) = &facts.schema else {
        let fix = format!("alter role {login} set search_path = public, or another schema that exists");
        return refused(format!("no schema of the search path of {login} exists"), fix);
    };
    if !facts.creates_in_schema {
        return refused(
            format!("the login {login} may not create objects in the schema {schema}"),
            format!("run as the schema's owner: grant create, usage on schema {schema} to {login}"),
        );
    }
    Ok(schema.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> Facts {
        Facts {
            database: "cns".to_owned(),
            encoding: "UTF8".to_owned(),
            login: "owner".to_owned(),
            standby: false,
            creates_roles: true,
            missing_roles: ROLES.map(str::to_owned).to_vec(),
            schema: Some("public".to_owned()),
            creates_in_schema: true,
            default_path: true,
            table_schema: None,
            odd_kind: None,
            hidden_schemas: Vec::new(),
        }
    }

    #[test]
    fn a_new_database_and_one_with_a_plain_table_are_migrated() {
        assert_eq!(decide(&fresh()).unwrap(), "public");
        let existing = Facts {
            table_schema: Some("app".to_owned()),
            creates_roles: false,
            missing_roles: Vec::new(),
            ..fresh()
        };
        assert_eq!(decide(&existing).unwrap(), "app");
        let chosen = Facts { hidden_schemas: vec!["public".to_owned()], default_path: false, ..fresh() };
        assert_eq!(decide(&chosen).unwrap(), "public");
    }

    #[test]
    fn each_obstacle_is_named_with_its_fix() {
        let odd = |kind: &str| Facts {
            table_schema: Some("public".to_owned()),
            odd_kind: Some(kind.to_owned()),
            ..fresh()
        };
        for (facts, words) in [
            (Facts { standby: true, ..fresh() }, "primary"),
            (Facts { encoding: "LATIN1".to_owned(), ..fresh() }, "LATIN1"),
            (Facts { creates_roles: false, ..fresh() }, "create role cns_events_retention nologin"),
            (odd("a partitioned table"), "a partitioned table"),
            (odd("a view"), "rename it"),
            (Facts { hidden_schemas: vec!["app".to_owned()], ..fresh() }, "set search_path = app"),
            (Facts { schema: None, ..fresh() }, "search_path = public"),
            (Facts { creates_in_schema: false, ..fresh() }, "grant create, usage on schema public"),
        ] {
            let text = decide(&facts).unwrap_err().to_string();
            assert!(text.contains(words) && text.contains("\nhint: "), "{text}");
        }
    }
}
