//! Reading both sides: what should be there, out of the sources, and what is there, out of the targets.

use super::Watch;
use super::layout::Layout;
use arrow::array::RecordBatch;
use async_trait::async_trait;
use futures::StreamExt as _;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::task::JoinSet;
use whimbrel_engine::migration::{Migration, Scan};
use whimbrel_engine::run::wanted_slices;
use whimbrel_engine::{EngineError, Result};
use whimbrel_model::{Cursor, Fingerprint, Slice, SlicePart};
use whimbrel_store::{HeldBatch, LookedUp, Patience, ReadBatch, RunContext, StoreError, StoreErrorKind};

/// Into how many parts a target is cut for each that is read at once: the last ones end together.
const PARTS_EACH: usize = 4;

/// Takes what is read, batch by batch, from several tasks at once.
#[async_trait]
pub(crate) trait Take: Send + Sync {
    /// Records of a flow as they would be written; `None`: it would be refused. `refused` of the flow's records
    /// did not come so far.
    async fn expected(
        &self,
        flow: usize,
        records: &RecordBatch,
        fingerprints: Vec<Option<Fingerprint>>,
        refused: u64,
    ) -> Result<()>;

    /// Takes what a part of a table holds. Only who reads tables needs it.
    fn part(&self, _table: usize) -> Box<dyn TakePart + '_> {
        Box::new(PassedOver)
    }
}

/// Takes a part of a table. What it has taken counts once it is ended: a part whose reading fails is begun again, by
/// another one.
pub(crate) trait TakePart: Send {
    /// Records that the table holds.
    fn held(&mut self, batch: HeldBatch) -> Result<()>;

    /// The part was read to its end.
    fn end(self: Box<Self>) -> Result<()>;
}

/// Of those who read no tables.
struct PassedOver;

impl TakePart for PassedOver {
    fn held(&mut self, _: HeldBatch) -> Result<()> {
        Ok(())
    }

    fn end(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

/// What a reading needs of everything.
#[derive(Clone)]
pub(crate) struct Reading {
    pub migration: Arc<Migration>,
    pub layout: Arc<Layout>,
    pub context: RunContext,
    pub parallel: usize,
    pub watch: Arc<Watch>,
}

impl Reading {
    /// Reads the sources of these flows.
    ///
    /// # Errors
    /// A store fails for too long, or whoever takes the records.
    pub(crate) async fn sources(&self, flows: &BTreeSet<usize>, take: &Arc<dyn Take>) -> Result<()> {
        let mut scans: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for flow in flows {
            scans.entry(self.layout.flows[*flow].scan).or_default().push(*flow);
        }
        let mut working = JoinSet::new();
        for (place, flows) in scans {
            let scan = &self.migration.scans[place];
            let parts = self.patiently(|| scan.source.slices(wanted_slices(scan, None))).await?;
            for (index, part) in parts.into_iter().enumerate() {
                if working.len() >= self.parallel {
                    joined(working.join_next().await)?;
                }
                let (reading, slice) = (self.clone(), scan.slice(index, part));
                let (flows, take) = (flows.clone(), Arc::clone(take));
                working.spawn(async move { reading.slice(place, &slice, &flows, &*take).await });
            }
        }
        while !working.is_empty() {
            joined(working.join_next().await)?;
        }
        Ok(())
    }

    /// Reads tables back.
    ///
    /// # Errors
    /// A store fails, or whoever takes the records.
    pub(crate) async fn tables(&self, tables: &BTreeSet<usize>, take: &Arc<dyn Take>) -> Result<()> {
        let mut working = JoinSet::new();
        for place in tables.iter().copied() {
            let target = &self.layout.tables[place].target;
            for part in self.patiently(|| target.held_parts(self.parallel * PARTS_EACH)).await? {
                if working.len() >= self.parallel {
                    joined(working.join_next().await)?;
                }
                let (reading, take) = (self.clone(), Arc::clone(take));
                working.spawn(async move { reading.part(place, &part, &*take).await });
            }
        }
        while !working.is_empty() {
            joined(working.join_next().await)?;
        }
        Ok(())
    }

    /// One part of a table, from its beginning again while the store fails in a way that may pass: what a target
    /// holds has no order in which it could be gone on with.
    async fn part(&self, place: usize, part: &SlicePart, take: &dyn Take) -> Result<()> {
        let mut patience: Option<Patience<'_>> = None;
        loop {
            let mut read = 0;
            match self.read_part(place, part, take, &mut read).await {
                Err(EngineError::Store(error)) => self.wait(&mut patience, error).await?,
                outcome => return outcome,
            }
            self.watch.target_again(read);
        }
    }

    async fn read_part(
        &self,
        place: usize,
        part: &SlicePart,
        take: &dyn Take,
        read: &mut usize,
    ) -> Result<()> {
        let table = &self.layout.tables[place];
        let mut batches = table.target.held(part, &table.held, &self.context).await?;
        let mut taking = take.part(place);
        while let Some(batch) = self.next(&mut batches).await? {
            let batch = batch?;
            *read += batch.records.len();
            self.watch.target(batch.records.len());
            self.watch.used(batch.capacity);
            taking.held(batch)?;
        }
        taking.end()
    }

    /// What a flow's target holds under the keys of these records.
    ///
    /// # Errors
    /// The store fails for too long.
    pub(crate) async fn look_up(&self, flow: usize, records: &RecordBatch) -> Result<LookedUp> {
        let target = &self.layout.flows[flow].plan.target;
        self.patiently(|| target.look_up(records, &self.context)).await
    }

    /// Asks a store again while it fails in a way that may pass.
    ///
    /// # Errors
    /// It fails for too long, or in another way.
    pub(crate) async fn patiently<T, F>(&self, ask: impl Fn() -> F + Send) -> Result<T>
    where
        F: Future<Output = whimbrel_store::Result<T>> + Send,
    {
        let mut patience: Option<Patience<'_>> = None;
        loop {
            match ask().await {
                Ok(answer) => return Ok(answer),
                Err(error) => self.wait(&mut patience, error).await?,
            }
        }
    }

    /// Waits before a store is asked again; where its snapshot is gone, for another one.
    pub(crate) async fn wait<'a>(
        &'a self,
        patience: &mut Option<Patience<'a>>,
        error: StoreError,
    ) -> Result<()> {
        let (store, lost) = (error.store().clone(), error.kind() == StoreErrorKind::SnapshotLost);
        patience.get_or_insert_with(|| Patience::new(&self.context)).wait(&store, error).await?;
        match self.migration.stores.get(&store).filter(|_| lost) {
            Some(store) => Ok(store.begin_epoch().await?),
            None => Ok(()),
        }
    }

    /// The next of a stream, unless the comparison is to stop.
    ///
    /// # Errors
    /// It is.
    pub(crate) async fn next<T>(
        &self,
        batches: &mut futures::stream::BoxStream<'static, T>,
    ) -> Result<Option<T>> {
        tokio::select! {
            biased;
            () = self.context.stop.cancelled() => Err(EngineError::Interrupted),
            next = batches.next() => Ok(next),
        }
    }

    /// One slice of a source, going on behind what was taken while the store fails in a way that may pass.
    async fn slice(&self, place: usize, slice: &Slice, flows: &[usize], take: &dyn Take) -> Result<()> {
        let scan = &self.migration.scans[place];
        let mut at = At::Start;
        let mut patience: Option<Patience<'_>> = None;
        loop {
            let before = at.clone();
            let error = match self.stretch(scan, slice, flows, take, &mut at).await {
                Ok(()) => return Ok(()),
                Err(EngineError::Store(error)) if at != At::Unknown => error,
                Err(error) => return Err(error),
            };
            if at != before {
                patience = None;
            }
            self.wait(&mut patience, error).await?;
        }
    }

    async fn stretch(
        &self,
        scan: &Scan,
        slice: &Slice,
        flows: &[usize],
        take: &dyn Take,
        at: &mut At,
    ) -> Result<()> {
        let after = if let At::After(cursor) = &*at { Some(cursor) } else { None };
        let mut batches = scan.source.read(&slice.part, after, &self.context).await?;
        while let Some(batch) = self.next(&mut batches).await? {
            let batch = batch?;
            self.watch.source(batch.records.num_rows());
            self.watch.used(batch.capacity);
            // A batch that only some of its flows have taken cannot be read again.
            *at = At::Unknown;
            for flow in flows {
                self.expected(*flow, slice, &batch, take).await?;
            }
            *at = batch.cursor.map_or(At::Unknown, At::After);
        }
        Ok(())
    }

    /// Takes a batch through a flow, up to where it would be sent.
    pub(crate) async fn expected(
        &self,
        flow: usize,
        slice: &Slice,
        batch: &ReadBatch,
        take: &dyn Take,
    ) -> Result<()> {
        let plan = &self.layout.flows[flow].plan;
        let reached = plan.reach(&slice.id, batch)?;
        let fingerprints = plan.target.fingerprints(&reached.records, &self.context);
        let fingerprints: Vec<_> = fingerprints.into_iter().map(std::result::Result::ok).collect();
        let unfit = fingerprints.iter().filter(|fingerprint| fingerprint.is_none()).count();
        let refused = u64::try_from(reached.rejects.len() + unfit).unwrap_or(u64::MAX);
        take.expected(flow, &reached.records, fingerprints, refused).await
    }
}

/// How far a slice has been taken.
#[derive(Clone, PartialEq)]
enum At {
    Start,
    After(Cursor),
    /// In the middle of a batch, or of a slice without order, which cannot be gone on with.
    Unknown,
}

fn joined(joined: Option<std::result::Result<Result<()>, tokio::task::JoinError>>) -> Result<()> {
    match joined {
        Some(Ok(outcome)) => outcome,
        Some(Err(error)) => Err(EngineError::Internal(format!("a comparison ended badly: {error}"))),
        None => Ok(()),
    }
}
