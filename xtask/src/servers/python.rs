//! Servers that are packages of Python: two that stand for AWS, and Chroma's own.

use super::packages::{self, Package};
use super::{Home, Server};
use crate::command::answers;
use std::path::Path;
use std::process::Command;

/// A server that `python3` runs out of a package.
pub(crate) struct PythonServer {
    name: &'static str,
    title: &'static str,
    variable: &'static str,
    package: &'static Package,
    /// Adds what it is started with: the command, its folder, its port on 127.0.0.1.
    start: fn(&mut Command, &Path, &str),
}

/// The services of AWS that values and permissions are asked of.
pub(crate) const MOTO: PythonServer = PythonServer {
    name: "moto",
    title: "moto (AWS)",
    variable: "WHIMBREL_TEST_AWS_ENDPOINT",
    package: &packages::MOTO,
    start: |command, _, port| {
        command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", port]);
    },
};

/// It judges each request by the IAM policies of whoever signed it, resource by resource, which moto does not.
pub(crate) const MINISTACK: PythonServer = PythonServer {
    name: "ministack",
    title: "MiniStack (AWS with IAM)",
    variable: "WHIMBREL_TEST_IAM_ENDPOINT",
    package: &packages::MINISTACK,
    start: |command, data, port| {
        command.args(["-m", "ministack"]).env("BIND_HOST", "127.0.0.1").env("GATEWAY_PORT", port);
        // Without this nobody is refused anything.
        command.env("AUTH", "true");
        command.env("PERSIST_STATE", "0").env("STATE_DIR", data);
    },
};

/// Collections that are read over HTTP.
pub(crate) const CHROMA: PythonServer = PythonServer {
    name: "chroma",
    title: "Chroma",
    variable: "WHIMBREL_TEST_CHROMA_URL",
    package: &packages::CHROMA,
    start: |command, data, port| {
        command
            .env("ANONYMIZED_TELEMETRY", "False")
            .args(["-c", SERVE_CHROMA, "--path"])
            .arg(data.join("db"));
        command.args(["--host", "127.0.0.1", "--port", port]);
    },
};

/// The server is a function of the extension module; nothing else of the package, and nothing that it depends on, is
/// needed to call it.
const SERVE_CHROMA: &str =
    "import sys, chromadb_rust_bindings; chromadb_rust_bindings.cli(['chroma', 'run', *sys.argv[1:]])";

impl Server for PythonServer {
    fn name(&self) -> &'static str {
        self.name
    }

    fn title(&self) -> String {
        self.title.to_owned()
    }

    fn variable(&self) -> &'static str {
        self.variable
    }

    fn install(&self, home: &Home) -> Result<(), String> {
        if !answers("python3", &["--version"]) {
            return Err("there is no python3".to_owned());
        }
        home.package(self.package).map(drop)
    }

    fn command(&self, home: &Home, data: &Path, port: u16, bound: bool) -> Result<Command, String> {
        let packages = home.package(self.package)?;
        let mut command = home.command(Path::new("python3"), None, bound);
        command.current_dir(data).env("PYTHONPATH", packages);
        (self.start)(&mut command, data, &port.to_string());
        Ok(command)
    }
}
