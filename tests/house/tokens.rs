//! Rust source as tokens: without comments, strings and what is compiled for tests alone.

/// A token with the number of its line, from 1. A name, a number, or one character of punctuation; `::` is one token, a
/// string is `""`.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    pub text: String,
    pub line: usize,
}

/// Returns the tokens of a file.
pub fn tokens(source: &str) -> Vec<Token> {
    let bytes = source.as_bytes();
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < bytes.len() {
        let rest = &source[at..];
        let (length, text) = next(rest);
        if let Some(text) = text {
            tokens.push(Token { text: text.to_owned(), line });
        }
        line += rest[..length].matches('\n').count();
        at += length;
    }
    tokens
}

/// Returns the length of the first lexeme, and its text unless it is blank or a comment.
fn next(rest: &str) -> (usize, Option<&str>) {
    let first = rest.chars().next().expect("not empty");
    if rest.starts_with("//") {
        return (rest.find('\n').unwrap_or(rest.len()), None);
    }
    if rest.starts_with("/*") {
        return (block_comment(rest), None);
    }
    if let Some(length) = raw_string(rest) {
        return (length, Some("\"\""));
    }
    let quoted = rest.strip_prefix('b').unwrap_or(rest);
    if quoted.starts_with('"') {
        return (rest.len() - quoted.len() + string(quoted), Some("\"\""));
    }
    if quoted.starts_with('\'')
        && let Some(length) = character(quoted)
    {
        return (rest.len() - quoted.len() + length, Some("\"\""));
    }
    if first.is_alphanumeric() || first == '_' {
        let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
        return (length, Some(&rest[..length]));
    }
    if rest.starts_with("::") {
        return (2, Some("::"));
    }
    let length = first.len_utf8();
    (length, (!first.is_whitespace()).then(|| &rest[..length]))
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    at
}

fn raw_string(rest: &str) -> Option<usize> {
    let body = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r'))?;
    let hashes = body.len() - body.trim_start_matches('#').len();
    let open = body[hashes..].starts_with('"');
    let end = format!("\"{}", "#".repeat(hashes));
    let start = rest.len() - body.len() + hashes + 1;
    open.then(|| start + rest[start..].find(&end).map_or(rest.len() - start, |at| at + end.len()))
}

fn string(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// A lifetime is not a character.
fn character(rest: &str) -> Option<usize> {
    let inner = &rest[1..];
    if let Some(escaped) = inner.strip_prefix('\\') {
        let skip = escaped.chars().next()?.len_utf8();
        return Some(2 + skip + escaped[skip..].find('\'')? + 1);
    }
    let c = inner.chars().next()?;
    inner[c.len_utf8()..].starts_with('\'').then_some(2 + c.len_utf8())
}

/// Returns the tokens without items that carry `#[cfg(test)]`.
pub fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let marker = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at..].iter().map(|token| token.text.as_str()).take(marker.len()).eq(marker) {
            at = end_of_item(tokens, at + marker.len());
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

/// Returns the index behind an item: its `;` or its closing brace.
pub fn end_of_item(tokens: &[Token], mut at: usize) -> usize {
    let mut depth = 0_usize;
    while at < tokens.len() {
        match tokens[at].text.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => {
                depth = depth.saturating_sub(1);
                if depth == 0 && tokens[at].text == "}" {
                    return at + 1;
                }
            }
            ";" if depth == 0 => return at + 1,
            _ => {}
        }
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_strings_and_tests_are_left_out() {
        let source = "/* a /* b */ */ use x::y; // z\nlet s = r#\"crate::q\"#; let c = '\\''; fn f<'a>(b: &'a str) {}\n\
                      #[cfg(test)]\nmod tests { use crate::hidden; }\nfn g() { \"lapin\" }";
        let all = without_tests(&tokens(source));
        let text: Vec<&str> = all.iter().map(|token| token.text.as_str()).collect();
        assert!(text.starts_with(&["use", "x", "::", "y", ";", "let", "s", "=", "\"\"", ";"]), "{text:?}");
        assert!(!text.contains(&"hidden") && !text.contains(&"lapin") && !text.contains(&"q"), "{text:?}");
        assert!(text.contains(&"'") && text.ends_with(&["fn", "g", "(", ")", "{", "\"\"", "}"]), "{text:?}");
        assert_eq!(all.last().unwrap().line, 5);
    }
}
