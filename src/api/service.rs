//! The state that all requests share.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRef;
use governor::{DefaultKeyedRateLimiter, Quota};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::tenant_limits::TenantLimits;
use super::token::Tokens;
use crate::config;
use crate::health::Health;
use crate::live::Hub;
use crate::log_throttle::LogThrottle;
use crate::metrics::ApiMetrics;
use crate::store::read::Reader;

/// The read API: what every request needs. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    pub(super) parts: Arc<Parts>,
}

/// The parts of an [`Api`].
pub(super) struct Parts {
    pub(super) reader: Reader,
    pub(super) tokens: Arc<Tokens>,
    pub(super) rate_limiter: Option<DefaultKeyedRateLimiter<Uuid>>,
    pub(super) tenant_limits: TenantLimits,
    pub(super) metrics: Arc<ApiMetrics>,
    pub(super) request_timeout: Duration,
    pub(super) hub: Hub,
    /// Cancelled when streams have to end.
    pub(super) streams_end: CancellationToken,
    /// Time within which they end.
    pub(super) stream_stop: Duration,
    /// Minutes of silence after which a running workflow is stalled.
    pub(super) stalled_minutes: u32,
    pub(super) failed_reads: LogThrottle,
}

impl Api {
    /// Returns an API that reads with `reader`, streams from `hub` until `shutdown`, and verifies tokens with `tokens`.
    #[must_use]
    pub fn new(
        config: &config::Api,
        reader: Reader,
        hub: Hub,
        tokens: Arc<Tokens>,
        metrics: Arc<ApiMetrics>,
        shutdown: CancellationToken,
    ) -> Self {
        let rate_limiter = NonZeroU32::new(config.rate_limit)
            .map(|rate| DefaultKeyedRateLimiter::keyed(Quota::per_second(rate)));
        let parts = Parts {
            tenant_limits: TenantLimits::for_pool(reader.connections()),
            request_timeout: Duration::from_millis(config.request_timeout_ms),
            hub,
            streams_end: shutdown,
            stream_stop: Duration::from_millis(config.request_timeout_ms) / 2,
            stalled_minutes: config.stalled_minutes,
            failed_reads: LogThrottle::default(),
            reader,
            tokens,
            rate_limiter,
            metrics,
        };
        Api { parts: Arc::new(parts) }
    }

    /// Drops the state of tenants without a recent request. The caller repeats this at intervals.
    pub fn drop_unused(&self) {
        if let Some(limiter) = &self.parts.rate_limiter {
            limiter.retain_recent();
        }
        self.parts.tenant_limits.drop_unused();
    }
}

/// The state of the router.
#[derive(Clone)]
pub(super) struct AppState {
    pub(super) api: Api,
    pub(super) health: Arc<Health>,
}

impl FromRef<AppState> for Api {
    fn from_ref(state: &AppState) -> Api {
        state.api.clone()
    }
}

impl FromRef<AppState> for Arc<Health> {
    fn from_ref(state: &AppState) -> Arc<Health> {
        state.health.clone()
    }
}
