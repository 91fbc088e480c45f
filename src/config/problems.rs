//! Problems of a configuration, all of them at once.

use std::collections::BTreeSet;
use std::fmt::Display;

/// One line for each problem, and the keys whose values cannot be used.
#[derive(Debug, Default)]
pub(super) struct Problems {
    pub(super) lines: Vec<String>,
    /// Keys whose values are unknown: the checks see their defaults instead.
    wrong: BTreeSet<String>,
}

impl Problems {
    /// Adds a line.
    pub(super) fn add_line(&mut self, line: String) {
        self.lines.push(line);
    }

    /// Adds the line of a key whose value cannot be read.
    pub(super) fn add_wrong(&mut self, key: &str, line: String) {
        self.wrong.insert(key.to_owned());
        self.lines.push(line);
    }

    /// Marks a key whose value is unknown for another reason, which has a line of its own.
    pub(super) fn add_unknown(&mut self, key: &str) {
        self.wrong.insert(key.to_owned());
    }

    /// Returns whether the value of a key is unknown.
    pub(super) fn is_wrong(&self, key: &str) -> bool {
        self.wrong.contains(key)
    }

    /// Adds the problem of a value.
    pub(super) fn add(&mut self, key: &str, value: impl Display, problem: impl Display) {
        self.lines.push(format!("{key} = {value}: {problem}"));
    }

    /// Adds the problem of a value beside the value of another key, unless one of them is unknown.
    pub(super) fn add_combination(
        &mut self,
        (key, other): (&str, &str),
        value: impl Display,
        problem: impl Display,
    ) {
        if !self.is_wrong(key) && !self.is_wrong(other) {
            self.add(key, value, problem);
        }
    }
}
