//! A bill of materials from a table of text, as CAD programs, spreadsheets and distributors export it.

mod header;
mod names;
mod problem;
mod rows;
mod separator;
mod table;

use std::io::Read as _;
use std::path::Path;

use encoding_rs::Encoding;
use serde::{Serialize, Serializer};

use header::Header;
pub use problem::BomError;
use problem::Problem;
pub use rows::{Line, SkipReason, SkippedRow};
use table::Table;

use crate::counted::counted;
use crate::encoding::{self, Decoded};
use crate::file_kind::FileKind;
use crate::input;

/// Built-in BOM of a real board.
const SAMPLE: &str = include_str!("sample.csv");

/// Maximum size of a file: a BOM has thousands of lines, not millions.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// A BOM, and how it was read. As JSON it has the number of its lines.
#[derive(Debug, Serialize)]
pub struct Bom {
    /// Name of the file.
    pub name: String,
    /// Lines with a part number.
    #[serde(serialize_with = "count")]
    pub lines: Vec<Line>,
    /// Encoding of the file.
    pub encoding: &'static str,
    /// Separator of its cells.
    pub separator: char,
    /// Line of the file that names the columns.
    pub header_line: usize,
    /// Names of the columns that the part number is read from: the first that is not empty.
    pub part_number_columns: Vec<String>,
    /// Name of the column that the manufacturer is read from.
    pub manufacturer_column: Option<String>,
    /// Rows of the file that are not lines of the BOM.
    pub skipped: Vec<SkippedRow>,
    /// Doubts about the file, one text each.
    pub warnings: Vec<String>,
}

impl Bom {
    /// Returns the built-in BOM.
    ///
    /// # Errors
    /// None: it is tested.
    pub fn sample() -> Result<Self, BomError> {
        parse("the built-in sample board", SAMPLE.as_bytes(), None)
    }

    /// Reads a file, or stdin for `-`, in the encoding that was asked for or the one that is found.
    ///
    /// # Errors
    /// It cannot be read, is not a table of text, or has no line with a part number.
    pub fn open(path: &Path, encoding: Option<&'static Encoding>) -> Result<Self, BomError> {
        let name = match path.file_name() {
            _ if input::is_standard(path) => "stdin".into(),
            Some(name) => name.to_string_lossy(),
            None => path.to_string_lossy(),
        };
        let mut bytes = Vec::new();
        let read =
            input::open(path).and_then(|source| source.reader.take(MAX_BYTES + 1).read_to_end(&mut bytes));
        read.map_err(|error| BomError::new(&path.to_string_lossy(), Problem::Unreadable(error)))?;
        parse(&name, &bytes, encoding)
    }
}

impl Bom {
    /// Returns how the file was read, in a line.
    #[must_use]
    pub fn how_read(&self) -> String {
        let lines = counted(self.lines.len(), "line");
        let columns =
            |names: &[String]| names.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ");
        let part_numbers = columns(&self.part_number_columns);
        let manufacturer = match &self.manufacturer_column {
            Some(name) => format!(", manufacturers in \"{name}\""),
            None => String::new(),
        };
        let (encoding, header) = (self.encoding, self.header_line);
        format!("{lines}; {encoding}, header on line {header}, part numbers in {part_numbers}{manufacturer}")
    }

    /// Returns the numbers and lines of the skipped rows, one text for each reason.
    #[must_use]
    pub fn skipped_texts(&self) -> Vec<String> {
        rows::summary(&self.skipped)
    }
}

fn count<S: Serializer>(lines: &[Line], serializer: S) -> Result<S::Ok, S::Error> {
    lines.len().serialize(serializer)
}

fn parse(name: &str, bytes: &[u8], encoding: Option<&'static Encoding>) -> Result<Bom, BomError> {
    read(name, bytes, encoding).map_err(|problem| BomError::new(name, problem))
}

fn read(name: &str, bytes: &[u8], encoding: Option<&'static Encoding>) -> Result<Bom, Problem> {
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Problem::TooLarge);
    }
    if let Some(kind) = FileKind::of_bytes(bytes) {
        return Err(Problem::OtherKind(kind));
    }
    let Decoded { text, encoding } = encoding::decode(bytes, encoding)?;
    // A line ends in LF, CRLF, or CR alone, as on the old Macintosh.
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    if text.trim().is_empty() {
        return Err(Problem::Empty);
    }
    if let Some(kind) = FileKind::of_text(&text) {
        return Err(Problem::OtherKind(kind));
    }
    let (table, header) = separator::find(&text).ok_or_else(|| Problem::NoHeader(first_line(&text)))?;
    read_rows(name, &table, &header).map(|bom| Bom { encoding: encoding.name(), ..bom })
}

fn read_rows(name: &str, table: &Table<'_>, header: &Header) -> Result<Bom, Problem> {
    if header.part_numbers.is_empty() {
        return Err(match &header.supplier_numbers[..] {
            [] => Problem::NoPartNumbers(header.names()),
            columns => Problem::SupplierNumbers(columns.to_vec()),
        });
    }
    let rows = rows::read(table, header)?;
    Ok(Bom {
        name: name.to_owned(),
        lines: rows.lines,
        encoding: "",
        separator: char::from(table.separator),
        header_line: header.line,
        part_number_columns: header.part_numbers.iter().map(|at| header.name(at.part_number)).collect(),
        manufacturer_column: header
            .part_numbers
            .iter()
            .find_map(|at| at.manufacturer)
            .map(|at| header.name(at)),
        skipped: rows.skipped,
        warnings: rows.warnings,
    })
}

/// Returns the first line that is not blank.
fn first_line(text: &str) -> String {
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().to_owned()
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
