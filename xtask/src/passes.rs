//! Every test: on embedded databases, then on real servers.

use crate::command::{answers, cargo, cargo_with, say};
use crate::servers::{self, Home, Lent, Server};

/// Set to anything but `0`, the tests use embedded databases only.
const WITHOUT_SERVERS: &str = "WHIMBREL_WITHOUT_SERVERS";

/// What a server that cannot be had means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gaps {
    /// It is said, and the rest is tested.
    Say,
    /// The task fails: a gap that nobody notices is no test.
    Fail,
}

impl Gaps {
    /// Where `CI` is set, a gap is a failure.
    pub(crate) fn of_this_machine() -> Self {
        if std::env::var_os("CI").is_some_and(|value| !value.is_empty()) { Self::Fail } else { Self::Say }
    }
}

/// Tests that are run once more, on these servers together.
struct Pass {
    servers: &'static [&'static str],
    targets: &'static [Target],
}

/// A test target that knows the servers' variables.
struct Target {
    package: &'static str,
    name: &'static str,
    /// Which of its tests use a server, in nextest's words; `None` is all. The others would only take their time
    /// again.
    tests: Option<&'static str>,
}

impl Target {
    /// Its tests, as a filter set of nextest.
    fn set(&self) -> String {
        let Self { package, name, tests } = self;
        format!("(package({package}) & binary({name}) & ({}))", tests.unwrap_or("all()"))
    }
}

const POSTGRES: Target = Target { package: "whimbrel-postgres", name: "postgres", tests: None };
const DYNAMODB: Target = Target { package: "whimbrel-dynamodb", name: "main", tests: None };
/// Whole programs on servers have a module of their own; a wrong password is an error like others.
const PROGRAM: Target = Target {
    package: "whimbrel",
    name: "end_to_end",
    tests: Some("test(/^servers::/) | test(=errors::a_wrong_password)"),
};

/// Values and users of AWS.
const AWS: Target =
    Target { package: "whimbrel-aws", name: "values", tests: Some("test(that_speaks_the_whole_api)") };

const PASSES: &[Pass] = &[
    Pass {
        servers: &["postgres-16", "dynamodb-local", "moto", "chroma", "ministack"],
        targets: &[POSTGRES, DYNAMODB, PROGRAM, AWS],
    },
    Pass { servers: &["postgres-18"], targets: &[POSTGRES] },
];

/// Runs the tests; `args` go to the runner and choose among them.
///
/// The embedded pass needs nothing but the toolchain. Servers are installed before it, so that what is missing is
/// known early, and started after it.
pub(crate) fn run(args: &[String], gaps: Gaps) -> Result<(), String> {
    let runner = Runner::of_this_machine();
    let (available, left_out) = if without_servers() {
        say(&format!("left out: every server, as {WITHOUT_SERVERS} is set"));
        (None, Vec::new())
    } else {
        installed()
    };
    for reason in &left_out {
        say(&format!("left out: {reason}"));
    }
    if gaps == Gaps::Fail && !left_out.is_empty() {
        return Err(format!("a server is missing; {WITHOUT_SERVERS}=1 tests without any"));
    }
    runner.documentation()?;
    runner.pass(args, &[], &[])?;
    if let Some((home, available)) = available {
        for pass in PASSES {
            let servers: Vec<_> =
                available.iter().copied().filter(|server| pass.servers.contains(&server.name())).collect();
            if !servers.is_empty() {
                on_servers(runner, &home, pass, &servers, args)?;
            }
        }
    }
    // Once more at the end, where it is seen.
    for reason in &left_out {
        say(&format!("left out: {reason}"));
    }
    Ok(())
}

fn without_servers() -> bool {
    std::env::var(WITHOUT_SERVERS).is_ok_and(|value| !value.is_empty() && value != "0")
}

type Available = (Home, Vec<&'static dyn Server>);

/// The servers that can be had, and why the others cannot.
fn installed() -> (Option<Available>, Vec<String>) {
    let home = match Home::open() {
        Ok(home) => home,
        Err(reason) => return (None, vec![format!("every server: {reason}")]),
    };
    let (mut available, mut left_out) = (Vec::new(), Vec::new());
    for server in servers::TABLE {
        match home.install(*server) {
            Ok(()) => available.push(*server),
            Err(reason) => left_out.push(format!("{}: {reason}", server.title())),
        }
    }
    (Some((home, available)), left_out)
}

fn on_servers(
    runner: Runner,
    home: &Home,
    pass: &Pass,
    servers: &[&'static dyn Server],
    args: &[String],
) -> Result<(), String> {
    let mut running = Vec::new();
    for server in servers {
        // One that installs and does not start is a failure, never a gap.
        running.push(Lent::borrow_or_start(home, *server)?);
    }
    let urls: Vec<_> = running.iter().map(|lent| (lent.server.variable(), Some(lent.url.as_str()))).collect();
    let names: Vec<_> = servers.iter().map(|server| server.title()).collect();
    say(&format!("on {}:", names.join(" and ")));
    runner.pass(args, pass.targets, &urls)
}

/// What runs tests here.
#[derive(Clone, Copy)]
enum Runner {
    Nextest,
    /// Cargo alone.
    Cargo,
}

impl Runner {
    fn of_this_machine() -> Self {
        if answers("cargo", &["nextest", "--version"]) { Self::Nextest } else { Self::Cargo }
    }

    /// nextest knows no documentation tests.
    fn documentation(self) -> Result<(), String> {
        match self {
            Self::Nextest => cargo(&["test", "--workspace", "--locked", "--doc", "--quiet"], &[]),
            Self::Cargo => Ok(()),
        }
    }

    /// Runs the tests of some targets, or all. Always the whole workspace as it was built for the first pass: a
    /// selection of packages would be built anew, with other features.
    fn pass(
        self,
        args: &[String],
        targets: &[Target],
        urls: &[(&'static str, Option<&str>)],
    ) -> Result<(), String> {
        let mut environment: Vec<_> = servers::TABLE.iter().map(|server| (server.variable(), None)).collect();
        environment.extend(urls);
        let mut chosen = Vec::new();
        let line = match self {
            Self::Nextest => {
                if !targets.is_empty() {
                    chosen.push("--no-tests=pass".to_owned());
                }
                if !targets.is_empty() && args.is_empty() {
                    let sets = targets.iter().map(Target::set);
                    chosen.extend(["-E".to_owned(), sets.collect::<Vec<_>>().join(" | ")]);
                }
                ["nextest", "run", "--workspace", "--locked"].as_slice()
            }
            Self::Cargo => {
                chosen
                    .extend(targets.iter().flat_map(|target| ["--test".to_owned(), target.name.to_owned()]));
                ["test", "--workspace", "--locked"].as_slice()
            }
        };
        chosen.extend_from_slice(args);
        cargo_with(line, &chosen, &environment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pass_names_servers_that_there_are() {
        for name in PASSES.iter().flat_map(|pass| pass.servers) {
            assert!(servers::named(name).is_ok(), "{name}");
        }
        // Two servers of one variable would hide each other.
        for pass in PASSES {
            let mut variables: Vec<_> =
                pass.servers.iter().map(|name| servers::named(name).unwrap().variable()).collect();
            variables.sort_unstable();
            variables.dedup();
            assert_eq!(variables.len(), pass.servers.len());
        }
    }

    #[test]
    fn a_target_is_a_filter_set() {
        assert_eq!(POSTGRES.set(), "(package(whimbrel-postgres) & binary(postgres) & (all()))");
    }
}
