//! Other programs that do the same, started in the same run.

use crate::process::{bound_to_us, watch};
use crate::{Result, say};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Names another folder for what peers are made of.
const VARIABLE: &str = "WHIMBREL_BENCH_HOME";
/// Stands in a folder when all of it is there, and says of what it is made.
const STAMP: &str = "made-of";

/// A script of ours, and the packages of Python that it needs.
pub(crate) struct Script {
    /// Its name, and that of the folder with its packages.
    pub(crate) name: &'static str,
    pub(crate) text: &'static str,
    pub(crate) packages: &'static [&'static str],
}

/// ADBC's drivers, from SQLite into PostgreSQL.
pub(crate) const ADBC: Script = Script {
    name: "adbc",
    text: include_str!("../peers/adbc.py"),
    packages: &["adbc-driver-postgresql==1.13.0", "adbc-driver-sqlite==1.13.0", "pyarrow"],
};
const LANGCHAIN_PACKAGES: &[&str] = &["chromadb==1.5.9", "langchain-postgres==0.0.19", "psycopg[binary]"];
/// langchain-postgres, from Chroma into PostgreSQL.
pub(crate) const LANGCHAIN: Script =
    Script { name: "langchain", text: include_str!("../peers/langchain.py"), packages: LANGCHAIN_PACKAGES };
/// Chroma itself, to make what is read.
pub(crate) const FILL_CHROMA: Script =
    Script { name: "langchain", text: include_str!("../peers/fill_chroma.py"), packages: LANGCHAIN_PACKAGES };

impl Script {
    /// What it says on standard output; `None`, said on standard error, where this machine cannot have it or where it
    /// fails.
    ///
    /// # Errors
    /// A file cannot be written, a process not be started.
    pub(crate) async fn run(&self, folder: &Path, arguments: &[&str]) -> Result<Option<String>> {
        let python = match self.python() {
            Ok(python) => python,
            Err(reason) => {
                say(&format!("left out: {}: {reason}", self.name));
                return Ok(None);
            }
        };
        let path = folder.join(format!("peer-{}.py", self.name));
        fs::write(&path, self.text)?;
        let mut command = bound_to_us(&python);
        command.arg(&path).args(arguments).current_dir(folder).env("ANONYMIZED_TELEMETRY", "False");
        let watched = watch(command, folder).await?;
        if watched.status.success() {
            return Ok(Some(watched.out));
        }
        let last = watched.err.lines().last().unwrap_or_default();
        say(&format!("left out: {}: {}: {last}", self.name, watched.status));
        Ok(None)
    }

    /// Records a second, by the clock of a script that says how many it has moved in how many seconds.
    ///
    /// # Errors
    /// As [`Script::run`]; the script says something else, or another number of records.
    pub(crate) async fn rate(&self, folder: &Path, rows: u64, arguments: &[&str]) -> Result<Option<f64>> {
        let Some(said) = self.run(folder, arguments).await? else { return Ok(None) };
        let (moved, seconds) = parse(&said).ok_or_else(|| format!("{} says `{}`", self.name, said.trim()))?;
        if moved == rows {
            Ok(Some(per_second(rows, seconds)))
        } else {
            Err(format!("{} has moved {moved} records of {rows}", self.name).into())
        }
    }

    /// The Python that has the packages, installed now where they are not.
    fn python(&self) -> Result<PathBuf> {
        let folder = home()?.join(self.name);
        let (stamp, wanted) = (folder.join(STAMP), self.packages.join(" "));
        let python = folder.join("bin").join("python");
        if fs::read_to_string(&stamp).is_ok_and(|made_of| made_of == wanted) {
            return Ok(python);
        }
        say(&format!("installing {wanted} into {} …", folder.display()));
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        finish(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        finish(Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(self.packages))?;
        fs::write(stamp, wanted)?;
        Ok(python)
    }
}

fn finish(command: &mut Command) -> Result<()> {
    let done = command.output()?;
    let err = String::from_utf8_lossy(&done.stderr);
    let last = err.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    if done.status.success() { Ok(()) } else { Err(format!("{}: {last}", done.status).into()) }
}

/// Rows and seconds.
fn parse(said: &str) -> Option<(u64, f64)> {
    let (rows, seconds) = said.trim().split_once(' ')?;
    Some((rows.parse().ok()?, seconds.parse().ok()?))
}

/// Records a second.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(crate) fn per_second(rows: u64, seconds: f64) -> f64 {
    rows as f64 / seconds.max(1e-9)
}

/// The folder that outlives a measurement: `$HOME/.cache/whimbrel-bench`.
///
/// # Errors
/// There is no home.
pub(crate) fn home() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
        return Ok(PathBuf::from(named));
    }
    let home = std::env::var_os("HOME").ok_or_else(|| format!("HOME or {VARIABLE} is expected"))?;
    Ok(PathBuf::from(home).join(".cache").join("whimbrel-bench"))
}

/// Whether a program can be started.
pub(crate) fn is_there(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|said| said.status.success())
}

/// How long `psql` takes for a command of its own, from its start to its end; `None` where it is not there.
///
/// # Errors
/// It fails.
pub(crate) async fn psql(folder: &Path, url: &str, asked: &str) -> Result<Option<Duration>> {
    if !is_there("psql") {
        say("left out: psql is not there");
        return Ok(None);
    }
    let mut command = bound_to_us(Path::new("psql"));
    command.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-c", asked, url]).current_dir(folder);
    let watched = watch(command, folder).await?;
    if watched.status.success() {
        return Ok(Some(watched.wall));
    }
    Err(format!("psql: {}: {}", watched.status, watched.err.lines().next().unwrap_or_default()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_says_rows_and_seconds() {
        assert_eq!(parse("2000 0.5\n"), Some((2_000, 0.5)));
        assert_eq!(parse("none"), None);
        assert!((per_second(2_000, 0.5) - 4_000.0).abs() < 1e-6);
    }
}
