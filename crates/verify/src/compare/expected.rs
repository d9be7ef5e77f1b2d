//! How many records the sources hold for each flow, where no run has counted them.

use super::Comparison;
use super::reading::Take;
use super::sums::locked;
use arrow::array::RecordBatch;
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use whimbrel_engine::Result;
use whimbrel_engine::summary::Expected;
use whimbrel_model::{Fingerprint, FlowName};

impl Comparison {
    /// Reads the sources and counts what would arrive of each flow.
    ///
    /// # Errors
    /// A store fails.
    pub async fn expected(self) -> Result<BTreeMap<FlowName, Expected>> {
        self.begin_epochs().await?;
        let layout = self.layout();
        let tally = Arc::new(Tally { flows: layout.flows.iter().map(|_| Mutex::default()).collect() });
        self.reading.watch.begin_pass();
        let flows = (0..layout.flows.len()).collect();
        self.reading.sources(&flows, &(Arc::clone(&tally) as Arc<dyn Take>)).await?;
        let expected = layout.flows.iter().zip(&tally.flows).map(|(flow, arrived)| {
            (flow.plan.name.clone(), Expected { arrived: *locked(arrived), fresh: true })
        });
        Ok(expected.collect())
    }
}

struct Tally {
    flows: Vec<Mutex<u64>>,
}

#[async_trait]
impl Take for Tally {
    async fn expected(
        &self,
        flow: usize,
        _: &RecordBatch,
        fingerprints: Vec<Option<Fingerprint>>,
        _: u64,
    ) -> Result<()> {
        let arriving = fingerprints.iter().flatten().count();
        *locked(&self.flows[flow]) += u64::try_from(arriving).unwrap_or(u64::MAX);
        Ok(())
    }
}
