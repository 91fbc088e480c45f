//! Functions that do not fit a screen.

use crate::allowed::Finding;
use crate::source::File;
use crate::tokens::{tokens, without_tests};

/// Most lines of a function without a reason.
const LINES: usize = 70;

/// Begins the sentence, in the comment above a long function, that says why it is long.
const REASON: &str = "Length:";

/// Returns the functions that are too long and give no reason.
pub fn long_without_reason(files: &[File]) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in
        files.iter().filter(|file| !file.path.ends_with("_tests.rs") && !file.path.ends_with("/tests.rs"))
    {
        let tokens = without_tests(&tokens(&file.text));
        let lines: Vec<&str> = file.text.lines().collect();
        for at in 0..tokens.len().saturating_sub(1) {
            if tokens[at].text != "fn"
                || !tokens[at + 1].text.starts_with(|c: char| c.is_alphabetic() || c == '_')
            {
                continue;
            }
            let Some(end) =
                body_end(&tokens[at..].iter().map(|token| token.text.as_str()).collect::<Vec<_>>())
            else {
                continue;
            };
            let (first, last) = (tokens[at].line, tokens[at + end].line);
            let length = last - first + 1;
            if length > LINES && !has_reason(&lines, first) {
                let name = format!("{}::{}", file.path, tokens[at + 1].text);
                let detail = format!(
                    "  {}:{first}: more than {LINES} lines: split it, or say why in a comment above it (`{REASON} …`)",
                    file.path
                );
                found.push(Finding::new(name, length, detail));
            }
        }
    }
    found
}

/// Returns the index of the closing brace of a function that begins here; none for a declaration without a body.
fn body_end(tokens: &[&str]) -> Option<usize> {
    let (mut round, mut braces) = (0, 0);
    for (at, token) in tokens.iter().enumerate() {
        match *token {
            "(" | "[" => round += 1,
            ")" | "]" => round -= 1,
            ";" if round == 0 && braces == 0 => return None,
            "{" => braces += 1,
            "}" => {
                braces -= 1;
                if braces == 0 && round == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

/// The block of comments and attributes right above a line.
fn has_reason(lines: &[&str], first: usize) -> bool {
    let above = lines[..first - 1].iter().rev().map(|line| line.trim());
    above
        .take_while(|line| {
            line.starts_with("//")
                || line.starts_with('#')
                || line.ends_with(")]")
                || line.ends_with(',')
                || *line == ")]"
        })
        .any(|line| line.starts_with("//") && line.contains(REASON))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_functions_need_a_reason() {
        let body = "    call();\n".repeat(70);
        let found = |above: &str| {
            let text = format!(
                "struct S;\n{above}fn long<T>(a: [u8; 2]) -> T\nwhere\n    T: X,\n{{\n{body}}}\n\nfn short() {{}}\ntrait T {{\n    fn none();\n}}\n"
            );
            long_without_reason(&[File { path: "src/x.rs".into(), text }])
        };
        assert_eq!(found("")[0].subject, "src/x.rs::long");
        assert_eq!(found("").len(), 1);
        assert_eq!(found("/// Returns.\n///\n/// Length: one table.\n#[inline]\n").len(), 0);
        assert_eq!(found("// Length: elsewhere.\n\n").len(), 1);
    }
}
