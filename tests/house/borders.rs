//! Borders between the layers: which crates and modules a folder may name.

use crate::allowed::Finding;
use crate::source::File;
use crate::tokens::{Token, tokens, without_tests};

/// Folders (or files) and what they may not name.
const FORBIDDEN: [(&[&str], &[&str]); 6] = [
    (
        &["src/event/", "src/timeline/", "src/timeline.rs"],
        &["tokio", "lapin", "diesel", "diesel_async", "tokio_postgres"],
    ),
    (&["src/store/"], &["lapin", "amqp", "broker", "amq_protocol"]),
    (&["src/broker/", "src/amqp/"], &["diesel", "diesel_async", "tokio_postgres", "store"]),
    (&["src/cli/"], &["diesel", "diesel_async", "lapin", "tokio_postgres", "amq_protocol"]),
    (&["src/publisher/", "src/message.rs"], &["store", "diesel", "diesel_async", "tokio_postgres"]),
    (&["src/dead_letters/"], &["diesel", "diesel_async", "tokio_postgres", "store"]),
];

/// Crates that one layer has to itself.
const OWNED: [(&str, &[&str]); 4] = [
    ("lapin", &["src/broker/", "src/publisher/"]),
    ("diesel", &["src/store/"]),
    ("diesel_async", &["src/store/"]),
    ("diesel_migrations", &["src/store/"]),
];

/// Returns the names that a file may not use; the subject is `file→name`.
pub fn crossings(files: &[File]) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in files {
        let tokens = without_tests(&tokens(&file.text));
        let inside = |places: &[&str]| places.iter().any(|place| file.path.starts_with(place));
        let mut names: Vec<&str> = FORBIDDEN
            .iter()
            .filter(|(places, _)| inside(places))
            .flat_map(|(_, names)| names.iter().copied())
            .chain(OWNED.iter().filter(|(_, places)| !inside(places)).map(|(name, _)| *name))
            .collect();
        names.sort_unstable();
        names.dedup();
        for name in names {
            let lines = named(&tokens, name);
            if let Some(line) = lines.first() {
                found.push(Finding::new(
                    format!("{}→{name}", file.path),
                    lines.len(),
                    format!("  {}:{line}: this layer does not name {name}", file.path),
                ));
            }
        }
    }
    found
}

/// Lines on which a path has this segment, as a crate or a module.
fn named(tokens: &[Token], name: &str) -> Vec<usize> {
    let is = |at: usize, text: &str| tokens.get(at).is_some_and(|token| token.text == text);
    let mut in_use = false;
    let mut lines = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        match token.text.as_str() {
            "use" => in_use = true,
            ";" => in_use = false,
            text if text == name => {
                let segment = is(at + 1, "::")
                    || in_use && (is(at + 1, ";") || is(at + 1, ",") || is(at + 1, "}") || is(at + 1, "as"));
                let after_dot = at > 0 && is(at - 1, ".");
                if segment && !after_dot {
                    lines.push(token.line);
                }
            }
            _ => {}
        }
    }
    lines
}

/// Returns the `cfg(feature…)` that do not stand on a `mod` line of lib.rs, by file.
pub fn feature_gates(files: &[File]) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in files {
        let all = tokens(&file.text);
        let mut lines = Vec::new();
        for at in 0..all.len() {
            let opens = matches!(all[at].text.as_str(), "cfg" | "cfg_attr")
                && all.get(at + 1).is_some_and(|token| token.text == "(" || token.text == "!");
            if !opens {
                continue;
            }
            let close = closing(&all, at + 1);
            let names_feature = all[at..close].iter().any(|token| token.text == "feature");
            if names_feature && !(file.path == "src/lib.rs" && before_mod(&all, close)) {
                lines.push(format!(
                    "  {}:{}: a feature is chosen on a mod line of lib.rs",
                    file.path, all[at].line
                ));
            }
        }
        if !lines.is_empty() {
            found.push(Finding::new(&file.path, lines.len(), lines.join("\n")));
        }
    }
    found
}

fn closing(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "(" => depth += 1,
            ")" => {
                depth -= 1;
                if depth == 0 {
                    return at;
                }
            }
            _ => {}
        }
    }
    tokens.len()
}

/// Skips the rest of the attributes; true if a `mod` follows.
fn before_mod(tokens: &[Token], mut at: usize) -> bool {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    while !matches!(
        text(at),
        "mod" | "pub" | "use" | "fn" | "const" | "struct" | "enum" | "impl" | "type" | ""
    ) {
        at += 1;
    }
    if text(at) == "pub" {
        at += 1;
        if text(at) == "(" {
            at = closing(tokens, at) + 1;
        }
    }
    text(at) == "mod"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> [File; 1] {
        [File { path: path.into(), text: text.into() }]
    }

    #[test]
    fn a_layer_that_names_anothers_crate_is_found() {
        let subjects = |path: &str, text: &str| -> Vec<String> {
            crossings(&file(path, text)).into_iter().map(|one| one.subject).collect()
        };
        assert_eq!(subjects("src/store/a.rs", "use crate::{amqp, event};"), ["src/store/a.rs→amqp"]);
        assert_eq!(subjects("src/store/a.rs", "fn f() { lapin::x() }"), ["src/store/a.rs→lapin"]);
        assert_eq!(subjects("src/api/a.rs", "use diesel::sql_types;"), ["src/api/a.rs→diesel"]);
        assert_eq!(
            subjects("src/store/a.rs", "/// lapin::x\nfn f(broker: u8) { broker; \"amqp::x\" }"),
            [""; 0]
        );
        assert_eq!(subjects("src/store/a.rs", "#[cfg(test)]\nmod tests { use lapin::x; }"), [""; 0]);
    }

    #[test]
    fn features_outside_of_mod_lines_are_found() {
        let count =
            |path: &str, text: &str| feature_gates(&file(path, text)).first().map_or(0, |one| one.count);
        assert_eq!(count("src/lib.rs", "#[cfg(feature = \"x\")]\n#[path = \"y.rs\"]\npub(crate) mod a;"), 0);
        assert_eq!(count("src/lib.rs", "#[cfg(feature = \"x\")]\npub use a::b;"), 1);
        assert_eq!(
            count("src/a.rs", "#[cfg(feature = \"x\")]\nmod a;\nfn f() { if cfg!(feature = \"y\") {} }"),
            2
        );
        assert_eq!(count("src/a.rs", "#[cfg(test)]\nmod tests {}"), 0);
    }
}
