//! `whimbrel demo`

mod sample;

use super::Program;
use super::plan::plan_of;
use super::run::{Ended, Task, conclude, execute};
use crate::args::{RunArgs, SpecArgs, System, Values, VerifyArgs, VerifyDepth};
use crate::failure::{Exit, Result};
use crate::workspace::{Opened, Workspace, open_postgres};
use serde_json::json;
use std::path::{Path, PathBuf};
use whimbrel_engine::journal::{RunKind, now_ms};
use whimbrel_engine::{EngineError, Journal};
use whimbrel_model::RunId;
use whimbrel_report::figures::count;
use whimbrel_spec::resolved::StoreKind;
use whimbrel_store::Store;

/// A migration that comes with whimbrel: the files of its folder under `migrations/`.
struct Bundle {
    name: &'static str,
    sample: Sample,
    /// What changes in the source, in words and as a script, before it is all done once more.
    change: Option<(&'static str, &'static str)>,
    files: &'static [(&'static str, &'static str)],
    /// What else the folder can be tried for: commands, `{}` where the folder stands.
    more: &'static [&'static str],
}

/// How a demo's source comes to hold something.
enum Sample {
    /// The source is PostgreSQL, and a script fills it.
    Script(&'static [&'static str]),
    /// A migration of its own fills the source, out of PostgreSQL that a script fills.
    Migration {
        /// Its name.
        name: &'static str,
        /// Its spec, one of the bundle's files.
        spec: &'static str,
        /// What fills its PostgreSQL.
        script: &'static str,
    },
    /// The source is files, which lie beside the spec.
    Files(&'static [(&'static str, &'static [u8])]),
}

/// The text of a file in a migration's folder.
macro_rules! text {
    ($migration:literal, $name:literal) => {
        include_str!(concat!("../../../../migrations/", $migration, "/", $name))
    };
}

/// The same with its name.
macro_rules! file {
    ($migration:literal, $name:literal) => {
        ($name, text!($migration, $name))
    };
}

static RATEL: Bundle = Bundle {
    name: "ratel",
    sample: Sample::Script(&[text!("ratel", "schema.sql"), text!("ratel", "sample.sql")]),
    change: None,
    files: &[file!("ratel", "ratel.yaml"), file!("ratel", "dynamodb-schema.json")],
    more: &[],
};
static CELLO: Bundle = Bundle {
    name: "cello",
    sample: Sample::Script(&[text!("cello", "schema.sql"), text!("cello", "sample.sql")]),
    change: None,
    files: &[
        file!("cello", "cello.yaml"),
        file!("cello", "dump.yaml"),
        file!("cello", "load.yaml"),
        file!("cello", "repair.yaml"),
        file!("cello", "repair-from-dump.yaml"),
        file!("cello", "sample.yaml"),
        file!("cello", "dynamodb-schema.json"),
    ],
    more: &[
        "by way of a file         whimbrel run {}/dump.yaml --env demo",
        "                         whimbrel run {}/load.yaml --env demo",
        "times that want repair   whimbrel run {}/sample.yaml --create",
        "                         whimbrel plan {}/repair.yaml --env demo --all --diff",
        "                         whimbrel run {}/repair.yaml --env demo --diff",
    ],
};
static CONTRAMATE: Bundle = Bundle {
    name: "contramate",
    sample: Sample::Migration {
        name: "contramate-sample",
        spec: "sample.yaml",
        script: text!("contramate", "sample.sql"),
    },
    change: None,
    files: &[
        file!("contramate", "contramate.yaml"),
        file!("contramate", "schema.sql"),
        file!("contramate", "sample.yaml"),
    ],
    more: &[],
};

static PNI: Bundle = Bundle {
    name: "pni",
    sample: Sample::Script(&[text!("pni", "schema.sql"), text!("pni", "sample.sql")]),
    change: Some((
        "one lesson in twenty, with its passages and questions, and every timestamp",
        text!("pni", "change.sql"),
    )),
    files: &[file!("pni", "pni.yaml")],
    more: &[],
};

/// A file of sample data in a migration's folder, with its path there.
macro_rules! data {
    ($migration:literal, $name:literal) => {
        ($name, include_bytes!(concat!("../../../../migrations/", $migration, "/", $name)).as_slice())
    };
}

static COLLECTIONS: Bundle = Bundle {
    name: "collections",
    sample: Sample::Files(&[
        data!("collections", "data/collections_golden.db"),
        data!("collections", "data/chroma_golden/chroma.sqlite3"),
        data!("collections", "data/chroma_golden/240c2097-0fc0-40a8-9dde-b45a31887d8b/data_level0.bin"),
        data!("collections", "data/chroma_golden/240c2097-0fc0-40a8-9dde-b45a31887d8b/header.bin"),
        data!("collections", "data/chroma_golden/240c2097-0fc0-40a8-9dde-b45a31887d8b/length.bin"),
        data!("collections", "data/chroma_golden/240c2097-0fc0-40a8-9dde-b45a31887d8b/link_lists.bin"),
    ]),
    change: None,
    files: &[file!("collections", "collections.yaml"), file!("collections", "schema.sql")],
    more: &[],
};

/// The report of a demo, in its run's folder.
const REPORT: &str = "report.html";

/// How many tables the database has that are not PostgreSQL's own.
const TABLES: &str = "SELECT count(*) FROM pg_catalog.pg_tables WHERE schemaname = 'public'";
/// How many rows they have, as ANALYZE left it.
const ROWS: &str = "SELECT coalesce(sum(reltuples), 0)::bigint FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'public' AND c.relkind = 'r' AND reltuples > 0";

/// The whole story on embedded databases: source filled, plan, run, verify; where the bundle says so, once more after
/// a part of the source has changed. Goes on where an earlier demo was interrupted.
///
/// # Errors
/// An embedded database does not start, or the run could not begin.
pub async fn demo(program: &Program, system: System) -> Result<Exit> {
    let bundle = match system {
        System::Ratel => &RATEL,
        System::Cello => &CELLO,
        System::Contramate => &CONTRAMATE,
        System::Pni => &PNI,
        System::Collections => &COLLECTIONS,
    };
    let spec = spec_file(bundle)?;
    if let Sample::Migration { name, spec: file, script } = &bundle.sample {
        sample::move_in(program, name, &spec.with_file_name(file), script).await?;
    }
    let mut journal = Journal::open(&program.common.journal)?;
    let lock = journal.lock(bundle.name, Some("demo"))?;
    let mut told = Vec::new();
    let before = match &bundle.sample {
        Sample::Script(scripts) => Before::Fill(scripts),
        Sample::Migration { .. } | Sample::Files(_) => Before::Nothing,
    };
    let mut ended = once(program, bundle, &spec, before, &mut journal).await?;
    if let Some((what, script)) = bundle.change.filter(|_| ended.exit() == Exit::Done) {
        if !program.common.json {
            conclude(program, &ended);
        }
        program.console.say(format!("\nNow the source changes: {what}. Then the same once more.\n"));
        told.push(ended);
        ended = once(program, bundle, &spec, Before::Change(script), &mut journal).await?;
    }
    drop(lock);
    Ok(tell(program, bundle, &journal, &spec, &told, &ended))
}

/// What happens to the source before a run.
#[derive(Clone, Copy)]
enum Before {
    Nothing,
    /// These scripts fill it, unless it is filled.
    Fill(&'static [&'static str]),
    /// This script changes it.
    Change(&'static str),
}

/// Plan, run, verify.
async fn once(
    program: &Program,
    bundle: &Bundle,
    spec: &Path,
    before: Before,
    journal: &mut Journal,
) -> Result<Ended> {
    let (mut id, mut started_ms) = (RunId::generate(), now_ms());
    let unfinished = journal.unfinished(bundle.name, Some("demo"))?;
    if let Some(record) = &unfinished {
        (id, started_ms) = (record.id.clone(), record.started_ms);
    }
    let args = arguments(spec.to_owned(), Some(journal.run_folder(&id).join(REPORT)));
    let workspace = Workspace::load(&args.spec, Some((&id, started_ms))).await?;
    let mut opened = workspace.nothing_opened();
    let prepared = match before {
        Before::Nothing => Ok(()),
        Before::Fill(scripts) => fill(program, &scripts.join("\n"), &workspace, &mut opened).await,
        Before::Change(script) => change(script, &workspace, &mut opened).await,
    };
    opened.hide(prepared)?;
    let opened = workspace.open_into(opened).await?;
    let task = match unfinished {
        Some(record) => {
            program
                .console
                .say(format!("An earlier demo was interrupted; its run {} goes on.", record.id.short()));
            Task::Resume { record: Box::new(record), accept_spec: true }
        }
        None => Task::Begin(RunKind::Run),
    };
    let ended = story(program, &args, &workspace, &opened, journal, id, task).await;
    opened.close().await;
    ended
}

async fn story(
    program: &Program,
    args: &RunArgs,
    workspace: &Workspace,
    opened: &Opened,
    journal: &mut Journal,
    id: RunId,
    task: Task,
) -> Result<Ended> {
    if matches!(task, Task::Begin(_)) {
        let migration = opened.prepare(workspace.resolved.clone(), &program.common).await?;
        let plan = opened.hide(plan_of(&migration, false, None, None).await)?;
        program.console.say(whimbrel_report::plan(&plan, program.console.paint()));
        opened.hide(whimbrel_report::keep_plan(&migration, Some(&plan), &journal.run_folder(&id)))?;
    }
    execute(program, args, workspace, opened, journal, id, task).await
}

fn arguments(spec: PathBuf, report: Option<PathBuf>) -> RunArgs {
    let values = Values { env: Some("demo".to_owned()), ..Values::default() };
    RunArgs {
        spec: SpecArgs { spec, only: Vec::new(), values },
        create: true,
        clean: false,
        backup: false,
        limit: None,
        diff: false,
        new: false,
        rehearse: false,
        verify: VerifyArgs { verify: Some(VerifyDepth::All), report: Vec::from_iter(report) },
    }
}

/// The spec in the present folder where this is a checkout, so that it can be read and changed; else a copy of
/// what was built in.
fn spec_file(bundle: &Bundle) -> Result<PathBuf> {
    let name = format!("{}.yaml", bundle.name);
    let here = Path::new("migrations").join(bundle.name).join(&name);
    if here.is_file() {
        return Ok(here);
    }
    let folder = Path::new("data").join(format!("{}-spec", bundle.name));
    let data = match &bundle.sample {
        Sample::Files(files) => *files,
        Sample::Script(_) | Sample::Migration { .. } => &[],
    };
    let write = || -> std::io::Result<()> {
        let texts = bundle.files.iter().map(|(name, text)| (*name, text.as_bytes()));
        for (name, bytes) in texts.chain(data.iter().copied()) {
            let path = folder.join(name);
            std::fs::create_dir_all(path.parent().unwrap_or(&folder))?;
            std::fs::write(path, bytes)?;
        }
        Ok(())
    };
    write().map_err(|source| EngineError::file("write", &folder, source))?;
    Ok(folder.join(name))
}

/// Creates the source's tables and fills them, unless that was done before. One transaction: a demo that is
/// killed here leaves an empty database.
async fn fill(
    program: &Program,
    script: &str,
    workspace: &Workspace,
    opened: &mut Opened,
) -> std::result::Result<(), EngineError> {
    for resolved in workspace.resolved.stores.values().filter(|store| store.kind == StoreKind::Postgres) {
        let store = open_postgres(resolved, opened, false).await?;
        if store.query_scalar_i64(TABLES).await? == Some(0) {
            program.console.say(format!("Filling {} with sample data.", store.location()));
            store.execute_script(script).await?;
        } else {
            let rows =
                store.query_scalar_i64(ROWS).await?.and_then(|rows| u64::try_from(rows).ok()).unwrap_or(0);
            program.console.say(format!(
                "{} is there already, with about {} rows; delete data/ to begin anew.",
                store.location(),
                count(rows)
            ));
        }
        store.close().await;
    }
    Ok(())
}

/// Changes the source, in one transaction.
async fn change(
    script: &str,
    workspace: &Workspace,
    opened: &mut Opened,
) -> std::result::Result<(), EngineError> {
    for resolved in workspace.resolved.stores.values().filter(|store| store.kind == StoreKind::Postgres) {
        let store = open_postgres(resolved, opened, false).await?;
        store.execute_script(script).await?;
        store.close().await;
    }
    Ok(())
}

fn tell(
    program: &Program,
    bundle: &Bundle,
    journal: &Journal,
    spec: &Path,
    before: &[Ended],
    ended: &Ended,
) -> Exit {
    let folder = journal.run_folder(&RunId::new(ended.summary.run.as_str()));
    let exit = ended.exit();
    if program.common.json {
        let report = folder.join(REPORT).display().to_string();
        let mut value = json!({ "run": ended.summary, "verify": ended.verification, "report": report });
        if !before.is_empty() {
            let runs: Vec<_> = before.iter().map(|ended| &ended.summary).collect();
            value["before"] = json!(runs);
        }
        program.console.result(&value, "");
        return exit;
    }
    conclude(program, ended);
    if matches!(exit, Exit::Done | Exit::Rejects) {
        let beside = spec.parent().unwrap_or(Path::new(".")).display().to_string();
        let more: String =
            bundle.more.iter().map(|line| format!("\n  {}", line.replace("{}", &beside))).collect();
        let spec = spec.display();
        let file = ended.summary.rejects.file.as_deref();
        let rejects = file.map(|file| format!("\n  what did not arrive      {file}")).unwrap_or_default();
        program.console.say(format!(
            "Where to look next:
  the spec                 {spec}
  the report               {}
  the run's log, summary   {}{rejects}
  the same in steps        whimbrel plan {spec} --env demo --all
                           whimbrel run {spec} --env demo --verify
                           whimbrel verify {spec} --env demo{more}
  pull the plug            kill -9 a run at any moment, then `whimbrel resume`
  your own databases       the README beside the spec",
            folder.join(REPORT).display(),
            folder.display()
        ));
    }
    exit
}
