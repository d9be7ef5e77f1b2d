//! Where batches are cut: by records and by bytes, and where keys repeat rather between two keys.
//!
//! A cursor is the key of a batch's last record. Where keys repeat, and more records share one key than a
//! batch holds, a batch ends among them and its cursor says how many of them it leaves behind, with a digest
//! of the last one. The order among them is the same in each read while the source does not change; where it
//! has changed under that key since, the digest tells, and the read is refused rather than a record lost.

use crate::catalog::Layout;
use crate::copy::{CopyError, Row, Rows};
use crate::rows::{Portion, RowBuffer, RowError};
use crate::sql::{Part, Position, Within};
use std::collections::VecDeque;
use whimbrel_model::{Capacity, StoreName};
use whimbrel_store::{ReadBatch, ReadRequest, StoreError, StoreErrorKind};

/// Collects rows into batches.
pub(super) struct Batches {
    /// The rows of the batch that is begun.
    buffer: RowBuffer,
    /// How many rows the batch has, those among them that the buffer does not hold yet.
    records: usize,
    /// What they took on the wire.
    bytes: usize,
    max_records: usize,
    max_bytes: usize,
    columns: usize,
    /// The fields of a row that are its key as text; empty in a part without order.
    key_fields: Vec<usize>,
    /// `None`: keys do not repeat.
    group: Option<Group>,
    /// Of the last row in the buffer.
    last: Option<Last>,
    ready: VecDeque<ReadBatch>,
}

/// The records of one key, as far as they have come.
#[derive(Default)]
struct Group {
    /// The fields that tell it from another key's, and what they hold.
    fields: Vec<(usize, Vec<u8>)>,
    /// Whether a record has come.
    is_begun: bool,
    /// How many have come.
    records: u64,
    /// What the first row must be when a read goes on among records of one key.
    anchor: Option<String>,
}

impl Group {
    /// Whether a row belongs to it, too.
    fn holds(&self, row: Row<'_>) -> bool {
        let is_same = |(at, held): &(usize, Vec<u8>)| row.field(*at) == Some(held.as_slice());
        !self.is_begun || self.fields.iter().all(is_same)
    }

    /// Begins anew with a row.
    fn begin(&mut self, row: Row<'_>) {
        self.is_begun = true;
        for (at, held) in &mut self.fields {
            held.clear();
            held.extend_from_slice(row.field(*at).unwrap_or_default());
        }
    }
}

/// Where a row belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entered {
    /// Into the batch that is begun.
    Batch,
    /// Among those read before, of which it is the last.
    Before,
}

/// What a cursor is made of where a batch ends with this row.
struct Last {
    key: Vec<String>,
    /// Empty where keys do not repeat.
    digest: String,
}

/// Why a row could not be taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum BatchError {
    #[error(transparent)]
    Row(#[from] RowError),
    #[error(transparent)]
    Copy(#[from] CopyError),
    #[error("the key of a row is NULL or not text")]
    Key,
    #[error("records that share the key at which the read went on have changed since")]
    Changed,
}

impl BatchError {
    pub(super) fn into_store(self, store: &StoreName, doing: &str) -> StoreError {
        let kind = match self {
            Self::Row(RowError::TooLong { .. }) => StoreErrorKind::Unsupported,
            Self::Row(RowError::Arrow(_)) => StoreErrorKind::Internal,
            Self::Changed => StoreErrorKind::Drift,
            Self::Row(RowError::Malformed { .. } | RowError::Null { .. }) | Self::Copy(_) | Self::Key => {
                StoreErrorKind::Protocol
            }
        };
        let hint = matches!(self, Self::Changed)
            .then_some("begin again with `whimbrel run --new`, or slice by a key that is unique");
        let error = StoreError::new(kind, store, doing).caused_by(self);
        match hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}

impl Batches {
    /// `is_ordered`: rows come in the order of their key, with its fields.
    pub(super) fn new(layout: &Layout, part: &Part, request: &ReadRequest, is_ordered: bool) -> Self {
        let group = Group {
            fields: layout.group_fields().into_iter().map(|at| (at, Vec::new())).collect(),
            is_begun: false,
            // The first row to come is one that an earlier batch ended with.
            records: part.within().map_or(0, |within| within.records.saturating_sub(1)),
            anchor: part.within().map(|within| within.anchor.clone()),
        };
        let portion = Portion { rows: request.batch_records.max(1), bytes: request.batch_bytes.max(1) };
        Self {
            buffer: RowBuffer::new(&layout.schema, &layout.columns).in_portions(portion),
            records: 0,
            bytes: 0,
            max_records: portion.rows,
            max_bytes: portion.bytes,
            columns: layout.columns.len(),
            key_fields: if is_ordered { layout.key_fields() } else { Vec::new() },
            group: (is_ordered && !layout.is_unique).then_some(group),
            last: None,
            ready: VecDeque::new(),
        }
    }

    /// A batch that is complete.
    pub(super) fn next(&mut self) -> Option<ReadBatch> {
        self.ready.pop_front()
    }

    /// Takes rows, and ends batches where they are full.
    pub(super) fn push(&mut self, rows: Rows<'_>) -> Result<(), BatchError> {
        // Where no batch ends among them, no row need be asked whether one does.
        let (records, bytes) = (self.records + rows.len(), self.bytes + rows.bytes());
        if self.group.is_none() && records < self.max_records && bytes <= self.max_bytes {
            (self.records, self.bytes) = (records, bytes);
            return self.hold(rows);
        }
        // The first row that the buffer does not hold yet.
        let mut begin = 0;
        for (at, row) in rows.iter().enumerate() {
            let is_same = self.group.as_ref().is_some_and(|group| group.holds(row));
            if self.ends_before(row, is_same) {
                self.hold(rows.part(begin..at))?;
                begin = at;
                self.cut(is_same)?;
            }
            if self.enter(row, is_same)? == Entered::Before {
                begin = at + 1;
                continue;
            }
            self.records += 1;
            self.bytes += row.len();
            // A batch of unique keys that is full need not wait for the next row.
            if self.group.is_none() && self.records >= self.max_records {
                self.hold(rows.part(begin..at + 1))?;
                begin = at + 1;
                self.cut(false)?;
            }
        }
        self.hold(rows.part(begin..rows.len()))
    }

    /// `is_same`: the row has the key of the one before it.
    fn ends_before(&self, row: Row<'_>, is_same: bool) -> bool {
        let is_full = self.records >= self.max_records || self.bytes + row.len() > self.max_bytes;
        // With a quarter left a batch ends between two keys, so that a small group stays together.
        let is_nearly_full = self.records >= self.max_records - self.max_records / 4
            || self.bytes >= self.max_bytes - self.max_bytes / 4;
        is_full || (self.group.is_some() && is_nearly_full && !is_same)
    }

    /// Takes rows into the batch that is begun, and keeps what its cursor is made of if it ends with them.
    fn hold(&mut self, rows: Rows<'_>) -> Result<(), BatchError> {
        let Some(last) = rows.len().checked_sub(1) else { return Ok(()) };
        self.buffer.push(rows)?;
        if !self.key_fields.is_empty() {
            let row = rows.row(last);
            let digest = if self.group.is_some() { digest(row, self.columns) } else { String::new() };
            self.last = Some(Last { key: self.key_of(row).ok_or(BatchError::Key)?, digest });
        }
        Ok(())
    }

    fn key_of(&self, row: Row<'_>) -> Option<Vec<String>> {
        self.key_fields.iter().map(|at| self.buffer.key_text(*at, row.field(*at)?)).collect()
    }

    /// Counts a row into its group.
    fn enter(&mut self, row: Row<'_>, is_same: bool) -> Result<Entered, BatchError> {
        let Some(group) = &mut self.group else { return Ok(Entered::Batch) };
        if !is_same {
            group.records = 0;
        }
        if !is_same || !group.is_begun {
            group.begin(row);
        }
        group.records += 1;
        match group.anchor.take() {
            None => Ok(Entered::Batch),
            Some(anchor) if anchor == digest(row, self.columns) => Ok(Entered::Before),
            Some(_) => Err(BatchError::Changed),
        }
    }

    /// No more rows come.
    pub(super) fn finish(&mut self) -> Result<(), BatchError> {
        if self.group.as_ref().is_some_and(|group| group.anchor.is_some()) {
            return Err(BatchError::Changed);
        }
        self.cut(false)
    }

    /// `is_within`: more records of the last one's key follow.
    fn cut(&mut self, is_within: bool) -> Result<(), BatchError> {
        if self.records == 0 {
            return Ok(());
        }
        (self.records, self.bytes) = (0, 0);
        let records = self.group.as_ref().map_or(0, |group| group.records);
        let cursor = self.last.take().map(|Last { key, digest }| {
            let within = is_within.then_some(Within { records, anchor: digest });
            Position { key, within }.to_cursor()
        });
        let taken = self.buffer.take()?;
        let bytes = u64::try_from(taken.bytes).unwrap_or(u64::MAX);
        self.ready.push_back(ReadBatch {
            records: taken.records,
            cursor,
            unreadable: taken.unreadable,
            bytes,
            capacity: Capacity::default(),
            originals: None,
        });
        Ok(())
    }
}

/// A digest of a row's columns. The hidden fields behind them depend on where a read began.
fn digest(row: Row<'_>, columns: usize) -> String {
    let mut hasher = blake3::Hasher::new();
    for field in row.fields().take(columns) {
        let length = field.map_or(-1, |field| i64::try_from(field.len()).unwrap_or(i64::MAX));
        hasher.update(&length.to_be_bytes());
        hasher.update(field.unwrap_or_default());
    }
    hasher.finalize().to_hex()[..32].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy::CopyDecoder;
    use crate::copy::OwnRow;
    use crate::copy::tests::encode;
    use crate::rows::tests::buffer;
    use crate::types::{ColumnType, Scalar};

    fn batches(max_records: usize, max_bytes: usize) -> Batches {
        Batches {
            buffer: buffer(&[ColumnType::Scalar(Scalar::Text)], false),
            records: 0,
            bytes: 0,
            max_records,
            max_bytes,
            columns: 1,
            key_fields: Vec::new(),
            group: None,
            last: None,
            ready: VecDeque::new(),
        }
    }

    fn sizes(mut batches: Batches) -> Vec<(usize, u64)> {
        batches.cut(false).unwrap();
        batches.ready.drain(..).map(|batch| (batch.records.num_rows(), batch.bytes)).collect()
    }

    #[test]
    fn batches_end_where_they_are_full_however_many_rows_come_at_once() {
        let texts: Vec<Vec<u8>> = (0..100).map(|row| vec![b'a'; row * 7 % 30]).collect();
        let rows: Vec<Vec<Option<Vec<u8>>>> = texts.iter().map(|text| vec![Some(text.clone())]).collect();
        for (max_records, max_bytes) in
            [(7, 10_000), (1_000, 100), (10, 200), (100, 10_000), (1, 1), (1_000, 1 << 20)]
        {
            let mut at_once = batches(max_records, max_bytes);
            CopyDecoder::new(1).rows(&encode(&rows, &[]), |rows| at_once.push(rows)).unwrap();
            let mut singly = batches(max_records, max_bytes);
            for text in &texts {
                let row = OwnRow::of_values(std::iter::once(Some(text.as_slice()))).unwrap();
                singly.push(row.as_rows()).unwrap();
            }
            let sizes = sizes(at_once);
            assert_eq!(sizes, self::sizes(singly), "{max_records} {max_bytes}");
            assert_eq!(sizes.iter().map(|(records, _)| records).sum::<usize>(), texts.len());
            let fits = |(records, bytes): &(usize, u64)| {
                *records <= max_records && (*records == 1 || *bytes <= u64::try_from(max_bytes).unwrap())
            };
            assert!(sizes.iter().all(fits), "{sizes:?}");
        }
    }
}
