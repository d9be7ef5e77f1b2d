//! Proof that what was read arrived. So far: counts, read back from the target.

use serde::Serialize;
use std::collections::BTreeMap;
use whimbrel_engine::EngineError;
use whimbrel_engine::migration::{Migration, ScanFlow};
use whimbrel_engine::summary::Expected;
use whimbrel_model::{FlowName, StoreName};
use whimbrel_store::KeyPattern;

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
/// target cannot tell apart, because no constant is part of their records, are counted together. More records
/// than arrived are a difference where the table was empty before; else they are shown, and may have been there.
///
/// # Errors
/// A store fails.
pub async fn count(
    migration: &Migration,
    expected: &BTreeMap<FlowName, Expected>,
) -> Result<Verification, EngineError> {
    let mut tables: BTreeMap<(&StoreName, String), Vec<&ScanFlow>> = BTreeMap::new();
    for (_, flow) in migration.flows() {
        tables.entry((&flow.store, flow.plan.target.resource())).or_default().push(flow);
    }
    let mut flows = BTreeMap::new();
    for table in tables.values() {
        let constants: Vec<Vec<KeyPattern>> =
            table.iter().map(|flow| flow.plan.constants().to_vec()).collect();
        let counted = table[0].plan.target.count(&constants).await?;
        for (flow, held) in table.iter().zip(share_out(table, &constants, counted.flows, expected)) {
            flows.insert(flow.plan.name.clone(), compare(arrived(expected, flow), held));
        }
    }
    let fresh = |flow: &FlowName| expected.get(flow).is_some_and(|expected| expected.fresh);
    let differs = flows.iter().any(|(flow, found)| found.missing > 0 || (found.extra > 0 && fresh(flow)));
    let outcome = if differs { Outcome::Different } else { Outcome::Equal };
    Ok(Verification { outcome, flows, assertions: Vec::new() })
}

fn arrived(expected: &BTreeMap<FlowName, Expected>, flow: &ScanFlow) -> u64 {
    expected.get(&flow.plan.name).map_or(0, |expected| expected.arrived)
}

/// Records of flows with the same constants were all counted for one of them: each gets what it should hold,
/// the last of them what is left.
fn share_out(
    table: &[&ScanFlow],
    constants: &[Vec<KeyPattern>],
    mut held: Vec<u64>,
    expected: &BTreeMap<FlowName, Expected>,
) -> Vec<u64> {
    for first in 0..table.len() {
        let alike: Vec<usize> =
            (first..table.len()).filter(|other| constants[*other] == constants[first]).collect();
        let mut left: u64 = alike.iter().map(|flow| held[*flow]).sum();
        for (position, flow) in alike.iter().enumerate() {
            let last = position + 1 == alike.len();
            held[*flow] = if last { left } else { left.min(arrived(expected, table[*flow])) };
            left -= held[*flow];
        }
    }
    held
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
        assert_eq!(
            compare(3, 2),
            FlowVerification { compared: 2, missing: 1, ..FlowVerification::default() }
        );
        assert_eq!(compare(2, 3), FlowVerification { compared: 2, extra: 1, ..FlowVerification::default() });
    }
}
