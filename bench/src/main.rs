//! How fast whimbrel is, beside what its source and its target could do at most: `cargo xtask bench` builds and
//! starts this.
//!
//! Whimbrel and each target are processes of their own, so that their memory and processor time are theirs alone.
//! Limits are measured in the same run, on the same machine and the same data, since figures of another day say
//! little.

mod accept;
mod changed;
mod chroma_to_postgres;
mod connection;
mod copy;
mod dynamodb_to_postgres;
mod hammer;
mod items;
mod load;
mod pace;
mod partitions;
mod peer;
mod postgres_to_dynamodb;
mod postgres_to_file;
mod process;
mod program;
mod replay;
mod report;
mod route;
mod scan;
mod serve;
mod sqlite_to_postgres;
mod template;

use clap::{Parser, Subcommand};
use route::{Bench, Measurement};
use std::path::PathBuf;
use std::process::ExitCode;

/// What goes wrong here is said once, to a person.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[derive(Parser)]
#[command(name = "whimbrel-bench", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measures routes
    Run(Run),
    /// Serves the DynamoDB API on 127.0.0.1 until standard input ends; prints its URL
    Serve {
        /// What answers
        #[arg(value_enum)]
        server: serve::Kind,
        /// The port; 0 takes a free one
        #[arg(long, default_value_t = 0)]
        port: u16,
        /// Items that its table holds from the start; a replay has a table in any case
        #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(..=1_000_000_000))]
        items: u64,
    },
}

#[derive(clap::Args)]
struct Run {
    /// Routes whose names contain one of these texts; all where there is none
    routes: Vec<String>,
    /// The same; may stand several times
    #[arg(long = "route", value_name = "TEXT")]
    route: Vec<String>,
    /// Lists the routes instead
    #[arg(long = "routes")]
    list: bool,
    /// Records that are moved
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    rows: u64,
    /// The whimbrel that is measured
    #[arg(long, value_name = "PATH")]
    whimbrel: PathBuf,
    /// A native PostgreSQL server, in which the databases `whimbrel_bench` and `whimbrel_bench_target` are made
    #[arg(long, value_name = "URL")]
    postgres: String,
    /// Prints one JSON object
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Serve { server, port, items } => serve::serve(server, port, items),
        Command::Run(arguments) => run(arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Run) -> Result<()> {
    let chosen: Vec<_> = route::TABLE
        .iter()
        .filter(|route| {
            let (name, mut texts) =
                (route.name(), arguments.routes.iter().chain(&arguments.route).peekable());
            texts.peek().is_none() || texts.any(|text| name.contains(text.as_str()))
        })
        .collect();
    if arguments.list || chosen.is_empty() {
        route::TABLE.iter().for_each(|route| answer(&route.name()));
        return if arguments.list { Ok(()) } else { Err("no route has such a name; these are there".into()) };
    }
    let whimbrel = arguments.whimbrel.canonicalize();
    let whimbrel = whimbrel.map_err(|error| format!("{}: {error}", arguments.whimbrel.display()))?;
    let mut bench = Bench {
        rows: arguments.rows,
        whimbrel,
        postgres: arguments.postgres,
        source: None,
        full_write: None,
    };
    // Processes are started by this thread alone: they end with it, see `process`.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let measured = runtime.block_on(async {
        let mut measured: Vec<Measurement> = Vec::new();
        for route in chosen {
            say(&format!("measuring {} …", route.name()));
            measured.push(route.measure(&mut bench).await?);
        }
        Result::Ok(measured)
    })?;
    if arguments.json {
        answer(&report::json(bench.rows, &measured).to_string());
    } else {
        answer(&report::table(bench.rows, &measured));
    }
    if measured.iter().any(|measurement| matches!(measurement.outcome, route::Outcome::Failed(_))) {
        return Err("a route failed".into());
    }
    Ok(())
}

#[expect(clippy::print_stderr, reason = "what goes on is told on standard error")]
fn say(text: &str) {
    eprintln!("{text}");
}

#[expect(clippy::print_stdout, reason = "results go to standard output")]
fn answer(text: &str) {
    println!("{text}");
}
