//! Properties of a message as bytes (AMQP 0-9-1, 1.8.1). Pure.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::table::{self, Entry, Table};
use crate::message::PERSISTENT;

/// Bytes of the length before the headers' entries.
const LENGTH_BYTES: usize = 4;

/// Property of a message, in the order in which they are sent.
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

/// Encoding of a property.
enum Shape {
    /// A length of one byte, and as many bytes.
    ShortString,
    /// A length of four bytes, and as many bytes.
    Table,
    /// A fixed number of bytes.
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

    /// Returns the name that AMQP has for it, and the contract in `x-cns-field`.
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

    /// Returns its bit among the flags: the first property has the highest.
    const fn flag(self) -> u16 {
        1 << (15 - self as u16)
    }
}

/// Properties of a message, each as the bytes that are sent, length included: borrowed from the message, or owned where they
/// are changed.
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
    /// Takes them apart; `None` where the bytes are not properties.
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

    /// Returns a copy that can be changed.
    #[must_use]
    pub fn to_owned(&self) -> RawProperties {
        RawProperties { values: self.values.map(|value| value.map(<[u8]>::to_owned)) }
    }

    /// Returns the text of a property, where it is UTF-8; only a short string has one.
    #[must_use]
    pub fn utf8(&self, property: Property) -> Option<&'a str> {
        match property.shape() {
            Shape::ShortString => std::str::from_utf8(&self.values[property as usize]?[1..]).ok(),
            Shape::Table | Shape::Fixed(_) => None,
        }
    }

    /// Returns the text of a header, where it is a text and UTF-8.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a str> {
        let table = self.values[Property::Headers as usize]?.get(LENGTH_BYTES..)?;
        match table::entries(table).find(|entry| entry.name == name.as_bytes())?.value {
            table::Value::Text(text) => std::str::from_utf8(text).ok(),
            _ => None,
        }
    }
}

impl<V: AsRef<[u8]>> RawProperties<V> {
    fn value(&self, property: Property) -> Option<&[u8]> {
        self.values[property as usize].as_ref().map(AsRef::as_ref)
    }

    /// Checks that the texts and the headers can be read.
    ///
    /// # Errors
    /// The first property that cannot: a text is not UTF-8, or a header has no known type.
    pub fn check(&self) -> Result<(), Property> {
        for property in Property::ALL {
            let Some(value) = self.value(property) else { continue };
            let readable = match property.shape() {
                Shape::ShortString => std::str::from_utf8(&value[1..]).is_ok(),
                Shape::Table => table::is_readable(&value[LENGTH_BYTES..]),
                Shape::Fixed(_) => true,
            };
            if !readable {
                return Err(property);
            }
        }
        Ok(())
    }

    /// Returns them as they are sent.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let present = Property::ALL.into_iter().filter(|property| self.value(*property).is_some());
        let flags = present.fold(0, |flags, property| flags | property.flag());
        let mut bytes = flags.to_be_bytes().to_vec();
        self.values.iter().flatten().for_each(|value| bytes.extend_from_slice(value.as_ref()));
        bytes
    }

    /// Returns the text of a property, with U+FFFD for what is not UTF-8; only a short string has one.
    #[must_use]
    pub fn text(&self, property: Property) -> Option<Cow<'_, str>> {
        match property.shape() {
            Shape::ShortString => self.value(property).map(|value| String::from_utf8_lossy(&value[1..])),
            Shape::Table | Shape::Fixed(_) => None,
        }
    }

    /// Returns the number that a property is; only `priority`, `delivery_mode` and `timestamp` are one.
    #[must_use]
    pub fn number(&self, property: Property) -> Option<u64> {
        let value = self.value(property)?;
        matches!(property.shape(), Shape::Fixed(_))
            .then(|| value.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// Walks the headers, as far as they can be read.
    pub fn headers(&self) -> impl Iterator<Item = Entry<'_>> {
        table::entries(
            self.value(Property::Headers).and_then(|value| value.get(LENGTH_BYTES..)).unwrap_or_default(),
        )
    }

    /// Returns whether there are headers that can be read to the last byte.
    #[must_use]
    pub fn has_readable_headers(&self) -> bool {
        self.value(Property::Headers).is_some_and(|value| table::is_readable(&value[LENGTH_BYTES..]))
    }

    /// Returns every property that is there, as text.
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
    /// Sets a text of at most 255 bytes; a longer one is left out, as the broker could not take it.
    #[must_use]
    pub fn with_text(mut self, property: Property, text: &str) -> Self {
        let value = u8::try_from(text.len()).ok().map(|length| [&[length], text.as_bytes()].concat());
        self.values[property as usize] = value.filter(|_| matches!(property.shape(), Shape::ShortString));
        self
    }

    /// Removes a property.
    pub fn remove(&mut self, property: Property) {
        self.values[property as usize] = None;
    }

    /// Makes the broker write the message to disk.
    pub fn set_persistent(&mut self) {
        self.values[Property::DeliveryMode as usize] = Some(vec![PERSISTENT]);
    }

    /// Replaces the headers.
    pub fn set_headers(&mut self, headers: &Table) {
        self.values[Property::Headers as usize] = Some(headers.to_bytes());
    }

    /// Returns these headers with the existing ones behind them, whether or not those can be read.
    #[must_use]
    pub fn headers_behind(&self, headers: &Table) -> Table {
        let mut all = headers.clone();
        all.raw_entries(
            self.value(Property::Headers).and_then(|value| value.get(LENGTH_BYTES..)).unwrap_or_default(),
        );
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> RawProperties {
        let mut headers = Table::default();
        headers.int("a", 7);
        headers.text("traceparent", b"00-1");
        let mut properties = RawProperties::default()
            .with_text(Property::ContentType, "application/json")
            .with_text(Property::MessageId, "m-1")
            .with_text(Property::ClusterId, "c");
        properties.set_persistent();
        properties.set_headers(&headers);
        properties.values[Property::Priority as usize] = Some(vec![8]);
        properties.values[Property::Timestamp as usize] = Some(1_700_000_000_u64.to_be_bytes().to_vec());
        properties
    }

    #[test]
    fn they_are_taken_apart_and_put_together_again() {
        let raw = sample();
        assert_eq!(raw.check(), Ok(()));
        let bytes = raw.to_bytes();
        let parsed = RawProperties::parse(&bytes).unwrap();
        assert_eq!(parsed.to_owned(), raw);
        assert_eq!(parsed.utf8(Property::MessageId), Some("m-1"));
        assert_eq!(raw.text(Property::MessageId).as_deref(), Some("m-1"));
        assert_eq!(raw.number(Property::Timestamp), Some(1_700_000_000));
        assert_eq!(raw.described().len(), 6);
        for cut in 0..bytes.len() {
            assert_eq!(RawProperties::parse(&bytes[..cut]), None, "{cut}");
        }
    }

    #[test]
    fn a_text_that_is_not_utf_8_is_named() {
        let mut raw = sample();
        raw.values[Property::MessageId as usize] = Some(b"\x02\xff\xfe".to_vec());
        assert_eq!(raw.check(), Err(Property::MessageId));
        assert_eq!(raw.text(Property::MessageId).as_deref(), Some("\u{fffd}\u{fffd}"));
        let bytes = raw.to_bytes();
        assert_eq!(RawProperties::parse(&bytes).unwrap().to_bytes(), bytes, "kept byte for byte");
    }

    #[test]
    fn a_header_is_found_among_others() {
        let bytes = sample().to_bytes();
        let properties = RawProperties::parse(&bytes).unwrap();
        assert_eq!(properties.header("traceparent"), Some("00-1"));
        assert_eq!(properties.header("a"), None, "not a text");
        assert_eq!(properties.header("z"), None);
    }

    #[test]
    fn headers_are_put_before_those_there_are() {
        let mut own = Table::default();
        own.text("x", b"why");
        for (properties, names) in
            [(sample(), &["x", "a", "traceparent"][..]), (RawProperties::default(), &["x"])]
        {
            let mut raw = properties.clone();
            raw.set_headers(&properties.headers_behind(&own));
            let found: Vec<_> =
                raw.headers().map(|entry| String::from_utf8_lossy(entry.name).into_owned()).collect();
            assert_eq!(found, names);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_properties_or_refused(bytes: Vec<u8>) {
            if let Some(properties) = RawProperties::parse(&bytes) {
                let _ = (properties.check(), properties.described(), properties.header("x"));
                proptest::prop_assert!(properties.to_bytes().len() <= bytes.len());
            }
        }
    }
}
