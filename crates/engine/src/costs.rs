//! What a run costs: its units in dollars, beside what writing every record would cost.

use crate::changed::{self, Changing, Way};
use crate::error::{EngineError, Result};
use crate::migration::{Migration, Scan, ScanFlow};
use crate::price::Prices;
use arrow::array::RecordBatch;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use whimbrel_model::{Capacity, FlowName};
use whimbrel_store::{CostLimit, Mode, RunContext};

/// Dollars, for request units on demand.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// Writing every record, whether the target holds it already or not, without looking at what it holds.
    pub all: f64,
    /// What is used: reads, and writes of what differs.
    pub actual: f64,
    /// Of which prices; empty where nothing is metered.
    #[serde(default)]
    pub prices: String,
    /// Whether more may have been used: what was on its way when a process was killed is not counted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub at_least: bool,
}

impl Cost {
    /// What is saved against writing every record, in dollars; negative where looking cost more than it saved.
    #[must_use]
    pub fn saved(&self) -> f64 {
        self.all - self.actual
    }

    /// What is saved as a share of writing every record; `None` where that costs nothing.
    #[must_use]
    pub fn saved_share(&self) -> Option<f64> {
        (self.all > 0.0).then(|| self.saved() / self.all)
    }

    /// The cost of the units that each flow uses: those of reading its source, of looking at its target and of
    /// writing.
    #[must_use]
    pub fn of(migration: &Migration, units: &BTreeMap<FlowName, Capacity>) -> Self {
        let prices = Prices::of(migration);
        let mut cost = Self { prices: prices.from(), ..Self::default() };
        for (name, units) in units {
            // A retry and a spilled flow have a scan of their own beside the one of the spec.
            let found = migration.flows().find(|(_, flow)| flow.plan.name == *name);
            let Some((scan, flow)) = found else {
                let usd = prices.at_most_usd(*units);
                cost.actual += usd;
                cost.all += usd;
                continue;
            };
            let reader = if prices.has(&scan.store) { &scan.store } else { &flow.store };
            let reads = prices.reads_usd(reader, units.read_units);
            // Reads of a target are looks at what it holds; who writes everything has none.
            let looks = flow.plan.mode == Mode::Changed && !prices.has(&scan.store);
            let writes = prices.writes_usd(&flow.store, units.write_units);
            cost.actual += reads + writes;
            cost.all += if looks { 0.0 } else { reads };
            cost.all += writes + prices.writes_usd(&flow.store, units.spared_write_units);
        }
        cost
    }
}

impl Cost {
    /// With units of which it is not known whose they are, at the dearest store's price.
    #[must_use]
    pub fn and(mut self, migration: &Migration, units: Capacity) -> Self {
        let usd = Prices::of(migration).at_most_usd(units);
        self.actual += usd;
        self.all += usd;
        self
    }
}

/// What a target was found to hold of records that are looked at before a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Compared {
    /// Records that it does not hold.
    pub missing: u64,
    /// Records that it holds with other content.
    pub different: u64,
    /// Records that it holds as they are: they are not written.
    pub same: u64,
}

/// Looks up what the target of a flow in mode `changed` holds of a plan's records.
#[derive(Debug, Default)]
pub(crate) struct Comparison {
    looked: bool,
    found: Compared,
    read_units: f64,
    /// Of the records looked at last, those that need not be written.
    same: Vec<bool>,
}

impl Comparison {
    /// Looks at what the target holds of these records.
    pub(crate) async fn look(
        &mut self,
        flow: &ScanFlow,
        records: &RecordBatch,
        context: &RunContext,
    ) -> Result<()> {
        self.same = Vec::new();
        if flow.plan.mode != Mode::Changed {
            return Ok(());
        }
        self.looked = true;
        let target = &flow.plan.target;
        let wanted = target.fingerprints(records, context);
        let held = if flow.target.exists && records.num_rows() > 0 {
            Some(target.look_up(records, context).await?)
        } else {
            None
        };
        self.read_units += held.as_ref().map_or(0.0, |held| held.held.capacity.read_units);
        for (row, wanted) in wanted.into_iter().enumerate() {
            let held = held.as_ref().and_then(|looked| {
                let place = looked.rows.get(row).copied().flatten()?;
                looked.held.records.get(place)
            });
            let same = match (wanted, held) {
                (Err(_), _) => false,
                (Ok(wanted), Some(held)) => held.fingerprint == wanted,
                (Ok(_), None) => {
                    self.found.missing += 1;
                    self.same.push(false);
                    continue;
                }
            };
            if same {
                self.found.same += 1;
            } else if held.is_some() {
                self.found.different += 1;
            }
            self.same.push(same);
        }
        Ok(())
    }

    /// What is needed for record `row` of those looked at last, which would use these units if it were written.
    pub(crate) fn needed(&self, row: usize, units: Capacity) -> Capacity {
        if self.same.get(row).copied().unwrap_or(false) {
            Capacity { spared_write_units: units.write_units, write_units: 0.0, ..units }
        } else {
            units
        }
    }

    /// Read units that a run uses to compare, where each record that was looked at stands for `share` of the whole.
    /// A run that reads the table whole beforehand looks up what differs only, and so does one that has fingerprints.
    pub(crate) fn read_units(&self, flow: &ScanFlow, scan: &Scan, share: f64, has_fingerprints: bool) -> f64 {
        let each = self.read_units * share;
        let way = flow.plan.changing.map(|_| Changing::way(&flow.target, scan.description.records));
        let whole = match (way, flow.target.read_back) {
            _ if has_fingerprints => 0.0,
            (Some(Way::Whole), Some(cost)) => cost.whole_units + changed::ROUNDING_UNITS,
            _ => return each,
        };
        let Compared { missing, different, same } = self.found;
        let (again, all) = (missing + different, missing + different + same);
        #[expect(clippy::cast_precision_loss, reason = "a ratio for an estimate")]
        let again = if all > 0 { again as f64 / all as f64 } else { 0.0 };
        whole + each * again
    }

    /// What was found; `None` where nobody looked.
    pub(crate) fn found(&self) -> Option<Compared> {
        self.looked.then_some(self.found)
    }
}

/// Refuses a limit in dollars where it is not known what a unit costs: it might be passed.
///
/// # Errors
/// There is one, and a store is in a region without a price.
pub fn check_limit(migration: &Migration) -> Result<()> {
    let unknown = Prices::unknown_regions(migration);
    match (migration.resolved.limits.max_cost_usd, unknown.first()) {
        (Some(_), Some(region)) => Err(EngineError::refused(
            format!(
                "the prices of {region} are not known, and the run is to cost no more than so many dollars"
            ),
            format!(
                "give them: `prices: {{ {region}: {{ write_usd_per_million: …, read_usd_per_million: … }} }}`, or \
                 limit the units by `limits: max_write_units`"
            ),
        )),
        _ => Ok(()),
    }
}

/// What a run's units may cost in all, as the spec limits it; `None`: as much as they do.
#[must_use]
pub fn limit(migration: &Migration) -> Option<CostLimit> {
    migration.resolved.limits.max_cost_usd.map(|usd| Prices::of(migration).limit(usd))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn savings_are_a_share_of_writing_all() {
        let cost = Cost { all: 0.25, actual: 0.0713, ..Cost::default() };
        assert_eq!(format!("{:.4} {:.3}", cost.saved(), cost.saved_share().unwrap()), "0.1787 0.715");
        assert_eq!(Cost::default().saved_share(), None);
    }
}
