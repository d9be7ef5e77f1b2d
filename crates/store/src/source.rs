//! Reading.

use crate::context::RunContext;
use crate::error::Result;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use futures::stream::BoxStream;
use serde_json::Value;
use std::sync::Arc;
use whimbrel_model::{Capacity, Cursor, SlicePart};

/// A stream of batches of one slice.
pub type BatchStream = BoxStream<'static, Result<ReadBatch>>;

/// What a source holds.
#[derive(Clone, Debug)]
pub struct SourceDescription {
    /// The columns of every batch, in order.
    pub schema: SchemaRef,
    /// The columns whose values name a record, in order; empty where there are none.
    pub key: Vec<String>,
    /// Records, as far as the store knows without reading all of them.
    pub records: Option<u64>,
    /// Whether slices have cursors. Without, a slice restarts whole.
    pub resumable: bool,
    /// Whether the relation may hold several kinds of records, as a single-table design does, and the batches
    /// hold all of them: then records that no flow takes are counted.
    pub sees_all: bool,
    /// What a person should know before the run: "no primary key: one slice, restarted whole".
    pub notes: Vec<String>,
}

/// A stretch of a slice.
#[derive(Clone, Debug)]
pub struct ReadBatch {
    /// The records, row by row as the source ordered them. A row named in `unreadable` has NULL where its
    /// value could not be held.
    pub records: RecordBatch,
    /// Where to go on after this batch; `None` in a slice without order, and where one record of the store came
    /// apart into several batches, in all but the last of them.
    pub cursor: Option<Cursor>,
    /// Rows that must not go on, by row number, ascending.
    pub unreadable: Vec<Unreadable>,
    /// What the batch cost to read, in the source's own measure of bytes.
    pub bytes: u64,
    /// Units that reading it used.
    pub capacity: Capacity,
    /// The records as the store holds them, where the columns are not the whole of them.
    pub originals: Option<Arc<dyn Originals>>,
}

/// Records whole, for rejects: what the columns do not show must not be lost.
pub trait Originals: Send + Sync + std::fmt::Debug {
    /// The record of a row in the store's own lossless JSON form.
    fn original(&self, row: usize) -> Value;
}

/// A value that no Arrow column can hold as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// The row in the batch.
    pub row: usize,
    /// The column.
    pub column: String,
    /// Why, in a sentence.
    pub reason: String,
    /// The value itself, so that nothing is lost: its bytes as the store sent them.
    pub raw: Vec<u8>,
}

/// The reading side of a scan group.
#[async_trait]
pub trait Source: Send + Sync {
    /// What there is. Called before anything else, and at each slice to find drift.
    ///
    /// # Errors
    /// [`crate::StoreErrorKind::NotFound`] where the relation does not exist, `Unsupported` with the column
    /// and type where a column cannot be read.
    async fn describe(&self) -> Result<SourceDescription>;

    /// About `wanted` disjoint parts that together are the whole: every record, also one that arrives later,
    /// falls into exactly one. At least one part, also for an empty source. Parts are of similar size where
    /// the store can know.
    ///
    /// # Errors
    /// As [`Source::describe`].
    async fn slices(&self, wanted: usize) -> Result<Vec<SlicePart>>;

    /// Reads a part, or the rest of it after a cursor. The same part yields the same records in the same
    /// order while the source does not change. Batches may be cut elsewhere. An empty part yields no batch.
    /// Dropping the stream ends the read without harm to the store. Read units are reserved from the context's
    /// budget before they are used.
    ///
    /// # Errors
    /// The stream's items carry failures of the store; after one the stream is over.
    async fn read(
        &self,
        part: &SlicePart,
        after: Option<&Cursor>,
        context: &RunContext,
    ) -> Result<BatchStream>;

    /// The same source, where one object may be very many records: whoever opens each member of a record's document
    /// on its own asks for this, in which an object that is no record among others comes as objects of one member
    /// each. `None`: the store has no such objects.
    fn members(&self) -> Option<Arc<dyn Source>> {
        None
    }

    /// Whether the store itself holds no two records of one key ([`SourceDescription::key`]), as its batches deliver the
    /// key, and reads of a run that was cut off and goes on deliver none twice, also where the records change meanwhile.
    ///
    /// # Errors
    /// As [`Source::describe`].
    async fn delivers_keys_once(&self) -> Result<bool> {
        Ok(false)
    }

    /// Cuts the rest of a part, so that more workers can share it. Empty: it cannot be cut.
    ///
    /// # Errors
    /// As [`Source::slices`].
    async fn split(&self, _part: &SlicePart, _after: Option<&Cursor>) -> Result<Vec<SlicePart>> {
        Ok(Vec::new())
    }
}
