//! The command line, as an operator or a script uses it.

mod bom;
mod colors;
mod completions;
mod config;
mod connection_strings;
mod dead_letters;
mod demo;
mod doctor;
mod errors;
mod help;
mod json_lines;
mod log_output;
mod publish;
mod query;
mod rights;
mod secrets;
mod summaries;
mod tables;
mod uris;
