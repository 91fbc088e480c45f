//! The documentation and the examples, checked against the program.

pub mod examples;
pub mod pages;
mod reference;
