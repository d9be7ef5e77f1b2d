//! Processes that are not, or no longer, our children.

use crate::command::output;
use std::process::Command;
use std::time::{Duration, Instant};

/// How long a server may take to end in order.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often it is looked at meanwhile.
pub(crate) const LOOK: Duration = Duration::from_millis(50);

/// What tells a process from a later one with the same id: when it was started. `None` where there is none.
pub(crate) fn birth(id: u32) -> Option<String> {
    let folder = format!("/proc/{id}/stat");
    if std::path::Path::new("/proc/self/stat").exists() {
        let stat = std::fs::read_to_string(folder).ok()?;
        // The second field is the program's name in parentheses, and may hold anything.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        // A zombie waits for its parent only.
        let alive = !matches!(fields.first(), Some(&("Z" | "X")) | None);
        return fields.get(19).filter(|_| alive).map(|started| (*started).to_owned());
    }
    let said = output(Command::new("ps").args(["-o", "lstart=", "-p", &id.to_string()])).ok()?;
    Some(said.trim().to_owned()).filter(|started| !started.is_empty())
}

/// Sends a signal by its name.
pub(crate) fn signal(id: u32, name: &str) -> Result<(), String> {
    output(Command::new("kill").args(["-s", name, &id.to_string()])).map(drop)
}

/// Ends a process: in order, and when it does not listen, at once.
pub(crate) fn end(id: u32, name: &str, is_gone: &mut dyn FnMut() -> bool) -> Result<(), String> {
    if is_gone() {
        return Ok(());
    }
    // It may end by itself in between; what counts is that it is gone.
    let mut sent = signal(id, name);
    let began = Instant::now();
    let mut killed = false;
    while !is_gone() {
        let late = began.elapsed() > PATIENCE;
        if late && killed && began.elapsed() > PATIENCE * 2 {
            return Err(format!("process {id} does not end: {}", sent.err().unwrap_or_default()));
        }
        if late && !killed {
            sent = signal(id, "KILL");
            killed = true;
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_its_start_and_can_be_ended() {
        assert_eq!(birth(std::process::id()), birth(std::process::id()));
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        let born = birth(child.id());
        assert!(born.is_some());
        end(child.id(), "TERM", &mut || birth(child.id()) != born).unwrap();
        // Nobody has waited for it yet, and still it counts as gone.
        assert_eq!(birth(child.id()), None);
        assert!(!child.wait().unwrap().success());
    }
}
