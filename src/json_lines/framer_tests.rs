//! Streams in the forms that programs write, cut anywhere.

use proptest::prelude::*;

use super::*;

/// Reads a stream in pieces of this size; returns the items as `line: text`.
fn items(stream: &[u8], piece: usize, max_bytes: usize) -> Vec<String> {
    let mut framer = Framer::new(max_bytes);
    let mut found = Vec::new();
    for mut piece in stream.chunks(piece) {
        while !piece.is_empty() {
            let (used, item) = framer.read(piece);
            piece = &piece[used..];
            found.extend(item);
        }
    }
    found.extend(std::iter::from_fn(|| framer.finish()));
    let text = |item: Item| match item.content {
        Content::Value(bytes) => format!("{}: {}", item.line, String::from_utf8_lossy(&bytes)),
        other => format!("{}: {other:?}", item.line),
    };
    found.into_iter().map(text).collect()
}

fn check(stream: &str, expected: &[&str]) {
    for piece in [1, 2, 3, 7, 4096] {
        assert_eq!(items(stream.as_bytes(), piece, 1000), expected, "{stream:?} in pieces of {piece}");
    }
}

#[test]
fn values_are_found_in_every_form() {
    check("{\"a\":1}\n{\"b\":2}\n", &["1: {\"a\":1}", "2: {\"b\":2}"]);
    check("\u{feff}{\"a\":1}\r\n\r\n  {\"b\":2}", &["1: {\"a\":1}", "3: {\"b\":2}"]);
    check("{\"a\":1}{\"b\":2} {\"c\":3}", &["1: {\"a\":1}", "1: {\"b\":2}", "1: {\"c\":3}"]);
    check("\u{1e}{\"a\":1}\n\u{1e}{\"b\":2}\n", &["1: {\"a\":1}", "2: {\"b\":2}"]);
    check("[{\"a\":1},{\"b\":2}]", &["1: {\"a\":1}", "1: {\"b\":2}"]);
    check("[\n  {\"a\": 1},\n  {\"b\": 2}\n]\n", &["2: {\"a\": 1}", "3: {\"b\": 2}"]);
    check("[{\"a\":1}]\n[{\"b\":2}]\n[]\n", &["1: {\"a\":1}", "2: {\"b\":2}"]);
    check("{\"a\":1},\n{\"b\":2}\n", &["1: {\"a\":1}", "2: {\"b\":2}"]);
    check("{\"a\":1}\n\u{feff}{\"b\":2}\n", &["1: {\"a\":1}", "2: {\"b\":2}"]);
    check(
        "{\n  \"a\": \"}\\\"{\",\n  \"b\": [\n    {},\n    {\n    }\n  ]\n}\n{}",
        &["1: {\n  \"a\": \"}\\\"{\",\n  \"b\": [\n    {},\n    {\n    }\n  ]\n}", "9: {}"],
    );
    // Python's indent=0.
    check(
        "{\n\"a\": [\n{\n\"b\": 1\n},\n{\n\"c\": 2\n}\n],\n\"d\":\n{\n}\n}\n",
        &["1: {\n\"a\": [\n{\n\"b\": 1\n},\n{\n\"c\": 2\n}\n],\n\"d\":\n{\n}\n}"],
    );
}

#[test]
fn a_broken_value_ends_where_the_next_begins() {
    check("not json\n{\"a\":1}\n", &["1: not json", "2: {\"a\":1}"]);
    check("{\"a\":\n{\"b\":2}\n", &["1: {\"a\":", "2: {\"b\":2}"]);
    check("{\"a\":1,\n{\"b\":2}\n", &["1: {\"a\":1,", "2: {\"b\":2}"]);
    check("{\"a\":\"x\n{\"b\":2}\n", &["1: {\"a\":\"x", "2: {\"b\":2}"]);
    check("{\"a\":\"x\\\n{\"b\":2}\n", &["1: {\"a\":\"x\\", "2: {\"b\":2}"]);
    check("{\"a\":1\n{\"b\":2}\n{\"c\":3}", &["1: {\"a\":1", "2: {\"b\":2}", "3: {\"c\":3}"]);
    check("{\n  \"a\": 1\n{\"b\":2}\n", &["1: {\n  \"a\": 1", "3: {\"b\":2}"]);
    check("{\n  \"a\": 1,\n{\"b\":2}\n", &["1: {\n  \"a\": 1,", "3: {\"b\":2}"]);
    check("\u{1e}{\"a\":\u{1e}{\"b\":2}\n", &["1: {\"a\":", "1: {\"b\":2}"]);
    check("{\"a\":1]\n{\"b\":2}", &["1: {\"a\":1]", "2: {\"b\":2}"]);
    check("{\"a\":1} x\n]\n", &["1: {\"a\":1}", "1: x", "2: ]"]);
    check("[1, {\"a\":1}, null]\n\"x\"\n", &["1: 1", "1: {\"a\":1}", "1: null", "2: \"x\""]);
    check("[{\"a\":1},", &["1: {\"a\":1}", "1: OpenArray"]);
    check("[\n{\"a\":", &["2: {\"a\":", "1: OpenArray"]);
}

#[test]
fn a_value_over_the_limit_is_reported_once_and_skipped() {
    let long = "x".repeat(5000);
    check(&format!("{{\"a\":\"{long}\"}}\n{{\"b\":2}}\n"), &["1: TooLarge", "2: {\"b\":2}"]);
    check(&format!("{long}\n{{\"b\":2}}\n"), &["1: TooLarge", "2: {\"b\":2}"]);
    check(&long, &["1: TooLarge"]);
    check(&format!("[{{\"a\":\"{long}\"}},{{\"b\":2}}]"), &["1: TooLarge", "1: {\"b\":2}"]);
}

/// The memory of a framer is that of one value of the limit, whatever comes.
#[test]
fn a_line_without_an_end_is_bounded_in_memory() {
    for byte in [b'x', b' ', b'{', b'[', b'"'] {
        let mut framer = Framer::new(1000);
        for _ in 0..1000 {
            let piece = [byte; 1000];
            let mut used = 0;
            while used < piece.len() {
                used += framer.read(&piece[used..]).0;
            }
            assert!(framer.body.capacity() + framer.closers.capacity() < 5000, "{}", char::from(byte));
        }
    }
}

proptest! {
    /// Any bytes end, in any pieces, with the same items; and whole lines of JSON are always found.
    #[test]
    fn items_do_not_depend_on_the_pieces(bytes in proptest::collection::vec(prop_oneof![
        Just(b'{'), Just(b'}'), Just(b'['), Just(b']'), Just(b'"'), Just(b'\\'), Just(b'\n'), Just(b','), Just(b'a'), Just(0x1e),
    ], 0..60), piece in 1_usize..9) {
        prop_assert_eq!(items(&bytes, piece, 20), items(&bytes, 4096, 20));
    }
}
