//! A text as rows of cells, each with its line.

/// A text as rows of cells.
pub(super) struct Table<'t> {
    pub(super) text: &'t str,
    pub(super) separator: u8,
    /// Lines before `text`.
    pub(super) lines_before: usize,
}

/// One row.
pub(super) struct Row {
    /// Line of the file on which it begins, from 1.
    pub(super) line: usize,
    pub(super) cells: Vec<String>,
}

impl Table<'_> {
    /// Returns the rows. Blank lines are rows with one empty cell.
    pub(super) fn rows(&self) -> impl Iterator<Item = Row> {
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(self.separator)
            .flexible(true)
            .has_headers(false)
            .from_reader(self.text.as_bytes());
        let mut line = 1 + self.lines_before;
        let mut rest = self.text;
        std::iter::from_fn(move || {
            if let Some(after) = rest.strip_prefix('\n') {
                rest = after;
                line += 1;
                return Some(Row { line: line - 1, cells: vec![String::new()] });
            }
            let mut record = csv::StringRecord::new();
            // Neither fails: the text is UTF-8, in memory, and rows may have any length.
            if !reader.read_record(&mut record).unwrap_or_default() {
                return None;
            }
            let begin = self.text.len() - rest.len();
            let end = usize::try_from(reader.position().byte()).unwrap_or(usize::MAX).min(self.text.len());
            let row = Row { line, cells: record.iter().map(cell).collect() };
            line += self.text[begin..end].matches('\n').count();
            rest = &self.text[end..];
            Some(row)
        })
    }

    /// Returns the line of a last row whose quotes are not closed: it would swallow the rest of the file.
    pub(super) fn open_quote(&self) -> Option<usize> {
        let last = self.rows().last()?;
        let lines = self.text.lines().skip(last.line - 1 - self.lines_before);
        let quotes: usize = lines.clone().map(|line| line.matches('"').count()).sum();
        (lines.count() > 1 && quotes % 2 == 1).then_some(last.line)
    }
}

/// Returns the text of a cell, without blanks around it, line breaks, and the formula that keeps a spreadsheet from changing it.
fn cell(raw: &str) -> String {
    let text =
        raw.trim_matches(|letter: char| letter.is_whitespace() || matches!(letter, '\u{feff}' | '\u{200b}'));
    let text = text.strip_prefix("=\"").and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    text.split('\n').map(str::trim).collect::<Vec<_>>().join(" ").trim().to_owned()
}
