//! Refusals of a file, each with its fix.

use std::fmt;

use crate::counted::counted;
use crate::encoding::EncodingError;
use crate::file_kind::FileKind;

/// Characters of the file that an error quotes.
const QUOTED_CHARS: usize = 80;

/// Line numbers that a message lists.
const LISTED_LINES: usize = 5;

/// A file that is not read as a BOM. The text names the file and the reason; the fix is on a line of its own.
#[derive(Debug)]
pub struct BomError {
    name: String,
    problem: Problem,
}

impl BomError {
    pub(super) fn new(name: &str, problem: Problem) -> Self {
        BomError { name: name.to_owned(), problem }
    }
}

impl fmt::Display for BomError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fix = self.problem.fix();
        let hint = if fix.is_empty() { String::new() } else { format!("\nhint: {fix}") };
        match &self.problem {
            Problem::Unreadable(error) => write!(f, "cannot read {}: {error}{hint}", self.name),
            problem => write!(f, "{} {problem}{hint}", self.name),
        }
    }
}

impl std::error::Error for BomError {}

/// Reason, after the name of the file.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    #[error("{0}")]
    Unreadable(std::io::Error),
    #[error("is larger than 64 MiB")]
    TooLarge,
    #[error("is {}", .0.name())]
    OtherKind(FileKind),
    #[error(transparent)]
    Encoding(#[from] EncodingError),
    #[error("is empty")]
    Empty,
    /// Holds the first line of the file.
    #[error("has no header line: no line names columns such as MPN, Quantity or Designator; it begins with \"{}\"", quoted(.0))]
    NoHeader(String),
    /// Holds the names of all columns.
    #[error("has no column with manufacturer part numbers, only {}", names(.0))]
    NoPartNumbers(Vec<String>),
    /// Holds the names of the columns.
    #[error("has supplier numbers ({}) and no manufacturer part numbers", names(.0))]
    SupplierNumbers(Vec<String>),
    /// The column of part numbers holds the numbers of a supplier.
    #[error(
        "has supplier numbers in its column \"{column}\" (line {line}: {example}) and no manufacturer part numbers"
    )]
    SupplierValues { column: String, line: usize, example: String },
    /// Holds the lines of the rows, the cells of the first, and the columns.
    #[error("has {} with more cells than the header, on {}: the first has {cells} cells, the header {columns}", counted(.lines.len(), "row"), lines_text(.lines))]
    TooManyCells { lines: Vec<usize>, cells: usize, columns: usize, separator: char },
    #[error("has a quoted cell that is not closed: it begins in the row of line {0}")]
    OpenQuote(usize),
    #[error("has no line with a part number in its column \"{column}\" below line {line}{skipped}")]
    NoLines { column: String, line: usize, skipped: String },
}

impl Problem {
    fn fix(&self) -> String {
        const ADD_THEM: &str =
            "add a column MPN with the manufacturers' part numbers, and export the BOM again";
        match self {
            Problem::Unreadable(_) => String::new(),
            Problem::TooLarge => "a BOM is a table of text with one row for each part".into(),
            Problem::OtherKind(kind) => kind_fix(*kind).into(),
            Problem::Encoding(EncodingError::Uncertain { .. }) => {
                "choose the right one with --encoding, or save the file as UTF-8".into()
            }
            Problem::Encoding(EncodingError::OtherMark(..)) => "leave out --encoding".into(),
            Problem::Encoding(_) => "save it as CSV in UTF-8".into(),
            Problem::Empty => "export the BOM again".into(),
            Problem::NoHeader(_) => "add a first line such as: Designator,MPN,Manufacturer,Quantity".into(),
            Problem::NoPartNumbers(_) | Problem::SupplierNumbers(_) | Problem::SupplierValues { .. } => {
                ADD_THEM.into()
            }
            Problem::TooManyCells { separator, .. } => {
                format!("put cells that contain {} into double quotes", separator_name(*separator))
            }
            Problem::OpenQuote(_) => "close the quote, or double a quote that is part of the text".into(),
            Problem::NoLines { .. } => "fill in the part numbers, and export the BOM again".into(),
        }
    }
}

fn kind_fix(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Xlsx | FileKind::Xls | FileKind::Ods => {
            "save it as \"CSV UTF-8\" in the spreadsheet program, or convert it: libreoffice --headless --convert-to csv FILE"
        }
        FileKind::Zip => "unpack it, and name the file in it",
        FileKind::Compressed(_) => "decompress it, and name the file in it",
        FileKind::Html => "a download may be the page of a login; export the BOM as CSV",
        FileKind::Schematic => "export the BOM from the CAD program as CSV",
        FileKind::Pdf | FileKind::Rtf | FileKind::Image | FileKind::Xml | FileKind::Json => {
            "export the BOM as CSV"
        }
    }
}

fn quoted(text: &str) -> String {
    let quoted: String = text.chars().take(QUOTED_CHARS).collect();
    if quoted.len() < text.len() { format!("{quoted}…") } else { quoted }
}

fn names(columns: &[String]) -> String {
    columns.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
}

/// Returns "line 3" or "lines 3, 4 and 9 more".
pub(super) fn lines_text(lines: &[usize]) -> String {
    let listed = lines.iter().take(LISTED_LINES).map(usize::to_string).collect::<Vec<_>>().join(", ");
    match lines.len() {
        1 => format!("line {listed}"),
        all if all <= LISTED_LINES => format!("lines {listed}"),
        all => format!("lines {listed} and {} more", all - LISTED_LINES),
    }
}

/// Returns the name of a separator in a sentence.
pub(super) fn separator_name(separator: char) -> &'static str {
    match separator {
        ';' => "a semicolon",
        '\t' => "a tab",
        '|' => "a vertical bar",
        _ => "a comma",
    }
}
