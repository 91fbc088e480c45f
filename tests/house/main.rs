//! The rules of the house, as tests: no circle between files, borders between layers, sizes, first words of comments, lines
//! of Markdown, and the ways through the documentation. They read files only, and need no server: `make house`.
//!
//! `allowed.txt` lists the exceptions, each with a reason. A finding that is not listed fails; so does an entry that nothing
//! needs any more.

#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

mod allowed;
mod borders;
mod comments;
mod contract_map;
mod functions;
mod imports;
mod markdown;
mod sizes;
mod sleeps;
mod source;
mod tokens;
mod ways;

use allowed::check;
use source::{files, read};

#[test]
fn no_file_imports_a_file_that_imports_it() {
    check("circle", imports::circles(&imports::graph("src/lib.rs", &read)));
}

#[test]
fn layers_name_only_what_is_theirs_to_name() {
    check("border", borders::crossings(&files("src", ".rs")));
}

#[test]
fn features_are_chosen_in_one_place() {
    check("cfg-feature", borders::feature_gates(&files("src", ".rs")));
}

#[test]
fn files_have_one_subject() {
    check("file-lines", sizes::long_files(&files("src", ".rs")));
}

#[test]
fn the_command_line_is_thin() {
    check("cli-lines", sizes::command_line(&files("src/cli", ".rs")));
}

#[test]
fn long_functions_have_a_reason() {
    check("function-lines", functions::long_without_reason(&files("src", ".rs")));
}

#[test]
fn doc_comments_do_not_begin_with_a_question() {
    let mut all = comments::questions(&files("src", ".rs"));
    all.extend(comments::questions(&files("tests", ".rs")));
    all.extend(comments::questions(&files("benches", ".rs")));
    all.extend(comments::questions(&files("python", ".rs")));
    all.extend(comments::docstring_questions(&files("python", ".py")));
    all.extend(comments::docstring_questions(&files("python", ".pyi")));
    check("first-word", all);
}

#[test]
fn lines_of_markdown_are_short() {
    check("markdown-line", markdown::long_lines(&files("", ".md")));
}

#[test]
fn three_links_lead_from_the_readme_to_each_goal() {
    check("way", ways::missing("README.md", &read));
}

#[test]
fn every_section_of_the_contract_is_mapped_to_tests() {
    check("contract-map", contract_map::gaps(&read("tests/README.md").unwrap(), &read));
}

#[test]
fn sleeps_in_tests_have_a_reason() {
    let all = ["tests", "benches"]
        .iter()
        .flat_map(|folder| files(folder, ".rs"))
        .filter(|file| !file.path.starts_with("tests/house/"));
    check("sleep", sleeps::without_reason(&all.collect::<Vec<_>>()));
}
