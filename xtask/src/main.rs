//! The project's own tasks: `cargo xtask TASK`.

mod bench;
mod command;
mod passes;
mod servers;

use command::{cargo, say};
use passes::Gaps;
use std::process::ExitCode;

const USAGE: &str = "cargo xtask TASK

  test [ARGS]      runs every test, with nextest where it is installed: on embedded databases, then those that talk
                   to a database on real servers, which are installed and started for it; ARGS choose among the tests
  check            what must be clean before a change lands: format, clippy, then the tests, with every server
  servers start|stop|status|url [NAME…]
                   real servers on loopback, to work against
  bench [ROUTE…] [--rows N] [--profile NAME] [--keep] [--json]
                   how fast whimbrel is, beside what source and target could do at most, measured in the same run";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let task = args.next();
    let rest: Vec<String> = args.collect();
    let done = match task.as_deref() {
        Some("test") => passes::run(&rest, Gaps::of_this_machine()),
        Some("check") => check(&rest),
        Some("servers") => servers::run(&rest),
        Some("bench") => bench::run(&rest),
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

fn check(args: &[String]) -> Result<(), String> {
    cargo(&["fmt", "--all", "--check"], &[])?;
    cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"], &[])?;
    passes::run(args, Gaps::Fail)
}
