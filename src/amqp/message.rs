//! A message as bytes: what is published again has to be what arrived.

use super::properties::{Property, RawProperties};
use crate::event::{Reason, Rejection};

/// A message as bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawMessage {
    /// Key that it is published under.
    pub routing_key: Vec<u8>,
    /// Properties.
    pub properties: RawProperties,
    /// Body.
    pub body: Vec<u8>,
}

impl RawMessage {
    /// Checks that its texts and headers can be read.
    ///
    /// # Errors
    /// The reason why the worker cannot read it.
    pub fn check(&self) -> Result<(), Rejection> {
        check(&self.routing_key, &self.properties)
    }
}

/// Checks that a message's texts and headers can be read.
pub(super) fn check<V: AsRef<[u8]>>(
    routing_key: &[u8],
    properties: &RawProperties<V>,
) -> Result<(), Rejection> {
    let unreadable = |field, detail| Rejection::of(Reason::InvalidField, field, detail);
    if std::str::from_utf8(routing_key).is_err() {
        return Err(unreadable("routing_key", "is not UTF-8"));
    }
    properties.check().map_err(|property| match property {
        Property::Headers => {
            unreadable("headers", "cannot be read: a name is not UTF-8, or a value has no known type")
        }
        property => unreadable(property.name(), "is not UTF-8"),
    })
}
