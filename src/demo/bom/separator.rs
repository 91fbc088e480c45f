//! The separator of the cells, and the header line: the first line that names a column of part numbers.

use super::header::{Header, Rank};
use super::table::Table;

/// Separators that are tried.
const SEPARATORS: [u8; 4] = [b',', b';', b'\t', b'|'];

/// Rows in which the header is looked for.
const HEADER_ROWS: usize = 100;

/// Returns the table and its header, with the separator that makes the best header; `None` where no line names columns.
pub(super) fn find(text: &str) -> Option<(Table<'_>, Header)> {
    let (asked, text, lines_before) = match separator_line(text) {
        Some((separator, rest)) => (Some(separator), rest, 1),
        None => (None, text, 0),
    };
    let candidates = match &asked {
        Some(separator) => std::slice::from_ref(separator),
        None => &SEPARATORS[..],
    };
    let mut best: Option<(Rank, Table<'_>, Header)> = None;
    for separator in candidates {
        let table = Table { text, separator: *separator, lines_before };
        let headers = table.rows().take(HEADER_ROWS).filter_map(Header::of_row);
        // The first of the best rank.
        let header = headers.reduce(|best, next| if next.rank().0 > best.rank().0 { next } else { best });
        if let Some(header) = header
            && best.as_ref().is_none_or(|(rank, ..)| header.rank() > *rank)
        {
            best = Some((header.rank(), table, header));
        }
    }
    best.map(|(_, table, header)| (table, header))
}

/// Returns the separator of a first line such as `sep=;`, which Excel reads, and the text after it.
fn separator_line(text: &str) -> Option<(u8, &str)> {
    let (first, rest) = text.split_once('\n')?;
    let first = first.trim_matches('"');
    let (name, value) = first.split_once('=')?;
    let value = value.trim_end_matches([' ', '"']);
    let value = if value == "\\t" { "\t" } else { value };
    match value.as_bytes() {
        [separator] if name.eq_ignore_ascii_case("sep") => Some((*separator, rest)),
        _ => None,
    }
}
