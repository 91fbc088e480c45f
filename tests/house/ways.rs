//! The ways through the documentation: three links lead from the README to each goal.

use std::collections::BTreeSet;

use crate::allowed::Finding;

/// Links from the README to a goal, at most.
const LINKS: usize = 3;

/// One link of a page.
struct Link {
    text: String,
    /// Path from the repository's root, without the anchor.
    target: String,
    /// The heading above it, and the paragraph, list item or table row around it.
    around: String,
}

/// Returns the goals that the links of the first three pages do not reach.
pub fn missing(start: &str, read: &dyn Fn(&str) -> Option<String>) -> Vec<Finding> {
    let mut pages = vec![start.to_owned()];
    let mut seen: BTreeSet<String> = pages.iter().cloned().collect();
    let mut found: BTreeSet<&str> = BTreeSet::new();
    for _ in 0..LINKS {
        let mut next = Vec::new();
        for page in &pages {
            let Some(text) = read(page) else { continue };
            for link in links(page, &text) {
                let target = read(&link.target);
                found.extend(
                    GOALS
                        .iter()
                        .filter(|goal| (goal.reached)(&link, target.as_deref()))
                        .map(|goal| goal.name),
                );
                if link.target.ends_with(".md") && seen.insert(link.target.clone()) {
                    next.push(link.target);
                }
            }
        }
        pages = next;
    }
    GOALS
        .iter()
        .filter(|goal| !found.contains(goal.name))
        .map(|goal| {
            Finding::new(goal.name, 1, format!("  no {LINKS} links lead from {start} to {}", goal.wanted))
        })
        .collect()
}

struct Goal {
    name: &'static str,
    wanted: &'static str,
    reached: fn(&Link, Option<&str>) -> bool,
}

const GOALS: [Goal; 3] = [
    Goal {
        name: "dead-lettering-code",
        wanted: "the file and the function that dead-letter a delivery: a link to a source file, with the function's name in its text, in a sentence about dead letters",
        reached: |link, target| {
            let Some(source) =
                target.filter(|_| link.target.starts_with("src/") && link.target.ends_with(".rs"))
            else {
                return false;
            };
            let function = link
                .text
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .any(|word| !word.is_empty() && source.contains(&format!("fn {word}(")));
            function && about(&link.around, &["dead-letter", "dead letter"])
        },
    },
    Goal {
        name: "replay",
        wanted: "a page that shows how to replay a dead letter: a heading with `replay`, and the command `dlq replay`",
        reached: |_, target| {
            target.is_some_and(|page| {
                headings(page).any(|heading| about(heading, &["replay"])) && page.contains("dlq replay")
            })
        },
    },
    Goal {
        name: "publish-from-a-language",
        wanted: "a page that shows how to publish: a heading with `publish` or `producer`, and code in Rust or Python",
        reached: |_, target| {
            target.is_some_and(|page| {
                let titled = headings(page).any(|heading| about(heading, &["publish", "producer"]));
                titled && (page.contains("```python") || page.contains("```rust"))
            })
        },
    },
];

fn about(text: &str, words: &[&str]) -> bool {
    let text = text.to_lowercase();
    words.iter().any(|word| text.contains(word))
}

fn headings(page: &str) -> impl Iterator<Item = &str> {
    page.lines().filter(|line| line.starts_with('#'))
}

/// Returns the links of a page; anchors on the same page lead to the page itself.
fn links(page: &str, text: &str) -> Vec<Link> {
    let folder = page.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut links = Vec::new();
    let mut heading = "";
    let blocks = blocks(text);
    for block in &blocks {
        if let Some(line) = block.lines().find(|line| line.starts_with('#')) {
            heading = line;
        }
        for (before, after) in block.match_indices("](").map(|(at, _)| (&block[..at], &block[at + 2..])) {
            let Some((target, _)) = after.split_once(')') else { continue };
            let target = target.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let text = before.rsplit_once('[').map_or("", |(_, text)| text).to_owned();
            links.push(Link { text, target: joined(folder, target), around: format!("{heading} {block}") });
        }
    }
    links
}

/// Paragraphs, list items and table rows.
fn blocks(text: &str) -> Vec<String> {
    let mut blocks: Vec<String> = Vec::new();
    let mut open = false;
    for line in text.lines() {
        let trimmed = line.trim_start();
        let begins = ["|", "- ", "* ", "#"].iter().any(|mark| trimmed.starts_with(mark))
            || trimmed.starts_with(|c: char| c.is_ascii_digit());
        if trimmed.is_empty() {
            open = false;
        } else if open && !begins {
            let last = blocks.last_mut().expect("a block is open");
            last.push(' ');
            last.push_str(trimmed);
        } else {
            blocks.push(trimmed.to_owned());
            open = !trimmed.starts_with('#');
        }
    }
    blocks
}

/// Joins a relative link to its page's folder.
fn joined(folder: &str, target: &str) -> String {
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "." | "" => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing_in(pages: &[(&str, &str)]) -> Vec<String> {
        let read =
            |path: &str| pages.iter().find(|(page, _)| *page == path).map(|(_, text)| (*text).to_owned());
        missing("README.md", &read).into_iter().map(|one| one.subject).collect()
    }

    #[test]
    fn links_are_followed_three_deep() {
        let page = "# Publish from Rust\n```rust\n```\n## Replay\n`cns-events dlq replay`\n";
        let code = "A dead letter is published by [`bury` in src/w.rs](../src/w.rs).";
        let deep = |last: &str| {
            missing_in(&[
                ("README.md", "[a](docs/a.md)"),
                ("docs/a.md", "See [b](./b.md#x)."),
                ("docs/b.md", last),
                ("docs/p.md", page),
                ("src/w.rs", "async fn bury() {}"),
            ])
        };
        assert_eq!(deep(&format!("{code}\n\n- [c](p.md)")), [""; 0]);
        assert_eq!(deep("[c](p.md)"), ["dead-lettering-code"]);
        assert_eq!(
            deep(&code.replace("bury", "dig")),
            ["dead-lettering-code", "replay", "publish-from-a-language"]
        );
    }
}
