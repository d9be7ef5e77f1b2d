//! A database in a folder of its own.

use arrow::array::{Array as _, ArrayRef, Int64Array, RecordBatch, StringArray};
use futures::TryStreamExt as _;
use rusqlite::Connection;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;
use whimbrel_model::{Checkpoint, FlowName, SlicePart, StoreName, record};
use whimbrel_sqlite::{SqliteConfig, SqliteStore};
use whimbrel_store::{
    Mode, Nulls, ReadBatch, ReadRequest, Relation, Result, Source, Store as _, Target, Unreadable,
    WriteBatch, WriteRequest, conformance,
};

pub struct Fixture {
    folder: TempDir,
    pub store: SqliteStore,
}

impl Fixture {
    /// A file that the script makes.
    pub fn new(script: &str) -> Self {
        let fixture = Self::missing();
        fixture.connect().execute_batch(script).unwrap();
        fixture
    }

    /// No file yet.
    pub fn missing() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder.path().join("test.db"));
        Self { folder, store }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("test.db")
    }

    /// Another program's connection.
    pub fn connect(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }

    pub fn source(&self, request: ReadRequest) -> Arc<dyn Source> {
        self.store.source(request).unwrap()
    }

    pub fn table(&self, name: &str) -> Arc<dyn Source> {
        self.source(reading(Relation::Table(name.to_owned())))
    }

    pub fn target(&self, request: WriteRequest) -> Arc<dyn Target> {
        self.store.target(request).unwrap()
    }

    /// What SQLite says, as text.
    pub fn ask(&self, sql: &str) -> String {
        self.connect().query_row(sql, [], |row| row.get::<_, Option<String>>(0)).unwrap().unwrap_or_default()
    }
}

pub fn open(path: &Path) -> SqliteStore {
    SqliteStore::new(StoreName::new("lite"), SqliteConfig::at(path))
}

pub fn reading(relation: Relation) -> ReadRequest {
    ReadRequest {
        relation,
        slice_by: Vec::new(),
        columns: BTreeMap::new(),
        parameters: BTreeMap::new(),
        wanted: None,
        condition: None,
        wants_all: false,
        whole: false,
        batch_records: 100,
        batch_bytes: 1 << 20,
    }
}

pub fn query(sql: &str) -> ReadRequest {
    reading(Relation::Query(sql.to_owned()))
}

/// A table with declared columns, `a: timestamp`.
pub fn declared(table: &str, columns: &[(&str, &str)]) -> ReadRequest {
    let columns = columns.iter().map(|(name, word)| ((*name).to_owned(), (*word).to_owned())).collect();
    ReadRequest { columns, ..reading(Relation::Table(table.to_owned())) }
}

pub fn writing(table: &str, mode: Mode) -> WriteRequest {
    WriteRequest {
        flow: FlowName::new("flow"),
        table: table.to_owned(),
        key: Vec::new(),
        mode,
        nulls: Nulls::Null,
        forms: BTreeMap::new(),
        ignore: Vec::new(),
        scope: BTreeMap::new(),
        allow_lossy: Vec::new(),
        shape: None,
        collection: None,
    }
}

pub async fn batches(source: &dyn Source, part: &SlicePart) -> Result<Vec<ReadBatch>> {
    source.read(part, None, &conformance::context()).await?.try_collect().await
}

/// Everything in one slice.
pub async fn all(source: &dyn Source) -> Result<Vec<ReadBatch>> {
    source.describe().await?;
    let parts = source.slices(1).await?;
    batches(source, &parts[0]).await
}

/// All records as JSON, and all that could not be read.
pub async fn records(source: &dyn Source) -> (Vec<Map<String, Value>>, Vec<Unreadable>) {
    let (mut records, mut unreadable) = (Vec::new(), Vec::new());
    for batch in all(source).await.unwrap() {
        let before = records.len();
        records.extend((0..batch.records.num_rows()).map(|row| record::to_json(&batch.records, row)));
        unreadable.extend(
            batch.unreadable.into_iter().map(|value| Unreadable { row: before + value.row, ..value }),
        );
    }
    (records, unreadable)
}

/// The values of one column.
pub async fn column(source: &dyn Source, name: &str) -> Vec<Value> {
    let (records, unreadable) = records(source).await;
    assert_eq!(unreadable, [], "everything is readable");
    records.into_iter().map(|mut record| record.remove(name).unwrap()).collect()
}

pub fn people(ids: &[i64], names: &[Option<&str>]) -> RecordBatch {
    batch_of(vec![
        ("id", Arc::new(Int64Array::from(ids.to_vec())) as ArrayRef),
        ("name", Arc::new(StringArray::from(names.to_vec()))),
    ])
}

pub fn batch_of(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    assert!(columns.iter().all(|(_, column)| column.len() == columns[0].1.len()));
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, true)))
        .unwrap()
}

pub fn batch(records: &RecordBatch, seq: u64) -> WriteBatch {
    WriteBatch { records: records.clone(), seq, cursor: None, contested: false, guards: None }
}

pub fn checkpoint(seq: u64) -> Checkpoint {
    Checkpoint { seq, position: seq * 10, ..Checkpoint::default() }
}
