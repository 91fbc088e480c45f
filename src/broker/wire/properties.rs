//! The properties of a message as their bytes are.

use std::borrow::Cow;
use std::collections::BTreeMap;

use amq_protocol::frame::WriteContext;
use amq_protocol::types::generation::gen_field_table;
use amq_protocol::types::parsing::parse_field_table;
use lapin::protocol::BasicProperties;
use lapin::protocol::basic::{gen_properties, parse_properties};
use lapin::types::FieldTable;

use crate::message::PERSISTENT;

/// A property of a message (AMQP 0-9-1, 1.8.1), in the order of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Property {
    /// `content-type`
    ContentType,
    /// `content-encoding`
    ContentEncoding,
    /// `headers`
    Headers,
    /// `delivery-mode`
    DeliveryMode,
    /// `priority`
    Priority,
    /// `correlation-id`
    CorrelationId,
    /// `reply-to`
    ReplyTo,
    /// `expiration`
    Expiration,
    /// `message-id`
    MessageId,
    /// `timestamp`
    Timestamp,
    /// `type`
    Type,
    /// `user-id`
    UserId,
    /// `app-id`
    AppId,
    /// `cluster-id`
    ClusterId,
}

/// How a property stands on the wire.
enum Shape {
    /// A length of one byte, and as many bytes.
    ShortString,
    /// A length of four bytes, and as many bytes.
    Table,
    /// So many bytes.
    Fixed(usize),
}

impl Property {
    const ALL: [Property; 14] = [
        Property::ContentType,
        Property::ContentEncoding,
        Property::Headers,
        Property::DeliveryMode,
        Property::Priority,
        Property::CorrelationId,
        Property::ReplyTo,
        Property::Expiration,
        Property::MessageId,
        Property::Timestamp,
        Property::Type,
        Property::UserId,
        Property::AppId,
        Property::ClusterId,
    ];

    /// As AMQP calls it, and the contract in `x-cns-field`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Property::ContentType => "content_type",
            Property::ContentEncoding => "content_encoding",
            Property::Headers => "headers",
            Property::DeliveryMode => "delivery_mode",
            Property::Priority => "priority",
            Property::CorrelationId => "correlation_id",
            Property::ReplyTo => "reply_to",
            Property::Expiration => "expiration",
            Property::MessageId => "message_id",
            Property::Timestamp => "timestamp",
            Property::Type => "type",
            Property::UserId => "user_id",
            Property::AppId => "app_id",
            Property::ClusterId => "cluster_id",
        }
    }

    const fn shape(self) -> Shape {
        match self {
            Property::Headers => Shape::Table,
            Property::DeliveryMode | Property::Priority => Shape::Fixed(1),
            Property::Timestamp => Shape::Fixed(8),
            _ => Shape::ShortString,
        }
    }

    /// Its bit among the flags: the first property has the highest.
    const fn flag(self) -> u16 {
        1 << (15 - self as u16)
    }
}

/// The properties of a message, each as the bytes it has on the wire, length included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RawProperties {
    values: [Option<Vec<u8>>; Property::ALL.len()],
}

impl RawProperties {
    /// Takes them apart; `None` where they are no properties at all.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (flags, mut rest) = bytes.split_first_chunk()?;
        let flags = u16::from_be_bytes(*flags);
        let mut values: [Option<Vec<u8>>; Property::ALL.len()] = Default::default();
        for property in Property::ALL {
            if flags & property.flag() == 0 {
                continue;
            }
            let length = match property.shape() {
                Shape::Fixed(bytes) => bytes,
                Shape::ShortString => 1 + usize::from(*rest.first()?),
                Shape::Table => 4 + usize::try_from(u32::from_be_bytes(*rest.first_chunk()?)).ok()?,
            };
            let (value, others) = rest.split_at_checked(length)?;
            values[property as usize] = Some(value.to_owned());
            rest = others;
        }
        rest.is_empty().then_some(RawProperties { values })
    }

    /// As the client library writes them.
    #[must_use]
    pub fn of(properties: &BasicProperties) -> Self {
        Self::parse(&generated(gen_properties(properties))).unwrap_or_default()
    }

    /// As they stand on the wire.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let present = Property::ALL.into_iter().filter(|property| self.values[*property as usize].is_some());
        let flags = present.fold(0, |flags, property| flags | property.flag());
        let mut bytes = flags.to_be_bytes().to_vec();
        self.values.iter().flatten().for_each(|value| bytes.extend_from_slice(value));
        bytes
    }

    /// As the client library reads them.
    ///
    /// # Errors
    /// The first property that it cannot read: a text of it is not UTF-8.
    pub fn read(&self) -> Result<BasicProperties, Property> {
        let bytes = self.to_bytes();
        if let Ok((_, properties)) = parse_properties(bytes.as_slice()) {
            return Ok(properties);
        }
        let unreadable = Property::ALL.into_iter().find(|property| {
            let mut alone = RawProperties::default();
            alone.values[*property as usize].clone_from(&self.values[*property as usize]);
            parse_properties(alone.to_bytes().as_slice()).is_err()
        });
        Err(unreadable.unwrap_or(Property::Headers))
    }

    /// The text of a property, with U+FFFD for what is not UTF-8; only a short string has one.
    #[must_use]
    pub fn text(&self, property: Property) -> Option<Cow<'_, str>> {
        match property.shape() {
            Shape::ShortString => {
                self.values[property as usize].as_ref().map(|value| String::from_utf8_lossy(&value[1..]))
            }
            Shape::Table | Shape::Fixed(_) => None,
        }
    }

    /// The number that a property is; only `priority`, `delivery_mode` and `timestamp` are one.
    #[must_use]
    pub fn number(&self, property: Property) -> Option<u64> {
        let value = self.values[property as usize].as_ref()?;
        matches!(property.shape(), Shape::Fixed(_))
            .then(|| value.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// The headers, as far as they can be read.
    #[must_use]
    pub fn headers(&self) -> Option<FieldTable> {
        let value = self.values[Property::Headers as usize].as_ref()?;
        parse_field_table(value.as_slice()).ok().map(|(_, table)| table)
    }

    /// Every property that is there, as text.
    #[must_use]
    pub fn described(&self) -> BTreeMap<&'static str, String> {
        Property::ALL
            .into_iter()
            .filter_map(|property| {
                let number = || self.number(property).map(|number| number.to_string());
                let text = self.text(property).map(Cow::into_owned).or_else(number)?;
                Some((property.name(), text))
            })
            .collect()
    }

    /// Removes a property.
    pub fn remove(&mut self, property: Property) {
        self.values[property as usize] = None;
    }

    /// The broker writes the message to disk.
    pub fn set_persistent(&mut self) {
        self.values[Property::DeliveryMode as usize] = Some(vec![PERSISTENT]);
    }

    /// Replaces the headers.
    pub fn set_headers(&mut self, headers: &FieldTable) {
        self.values[Property::Headers as usize] = Some(generated(gen_field_table(headers)));
    }

    /// Adds headers behind those there are, whether or not these can be read.
    pub fn append_headers(&mut self, headers: &FieldTable) {
        let added = generated(gen_field_table(headers));
        let mut entries = self.values[Property::Headers as usize].take().unwrap_or_else(|| vec![0; 4]);
        entries.extend_from_slice(&added[4..]);
        let length = u32::try_from(entries.len() - 4).unwrap_or(u32::MAX);
        entries[..4].copy_from_slice(&length.to_be_bytes());
        self.values[Property::Headers as usize] = Some(entries);
    }
}

/// What a generator of the client library writes.
pub(super) fn generated(generator: impl amq_protocol::frame::SerializeFn<Vec<u8>>) -> Vec<u8> {
    // Writing to memory does not fail.
    generator(WriteContext::from(Vec::new())).map(|written| written.into_inner().0).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> BasicProperties {
        let mut headers = FieldTable::default();
        headers.insert("a".into(), lapin::types::AMQPValue::LongLongInt(7));
        BasicProperties::default()
            .with_content_type("application/json".into())
            .with_headers(headers)
            .with_delivery_mode(2)
            .with_priority(8)
            .with_message_id("m-1".into())
            .with_timestamp(1_700_000_000)
            .with_cluster_id("c".into())
    }

    #[test]
    fn they_come_apart_and_together_again() {
        let raw = RawProperties::of(&sample());
        assert_eq!(raw.read(), Ok(sample()));
        assert_eq!(RawProperties::parse(&raw.to_bytes()).as_ref(), Some(&raw));
        assert_eq!(raw.text(Property::MessageId).as_deref(), Some("m-1"));
        assert_eq!(raw.number(Property::Timestamp), Some(1_700_000_000));
        assert_eq!(raw.described().len(), 6);
        assert_eq!(RawProperties::parse(&raw.to_bytes()[..20]), None);
    }

    #[test]
    fn what_is_not_utf_8_is_named() {
        let mut raw = RawProperties::of(&sample());
        raw.values[Property::MessageId as usize] = Some(b"\x02\xff\xfe".to_vec());
        assert_eq!(raw.read(), Err(Property::MessageId));
        assert_eq!(raw.text(Property::MessageId).as_deref(), Some("\u{fffd}\u{fffd}"));
        let bytes = raw.to_bytes();
        assert_eq!(RawProperties::parse(&bytes).unwrap().to_bytes(), bytes, "kept byte for byte");
    }

    #[test]
    fn headers_are_added_behind_what_there_is() {
        let mut own = FieldTable::default();
        own.insert("x".into(), lapin::types::AMQPValue::LongString("why".into()));
        for properties in [sample(), BasicProperties::default()] {
            let before = properties.headers().as_ref().map_or(0, |headers| headers.inner().len());
            let mut raw = RawProperties::of(&properties);
            raw.append_headers(&own);
            assert_eq!(raw.read().unwrap().headers().as_ref().unwrap().inner().len(), before + 1);
        }
    }
}
