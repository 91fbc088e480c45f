//! The properties of a message as their bytes are.

use std::borrow::Cow;
use std::collections::BTreeMap;

use amq_protocol::frame::WriteContext;
use amq_protocol::types::generation::gen_field_table;
use amq_protocol::types::parsing::parse_field_table;
use lapin::protocol::BasicProperties;
use lapin::protocol::basic::gen_properties;
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

/// The properties of a message, each as the bytes it has on the wire, length included: borrowed from the message, or owned
/// where they are changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawProperties<V = Vec<u8>> {
    values: [Option<V>; Property::ALL.len()],
}

impl<V> Default for RawProperties<V> {
    fn default() -> Self {
        RawProperties { values: Default::default() }
    }
}

impl<'a> RawProperties<&'a [u8]> {
    /// Takes them apart; `None` where they are no properties at all.
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (flags, mut rest) = bytes.split_first_chunk()?;
        let flags = u16::from_be_bytes(*flags);
        let mut properties = Self::default();
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
            properties.values[property as usize] = Some(value);
            rest = others;
        }
        rest.is_empty().then_some(properties)
    }

    /// A copy that can be changed.
    #[must_use]
    pub fn to_owned(&self) -> RawProperties {
        RawProperties { values: self.values.map(|value| value.map(<[u8]>::to_owned)) }
    }

    /// The text of a property, where it is UTF-8; only a short string has one.
    #[must_use]
    pub fn utf8(&self, property: Property) -> Option<&'a str> {
        match property.shape() {
            Shape::ShortString => std::str::from_utf8(&self.values[property as usize]?[1..]).ok(),
            Shape::Table | Shape::Fixed(_) => None,
        }
    }

    /// The text of a header that is one, where it can be found without looking into the others.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a str> {
        let mut rest = self.values[Property::Headers as usize]?.get(4..)?;
        loop {
            let (length, others) = rest.split_first()?;
            let (key, others) = others.split_at_checked(usize::from(*length))?;
            let (kind, others) = others.split_first()?;
            let length = || Some(4 + usize::try_from(u32::from_be_bytes(*others.first_chunk()?)).ok()?);
            // RabbitMQ's field types (its errata to AMQP 0-9-1, 4.2.1).
            let bytes = match kind {
                b'V' => 0,
                b't' | b'b' | b'B' => 1,
                b's' | b'u' => 2,
                b'I' | b'i' | b'f' => 4,
                b'D' => 5,
                b'l' | b'L' | b'd' | b'T' => 8,
                b'S' | b'x' | b'A' | b'F' => length()?,
                _ => return None,
            };
            let (value, others) = others.split_at_checked(bytes)?;
            if key == name.as_bytes() {
                return (*kind == b'S').then(|| std::str::from_utf8(&value[4..]).ok())?;
            }
            rest = others;
        }
    }
}

impl<V: AsRef<[u8]>> RawProperties<V> {
    fn value(&self, property: Property) -> Option<&[u8]> {
        self.values[property as usize].as_ref().map(AsRef::as_ref)
    }

    /// Whether the texts and the headers can be read.
    ///
    /// # Errors
    /// The first property that cannot: a text is not UTF-8, or a value has no type that is known.
    pub fn check(&self) -> Result<(), Property> {
        for property in Property::ALL {
            let Some(value) = self.value(property) else { continue };
            let readable = match property.shape() {
                Shape::ShortString => std::str::from_utf8(&value[1..]).is_ok(),
                Shape::Table => parse_field_table(value).is_ok(),
                Shape::Fixed(_) => true,
            };
            if !readable {
                return Err(property);
            }
        }
        Ok(())
    }

    /// As they stand on the wire.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let present = Property::ALL.into_iter().filter(|property| self.value(*property).is_some());
        let flags = present.fold(0, |flags, property| flags | property.flag());
        let mut bytes = flags.to_be_bytes().to_vec();
        self.values.iter().flatten().for_each(|value| bytes.extend_from_slice(value.as_ref()));
        bytes
    }

    /// The text of a property, with U+FFFD for what is not UTF-8; only a short string has one.
    #[must_use]
    pub fn text(&self, property: Property) -> Option<Cow<'_, str>> {
        match property.shape() {
            Shape::ShortString => self.value(property).map(|value| String::from_utf8_lossy(&value[1..])),
            Shape::Table | Shape::Fixed(_) => None,
        }
    }

    /// The number that a property is; only `priority`, `delivery_mode` and `timestamp` are one.
    #[must_use]
    pub fn number(&self, property: Property) -> Option<u64> {
        let value = self.value(property)?;
        matches!(property.shape(), Shape::Fixed(_))
            .then(|| value.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// The headers, as far as they can be read.
    #[must_use]
    pub fn headers(&self) -> Option<FieldTable> {
        parse_field_table(self.value(Property::Headers)?).ok().map(|(_, table)| table)
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
}

impl RawProperties {
    /// As the client library writes them.
    #[must_use]
    pub fn of(properties: &BasicProperties) -> Self {
        let bytes = generated(gen_properties(properties));
        RawProperties::parse(&bytes).map(|properties| properties.to_owned()).unwrap_or_default()
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
        assert_eq!(raw.check(), Ok(()));
        let bytes = raw.to_bytes();
        let parsed = RawProperties::parse(&bytes).unwrap();
        assert_eq!(parsed.to_owned(), raw);
        assert_eq!(parsed.utf8(Property::MessageId), Some("m-1"));
        assert_eq!(raw.text(Property::MessageId).as_deref(), Some("m-1"));
        assert_eq!(raw.number(Property::Timestamp), Some(1_700_000_000));
        assert_eq!(raw.described().len(), 6);
        assert_eq!(RawProperties::parse(&raw.to_bytes()[..20]), None);
    }

    #[test]
    fn what_is_not_utf_8_is_named() {
        let mut raw = RawProperties::of(&sample());
        raw.values[Property::MessageId as usize] = Some(b"\x02\xff\xfe".to_vec());
        assert_eq!(raw.check(), Err(Property::MessageId));
        assert_eq!(raw.text(Property::MessageId).as_deref(), Some("\u{fffd}\u{fffd}"));
        let bytes = raw.to_bytes();
        assert_eq!(RawProperties::parse(&bytes).unwrap().to_bytes(), bytes, "kept byte for byte");
    }

    #[test]
    fn a_header_is_found_among_others() {
        use lapin::types::AMQPValue;
        let mut headers = FieldTable::default();
        for (name, value) in [
            ("a", AMQPValue::FieldTable(FieldTable::default())),
            ("b", AMQPValue::Boolean(true)),
            ("c", AMQPValue::DecimalValue(lapin::types::DecimalValue { scale: 1, value: 2 })),
            ("d", AMQPValue::Timestamp(7)),
            ("e", AMQPValue::LongInt(7)),
            ("traceparent", AMQPValue::LongString("00-1".into())),
        ] {
            headers.insert(name.into(), value);
        }
        let bytes = RawProperties::of(&BasicProperties::default().with_headers(headers)).to_bytes();
        let properties = RawProperties::parse(&bytes).unwrap();
        assert_eq!(properties.header("traceparent"), Some("00-1"));
        assert_eq!(properties.header("a"), None, "no text");
        assert_eq!(properties.header("z"), None);
        let cut = &bytes[..bytes.len() - 3];
        assert_eq!(RawProperties::parse(cut), None);
    }

    #[test]
    fn headers_are_added_behind_what_there_is() {
        let mut own = FieldTable::default();
        own.insert("x".into(), lapin::types::AMQPValue::LongString("why".into()));
        for properties in [sample(), BasicProperties::default()] {
            let before = properties.headers().as_ref().map_or(0, |headers| headers.inner().len());
            let mut raw = RawProperties::of(&properties);
            raw.append_headers(&own);
            assert_eq!(raw.headers().unwrap().inner().len(), before + 1);
        }
    }
}
