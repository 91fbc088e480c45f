//! Figures about a BOM's events, for demonstrations and benchmarks.

use diesel::sql_types::Uuid as SqlUuid;
use uuid::Uuid;

use super::query;
use super::reader::Reader;
use super::scope::AccessScope;
use crate::store::failure::StoreFailure;
use crate::store::statement::Typed;

/// Seconds from an event's `created_at` to the commit of its row.
#[derive(Clone, Copy, Debug)]
pub struct Latency {
    /// Median.
    pub p50: f64,
    /// 99th percentile.
    pub p99: f64,
}

impl Reader {
    /// Returns the number of stored events of a BOM.
    ///
    /// # Errors
    /// As [`Reader::page`].
    pub async fn count(&self, scope: &AccessScope, bom_id: Uuid) -> Result<i64, StoreFailure> {
        self.value(scope, &query::count(bom_id)?).await
    }

    /// Returns the latency of a BOM's events; `None` where it has none. The server must have `track_commit_timestamp = on`.
    ///
    /// # Errors
    /// As [`Reader::page`]; also where the server does not keep commit times.
    pub async fn latency(&self, scope: &AccessScope, bom_id: Uuid) -> Result<Option<Latency>, StoreFailure> {
        let of = "select percentile_cont(array[0.5, 0.99]) within group (order by seconds) from (select \
                  extract(epoch from pg_xact_commit_timestamp(xmin) - created_at)::float8 as seconds \
                  from enrichment_events where bom_id = $1) as latency";
        let statement = Typed::of(&diesel::sql_query(of).bind::<SqlUuid, _>(bom_id))?;
        let quantiles: Option<Vec<f64>> = self.value(scope, &statement).await?;
        Ok(match quantiles.as_deref() {
            Some([p50, p99]) => Some(Latency { p50: *p50, p99: *p99 }),
            _ => None,
        })
    }
}
