//! The first pass over the sources of flows with `on_duplicate: last`: reads and transforms every record,
//! writes nothing, and finds which of several records of one key is the last.

use super::claims::{candidates, on, own_keys};
use super::keys::KeySet;
use crate::error::{EngineError, Result};
use crate::flow::FlowPlan;
use crate::migration::{Migration, Scan};
use crate::slice::{SliceContext, SliceStop};
use futures::StreamExt as _;
use std::sync::Arc;
use whimbrel_model::{Cursor, RunId, Slice};
use whimbrel_store::ReadBatch;

/// A first pass that is to be made.
pub(crate) struct FirstPass {
    keys: Arc<KeySet>,
    run: RunId,
    orders: String,
    context: SliceContext,
    limit: Option<u64>,
}

/// How far the pass has come in a slice.
#[derive(Default)]
pub(crate) struct Looked {
    cursor: Option<Cursor>,
    /// Records of the slice up to there.
    pub(crate) position: u64,
}

impl FirstPass {
    /// Begins a pass where one is due: some flow has an order, and no pass by these orders was completed.
    pub(crate) async fn begin(
        migration: &Migration,
        keys: &Arc<KeySet>,
        run: &RunId,
        context: &SliceContext,
        limit: Option<u64>,
    ) -> Result<Option<Self>> {
        let flows = migration.flows().map(|(_, flow)| &flow.plan);
        let orders = flows.filter_map(|plan| Some(format!("{}: {}", plan.name, plan.duplicates.order()?)));
        let orders: Vec<String> = orders.collect();
        if orders.is_empty() {
            return Ok(None);
        }
        let orders = orders.join("; ");
        let (wanted, known) = (run.clone(), orders.clone());
        if on(keys, move |keys| keys.has_first_pass(&wanted, &known)).await? {
            return Ok(None);
        }
        tracing::info!(%orders, "a first pass over the source finds the last record of each key; nothing is written yet");
        on(keys, KeySet::begin_first_pass).await?;
        Ok(Some(Self { keys: Arc::clone(keys), run: run.clone(), orders, context: context.clone(), limit }))
    }

    /// Whether the pass must read a scan. What is spilled is seen where it is read for the first time.
    pub(crate) fn reads(scan: &Scan) -> bool {
        scan.spilled.is_none() && ordered(scan).next().is_some()
    }

    /// Reads what is left of a slice.
    pub(crate) async fn look(
        &self,
        scan: &Scan,
        slice: &Slice,
        looked: &mut Looked,
    ) -> std::result::Result<(), SliceStop> {
        let run = &self.context.run;
        let read = scan.source.read(&slice.part, looked.cursor.as_ref(), run).await;
        let mut batches = read.map_err(SliceStop::reading)?;
        while self.limit.is_none_or(|limit| looked.position < limit) {
            let next = tokio::select! {
                biased;
                () = run.stop.cancelled() => return Err(EngineError::Interrupted.into()),
                next = batches.next() => next,
            };
            let Some(batch) = next else { break };
            let batch = batch.map_err(SliceStop::reading)?;
            self.take(scan, slice, batch, looked).await?;
        }
        Ok(())
    }

    async fn take(
        &self,
        scan: &Scan,
        slice: &Slice,
        mut batch: ReadBatch,
        looked: &mut Looked,
    ) -> Result<()> {
        let kib = u32::try_from(batch.bytes / 1024 + 1).unwrap_or(u32::MAX).min(self.context.memory_permits);
        let permit = self.context.memory.acquire_many(kib).await;
        let _permit = permit.map_err(|_| EngineError::Internal("the byte budget was closed".to_owned()))?;
        let left = self.limit.map_or(u64::MAX, |limit| limit - looked.position);
        let keep = usize::try_from(left).unwrap_or(usize::MAX).min(batch.records.num_rows());
        batch.records = batch.records.slice(0, keep);
        batch.unreadable.retain(|unreadable| unreadable.row < keep);
        for plan in ordered(scan) {
            let reached = plan.reach(&slice.id, &batch)?;
            let keys = own_keys(plan, &reached.records, &self.context.run);
            let found: Vec<_> = candidates(plan, &reached.records, keys)?.into_iter().flatten().collect();
            on(&self.keys, move |keys| keys.add_candidates(&found)).await?;
        }
        // A slice without order is read from its start again: what is met twice does no harm.
        looked.cursor = batch.cursor;
        looked.position += u64::try_from(keep).unwrap_or(0);
        Ok(())
    }

    /// Ends the pass.
    pub(crate) async fn end(&self) -> Result<()> {
        let (run, orders) = (self.run.clone(), self.orders.clone());
        let keys = on(&self.keys, move |keys| keys.end_first_pass(&run, &orders)).await?;
        tracing::info!(keys, "the first pass is complete; so many keys have several records");
        Ok(())
    }
}

impl Looked {
    /// Before the slice is read again: without a cursor it begins anew.
    pub(crate) fn again(&mut self) {
        if self.cursor.is_none() {
            self.position = 0;
        }
    }
}

fn ordered(scan: &Scan) -> impl Iterator<Item = &Arc<FlowPlan>> {
    let plans = scan.flows.iter().chain(&scan.spilling).map(|flow| &flow.plan);
    plans.filter(|plan| plan.duplicates.order().is_some())
}

/// At the end of a run: every record that gave way did so to one that was met again.
///
/// # Errors
/// The source has changed since the first pass, so that the last record of a key was not met.
pub(crate) async fn check(keys: &Arc<KeySet>) -> Result<()> {
    match on(keys, KeySet::unmet).await? {
        0 => Ok(()),
        unmet => Err(EngineError::refused(
            format!(
                "of {unmet} keys with several records the last one was there when the source was first read, and \
                 not when its records were written: the source has changed meanwhile"
            ),
            "run again: `run --new` reads the source as it is now",
        )),
    }
}
