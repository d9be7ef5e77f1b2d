//! Every record of both sides compared, or a sample of them.
//!
//! Source and target are each read once, however they slice, into sums of fingerprints by key hash. Only buckets
//! whose sums differ are opened, in one more pass a side: their records go to files on the disk, small enough to
//! be matched one after the other, so that memory grows neither with the tables nor with the differences.

mod by_key;
mod confirm;
mod differences;
mod expected;
mod folder;
mod ignored;
mod layout;
mod matched;
mod opened;
mod reading;
mod repair;
mod sample;
mod scratch;
mod settle;
mod sums;

use crate::verification::{Depth, FlowVerification, Outcome, Verification};
use by_key::ByKey;
use confirm::Confirm;
use differences::Differences;
pub use differences::Repairs;
use folder::Folder;
pub use folder::private_file;
pub(crate) use layout::Layout;
use layout::Way;
use matched::{Matching, Then};
use opened::{OpenUnit, Opened};
pub(crate) use reading::{Reading, Take};
pub use repair::Repaired;
use scratch::Scratch;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use sums::{Sides, Sums, locked};
use tokio_util::sync::CancellationToken;
use whimbrel_engine::evidence::Evidence;
use whimbrel_engine::journal::now_ms;
use whimbrel_engine::migration::Migration;
use whimbrel_engine::{EngineError, Result};
use whimbrel_model::{Capacity, Fingerprint, FlowName};
use whimbrel_store::RunContext;

/// How a comparison is made.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The flows that are compared; `None`: all.
    pub only: Option<BTreeSet<FlowName>>,
    /// Parts of each side that are read at once.
    pub parallel: usize,
    /// A folder for what is spilled, made and removed again; those of killed processes beside it are removed, too.
    pub scratch: PathBuf,
    /// Cancelled when that folder is gone, or was never made. Whoever drops a comparison that is under way waits for
    /// it before the process ends.
    pub gone: CancellationToken,
    /// The file for all differences.
    pub differences: PathBuf,
}

/// What a display reads while a comparison goes on.
#[derive(Debug, Default)]
pub struct Watch {
    source: AtomicU64,
    target: AtomicU64,
    pass: AtomicU8,
    capacity: Mutex<Capacity>,
}

impl Watch {
    /// Records read in this pass, of the sources and of the targets.
    pub fn records(&self) -> (u64, u64) {
        (self.source.load(Ordering::Relaxed), self.target.load(Ordering::Relaxed))
    }

    /// The pass, counted from 1; 0 before the first.
    pub fn pass(&self) -> u8 {
        self.pass.load(Ordering::Relaxed)
    }

    pub(crate) fn begin_pass(&self) {
        self.source.store(0, Ordering::Relaxed);
        self.target.store(0, Ordering::Relaxed);
        self.pass.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn source(&self, records: usize) {
        self.source.fetch_add(u64::try_from(records).unwrap_or(0), Ordering::Relaxed);
    }

    pub(crate) fn target(&self, records: usize) {
        self.target.fetch_add(u64::try_from(records).unwrap_or(0), Ordering::Relaxed);
    }

    /// So many records of the targets are read again.
    pub(crate) fn target_again(&self, records: usize) {
        self.target.fetch_sub(u64::try_from(records).unwrap_or(0), Ordering::Relaxed);
    }

    pub(crate) fn used(&self, capacity: Capacity) {
        *locked(&self.capacity) += capacity;
    }

    fn capacity(&self) -> Capacity {
        *locked(&self.capacity)
    }
}

/// What a comparison found.
#[derive(Debug)]
pub struct Found {
    /// What differs.
    pub verification: Verification,
    /// What would have to be written again.
    pub repairs: Repairs,
}

/// A comparison of a migration's sources with its targets.
pub struct Comparison {
    reading: Reading,
    evidence: BTreeMap<FlowName, Evidence>,
    settings: Settings,
    folder: Arc<Folder>,
    /// What a person should know of what was found.
    notes: Vec<String>,
    begun: Instant,
}

impl Comparison {
    /// `evidence` is what earlier runs of the migration left behind; the context's key is theirs.
    ///
    /// # Errors
    /// A mistake of ours.
    pub fn new(
        migration: Arc<Migration>,
        evidence: BTreeMap<FlowName, Evidence>,
        context: RunContext,
        watch: Arc<Watch>,
        settings: Settings,
    ) -> Result<Self> {
        let layout = Arc::new(Layout::of(&migration, settings.only.as_ref())?);
        let parallel = settings.parallel.max(1);
        let reading = Reading { migration, layout, context, parallel, watch };
        let folder = Folder::at(settings.scratch.clone(), settings.gone.clone().drop_guard());
        let (notes, begun) = (Vec::new(), Instant::now());
        Ok(Self { reading, evidence, settings, folder, notes, begun })
    }

    fn layout(&self) -> &Arc<Layout> {
        &self.reading.layout
    }

    /// Compares every record.
    ///
    /// # Errors
    /// A store fails, or the disk is full.
    pub async fn all(mut self) -> Result<Found> {
        self.begin_epochs().await?;
        let layout = self.layout();
        let differences = Arc::new(Mutex::new(Differences::into_file(self.settings.differences.clone())));
        let by_key = |flow: usize| layout.flows[flow].way == Way::ByKey;
        let by_key = Arc::new(ByKey::new(&self.reading, &self.evidence, by_key, &differences)?);
        let sums = Arc::new(Sums::new(layout, &by_key, &differences, &self.folder));
        let flows = (0..layout.flows.len()).collect();
        let tables = (0..layout.tables.len()).collect();
        self.pass(&flows, &tables, &(Arc::clone(&sums) as Arc<dyn Take>)).await?;
        let (sides, seen) = sums.found();
        let mut counts: Vec<FlowVerification> = Vec::new();
        for (place, flow) in layout.flows.iter().enumerate() {
            counts.push(match flow.way {
                Way::ByKey => {
                    let mut found = by_key.found(place);
                    found.rejected += seen[place].refused;
                    found
                }
                Way::Unit(_) => FlowVerification {
                    compared: seen[place].expected,
                    rejected: seen[place].refused,
                    ..FlowVerification::default()
                },
            });
        }
        let mut notes = self.limit_kept(&mut counts, |flow| layout.flows[flow].way == Way::ByKey);
        let open = self.differing(sides, &mut counts)?;
        notes.extend(self.open(open, &mut counts, &differences).await?);
        drop((sums, by_key));
        self.notes = notes;
        self.end(Depth::All, counts, differences)
    }

    async fn begin_epochs(&self) -> Result<()> {
        for store in self.reading.migration.source_stores() {
            if let Some(store) = self.reading.migration.stores.get(store) {
                store.begin_epoch().await?;
            }
        }
        Ok(())
    }

    /// Both sides, side by side.
    async fn pass(
        &self,
        flows: &BTreeSet<usize>,
        tables: &BTreeSet<usize>,
        take: &Arc<dyn Take>,
    ) -> Result<()> {
        self.reading.watch.begin_pass();
        tokio::try_join!(self.reading.sources(flows, take), self.reading.tables(tables, take))?;
        Ok(())
    }

    /// The units whose sides differ, what runs rejected left out.
    fn differing(
        &self,
        sides: Vec<Sides>,
        counts: &mut [FlowVerification],
    ) -> Result<BTreeMap<usize, OpenUnit>> {
        let layout = self.layout();
        let migration = &self.reading.migration;
        let (spec, shape) =
            (&migration.resolved.digest, migration.shape(&self.reading.context.fingerprint_key));
        let mut open = BTreeMap::new();
        for (unit, mut sides) in sides.into_iter().enumerate() {
            for flow in &layout.units[unit].flows {
                let name = &layout.flows[*flow].plan.name;
                let Some(evidence) = self.evidence.get(name) else { continue };
                let mut rejected = whimbrel_model::Buckets::default();
                evidence.each_reject(name, |fingerprint| rejected.add(fingerprint))?;
                sides.source.take_out(&rejected);
                counts[*flow].compared = counts[*flow].compared.saturating_sub(rejected.records());
                counts[*flow].rejected += rejected.records();
            }
            let buckets: BTreeSet<usize> = sides.source.differing(&sides.target).into_iter().collect();
            if !buckets.is_empty() {
                let Then { sums: then, fresh } = Then::of(layout, unit, &self.evidence, (spec, &shape));
                open.insert(unit, OpenUnit { buckets, sides, then, fresh });
            }
        }
        Ok(open)
    }

    /// Of flows that are looked up by key: what is other under more keys than the last run skipped was changed since,
    /// and nothing tells under which.
    fn limit_kept(&self, counts: &mut [FlowVerification], by_key: impl Fn(usize) -> bool) -> Vec<String> {
        let mut notes = Vec::new();
        for (flow, counts) in counts.iter_mut().enumerate().filter(|(flow, _)| by_key(*flow)) {
            let name = &self.layout().flows[flow].plan.name;
            let Some(evidence) = self.evidence.get(name) else { continue };
            let skipped = evidence.counts.skipped;
            let altered = counts.kept.saturating_sub(skipped);
            if altered > 0 {
                notes.push(format!(
                    "{name}: of {} records that are others than the source has, the last run can have skipped \
                     {skipped}; the other {altered} were changed since. Nothing tells which, and none is named",
                    counts.kept
                ));
                counts.kept = skipped;
                counts.different += altered;
            }
        }
        notes
    }

    /// Reads both sides again and finds the records that differ; gives what a person should know beside them.
    async fn open(
        &self,
        open: BTreeMap<usize, OpenUnit>,
        counts: &mut [FlowVerification],
        differences: &Arc<Mutex<Differences>>,
    ) -> Result<Vec<String>> {
        if open.is_empty() {
            return Ok(Vec::new());
        }
        let layout = self.layout();
        let records = open.values().map(|unit| {
            let all = unit.sides.source.records() + unit.sides.target.records();
            let share = u64::try_from(unit.buckets.len()).unwrap_or(u64::MAX);
            all.saturating_mul(share) / u64::try_from(whimbrel_model::BUCKETS).unwrap_or(1)
        });
        let buckets: usize = open.values().map(|unit| unit.buckets.len()).sum();
        tracing::info!(
            units = open.len(),
            buckets,
            "sums differ: these buckets are read again, record by record"
        );
        let flows = open.keys().flat_map(|unit| layout.units[*unit].flows.iter().copied()).collect();
        let tables = layout
            .tables
            .iter()
            .enumerate()
            .filter(|(_, table)| table.units.iter().flatten().any(|unit| open.contains_key(unit)));
        let tables = tables.map(|(place, _)| place).collect();
        let scratch = Scratch::new(&self.folder, records.sum());
        let opened = Arc::new(Opened::new(layout, &self.reading.context, open, scratch));
        opened.rejected(&self.evidence)?;
        self.pass(&flows, &tables, &(Arc::clone(&opened) as Arc<dyn Take>)).await?;
        let suspects = opened.suspects(&self.evidence)?;
        let equal = self.ask(suspects).await?;
        let (evidence, mut differences) = (&self.evidence, locked(differences));
        let differences = &mut *differences;
        Matching { opened: &opened, evidence, equal: &equal, counts, differences }.carry_out()
    }

    /// Which of the records that seem to differ are the same to a target that knows best.
    async fn ask(&self, suspects: opened::Suspects) -> Result<HashSet<Fingerprint>> {
        if suspects.records.is_empty() {
            return Ok(HashSet::new());
        }
        tracing::info!(
            records = suspects.records.len(),
            "records seem to differ: the target is asked for them"
        );
        let confirm = Arc::new(Confirm::new(&self.reading, suspects.records));
        self.pass(&suspects.flows, &BTreeSet::new(), &(Arc::clone(&confirm) as Arc<dyn Take>)).await?;
        Ok(confirm.equal())
    }

    fn end(
        self,
        depth: Depth,
        counts: Vec<FlowVerification>,
        differences: Arc<Mutex<Differences>>,
    ) -> Result<Found> {
        let differences = Arc::into_inner(differences)
            .ok_or_else(|| EngineError::Internal("differences are still being gathered".to_owned()))?;
        let mut differences = differences.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (others, repairs) = (differences.others, differences.take_repairs());
        let listed = differences.end()?;
        let layout = self.layout();
        let names = layout.flows.iter().map(|flow| flow.plan.name.clone());
        let flows: BTreeMap<FlowName, FlowVerification> = names.zip(counts).collect();
        let equal = others == 0 && flows.values().all(FlowVerification::is_equal);
        let mut notes = layout.notes.clone();
        notes.extend(self.notes.iter().cloned());
        notes.extend(self.limits());
        let verification = Verification {
            outcome: if equal { Outcome::Equal } else { Outcome::Different },
            depth,
            flows,
            others,
            assertions: Vec::new(),
            differences: listed.shown,
            unlisted: listed.unlisted,
            repaired: 0,
            differences_file: listed.file,
            notes,
            seconds: self.begun.elapsed().as_secs_f64(),
            capacity: self.reading.watch.capacity(),
            ended_ms: now_ms(),
        };
        Ok(Found { verification, repairs })
    }

    /// What the last runs left out on purpose.
    fn limits(&self) -> Vec<String> {
        let flows = self.layout().flows.iter().map(|flow| &flow.plan.name);
        let limited = flows.filter_map(|name| {
            let limit = self.evidence.get(name)?.limit?;
            Some(format!("{name}: the last run was told to read {limit} records of its source at most; the rest counts as missing"))
        });
        limited.collect()
    }
}
