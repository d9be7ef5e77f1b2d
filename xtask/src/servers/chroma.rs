//! Chroma's own server, for reading collections over HTTP.

use super::{Home, Server, packages};
use crate::command::answers;
use std::path::Path;
use std::process::Command;

/// The server is a function of the extension module; nothing else of the package, and nothing that it depends on, is
/// needed to call it.
const SERVE: &str =
    "import sys, chromadb_rust_bindings; chromadb_rust_bindings.cli(['chroma', 'run', *sys.argv[1:]])";

pub(crate) struct Chroma;

impl Server for Chroma {
    fn name(&self) -> &'static str {
        "chroma"
    }

    fn title(&self) -> String {
        "Chroma".to_owned()
    }

    fn variable(&self) -> &'static str {
        "WHIMBREL_TEST_CHROMA_URL"
    }

    fn install(&self, home: &Home) -> Result<(), String> {
        if !answers("python3", &["--version"]) {
            return Err("there is no python3".to_owned());
        }
        home.package(&packages::CHROMA).map(drop)
    }

    fn prepare(&self, _: &Home, _: &Path) -> Result<(), String> {
        Ok(())
    }

    fn command(&self, home: &Home, data: &Path, port: u16, bound: bool) -> Result<Command, String> {
        let packages = home.package(&packages::CHROMA)?;
        let mut command = home.command(Path::new("python3"), None, bound);
        command.current_dir(data).env("PYTHONPATH", packages).env("ANONYMIZED_TELEMETRY", "False");
        command.args(["-c", SERVE, "--path"]).arg(data.join("db"));
        command.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
        Ok(command)
    }

    fn url(&self, port: u16) -> String {
        format!("http://127.0.0.1:{port}")
    }

    fn is_ready(&self, _: &Home, port: u16) -> bool {
        std::net::TcpStream::connect((std::net::Ipv4Addr::LOCALHOST, port)).is_ok()
    }

    fn stop_signal(&self) -> &'static str {
        "TERM"
    }
}
