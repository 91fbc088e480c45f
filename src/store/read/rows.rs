//! Rows of a statement.

use futures_util::TryStreamExt;
use tokio_postgres::{Client, Row};

use crate::store::failure::StoreFailure;
use crate::store::statement::Typed;

/// Returns the rows of a statement.
pub(super) async fn rows(client: &Client, statement: &Typed) -> Result<Vec<Row>, StoreFailure> {
    Ok(statement.query(client).await?.try_collect().await?)
}

/// Returns the first value of the first row.
pub(super) fn first_value<T: for<'a> postgres_types::FromSql<'a>>(rows: &[Row]) -> Result<T, StoreFailure> {
    Ok(rows.first().ok_or_else(|| StoreFailure::unexpected("no row"))?.try_get(0)?)
}
