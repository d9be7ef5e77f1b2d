//! What is read of the source for searches: some vectors to look for, and the nearest of each among all.

use super::Columns;
use super::distance::Metric;
use crate::compare::Take;
use arrow::array::RecordBatch;
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use whimbrel_engine::Result;
use whimbrel_model::Fingerprint;

/// The vectors that are looked for: those with the smallest key hashes.
pub(super) struct Sample {
    columns: Arc<Columns>,
    most: usize,
    chosen: Mutex<BTreeMap<u128, (String, Vec<f32>)>>,
}

impl Sample {
    pub(super) fn new(columns: Arc<Columns>, most: usize) -> Self {
        Self { columns, most, chosen: Mutex::default() }
    }

    /// What each is called, and its floats.
    pub(super) fn chosen(&self) -> Vec<(String, Vec<f32>)> {
        let chosen = self.chosen.lock().unwrap_or_else(PoisonError::into_inner);
        chosen.values().cloned().collect()
    }
}

#[async_trait]
impl Take for Sample {
    async fn expected(
        &self,
        _: usize,
        records: &RecordBatch,
        fingerprints: Vec<Option<Fingerprint>>,
        _: u64,
    ) -> Result<()> {
        let mut chosen = self.chosen.lock().unwrap_or_else(PoisonError::into_inner);
        for (row, id, vector) in self.columns.records(records) {
            // What would be refused is not in the target.
            let Some(Some(fingerprint)) = fingerprints.get(row) else { continue };
            let is_far = chosen.len() >= self.most
                && chosen.last_key_value().is_some_and(|(last, _)| *last < fingerprint.key);
            if is_far {
                continue;
            }
            chosen.insert(fingerprint.key, (id, vector.to_vec()));
            if chosen.len() > self.most {
                chosen.pop_last();
            }
        }
        Ok(())
    }
}

/// The nearest of each vector that is looked for, among all that are read.
pub(super) struct Exact {
    columns: Arc<Columns>,
    metric: Metric,
    queries: Vec<Vec<f32>>,
    top: usize,
    nearest: Mutex<Vec<Nearest>>,
}

/// Distances with names, the nearest first.
type Nearest = Vec<(f64, String)>;

impl Exact {
    pub(super) fn new(columns: Arc<Columns>, metric: Metric, queries: Vec<Vec<f32>>, top: usize) -> Self {
        let nearest = Mutex::new(vec![Nearest::new(); queries.len()]);
        Self { columns, metric, queries, top, nearest }
    }

    pub(super) fn nearest(&self) -> Vec<Nearest> {
        self.nearest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Puts a record among the nearest, if it is.
fn keep(nearest: &mut Nearest, top: usize, distance: f64, id: &str) {
    let is_far = nearest.len() >= top && nearest.last().is_some_and(|(last, _)| *last <= distance);
    if is_far || distance.is_nan() {
        return;
    }
    let place = nearest.partition_point(|(other, _)| *other <= distance);
    nearest.insert(place, (distance, id.to_owned()));
    nearest.truncate(top);
}

#[async_trait]
impl Take for Exact {
    async fn expected(
        &self,
        _: usize,
        records: &RecordBatch,
        fingerprints: Vec<Option<Fingerprint>>,
        _: u64,
    ) -> Result<()> {
        let mut records = self.columns.records(records);
        records.retain(|(row, ..)| matches!(fingerprints.get(*row), Some(Some(_))));
        let mut found = vec![Nearest::new(); self.queries.len()];
        for (query, nearest) in self.queries.iter().zip(&mut found) {
            for (_, id, vector) in &records {
                keep(nearest, self.top, self.metric.distance(query, vector), id);
            }
        }
        let mut all = self.nearest.lock().unwrap_or_else(PoisonError::into_inner);
        for (nearest, found) in all.iter_mut().zip(found) {
            for (distance, id) in found {
                keep(nearest, self.top, distance, &id);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_are_kept_in_order() {
        let mut nearest = Nearest::new();
        for (distance, id) in [(3.0, "c"), (1.0, "a"), (f64::NAN, "n"), (2.0, "b"), (4.0, "d"), (0.5, "z")] {
            keep(&mut nearest, 3, distance, id);
        }
        let ids: Vec<_> = nearest.iter().map(|(_, id)| id.as_str()).collect();
        assert_eq!(ids, ["z", "a", "b"]);
    }
}
