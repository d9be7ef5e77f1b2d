//! What is known of a run before its first record is read, kept in its folder for the report.

use crate::report::PlannedCost;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;
use whimbrel_engine::dry_run::DryRun;
use whimbrel_engine::price::Prices;
use whimbrel_engine::{EngineError, Migration, Result};
use whimbrel_model::{ColumnFidelity, FlowName};
use whimbrel_spec::resolved::Relation;

/// The file in the run's folder.
const FILE: &str = "plan.json";

/// A plan as a run keeps it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct KeptPlan {
    /// What a dry run expected; `None` where none was made.
    pub planned: Option<PlannedCost>,
    /// The flows, in the order in which they run.
    pub flows: Vec<KeptFlow>,
    /// What the stores' units cost.
    #[serde(default)]
    pub prices: Prices,
}

/// A flow's plan as a run keeps it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeptFlow {
    /// Its name.
    pub flow: FlowName,
    /// Store and relation that are read.
    pub from: String,
    /// Store and table that are written.
    pub into: String,
    /// How it writes.
    pub mode: String,
    /// The target's key columns.
    pub key: Vec<String>,
    /// Whether the table was there.
    pub exists: bool,
    /// What makes the table.
    pub ddl: Vec<String>,
    /// Each column's journey.
    pub fidelity: Vec<ColumnFidelity>,
    /// What a person should know of source and target.
    pub notes: Vec<String>,
}

/// Writes `plan.json` into the folder of a run that is about to begin, or that goes on with an accepted spec. With a
/// dry run, what that expected of costs is kept as well. No secret gets into the file.
///
/// # Errors
/// The file cannot be written.
pub fn keep_plan(migration: &Migration, expected: Option<&DryRun>, run_folder: &Path) -> Result<()> {
    let planned = expected.map(|plan| PlannedCost {
        records: plan.records,
        capacity: plan.capacity,
        usd: plan.cost_usd.actual,
        seconds: plan.seconds,
    });
    let planned = match planned {
        // Somebody may have planned this run already.
        None => kept_plan(run_folder)?.and_then(|kept| kept.planned),
        planned => planned,
    };
    let plan = KeptPlan { planned, flows: flows(migration), prices: Prices::of(migration) };
    let mut value = serde_json::to_value(plan).map_err(|error| EngineError::Internal(error.to_string()))?;
    redact(&mut value, &migration.resolved.secrets);
    crate::write::replace(&run_folder.join(FILE), format!("{value:#}\n").as_bytes())
}

/// The plan that a run kept; `None` where it kept none.
///
/// # Errors
/// The file is there and cannot be read.
pub(crate) fn kept_plan(run_folder: &Path) -> Result<Option<KeptPlan>> {
    crate::collect::stored(&run_folder.join(FILE))
}

fn flows(migration: &Migration) -> Vec<KeptFlow> {
    let flow = |(scan, flow): (&whimbrel_engine::migration::Scan, &whimbrel_engine::migration::ScanFlow)| {
        let resolved = migration.resolved.flows.iter().find(|resolved| resolved.name == flow.plan.name)?;
        let relation = match &resolved.from.relation {
            Relation::Table(table) => table.clone(),
            Relation::Query(_) => "a query".to_owned(),
            Relation::Run => "the run itself".to_owned(),
        };
        let mode = serde_json::to_value(flow.plan.mode).unwrap_or_default();
        Some(KeptFlow {
            flow: flow.plan.name.clone(),
            from: format!("{}: {relation}", scan.store),
            into: format!("{}: {}", flow.store, flow.plan.target.resource()),
            mode: mode.as_str().unwrap_or_default().to_owned(),
            key: flow.target.key.clone(),
            exists: flow.target.exists,
            ddl: if flow.target.exists { Vec::new() } else { flow.target.ddl.clone() },
            fidelity: flow.target.fidelity.clone(),
            notes: scan.description.notes.iter().chain(&flow.target.notes).cloned().collect(),
        })
    };
    migration.flows().filter_map(flow).collect()
}

/// Takes secrets out of every text.
fn redact(value: &mut Value, secrets: &whimbrel_spec::Redactor) {
    match value {
        Value::String(text) => *text = secrets.redact(text).into_owned(),
        Value::Array(items) => items.iter_mut().for_each(|item| redact(item, secrets)),
        Value::Object(members) => members.values_mut().for_each(|member| redact(member, secrets)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
