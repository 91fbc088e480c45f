//! After a session that the client library failed over a message it cannot read: that message is taken out of the way.

use lapin::ErrorKind;

use super::Shared;
use crate::broker::{Broker, Reach, set_unreadable_aside};
use crate::metrics::Peer;

/// Whether an error means that a message could not be read.
pub(super) fn is_unreadable(error: &lapin::Error) -> bool {
    matches!(error.kind(), ErrorKind::ParsingError(_))
}

/// Looks for it in what came back from the session, and dead-letters it. Where that fails, the next session fails
/// over it again, and it is looked for again.
pub(super) async fn set_aside(shared: &Shared, broker: &Broker) {
    let (amqp, worker) = (&shared.config.amqp, &shared.config.worker);
    let reach = Reach {
        messages: worker.lanes * usize::from(worker.prefetch),
        bytes: worker.lanes.saturating_mul(worker.buffer_bytes),
    };
    let mut found = Vec::new();
    let looking = set_unreadable_aside(
        broker,
        &amqp.queue,
        &amqp.dead_letter_exchange,
        &shared.name,
        reach,
        &mut found,
    );
    let looked = tokio::select! {
        looked = looking => looked,
        () = shared.shutdown.cancelled() => Ok(()),
    };
    for rejection in &found {
        shared.metrics.dead_lettered.with_label_values(&[rejection.reason.name()]).inc();
        tracing::warn!(
            reason = %rejection.reason,
            field = rejection.field.as_deref(),
            detail = rejection.detail,
            "dead-lettered: the AMQP client library cannot read it, and had failed the connection over it"
        );
    }
    match looked {
        Err(error) => {
            if shared.health.lost(Peer::Broker, &error.to_string()) {
                tracing::warn!(%error, "a message that cannot be read is not set aside: trying again");
            }
        }
        Ok(()) if found.is_empty() => {
            tracing::info!("no message that cannot be read is left: another worker has it, or had");
        }
        Ok(()) => {}
    }
}
