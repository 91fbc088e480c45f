//! The list of exceptions.

use std::collections::BTreeMap;

/// One thing that breaks a rule.
#[derive(Debug, PartialEq)]
pub struct Finding {
    /// File, function or circle that breaks the rule; the key in `allowed.txt`.
    pub subject: String,
    /// Measure of the breach: lines, or the number of places.
    pub count: usize,
    /// Text that leads a reader to the place.
    pub detail: String,
}

impl Finding {
    pub fn new(subject: impl Into<String>, count: usize, detail: impl Into<String>) -> Finding {
        Finding { subject: subject.into(), count, detail: detail.into() }
    }
}

/// Fails for every finding that `allowed.txt` does not list, or lists with a smaller count, and for entries without a finding.
pub fn check(rule: &str, findings: Vec<Finding>) {
    let problems = problems(rule, findings, include_str!("allowed.txt"));
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// An entry is `rule subject count # reason`; the subject `*` allows so many in all, beyond those that are listed.
fn problems(rule: &str, findings: Vec<Finding>, list: &str) -> Vec<String> {
    let mut allowed: BTreeMap<&str, usize> = BTreeMap::new();
    let mut problems = Vec::new();
    for line in list.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (entry, reason) = line.split_once(" # ").unwrap_or((line, ""));
        let words: Vec<&str> = entry.split_whitespace().collect();
        let [of, subject, count] = words[..] else { panic!("tests/house/allowed.txt: {line}") };
        if of != rule {
            continue;
        }
        if reason.trim().is_empty() {
            problems.push(format!("{rule} {subject}: its entry in tests/house/allowed.txt has no reason"));
        }
        allowed.insert(subject, count.parse().unwrap_or_else(|_| panic!("tests/house/allowed.txt: {line}")));
    }
    let mut rest = allowed.remove("*").unwrap_or_default();
    for Finding { subject, count, detail } in findings {
        if !allowed.contains_key(subject.as_str()) && count <= rest {
            rest -= count;
            continue;
        }
        match allowed.remove(subject.as_str()) {
            Some(limit) if count <= limit => {}
            Some(limit) => {
                problems.push(format!("{rule} {subject} {count}: more than the {limit} allowed\n{detail}"))
            }
            None => problems.push(format!("{rule} {subject} {count}\n{detail}")),
        }
    }
    if STRICT {
        problems.extend(allowed.into_keys().map(|subject| {
            format!(
                "{rule} {subject}: nothing breaks this rule any more: remove it from tests/house/allowed.txt"
            )
        }));
    }
    problems
}

/// Fails for entries that are no longer needed.
const STRICT: bool = true;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_findings_pass() {
        let list = "# text\nsize a.rs 10 # a table\nsize b.rs 10 # another\nother c.rs 1 # of another rule\n";
        let found = |subject: &str, count| problems("size", vec![Finding::new(subject, count, "")], list);
        let about = |problems: Vec<String>, word: &str| problems.iter().any(|one| one.contains(word));
        assert!(!about(found("a.rs", 10), "a.rs"));
        assert!(about(found("a.rs", 11), "more than the 10 allowed"));
        assert!(about(found("c.rs", 1), "size c.rs 1"));
        assert!(about(problems("size", Vec::new(), "size a.rs 1\n"), "no reason"));
        let all = "size * 3 # until it is done\n";
        let two = || vec![Finding::new("a.rs", 2, ""), Finding::new("b.rs", 2, "")];
        assert_eq!(problems("size", two(), all).len(), 1);
    }
}
