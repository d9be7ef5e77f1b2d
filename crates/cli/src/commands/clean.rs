//! `whimbrel clean`

use super::Program;
use crate::args::SpecArgs;
use crate::confirm::confirmed;
use crate::created_values;
use crate::failure::{Exit, Result};
use crate::workspace::{Opened, Workspace};
use serde::Serialize;
use std::fmt::Write;
use whimbrel_engine::journal::Resource;
use whimbrel_engine::migration::ScanFlow;
use whimbrel_engine::{EngineError, Journal, Migration, ownership};
use whimbrel_spec::ResolvedFlow;
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
    let workspace = Workspace::preview(args).await?;
    let resolved = &workspace.resolved;
    confirmed(resolved, "removing tables", program.common.confirm.as_deref())?;
    let journal = Journal::open(&program.common.journal)?;
    let _lock = journal.lock(&resolved.migration, resolved.environment.as_deref())?;
    let opened = workspace.open().await?;
    let cleaned = clean_all(program, &workspace, &opened, &journal).await;
    opened.close().await;
    let mut cleaned = cleaned?;
    for (name, left) in created_values::remove(workspace.aws(), &workspace.resolved).await? {
        cleaned.push(Cleaned { store: "cognito".to_owned(), name, removed: left.is_none(), left });
    }
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
    let Some(noted) = ours(migration, flow, known).await? else {
        return left("whimbrel did not make it; `create --adopt --confirm` takes it over");
    };
    match flow.plan.target.remove().await? {
        Removal::Removed | Removal::Absent => {
            for resource in noted {
                journal.forget_resource(resource)?;
            }
            Ok(Cleaned { store, name, removed: true, left: None })
        }
        Removal::Shared { records } => left(&format!(
            "{} records in the flow's scope were removed; it stays for the others in it",
            whimbrel_report::figures::count(records)
        )),
        Removal::Unable => left("this store removes no tables; remove it by hand"),
    }
}

/// What the journal has of a table that whimbrel made or took over; `None`: it did not.
async fn ours<'a>(
    migration: &Migration,
    flow: &ScanFlow,
    known: &'a [Resource],
) -> std::result::Result<Option<Vec<&'a Resource>>, EngineError> {
    let Some(store) = migration.stores.get(&flow.store) else { return Ok(None) };
    let (identity, name) = (store.identity().await?, flow.plan.target.resource());
    let same = |resource: &&Resource| {
        resource.store == flow.store
            && resource.name == name
            && resource.identity.as_deref().is_none_or(|known| known == identity.as_str())
    };
    let noted: Vec<&Resource> = known.iter().filter(same).collect();
    let ours = flow.plan.target.owner().await? == Some(ownership::owner(&migration.resolved));
    Ok((ours || !noted.is_empty()).then_some(noted))
}

/// Refuses to remove a table for some of the flows that are written into it.
///
/// # Errors
/// A flow that is not among the chosen ones is written into a table of theirs.
pub(super) async fn refuse_shared(args: &SpecArgs, chosen: &Workspace) -> Result<()> {
    if args.only.is_empty() {
        return Ok(());
    }
    let all = Workspace::load(&SpecArgs { only: Vec::new(), ..args.clone() }, None).await?;
    let chosen = &chosen.resolved.flows;
    let others = all.resolved.flows.iter().filter(|flow| chosen.iter().all(|own| own.name != flow.name));
    for other in others {
        let shares =
            |own: &&ResolvedFlow| own.into.store == other.into.store && own.into.table == other.into.table;
        if let Some(own) = chosen.iter().find(shares) {
            return Err(EngineError::refused(
                format!(
                    "table `{}` of flow `{}` is not made anew: flow `{}`, which is not chosen, is written into it, too",
                    own.into.table, own.name, other.name
                ),
                "leave --only out, or choose all flows into that table",
            )
            .into());
        }
    }
    Ok(())
}

/// Removes the tables that a run is to make anew: all of them, or none where one is not whimbrel's own or could not
/// be made again.
///
/// # Errors
/// That is so, or a store fails.
pub(super) async fn make_room(
    program: &Program,
    workspace: &Workspace,
    opened: &Opened,
    journal: &Journal,
) -> Result<()> {
    let migration = opened.prepare(workspace.resolved.clone(), &program.common).await?;
    opened.hide(ownership::check(&migration, Some(journal)).await)?;
    let resolved = &migration.resolved;
    let known = opened.hide(journal.resources(&resolved.migration, resolved.environment.as_deref()))?;
    let there = ownership::tables(&migration).into_iter().filter(|flow| flow.target.exists);
    let there: Vec<&ScanFlow> = there.collect();
    for flow in &there {
        let table = format!("store `{}`: table `{}`", flow.store, flow.plan.target.resource());
        let refused = if opened.hide(ours(&migration, flow, &known).await)?.is_none() {
            EngineError::refused(
                format!("{table} is not made anew: whimbrel did not make it"),
                "`create --adopt --confirm` takes it over; without --clean a run writes into it as it is",
            )
        } else if !flow.plan.target.is_defined() {
            EngineError::refused(
                format!("{table} is not made anew: the spec does not say what it is to look like"),
                "say under `tables:` of the store what it is to look like",
            )
        } else {
            continue;
        };
        return Err(refused.into());
    }
    for flow in there.into_iter().rev() {
        let cleaned = opened.hide(clean_one(&migration, journal, flow, &known).await)?;
        if let Some(why) = cleaned.left {
            let hint = "remove it by hand, then `run --create`";
            return Err(EngineError::refused(format!("table `{}` is left: {why}", cleaned.name), hint).into());
        }
        program.console.say(format!("{}: {} removed, to be made anew", cleaned.store, cleaned.name));
    }
    Ok(())
}
