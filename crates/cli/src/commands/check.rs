//! `whimbrel check`

mod account;
mod journal;
mod needs;

use super::Program;
use crate::args::SpecArgs;
use crate::created_values;
use crate::failure::{Exit, Failure, Result};
use crate::workspace::{Opened, Workspace};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use whimbrel_engine::migration::ScanFlow;
use whimbrel_engine::{Journal, Migration, ownership};
use whimbrel_model::{Fidelity, StoreName};
use whimbrel_spec::Redactor;
use whimbrel_store::Finding;

/// What was found, by what was looked at.
#[derive(Debug, Serialize)]
struct Checked {
    ok: bool,
    /// The spec itself: it could be read, and every value was found.
    spec: Vec<Finding>,
    /// Where the run's memory is kept.
    journal: Vec<Finding>,
    /// Each store: who am I, connection, version, each permission.
    stores: BTreeMap<String, Vec<Finding>>,
    /// Each flow: whether its records fit its table, and whose that is.
    flows: BTreeMap<String, Vec<Finding>>,
}

impl Checked {
    fn sections(&self) -> impl Iterator<Item = (&str, &Vec<Finding>)> {
        [("spec", &self.spec), ("journal", &self.journal)]
            .into_iter()
            .chain(self.stores.iter().chain(&self.flows).map(|(name, findings)| (name.as_str(), findings)))
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Finding> {
        let own = self.spec.iter_mut().chain(&mut self.journal);
        own.chain(self.stores.values_mut().flatten()).chain(self.flows.values_mut().flatten())
    }
}

/// Looks whether a run could begin. Exit 1 where something is in the way. Writes nothing, anywhere.
///
/// # Errors
/// The spec is wrong.
pub async fn check(program: &Program, args: &SpecArgs) -> Result<Exit> {
    let workspace = Workspace::preview(args).await?;
    let opened = workspace.open().await?;
    let mut checked = look(program, &workspace, &opened, args).await;
    opened.close().await;
    hide(&mut checked, &workspace.resolved.secrets);
    let ok = checked.all().all(|finding| finding.ok);
    checked.ok = ok;
    program.console.print(&checked, text(&checked));
    Ok(if checked.ok { Exit::Done } else { Exit::Failed })
}

async fn look(program: &Program, workspace: &Workspace, opened: &Opened, args: &SpecArgs) -> Checked {
    let resolved = &workspace.resolved;
    let environment =
        resolved.environment.as_deref().map(|name| format!(", environment `{name}`")).unwrap_or_default();
    let (stores, flows) = (resolved.stores.len(), resolved.flows.len());
    let mut checked = Checked {
        ok: true,
        spec: vec![Finding::good(format!(
            "{}: migration `{}`{environment}, {flows} flows, {stores} stores; every value that they need is there",
            resolved.path.display(),
            resolved.migration
        ))],
        journal: Vec::new(),
        stores: BTreeMap::new(),
        flows: BTreeMap::new(),
    };
    checked.spec.extend(created_values::stood_in(resolved).map(Finding::good));
    let mut all_well = true;
    for (name, store) in &opened.stores {
        let mut found = store.check().await;
        if found.iter().all(|finding| finding.ok) {
            found.extend(store.permissions(&needs::of(resolved, name)).await);
            if let Some(configured) = resolved.stores.get(name) {
                found.extend(account::findings(resolved, workspace.text(), configured, &args.values).await);
            }
        } else {
            all_well = false;
        }
        checked.stores.insert(format!("{name}: {}", store.location()), found);
    }
    if !all_well {
        checked.journal = journal::findings(&program.common.journal, None);
        return checked;
    }
    match opened.prepare(resolved.clone(), &program.common).await {
        Ok(migration) => {
            let records = migration.scans.iter().filter_map(|scan| scan.description.records).sum();
            checked.journal = journal::findings(&program.common.journal, Some(records));
            checked.flows = flows_of(&migration, &program.common.journal).await;
            for (name, store) in &opened.stores {
                let missing = missing(&migration, name);
                let Some(configured) = resolved.stores.get(name).filter(|_| !missing.is_empty()) else {
                    continue;
                };
                let found =
                    account::creation(resolved, workspace.text(), configured, &args.values, &missing).await;
                checked.stores.entry(format!("{name}: {}", store.location())).or_default().extend(found);
            }
        }
        Err(failure) => {
            checked.journal = journal::findings(&program.common.journal, None);
            checked.flows.insert("flows".to_owned(), vec![bad(&failure)]);
        }
    }
    checked
}

/// The tables of a store that are not there yet.
fn missing(migration: &Migration, store: &StoreName) -> BTreeSet<String> {
    let missing = |flow: &&ScanFlow| flow.store == *store && !flow.target.exists;
    let flows = migration.flows().map(|(_, flow)| flow);
    flows.filter(missing).map(|flow| flow.plan.target.resource()).collect()
}

/// What of each flow's table fits, whose it is, and what a person should know.
async fn flows_of(migration: &Migration, folder: &std::path::Path) -> BTreeMap<String, Vec<Finding>> {
    let journal = match Journal::open_existing(folder) {
        Ok(journal) => journal,
        Err(error) => return BTreeMap::from([("flows".to_owned(), vec![bad(&error.into())])]),
    };
    let mut all = BTreeMap::new();
    let guarded = ownership::guards(migration).await;
    let mut told = BTreeSet::new();
    for (scan, flow) in migration.flows() {
        let mut found = vec![table(flow), fit(flow)];
        if told.insert((flow.store.clone(), flow.plan.target.resource())) {
            found.push(match ownership::of(migration, journal.as_ref(), flow).await {
                Ok(owned) => owned,
                Err(error) => bad(&error.into()),
            });
        }
        let notes = scan.description.notes.iter().chain(&flow.target.notes);
        found.extend(notes.map(|note| Finding::good(note.as_str())));
        all.insert(flow.plan.name.to_string(), found);
    }
    if let Err(error) = guarded {
        all.insert("guards".to_owned(), vec![bad(&error.into())]);
    } else if !migration.resolved.guards.is_empty() {
        let guards = migration.resolved.guards.len();
        all.insert("guards".to_owned(), vec![Finding::good(format!("{guards} guards hold"))]);
    }
    all
}

fn table(flow: &ScanFlow) -> Finding {
    let target = flow.plan.target.resource();
    Finding::good(if flow.target.exists {
        format!("table {target} is there")
    } else if flow.target.ddl.is_empty() {
        format!("{target} is not there yet; the run makes it")
    } else {
        format!("table {target} is not there yet; `create` or `run --create` makes it")
    })
}

/// How many columns arrive how.
fn fit(flow: &ScanFlow) -> Finding {
    let count = |wanted: fn(&Fidelity) -> bool| {
        flow.target.fidelity.iter().filter(|column| wanted(&column.fidelity)).count()
    };
    let exact = count(|fidelity| matches!(fidelity, Fidelity::Exact));
    let lossy = count(|fidelity| matches!(fidelity, Fidelity::Lossy(_)));
    let all = flow.target.fidelity.len();
    let reversible = all - exact - lossy;
    let mut text = format!("its {all} columns fit: {exact} exact");
    if reversible > 0 {
        let _ = write!(text, ", {reversible} reversible");
    }
    if lossy > 0 {
        let _ = write!(text, ", {lossy} lossy as `allow_lossy` has it");
    }
    Finding::good(text)
}

fn bad(failure: &Failure) -> Finding {
    let json = failure.json();
    let text = json["error"].as_str().unwrap_or_default().to_owned();
    Finding { ok: false, text, hint: json["hint"].as_str().map(str::to_owned) }
}

fn hide(checked: &mut Checked, secrets: &Redactor) {
    for finding in checked.all() {
        finding.text = secrets.redact(&finding.text).into_owned();
        finding.hint = finding.hint.take().map(|hint| secrets.redact(&hint).into_owned());
    }
}

fn text(checked: &Checked) -> String {
    let mut text = String::new();
    let mut wrong = 0;
    for (title, findings) in checked.sections() {
        let _ = writeln!(text, "{title}");
        for finding in findings {
            let mark = if finding.ok { '✓' } else { '✗' };
            wrong += usize::from(!finding.ok);
            let _ = writeln!(text, "  {mark} {}", finding.text);
            if let Some(hint) = &finding.hint {
                let _ = writeln!(text, "    → {hint}");
            }
        }
    }
    match wrong {
        0 => text.push_str("A run can begin.\n"),
        1 => text.push_str("A run cannot begin yet: 1 thing is in the way.\n"),
        _ => {
            let _ = writeln!(text, "A run cannot begin yet: {wrong} things are in the way.");
        }
    }
    text
}
