//! Records of hot keys: they are given back again and again while others pass, and wait aside with a patience
//! of their own, so that neither their portions nor the table's pace wait with them.

use super::REQUEST_BYTES;
use super::delivery::{Course, Delivery};
use crate::limits::BATCH_ITEMS;
use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use whimbrel_store::{Outcome, Result};

/// How many records wait aside at the most; more stay in their portions.
const MOST: usize = 200;

/// The queue of one batch.
#[derive(Debug, Default)]
pub(super) struct Aside {
    /// Rows, each with whether it may have been written already.
    rows: Mutex<VecDeque<(usize, bool)>>,
    /// Portions that are still on their way and may put rows here.
    portions: AtomicUsize,
    changed: Notify,
}

/// A portion on its way.
pub(super) struct Portion<'a>(&'a Aside);

impl Drop for Portion<'_> {
    fn drop(&mut self) {
        self.0.portions.fetch_sub(1, Ordering::AcqRel);
        self.0.changed.notify_one();
    }
}

impl Aside {
    fn rows(&self) -> MutexGuard<'_, VecDeque<(usize, bool)>> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many portions will come.
    pub(super) fn expect(&self, portions: usize) {
        self.portions.store(portions, Ordering::Release);
    }

    /// One of them begins.
    pub(super) fn portion(&self) -> Portion<'_> {
        Portion(self)
    }

    /// Takes a row in; `false` where there is no room.
    pub(super) fn put(&self, row: usize, unsure: bool) -> bool {
        let mut rows = self.rows();
        let fits = rows.len() < MOST;
        if fits {
            rows.push_back((row, unsure));
            self.changed.notify_one();
        }
        fits
    }

    /// The rows of the next request; `None` where no more will come.
    async fn next(&self, delivery: &Delivery<'_>) -> Option<Vec<(usize, bool)>> {
        loop {
            // Looked at before the queue: a portion puts its rows there before it ends.
            let is_over = self.portions.load(Ordering::Acquire) == 0;
            let next = take(&mut self.rows(), delivery);
            if !next.is_empty() {
                return Some(next);
            }
            if is_over {
                return None;
            }
            self.changed.notified().await;
        }
    }
}

fn take(rows: &mut VecDeque<(usize, bool)>, delivery: &Delivery<'_>) -> Vec<(usize, bool)> {
    let (mut next, mut bytes) = (Vec::new(), 0);
    while let Some((row, unsure)) = rows.front().copied() {
        bytes += delivery.bytes(row);
        let alone = delivery.goes_alone(row);
        if !next.is_empty() && (alone || bytes > REQUEST_BYTES || next.len() == BATCH_ITEMS) {
            break;
        }
        rows.pop_front();
        next.push((row, unsure));
        if alone {
            break;
        }
    }
    next
}

impl Delivery<'_> {
    /// Writes what is put aside until nothing more can come.
    pub(super) async fn deliver_aside(&self) -> Result<Vec<(usize, Outcome)>> {
        let mut course = Course::new(self, HashSet::new(), true);
        while let Some(next) = self.aside.next(self).await {
            course.unsure.extend(next.iter().filter(|(_, unsure)| *unsure).map(|(row, _)| *row));
            let first: Vec<usize> = next.into_iter().map(|(row, _)| row).collect();
            course.step(first).await.map_err(|error| self.failed(error))?;
            // What is given back once more goes behind the others that wait here, if there is room.
            loop {
                let back = std::mem::take(&mut course.given_back).into_iter();
                let left: Vec<usize> =
                    back.filter(|row| !self.aside.put(*row, course.unsure.contains(row))).collect();
                course.waiting.extend(Some(left).filter(|left| !left.is_empty()));
                let Some(rows) = course.waiting.pop() else { break };
                course.step(rows).await.map_err(|error| self.failed(error))?;
            }
        }
        Ok(course.outcomes)
    }
}
