//! What became of the gathered records: counted and told, with as much as can be known of why they differ.

use super::by_key::keeps_others;
use super::differences::{Differences, difference};
use super::layout::{Compared, Layout};
use super::opened::{OpenUnit, Opened};
use super::scratch::Entry;
use super::settle::Settled;
use crate::verification::{DifferenceKind, FlowVerification, Since};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashSet};
use whimbrel_engine::Result;
use whimbrel_engine::evidence::Evidence;
use whimbrel_model::{Buckets, Fingerprint, FlowName, bucket};

/// Tells the records of buckets that differ.
pub(crate) struct Matching<'a> {
    pub opened: &'a Opened,
    pub evidence: &'a BTreeMap<FlowName, Evidence>,
    /// Records that differ only as text.
    pub equal: &'a HashSet<Fingerprint>,
    /// Of each flow, to be added to.
    pub counts: &'a mut [FlowVerification],
    pub differences: &'a mut Differences,
}

/// What should be there, and what is there, where both are something.
type Pair = (Option<Entry>, Option<Entry>);

impl Matching<'_> {
    /// Matches what was gathered, and gives what a person should know beside the differences.
    pub(crate) fn carry_out(mut self) -> Result<Vec<String>> {
        let altered = self.altered_among_kept()?;
        self.opened.each_group(self.evidence, |(unit, key), settled| {
            self.tell(unit, bucket(key), settled, &altered)
        })?;
        Ok(self.tell_altered(&altered))
    }

    /// Of each flow, how many records of other content lie under keys that the last run skipped, and how many of
    /// these were changed since: what is more than it skipped. Only flows with any of them.
    fn altered_among_kept(&self) -> Result<BTreeMap<usize, Altered>> {
        let mut kept: BTreeMap<usize, u64> = BTreeMap::new();
        let keeps = |flow: &Compared| keeps_others(&flow.plan, self.evidence.get(&flow.plan.name));
        if !self.layout().flows.iter().any(keeps) {
            return Ok(BTreeMap::new());
        }
        self.opened.each_group(self.evidence, |(unit, key), mut settled| {
            self.leave_equal(&mut settled);
            for (source, _) in self.perhaps_kept(unit, bucket(key), &mut settled) {
                *kept.entry(source.flow).or_default() += 1;
            }
            Ok(())
        })?;
        let altered = kept.into_iter().filter_map(|(flow, among)| {
            let skipped = self.skipped(flow)?;
            Some((flow, Altered { among, records: among.checked_sub(skipped).filter(|more| *more > 0)? }))
        });
        Ok(altered.collect())
    }

    /// How many records the last run of a flow left as others had written them; `None`: there was no run.
    fn skipped(&self, flow: usize) -> Option<u64> {
        let evidence = self.evidence.get(&self.layout().flows[flow].plan.name);
        evidence.map(|evidence| evidence.counts.skipped)
    }

    fn layout(&self) -> &Layout {
        self.opened.layout()
    }

    /// Leaves out what differs only as text.
    fn leave_equal(&self, settled: &mut Settled) {
        let is_equal = |source: &Entry| self.equal.contains(&source.fingerprint);
        settled.pairs.retain(|(source, target)| !(target.is_some() && source.as_ref().is_some_and(is_equal)));
        settled.kept.retain(|(source, _)| !source.as_ref().is_some_and(is_equal));
    }

    /// Takes out the records that the run may have found so. Where the source's bucket is what the run wrote, it
    /// skipped none of them: what is other now was changed since.
    fn perhaps_kept(&self, unit: usize, bucket: usize, settled: &mut Settled) -> Vec<(Entry, Entry)> {
        let all_written = self.opened.unit(unit).is_some_and(|unit| unit.source_is_as_written(bucket));
        let mut perhaps = Vec::new();
        for (source, target) in std::mem::take(&mut settled.kept) {
            match source {
                // A run refused the record, since its key was taken.
                None => settled.kept.push((None, target)),
                Some(source) if all_written => settled.pairs.push((Some(source), Some(target))),
                Some(source) => perhaps.push((source, target)),
            }
        }
        perhaps
    }

    /// Counts and tells the records of one key.
    fn tell(
        &mut self,
        unit: usize,
        bucket: usize,
        mut settled: Settled,
        altered: &BTreeMap<usize, Altered>,
    ) -> Result<()> {
        self.leave_equal(&mut settled);
        for (source, target) in self.perhaps_kept(unit, bucket, &mut settled) {
            let flow = source.flow;
            if altered.contains_key(&flow) {
                let mut one = self.difference(unit, &(Some(source), Some(target)), None);
                one.uncertain = true;
                self.differences.list(one)?;
            } else {
                self.counts[flow].kept += 1;
            }
        }
        for (_, target) in settled.kept {
            self.counts[target.flow].kept += 1;
        }
        for flow in settled.give_way {
            self.counts[flow].compared = self.counts[flow].compared.saturating_sub(1);
        }
        for flow in settled.second {
            self.counts[flow].compared = self.counts[flow].compared.saturating_sub(1);
            self.counts[flow].rejected += 1;
        }
        for flow in settled.unused_rejects {
            // It was rejected then, and is not what the source holds now, or has arrived since.
            self.counts[flow].rejected = self.counts[flow].rejected.saturating_sub(1);
            self.counts[flow].compared += 1;
        }
        for pair in settled.pairs {
            let flow = self.flow(unit, &pair);
            if let (Some(source), _) = &pair {
                self.differences.repair(&self.opened.layout().flows[flow].plan.name, source.fingerprint);
            }
            let since = self.opened.unit(unit).and_then(|unit| since(unit, bucket, kind(&pair)));
            let one = self.difference(unit, &pair, since);
            self.differences.add(one, &mut self.counts[flow])?;
        }
        Ok(())
    }

    /// The flow of a record that differs: where the source has none of it, the first that it could belong to.
    fn flow(&self, unit: usize, (source, _): &Pair) -> usize {
        source.as_ref().map_or(self.layout().units[unit].flows[0], |source| source.flow)
    }

    fn difference(&self, unit: usize, pair: &Pair, since: Option<Since>) -> crate::Difference {
        let compared = &self.layout().flows[self.flow(unit, pair)];
        let (source, target) = pair;
        let key = source.as_ref().or(target.as_ref()).map(|entry| map(&entry.key)).unwrap_or_default();
        let record = |side: &Option<Entry>| side.as_ref().map(|entry| map(&entry.record));
        difference(compared, key, record(source).as_ref(), record(target).as_ref(), since)
    }

    /// Counts the records of which only their number is known, and says so.
    fn tell_altered(self, altered: &BTreeMap<usize, Altered>) -> Vec<String> {
        let mut notes = Vec::new();
        for (flow, Altered { among, records }) in altered {
            let counts = &mut self.counts[*flow];
            counts.kept += among - records;
            counts.different += records;
            let name = &self.opened.layout().flows[*flow].plan.name;
            notes.push(format!(
                "{name}: of {among} records that are others than the source has, the last run can have skipped {}; \
                 the other {records} were changed since. Nothing tells which: all {among} are named as differences, \
                 each may be none, and a repair leaves them",
                among - records
            ));
        }
        notes
    }
}

/// Records that lie under keys that the last run may have skipped, of which more are other than it skipped.
#[derive(Clone, Copy, Debug)]
struct Altered {
    /// All of them.
    among: u64,
    /// How many were changed since.
    records: u64,
}

fn kind((source, target): &Pair) -> DifferenceKind {
    match (source, target) {
        (Some(_), Some(_)) => DifferenceKind::Different,
        (Some(_), None) => DifferenceKind::Missing,
        (None, _) => DifferenceKind::Extra,
    }
}

/// Which side of a bucket is still as the run left it. A table that held something before the run may have held what
/// is extra now, too.
fn since(unit: &OpenUnit, bucket: usize, kind: DifferenceKind) -> Option<Since> {
    match (unit.source_is_as_written(bucket), unit.target_is_as_written(bucket)) {
        (true, false) if kind != DifferenceKind::Extra || unit.fresh => Some(Since::TargetChanged),
        (false, true) => Some(Since::SourceChanged),
        _ => None,
    }
}

/// A record as it was gathered.
fn map(text: &str) -> Map<String, Value> {
    serde_json::from_str(text).unwrap_or_default()
}

/// What runs left behind of a unit's flows.
pub(crate) struct Then {
    /// The sums of what they wrote, where all of them ended and wrote by the spec as it is now.
    pub sums: Option<Buckets>,
    /// Whether the table held nothing before the first of them.
    pub fresh: bool,
}

impl Then {
    /// `spec` and `shape` are those of the migration as it is compared.
    pub(crate) fn of(
        layout: &Layout,
        unit: usize,
        evidence: &BTreeMap<FlowName, Evidence>,
        (spec, shape): (&str, &str),
    ) -> Self {
        let mut sums = Some(Buckets::default());
        let mut fresh = true;
        for flow in &layout.units[unit].flows {
            let evidence = evidence.get(&layout.flows[*flow].plan.name);
            fresh &= evidence.is_some_and(|evidence| evidence.fresh);
            let as_now = evidence.filter(|evidence| {
                let same = evidence.spec_digest.as_deref() == Some(spec) && evidence.shape == shape;
                same && evidence.ended && evidence.limit.is_none()
            });
            match (&mut sums, as_now) {
                (Some(sums), Some(evidence)) => sums.merge(&evidence.sums),
                (sums, _) => *sums = None,
            }
        }
        Self { sums, fresh }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::sums::Sides;

    const WRITTEN: Fingerprint = Fingerprint { key: 1, record: 7 };
    const OTHER: Fingerprint = Fingerprint { key: 1, record: 8 };

    fn sums(records: &[Fingerprint]) -> Buckets {
        let mut sums = Buckets::default();
        records.iter().for_each(|record| sums.add(*record));
        sums
    }

    fn unit(
        source: &[Fingerprint],
        target: &[Fingerprint],
        then: Option<&[Fingerprint]>,
        fresh: bool,
    ) -> OpenUnit {
        let sides = Sides { source: sums(source), target: sums(target) };
        OpenUnit { buckets: [bucket(1)].into(), sides, then: then.map(sums), fresh }
    }

    #[test]
    fn which_side_changed_is_said_only_where_it_is_known() {
        let said = |unit: &OpenUnit, kind| since(unit, bucket(1), kind);
        let (missing, extra, different) =
            (DifferenceKind::Missing, DifferenceKind::Extra, DifferenceKind::Different);
        let then = Some(&[WRITTEN][..]);
        let target_changed = unit(&[WRITTEN], &[OTHER], then, false);
        assert_eq!(said(&target_changed, different), Some(Since::TargetChanged));
        assert_eq!(said(&unit(&[WRITTEN], &[], then, false), missing), Some(Since::TargetChanged));
        assert_eq!(said(&unit(&[OTHER], &[WRITTEN], then, false), different), Some(Since::SourceChanged));
        assert_eq!(said(&unit(&[], &[WRITTEN], then, false), extra), Some(Since::SourceChanged));
        let beside = [WRITTEN, OTHER];
        assert_eq!(said(&unit(&[WRITTEN], &beside, then, true), extra), Some(Since::TargetChanged));
        assert_eq!(
            said(&unit(&[WRITTEN], &beside, then, false), extra),
            None,
            "it may have been there before"
        );
        assert_eq!(said(&unit(&[WRITTEN], &[OTHER], None, true), different), None, "no run, or another spec");
        assert_eq!(said(&unit(&[OTHER], &beside, then, true), different), None, "both changed");
    }
}
