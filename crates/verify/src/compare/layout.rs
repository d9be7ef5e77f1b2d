//! What is compared with what: flows, the units that their records form in a target, and the tables to read.

use super::ignored::Ignored;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use whimbrel_engine::flow::FlowPlan;
use whimbrel_engine::migration::{Migration, Scan, ScanFlow};
use whimbrel_engine::{EngineError, Result};
use whimbrel_model::{FlowName, StoreName};
use whimbrel_store::{HeldFlow, KeyPattern, Mode, Target};

/// A flow that is compared.
pub(crate) struct Compared {
    /// The flow.
    pub plan: Arc<FlowPlan>,
    /// The place of its scan in the migration.
    pub scan: usize,
    /// How its records are found in the target.
    pub way: Way,
    /// What no comparison looks at.
    pub ignore: Ignored,
}

/// How a flow's records are found in their target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The table is read, and what belongs to this unit of it is compared with the flow.
    Unit(usize),
    /// Each record is looked up by its key: what else the table holds is none of the flow's business, or cannot
    /// be told from what other flows write.
    ByKey,
}

/// The records of a table that belong to one flow, or to several that nothing constant tells apart.
pub(crate) struct Unit {
    /// The flows, by their places.
    pub flows: Vec<usize>,
}

/// A table that is read back.
pub(crate) struct Table {
    /// Reads it.
    pub target: Arc<dyn Target>,
    /// How its units are told apart.
    pub held: Vec<HeldFlow>,
    /// For each entry of `held`, its unit; `None`: a flow that is not compared this time.
    pub units: Vec<Option<usize>>,
}

/// A flow with the place of the scan that reads its source.
type Placed<'a> = (usize, &'a ScanFlow);

/// Everything that is compared.
pub(crate) struct Layout {
    pub flows: Vec<Compared>,
    pub units: Vec<Unit>,
    pub tables: Vec<Table>,
    /// Whether records that belong to no flow are differences: only where every flow is compared.
    pub others_matter: bool,
    pub notes: Vec<String>,
}

impl Layout {
    /// The flows of a migration, or those of them that are named.
    pub(crate) fn of(migration: &Migration, only: Option<&BTreeSet<FlowName>>) -> Result<Self> {
        let mut layout = Self {
            flows: Vec::new(),
            units: Vec::new(),
            tables: Vec::new(),
            others_matter: only.is_none(),
            notes: Vec::new(),
        };
        let mut tables: BTreeMap<(StoreName, String, String), Vec<Placed<'_>>> = BTreeMap::new();
        for (place, flow) in flows(migration) {
            let request = migration.write_request(&flow.plan.name).ok_or_else(|| unknown(&flow.plan.name))?;
            let key = (flow.store.clone(), flow.plan.target.resource(), format!("{:?}", request.scope));
            tables.entry(key).or_default().push((place, flow));
        }
        for flows in tables.into_values() {
            layout.add_table(migration, &flows, only)?;
        }
        Ok(layout)
    }

    fn add_table(
        &mut self,
        migration: &Migration,
        flows: &[Placed<'_>],
        only: Option<&BTreeSet<FlowName>>,
    ) -> Result<()> {
        let is_compared = |flow: &ScanFlow| only.is_none_or(|only| only.contains(&flow.plan.name));
        let (updates, owners): (Vec<_>, Vec<_>) =
            flows.iter().copied().partition(|(_, flow)| flow.plan.mode == Mode::Update);
        for (scan, flow) in updates.into_iter().filter(|(_, flow)| is_compared(flow)) {
            self.flows.push(compared(migration, scan, flow, Way::ByKey));
        }
        let mut table = Table {
            target: match owners.first() {
                Some((_, flow)) => Arc::clone(&flow.plan.target),
                None => return Ok(()),
            },
            held: Vec::new(),
            units: Vec::new(),
        };
        let mut by_constants: Vec<(Vec<KeyPattern>, Vec<Placed<'_>>)> = Vec::new();
        for (scan, flow) in owners {
            let constants = flow.plan.constants().to_vec();
            match by_constants.iter_mut().find(|(known, _)| *known == constants) {
                Some((_, alike)) => alike.push((scan, flow)),
                None => by_constants.push((constants, vec![(scan, flow)])),
            }
        }
        for (constants, alike) in by_constants {
            let held = held_flow(migration, constants, alike[0].1)?;
            let same = same_shape(migration, &alike);
            let compared_ones: Vec<_> = alike.iter().filter(|(_, flow)| is_compared(flow)).collect();
            let unit = (same && compared_ones.len() == alike.len()).then_some(self.units.len());
            if !same && !compared_ones.is_empty() {
                self.notes.push(format!(
                    "{}: they write other columns into one table and nothing constant tells their records apart, \
                     so each record is looked up by its key, and extra records are not looked for",
                    names(&alike)
                ));
            }
            let way = unit.map_or(Way::ByKey, Way::Unit);
            let first = self.flows.len();
            self.flows.extend(compared_ones.iter().map(|(scan, flow)| compared(migration, *scan, flow, way)));
            if unit.is_some() {
                self.units.push(Unit { flows: (first..self.flows.len()).collect() });
            }
            table.held.push(held);
            table.units.push(unit);
        }
        if table.units.iter().any(Option::is_some) {
            self.tables.push(table);
        }
        Ok(())
    }
}

/// Every flow with the place of the scan that reads its source: records that a run spills are read there, too.
fn flows(migration: &Migration) -> impl Iterator<Item = (usize, &ScanFlow)> {
    let scans =
        migration.scans.iter().enumerate().filter(|(_, scan): &(usize, &Scan)| scan.spilled.is_none());
    scans.flat_map(|(place, scan)| scan.flows.iter().chain(&scan.spilling).map(move |flow| (place, flow)))
}

fn compared(migration: &Migration, scan: usize, flow: &ScanFlow, way: Way) -> Compared {
    let ignore = migration.write_request(&flow.plan.name).map(|request| request.ignore).unwrap_or_default();
    Compared { plan: Arc::clone(&flow.plan), scan, way, ignore: Ignored::new(ignore) }
}

fn held_flow(migration: &Migration, constants: Vec<KeyPattern>, flow: &ScanFlow) -> Result<HeldFlow> {
    let request = migration.write_request(&flow.plan.name).ok_or_else(|| unknown(&flow.plan.name))?;
    Ok(HeldFlow { constants, columns: Arc::clone(flow.plan.output()), request })
}

/// Whether the flows' records look alike, so that one fingerprint serves them all.
fn same_shape(migration: &Migration, flows: &[Placed<'_>]) -> bool {
    let shape = |flow: &ScanFlow| {
        let request = migration.write_request(&flow.plan.name);
        let columns: BTreeSet<String> =
            flow.plan.output().fields().iter().map(|field| field.name().clone()).collect();
        (columns, request.map(|request| (request.ignore, request.nulls == whimbrel_store::Nulls::Omit)))
    };
    flows.windows(2).all(|pair| shape(pair[0].1) == shape(pair[1].1))
}

fn names(flows: &[Placed<'_>]) -> String {
    flows.iter().map(|(_, flow)| flow.plan.name.as_str()).collect::<Vec<_>>().join(", ")
}

fn unknown(flow: &FlowName) -> EngineError {
    EngineError::Internal(format!("flow `{flow}` has no target"))
}
