//! Numbers of records, read back from the target.

use crate::verification::{Depth, FlowVerification, Outcome, Verification};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;
use whimbrel_engine::EngineError;
use whimbrel_engine::journal::now_ms;
use whimbrel_engine::migration::{Migration, ScanFlow};
use whimbrel_engine::summary::Expected;
use whimbrel_model::{Capacity, FlowName, StoreName};
use whimbrel_store::{Held, KeyPattern, Patience, RunContext, Target};

/// Counts each flow's records in its target and compares them with what a run says arrived. Flows that the
/// target cannot tell apart, because no constant is part of their records, are counted together. More records
/// than arrived are a difference where the table was empty before; else they are shown, and may have been there.
/// `only`: of these flows; empty: of all.
///
/// A target that fails in a way that may pass is asked again, for as long as the context says.
///
/// # Errors
/// A store fails.
pub async fn count(
    migration: &Migration,
    expected: &BTreeMap<FlowName, Expected>,
    only: &BTreeSet<FlowName>,
    context: &RunContext,
) -> Result<Verification, EngineError> {
    let begun = Instant::now();
    let mut tables: BTreeMap<(&StoreName, String), Vec<&ScanFlow>> = BTreeMap::new();
    for (_, flow) in migration.flows() {
        tables.entry((&flow.store, flow.plan.target.resource())).or_default().push(flow);
    }
    let mut flows = BTreeMap::new();
    for table in tables.values() {
        let constants: Vec<Vec<KeyPattern>> =
            table.iter().map(|flow| flow.plan.constants().to_vec()).collect();
        let counted = counted(&*table[0].plan.target, &constants, context).await?;
        for (flow, held) in table.iter().zip(share_out(table, &constants, counted.flows, expected)) {
            flows.insert(flow.plan.name.clone(), compare(arrived(expected, flow), held));
        }
    }
    flows.retain(|flow: &FlowName, _| only.is_empty() || only.contains(flow));
    let fresh = |flow: &FlowName| expected.get(flow).is_some_and(|expected| expected.fresh);
    let differs = flows.iter().any(|(flow, found)| found.missing > 0 || (found.extra > 0 && fresh(flow)));
    let outcome = if differs { Outcome::Different } else { Outcome::Equal };
    Ok(Verification {
        outcome,
        depth: Depth::Count,
        flows,
        others: 0,
        assertions: Vec::new(),
        differences: Vec::new(),
        unlisted: 0,
        repaired: 0,
        differences_file: None,
        notes: Vec::new(),
        seconds: begun.elapsed().as_secs_f64(),
        capacity: Capacity::default(),
        ended_ms: now_ms(),
    })
}

async fn counted(
    target: &dyn Target,
    constants: &[Vec<KeyPattern>],
    context: &RunContext,
) -> Result<Held, EngineError> {
    let mut patience: Option<Patience<'_>> = None;
    loop {
        let error = match target.count(constants).await {
            Ok(held) => return Ok(held),
            Err(error) => error,
        };
        let store = error.store().clone();
        patience.get_or_insert_with(|| Patience::new(context)).wait(&store, error).await?;
    }
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
        ..FlowVerification::default()
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
