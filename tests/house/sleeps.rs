//! Sleeps in tests: each has a sentence that says why there is nothing to wait for.

use crate::allowed::Finding;
use crate::source::File;

/// Returns the sleeps without a comment on their line or above their statement.
pub fn without_reason(files: &[File]) -> Vec<Finding> {
    let mut found = Vec::new();
    for file in files {
        let lines: Vec<&str> = file.text.lines().map(str::trim).collect();
        for (at, line) in lines.iter().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let sleeps = ["sleep(", "sleep_until("].iter().any(|call| code.contains(&format!("::{call}")));
            let above = at > 0 && lines[at - 1].starts_with("//");
            if sleeps && !line.contains("// ") && !above {
                found.push(Finding::new(
                    format!("{}:{}", file.path, at + 1),
                    1,
                    "  wait for a signal, or say in a comment why there is none",
                ));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sleep_needs_a_sentence() {
        let count = |text: &str| without_reason(&[File { path: "x.rs".into(), text: text.into() }]).len();
        assert_eq!(count("tokio::time::sleep(PAUSE).await;"), 1);
        assert_eq!(count("tokio::time::sleep(PAUSE).await; // no signal"), 0);
        assert_eq!(
            count("// no signal\nstd::thread::sleep(PAUSE);\n\ntokio::time::sleep_until(x).await;"),
            1
        );
    }
}
