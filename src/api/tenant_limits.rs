//! Per-tenant concurrency limits: one tenant's load or slow clients cannot starve the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use uuid::Uuid;

/// Bytes of one tenant's responses that are being sent. A response that does not fit waits, and with it the query that it came from, so
/// that as many more as [`TenantLimits::for_pool`] allows are in memory.
const MAX_RESPONSE_BYTES: usize = 32 * 1024 * 1024;

/// Bytes of a permit: a semaphore counts to 2^29 only.
const PERMIT_BYTES: usize = 1024;

/// The limits of every tenant with a request in progress.
pub(super) struct TenantLimits {
    tenants: Mutex<HashMap<Uuid, Arc<TenantLimit>>>,
    /// Simultaneous queries of one tenant: one connection remains for the others.
    max_queries: usize,
}

/// The limits of one tenant.
pub(super) struct TenantLimit {
    /// Permits of [`PERMIT_BYTES`].
    responses: Arc<Semaphore>,
    queries: Semaphore,
}

impl TenantLimits {
    /// Returns limits for a pool of this many connections.
    pub(super) fn for_pool(connections: usize) -> Self {
        TenantLimits { tenants: Mutex::default(), max_queries: connections.saturating_sub(1).max(1) }
    }

    /// Returns the limits of a tenant.
    pub(super) fn of(&self, tenant: Uuid) -> Arc<TenantLimit> {
        let limit = || {
            let responses = Arc::new(Semaphore::new(MAX_RESPONSE_BYTES / PERMIT_BYTES));
            Arc::new(TenantLimit { responses, queries: Semaphore::new(self.max_queries) })
        };
        self.lock().entry(tenant).or_insert_with(limit).clone()
    }

    /// Drops the limits of tenants without a request in progress.
    pub(super) fn drop_unused(&self) {
        self.lock()
            .retain(|_, limit| Arc::strong_count(limit) > 1 || Arc::strong_count(&limit.responses) > 1);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, Arc<TenantLimit>>> {
        // No panic can leave the map in an invalid state.
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TenantLimit {
    /// Waits for the permit of a response of so many bytes; the caller keeps it until the last byte is sent. One that is larger than the
    /// limit is sent alone.
    pub(super) async fn response(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let permits = bytes.min(MAX_RESPONSE_BYTES).div_ceil(PERMIT_BYTES);
        let permits = u32::try_from(permits).unwrap_or(u32::MAX);
        self.responses.clone().acquire_many_owned(permits).await.ok() // the semaphore is never closed
    }

    /// Waits for the permit of a query.
    pub(super) async fn query(&self) -> Option<SemaphorePermit<'_>> {
        self.queries.acquire().await.ok() // the semaphore is never closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_tenant_cannot_use_the_permits_of_another() {
        let (limits, [loud, quiet]) = (TenantLimits::for_pool(3), [1, 2].map(Uuid::from_u128));
        let limit = limits.of(loud);
        let queries = (limit.query().await, limit.query().await);
        assert!(limit.queries.try_acquire().is_err(), "one connection remains for the others");
        assert!(limits.of(quiet).queries.try_acquire().is_ok());
        let held = limit.response(usize::MAX).await;
        assert!(held.is_some() && limit.responses.try_acquire().is_err());
        drop(queries);
        drop(limit);
        limits.drop_unused();
        assert_eq!(limits.lock().len(), 1, "a response is being sent");
        drop(held);
        limits.drop_unused();
        assert!(limits.lock().is_empty());
    }
}
