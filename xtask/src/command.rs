//! Running other programs.

use std::process::{Command, Stdio};

/// Runs cargo in the foreground, with variables set (`Some`) or removed (`None`).
pub(crate) fn cargo_with(
    args: &[&str],
    more: &[String],
    environment: &[(&str, Option<&str>)],
) -> Result<(), String> {
    let line = std::iter::once("cargo").chain(args.iter().copied()).chain(more.iter().map(String::as_str));
    let line = line.collect::<Vec<_>>().join(" ");
    say(&format!("$ {line}"));
    let mut command = bound_to_us("cargo");
    command.args(args).args(more);
    // Cargo tells us of our own package. Build scripts look at that, too: with it they, and all that depends on them,
    // would be built again whenever cargo is called by hand between two of our calls.
    let of_package = |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    names.filter(|name| of_package(name)).for_each(|name| {
        command.env_remove(name);
    });
    for (name, value) in environment {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let status = command.status().map_err(|error| format!("{line}: {error}"))?;
    if status.success() { Ok(()) } else { Err(line) }
}

/// Runs cargo in the foreground.
pub(crate) fn cargo(args: &[&str], more: &[String]) -> Result<(), String> {
    cargo_with(args, more, &[])
}

/// Whether a program is there and answers to these arguments.
pub(crate) fn answers(program: &str, args: &[&str]) -> bool {
    Command::new(program).args(args).output().is_ok_and(|out| out.status.success())
}

/// A program that ends with us, also where we are killed: on Linux the kernel sees to it.
pub(crate) fn bound_to_us(program: &str) -> Command {
    if !answers("setpriv", &["--version"]) {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--", program]);
    command
}

/// Runs a program to its end and answers with its standard output; where it fails, what it said, cut.
pub(crate) fn output(command: &mut Command) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let done = command.stdin(Stdio::null()).output().map_err(|error| format!("{program}: {error}"))?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&done.stderr).into_owned() + &String::from_utf8_lossy(&done.stdout);
    Err(format!("{program} {}: {}", done.status, cut(&said)))
}

/// The first two and the last two lines of a text, in one: some programs begin with the reason, others end with it. Warnings
/// are left out.
pub(crate) fn cut(text: &str) -> String {
    let tells = |line: &&str| !line.is_empty() && !line.starts_with("WARNING: ");
    let lines: Vec<&str> = text.lines().map(str::trim).filter(tells).collect();
    if lines.len() <= 4 {
        return lines.join(" / ");
    }
    format!("{} / … / {}", lines[..2].join(" / "), lines[lines.len() - 2..].join(" / "))
}

/// Tells whoever started the task.
#[expect(clippy::print_stderr, reason = "a task talks to the one who started it")]
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}

/// A result, for whoever reads standard output.
#[expect(clippy::print_stdout, reason = "results go to standard output")]
pub(crate) fn answer(text: &str) {
    println!("{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_program_is_quoted() {
        let failed = output(Command::new("cargo").arg("no-such-command-at-all")).unwrap_err();
        assert!(failed.starts_with("cargo ") && failed.contains("no-such-command-at-all"), "{failed}");
        assert!(output(Command::new("cargo").arg("--version")).unwrap().starts_with("cargo "));
    }

    #[test]
    fn a_long_text_keeps_its_beginning_and_its_end() {
        assert_eq!(cut("one\nWARNING: x\n  two \n"), "one / two");
        assert_eq!(cut("1\n2\n3\n4\n5\n6"), "1 / 2 / … / 5 / 6");
        assert_eq!(cut(""), "");
    }
}
