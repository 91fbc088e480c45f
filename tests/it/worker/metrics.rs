//! The worker's metrics, checked by Prometheus' own checker.

use crate::env::TestEnv;
use crate::env::promtool::assert_promtool_accepts;

/// It runs where promtool is installed.
#[tokio::test(flavor = "multi_thread")]
async fn metrics_of_a_worker_pass_promtool() {
    let env = TestEnv::new("promtool").await;
    let worker = env.worker().await;
    let (status, metrics) = worker.get("/metrics").unwrap();
    assert_eq!(status, 200);
    assert_promtool_accepts(&metrics);
}
