//! `whimbrel create`

use super::Program;
use crate::args::SpecArgs;
use crate::failure::{Exit, Result};
use crate::workspace::{Opened, Workspace};
use serde::Serialize;
use std::collections::BTreeSet;
use std::fmt::Write;
use whimbrel_engine::journal::ResourceNote;
use whimbrel_engine::{EngineError, Journal};
use whimbrel_store::Creation;

#[derive(Debug, Serialize)]
struct Made {
    store: String,
    name: String,
    created: bool,
    differences: Vec<String>,
}

/// Makes the tables that are missing, and says of the others how they differ from their definitions.
///
/// # Errors
/// A store fails, or a table has no definition.
pub async fn create(program: &Program, args: &SpecArgs) -> Result<Exit> {
    let workspace = Workspace::load(args, None).await?;
    let journal = Journal::open(&program.common.journal)?;
    let resolved = &workspace.resolved;
    let _lock = journal.lock(&resolved.migration, resolved.environment.as_deref())?;
    let opened = workspace.open().await?;
    let made = make(program, &workspace, &opened, &journal).await;
    opened.close().await;
    let made = made?;
    let mut text = String::new();
    for made in &made {
        let what = if made.created { "created" } else { "was there already" };
        let _ = writeln!(text, "{}: {} {what}", made.store, made.name);
        for difference in &made.differences {
            let _ = writeln!(text, "  differs from its definition: {difference}");
        }
    }
    program.console.print(&serde_json::json!({ "tables": made }), text);
    Ok(Exit::Done)
}

async fn make(
    program: &Program,
    workspace: &Workspace,
    opened: &Opened,
    journal: &Journal,
) -> Result<Vec<Made>> {
    let migration = opened.prepare(workspace.resolved.clone(), &program.common).await?;
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    for (_, flow) in migration.flows() {
        let target = &flow.plan.target;
        if !seen.insert((flow.store.clone(), target.resource())) {
            continue;
        }
        if !flow.target.exists {
            opened.hide(journal.note_resource(&ResourceNote {
                migration: &workspace.resolved.migration,
                environment: workspace.resolved.environment.as_deref(),
                run: None,
                store: &flow.store,
                name: &target.resource(),
            }))?;
        }
        let creation = opened.hide(target.create().await.map_err(EngineError::from))?;
        let store = flow.store.to_string();
        all.push(match creation {
            Creation::Created(name) => Made { store, name, created: true, differences: Vec::new() },
            Creation::Existed { name, differences } => Made { store, name, created: false, differences },
        });
    }
    Ok(all)
}
