//! Proof that what was read arrived. So far: counts, read back from the target.

use serde::Serialize;
use std::collections::BTreeMap;
use whimbrel_engine::migration::{Migration, ScanFlow};
use whimbrel_engine::{EngineError, Summary};
use whimbrel_model::{FlowName, StoreName};

/// What a verification found.
#[derive(Clone, Debug, Serialize)]
pub struct Verification {
    /// Whether anything differs.
    pub outcome: Outcome,
    /// Each flow.
    pub flows: BTreeMap<FlowName, FlowVerification>,
    /// The spec's own assertions.
    pub assertions: Vec<Assertion>,
}

/// Whether source and target agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// They agree.
    Equal,
    /// They do not.
    Different,
}

/// What was found of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FlowVerification {
    /// Records compared.
    pub compared: u64,
    /// Records that the target should hold and does not.
    pub missing: u64,
    /// Records that the target holds and should not.
    pub extra: u64,
    /// Records with other content.
    pub different: u64,
}

/// An assertion of the spec.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Assertion {
    /// Its name.
    pub name: String,
    /// Whether it holds.
    pub ok: bool,
    /// What was measured.
    pub value: String,
}

/// Counts each flow's records in its target and compares them with what a run says arrived. Flows that the
/// target cannot tell apart, because no constant is part of their records, are counted together.
///
/// # Errors
/// A store fails.
pub async fn count(migration: &Migration, summary: &Summary) -> Result<Verification, EngineError> {
    let mut tables: BTreeMap<(&StoreName, String), Vec<&ScanFlow>> = BTreeMap::new();
    for (_, flow) in migration.flows() {
        tables.entry((&flow.store, flow.plan.target.resource())).or_default().push(flow);
    }
    let mut flows = BTreeMap::new();
    for table in tables.values() {
        for flow in table {
            let held = flow.plan.target.count(flow.plan.constants()).await?;
            let arrived = summary.flows.get(&flow.plan.name).map_or(0, whimbrel_model::Counts::arrived);
            flows.insert(flow.plan.name.clone(), compare(arrived, held));
        }
    }
    let differs = flows.values().any(|flow| flow.missing + flow.extra > 0);
    let outcome = if differs { Outcome::Different } else { Outcome::Equal };
    Ok(Verification { outcome, flows, assertions: Vec::new() })
}

fn compare(arrived: u64, held: u64) -> FlowVerification {
    FlowVerification {
        compared: arrived.min(held),
        missing: arrived.saturating_sub(held),
        extra: held.saturating_sub(arrived),
        different: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_are_seen() {
        assert_eq!(compare(3, 3), FlowVerification { compared: 3, ..FlowVerification::default() });
        assert_eq!(compare(3, 2), FlowVerification { compared: 2, missing: 1, ..FlowVerification::default() });
        assert_eq!(compare(2, 3), FlowVerification { compared: 2, extra: 1, ..FlowVerification::default() });
    }
}
