//! Runs a Diesel query on a plain connection.
//!
//! Statements are built with Diesel, so that the compiler checks columns and types. They are not run by `diesel-async`, because it
//! hides the SQLSTATE, which decides between hold and dead letter, and sets session parameters, which a pooler cannot keep
//! (docs/adr/0003-own-executor-for-the-insert.md).

use diesel::pg::{Pg, PgMetadataLookup, PgQueryBuilder, PgTypeMetadata};
use diesel::query_builder::bind_collector::RawBytesBindCollector;
use diesel::query_builder::{QueryBuilder, QueryFragment};
use futures_util::TryStreamExt;
use postgres_types::{IsNull, ToSql, Type, private::BytesMut, to_sql_checked};
use tokio_postgres::{Client, Row, RowStream, Statement};

use super::failure::StoreFailure;

/// A statement that is run repeatedly: its text is built once, and prepared once for each connection.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    sql: String,
    types: Vec<Type>,
    statement: Option<Statement>,
}

impl Prepared {
    /// Executes `query`, whose text must be the same each time, and returns the number of affected rows.
    pub(super) async fn execute<Q: QueryFragment<Pg>>(
        &mut self,
        client: &Client,
        query: Q,
        prepare: bool,
    ) -> Result<u64, StoreFailure> {
        let binds = self.binds(&query)?;
        drop(query);
        if prepare {
            let statement = self.prepare(client).await?;
            Ok(client.execute_raw(statement, &binds).await?)
        } else {
            let typed: Vec<_> = self.typed(&binds).collect();
            Ok(client.execute_typed(&self.sql, &typed).await?)
        }
    }

    /// Runs `query`, whose text must be the same each time, and returns its rows.
    pub(super) async fn rows<Q: QueryFragment<Pg>>(
        &mut self,
        client: &Client,
        query: Q,
        prepare: bool,
    ) -> Result<Vec<Row>, StoreFailure> {
        let binds = self.binds(&query)?;
        drop(query);
        if prepare {
            let statement = self.prepare(client).await?;
            Ok(client.query_raw(statement, &binds).await?.try_collect().await?)
        } else {
            let typed: Vec<_> = self.typed(&binds).collect();
            Ok(client.query_typed(&self.sql, &typed).await?)
        }
    }

    async fn prepare(&mut self, client: &Client) -> Result<&Statement, StoreFailure> {
        let statement = match self.statement.take() {
            Some(statement) => statement,
            None => client.prepare_typed(&self.sql, &self.types).await?,
        };
        Ok(self.statement.insert(statement))
    }

    fn typed<'a>(&self, binds: &'a [Bind]) -> impl Iterator<Item = (&'a (dyn ToSql + Sync), Type)> {
        binds.iter().zip(self.types.clone()).map(|(bind, of)| (bind as &(dyn ToSql + Sync), of))
    }

    /// Serializes the query's values, and the first time its text.
    fn binds<Q: QueryFragment<Pg>>(&mut self, query: &Q) -> Result<Vec<Bind>, StoreFailure> {
        let collector = collect(query)?;
        if self.sql.is_empty() {
            (self.sql, self.types) = (text(query)?, types(&collector)?);
        }
        Ok(collector.binds.into_iter().map(Bind).collect())
    }
}

/// A statement with its values, to be run once. It is not prepared by name, so that it passes any pooler, in one round trip.
#[derive(Debug)]
pub(super) struct Typed {
    sql: String,
    values: Vec<(Bind, Type)>,
}

impl Typed {
    pub(super) fn of<Q: QueryFragment<Pg>>(query: &Q) -> Result<Self, StoreFailure> {
        let collector = collect(query)?;
        let types = types(&collector)?;
        Ok(Typed { sql: text(query)?, values: collector.binds.into_iter().map(Bind).zip(types).collect() })
    }

    /// Returns the `EXPLAIN` of this statement.
    pub(super) fn explained(self) -> Self {
        Typed { sql: format!("explain {}", self.sql), ..self }
    }

    /// Sends the statement and returns its rows as a stream.
    pub(super) async fn query(&self, client: &Client) -> Result<RowStream, StoreFailure> {
        let values = self.values.iter().map(|(bind, of)| (bind as &(dyn ToSql + Sync), of.clone()));
        Ok(client.query_typed_raw(&self.sql, values).await?)
    }

    /// Runs the statement and returns the number of affected rows.
    pub(super) async fn execute(&self, client: &Client) -> Result<u64, StoreFailure> {
        let values: Vec<_> =
            self.values.iter().map(|(bind, of)| (bind as &(dyn ToSql + Sync), of.clone())).collect();
        Ok(client.execute_typed(&self.sql, &values).await?)
    }
}

fn collect<Q: QueryFragment<Pg>>(query: &Q) -> Result<RawBytesBindCollector<Pg>, StoreFailure> {
    let mut collector = RawBytesBindCollector::<Pg>::new();
    query.collect_binds(&mut collector, &mut BuiltInTypes, &Pg).map_err(|error| cannot_serialize(&error))?;
    Ok(collector)
}

fn text<Q: QueryFragment<Pg>>(query: &Q) -> Result<String, StoreFailure> {
    let mut builder = PgQueryBuilder::default();
    query.to_sql(&mut builder, &Pg).map_err(|error| cannot_serialize(&error))?;
    Ok(builder.finish())
}

fn types(collector: &RawBytesBindCollector<Pg>) -> Result<Vec<Type>, StoreFailure> {
    collector.metadata.iter().map(built_in).collect()
}

/// Returns the failure for a value that Diesel cannot serialize. Its class makes the worker try each row alone.
fn cannot_serialize(error: &diesel::result::Error) -> StoreFailure {
    StoreFailure {
        class: super::FailureClass::Data,
        sqlstate: None,
        message: error.to_string(),
        object: None,
        about_row: false,
        hint: None,
    }
}

fn built_in(metadata: &PgTypeMetadata) -> Result<Type, StoreFailure> {
    metadata.oid().ok().and_then(Type::from_oid).ok_or_else(|| StoreFailure {
        class: super::FailureClass::Held(super::Hold::Operator),
        sqlstate: None,
        message: "a statement uses a type that is not built in".into(),
        object: None,
        about_row: false,
        hint: None,
    })
}

/// Lookup of types by name. Statements use only built-in types, so that no type is looked up.
struct BuiltInTypes;

impl PgMetadataLookup for BuiltInTypes {
    fn lookup_type(&mut self, _type_name: &str, _schema: Option<&str>) -> PgTypeMetadata {
        PgTypeMetadata::new(0, 0)
    }
}

/// A value in `PostgreSQL`'s binary format, serialized by Diesel.
#[derive(Debug)]
struct Bind(Option<Vec<u8>>);

impl ToSql for Bind {
    fn to_sql(
        &self,
        _of: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        match &self.0 {
            Some(bytes) => {
                out.extend_from_slice(bytes);
                Ok(IsNull::No)
            }
            None => Ok(IsNull::Yes),
        }
    }

    fn accepts(_of: &Type) -> bool {
        true
    }

    to_sql_checked!();
}
