//! Names of the message headers that the contract and the broker define.
//!
//! Every other file takes a header's name from here, so that the writer and the reader of a header cannot disagree.

/// The trace that the event belongs to (W3C Trace Context).
pub const TRACEPARENT: &str = "traceparent";

/// Offset that the broker adds to a delivery of a stream.
pub const STREAM_OFFSET: &str = "x-stream-offset";

/// Reason of a dead letter: the name of a [`Reason`](super::Reason).
pub const REASON: &str = "x-cns-reason";
/// Description of the rejection, one line for the operator.
pub const DETAIL: &str = "x-cns-detail";
/// Field at fault, when the rejection is about one field.
pub const FIELD: &str = "x-cns-field";
/// SQLSTATE of a `database_rejected` dead letter.
pub const SQLSTATE: &str = "x-cns-sqlstate";
/// Routing key that the message arrived with.
pub const ROUTING_KEY: &str = "x-cns-routing-key";
/// Time at which the worker dead-lettered the message (RFC 3339).
pub const DEAD_AT: &str = "x-cns-dead-at";
/// Name of the worker that dead-lettered the message.
pub const WORKER: &str = "x-cns-worker";
/// Number of the message's own headers that did not fit into a frame.
pub const HEADERS_LEFT_OUT: &str = "x-cns-headers-left-out";

/// Headers that describe a dead letter. A later dead letter of the same message replaces them.
pub const DEAD_LETTER: [&str; 8] =
    [REASON, DETAIL, FIELD, SQLSTATE, ROUTING_KEY, DEAD_AT, WORKER, HEADERS_LEFT_OUT];

/// Original value of the property `user_id`, which the broker compares with the publisher's login.
pub const USER_ID: &str = "x-cns-user-id";
/// Original value of the property `expiration`, which would make the broker drop the message.
pub const EXPIRATION: &str = "x-cns-expiration";
/// Original value of the property `reply_to`, which the broker refuses for a reply queue of another connection.
pub const REPLY_TO: &str = "x-cns-reply-to";
/// Original value of the header [`SENDER_CC`].
pub const CC: &str = "x-cns-cc";
/// Original value of the header [`SENDER_BCC`].
pub const BCC: &str = "x-cns-bcc";

/// Number of times that an operator replayed the dead letter.
pub const REPLAYS: &str = "x-cns-replays";
/// Identifier of the replay run that published the message.
pub const REPLAY_RUN: &str = "x-cns-replay-run";
/// `event_id` of the stored event that was replayed.
pub const REPLAYED_FROM: &str = "x-cns-replayed-from";

/// Further routing keys of a message (RabbitMQ's sender-selected distribution).
pub const SENDER_CC: &str = "CC";
/// Further routing keys that the broker removes before delivery.
pub const SENDER_BCC: &str = "BCC";

/// The broker's list of the queues that dead-lettered the message.
pub const X_DEATH: &str = "x-death";
/// Number of earlier deliveries, counted by a quorum queue.
pub const X_DELIVERY_COUNT: &str = "x-delivery-count";

/// Headers that the broker adds when it dead-letters a message by itself, or counts its deliveries.
pub const BROKER: [&str; 8] = [
    X_DEATH,
    "x-first-death-exchange",
    "x-first-death-queue",
    "x-first-death-reason",
    "x-last-death-exchange",
    "x-last-death-queue",
    "x-last-death-reason",
    X_DELIVERY_COUNT,
];

/// Returns whether a header belongs to the dead letter and not to the message that its producer sent.
#[must_use]
pub fn is_about_dead_letter(name: &str) -> bool {
    DEAD_LETTER.contains(&name) || BROKER.contains(&name)
}

/// Property `type` of a probe: a message without a body that asks whether a queue takes messages. Workers drop it.
pub const PROBE_TYPE: &str = "cns-events.probe";
