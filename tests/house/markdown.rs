//! Lines of Markdown.

use crate::allowed::Finding;
use crate::source::File;

/// Most characters of a line of text. A table's row and code cannot be wrapped.
const CHARACTERS: usize = 120;

/// Returns the long lines outside tables and code, by file.
pub fn long_lines(files: &[File]) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in files {
        let mut fence: Option<&str> = None;
        let mut lines = Vec::new();
        for (number, line) in file.text.lines().enumerate() {
            let text = line.trim_start();
            let mark = ["```", "~~~"].into_iter().find(|mark| text.starts_with(mark));
            match (fence, mark) {
                (None, Some(mark)) => fence = Some(mark),
                (Some(open), Some(mark)) if open == mark => fence = None,
                (Some(_), _) => {}
                (None, None) if text.starts_with('|') => {}
                (None, None) => {
                    let characters = line.chars().count();
                    if characters > CHARACTERS {
                        lines.push(format!("  {}:{}: {characters} characters", file.path, number + 1));
                    }
                }
            }
        }
        if !lines.is_empty() {
            found.push(Finding::new(&file.path, lines.len(), lines.join("\n")));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_found_and_tables_and_code_are_not() {
        let long = "word ".repeat(30);
        let count = |text: String| {
            long_lines(&[File { path: "x.md".into(), text }]).first().map_or(0, |one| one.count)
        };
        assert_eq!(count(format!("{long}\n- {long}\n")), 2);
        assert_eq!(count(format!("| {long} |\n```text\n{long}\n```\n")), 0);
        assert_eq!(count(format!("```\n```\n{long}\n")), 1);
    }
}
