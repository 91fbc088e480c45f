//! The documentation and the examples, checked against the program.

pub mod examples;
mod languages;
pub mod pages;
mod reference;
mod watchers;
