//! A source in memory whose records are documents: with columns of its own, or with whatever is asked for.

use async_trait::async_trait;
use futures::StreamExt as _;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use whimbrel_model::attribute::{Column, ITEM, Rows, raw_value};
use whimbrel_model::{Capacity, Cursor, Identity, SlicePart, StoreName};
use whimbrel_store::{
    BatchStream, Finding, ReadBatch, ReadRequest, Result, RunContext, Source, SourceDescription, Store,
    StoreError, StoreErrorKind, Target, Unreadable, WriteRequest,
};

/// What tests set and see.
#[derive(Default)]
pub struct Documents {
    /// The records, in JSON.
    pub records: Vec<String>,
    /// The columns that it has by itself; empty: it has what it is asked for, and its key.
    pub own: Vec<&'static str>,
    /// The columns that name a record.
    pub key: Vec<&'static str>,
    /// What was asked of it.
    pub requests: Mutex<Vec<ReadRequest>>,
}

pub struct DocumentStore {
    name: StoreName,
    documents: Arc<Documents>,
}

impl DocumentStore {
    pub fn open(name: &str, documents: &Arc<Documents>) -> Arc<dyn Store> {
        Arc::new(Self { name: name.into(), documents: Arc::clone(documents) })
    }
}

#[async_trait]
impl Store for DocumentStore {
    fn name(&self) -> &StoreName {
        &self.name
    }

    fn location(&self) -> String {
        "documents".to_owned()
    }

    async fn identity(&self) -> Result<Identity> {
        Ok(Identity::new("documents"))
    }

    async fn check(&self) -> Vec<Finding> {
        Vec::new()
    }

    fn source(&self, request: ReadRequest) -> Result<Arc<dyn Source>> {
        self.documents.requests.lock().unwrap().push(request.clone());
        let documents = &self.documents;
        let own = documents.own.iter().map(|name| (*name).to_owned());
        let mut names: Vec<String> = documents.key.iter().map(|name| (*name).to_owned()).collect();
        names.extend(own);
        if documents.own.is_empty() {
            names.extend(
                request
                    .wanted
                    .clone()
                    .unwrap_or_else(|| request.columns.keys().cloned().chain([ITEM.to_owned()]).collect()),
            );
        } else if let Some(unknown) = request.columns.keys().find(|name| !names.contains(name)) {
            let context = format!("`columns` names `{unknown}`, which is not there");
            return Err(StoreError::new(StoreErrorKind::NotFound, &self.name, context));
        }
        let mut seen = BTreeSet::new();
        names.retain(|name| seen.insert(name.clone()));
        let word = |name: &String| request.columns.get(name).map(String::as_str);
        let columns = names.iter().map(|name| Column::declared(name, word(name)).unwrap()).collect();
        Ok(Arc::new(DocumentSource {
            documents: Arc::clone(documents),
            columns,
            batch: request.batch_records,
        }))
    }

    fn target(&self, _: WriteRequest) -> Result<Arc<dyn Target>> {
        Err(StoreError::new(StoreErrorKind::Unsupported, &self.name, "it is only read"))
    }
}

struct DocumentSource {
    documents: Arc<Documents>,
    columns: Vec<Column>,
    batch: usize,
}

#[async_trait]
impl Source for DocumentSource {
    async fn describe(&self) -> Result<SourceDescription> {
        Ok(SourceDescription {
            schema: Arc::clone(Rows::new(self.columns.clone()).schema()),
            key: self.documents.key.iter().map(|name| (*name).to_owned()).collect(),
            records: u64::try_from(self.documents.records.len()).ok(),
            resumable: true,
            sees_all: self.documents.own.is_empty(),
            notes: Vec::new(),
        })
    }

    async fn slices(&self, wanted: usize) -> Result<Vec<SlicePart>> {
        let all = self.documents.records.len();
        let wanted = wanted.min(all.max(1));
        Ok((0..wanted).map(|i| SlicePart(json!([all * i / wanted, all * (i + 1) / wanted]))).collect())
    }

    async fn read(
        &self,
        part: &SlicePart,
        after: Option<&Cursor>,
        _context: &RunContext,
    ) -> Result<BatchStream> {
        let number = |value: &serde_json::Value| usize::try_from(value.as_u64().unwrap()).unwrap();
        let from = after.map_or(number(&part.0[0]), |cursor| number(&cursor.0));
        let upto = number(&part.0[1]);
        let starts: Vec<usize> = (from..upto).step_by(self.batch).collect();
        let (documents, columns, batch) = (Arc::clone(&self.documents), self.columns.clone(), self.batch);
        let batches = futures::stream::iter(starts).map(move |start| {
            let end = (start + batch).min(upto);
            let mut rows = Rows::new(columns.clone());
            let mut unreadable = Vec::new();
            for (row, record) in documents.records[start..end].iter().enumerate() {
                for refused in rows.append_object(record).unwrap() {
                    let column = columns[refused.column].name.clone();
                    let raw = raw_value(record, &column);
                    unreadable.push(Unreadable { row, column, reason: refused.reason, raw });
                }
            }
            Ok(ReadBatch {
                records: rows.finish().unwrap(),
                cursor: Some(Cursor(json!(end))),
                unreadable,
                bytes: 4096,
                capacity: Capacity { read_units: 1.0, ..Capacity::default() },
                originals: None,
            })
        });
        Ok(batches.boxed())
    }
}
