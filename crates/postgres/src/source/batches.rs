//! Where batches are cut: by records, by bytes, and never between records of one key.

use crate::catalog::Layout;
use crate::copy::Row;
use crate::rows::{RowBuffer, RowError};
use std::collections::VecDeque;
use whimbrel_model::{Cursor, StoreName};
use whimbrel_store::{ReadBatch, ReadRequest, StoreError, StoreErrorKind};

/// Collects rows into batches.
pub(super) struct Batches {
    buffer: RowBuffer,
    max_records: usize,
    max_bytes: usize,
    columns: usize,
    /// How many fields of a row are its key as text; 0 in a part without order.
    key_fields: usize,
    /// Rows that share a key, while it is not known whether more will come; `None`: keys do not repeat.
    group: Option<Vec<Row>>,
    /// The key of the last row in the buffer.
    last_key: Option<Vec<String>>,
    ready: VecDeque<ReadBatch>,
}

/// Why a row could not be taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum BatchError {
    #[error(transparent)]
    Row(#[from] RowError),
    #[error("the key of a row is NULL or not text")]
    Key,
}

impl BatchError {
    pub(super) fn into_store(self, store: &StoreName, doing: &str) -> StoreError {
        let kind = match self {
            Self::Row(RowError::TooLong { .. }) => StoreErrorKind::Unsupported,
            Self::Row(RowError::Arrow(_)) => StoreErrorKind::Internal,
            Self::Row(RowError::Malformed { .. } | RowError::Null { .. }) | Self::Key => {
                StoreErrorKind::Protocol
            }
        };
        StoreError::new(kind, store, doing).caused_by(self)
    }
}

impl Batches {
    pub(super) fn new(layout: &Layout, is_ordered: bool, request: &ReadRequest) -> Self {
        Self {
            buffer: RowBuffer::new(&layout.schema, &layout.columns),
            max_records: request.batch_records.max(1),
            max_bytes: request.batch_bytes.max(1),
            columns: layout.columns.len(),
            key_fields: if is_ordered { layout.slice_key.len() } else { 0 },
            group: (is_ordered && !layout.is_unique).then(Vec::new),
            last_key: None,
            ready: VecDeque::new(),
        }
    }

    /// A batch that is complete.
    pub(super) fn next(&mut self) -> Option<ReadBatch> {
        self.ready.pop_front()
    }

    pub(super) fn push(&mut self, row: Row) -> Result<(), BatchError> {
        let Some(group) = &mut self.group else { return self.append(&[row]) };
        let number = |row: &Row| row.fields().nth(self.columns).flatten().map(<[u8]>::to_vec);
        let is_next = group.first().is_some_and(|first| number(first) != number(&row));
        let done = if is_next { std::mem::take(group) } else { Vec::new() };
        group.push(row);
        if done.is_empty() { Ok(()) } else { self.append(&done) }
    }

    /// No more rows come.
    pub(super) fn finish(&mut self) -> Result<(), BatchError> {
        let group = self.group.as_mut().map(std::mem::take).unwrap_or_default();
        if !group.is_empty() {
            self.append(&group)?;
        }
        self.cut()
    }

    /// Appends rows that stay together.
    fn append(&mut self, rows: &[Row]) -> Result<(), BatchError> {
        let bytes: usize = rows.iter().map(Row::len).sum();
        if self.buffer.rows() + rows.len() > self.max_records || self.buffer.bytes() + bytes > self.max_bytes
        {
            self.cut()?;
        }
        for row in rows {
            self.buffer.push(row)?;
        }
        if self.key_fields > 0 {
            self.last_key = Some(rows.last().and_then(|row| self.key_of(row)).ok_or(BatchError::Key)?);
        }
        if self.buffer.rows() >= self.max_records || self.buffer.bytes() >= self.max_bytes {
            self.cut()?;
        }
        Ok(())
    }

    /// Key texts of each row would be wasted: only those of a batch's last row are wanted, but which one that
    /// is shows only afterwards.
    fn key_of(&self, row: &Row) -> Option<Vec<String>> {
        let skipped = self.columns + usize::from(self.group.is_some());
        let key: Option<Vec<_>> =
            row.fields().skip(skipped).map(|field| String::from_utf8(field?.to_vec()).ok()).collect();
        key.filter(|key| key.len() == self.key_fields)
    }

    fn cut(&mut self) -> Result<(), BatchError> {
        if self.buffer.rows() > 0 {
            let taken = self.buffer.take()?;
            let cursor = self.last_key.take().map(|key| Cursor(key.into()));
            let bytes = u64::try_from(taken.bytes).unwrap_or(u64::MAX);
            self.ready.push_back(ReadBatch {
                records: taken.records,
                cursor,
                unreadable: taken.unreadable,
                bytes,
            });
        }
        Ok(())
    }
}
