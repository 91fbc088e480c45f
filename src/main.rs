//! The `cns-events` command: see [`cns_events::cli`].

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// Stack of every thread, in bytes; only what is touched takes memory. RabbitMQ lets a producer nest a header as deep as a
/// frame has room for (26,000 levels in 128 KiB), and whoever reads, copies or drops such a header descends as far.
///
/// Seen: a level takes less than 2 KiB in a release build, and several times as much in one for development.
const STACK_BYTES: usize = if cfg!(debug_assertions) { 512 } else { 64 } * 1024 * 1024;

/// Sets the stack of threads that say nothing of it, like those of the client library: read once, at the first of them.
const STACK_VARIABLE: &str = "RUST_MIN_STACK";

/// A delivery is taken in one thread and freed in another (docs/adr/0008-the-binarys-allocator-is-jemalloc.md).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Its settings. What large answers of the read API took goes back to the system some seconds later, also while nothing is asked.
const ALLOCATOR_VARIABLE: &str = "_RJEM_MALLOC_CONF";
const ALLOCATOR_SETTINGS: &str = "background_thread:true,dirty_decay_ms:5000,muzzy_decay_ms:0";

fn main() -> ExitCode {
    if std::env::var_os(STACK_VARIABLE).is_none()
        && let Ok(this) = std::env::current_exe()
    {
        // The same process, with the variable set. Where that cannot be, the threads have less.
        let mut again = Command::new(this);
        again.args(std::env::args_os().skip(1)).env(STACK_VARIABLE, STACK_BYTES.to_string());
        if std::env::var_os(ALLOCATOR_VARIABLE).is_none() {
            again.env(ALLOCATOR_VARIABLE, ALLOCATOR_SETTINGS);
        }
        let _ = again.exec();
    }
    let running =
        std::thread::Builder::new().stack_size(STACK_BYTES).spawn(|| cns_events::cli::run(STACK_BYTES));
    match running.map(std::thread::JoinHandle::join) {
        Ok(Ok(code)) => code,
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        Err(_) => cns_events::cli::run(STACK_BYTES), // no such thread can be had
    }
}
