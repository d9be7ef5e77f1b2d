//! `whimbrel clean`

use super::Program;
use crate::args::SpecArgs;
use crate::confirm::confirmed;
use crate::failure::{Exit, Result};
use crate::workspace::{Opened, Workspace};
use serde::Serialize;
use std::fmt::Write;
use whimbrel_engine::journal::Resource;
use whimbrel_engine::migration::ScanFlow;
use whimbrel_engine::{EngineError, Journal, Migration, ownership};
use whimbrel_store::Removal;

/// What became of a table.
#[derive(Debug, Serialize)]
struct Cleaned {
    store: String,
    name: String,
    removed: bool,
    /// Why it is left, or what became of it otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    left: Option<String>,
}

/// Removes exactly the tables of the spec that whimbrel made or took over in this environment, and says what it left.
///
/// # Errors
/// It is not confirmed, or a store fails; what was removed before is said.
pub async fn clean(program: &Program, args: &SpecArgs) -> Result<Exit> {
    let workspace = Workspace::load(args, None).await?;
    let resolved = &workspace.resolved;
    confirmed(resolved, "removing tables", program.common.confirm.as_deref())?;
    let journal = Journal::open(&program.common.journal)?;
    let _lock = journal.lock(&resolved.migration, resolved.environment.as_deref())?;
    let opened = workspace.open().await?;
    let cleaned = clean_all(program, &workspace, &opened, &journal).await;
    opened.close().await;
    let cleaned = cleaned?;
    let mut text = String::new();
    for table in &cleaned {
        let what = match &table.left {
            Some(why) => format!("left: {why}"),
            None => "removed".to_owned(),
        };
        let _ = writeln!(text, "{}: {} {what}", table.store, table.name);
    }
    program.console.print(&serde_json::json!({ "tables": cleaned }), text);
    Ok(Exit::Done)
}

async fn clean_all(
    program: &Program,
    workspace: &Workspace,
    opened: &Opened,
    journal: &Journal,
) -> Result<Vec<Cleaned>> {
    let migration = opened.prepare(workspace.resolved.clone(), &program.common).await?;
    opened.hide(ownership::check(&migration, Some(journal)).await)?;
    let resolved = &migration.resolved;
    let known = opened.hide(journal.resources(&resolved.migration, resolved.environment.as_deref()))?;
    let mut cleaned = Vec::new();
    // Children before their parents: the other way round than they are made.
    for flow in ownership::tables(&migration).into_iter().rev() {
        cleaned.push(opened.hide(clean_one(&migration, journal, flow, &known).await)?);
    }
    Ok(cleaned)
}

async fn clean_one(
    migration: &Migration,
    journal: &Journal,
    flow: &ScanFlow,
    known: &[Resource],
) -> std::result::Result<Cleaned, EngineError> {
    let (store, name) = (flow.store.to_string(), flow.plan.target.resource());
    let left = |why: &str| {
        Ok(Cleaned { store: store.clone(), name: name.clone(), removed: false, left: Some(why.to_owned()) })
    };
    if !flow.target.exists {
        return left("it is not there");
    }
    let identity = match migration.stores.get(&flow.store) {
        Some(store) => store.identity().await?,
        None => return left("its store was not opened"),
    };
    let same = |resource: &&Resource| {
        resource.store == flow.store
            && resource.name == name
            && resource.identity.as_deref().is_none_or(|known| known == identity.as_str())
    };
    let noted: Vec<&Resource> = known.iter().filter(same).collect();
    let ours = flow.plan.target.owner().await? == Some(ownership::owner(&migration.resolved));
    if noted.is_empty() && !ours {
        return left("whimbrel did not make it; `create --adopt --confirm` takes it over");
    }
    match flow.plan.target.remove().await? {
        Removal::Removed | Removal::Absent => {
            for resource in noted {
                journal.forget_resource(resource)?;
            }
            Ok(Cleaned { store, name, removed: true, left: None })
        }
        Removal::Unable => left("this store removes no tables; remove it by hand"),
    }
}
