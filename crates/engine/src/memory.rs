//! What this process takes of the machine, where the system tells (Linux; 0 elsewhere).
//!
//! Source: `VmHWM` and `VmRSS` in proc_pid_status(5), `utime` and `stime` in proc_pid_stat(5).

/// The most memory that the process has had resident, in bytes.
#[must_use]
pub fn peak_bytes() -> u64 {
    status_bytes("VmHWM:")
}

/// The memory that the process has resident now, in bytes.
#[must_use]
pub fn resident_bytes() -> u64 {
    status_bytes("VmRSS:")
}

fn status_bytes(name: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// The processor time that the process has used, in seconds. The kernel counts in hundredths for programs,
/// whatever it counts in itself.
#[must_use]
pub fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field is the program's name, in parentheses, and may hold anything.
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let hundredths = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u32>().ok());
    f64::from(hundredths.sum::<u32>()) / 100.0
}

/// How many files the process has open, and how many of them are sockets; `None` where the system does not tell.
#[must_use]
pub fn open_files() -> Option<(u64, u64)> {
    let entries = std::fs::read_dir("/proc/self/fd").ok()?;
    let mut open = (0, 0);
    for entry in entries.flatten() {
        let socket =
            std::fs::read_link(entry.path()).is_ok_and(|link| link.to_string_lossy().starts_with("socket:"));
        open.0 += 1;
        open.1 += u64::from(socket);
    }
    Some(open)
}
