//! `whimbrel create`

use super::Program;
use crate::args::CreateArgs;
use crate::confirm::confirmed;
use crate::failure::{Exit, Result};
use crate::workspace::{Opened, Workspace};
use serde::Serialize;
use std::fmt::Write;
use whimbrel_engine::journal::ResourceNote;
use whimbrel_engine::migration::ScanFlow;
use whimbrel_engine::{EngineError, Journal, Migration, ownership};
use whimbrel_store::Creation;

#[derive(Debug, Serialize)]
struct Made {
    store: String,
    name: String,
    created: bool,
    /// Whether it was there and is this environment's from now on.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    adopted: bool,
    /// Whose it was before.
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<String>,
    differences: Vec<String>,
}

/// Makes the tables that are missing, and says of the others how they differ from their definitions. With `--adopt`
/// those that are there become this environment's.
///
/// # Errors
/// A store fails, a table has no definition, or belongs to another environment.
pub async fn create(program: &Program, args: &CreateArgs) -> Result<Exit> {
    let workspace = Workspace::load(&args.spec, None).await?;
    let resolved = &workspace.resolved;
    if args.adopt {
        confirmed(resolved, "taking tables over", program.common.confirm.as_deref())?;
    }
    let journal = Journal::open(&program.common.journal)?;
    let _lock = journal.lock(&resolved.migration, resolved.environment.as_deref())?;
    let opened = workspace.open().await?;
    let made = make(program, &workspace, &opened, &journal, args.adopt).await;
    opened.close().await;
    let made = made?;
    program.console.print(&serde_json::json!({ "tables": made }), text(&made));
    Ok(Exit::Done)
}

fn text(tables: &[Made]) -> String {
    let mut text = String::new();
    for made in tables {
        let what = match (made.created, made.adopted, &made.before) {
            (true, ..) => "created".to_owned(),
            (false, true, Some(before)) => format!("taken over from {before}"),
            (false, true, None) => "taken over".to_owned(),
            (false, false, _) => "was there already".to_owned(),
        };
        let _ = writeln!(text, "{}: {} {what}", made.store, made.name);
        for difference in &made.differences {
            let _ = writeln!(text, "  differs from its definition: {difference}");
        }
    }
    text
}

async fn make(
    program: &Program,
    workspace: &Workspace,
    opened: &Opened,
    journal: &Journal,
    adopt: bool,
) -> Result<Vec<Made>> {
    let migration = opened.prepare(workspace.resolved.clone(), &program.common).await?;
    if !adopt {
        opened.hide(ownership::check(&migration, Some(journal)).await)?;
    }
    let mut all = Vec::new();
    for flow in ownership::tables(&migration) {
        all.push(opened.hide(make_one(&migration, journal, flow, adopt).await)?);
    }
    Ok(all)
}

async fn make_one(
    migration: &Migration,
    journal: &Journal,
    flow: &ScanFlow,
    adopt: bool,
) -> std::result::Result<Made, EngineError> {
    let target = &flow.plan.target;
    let before = ownership::owner_of(migration, Some(journal), flow).await?;
    let is_ours = before.as_ref() == Some(&ownership::owner(&migration.resolved));
    let adopted = flow.target.exists && adopt && !is_ours;
    if !flow.target.exists || adopted {
        note(migration, journal, flow).await?;
    }
    let creation = target.create().await?;
    let store = flow.store.to_string();
    let made = match creation {
        Creation::Created(name) => {
            Made { store, name, created: true, adopted: false, before: None, differences: Vec::new() }
        }
        Creation::Existed { name, differences } => {
            let before = before.filter(|_| adopted).map(|owner| owner.to_string());
            Made { store, name, created: false, adopted, before, differences }
        }
    };
    if made.created || made.adopted {
        ownership::claim(&migration.resolved, target).await?;
    }
    Ok(made)
}

/// Notes in the journal what is about to be made or taken over.
async fn note(
    migration: &Migration,
    journal: &Journal,
    flow: &ScanFlow,
) -> std::result::Result<(), EngineError> {
    let store = migration.stores.get(&flow.store);
    let store =
        store.ok_or_else(|| EngineError::Internal(format!("store `{}` was not opened", flow.store)))?;
    journal.note_resource(&ResourceNote {
        migration: &migration.resolved.migration,
        environment: migration.resolved.environment.as_deref(),
        run: None,
        store: &flow.store,
        identity: store.identity().await?.as_str(),
        name: &flow.plan.target.resource(),
    })?;
    Ok(())
}
