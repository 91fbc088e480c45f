//! The map from the contract's sections to tests, in tests/README.md.

use crate::allowed::Finding;

/// Sections of the contract, by their titles.
const SECTIONS: [&str; 9] = [
    "Topology",
    "The message",
    "Event types",
    "The table",
    "How every delivery ends",
    "Configuration",
    "Command line",
    "Metrics and health",
    "Read API",
];

/// Returns the sections without a test, and the named tests that do not exist.
pub fn gaps(map: &str, read: &dyn Fn(&str) -> Option<String>) -> Vec<Finding> {
    let mut found = Vec::new();
    for title in SECTIONS {
        let section = map.split("\n### ").find_map(|section| section.strip_prefix(title)?.strip_prefix('\n'));
        let section = section.map_or("", |section| section.split("\n## ").next().unwrap_or_default());
        let names: Vec<&str> = test_names(section).collect();
        if names.is_empty() {
            found.push(Finding::new(
                title.replace(' ', "-"),
                1,
                "  tests/README.md names no test for this section",
            ));
        }
        let missing = names.into_iter().filter(|name| !exists(name, read));
        found.extend(
            missing.map(|name| Finding::new(name, 1, "  tests/README.md names a test that does not exist")),
        );
    }
    found
}

fn test_names(section: &str) -> impl Iterator<Item = &str> {
    let is_name = |text: &&str| {
        text.contains("::") && text.chars().all(|c| c.is_ascii_alphanumeric() || "_:".contains(c))
    };
    section.split('`').skip(1).step_by(2).filter(is_name)
}

/// Looks for the function in the file that the path leads to.
fn exists(name: &str, read: &dyn Fn(&str) -> Option<String>) -> bool {
    let Some((module, test)) = name.rsplit_once("::") else { return false };
    let file = module.replace("::", "/");
    let outer = file.strip_suffix("/tests").unwrap_or(&file);
    let files = [
        format!("tests/it/{file}.rs"),
        format!("tests/{file}.rs"),
        format!("src/{file}.rs"),
        format!("src/{outer}.rs"),
        format!("src/{outer}/mod.rs"),
    ];
    files.iter().filter_map(|file| read(file)).any(|text| text.contains(&format!("fn {test}(")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_without_tests_and_a_missing_test_are_found() {
        let read = |path: &str| (path == "tests/it/worker/a.rs").then(|| "fn here() {}".to_owned());
        let map = |tests: &str| {
            SECTIONS.map(|title| format!("\n### {title}\n\n- `worker::a::here`\n")).concat().replacen(
                "`worker::a::here`",
                tests,
                1,
            )
        };
        let subjects = |tests: &str| -> Vec<String> {
            gaps(&map(tests), &read).into_iter().map(|one| one.subject).collect()
        };
        assert_eq!(subjects("`worker::a::here`"), [""; 0]);
        assert_eq!(subjects("none"), ["Topology"]);
        assert_eq!(subjects("`worker::a::gone`"), ["worker::a::gone"]);
    }
}
