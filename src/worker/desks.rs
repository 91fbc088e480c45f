//! The ways of a lane's deliveries that leave their batch: rows that wait alone, and dead letters. Each is a task, so that the lane
//! never waits for one delivery.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prometheus::IntGauge;

use super::Shared;
use super::batch::Batch;
use super::fate::Fate;
use super::held_rows::HeldRows;
use super::rows::RowStore;
use crate::broker::BrokerEndpoint;
use crate::dead_letters::{
    DeadLetterPublisher, DeadLetterSettings, DeliveryKey, NotTaken, Outcome, RejectedDelivery,
};
use crate::event::Reason;

/// Time that a batch waits for the confirms of its dead letters: usually they are there within it, and the batch is acknowledged as a
/// whole.
const CONFIRM_WAIT: Duration = Duration::from_millis(250);

/// Maximum rows that wait alone, in batches: beyond it the lane takes no more, because nothing may be storable at all.
const MAX_HELD_BATCHES: usize = 2;

/// Held rows and dead letters of one lane and one consumer.
pub(super) struct Desks {
    shared: Shared,
    held_rows: HeldRows,
    dead_letters: DeadLetterPublisher,
    /// Ends of parked deliveries that came while a batch waited.
    early: VecDeque<(DeliveryKey, Fate)>,
}

impl Desks {
    /// Starts both tasks, which connect when they are needed.
    pub(super) fn start(shared: &Shared, broker: &BrokerEndpoint, store: RowStore) -> Self {
        let settings = DeadLetterSettings {
            broker: broker.clone(),
            topology: shared.config.amqp.topology(),
            worker: shared.name.clone(),
        };
        let blocked = Blocked::new(shared.metrics.dead_letters_blocked.clone());
        let dead_letters = DeadLetterPublisher::start(settings, move |problem| blocked.set(problem));
        let held_rows = HeldRows::start(shared.clone(), store);
        Desks { shared: shared.clone(), held_rows, dead_letters, early: VecDeque::new() }
    }

    /// Returns whether the lane may take another batch.
    pub(super) fn has_room(&self) -> bool {
        self.held_rows.open() < MAX_HELD_BATCHES * self.shared.config.worker.batch_size
    }

    /// Returns whether dead letters are on their way that the broker probably confirms soon.
    pub(super) fn expects_confirms(&self) -> bool {
        self.dead_letters.open() > 0 && self.dead_letters.is_flowing()
    }

    /// Takes over what has no end in a batch, and waits a moment for the confirms of its dead letters.
    pub(super) async fn take_over(&mut self, batch: &mut Batch) {
        let (deliveries, fates) = batch.parts();
        let mut awaited = 0;
        for (delivery, fate) in deliveries.iter_mut().zip(fates.iter()) {
            if !fate.is_settled() {
                delivery.detach();
            }
            let key = (delivery.channel, delivery.tag);
            match fate {
                Fate::Held(failure) => {
                    self.held_rows.hold(key, delivery.clone(), failure.clone());
                }
                Fate::Rejected(rejection) => {
                    let rejected =
                        RejectedDelivery { delivery: delivery.clone(), rejection: rejection.clone() };
                    self.dead_letters.publish(key, rejected);
                    awaited += 1;
                }
                _ => {}
            }
        }
        if awaited == 0 || !self.dead_letters.is_flowing() {
            return;
        }
        let confirms = async {
            while awaited > 0 {
                let (key, rejected, outcome) = self.dead_letters.next().await;
                let fate = self.ended(&rejected, outcome);
                let place = deliveries.iter().position(|delivery| (delivery.channel, delivery.tag) == key);
                match place {
                    Some(place) => {
                        fates[place] = fate;
                        awaited -= 1;
                    }
                    None => self.early.push_back((key, fate)),
                }
            }
        };
        // Without them the rest is parked.
        let _ = tokio::time::timeout(CONFIRM_WAIT, confirms).await;
    }

    /// Waits for the next parked delivery that has its end. Cancel-safe.
    pub(super) async fn next(&mut self) -> (DeliveryKey, Fate) {
        loop {
            if let Some(early) = self.early.pop_front() {
                return early;
            }
            tokio::select! {
                (key, rejected, outcome) = self.dead_letters.next() => {
                    return (key, self.ended(&rejected, outcome));
                }
                (key, delivery, fate) = self.held_rows.next() => match fate {
                    Fate::Rejected(rejection) => {
                        self.dead_letters.publish(key, RejectedDelivery { delivery, rejection });
                    }
                    fate => return (key, fate),
                }
            }
        }
    }

    /// Counts and logs the end of a dead letter.
    fn ended(&self, RejectedDelivery { delivery, rejection }: &RejectedDelivery, outcome: Outcome) -> Fate {
        self.shared.metrics.dead_lettered.with_label_values(&[rejection.reason.name()]).inc();
        // The database's message may quote a value: it is in the dead letter only.
        let detail = match rejection.reason {
            Reason::DatabaseRejected => "refused by the database",
            _ => rejection.detail.as_str(),
        };
        // A field that the contract does not name is part of the body.
        let field = rejection.field.as_ref().filter(|field| matches!(field, Cow::Borrowed(_)));
        let (fate, error) = match outcome {
            Outcome::Published => (Fate::DeadLettered, None),
            Outcome::Impossible(error) => (Fate::Refused, Some(error)),
        };
        tracing::warn!(
            reason = %rejection.reason,
            field = field.map(AsRef::as_ref),
            sqlstate = rejection.sqlstate.as_deref(),
            message_id = delivery.message_id().map(|id| tracing::field::display(id.escape_debug().to_string())),
            traceparent = delivery.traceparent(),
            detail,
            error,
            "{}",
            if fate.is_refused() { "rejected to the broker's own dead-lettering" } else { "dead-lettered" }
        );
        fate
    }
}

/// State of a lane's dead letters in the gauge and in the log.
struct Blocked {
    gauge: IntGauge,
    is_blocked: AtomicBool,
}

impl Blocked {
    fn new(gauge: IntGauge) -> Self {
        Blocked { gauge, is_blocked: AtomicBool::new(false) }
    }

    /// Records the reason why dead letters are not taken; `None` where they are.
    fn set(&self, problem: Option<&NotTaken>) {
        if self.is_blocked.swap(problem.is_some(), Ordering::Relaxed) == problem.is_some() {
            return;
        }
        match problem {
            Some(error) => {
                self.gauge.inc();
                tracing::warn!(%error, "the broker does not take dead letters, parking them");
            }
            None => {
                self.gauge.dec();
                tracing::info!("the broker takes dead letters again");
            }
        }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        if *self.is_blocked.get_mut() {
            self.gauge.dec();
        }
    }
}
