//! A sample: records chosen by their keys and a seed, looked up in their targets one by one.
//!
//! Sources are cut finely and some of the pieces are looked into, so that a sample of a thousand out of millions
//! takes seconds. The same seed chooses the same records while the source does not change.

use super::by_key::ByKey;
use super::differences::Differences;
use super::reading::{Reading, Take};
use super::sums::locked;
use super::{Comparison, Found};
use crate::verification::{Depth, FlowVerification};
use arrow::array::{RecordBatch, UInt64Array};
use arrow::compute::{concat_batches, take_record_batch};
use async_trait::async_trait;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use whimbrel_engine::{EngineError, Result};
use whimbrel_model::{Fingerprint, Slice, SlicePart};
use whimbrel_store::Patience;

/// Records that a piece of a source should hold about.
const PIECE_RECORDS: u64 = 2_000;
/// Pieces that a source is cut into, at most.
const MOST_PIECES: u64 = 1_024;
/// Pieces that the sample of one source should come from, at least.
const LEAST_PIECES: u64 = 16;
/// Of how many records one is chosen, within a piece, at most.
const LOOK_AT: u64 = 16;

impl Comparison {
    /// Compares so many records, over all flows by the sizes of their sources.
    ///
    /// # Errors
    /// A store fails.
    pub async fn sample(mut self, records: u64, seed: u64) -> Result<Found> {
        self.begin_epochs().await?;
        let differences = Arc::new(Mutex::new(Differences::into_file(self.settings.differences.clone())));
        let layout = self.layout();
        let by_key = ByKey::new(&self.reading, &self.evidence, |_| true, &differences)?;
        self.reading.watch.begin_pass();
        let mut scans: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (place, flow) in layout.flows.iter().enumerate() {
            scans.entry(flow.scan).or_default().push(place);
        }
        let weight = |scan: usize| self.reading.migration.scans[scan].description.records.unwrap_or(1).max(1);
        let all: u64 = scans.keys().map(|scan| weight(*scan)).sum();
        let mut left = records;
        for (scan, flows) in &scans {
            let share = records.saturating_mul(weight(*scan)).div_ceil(all).min(left);
            left -= share;
            let piece = Pieces { reading: &self.reading, scan: *scan, flows, seed };
            for (flow, chosen) in piece.choose(share).await? {
                let (batches, prints): (Vec<RecordBatch>, Vec<Fingerprint>) = chosen.into_iter().unzip();
                let Some(schema) = batches.first().map(RecordBatch::schema) else { continue };
                let records = concat_batches(&schema, &batches)
                    .map_err(|error| EngineError::Internal(format!("a sample: {error}")))?;
                let prints: Vec<Option<Fingerprint>> = prints.into_iter().map(Some).collect();
                by_key.compare(flow, &records, &prints).await?;
            }
        }
        let mut counts: Vec<FlowVerification> =
            (0..layout.flows.len()).map(|flow| by_key.found(flow)).collect();
        let compared = counts.iter().map(|found| found.compared).sum();
        drop(by_key);
        self.notes = self.limit_kept(&mut counts, |_| true);
        self.end(Depth::Sample { records: compared, seed }, counts, differences)
    }
}

/// A source, cut finely.
struct Pieces<'a> {
    reading: &'a Reading,
    scan: usize,
    flows: &'a [usize],
    seed: u64,
}

/// Of each flow the chosen records, each a batch of its own.
type Sample = BTreeMap<usize, Vec<(RecordBatch, Fingerprint)>>;

impl Pieces<'_> {
    async fn choose(&self, wanted: u64) -> Result<Sample> {
        let scan = &self.reading.migration.scans[self.scan];
        let pieces = scan.description.records.unwrap_or(0).div_ceil(PIECE_RECORDS).clamp(1, MOST_PIECES);
        let pieces = usize::try_from(pieces).unwrap_or(1);
        let parts = self.reading.patiently(|| scan.source.slices(pieces)).await?;
        let mut parts: Vec<(u128, usize, SlicePart)> = parts
            .into_iter()
            .enumerate()
            .map(|(index, part)| (self.rank(index as u128), index, part))
            .collect();
        parts.sort_unstable_by_key(|(rank, ..)| *rank);
        let each = wanted.div_ceil(LEAST_PIECES.min(u64::try_from(parts.len()).unwrap_or(1)));
        let mut found = Vec::new();
        let mut parts = parts.into_iter();
        while u64::try_from(found.len()).unwrap_or(u64::MAX) < wanted {
            let some: Vec<_> = parts.by_ref().take(self.reading.parallel.max(4)).collect();
            if some.is_empty() {
                break;
            }
            let looked = stream::iter(some).map(|(_, index, part)| self.look(scan.slice(index, part), each));
            let looked: Vec<Vec<Chosen>> = looked.buffered(self.reading.parallel).try_collect().await?;
            found.extend(looked.into_iter().flatten());
        }
        found.truncate(usize::try_from(wanted).unwrap_or(usize::MAX));
        let mut sample = Sample::new();
        for chosen in found {
            sample.entry(chosen.flow).or_default().push((chosen.record, chosen.fingerprint));
        }
        Ok(sample)
    }

    /// The records of a piece that come first by their ranks; looked for again while the source fails in a way that
    /// may pass.
    async fn look(&self, slice: Slice, wanted: u64) -> Result<Vec<Chosen>> {
        let mut patience: Option<Patience<'_>> = None;
        loop {
            match self.look_once(&slice, wanted).await {
                Err(EngineError::Store(error)) => self.reading.wait(&mut patience, error).await?,
                outcome => return outcome,
            }
        }
    }

    async fn look_once(&self, slice: &Slice, wanted: u64) -> Result<Vec<Chosen>> {
        let scan = &self.reading.migration.scans[self.scan];
        let choice = Choice {
            seed: self.seed,
            wanted: usize::try_from(wanted).unwrap_or(usize::MAX),
            chosen: Mutex::default(),
        };
        let mut batches = scan.source.read(&slice.part, None, &self.reading.context).await?;
        let mut looked = 0;
        while let Some(batch) = self.reading.next(&mut batches).await? {
            let batch = batch?;
            self.reading.watch.source(batch.records.num_rows());
            self.reading.watch.used(batch.capacity);
            looked += u64::try_from(batch.records.num_rows()).unwrap_or(u64::MAX);
            for flow in self.flows {
                self.reading.expected(*flow, slice, &batch, &choice).await?;
            }
            if looked >= wanted.saturating_mul(LOOK_AT) {
                break;
            }
        }
        Ok(choice.chosen.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    fn rank(&self, of: u128) -> u128 {
        rank(self.seed, of)
    }
}

/// A record of the sample.
struct Chosen {
    rank: u128,
    flow: usize,
    record: RecordBatch,
    fingerprint: Fingerprint,
}

/// Keeps the records that come first by their ranks.
struct Choice {
    seed: u64,
    wanted: usize,
    chosen: Mutex<Vec<Chosen>>,
}

#[async_trait]
impl Take for Choice {
    async fn expected(
        &self,
        flow: usize,
        records: &RecordBatch,
        fingerprints: Vec<Option<Fingerprint>>,
        _: u64,
    ) -> Result<()> {
        let mut chosen = locked(&self.chosen);
        let last =
            if chosen.len() < self.wanted { u128::MAX } else { chosen.last().map_or(0, |last| last.rank) };
        let ranked = fingerprints.into_iter().enumerate().filter_map(|(row, fingerprint)| {
            let fingerprint = fingerprint?;
            Some((rank(self.seed, fingerprint.key), row, fingerprint))
        });
        let mut ranked: Vec<_> = ranked.filter(|(rank, ..)| *rank < last).collect();
        ranked.sort_unstable_by_key(|(rank, ..)| *rank);
        ranked.truncate(self.wanted);
        for (rank, row, fingerprint) in ranked {
            // A copy of the row, so that the batch need not stay in memory for it.
            let row = UInt64Array::from(vec![u64::try_from(row).unwrap_or(0)]);
            let record = take_record_batch(records, &row)
                .map_err(|error| EngineError::Internal(format!("a sample: {error}")))?;
            chosen.push(Chosen { rank, flow, record, fingerprint });
        }
        chosen.sort_by_key(|chosen| chosen.rank);
        chosen.truncate(self.wanted);
        Ok(())
    }
}

/// Where a seed puts a key.
fn rank(seed: u64, key: u128) -> u128 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_be_bytes());
    hasher.update(&key.to_be_bytes());
    let mut half = [0; 16];
    half.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    u128::from_be_bytes(half)
}

#[cfg(test)]
mod tests {
    use super::rank;

    #[test]
    fn a_seed_always_chooses_the_same_and_another_one_otherwise() {
        assert_eq!(rank(1, 5), rank(1, 5));
        assert_ne!(rank(1, 5), rank(2, 5));
        assert_ne!(rank(1, 5), rank(1, 6));
    }
}
