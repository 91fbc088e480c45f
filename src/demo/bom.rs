//! A bill of materials from a CSV file.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

/// Built-in BOM of a real board.
const SAMPLE: &str = include_str!("bom.csv");

/// Names of the columns, without case, blanks and punctuation. The first name that is found is used.
const PART_NUMBER: [&str; 15] = [
    "mpn",
    "manufacturerpartnumber",
    "manufacturerpartno",
    "manufacturerpart",
    "mfrpartnumber",
    "mfrpartno",
    "mfrpart",
    "mfgpartnumber",
    "mfgpartno",
    "mfgpart",
    "manufacturerpn",
    "mfrpn",
    "partnumber",
    "partno",
    "pn",
];
const MANUFACTURER: [&str; 8] =
    ["manufacturer", "manufacturername", "mfr", "mfrname", "mfg", "mfgname", "maker", "brand"];

/// One line of a BOM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Manufacturer part number.
    pub mpn: String,
    /// Manufacturer.
    pub manufacturer: Option<String>,
}

/// A BOM and the name of its file.
#[derive(Debug)]
pub struct Bom {
    /// Name of the file.
    pub name: String,
    /// Lines with a part number.
    pub lines: Vec<Line>,
    /// Lines of the file without a part number (headings, fiducials, blank lines).
    pub skipped: usize,
}

impl Bom {
    /// Returns the built-in BOM.
    ///
    /// # Errors
    /// None: it is tested.
    pub fn sample() -> anyhow::Result<Self> {
        parse("the built-in sample board", SAMPLE.as_bytes())
    }

    /// Reads a CSV file.
    ///
    /// # Errors
    /// It cannot be read, or has no column or no line with part numbers.
    pub fn open(path: &PathBuf) -> anyhow::Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let name = Path::new(path).file_name().unwrap_or_default().to_string_lossy().into_owned();
        parse(&name, &bytes)
    }
}

fn parse(name: &str, bytes: &[u8]) -> anyhow::Result<Bom> {
    // Excel writes Windows-1252, or UTF-8 with a byte order mark. Part numbers are ASCII in both.
    let text = String::from_utf8_lossy(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes));
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter(&text))
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let header = reader.headers().with_context(|| format!("{name} is not a CSV file"))?.clone();
    let find = |names: &[&str]| {
        names.iter().find_map(|wanted| header.iter().position(|found| normalized(found) == *wanted))
    };
    let Some(part_number) = find(&PART_NUMBER) else {
        bail!(
            "{name} has no column with part numbers, only {}\nhint: name the column MPN, Manufacturer Part Number or Part Number",
            header.iter().map(|found| format!("\"{found}\"")).collect::<Vec<_>>().join(", ")
        );
    };
    let manufacturer = find(&MANUFACTURER);
    let mut bom = Bom { name: name.to_owned(), lines: Vec::new(), skipped: 0 };
    for record in reader.records() {
        let record = record.with_context(|| format!("{name} cannot be read"))?;
        match record.get(part_number).filter(|mpn| !mpn.is_empty()) {
            Some(mpn) => bom.lines.push(Line {
                mpn: mpn.to_owned(),
                manufacturer: manufacturer
                    .and_then(|column| record.get(column))
                    .filter(|maker| !maker.is_empty())
                    .map(str::to_owned),
            }),
            None => bom.skipped += 1,
        }
    }
    if bom.lines.is_empty() {
        bail!("{name} has no line with a part number in its column \"{}\"", &header[part_number]);
    }
    Ok(bom)
}

/// Returns the delimiter that occurs most often in the header line.
fn delimiter(text: &str) -> u8 {
    let header = text.lines().next().unwrap_or_default();
    let count = |delimiter: u8| header.bytes().filter(|byte| *byte == delimiter).count();
    [b',', b';', b'\t', b'|'].into_iter().rev().max_by_key(|delimiter| count(*delimiter)).unwrap_or(b',')
}

fn normalized(column: &str) -> String {
    column.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_is_a_real_board() {
        let bom = Bom::sample().unwrap();
        assert!(bom.lines.len() >= 60);
        assert!(bom.lines.iter().all(|line| line.manufacturer.is_some()));
    }

    #[test]
    fn columns_are_found_by_their_usual_names() {
        for text in [
            "MPN,Manufacturer\nLM358,TI\n",
            "Ref;Mfr. Part #;Mfr\nR1;LM358;TI\n",
            "\u{feff}\"Part Number\"\tBrand\r\nLM358\tTI\r\n",
            "Qty,MFG_PART_NUMBER,MFG_NAME\n1,\"LM358\",TI\n",
        ] {
            let bom = parse("x.csv", text.as_bytes()).unwrap();
            assert_eq!(bom.lines, [Line { mpn: "LM358".into(), manufacturer: Some("TI".into()) }], "{text}");
        }
    }

    #[test]
    fn an_error_lists_the_columns_of_the_file() {
        let error = parse("x.csv", b"Value,Footprint\n10k,0603\n").unwrap_err().to_string();
        assert!(error.contains("\"Value\", \"Footprint\""), "{error}");
        let error = parse("x.csv", b"MPN\n\n").unwrap_err().to_string();
        assert!(error.contains("no line with a part number"), "{error}");
    }
}
