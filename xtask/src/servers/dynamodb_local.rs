//! Amazon's DynamoDB Local, in memory.

use super::home::remove;
use super::{Home, Server, packages};
use crate::command::{answers, output};
use std::ffi::OsString;
use std::fs;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) struct DynamoDbLocal;

/// What starts it on loopback alone.
const LAUNCHER: &str = include_str!("LoopbackOnly.java");

/// The folder with Amazon's jars.
fn jars(home: &Home) -> Result<PathBuf, String> {
    let libraries = home.package(&packages::DYNAMODB_LOCAL)?.join("package/lib");
    let failed = |error: std::io::Error| format!("{}: {error}", libraries.display());
    for entry in fs::read_dir(&libraries).map_err(failed)? {
        let folder = entry.map_err(failed)?.path();
        if folder.join("DynamoDBLocal.jar").is_file() {
            return Ok(folder);
        }
    }
    Err(format!("the package has no DynamoDBLocal.jar in {}", libraries.display()))
}

fn class_path(folders: &[&Path]) -> Result<OsString, String> {
    let mut entries = Vec::new();
    for folder in folders {
        entries.extend([
            folder.to_path_buf(),
            folder.join("DynamoDBLocal.jar"),
            folder.join("DynamoDBLocal_lib/*"),
        ]);
    }
    std::env::join_paths(entries).map_err(|error| error.to_string())
}

/// The folder with the launcher's class, compiled where this launcher has not been yet.
fn launcher(home: &Home, jars: &Path) -> Result<PathBuf, String> {
    let mut hash = DefaultHasher::new();
    (LAUNCHER, packages::DYNAMODB_LOCAL.version).hash(&mut hash);
    let folder = home.path(&format!("packages/dynamodb-launcher-{:016x}", hash.finish()));
    if folder.is_dir() {
        return Ok(folder);
    }
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    let partial = home.path(&format!("packages/partial-launcher-{}", std::process::id()));
    remove(&partial)?;
    fs::create_dir_all(&partial).map_err(failed)?;
    let source = partial.join("LoopbackOnly.java");
    fs::write(&source, LAUNCHER).map_err(failed)?;
    let mut javac = Command::new("javac");
    javac.arg("-cp").arg(class_path(&[jars])?).arg("-d").arg(&partial).arg(&source);
    output(&mut javac).map_err(|error| format!("its launcher cannot be compiled: {error}"))?;
    fs::rename(&partial, &folder).map_err(failed)?;
    Ok(folder)
}

impl Server for DynamoDbLocal {
    fn name(&self) -> &'static str {
        "dynamodb-local"
    }

    fn title(&self) -> String {
        "DynamoDB Local".to_owned()
    }

    fn variable(&self) -> &'static str {
        "WHIMBREL_TEST_DYNAMODB_ENDPOINT"
    }

    fn install(&self, home: &Home) -> Result<(), String> {
        if !answers("java", &["-version"]) {
            return Err("there is no java".to_owned());
        }
        if !answers("javac", &["-version"]) {
            return Err("there is no javac (a JDK of version 17 or newer is needed)".to_owned());
        }
        launcher(home, &jars(home)?).map(drop)
    }

    fn command(&self, home: &Home, data: &Path, port: u16, bound: bool) -> Result<Command, String> {
        let jars = jars(home)?;
        let mut command = home.command(Path::new("java"), None, bound);
        command.current_dir(data).env("DDB_LOCAL_TELEMETRY", "0").args(["-Xms128m", "-Xmx2g"]);
        let mut native = OsString::from("-Djava.library.path=");
        native.push(jars.join("DynamoDBLocal_lib"));
        command.arg(native).arg("-cp").arg(class_path(&[&launcher(home, &jars)?, &jars])?);
        command.args([
            "LoopbackOnly",
            "-port",
            &port.to_string(),
            "-inMemory",
            "-sharedDb",
            "-disableTelemetry",
        ]);
        Ok(command)
    }
}
