//! The program `whimbrel`.

mod args;
mod aws;
mod changes;
mod commands;
mod confirm;
mod console;
mod created_values;
mod disk;
mod display;
mod due;
#[cfg(feature = "embedded")]
mod embedded;
mod failure;
mod log;
mod metrics;
mod prompt;
mod proof;
mod rehearsal;
mod rows;
mod status;
mod store_url;
mod warnings;
mod workspace;

use crate::args::{Cli, Command};
use crate::commands::Program;
use crate::console::Console;
use crate::failure::{Exit, Result};
use crate::log::Log;
use clap::Parser;

/// Batches are made on one thread and freed on another, which this allocator does at half the price of the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ! {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        // clap prints help on standard output with 0, and a wrong usage on standard error with 2.
        Err(error) => error.exit(),
    };
    let console = Console::new(&cli.common);
    let json = cli.common.json;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let exit = match &runtime {
        Ok(runtime) => runtime.block_on(dispatch(cli, console)).unwrap_or_else(|failure| {
            if json {
                console.result(&failure.json(), "");
            }
            Console::insist(failure.text());
            failure.exit()
        }),
        Err(error) => {
            Console::insist(format!("error: the operating system gives no threads: {error}"));
            Exit::Failed
        }
    };
    // Not by taking the runtime down: idle connections and embedded servers' tasks are not waited for, and the threads
    // need not give their memory back one by one before all of it goes.
    std::process::exit(exit.into())
}

async fn dispatch(cli: Cli, console: Console) -> Result<Exit> {
    let log = Log::start(&cli.common);
    let program = Program { common: cli.common, console, log };
    match cli.command {
        Command::Demo { system } => demo(&program, system).await,
        Command::Check(spec) => commands::check::check(&program, &spec).await,
        Command::Plan { spec, all, diff, limit } => {
            commands::plan::plan(&program, &spec, &commands::plan::Look { all, diff, limit }).await
        }
        Command::Create(create) => commands::create::create(&program, &create).await,
        Command::Policy(policy) => commands::policy::policy_command(&program, &policy).await,
        Command::Clean(spec) => commands::clean::clean(&program, &spec).await,
        Command::Run(run) => commands::run::run(&program, &run).await,
        Command::Copy(copy) => commands::copy::copy(&program, &copy).await,
        Command::Resume { run, accept_spec, verify, values } => {
            commands::resume::resume(&program, run.as_deref(), accept_spec, verify, &values).await
        }
        Command::Status { run, values } => commands::status::status(&program, run.as_deref(), &values).await,
        Command::List => commands::list::list(&program),
        Command::Retry { run, accept_spec, verify, values } => {
            commands::resume::retry(&program, &run, accept_spec, verify, &values).await
        }
        Command::Undo { run, values } => commands::undo::undo(&program, &run, &values).await,
        Command::Verify(verify) => commands::verify::verify(&program, &verify).await,
        Command::Query(query) => commands::query::query(&program, &query).await,
        Command::Report { run, out } => commands::report::report(&program, run.as_deref(), &out),
        Command::Schema => commands::schema::schema(&program),
    }
}

#[cfg(feature = "embedded")]
async fn demo(program: &Program, system: args::System) -> Result<Exit> {
    commands::demo::demo(program, system).await
}

#[cfg(not(feature = "embedded"))]
async fn demo(_: &Program, _: args::System) -> Result<Exit> {
    Err(whimbrel_engine::EngineError::refused(
        "this whimbrel was built without embedded databases",
        "build it with the feature `embedded`",
    )
    .into())
}
