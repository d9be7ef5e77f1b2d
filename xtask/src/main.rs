//! The project's own tasks: `cargo xtask TASK`.

use std::process::{Command, ExitCode};

const USAGE: &str = "cargo xtask TASK

  test [ARGS]    runs every test, with nextest where it is installed; ARGS go to it
  check          what must be clean before a change lands: format, clippy, then the tests";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let task = args.next();
    let rest: Vec<String> = args.collect();
    let done = match task.as_deref() {
        Some("test") => test(&rest),
        Some("check") => check(&rest),
        _ => {
            say(USAGE);
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failed) => {
            say(&format!("failed: {failed}"));
            ExitCode::FAILURE
        }
    }
}

/// Every test of the workspace. The whole of it needs nothing but the toolchain: the databases are linked in.
fn test(args: &[String]) -> Result<(), String> {
    let has_nextest =
        Command::new("cargo").args(["nextest", "--version"]).output().is_ok_and(|out| out.status.success());
    if has_nextest {
        // nextest knows no documentation tests.
        cargo(&["test", "--workspace", "--locked", "--doc", "--quiet"], &[])?;
        return cargo(&["nextest", "run", "--workspace", "--locked"], args);
    }
    cargo(&["test", "--workspace", "--locked"], args)
}

fn check(args: &[String]) -> Result<(), String> {
    cargo(&["fmt", "--all", "--check"], &[])?;
    cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"], &[])?;
    test(args)
}

fn cargo(args: &[&str], more: &[String]) -> Result<(), String> {
    let line = format!("cargo {}", args.join(" "));
    say(&format!("$ {line}"));
    let status =
        Command::new("cargo").args(args).args(more).status().map_err(|error| format!("{line}: {error}"))?;
    if status.success() { Ok(()) } else { Err(line) }
}

#[expect(clippy::print_stderr, reason = "a task talks to the one who started it")]
fn say(text: &str) {
    eprintln!("{text}");
}
