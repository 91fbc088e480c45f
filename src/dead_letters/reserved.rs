//! Properties and headers that the broker acts on when a message is published again.

use crate::amqp::table::Table;
use crate::amqp::{Property, RawProperties};
use crate::event::headers;

/// Properties that must not be published again, and the headers that keep their values: the broker refuses a foreign `user_id`
/// and a `reply_to` of another connection's reply queue, and drops a message whose `expiration` has passed.
const RESERVED_PROPERTIES: [(Property, &str); 3] = [
    (Property::UserId, headers::USER_ID),
    (Property::Expiration, headers::EXPIRATION),
    (Property::ReplyTo, headers::REPLY_TO),
];

/// Headers that must not be published again, and the headers that keep their values: the broker routes by them, and refuses a
/// message where they are not arrays of texts.
const RESERVED_HEADERS: [(&str, &str); 2] =
    [(headers::SENDER_CC, headers::CC), (headers::SENDER_BCC, headers::BCC)];

/// Returns whether a header must not be published again.
pub(super) fn is_reserved(name: &str) -> bool {
    RESERVED_HEADERS.iter().any(|(reserved, _)| *reserved == name)
}

/// Moves what the broker would act on to headers of other names, and makes the message persistent. The headers themselves are
/// for the caller to leave out, see [`is_reserved`].
pub(super) fn move_reserved(properties: &mut RawProperties, table: &mut Table) {
    for (property, header) in RESERVED_PROPERTIES {
        if let Some(text) = properties.text(property) {
            table.text(header, text.as_bytes());
            properties.remove(property);
        }
    }
    for (reserved, header) in RESERVED_HEADERS {
        if let Some(entry) = properties.headers().find(|entry| entry.name == reserved.as_bytes()) {
            table.raw_value(header, entry.raw_value());
        }
    }
    properties.set_persistent();
}
