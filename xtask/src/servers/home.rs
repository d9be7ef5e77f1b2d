//! The folder that packages and data lie in, and the user that servers run as where we are root.

use super::Server;
use super::packages::Package;
use crate::command::{answers, bound_to_us, output, say};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Names another folder for packages and data.
const VARIABLE: &str = "WHIMBREL_SERVERS_HOME";

/// Where servers are installed and keep their data.
pub(crate) struct Home {
    root: PathBuf,
    us: u32,
}

/// Somebody who is not root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) id: u32,
    pub(crate) group: u32,
}

impl Home {
    /// Finds or makes the folder: `$HOME/.cache/whimbrel/servers`, or one below `/var/tmp` where we are root and
    /// others may not enter root's home, since a server that refuses root could not reach it.
    pub(crate) fn open() -> Result<Self, String> {
        if cfg!(not(unix)) {
            return Err("servers are installed on Unix systems only".to_owned());
        }
        let us = number(&["-u"])?;
        let root = match std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
            Some(named) => PathBuf::from(named),
            None => default_root(us)?,
        };
        fs::create_dir_all(&root).map_err(|error| format!("{}: {error}", root.display()))?;
        let home = Self { root, us };
        home.check_owner()?;
        make_public(&home.root)?;
        Ok(home)
    }

    /// Below `/var/tmp` somebody else could have made the folder, to have us start what lies there.
    #[cfg(unix)]
    fn check_owner(&self) -> Result<(), String> {
        use std::os::unix::fs::MetadataExt as _;
        let metadata = fs::symlink_metadata(&self.root);
        let metadata = metadata.map_err(|error| format!("{}: {error}", self.root.display()))?;
        if metadata.is_dir() && metadata.uid() == self.us {
            return Ok(());
        }
        Err(format!("{} is not a folder of ours; {VARIABLE} can name another", self.root.display()))
    }

    #[cfg(not(unix))]
    fn check_owner(&self) -> Result<(), String> {
        Err(format!("user {} cannot be compared", self.us))
    }

    /// A folder or file below this one.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Installs a server where that has not been done yet.
    pub(crate) fn install(&self, server: &dyn Server) -> Result<(), String> {
        let lock = self.path("install.lock");
        let lock = fs::File::create(&lock).map_err(|error| format!("{}: {error}", lock.display()))?;
        // Two tasks at once would get into each other's way; released when the file is closed.
        lock.lock().map_err(|error| format!("the installation cannot be locked: {error}"))?;
        server.install(self)
    }

    /// A package's folder; fetched and unpacked where it is not there in this version.
    pub(crate) fn package(&self, package: &Package) -> Result<PathBuf, String> {
        let folder = self.path(&format!("packages/{}-{}", package.name, package.version));
        if folder.is_dir() {
            return Ok(folder);
        }
        say(&format!("installing {} {} into {}", package.name, package.version, folder.display()));
        // Made aside and renamed, so that a folder that is there is complete.
        let partial = self.path(&format!("packages/partial-{}", std::process::id()));
        remove(&partial)?;
        fs::create_dir_all(&partial).map_err(|error| format!("{}: {error}", partial.display()))?;
        let fetched = package.fetch(&partial).and_then(|()| {
            output(Command::new("chmod").args(["-R", "a+rX"]).arg(&partial))?;
            fs::rename(&partial, &folder).map_err(|error| format!("{}: {error}", folder.display()))
        });
        if fetched.is_err() {
            remove(&partial)?;
        }
        fetched.map(|()| folder)
    }

    /// The user for servers that refuse root: `None` where we are somebody else anyway.
    pub(crate) fn lesser_user(&self) -> Result<Option<User>, String> {
        if self.us != 0 {
            return Ok(None);
        }
        if !answers("setpriv", &["--version"]) {
            return Err("it refuses root, and there is no setpriv to start it as somebody else".to_owned());
        }
        let user =
            |name: &str| Some(User { id: number(&["-u", name]).ok()?, group: number(&["-g", name]).ok()? });
        match user("postgres").or_else(|| user("nobody")) {
            Some(user) => Ok(Some(user)),
            None => Err("it refuses root, and there is neither a user postgres nor a user nobody".to_owned()),
        }
    }

    /// A program as we are, or as that user. `bound`: it ends with us.
    pub(crate) fn command(&self, program: &Path, user: Option<User>, bound: bool) -> Command {
        let Some(user) = user else {
            return if bound { bound_to_us(&program.to_string_lossy()) } else { Command::new(program) };
        };
        let mut command = Command::new("setpriv");
        command.arg(format!("--reuid={}", user.id)).arg(format!("--regid={}", user.group));
        command.arg("--clear-groups");
        if bound {
            command.args(["--pdeathsig", "TERM"]);
        }
        command.arg("--").arg(program);
        command
    }
}

fn default_root(us: u32) -> Result<PathBuf, String> {
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    let cache = home.map(|home| home.join(".cache/whimbrel/servers"));
    if let Some(cache) = cache.filter(|cache| us != 0 || others_may_enter(cache)) {
        return Ok(cache);
    }
    let shared = Some(PathBuf::from("/var/tmp")).filter(|folder| folder.is_dir());
    let shared = shared.unwrap_or_else(std::env::temp_dir);
    if others_may_enter(&shared) {
        return Ok(shared.join(format!("whimbrel-servers-{us}")));
    }
    Err(format!("there is no folder that others may enter; {VARIABLE} can name one"))
}

/// Whether every folder on the way that exists lets everybody pass.
#[cfg(unix)]
fn others_may_enter(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    let passes = |folder: &Path| fs::metadata(folder).map_or(true, |data| data.permissions().mode() & 1 != 0);
    path.ancestors().filter(|folder| !folder.as_os_str().is_empty()).all(passes)
}

#[cfg(not(unix))]
fn others_may_enter(_: &Path) -> bool {
    true
}

#[cfg(unix)]
fn make_public(folder: &Path) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt as _;
    let public = fs::Permissions::from_mode(0o755);
    fs::set_permissions(folder, public).map_err(|error| format!("{}: {error}", folder.display()))
}

#[cfg(not(unix))]
fn make_public(_: &Path) -> Result<(), String> {
    Ok(())
}

/// Gives a folder to a user.
#[cfg(unix)]
pub(crate) fn give(folder: &Path, user: User) -> Result<(), String> {
    std::os::unix::fs::chown(folder, Some(user.id), Some(user.group))
        .map_err(|error| format!("{}: {error}", folder.display()))
}

#[cfg(not(unix))]
pub(crate) fn give(folder: &Path, _: User) -> Result<(), String> {
    Err(format!("{} cannot be given away", folder.display()))
}

/// Removes a folder, if it is there.
pub(crate) fn remove(folder: &Path) -> Result<(), String> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("{} cannot be removed: {error}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// What `id` says of us or of a user.
fn number(args: &[&str]) -> Result<u32, String> {
    let said = output(Command::new("id").args(args))?;
    said.trim().parse().map_err(|_| format!("id {} says {said:?}", args.join(" ")))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_closed_folder_on_the_way_is_noticed() {
        let closed = std::env::temp_dir().join(format!("whimbrel-xtask-{}", std::process::id()));
        fs::create_dir_all(&closed).unwrap();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
        assert!(!others_may_enter(&closed.join("servers/not/there/yet")));
        remove(&closed).unwrap();
        remove(&closed).unwrap();
        assert!(others_may_enter(Path::new("/")));
    }

    #[test]
    fn a_lesser_user_is_asked_for_by_number() {
        let home = Home { root: "/nowhere".into(), us: 0 };
        let command = home.command(Path::new("/bin/true"), Some(User { id: 7, group: 8 }), true);
        let args: Vec<_> = command.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect();
        assert_eq!(
            args,
            ["--reuid=7", "--regid=8", "--clear-groups", "--pdeathsig", "TERM", "--", "/bin/true"]
        );
        let us = Home { root: "/nowhere".into(), us: 1000 };
        assert_eq!(us.lesser_user(), Ok(None));
        assert_eq!(us.command(Path::new("/bin/true"), None, false).get_program(), "/bin/true");
    }
}
