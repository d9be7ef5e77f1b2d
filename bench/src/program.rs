//! Whimbrel itself: a run of a spec, and what it came to.

use crate::Result;
use crate::process::{Watched, bound_to_us, watch};
use crate::route::{Bench, Figures, Outcome};
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Runs a spec in a folder, with a journal of its own; `name` tells the runs of one folder apart.
///
/// # Errors
/// The program cannot be started.
pub(crate) async fn run(bench: &Bench, folder: &Path, name: &str, spec: &str) -> Result<Watched> {
    let path = folder.join(format!("{name}.yaml"));
    fs::write(&path, spec)?;
    let mut command: Command = bound_to_us(&bench.whimbrel);
    command.args(["run", "--create", "--json", "--no-progress", "--journal"]);
    command.arg(folder.join(format!("journal-{name}"))).arg(&path).current_dir(folder);
    bare(&mut command, folder);
    watch(command, folder).await
}

/// Copies one place to another, with a journal in the folder.
///
/// # Errors
/// The program cannot be started.
pub(crate) async fn copy(bench: &Bench, folder: &Path, from: &str, to: &str) -> Result<Watched> {
    let mut command: Command = bound_to_us(&bench.whimbrel);
    command.args(["copy", from, to, "--json", "--no-progress", "--journal"]);
    command.arg(folder.join("journal-copy")).current_dir(folder);
    bare(&mut command, folder);
    watch(command, folder).await
}

/// Nothing of this machine's configuration is to count.
fn bare(command: &mut Command, folder: &Path) {
    command.env_clear().env("HOME", folder).env("AWS_EC2_METADATA_DISABLED", "true");
    command.envs(std::env::vars_os().filter(|(name, _)| name == "PATH" || name == "TMPDIR"));
    command.env("AWS_ACCESS_KEY_ID", "bench").env("AWS_SECRET_ACCESS_KEY", "bench");
}

/// What a run came to: every row must have arrived.
///
/// # Errors
/// Its summary cannot be read.
pub(crate) fn judge(watched: &Watched, rows: u64) -> Result<Outcome> {
    match watched.status.code() {
        Some(0) => {}
        Some(2) => return Ok(Outcome::Refused(last_error(&watched.err))),
        _ => return Ok(Outcome::Failed(format!("{}: {}", watched.status, last_error(&watched.err)))),
    }
    let summary: Value = serde_json::from_str(&watched.out)?;
    let count = |name: &str| summary["totals"][name].as_u64().unwrap_or_default();
    let arrived: u64 = ["created", "updated", "unchanged"].into_iter().map(count).sum();
    if count("read") != rows || arrived != rows {
        let totals = &summary["totals"];
        return Ok(Outcome::Failed(format!("{rows} rows were to arrive, the totals are {totals}")));
    }
    let seconds = summary["seconds"].as_f64().ok_or("the summary has no seconds")?;
    Ok(Outcome::Done(Figures {
        run: Duration::try_from_secs_f64(seconds)?,
        wall: watched.wall,
        cpu: watched.cpu,
        peak_bytes: watched.peak_bytes,
    }))
}

/// The counts of a run.
///
/// # Errors
/// Its summary cannot be read.
pub(crate) fn totals(watched: &Watched) -> Result<Value> {
    let mut summary: Value = serde_json::from_str(&watched.out)?;
    Ok(summary["totals"].take())
}

/// The error that whimbrel has said, in one line.
pub(crate) fn last_error(err: &str) -> String {
    let error = err.lines().rev().find_map(|line| line.strip_prefix("error: "));
    error.or(err.lines().last()).unwrap_or("it says nothing").to_owned()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt as _;

    fn watched(code: i32, out: &str, err: &str) -> Watched {
        Watched {
            status: std::process::ExitStatus::from_raw(code << 8),
            wall: Duration::from_secs(2),
            cpu: None,
            peak_bytes: None,
            out: out.to_owned(),
            err: err.to_owned(),
        }
    }

    #[test]
    fn a_run_counts_only_where_every_row_arrived() {
        let out = r#"{"totals": {"read": 5, "created": 3, "updated": 1, "unchanged": 1}, "seconds": 0.5}"#;
        let Outcome::Done(figures) = judge(&watched(0, out, ""), 5).unwrap() else { panic!("done") };
        assert_eq!(figures.run, Duration::from_millis(500));
        assert!(matches!(judge(&watched(0, out, ""), 6).unwrap(), Outcome::Failed(_)));
        assert!(matches!(judge(&watched(3, out, "error: x"), 5).unwrap(), Outcome::Failed(_)));
        let Outcome::Refused(why) = judge(&watched(2, "", "x\nerror: not yet\nhint: y"), 5).unwrap() else {
            panic!("refused")
        };
        assert_eq!(why, "not yet");
    }
}
