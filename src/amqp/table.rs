//! Field tables (AMQP 0-9-1, 4.2.5.5, with RabbitMQ's field types): walked and written as bytes. Pure.
//!
//! A table is a list of entries, each a name (a short string), a type and a value; tables and arrays nest. Nothing here
//! recurses: a producer may nest as deep as a frame has room for.

use std::borrow::Cow;

/// Bytes of the length that stands before the entries of a table.
const LENGTH_BYTES: usize = 4;

/// Nesting beyond which a table counts as unreadable. A frame of 128 KiB, the largest that RabbitMQ takes from an AMQP 0-9-1
/// client, has room for 26,000 levels.
const MAX_DEPTH: usize = 32_768;

/// Value of a header. Arrays and tables are not looked into.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// A long string: bytes, UTF-8 or not.
    Text(&'a [u8]),
    /// A byte array.
    Bytes(&'a [u8]),
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A whole number that is never negative.
    Unsigned(u64),
    /// A number with binary fractions.
    Float(f64),
    /// A number with decimal fractions: the digits behind the point, and the number without the point.
    Decimal(u8, i32),
    /// Seconds since 1970.
    Timestamp(u64),
    /// The values of an array, see [`values`].
    Array(&'a [u8]),
    /// The entries of a table, see [`entries`].
    Table(&'a [u8]),
    /// Nothing.
    Void,
}

impl<'a> Value<'a> {
    /// Returns the text, with U+FFFD for what is not UTF-8, where the value is a text.
    #[must_use]
    pub fn text(self) -> Option<Cow<'a, str>> {
        match self {
            Value::Text(text) => Some(String::from_utf8_lossy(text)),
            _ => None,
        }
    }
}

/// Entry of a table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entry<'a> {
    /// Name: bytes, UTF-8 or not.
    pub name: &'a [u8],
    /// Value.
    pub value: Value<'a>,
    /// The whole entry as it stands in the table.
    pub raw: &'a [u8],
}

impl<'a> Entry<'a> {
    /// Returns the value as it stands in the table, its type before it.
    #[must_use]
    pub fn raw_value(&self) -> &'a [u8] {
        &self.raw[1 + self.name.len()..]
    }
}

/// Splits a typed value off: its type, its bytes, and the rest behind it.
fn split_value(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (kind, rest) = bytes.split_first()?;
    let size = match kind {
        b'V' => 0,
        b't' | b'b' | b'B' => 1,
        b's' | b'u' => 2,
        b'I' | b'i' | b'f' => 4,
        b'D' => 5,
        b'l' | b'L' | b'd' | b'T' => 8,
        b'S' | b'x' | b'A' | b'F' => {
            LENGTH_BYTES + usize::try_from(u32::from_be_bytes(*rest.first_chunk()?)).ok()?
        }
        _ => return None,
    };
    let (value, rest) = rest.split_at_checked(size)?;
    Some((*kind, value, rest))
}

/// Reads a value whose bytes [`split_value`] has measured.
fn read_value(kind: u8, bytes: &[u8]) -> Option<Value<'_>> {
    let behind_length = || bytes.get(LENGTH_BYTES..);
    Some(match kind {
        b'V' => Value::Void,
        b't' => Value::Bool(bytes != [0]),
        b'b' => Value::Int(i8::from_be_bytes(bytes.try_into().ok()?).into()),
        b'B' => Value::Unsigned(u8::from_be_bytes(bytes.try_into().ok()?).into()),
        b's' => Value::Int(i16::from_be_bytes(bytes.try_into().ok()?).into()),
        b'u' => Value::Unsigned(u16::from_be_bytes(bytes.try_into().ok()?).into()),
        b'I' => Value::Int(i32::from_be_bytes(bytes.try_into().ok()?).into()),
        b'i' => Value::Unsigned(u32::from_be_bytes(bytes.try_into().ok()?).into()),
        b'l' | b'L' => Value::Int(i64::from_be_bytes(bytes.try_into().ok()?)),
        b'f' => Value::Float(f32::from_be_bytes(bytes.try_into().ok()?).into()),
        b'd' => Value::Float(f64::from_be_bytes(bytes.try_into().ok()?)),
        b'T' => Value::Timestamp(u64::from_be_bytes(bytes.try_into().ok()?)),
        b'D' => Value::Decimal(*bytes.first()?, i32::from_be_bytes(bytes.get(1..)?.try_into().ok()?)),
        b'S' => Value::Text(behind_length()?),
        b'x' => Value::Bytes(behind_length()?),
        b'A' => Value::Array(behind_length()?),
        b'F' => Value::Table(behind_length()?),
        _ => return None,
    })
}

/// Splits an entry's name off.
fn split_name(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*length))
}

/// Walks the entries of a table, without the length before them. Ends at the first that cannot be read.
pub fn entries(mut table: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    std::iter::from_fn(move || {
        let (name, rest) = split_name(table)?;
        let (kind, bytes, rest) = split_value(rest)?;
        let raw = &table[..table.len() - rest.len()];
        table = rest;
        Some(Entry { name, value: read_value(kind, bytes)?, raw })
    })
}

/// Walks the values of an array. Ends at the first that cannot be read.
pub fn values(mut array: &[u8]) -> impl Iterator<Item = Value<'_>> {
    std::iter::from_fn(move || {
        let (kind, bytes, rest) = split_value(array)?;
        array = rest;
        read_value(kind, bytes)
    })
}

/// Returns whether a table, without the length before its entries, can be read to its last byte: every name is UTF-8, every
/// value has a known type, and no value is longer than what holds it.
pub(super) fn is_readable(table: &[u8]) -> bool {
    // Containers that are open: their unread bytes, and whether their values have names.
    let mut open = vec![(table, true)];
    while let Some((rest, named)) = open.pop() {
        if rest.is_empty() {
            continue;
        }
        let unnamed = match split_name(rest).filter(|_| named) {
            Some((name, unnamed)) if std::str::from_utf8(name).is_ok() => unnamed,
            None if !named => rest,
            _ => return false,
        };
        let Some((kind, bytes, rest)) = split_value(unnamed) else { return false };
        open.push((rest, named));
        match kind {
            b'A' | b'F' if open.len() >= MAX_DEPTH => return false,
            b'A' => open.push((&bytes[LENGTH_BYTES..], false)),
            b'F' => open.push((&bytes[LENGTH_BYTES..], true)),
            _ => {}
        }
        // A container that has been read to its end holds no place: deep nesting at the end of each level stays flat.
        if let [.., (outer, _), _] = open[..]
            && outer.is_empty()
        {
            let inner = open.pop();
            open.pop();
            open.extend(inner);
        }
    }
    true
}

/// Table that is being written: its entries, without the length before them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table(Vec<u8>);

impl Table {
    /// Appends a long string.
    pub fn text(&mut self, name: &str, text: &[u8]) {
        self.name(name);
        self.0.push(b'S');
        self.long(text);
    }

    /// Appends a whole number.
    pub fn int(&mut self, name: &str, number: i64) {
        self.name(name);
        self.0.push(b'l');
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    /// Appends a truth value.
    pub(super) fn bool(&mut self, name: &str, truth: bool) {
        self.name(name);
        self.0.extend_from_slice(&[b't', truth.into()]);
    }

    /// Appends a table.
    pub(super) fn table(&mut self, name: &str, table: &Table) {
        self.name(name);
        self.0.push(b'F');
        self.long(&table.0);
    }

    /// Appends a value as it stood in another table, its type before it, under another name.
    pub fn raw_value(&mut self, name: &str, value: &[u8]) {
        self.name(name);
        self.0.extend_from_slice(value);
    }

    /// Returns whether there is an entry of this name.
    #[must_use]
    pub fn contains(&self, name: &[u8]) -> bool {
        entries(&self.0).any(|entry| entry.name == name)
    }

    /// Appends an entry as it stood in another table.
    pub fn raw(&mut self, entry: &[u8]) {
        self.0.extend_from_slice(entry);
    }

    /// Appends all entries of another table, readable or not.
    pub(super) fn raw_entries(&mut self, entries: &[u8]) {
        self.0.extend_from_slice(entries);
    }

    /// Returns the size on the connection in bytes, the length before the entries included.
    #[must_use]
    pub fn size(&self) -> usize {
        LENGTH_BYTES + self.0.len()
    }

    /// Returns the entries with their length before them.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = u32::try_from(self.0.len()).unwrap_or(u32::MAX).to_be_bytes().to_vec();
        bytes.extend_from_slice(&self.0);
        bytes
    }

    /// A name is a short string: a longer one is cut, which none of this program's is.
    fn name(&mut self, name: &str) {
        let length = u8::try_from(name.len()).unwrap_or(u8::MAX);
        self.0.push(length);
        self.0.extend_from_slice(&name.as_bytes()[..length.into()]);
    }

    fn long(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
        self.0.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nested(kind: &[u8], levels: usize) -> Vec<u8> {
        // From the inside out: each level holds the one before.
        let mut inner = Vec::new();
        for _ in 0..levels {
            let mut outer = kind.to_vec();
            outer.extend_from_slice(&u32::try_from(inner.len()).unwrap().to_be_bytes());
            outer.extend_from_slice(&inner);
            inner = outer;
        }
        inner
    }

    #[test]
    fn entries_are_found_with_their_bytes() {
        let mut inner = Table::default();
        inner.bool("deep", true);
        let mut table = Table::default();
        table.text("a", b"\xff");
        table.int("b", -7);
        table.table("c", &inner);
        let bytes = table.to_bytes();
        let found: Vec<_> = entries(&bytes[LENGTH_BYTES..]).collect();
        assert_eq!(found.iter().map(|entry| entry.name).collect::<Vec<_>>(), [b"a", b"b", b"c"]);
        assert_eq!(found[0].value, Value::Text(b"\xff"));
        assert_eq!(found[1].value, Value::Int(-7));
        assert_eq!(found[2].value, Value::Table(&inner.0));
        assert_eq!(found.iter().map(|entry| entry.raw.len()).sum::<usize>() + LENGTH_BYTES, table.size());
        assert!(is_readable(&bytes[LENGTH_BYTES..]));
    }

    #[test]
    fn every_field_type_of_rabbitmq_is_read() {
        let samples: [(&[u8], Value<'_>); 16] = [
            (b"V", Value::Void),
            (b"t\x01", Value::Bool(true)),
            (b"b\xff", Value::Int(-1)),
            (b"B\xff", Value::Unsigned(255)),
            (b"s\xff\xff", Value::Int(-1)),
            (b"u\xff\xff", Value::Unsigned(65_535)),
            (b"I\xff\xff\xff\xff", Value::Int(-1)),
            (b"i\xff\xff\xff\xff", Value::Unsigned(4_294_967_295)),
            (b"l\0\0\0\0\0\0\0\x07", Value::Int(7)),
            (b"f\x3f\x80\0\0", Value::Float(1.0)),
            (b"d\x3f\xf0\0\0\0\0\0\0", Value::Float(1.0)),
            (b"T\0\0\0\0\0\0\0\x07", Value::Timestamp(7)),
            (b"D\x02\0\0\0\x07", Value::Decimal(2, 7)),
            (b"S\0\0\0\x01x", Value::Text(b"x")),
            (b"x\0\0\0\x01x", Value::Bytes(b"x")),
            (b"A\0\0\0\x01V", Value::Array(b"V")),
        ];
        for (bytes, value) in samples {
            assert_eq!(values(bytes).collect::<Vec<_>>(), [value], "{bytes:?}");
            let named = [b"\x01n", bytes].concat();
            assert!(is_readable(&named), "{bytes:?}");
            assert!(!is_readable(&named[..named.len() - 1]) || named.len() == 3, "{bytes:?}");
        }
        assert!(!is_readable(b"\x01nZ"), "no such type");
        assert!(!is_readable(b"\x01\xffV"), "a name that is not UTF-8");
    }

    #[test]
    fn nesting_is_read_without_recursion_and_bounded() {
        let header = |inner: &[u8]| [b"\x01n", inner].concat();
        assert!(is_readable(&header(&nested(b"A", 26_000))));
        assert!(is_readable(&header(&nested(b"\0F", 20_000)[1..])));
        let mut broken = header(&nested(b"A", 26_000));
        broken.extend_from_slice(b"\x01");
        assert!(!is_readable(&broken));
        // Levels with something behind them keep their place.
        let mut inner = Vec::new();
        for _ in 0..MAX_DEPTH + 10 {
            let mut outer = b"A".to_vec();
            outer.extend_from_slice(&u32::try_from(inner.len() + 1).unwrap().to_be_bytes());
            outer.extend_from_slice(&inner);
            outer.push(b'V');
            inner = outer;
        }
        assert!(!is_readable(&header(&inner)), "deeper than the bound");
    }

    proptest! {
        #[test]
        fn any_bytes_are_walked_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let walked: usize = entries(&bytes).map(|entry| entry.raw.len()).sum();
            prop_assert!(walked <= bytes.len());
            if is_readable(&bytes) {
                prop_assert_eq!(walked, bytes.len());
            }
            values(&bytes).for_each(drop);
        }
    }
}
