//! Sizes of files.

use crate::allowed::Finding;
use crate::source::File;

/// Most lines of a file without a reason.
const FILE: usize = 400;

/// Most lines of a file of the command line.
const COMMAND: usize = 200;

/// Most lines of the command line in all.
const COMMAND_LINE: usize = 2_000;

/// Returns the files that are too long.
pub fn long_files(files: &[File]) -> Vec<Finding> {
    longer(files, FILE)
}

/// Returns the files of the command line that are too long, and its sum if that is too large.
pub fn command_line(files: &[File]) -> Vec<Finding> {
    let mut found = longer(files, COMMAND);
    let sum: usize = files.iter().map(|file| file.text.lines().count()).sum();
    if sum > COMMAND_LINE {
        found.push(Finding::new("src/cli", sum, format!("parse, call, print: {COMMAND_LINE} lines in all")));
    }
    found
}

fn longer(files: &[File], most: usize) -> Vec<Finding> {
    let lines = files.iter().map(|file| (&file.path, file.text.lines().count()));
    lines
        .filter(|(_, lines)| *lines > most)
        .map(|(path, lines)| {
            Finding::new(path, lines, format!("more than {most} lines: split it by subject"))
        })
        .collect()
}
