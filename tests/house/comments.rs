//! First words of doc comments: a noun phrase or a verb, never an indirect question.

use crate::allowed::Finding;
use crate::source::File;

const QUESTIONS: [&str; 9] = ["What", "How", "Whether", "Who", "Whom", "Whose", "Why", "Where", "Which"];

/// Returns the doc comments that begin with an indirect question, by file.
pub fn questions(files: &[File]) -> Vec<Finding> {
    by_file(files, |text| {
        let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
        let mut found = Vec::new();
        for (at, line) in lines.iter().enumerate() {
            let marker = ["///", "//!"].into_iter().find(|marker| line.starts_with(marker));
            let Some(marker) = marker else { continue };
            let continued = at > 0 && lines[at - 1].starts_with(marker);
            let text = line[marker.len()..].trim_start();
            if !continued && is_question(text) {
                found.push((at + 1, text.to_owned()));
            }
        }
        found
    })
}

/// Returns the docstrings that begin with an indirect question, by file.
pub fn docstring_questions(files: &[File]) -> Vec<Finding> {
    by_file(files, |text| {
        let lines: Vec<&str> = text.lines().map(str::trim_start).collect();
        let mut found = Vec::new();
        for (at, line) in lines.iter().enumerate() {
            let Some(text) = line.trim_start_matches(['r', 'u']).strip_prefix("\"\"\"") else { continue };
            let text = if text.is_empty() { lines.get(at + 1).copied().unwrap_or_default() } else { text };
            if is_question(text) {
                found.push((at + 1, text.to_owned()));
            }
        }
        found
    })
}

fn is_question(text: &str) -> bool {
    let word = text.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
    QUESTIONS.contains(&word)
}

fn by_file(files: &[File], find: impl Fn(&str) -> Vec<(usize, String)>) -> Vec<Finding> {
    let found = files.iter().map(|file| (file, find(&file.text)));
    found
        .filter(|(_, lines)| !lines.is_empty())
        .map(|(file, lines)| {
            let places: Vec<String> =
                lines.iter().map(|(line, text)| format!("  {}:{line}: {text}", file.path)).collect();
            Finding::new(&file.path, lines.len(), places.join("\n"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indirect_questions_are_found() {
        let file = |text: &str| [File { path: "x".into(), text: text.into() }];
        let rust = "//! What it is.\n\n/// Returns it.\n/// What follows is not a first line.\nfn a() {}\n    /// Whether.\n";
        assert_eq!(questions(&file(rust))[0].count, 2);
        assert!(questions(&file("/// Whatever is set.\n// What a plain comment says\n")).is_empty());
        let python =
            "def a():\n    \"\"\"How it runs.\"\"\"\n\ndef b():\n    \"\"\"\n    Where it is.\n    \"\"\"\n";
        assert_eq!(docstring_questions(&file(python))[0].count, 2);
    }
}
