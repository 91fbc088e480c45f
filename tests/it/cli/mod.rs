//! The command line, as an operator or a script uses it.

pub mod commands;
mod dead_letters;
mod doctor;
mod query;
mod secrets;
