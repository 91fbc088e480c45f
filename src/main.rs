//! The `cns-events` command: see [`cns_events::cli`].

use std::process::ExitCode;

/// A delivery is read in one thread and freed in another (docs/adr/0008-the-binarys-allocator-is-jemalloc.md). Its background
/// thread returns memory to the system some seconds after it was freed, also while the process is idle.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    cns_events::cli::run()
}
