//! What processes took of the machine, as Linux tells.

use std::path::Path;

/// Processor time of a process, its threads and the children it has waited for (microseconds; a tick of the kernel's clock is
/// 10 ms: `USER_HZ` is 100 on every Linux there is).
pub fn cpu_us(pid: u32) -> f64 {
    let fields = stat(pid).unwrap_or_default();
    // utime, stime, cutime, cstime
    fields.iter().skip(11).take(4).filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() * 10_000.0
}

/// The most that a process ever had in memory (MiB).
pub fn peak_mib(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let kib =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
    kib.unwrap_or(f64::NAN) / 1024.0
}

/// The broker and the database of scripts/services.
#[derive(Clone, Copy)]
pub struct Servers {
    broker: u32,
    database: u32,
}

impl Servers {
    /// By their pid files; none where the servers are somebody else's.
    pub fn find() -> Option<Servers> {
        let folder = std::env::var("CNS_EVENTS_SERVICES_DIR").ok()?;
        let pid = |file: &str| {
            let text = std::fs::read_to_string(Path::new(&folder).join(file)).ok()?;
            text.lines().next()?.trim().parse().ok()
        };
        Some(Servers { broker: pid("rabbitmq/pid")?, database: pid("postgres/postmaster.pid")? })
    }

    /// Processor time so far of both (microseconds): the broker's, and that of the database's processes.
    pub fn cpu_us(servers: Option<Servers>) -> (f64, f64) {
        let Some(Servers { broker, database }) = servers else { return (f64::NAN, f64::NAN) };
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

/// The fields of /proc/PID/stat behind the command's name: state, parent, …
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    Some(text.rsplit_once(')')?.1.split_whitespace().map(str::to_owned).collect())
}
