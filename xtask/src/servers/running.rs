//! Starting and stopping: servers that are lent to one task, and servers that are kept.

use super::home::remove;
use super::process::{LOOK, birth, end};
use super::{Home, Server};
use crate::command::{cut, say};
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take to answer.
const READY_WITHIN: Duration = Duration::from_secs(90);
/// A free port may be taken by somebody else before the server has it.
const ATTEMPTS: usize = 3;

/// A server that goes on without us.
pub(crate) struct Kept {
    pub(crate) id: u32,
    pub(crate) url: String,
}

/// The kept server, where it is running.
pub(crate) fn find(home: &Home, server: &dyn Server) -> Option<Kept> {
    let state = fs::read_to_string(state_file(home, server)).ok()?;
    let mut lines = state.lines();
    let (id, born, url) = (lines.next()?.parse().ok()?, lines.next()?, lines.next()?);
    (birth(id)? == born).then(|| Kept { id, url: url.to_owned() })
}

/// Starts a server that goes on without us, where it is not running yet; answers with its URL.
pub(crate) fn keep(home: &Home, server: &'static dyn Server) -> Result<String, String> {
    let lock = home.path(&format!("{}.lock", server.name()));
    let lock = fs::File::create(&lock).map_err(|error| format!("{}: {error}", lock.display()))?;
    lock.lock().map_err(|error| format!("{} cannot be locked: {error}", server.name()))?;
    if let Some(kept) = find(home, server) {
        return Ok(kept.url);
    }
    let data = home.path(&format!("data/kept-{}", server.name()));
    let (child, url) = launch(home, server, &data, false)?;
    let born = birth(child.id()).ok_or_else(|| format!("{} has ended at once", server.title()))?;
    let file = state_file(home, server);
    fs::write(&file, format!("{}\n{born}\n{url}\n", child.id()))
        .map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(url)
}

/// Stops a kept server and removes its data; `false` where it was not running.
pub(crate) fn stop(home: &Home, server: &dyn Server) -> Result<bool, String> {
    let kept = find(home, server);
    if let Some(kept) = &kept {
        let born = birth(kept.id);
        end(kept.id, server.stop_signal(), &mut || birth(kept.id) != born)?;
    }
    let file = state_file(home, server);
    if let Err(error) = fs::remove_file(&file)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        return Err(format!("{}: {error}", file.display()));
    }
    remove(&home.path(&format!("data/kept-{}", server.name())))?;
    Ok(kept.is_some())
}

fn state_file(home: &Home, server: &dyn Server) -> PathBuf {
    home.path(&format!("{}.state", server.name()))
}

/// A server for the time of one task: the kept one where there is one, else one that ends with this value.
pub(crate) struct Lent {
    pub(crate) server: &'static dyn Server,
    pub(crate) url: String,
    own: Option<(Child, PathBuf)>,
}

impl Lent {
    /// Takes the kept server or starts one.
    pub(crate) fn borrow_or_start(home: &Home, server: &'static dyn Server) -> Result<Self, String> {
        if let Some(kept) = find(home, server) {
            return Ok(Self { server, url: kept.url, own: None });
        }
        sweep(home)?;
        let data = home.path(&format!("data/lent-{}-{}", std::process::id(), server.name()));
        let (child, url) = launch(home, server, &data, true)?;
        Ok(Self { server, url, own: Some((child, data)) })
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some((child, data)) = &mut self.own else { return };
        let ended = end(child.id(), self.server.stop_signal(), &mut || !matches!(child.try_wait(), Ok(None)));
        if let Err(error) = ended.and_then(|()| remove(data)) {
            say(&format!("{}: {error}", self.server.title()));
        }
    }
}

/// Removes the data of tasks that were killed.
fn sweep(home: &Home) -> Result<(), String> {
    let Ok(entries) = fs::read_dir(home.path("data")) else { return Ok(()) };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let Some(owner) = name.strip_prefix("lent-").and_then(|rest| rest.split('-').next()?.parse().ok())
        else {
            continue;
        };
        if birth(owner).is_none() {
            remove(&path)?;
        }
    }
    Ok(())
}

/// Starts a server over an empty folder and waits until it answers.
fn launch(home: &Home, server: &dyn Server, data: &Path, bound: bool) -> Result<(Child, String), String> {
    let mut last = String::new();
    for _ in 0..ATTEMPTS {
        remove(data)?;
        fs::create_dir_all(data).map_err(|error| format!("{}: {error}", data.display()))?;
        server.prepare(home, data).map_err(|error| format!("{}: {error}", server.title()))?;
        let port = free_port().map_err(|error| format!("there is no free port: {error}"))?;
        let mut child = spawn(home, server, data, port, bound)?;
        match wait(home, server, &mut child, port) {
            Ok(()) => return Ok((child, server.url(port))),
            Err(error) => {
                // Whatever it is doing, it is of no use any more.
                let _ = child.kill();
                let _ = child.wait();
                let said = fs::read(data.join("server.log")).unwrap_or_default();
                last = format!("{error}: {}", cut(&String::from_utf8_lossy(&said)));
            }
        }
    }
    remove(data)?;
    Err(format!("{} does not start: {last}", server.title()))
}

fn spawn(home: &Home, server: &dyn Server, data: &Path, port: u16, bound: bool) -> Result<Child, String> {
    let log = fs::File::create(data.join("server.log"));
    let log = log.and_then(|log| Ok((log.try_clone()?, log)));
    let (out, err) = log.map_err(|error| format!("{}: {error}", data.display()))?;
    let mut command = server.command(home, data, port, bound)?;
    command.stdin(Stdio::null()).stdout(out).stderr(err);
    #[cfg(unix)]
    if !bound {
        use std::os::unix::process::CommandExt as _;
        // What ends this terminal's foreground does not end it.
        command.process_group(0);
    }
    command.spawn().map_err(|error| format!("{} does not start: {error}", server.title()))
}

fn wait(home: &Home, server: &dyn Server, child: &mut Child, port: u16) -> Result<(), String> {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait().map_err(|error| error.to_string())? {
            return Err(format!("it has ended with {status}"));
        }
        if server.is_ready(home, port) {
            return Ok(());
        }
        if began.elapsed() > READY_WITHIN {
            return Err(format!("it does not answer within {} s", READY_WITHIN.as_secs()));
        }
        std::thread::sleep(LOOK);
    }
}

/// A port of 127.0.0.1 that nobody listens on.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
