//! The `cns-events` command; its subcommands follow.

fn main() {}
