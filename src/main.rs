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

/// From which size on glibc gives memory back when it is freed, in bytes. By itself it learns from the answers of the read API, which
/// are large now and then, to keep what they took for ever (mallopt(3)). Other systems do not know the variable.
const MMAP_VARIABLE: &str = "MALLOC_MMAP_THRESHOLD_";
const MMAP_BYTES: usize = 128 * 1024;

fn main() -> ExitCode {
    if std::env::var_os(STACK_VARIABLE).is_none()
        && let Ok(this) = std::env::current_exe()
    {
        // The same process, with the variable set. Where that cannot be, the threads have less.
        let mut again = Command::new(this);
        again.args(std::env::args_os().skip(1)).env(STACK_VARIABLE, STACK_BYTES.to_string());
        if std::env::args_os().nth(1).is_some_and(|command| command == "serve") {
            again.env(MMAP_VARIABLE, MMAP_BYTES.to_string());
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
