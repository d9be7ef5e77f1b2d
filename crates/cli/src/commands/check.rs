//! `whimbrel check`

use super::Program;
use crate::args::SpecArgs;
use crate::failure::{Exit, Failure, Result};
use crate::workspace::{Opened, Workspace};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write;
use whimbrel_engine::Migration;
use whimbrel_store::Finding;

/// What was found, by store and flow.
#[derive(Debug, Serialize)]
struct Checked {
    ok: bool,
    stores: BTreeMap<String, Vec<Finding>>,
    flows: BTreeMap<String, Vec<Finding>>,
}

/// Looks whether a run could begin. Exit 1 where something is in the way.
///
/// # Errors
/// The spec is wrong.
pub async fn check(program: &Program, args: &SpecArgs) -> Result<Exit> {
    let workspace = Workspace::preview(args).await?;
    let opened = workspace.open().await?;
    let checked = look(program, &workspace, &opened).await;
    opened.close().await;
    program.console.print(&checked, text(&checked));
    Ok(if checked.ok { Exit::Done } else { Exit::Failed })
}

async fn look(program: &Program, workspace: &Workspace, opened: &Opened) -> Checked {
    let mut checked = Checked { ok: true, stores: BTreeMap::new(), flows: BTreeMap::new() };
    for (name, store) in &opened.stores {
        let found = store.check().await;
        checked.ok &= found.iter().all(|finding| finding.ok);
        checked.stores.insert(format!("{name}: {}", store.location()), found);
    }
    if !checked.ok {
        return checked;
    }
    match opened.prepare(workspace.resolved.clone(), &program.common).await {
        Ok(migration) => checked.flows = flows(&migration),
        Err(failure) => {
            checked.ok = false;
            checked.flows.insert("flows".to_owned(), vec![bad(&failure)]);
        }
    }
    checked
}

fn flows(migration: &Migration) -> BTreeMap<String, Vec<Finding>> {
    let findings = migration.flows().map(|(scan, flow)| {
        let target = flow.plan.target.resource();
        let table = if flow.target.exists {
            format!("table {target} is there")
        } else {
            format!("table {target} is not there yet; `create` or `run --create` makes it")
        };
        let mut found = vec![Finding::good(table)];
        found.extend(
            scan.description.notes.iter().chain(&flow.target.notes).map(|note| Finding::good(note.as_str())),
        );
        (flow.plan.name.to_string(), found)
    });
    findings.collect()
}

fn bad(failure: &Failure) -> Finding {
    let json = failure.json();
    let text = json["error"].as_str().unwrap_or_default().to_owned();
    Finding { ok: false, text, hint: json["hint"].as_str().map(str::to_owned) }
}

fn text(checked: &Checked) -> String {
    let mut text = String::new();
    for (title, findings) in checked.stores.iter().chain(&checked.flows) {
        let _ = writeln!(text, "{title}");
        for finding in findings {
            let mark = if finding.ok { '✓' } else { '✗' };
            let _ = writeln!(text, "  {mark} {}", finding.text);
            if let Some(hint) = &finding.hint {
                let _ = writeln!(text, "    → {hint}");
            }
        }
    }
    text.push_str(if checked.ok { "A run can begin.\n" } else { "A run cannot begin yet.\n" });
    text
}
