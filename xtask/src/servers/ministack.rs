//! MiniStack: it judges each request by the IAM policies of whoever signed it, resource by resource, which moto does not.

use super::{Home, Server, packages};
use crate::command::answers;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Command;

pub(crate) struct MiniStack;

impl Server for MiniStack {
    fn name(&self) -> &'static str {
        "ministack"
    }

    fn title(&self) -> String {
        "MiniStack (AWS with IAM)".to_owned()
    }

    fn variable(&self) -> &'static str {
        "WHIMBREL_TEST_IAM_ENDPOINT"
    }

    fn install(&self, home: &Home) -> Result<(), String> {
        if !answers("python3", &["--version"]) {
            return Err("there is no python3".to_owned());
        }
        home.package(&packages::MINISTACK).map(drop)
    }

    fn prepare(&self, _: &Home, _: &Path) -> Result<(), String> {
        Ok(())
    }

    fn command(&self, home: &Home, data: &Path, port: u16, bound: bool) -> Result<Command, String> {
        let packages = home.package(&packages::MINISTACK)?;
        let mut command = home.command(Path::new("python3"), None, bound);
        command.current_dir(data).env("PYTHONPATH", packages).args(["-m", "ministack"]);
        // Without this nobody is refused anything.
        command.env("AUTH", "true");
        command.env("BIND_HOST", "127.0.0.1").env("GATEWAY_PORT", port.to_string());
        command.env("PERSIST_STATE", "0").env("STATE_DIR", data);
        Ok(command)
    }

    fn url(&self, port: u16) -> String {
        format!("http://127.0.0.1:{port}")
    }

    fn is_ready(&self, _: &Home, port: u16) -> bool {
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
    }

    fn stop_signal(&self) -> &'static str {
        "TERM"
    }
}
