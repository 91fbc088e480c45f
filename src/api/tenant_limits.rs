//! What one tenant may have of a process at once, so that its crowd, or its slow readers, are its own trouble.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use uuid::Uuid;

/// Answers of one tenant that are made or being sent, each of 4 MiB at most (about): 64 MiB of memory. More requests wait.
const ANSWERS: usize = 16;

/// The tenants that are here, and what each of them has.
pub(super) struct Shares {
    tenants: Mutex<HashMap<Uuid, Arc<Share>>>,
    /// Questions to the database of one tenant at once: one connection is left for the others.
    questions: usize,
}

/// One tenant's.
pub(super) struct Share {
    answers: Arc<Semaphore>,
    questions: Semaphore,
}

impl Shares {
    pub(super) fn of_pool(connections: usize) -> Self {
        Shares { tenants: Mutex::default(), questions: connections.saturating_sub(1).max(1) }
    }

    pub(super) fn of(&self, tenant: Uuid) -> Arc<Share> {
        let share = || {
            let (answers, questions) = (Arc::new(Semaphore::new(ANSWERS)), Semaphore::new(self.questions));
            Arc::new(Share { answers, questions })
        };
        self.lock().entry(tenant).or_insert_with(share).clone()
    }

    /// Forgets those who have nothing in hand.
    pub(super) fn tidy(&self) {
        self.lock().retain(|_, share| Arc::strong_count(share) > 1 || Arc::strong_count(&share.answers) > 1);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, Arc<Share>>> {
        // A map of counts is whole whatever panicked beside it.
        self.tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// The place of an answer: to be kept until its last byte is sent.
    pub(super) async fn answer(&self) -> Option<OwnedSemaphorePermit> {
        self.answers.clone().acquire_owned().await.ok() // it is never closed
    }

    /// The right to ask the database.
    pub(super) async fn question(&self) -> Option<SemaphorePermit<'_>> {
        self.questions.acquire().await.ok() // it is never closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_tenants_places_are_not_anothers() {
        let (shares, [loud, quiet]) = (Shares::of_pool(3), [1, 2].map(Uuid::from_u128));
        let crowd = shares.of(loud);
        let _asking = (crowd.question().await, crowd.question().await);
        assert!(crowd.questions.try_acquire().is_err(), "one connection is left");
        assert!(shares.of(quiet).questions.try_acquire().is_ok());
        let held: Vec<_> = futures_util::future::join_all((0..ANSWERS).map(|_| crowd.answer())).await;
        assert!(held.iter().all(Option::is_some) && crowd.answers.try_acquire().is_err());
        drop(_asking);
        drop(crowd);
        shares.tidy();
        assert_eq!(shares.lock().len(), 1, "an answer is being sent");
        drop(held);
        shares.tidy();
        assert!(shares.lock().is_empty());
    }
}
