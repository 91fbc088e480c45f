//! Processor time and memory of processes, from /proc.

use crate::env::services::{FOLDER_VARIABLE, Services};

/// Returns the processor time of a process, its threads and the children it has waited for (microseconds; a tick of the kernel's clock is
/// 10 ms: `USER_HZ` is 100 on every Linux there is).
pub fn cpu_us(pid: u32) -> f64 {
    let fields = stat(pid).unwrap_or_default();
    // utime, stime, cutime, cstime
    fields.iter().skip(11).take(4).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() * 10_000.0
}

/// Returns the peak resident memory of a process (MiB).
pub fn peak_mib(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
    kib.unwrap_or(f64::NAN) / 1024.0
}

/// The broker and the database of `scripts/services`.
#[derive(Clone, Copy)]
pub struct ServerProcesses {
    broker: u32,
    database: u32,
}

impl ServerProcesses {
    /// Finds them by their pid files; `None` for other servers.
    pub fn find() -> Option<ServerProcesses> {
        let services = Services::running(std::env::var_os(FOLDER_VARIABLE)?.into());
        Some(ServerProcesses { broker: services.broker_pid()?, database: services.database_pid()? })
    }

    /// Returns the processor time so far (microseconds) of the broker, and of the database's processes.
    pub fn cpu_us(servers: Option<ServerProcesses>) -> (f64, f64) {
        let Some(ServerProcesses { broker, database }) = servers else { return (f64::NAN, f64::NAN) };
        let children: f64 = processes().filter(|pid| parent(*pid) == Some(database)).map(cpu_us).sum();
        (cpu_us(broker), cpu_us(database) + children)
    }
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn parent(pid: u32) -> Option<u32> {
    stat(pid)?.get(1)?.parse().ok()
}

/// Returns the fields of /proc/PID/stat behind the command's name: state, parent, …
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}
