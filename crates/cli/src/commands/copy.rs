//! `whimbrel copy`: a spec is made of what is typed, and run.

mod draft;
mod look;
mod sample;
mod tables;

use super::Program;
use super::run::{Task, conclude, execute};
use crate::args::{CopyArgs, RunArgs, SpecArgs, Values};
use crate::failure::{Exit, Failure, Result};
use crate::store_url::Place;
use crate::workspace::{Opened, Workspace};
use draft::{Draft, standard_name};
use serde_json::json;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use whimbrel_engine::journal::{RunKind, now_ms};
use whimbrel_engine::{EngineError, Journal};
use whimbrel_model::RunId;
use whimbrel_spec::parse;

/// The file that keeps the spec of a copy, in the folder of its run.
const SPEC: &str = "copy.yaml";

/// Copies records from one place to another, or prints the spec that would do it.
///
/// # Errors
/// A place cannot be read, a store does not answer, or the run could not begin.
pub async fn copy(program: &Program, args: &CopyArgs) -> Result<Exit> {
    let draft = Draft::new(args)?;
    refuse_streams(program, args, &draft)?;
    if args.spec {
        return print(program, args, draft).await;
    }
    let (id, started_ms) = (RunId::generate(), now_ms());
    let mut journal = Journal::open(&program.common.journal)?;
    let _lock = journal.lock(&draft.migration(), None)?;
    if !args.new {
        refuse_unfinished(&journal, &draft)?;
    }
    let folder = journal.run_folder(&id);
    let folder = std::path::absolute(&folder).unwrap_or(folder);
    if draft.from == Place::Standard {
        keep_input(&folder, &standard_name("stdin", draft.from_format.as_deref()))?;
    }
    let copy = Copy { program, args, path: folder.join(SPEC), run: Some((id.clone(), started_ms)) };
    let (draft, opened) = copy.prepare(draft, true).await?;
    let text = draft.text(true);
    if let Some(script) = draft.tables.as_ref().and_then(|tables| tables.script.as_ref()) {
        let path = folder.join(tables::SCRIPT);
        write(&path, script.as_bytes()).map_err(|source| EngineError::file("write", &path, source))?;
    }
    write(&copy.path, text.as_bytes()).map_err(|source| EngineError::file("write", &copy.path, source))?;
    let workspace = copy.workspace(&draft, &text).await?;
    let begun = begin(&copy, &draft, &workspace, opened, &mut journal, id).await;
    begun.map_err(|failure| failure.without_place(&copy.path))
}

/// One copy, with what is needed again and again.
struct Copy<'a> {
    program: &'a Program,
    args: &'a CopyArgs,
    /// Where its spec lies, or would.
    path: PathBuf,
    run: Option<(RunId, i64)>,
}

impl Copy<'_> {
    /// Asks the stores what the spec must say; they stay open.
    async fn prepare(&self, mut draft: Draft, anywhere: bool) -> Result<(Draft, Opened)> {
        let workspace = self.workspace(&draft, &draft.text(anywhere)).await?;
        let opened = workspace.open().await.map_err(|failure| failure.without_place(&self.path))?;
        let asked = self.ask(&mut draft, &workspace, &opened, anywhere).await;
        match asked {
            Ok(()) => Ok((draft, opened)),
            Err(failure) => {
                let failure = failure.hiding(&workspace.resolved.secrets).without_place(&self.path);
                opened.close().await;
                Err(failure)
            }
        }
    }

    async fn ask(
        &self,
        draft: &mut Draft,
        workspace: &Workspace,
        opened: &Opened,
        anywhere: bool,
    ) -> Result<()> {
        if let Some(mut tables) = draft.tables.take() {
            let looked = tables.look(draft, opened, !self.args.no_create).await;
            draft.tables = Some(tables);
            return Ok(looked?);
        }
        let described = look::columns(draft, workspace, opened).await?;
        let workspace = self.workspace(draft, &draft.text(anywhere)).await?;
        look::key(draft, &workspace, opened, described, !self.args.no_create).await?;
        Ok(())
    }

    async fn workspace(&self, draft: &Draft, text: &str) -> Result<Workspace> {
        let loaded = async {
            let spec = parse(text, &self.path)?;
            let run = self.run.as_ref().map(|(id, started_ms)| (id, *started_ms));
            Workspace::of(spec, &self.spec_args(draft), run).await
        };
        loaded.await.map_err(|failure: Failure| failure.without_place(&self.path))
    }

    fn spec_args(&self, draft: &Draft) -> SpecArgs {
        let values = Values {
            env: None,
            set: draft.passwords(),
            aws_profile: self.args.aws_profile.clone(),
            region: self.args.region.clone(),
        };
        SpecArgs { spec: self.path.clone(), only: Vec::new(), values }
    }

    fn run_args(&self, draft: &Draft) -> RunArgs {
        RunArgs {
            spec: self.spec_args(draft),
            create: !self.args.no_create,
            clean: false,
            backup: false,
            limit: self.args.limit,
            diff: false,
            new: self.args.new,
            rehearse: false,
            verify: self.args.verify.clone(),
        }
    }
}

/// `--spec`: nothing is kept, nothing is written.
async fn print(program: &Program, args: &CopyArgs, draft: Draft) -> Result<Exit> {
    let copy = Copy { program, args, path: PathBuf::from(SPEC), run: None };
    let (draft, opened) = copy.prepare(draft, false).await?;
    opened.close().await;
    let mut text = draft.text(false);
    if let Some(tables) = &draft.tables {
        text.push_str(&tables.script_as_comment());
    }
    program.console.print(&json!({ "migration": draft.migration(), "spec": text }), &text);
    Ok(Exit::Done)
}

/// Runs the spec as `whimbrel run` would.
async fn begin(
    copy: &Copy<'_>,
    draft: &Draft,
    workspace: &Workspace,
    opened: Opened,
    journal: &mut Journal,
    id: RunId,
) -> Result<Exit> {
    let program = copy.program;
    for note in &draft.notes {
        program.console.say(note);
    }
    let opened = workspace.open_into(opened).await?;
    let task = Task::Begin(RunKind::Run);
    let ended = execute(program, &copy.run_args(draft), workspace, &opened, journal, id, task).await;
    opened.close().await;
    let ended = ended?;
    if draft.from == Place::Standard && ended.exit() == Exit::Done {
        // All of it is elsewhere now.
        let path = copy.path.with_file_name(standard_name("stdin", draft.from_format.as_deref()));
        std::fs::remove_file(&path).map_err(|source| EngineError::file("remove", &path, source))?;
    }
    if draft.into == Place::Standard && matches!(ended.exit(), Exit::Done | Exit::Rejects | Exit::Differences)
    {
        let name = standard_name("stdout", draft.into_format.as_deref());
        let path = copy.path.with_file_name(name);
        pour(&path).map_err(|source| EngineError::file("read", &path, source))?;
    }
    Ok(conclude(program, &ended))
}

fn refuse_unfinished(journal: &Journal, draft: &Draft) -> Result<()> {
    match journal.unfinished(&draft.migration(), None)? {
        None => Ok(()),
        Some(unfinished) => Err(EngineError::refused(
            format!("an unfinished copy of the same names is there: {}", unfinished.id),
            format!(
                "`whimbrel resume {}` goes on with it; `copy --new` sets it aside and begins anew",
                unfinished.id.short()
            ),
        )
        .into()),
    }
}

/// Standard streams do not go with everything.
fn refuse_streams(program: &Program, args: &CopyArgs, draft: &Draft) -> Result<()> {
    let (from, into) = (draft.from == Place::Standard, draft.into == Place::Standard);
    let refusal = match (from, into) {
        (false, false) => return Ok(()),
        _ if args.spec => ("a spec cannot say `-`", "name a file; the spec can be changed afterwards"),
        (_, true) if program.common.json => {
            ("the records and `--json` both go to standard output", "leave `--json` out, or name a file")
        }
        _ => return Ok(()),
    };
    Err(EngineError::refused(refusal.0, refusal.1).into())
}

/// Standard input is kept in the run's folder, so that the copy can be resumed.
fn keep_input(folder: &Path, name: &str) -> std::result::Result<(), EngineError> {
    let path = folder.join(name);
    let keep = || -> std::io::Result<()> {
        std::fs::create_dir_all(folder)?;
        let mut file = File::create(&path)?;
        std::io::copy(&mut std::io::stdin().lock(), &mut file)?;
        file.sync_all()
    };
    keep().map_err(|source| EngineError::file("write", &path, source))
}

/// What stood in for standard output goes there, and away. A reader that has gone wants no more.
fn pour(path: &Path) -> std::io::Result<()> {
    let mut file = File::open(path)?;
    let mut output = std::io::stdout().lock();
    match std::io::copy(&mut file, &mut output).and_then(|_| output.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error),
        _ => std::fs::remove_file(path),
    }
}

fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
