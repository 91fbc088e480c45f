//! Properties and headers that the broker acts on when a message is published again.

use std::collections::HashSet;

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

/// Moves the reserved properties to headers in `table`, and makes the message persistent.
pub(super) fn move_reserved_properties(properties: &mut RawProperties, table: &mut Table) {
    for (property, header) in RESERVED_PROPERTIES {
        if let Some(text) = properties.text(property) {
            table.text(header, text.as_bytes());
            properties.remove(property);
        }
    }
    properties.set_persistent();
}

/// Appends the message's own headers to `table` while it stays within `max_bytes`, the reserved ones under their other names.
/// Returns the number of headers that did not fit.
///
/// A header whose name `table` has already, a second header of the same name, and one that `is_replaced` names do not count.
pub(super) fn keep_headers(
    table: &mut Table,
    original: &RawProperties,
    max_bytes: usize,
    is_replaced: impl Fn(&str) -> bool,
) -> i64 {
    // A frame has room for tens of thousands of headers: each name is compared with the few new ones, and looked up in a set.
    let new = table.clone();
    let mut seen = HashSet::new();
    let mut left_out = 0;
    for entry in original.headers() {
        let reserved = RESERVED_HEADERS.iter().find(|(reserved, _)| reserved.as_bytes() == entry.name);
        let name = reserved.map_or(entry.name, |(_, name)| name.as_bytes());
        if !seen.insert(name) || new.contains(name) || is_replaced(&String::from_utf8_lossy(name)) {
            continue;
        }
        let bytes = entry.raw.len() - entry.name.len() + name.len();
        if table.size() + bytes <= max_bytes {
            match reserved {
                Some((_, name)) => table.raw_value(name, entry.raw_value()),
                None => table.raw(entry.raw),
            }
        } else {
            left_out += 1;
        }
    }
    left_out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_headers(table: &Table) -> RawProperties {
        let mut properties = RawProperties::default();
        properties.set_headers(table);
        properties
    }

    fn names(table: &Table) -> Vec<String> {
        let properties = with_headers(table);
        properties.headers().map(|entry| String::from_utf8_lossy(entry.name).into_owned()).collect()
    }

    #[test]
    fn reserved_headers_move_to_other_names() {
        let mut original = Table::default();
        original.text("CC", b"other.key");
        original.text("mine", b"kept");
        let mut properties = with_headers(&original).with_text(Property::ReplyTo, "amq.rabbitmq.reply-to");
        let before = properties.clone();
        let mut table = Table::default();
        move_reserved_properties(&mut properties, &mut table);
        assert_eq!(keep_headers(&mut table, &before, usize::MAX, |_| false), 0);
        assert_eq!(names(&table), [headers::REPLY_TO, headers::CC, "mine"]);
        assert_eq!(properties.text(Property::ReplyTo), None);
        assert_eq!(properties.number(Property::DeliveryMode), Some(2));
    }

    #[test]
    fn reserved_headers_that_do_not_fit_are_left_out() {
        let mut original = Table::default();
        original.text("CC", &[b'x'; 200]);
        let mut table = Table::default();
        assert_eq!(keep_headers(&mut table, &with_headers(&original), 200, |_| false), 1);
        assert_eq!(names(&table), [""; 0]);
    }

    #[test]
    fn each_header_is_kept_once() {
        let mut original = Table::default();
        for name in ["new", "twice", "twice", "replaced", "mine"] {
            original.text(name, b"original");
        }
        let mut table = Table::default();
        table.text("new", b"value");
        assert_eq!(
            keep_headers(&mut table, &with_headers(&original), usize::MAX, |name| name == "replaced"),
            0
        );
        assert_eq!(names(&table), ["new", "twice", "mine"]);
    }

    /// A frame full of the smallest headers takes no longer than the frame that it is: every lane waits for it.
    #[test]
    fn many_headers_are_kept_in_linear_time() {
        let mut original = Table::default();
        for number in 0..30_000_u32 {
            original.raw(&[&[3][..], &number.to_be_bytes()[1..], b"V"].concat());
        }
        let started = std::time::Instant::now();
        let left_out = keep_headers(&mut Table::default(), &with_headers(&original), 1000, |_| false);
        assert_eq!(left_out, 30_000 - (1000 - 4) / 5);
        let mut table = Table::default();
        assert_eq!(keep_headers(&mut table, &with_headers(&original), usize::MAX, |_| false), 0);
        assert_eq!(table.size(), 4 + 30_000 * 5);
        assert!(started.elapsed() < std::time::Duration::from_secs(5), "{:?}", started.elapsed());
    }
}
