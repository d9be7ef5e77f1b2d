//! Processes that are started, watched and ended.
//!
//! On Linux the kernel ends them with the thread that has started them, so that a killed bench leaves nothing behind;
//! they are started by the main thread only.

use crate::Result;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How often a process is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// A process that is killed with this value.
pub(crate) struct Bound(pub(crate) Child);

impl Drop for Bound {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A program that ends with this thread where the system can do that.
pub(crate) fn bound_to_us(program: &Path) -> Command {
    let can = Command::new("setpriv").arg("--version").output().is_ok_and(|out| out.status.success());
    if !can {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--"]).arg(program);
    command
}

/// A process that has ended.
pub(crate) struct Watched {
    pub(crate) status: ExitStatus,
    pub(crate) wall: Duration,
    /// User and system time, all threads.
    pub(crate) cpu: Option<Duration>,
    /// The most memory that was resident at a time.
    pub(crate) peak_bytes: Option<u64>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs a program to its end and watches it. What it writes goes into files of a folder, so that it never waits for a
/// reader.
pub(crate) async fn watch(mut command: Command, folder: &Path) -> Result<Watched> {
    let (out, err) = (folder.join("out"), folder.join("err"));
    command.stdin(Stdio::null()).stdout(File::create(&out)?).stderr(File::create(&err)?);
    let began = Instant::now();
    let mut process = Bound(command.spawn()?);
    let (mut cpu, mut peak_bytes) = (None, None);
    let status = loop {
        let id = process.0.id();
        peak_bytes = peak(id).or(peak_bytes);
        let (time, is_over) = times(id).map_or((cpu, false), |(time, is_over)| (Some(time), is_over));
        cpu = time;
        // A process that is over keeps its times until it is waited for, so they are read before.
        if is_over {
            break process.0.wait()?;
        }
        if cpu.is_none()
            && let Some(status) = process.0.try_wait()?
        {
            break status;
        }
        tokio::time::sleep(LOOK).await;
    };
    let wall = began.elapsed();
    let read = |path| fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Ok(Watched { status, wall, cpu, peak_bytes, out: read(&out)?, err: read(&err)? })
}

/// The high-water mark of resident memory.
fn peak(id: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

/// User and system time, and whether the process is over.
fn times(id: u32) -> Option<(Duration, bool)> {
    parse_times(&fs::read_to_string(format!("/proc/{id}/stat")).ok()?)
}

/// Linux counts ticks of a hundredth of a second here, on every architecture that it still has.
fn parse_times(stat: &str) -> Option<(Duration, bool)> {
    // The second field is the program's name in parentheses, and may hold anything.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some((Duration::from_millis(ticks * 10), matches!(*fields.first()?, "Z" | "X")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_behind_any_name() {
        let stat = "12 (a ) b) Z 1 1 1 0 -1 4194304 1 0 0 0 150 25 0 0 20 0 1 0 99 0 0";
        assert_eq!(parse_times(stat), Some((Duration::from_millis(1_750), true)));
        assert_eq!(parse_times("12 (x) R 1"), None);
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_process_is_watched_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo done; exit 3"]);
        let watched = watch(command, folder.path()).await.unwrap();
        assert_eq!((watched.status.code(), watched.out.as_str()), (Some(3), "done\n"));
        assert!(watched.cpu.unwrap() >= Duration::from_millis(20), "{:?}", watched.cpu);
        assert!(watched.peak_bytes.unwrap() > 100_000, "{:?}", watched.peak_bytes);
    }
}
