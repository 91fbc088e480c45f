//! The line that names the columns.

use super::names;
use super::table::Row;

/// Quality of a header line, and the number of columns whose names are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank(pub(super) Quality, usize);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Quality {
    /// One name that may mean part numbers, as in `Part Number,PCB-100` above the table.
    Perhaps,
    /// Known names, without part numbers.
    WithoutPartNumbers,
    /// A name that may mean part numbers beside other known names.
    PartNumbers,
    /// A name of manufacturer part numbers.
    ManufacturerPartNumbers,
}

/// A column of part numbers, and the manufacturer's that belongs to it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct PartNumberColumn {
    pub(super) part_number: usize,
    pub(super) manufacturer: Option<usize>,
}

/// The line that names the columns.
#[derive(Debug)]
pub(super) struct Header {
    pub(super) line: usize,
    pub(super) cells: Vec<String>,
    /// Columns of part numbers: `MPN 1` before `MPN 2`.
    pub(super) part_numbers: Vec<PartNumberColumn>,
    /// Names of the columns with supplier numbers.
    pub(super) supplier_numbers: Vec<String>,
    /// Columns that say that a part is left out.
    pub(super) left_out: Vec<usize>,
    /// Columns that say whether a part is placed.
    pub(super) placed: Vec<usize>,
    rank: Rank,
}

impl Header {
    /// Returns the header that a row is, if it names known columns.
    pub(super) fn of_row(row: Row) -> Option<Header> {
        let names: Vec<(String, String)> =
            row.cells.iter().map(|cell| names::numbered(&names::normalized(cell))).collect();
        let columns = |known: &dyn Fn(&str) -> bool| -> Vec<usize> {
            (0..names.len()).filter(|column| known(&names[*column].0)).collect()
        };
        let manufacturers = columns(&names::is_manufacturer);
        let sure = columns(&names::is_part_number);
        let perhaps = columns(&|name| names::PERHAPS_PART_NUMBERS.contains(&name));
        let supplier_numbers = columns(&names::is_supplier_number);
        let others = columns(&|name| {
            names::OTHERS.contains(&name) || names::LEFT_OUT.contains(&name) || names::PLACED.contains(&name)
        });
        let beside = manufacturers.len() + supplier_numbers.len() + others.len();
        let (quality, found) = match (sure.is_empty(), perhaps.is_empty()) {
            (false, _) => (Quality::ManufacturerPartNumbers, sure),
            (true, false) if beside > 0 || names.len() == 1 => (Quality::PartNumbers, perhaps),
            (true, false) => (Quality::Perhaps, perhaps),
            (true, true) if beside > 1 => (Quality::WithoutPartNumbers, Vec::new()),
            (true, true) => return None,
        };
        let part_numbers = found
            .iter()
            .map(|part_number| {
                let same = manufacturers.iter().find(|column| names[**column].1 == names[*part_number].1);
                PartNumberColumn {
                    part_number: *part_number,
                    manufacturer: same.or(manufacturers.first()).copied(),
                }
            })
            .collect();
        Some(Header {
            line: row.line,
            part_numbers,
            supplier_numbers: supplier_numbers.iter().map(|column| row.cells[*column].clone()).collect(),
            left_out: columns(&|name| names::LEFT_OUT.contains(&name)),
            placed: columns(&|name| names::PLACED.contains(&name)),
            rank: Rank(quality, beside + found.len()),
            cells: row.cells,
        })
    }

    pub(super) fn rank(&self) -> Rank {
        self.rank
    }

    pub(super) fn name(&self, column: usize) -> String {
        self.cells.get(column).cloned().unwrap_or_default()
    }

    /// Returns the names of all columns that have one.
    pub(super) fn names(&self) -> Vec<String> {
        self.cells.iter().filter(|name| !name.is_empty()).cloned().collect()
    }
}
