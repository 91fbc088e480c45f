//! The rows below the header: lines of the BOM, and rows that are skipped with a reason.

use std::collections::BTreeMap;

use serde::Serialize;

use super::header::Header;
use super::names::normalized;
use super::problem::{Problem, lines_text};
use super::table::{Row, Table};
use crate::counted::counted;

/// Words of a cell that say that the part is left out, normalized.
const LEFT_OUT: [&str; 14] = [
    "dnp",
    "dnf",
    "dni",
    "dns",
    "donotpopulate",
    "donotplace",
    "donotfit",
    "donotinstall",
    "donotmount",
    "notfitted",
    "nofit",
    "nopop",
    "nostuff",
    "notpopulated",
];

/// Words for no, normalized.
const NO: [&str; 6] = ["0", "no", "n", "false", "nein", "non"];

/// Words of a column for parts that are left out which say that this one is not.
const NOT_LEFT_OUT: [&str; 9] = ["", "0", "no", "n", "false", "nein", "non", "fitted", "populated"];

/// Words that stand for a part number that is not known, normalized.
const PLACEHOLDERS: [&str; 11] =
    ["na", "none", "null", "nan", "tbd", "tba", "unknown", "various", "any", "notapplicable", "无"];

/// First words of the row of totals, normalized.
const TOTALS: [&str; 10] =
    ["total", "totals", "subtotal", "grandtotal", "sum", "summe", "gesamt", "totale", "合计", "总计"];

/// One line of a BOM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Manufacturer part number.
    pub mpn: String,
    /// Manufacturer.
    pub manufacturer: Option<String>,
}

/// Reason why a row is not a line of the BOM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// The row has no part number.
    NoPartNumber,
    /// The part is not to be populated.
    NotPopulated,
    /// The row holds a total.
    Total,
    /// The header is repeated.
    RepeatedHeader,
    /// The row is empty.
    Blank,
}

impl SkipReason {
    /// Returns the words for the rows.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            SkipReason::NoPartNumber => "no part number",
            SkipReason::NotPopulated => "not populated",
            SkipReason::Total => "a total",
            SkipReason::RepeatedHeader => "the header again",
            SkipReason::Blank => "blank",
        }
    }
}

/// A row that is not a line of the BOM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SkippedRow {
    /// Line of the file.
    pub line: usize,
    /// Reason.
    pub reason: SkipReason,
}

/// Contents of a table.
pub(super) struct Rows {
    pub(super) lines: Vec<Line>,
    pub(super) skipped: Vec<SkippedRow>,
    pub(super) warnings: Vec<String>,
}

/// Reads the rows below the header.
pub(super) fn read(table: &Table<'_>, header: &Header) -> Result<Rows, Problem> {
    if let Some(line) = table.open_quote() {
        return Err(Problem::OpenQuote(line));
    }
    let columns = header.cells.len();
    let mut found = Vec::new();
    let (mut skipped, mut long, mut short) = (Vec::new(), Vec::new(), Vec::new());
    for row in table.rows().skip_while(|row| row.line <= header.line) {
        let cells = row.cells.iter().rposition(|cell| !cell.is_empty()).map_or(0, |last| last + 1);
        if cells > columns {
            long.push((row.line, cells));
        }
        match part_number(&row, header) {
            Ok((mpn, manufacturer)) => {
                if row.cells.len() < columns {
                    short.push(row.line);
                }
                found.push((row.line, Line { mpn, manufacturer }));
            }
            Err(reason) => skipped.push(SkippedRow { line: row.line, reason }),
        }
    }
    if let [(_, cells), ..] = long[..] {
        let lines = long.iter().map(|(line, _)| *line).collect();
        let separator = char::from(table.separator);
        return Err(Problem::TooManyCells { lines, cells, columns, separator });
    }
    let column = header.name(header.part_numbers[0].part_number);
    if found.is_empty() {
        let skipped = summary(&skipped).iter().map(|text| format!("; skipped: {text}")).collect();
        return Err(Problem::NoLines { column, line: header.line, skipped });
    }
    if found.iter().all(|(_, line)| is_supplier_number(&line.mpn)) {
        let (line, Line { mpn, .. }) = &found[0];
        return Err(Problem::SupplierValues { column, line: *line, example: mpn.clone() });
    }
    let warnings = warnings(&found, &short);
    Ok(Rows { lines: found.into_iter().map(|(_, line)| line).collect(), skipped, warnings })
}

/// Returns the part number and the manufacturer of a row.
fn part_number(row: &Row, header: &Header) -> Result<(String, Option<String>), SkipReason> {
    let cell = |column: usize| row.cells.get(column).map_or("", String::as_str);
    let Some(first) = row.cells.iter().position(|cell| !cell.is_empty()) else {
        return Err(SkipReason::Blank);
    };
    if row.cells == header.cells {
        return Err(SkipReason::RepeatedHeader);
    }
    let chosen = header.part_numbers.iter().find(|column| is_part_number(cell(column.part_number)));
    let is_first = chosen.is_none_or(|column| column.part_number == first);
    if is_first && TOTALS.contains(&normalized(cell(first)).as_str()) {
        return Err(SkipReason::Total);
    }
    let is = |text: &str, words: &[&str]| words.contains(&normalized(text).as_str());
    if row.cells.iter().any(|cell| is(cell, &LEFT_OUT))
        || header.left_out.iter().any(|column| !is(cell(*column), &NOT_LEFT_OUT))
        || header.placed.iter().any(|column| is(cell(*column), &NO))
    {
        return Err(SkipReason::NotPopulated);
    }
    let Some(chosen) = chosen else { return Err(SkipReason::NoPartNumber) };
    let manufacturer = chosen.manufacturer.map(cell).filter(|maker| !maker.is_empty()).map(str::to_owned);
    Ok((cell(chosen.part_number).to_owned(), manufacturer))
}

/// Returns whether a cell holds a part number, and not what stands for none.
fn is_part_number(cell: &str) -> bool {
    let plain = normalized(cell);
    !plain.is_empty() && !PLACEHOLDERS.contains(&plain.as_str()) && !LEFT_OUT.contains(&plain.as_str())
}

/// Returns whether a part number is one of LCSC's (C25804) or Digi-Key's (296-1395-5-ND).
fn is_supplier_number(mpn: &str) -> bool {
    let is_of_lcsc = mpn.strip_prefix('C').is_some_and(|rest| {
        (3..=9).contains(&rest.len()) && rest.bytes().all(|digit| digit.is_ascii_digit())
    });
    is_of_lcsc || mpn.ends_with("-ND")
}

fn warnings(found: &[(usize, Line)], short: &[usize]) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut warn = |at: Vec<usize>, text: &str| {
        if !at.is_empty() {
            warnings.push(format!("{} {text}", lines_text(&at)));
        }
    };
    let with = |is: fn(&str) -> bool| -> Vec<usize> {
        let is = |line: &Line| is(&line.mpn) || line.manufacturer.as_deref().is_some_and(is);
        found.iter().filter(|(_, line)| is(line)).map(|(line, _)| *line).collect()
    };
    warn(short.to_vec(), "with fewer cells than the header: the missing ones count as empty");
    warn(
        with(|text| text.contains(char::REPLACEMENT_CHARACTER)),
        "with U+FFFD: another program has lost a character there",
    );
    warn(
        with(is_rounded),
        "with a part number such as 7.43E+07: a spreadsheet has rounded it, format the column as text",
    );
    warnings
}

/// Returns whether a text is a number in scientific notation.
fn is_rounded(text: &str) -> bool {
    let Some((mantissa, exponent)) = text.split_once("E+") else { return false };
    let is_number = |text: &str| {
        !text.is_empty() && text.chars().all(|sign| sign.is_ascii_digit() || ".,".contains(sign))
    };
    is_number(mantissa) && is_number(exponent) && mantissa.contains(['.', ','])
}

/// Returns the numbers of skipped rows by reason, with their lines, one text each.
pub(super) fn summary(skipped: &[SkippedRow]) -> Vec<String> {
    let mut by_reason: BTreeMap<SkipReason, Vec<usize>> = BTreeMap::new();
    for row in skipped {
        by_reason.entry(row.reason).or_default().push(row.line);
    }
    let text = |(reason, at): (SkipReason, Vec<usize>)| {
        format!("{}, {} ({})", counted(at.len(), "row"), reason.text(), lines_text(&at))
    };
    by_reason.into_iter().map(text).collect()
}
