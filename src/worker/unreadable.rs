//! After a session that the client library failed over a message it cannot read: that message is taken out of the way.

use lapin::ErrorKind;
use lapin::protocol::{AMQPErrorKind, AMQPHardError};

use super::Shared;
use crate::broker::{Broker, NotSetAside, RawMessage, Reach, WireError, set_unreadable_aside, try_letter};
use crate::metrics::Peer;
use crate::patience::Patience;

/// Whether an error means that a message could not be read: its texts, or a frame larger than was agreed.
pub(super) fn is_unreadable(error: &lapin::Error) -> bool {
    match error.kind() {
        ErrorKind::ParsingError(_) => true,
        ErrorKind::ProtocolError(error) => {
            matches!(error.kind(), AMQPErrorKind::Hard(AMQPHardError::FRAMEERROR))
        }
        _ => false,
    }
}

/// Looks for it in what came back from the session, and dead-letters it, however long its letter is not taken: a session
/// before that would only fail over it again, and each failure counts as a delivery of its neighbours.
pub(super) async fn set_aside(shared: &Shared, broker: &Broker) {
    let mut patience = Patience::endless();
    let mut letter: Option<Box<RawMessage>> = None;
    loop {
        let tried = async {
            if let Some(letter) = &letter {
                declare(shared, broker).await;
                try_letter(broker, &shared.config.amqp.dead_letter_exchange, letter).await?;
            }
            look(shared, broker).await
        };
        let why = tokio::select! {
            () = shared.shutdown.cancelled() => return,
            tried = tried => match tried {
                Ok(()) => return,
                Err(NotSetAside::Letter { letter: again, why }) => {
                    letter = Some(again);
                    why
                }
                // The broker's own answer: a queue that is gone, say. A session declares it.
                Err(NotSetAside::Wire(WireError::Closed { .. })) if letter.is_none() => return,
                Err(NotSetAside::Wire(error)) => error.to_string(),
            },
        };
        // That the broker is away was said before; what keeps it so is another matter.
        shared.health.lost(Peer::Broker, &why);
        tracing::warn!(
            why,
            "a message that cannot be read is not set aside yet: nothing is consumed before it is"
        );
        tokio::select! {
            () = shared.shutdown.cancelled() => return,
            () = tokio::time::sleep(patience.pause().unwrap_or_default()) => {}
        }
    }
}

/// One look through the queue.
async fn look(shared: &Shared, broker: &Broker) -> Result<(), NotSetAside> {
    let (amqp, worker) = (&shared.config.amqp, &shared.config.worker);
    let reach = Reach {
        messages: worker.lanes * usize::from(worker.prefetch),
        bytes: worker.lanes.saturating_mul(worker.buffer_bytes),
    };
    let mut found = Vec::new();
    let looked = set_unreadable_aside(
        broker,
        &amqp.queue,
        &amqp.dead_letter_exchange,
        &shared.name,
        reach,
        &mut found,
    );
    let looked = looked.await;
    for rejection in &found {
        shared.metrics.dead_lettered.with_label_values(&[rejection.reason.name()]).inc();
        tracing::warn!(
            reason = %rejection.reason,
            field = rejection.field.as_deref(),
            detail = rejection.detail,
            "dead-lettered: the AMQP client library cannot read it, and had failed the connection over it"
        );
    }
    if looked.is_ok() && found.is_empty() {
        tracing::info!("no message that cannot be read was found: another worker has it, or had");
    }
    looked
}

/// What may be missing for the letter. That it cannot be declared is said by the letter that is not taken.
async fn declare(shared: &Shared, broker: &Broker) {
    if let Ok(connection) = broker.connect("topology").await {
        let _ = shared.config.amqp.topology().declare(&connection, None).await;
        let _ = connection.close(200, "done".into()).await;
    }
}
