//! Reading a part: a thread that steps through the rows and hands batches over, one ahead of whoever takes them.

use super::part::{KeyValue, Part, cursor, select};
use crate::catalog::{Layout, SliceKey};
use crate::client::ReadLease;
use crate::error::{from_driver, mismatch};
use crate::sql::identifiers;
use crate::types::{Builder, raw};
use arrow::array::{RecordBatch, RecordBatchOptions};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, Statement};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::mpsc::Sender;
use whimbrel_model::{Capacity, StoreName};
use whimbrel_store::{Parameter, ReadBatch, ReadRequest, Result, StoreError, StoreErrorKind, Unreadable};

/// After how many rows without a batch it is looked whether anybody still wants one.
const GLANCE: u64 = 4_096;

/// A batch, or that there are no more: a thread that ends badly sends neither.
pub(crate) enum Message {
    Batch(ReadBatch),
    End,
}

/// A read of one part.
pub(crate) struct Reading {
    pub store: StoreName,
    pub request: Arc<ReadRequest>,
    pub layout: Arc<Layout>,
    pub part: Part,
    pub condition: Option<String>,
}

impl Reading {
    /// Reads until the end or until nobody listens. Blocks.
    pub(crate) fn run(&self, lease: ReadLease, to: &Sender<Result<Message>>) {
        let last = match lease.connection().and_then(|connection| self.read(connection, to)) {
            Ok(()) => Ok(Message::End),
            Err(error) => Err(error),
        };
        // Whoever hears of the end finds the connection given back.
        drop(lease);
        // Whoever has gone away does not miss it.
        let _gone = to.blocking_send(last);
    }

    fn failed(&self, error: rusqlite::Error) -> StoreError {
        from_driver(&self.store, format!("cannot read {}", self.layout.name), error)
    }

    fn check_drift(&self, connection: &Connection) -> Result<()> {
        let now = Layout::read(&self.store, connection, &self.request);
        let has_changed = match now {
            Ok(now) => !now.is_like(&self.layout),
            Err(error) if error.kind().is_retryable() => return Err(error),
            Err(_) => true,
        };
        if !has_changed {
            return Ok(());
        }
        let context =
            format!("{} has changed: its columns or its key are not what they were", self.layout.name);
        Err(StoreError::new(StoreErrorKind::Drift, &self.store, context)
            .with_hint("`whimbrel plan` shows what it is now"))
    }

    fn read(&self, connection: &Connection, to: &Sender<Result<Message>>) -> Result<()> {
        self.check_drift(connection)?;
        let fields = identifiers(self.layout.columns.iter().map(|column| &column.name));
        let sql = select(&self.layout, &self.part, &fields, self.condition.as_deref(), true);
        let mut statement = connection.prepare(&sql).map_err(|error| self.failed(error))?;
        bind(&self.store, &mut statement, &self.part, &self.request.parameters)?;
        let mut batch = Batch::new(&self.layout);
        let mut rows = statement.raw_query();
        let mut seen: u64 = 0;
        while let Some(row) = rows.next().map_err(|error| self.failed(error))? {
            batch.push(self, row)?;
            if batch.records >= self.request.batch_records || batch.bytes >= self.request.batch_bytes {
                let full = batch.finish(self)?;
                if to.blocking_send(Ok(Message::Batch(full))).is_err() {
                    return Ok(());
                }
            }
            seen += 1;
            if seen.is_multiple_of(GLANCE) && to.is_closed() {
                return Ok(());
            }
        }
        if batch.records > 0 {
            let rest = batch.finish(self)?;
            let _gone = to.blocking_send(Ok(Message::Batch(rest)));
        }
        Ok(())
    }
}

/// Binds what a statement leaves open: the bounds of its part, and variables of the spec.
pub(crate) fn bind(
    store: &StoreName,
    statement: &mut Statement<'_>,
    part: &Part,
    parameters: &BTreeMap<String, Parameter>,
) -> Result<()> {
    for index in 1..=statement.parameter_count() {
        let name = statement.parameter_name(index).unwrap_or("?").to_owned();
        let failed = |error| from_driver(store, format!("cannot bind {name}"), error);
        if let Some(value) = part.bound(&name) {
            statement.raw_bind_parameter(index, value).map_err(failed)?;
            continue;
        }
        let value = name.strip_prefix('$').and_then(|name| parameters.get(name));
        let Some(Parameter(value)) = value else {
            let error = mismatch(store, format!("the query uses {name}, and no variable has that name"));
            return Err(error.with_hint("a variable of the spec stands as $name in a query"));
        };
        statement.raw_bind_parameter(index, value.as_str()).map_err(failed)?;
    }
    Ok(())
}

/// Rows on their way into a batch.
struct Batch {
    builders: Vec<Builder>,
    /// How many fields in front of the columns are the key.
    key_fields: usize,
    is_unsure: bool,
    records: usize,
    bytes: usize,
    unreadable: Vec<Unreadable>,
    last: Option<Vec<KeyValue>>,
}

impl Batch {
    fn new(layout: &Layout) -> Self {
        Self {
            builders: layout.columns.iter().map(|column| column.builder()).collect(),
            key_fields: layout.slice_key.expressions().len(),
            is_unsure: layout.slice_key.is_unsure(),
            records: 0,
            bytes: 0,
            unreadable: Vec::new(),
            last: None,
        }
    }

    fn push(&mut self, reading: &Reading, row: &Row<'_>) -> Result<()> {
        self.take_key(reading, row)?;
        for (at, builder) in self.builders.iter_mut().enumerate() {
            let value = row.get_ref(self.key_fields + at).map_err(|error| reading.failed(error))?;
            self.bytes += size(value);
            if let Err(reason) = builder.push(value) {
                let column =
                    reading.layout.columns.get(at).map(|column| column.name.clone()).unwrap_or_default();
                self.unreadable.push(Unreadable { row: self.records, column, reason, raw: raw(value) });
            }
        }
        self.records += 1;
        Ok(())
    }

    fn take_key(&mut self, reading: &Reading, row: &Row<'_>) -> Result<()> {
        if self.key_fields == 0 {
            return Ok(());
        }
        // A rowid needs no memory of its own.
        if let (SliceKey::Rowid(_), Some([KeyValue::Integer(last)])) =
            (&reading.layout.slice_key, self.last.as_deref_mut())
        {
            *last = row.get(0).map_err(|error| reading.failed(error))?;
            return Ok(());
        }
        let mut key = Vec::with_capacity(self.key_fields);
        for at in 0..self.key_fields {
            let value = row.get_ref(at).map_err(|error| reading.failed(error))?;
            key.push(KeyValue::of(value).ok_or_else(|| unsuitable(reading, "a record of it is NULL"))?);
        }
        if self.is_unsure && self.last.as_ref() == Some(&key) {
            return Err(unsuitable(reading, "several records share it"));
        }
        self.last = Some(key);
        Ok(())
    }

    fn finish(&mut self, reading: &Reading) -> Result<ReadBatch> {
        let columns = self.builders.iter_mut().map(Builder::finish).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(self.records));
        let schema = Arc::clone(&reading.layout.schema);
        let records = RecordBatch::try_new_with_options(schema, columns, &options).map_err(|error| {
            StoreError::new(StoreErrorKind::Internal, &reading.store, "a batch cannot be made")
                .caused_by(error)
        })?;
        let bytes = u64::try_from(std::mem::take(&mut self.bytes)).unwrap_or(u64::MAX);
        self.records = 0;
        Ok(ReadBatch {
            records,
            cursor: self.last.as_deref().map(cursor),
            unreadable: std::mem::take(&mut self.unreadable),
            bytes,
            capacity: Capacity::default(),
            originals: None,
        })
    }
}

fn unsuitable(reading: &Reading, why: &str) -> StoreError {
    let key = reading.layout.slice_key.expressions().join(", ");
    let context = format!("{} cannot be cut by {key}: {why}", reading.layout.name);
    mismatch(&reading.store, context)
        .with_hint("`slice_by` names columns that are unique and never NULL together")
}

fn size(value: ValueRef<'_>) -> usize {
    match value {
        ValueRef::Null => 1,
        ValueRef::Integer(_) | ValueRef::Real(_) => 8,
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes.len(),
    }
}
