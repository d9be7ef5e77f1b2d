//! `cargo xtask bench`: builds what is measured and what measures, starts the source, and leaves the rest to
//! `whimbrel-bench`.

use crate::command::{bound_to_us, cargo};
use crate::servers::{self, Home, Lent};
use std::path::{Path, PathBuf};

const SOURCE: &str = "postgres-16";

/// What is for us; everything else goes on.
struct Options {
    profile: String,
    /// The source keeps running, filled, for the next time.
    keep: bool,
    rest: Vec<String>,
}

impl Options {
    fn read(args: &[String]) -> Result<Self, String> {
        let mut options = Self { profile: "release".to_owned(), keep: false, rest: Vec::new() };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--keep" => options.keep = true,
                "--profile" => options.profile = args.next().ok_or("--profile takes a name")?.clone(),
                other => match other.strip_prefix("--profile=") {
                    Some(profile) => options.profile = profile.to_owned(),
                    None => options.rest.push(arg.clone()),
                },
            }
        }
        Ok(options)
    }

    /// The folder of a profile, beside that of the one we were built with.
    fn folder(&self, ours: &Path) -> Option<PathBuf> {
        let name = if self.profile == "dev" { "debug" } else { &self.profile };
        Some(ours.parent()?.parent()?.join(name))
    }
}

pub(crate) fn run(args: &[String]) -> Result<(), String> {
    let options = Options::read(args)?;
    // Both at once, so that they share what they are made of.
    let build =
        ["build", "--locked", "--profile", &options.profile, "-p", "whimbrel", "-p", "whimbrel-bench"];
    cargo(&build, &[])?;
    let ours = std::env::current_exe().map_err(|error| error.to_string())?;
    let folder = options.folder(&ours).ok_or("the folder of what was built cannot be found")?;
    let program = |name: &str| folder.join(name).with_extension(std::env::consts::EXE_EXTENSION);
    let home = Home::open()?;
    let server = servers::named(SOURCE)?;
    home.install(server)?;
    if options.keep {
        servers::keep(&home, server)?;
    }
    let source = Lent::borrow_or_start(&home, server)?;
    let mut bench = bound_to_us(&program("whimbrel-bench").to_string_lossy());
    bench.args(["run", "--postgres", &source.url, "--whimbrel"]).arg(program("whimbrel")).args(&options.rest);
    let status = bench.status().map_err(|error| format!("whimbrel-bench: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("whimbrel-bench: {status}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_for_us_goes_on() {
        let args = ["upsert", "--profile", "dev", "--rows", "5", "--keep"].map(str::to_owned);
        let options = Options::read(&args).unwrap();
        assert_eq!((options.profile.as_str(), options.keep), ("dev", true));
        assert_eq!(options.rest, ["upsert", "--rows", "5"]);
        assert_eq!(options.folder(Path::new("/t/debug/xtask")), Some(PathBuf::from("/t/debug")));
        let release = Options::read(&[]).unwrap();
        assert_eq!(release.folder(Path::new("/t/debug/xtask")), Some(PathBuf::from("/t/release")));
        assert!(Options::read(&["--profile".to_owned()]).is_err());
    }
}
