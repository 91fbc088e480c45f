//! The drain benchmark; it follows.

fn main() {}
