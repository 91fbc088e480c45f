//! Properties that the broker acts on when a message is published again.

use lapin::types::{AMQPValue, FieldTable, LongString};

use crate::amqp::{Property, RawProperties};
use crate::event::headers;

/// Properties that must not be published again, and the headers that keep their values: the broker refuses a foreign `user_id`,
/// and drops a message whose `expiration` has passed.
const RESERVED: [(Property, &str); 2] =
    [(Property::UserId, headers::USER_ID), (Property::Expiration, headers::EXPIRATION)];

/// Moves the reserved properties to headers, and makes the message persistent.
pub(super) fn move_reserved_properties(properties: &mut RawProperties, headers: &mut FieldTable) {
    for (property, header) in RESERVED {
        if let Some(text) = properties.text(property) {
            headers.insert(header.into(), AMQPValue::LongString(LongString::from(text.as_ref())));
            properties.remove(property);
        }
    }
    properties.set_persistent();
}
