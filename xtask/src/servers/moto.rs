//! moto: the services of AWS that values and permissions are asked of.

use super::{Home, Server, packages};
use crate::command::answers;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Command;

pub(crate) struct Moto;

impl Server for Moto {
    fn name(&self) -> &'static str {
        "moto"
    }

    fn title(&self) -> String {
        "moto (AWS)".to_owned()
    }

    fn variable(&self) -> &'static str {
        "WHIMBREL_TEST_AWS_ENDPOINT"
    }

    fn install(&self, home: &Home) -> Result<(), String> {
        if !answers("python3", &["--version"]) {
            return Err("there is no python3".to_owned());
        }
        home.package(&packages::MOTO).map(drop)
    }

    fn prepare(&self, _: &Home, _: &Path) -> Result<(), String> {
        Ok(())
    }

    fn command(&self, home: &Home, data: &Path, port: u16, bound: bool) -> Result<Command, String> {
        let packages = home.package(&packages::MOTO)?;
        let mut command = home.command(Path::new("python3"), None, bound);
        command.current_dir(data).env("PYTHONPATH", packages);
        command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port.to_string()]);
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
