//! The first pass: sums of fingerprints by bucket, of what should be there and of what is there.

use super::by_key::ByKey;
use super::differences::{Differences, Strangers};
use super::folder::Folder;
use super::layout::{Layout, Way};
use super::reading::{Take, TakePart};
use arrow::array::RecordBatch;
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use whimbrel_engine::Result;
use whimbrel_model::{Buckets, Fingerprint};
use whimbrel_store::HeldBatch;

/// Both sides of a unit.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sides {
    /// What should be there.
    pub source: Buckets,
    /// What is there.
    pub target: Buckets,
}

/// What the first pass found of a flow.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Seen {
    /// Records that would arrive.
    pub expected: u64,
    /// Records that would not.
    pub refused: u64,
}

/// Gathers the sums.
pub(crate) struct Sums {
    layout: Arc<Layout>,
    units: Vec<Mutex<Sides>>,
    flows: Vec<Mutex<Seen>>,
    by_key: Arc<ByKey>,
    differences: Arc<Mutex<Differences>>,
    folder: Arc<Folder>,
}

impl Sums {
    pub(crate) fn new(
        layout: &Arc<Layout>,
        by_key: &Arc<ByKey>,
        differences: &Arc<Mutex<Differences>>,
        folder: &Arc<Folder>,
    ) -> Self {
        Self {
            layout: Arc::clone(layout),
            units: layout.units.iter().map(|_| Mutex::default()).collect(),
            flows: layout.flows.iter().map(|_| Mutex::default()).collect(),
            by_key: Arc::clone(by_key),
            differences: Arc::clone(differences),
            folder: Arc::clone(folder),
        }
    }

    /// Both sides of each unit, and what was seen of each flow.
    pub(crate) fn found(&self) -> (Vec<Sides>, Vec<Seen>) {
        let sides = self.units.iter().map(|sides| locked(sides).clone()).collect();
        (sides, self.flows.iter().map(|seen| *locked(seen)).collect())
    }
}

#[async_trait]
impl Take for Sums {
    async fn expected(
        &self,
        flow: usize,
        records: &RecordBatch,
        fingerprints: Vec<Option<Fingerprint>>,
        refused: u64,
    ) -> Result<()> {
        {
            let mut seen = locked(&self.flows[flow]);
            seen.refused += refused;
            seen.expected += u64::try_from(fingerprints.iter().flatten().count()).unwrap_or(u64::MAX);
        }
        match self.layout.flows[flow].way {
            Way::Unit(unit) => {
                let mut sides = locked(&self.units[unit]);
                fingerprints.into_iter().flatten().for_each(|fingerprint| sides.source.add(fingerprint));
                Ok(())
            }
            Way::ByKey => self.by_key.compare(flow, records, &fingerprints).await,
        }
    }

    fn part(&self, table: usize) -> Box<dyn TakePart + '_> {
        let strangers = Strangers::new(&self.folder);
        Box::new(SummedPart { sums: self, table, units: BTreeMap::new(), strangers })
    }
}

/// What a part of a table adds to the sums.
struct SummedPart<'a> {
    sums: &'a Sums,
    table: usize,
    units: BTreeMap<usize, Buckets>,
    strangers: Strangers,
}

impl TakePart for SummedPart<'_> {
    fn held(&mut self, batch: HeldBatch) -> Result<()> {
        let layout = &self.sums.layout;
        for (row, record) in batch.records.iter().enumerate() {
            match record.flow {
                Some(place) => {
                    if let Some(unit) = layout.tables[self.table].units.get(place).copied().flatten() {
                        self.units.entry(unit).or_default().add(record.fingerprint);
                    }
                }
                None if layout.others_matter => {
                    self.strangers.add(batch.contents.key(row), &batch.contents.record(row))?;
                }
                None => {}
            }
        }
        Ok(())
    }

    fn end(self: Box<Self>) -> Result<()> {
        for (unit, held) in &self.units {
            locked(&self.sums.units[*unit]).target.merge(held);
        }
        self.strangers.end(&mut locked(&self.sums.differences))
    }
}

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
