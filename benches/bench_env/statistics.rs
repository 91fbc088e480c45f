//! Speeds by the table's commit timestamps, and medians.

use tokio_postgres::Client;
use uuid::Uuid;

/// Returns events a second from the first commit to the last, of the rows whose ids come after `since`.
pub async fn speed_by_commits(client: &Client, since: Uuid) -> f64 {
    let row = client
        .query_one(
            "select extract(epoch from max(at) - min(at))::float8, (count(*) filter (where at > first))::float8 \
             from (select pg_xact_commit_timestamp(xmin) as at, min(pg_xact_commit_timestamp(xmin)) over () as first \
             from enrichment_events where id > $1) as commits",
            &[&since],
        )
        .await
        .expect("track_commit_timestamp has to be on");
    let (seconds, rows): (f64, f64) = (row.get(0), row.get(1));
    rows / seconds
}

/// Returns events a second in the middle of a drain, from a tenth of the rows to nine tenths: without the workers' start, and
/// without their last batches.
pub async fn steady_speed(client: &Client) -> f64 {
    let row = client
        .query_one(
            "with commits as (select pg_xact_commit_timestamp(xmin) as at from enrichment_events), \
             ends as (select percentile_disc(0.1) within group (order by at) as first, \
             percentile_disc(0.9) within group (order by at) as last from commits) \
             select extract(epoch from last - first)::float8, \
             (select count(*) from commits where at > first and at <= last)::float8 from ends",
            &[],
        )
        .await
        .expect("track_commit_timestamp has to be on");
    let (seconds, rows): (f64, f64) = (row.get(0), row.get(1));
    rows / seconds
}

/// Returns the median; of an even number of values the upper of the two in the middle.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
