//! What the tests share: a folder with files, requests, and reading to the end.

use futures::TryStreamExt as _;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;
use whimbrel_files::{FilesConfig, FilesStore};
use whimbrel_model::{Cursor, SlicePart, record};
use whimbrel_store::{
    BatchStream, ReadBatch, ReadRequest, Relation, Result, Source, Store as _, StoreError, conformance,
};

/// A folder with a file of this name.
pub fn folder(name: &str, bytes: impl AsRef<[u8]>) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), name, bytes);
    folder
}

/// Writes a file, with the folders that it needs.
pub fn put(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) {
    let path = folder.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// The store over a folder.
pub fn store(folder: &Path) -> FilesStore {
    usual_store(folder).durable_at_once()
}

/// A store as users have it: what is short is durable at its end.
pub fn usual_store(folder: &Path) -> FilesStore {
    FilesStore::new("files".into(), &FilesConfig::at(folder.display().to_string())).unwrap()
}

/// Names a real object store, `s3://bucket/prefix`, with `AWS_*` variables for the rest.
pub const REAL_STORE: &str = "WHIMBREL_TEST_OBJECT_STORE";

/// An object store in memory and, where there is one, a real one.
pub fn object_stores(prefix: &str) -> Vec<FilesStore> {
    let memory: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let mut stores = vec![FilesStore::over("memory".into(), memory, prefix, None)];
    if let Ok(url) = std::env::var(REAL_STORE) {
        let run = whimbrel_model::RunId::generate();
        let config = FilesConfig::at(format!("{}/{run}/{prefix}", url.trim_end_matches('/')));
        stores.push(FilesStore::new("real".into(), &config).unwrap());
    }
    stores
}

/// Everything of a table, with these columns; none: all that it says of itself.
pub fn request(table: &str, columns: &[(&str, &str)], wanted: &[&str]) -> ReadRequest {
    let wanted = wanted.iter().map(|name| (*name).to_owned());
    ReadRequest {
        relation: Relation::Table(table.to_owned()),
        slice_by: Vec::new(),
        columns: columns.iter().map(|(name, word)| ((*name).to_owned(), (*word).to_owned())).collect(),
        parameters: [].into(),
        wanted: Some(wanted.collect()).filter(|wanted: &std::collections::BTreeSet<_>| !wanted.is_empty()),
        condition: None,
        wants_all: false,
        whole: false,
        batch_records: 3,
        batch_bytes: 1 << 20,
    }
}

/// The source of a table in a folder.
pub fn source(folder: &Path, request: ReadRequest) -> Arc<dyn Source> {
    store(folder).source(request).unwrap()
}

/// A part to its end.
pub async fn read(source: &dyn Source, part: &SlicePart, after: Option<&Cursor>) -> Result<Vec<ReadBatch>> {
    let stream: BatchStream = source.read(part, after, &conformance::context()).await?;
    stream.try_collect().await
}

/// Batches of the whole table, in one slice.
pub async fn read_all(source: &dyn Source) -> Result<Vec<ReadBatch>> {
    let parts = source.slices(1).await?;
    assert_eq!(parts.len(), 1);
    read(source, &parts[0], None).await
}

/// The records of batches as JSON.
pub fn records(batches: &[ReadBatch]) -> Vec<Value> {
    let rows = |batch: &ReadBatch| {
        (0..batch.records.num_rows())
            .map(|row| Value::Object(record::to_json(&batch.records, row)))
            .collect::<Vec<_>>()
    };
    batches.iter().flat_map(rows).collect()
}

/// What is unreadable in batches: the row in the whole, the column, the bytes.
pub fn unreadable(batches: &[ReadBatch]) -> Vec<(usize, String, String)> {
    let mut before = 0;
    let mut all = Vec::new();
    for batch in batches {
        for bad in &batch.unreadable {
            let raw = String::from_utf8_lossy(&bad.raw).into_owned();
            all.push((before + bad.row, bad.column.clone(), raw));
        }
        before += batch.records.num_rows();
    }
    all
}

/// The whole chain of an error.
pub fn chain(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
