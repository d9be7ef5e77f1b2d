//! Where batches are cut: by records and by bytes, and where keys repeat rather between two keys.
//!
//! A cursor is the key of a batch's last record. Where keys repeat, and more records share one key than a
//! batch holds, a batch ends among them and its cursor says how many of them it leaves behind, with a digest
//! of the last one. The order among them is the same in each read while the source does not change; where it
//! has changed under that key since, the digest tells, and the read is refused rather than a record lost.

use crate::catalog::Layout;
use crate::copy::{CopyError, Row};
use crate::rows::{RowBuffer, RowError};
use crate::sql::{Part, Position, Within};
use std::collections::VecDeque;
use whimbrel_model::{Capacity, StoreName};
use whimbrel_store::{ReadBatch, ReadRequest, StoreError, StoreErrorKind};

/// A row larger than this is not kept for the sake of its key.
const SMALL_ROW_BYTES: usize = 4_096;

/// Collects rows into batches.
pub(super) struct Batches {
    buffer: RowBuffer,
    max_records: usize,
    max_bytes: usize,
    columns: usize,
    /// The fields of a row that are its key as text; empty in a part without order.
    key_fields: Vec<usize>,
    /// `None`: keys do not repeat.
    group: Option<Group>,
    /// The last row in the buffer, or its key.
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
        let is_same =
            |(at, held): &(usize, Vec<u8>)| row.fields().nth(*at).flatten() == Some(held.as_slice());
        !self.is_begun || self.fields.iter().all(is_same)
    }

    /// Begins anew with a row.
    fn begin(&mut self, row: Row<'_>) {
        self.is_begun = true;
        for (at, held) in &mut self.fields {
            held.clear();
            held.extend_from_slice(row.fields().nth(*at).flatten().unwrap_or_default());
        }
    }
}

/// What a cursor is made of once it is known that a batch ends here. To make it for each row would cost more
/// than to decode the row.
enum Last {
    /// A row's fields.
    Row(Vec<u8>),
    Made {
        key: Vec<String>,
        digest: String,
    },
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
        Self {
            buffer: RowBuffer::new(&layout.schema, &layout.columns),
            max_records: request.batch_records.max(1),
            max_bytes: request.batch_bytes.max(1),
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

    pub(super) fn push(&mut self, row: Row<'_>) -> Result<(), BatchError> {
        let is_full =
            self.buffer.rows() >= self.max_records || self.buffer.bytes() + row.len() > self.max_bytes;
        if let Some(group) = &self.group {
            let is_same = group.holds(row);
            // With a quarter left a batch ends between two keys, so that a small group stays together.
            let is_nearly_full = self.buffer.rows() >= self.max_records - self.max_records / 4
                || self.buffer.bytes() >= self.max_bytes - self.max_bytes / 4;
            if is_full || (is_nearly_full && !is_same) {
                self.cut(is_same)?;
            }
            self.enter(row, is_same)?;
            if self.group.as_mut().and_then(|group| group.anchor.take()).is_some() {
                return Ok(());
            }
        } else if is_full {
            self.cut(false)?;
        }
        self.buffer.push(row)?;
        if !self.key_fields.is_empty() {
            self.remember(row)?;
        }
        // A batch of unique keys that is full need not wait for the next row.
        if self.group.is_none() && self.buffer.rows() >= self.max_records {
            self.cut(false)?;
        }
        Ok(())
    }

    /// Keeps what the cursor of a batch is made of that ends with this row.
    fn remember(&mut self, row: Row<'_>) -> Result<(), BatchError> {
        if row.len() > SMALL_ROW_BYTES {
            self.last = Some(self.made(row)?);
        } else if let Some(Last::Row(fields)) = &mut self.last {
            fields.clear();
            fields.extend_from_slice(row.as_fields());
        } else {
            self.last = Some(Last::Row(row.as_fields().to_vec()));
        }
        Ok(())
    }

    /// Counts a row into its group.
    fn enter(&mut self, row: Row<'_>, is_same: bool) -> Result<(), BatchError> {
        let Some(group) = &mut self.group else { return Ok(()) };
        if !is_same {
            group.records = 0;
        }
        if !is_same || !group.is_begun {
            group.begin(row);
        }
        group.records += 1;
        match &group.anchor {
            Some(anchor) if *anchor != digest(row, self.columns) => Err(BatchError::Changed),
            _ => Ok(()),
        }
    }

    /// No more rows come.
    pub(super) fn finish(&mut self) -> Result<(), BatchError> {
        if self.group.as_ref().is_some_and(|group| group.anchor.is_some()) {
            return Err(BatchError::Changed);
        }
        self.cut(false)
    }

    fn made(&self, row: Row<'_>) -> Result<Last, BatchError> {
        let digest = if self.group.is_some() { digest(row, self.columns) } else { String::new() };
        Ok(Last::Made { key: self.key_of(row).ok_or(BatchError::Key)?, digest })
    }

    fn key_of(&self, row: Row<'_>) -> Option<Vec<String>> {
        let fields: Vec<_> = row.fields().collect();
        self.key_fields.iter().map(|at| self.buffer.key_text(*at, (*fields.get(*at)?)?)).collect()
    }

    /// `is_within`: more records of the last one's key follow.
    fn cut(&mut self, is_within: bool) -> Result<(), BatchError> {
        if self.buffer.rows() == 0 {
            return Ok(());
        }
        let made = match self.last.take() {
            None => None,
            Some(Last::Row(fields)) => Some(self.made(Row::of_fields(&fields))?),
            Some(made) => Some(made),
        };
        let records = self.group.as_ref().map_or(0, |group| group.records);
        let cursor = made.and_then(|last| match last {
            Last::Row(_) => None,
            Last::Made { key, digest } => {
                let within = is_within.then_some(Within { records, anchor: digest });
                Some(Position { key, within }.to_cursor())
            }
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
