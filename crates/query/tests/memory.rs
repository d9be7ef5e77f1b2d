//! Stores in memory: tables with columns of their own, and tables whose records have whatever is asked for. Each
//! store has one connection, as an embedded database has.

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use futures::StreamExt as _;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use whimbrel_model::{Capacity, Cursor, FingerprintKey, Identity, Logical, RunId, SlicePart, StoreName};
use whimbrel_query::{Declared, Numbers, Query, QueryError, Session, Settings, json_row};
use whimbrel_store::{
    BatchStream, Condition, Finding, ReadBatch, ReadRequest, Relation, Result, RunContext, Source,
    SourceDescription, Store, StoreError, StoreErrorKind, Target, Unreadable, WriteRequest,
};

/// What a table holds.
#[derive(Clone)]
pub enum Table {
    /// Batches of fixed columns; each is a slice. The second: rows of the first batch that cannot be read.
    Fixed(Vec<RecordBatch>, Vec<Unreadable>),
    /// Records by attribute, all text; the key is `pk`.
    Open(Vec<BTreeMap<&'static str, &'static str>>),
    /// Fails after its first batch.
    Failing(RecordBatch),
}

/// What a store was asked for when something was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    pub table: String,
    pub wanted: BTreeSet<String>,
    pub condition: Option<Condition>,
}

#[derive(Clone)]
pub struct MemoryStore {
    name: StoreName,
    tables: BTreeMap<&'static str, Table>,
    connection: Arc<Semaphore>,
    pub asked: Arc<Mutex<Vec<Asked>>>,
    pub batches_read: Arc<AtomicUsize>,
}

impl MemoryStore {
    pub fn new(name: &str, tables: Vec<(&'static str, Table)>) -> Self {
        Self {
            name: StoreName::new(name),
            tables: tables.into_iter().collect(),
            connection: Arc::new(Semaphore::new(1)),
            asked: Arc::default(),
            batches_read: Arc::default(),
        }
    }

    pub fn asked_of(&self, table: &str) -> Vec<Asked> {
        self.asked
            .lock()
            .expect("nobody panicked")
            .iter()
            .filter(|asked| asked.table == table)
            .cloned()
            .collect()
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn name(&self) -> &StoreName {
        &self.name
    }

    fn location(&self) -> String {
        format!("memory:{}", self.name)
    }

    async fn identity(&self) -> Result<Identity> {
        Ok(Identity::new(self.location()))
    }

    async fn check(&self) -> Vec<Finding> {
        Vec::new()
    }

    fn source(&self, request: ReadRequest) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(MemorySource { store: self.clone(), request }))
    }

    fn target(&self, _: WriteRequest) -> Result<Arc<dyn Target>> {
        Err(StoreError::new(StoreErrorKind::Unsupported, &self.name, "nothing is written here"))
    }
}

struct MemorySource {
    store: MemoryStore,
    request: ReadRequest,
}

impl MemorySource {
    fn table(&self) -> Result<(&str, &Table)> {
        let name = match &self.request.relation {
            Relation::Table(name) => name,
            // The language of such a store has one word for each query that it knows.
            Relation::Query(sql) if self.store.tables.contains_key(sql.as_str()) => sql,
            Relation::Query(_) => {
                let context = "there is no query language here";
                return Err(StoreError::new(StoreErrorKind::Unsupported, &self.store.name, context));
            }
        };
        let found = self.store.tables.get(name.as_str());
        found.map(|table| (name.as_str(), table)).ok_or_else(|| {
            let known: Vec<_> = self.store.tables.keys().copied().collect();
            StoreError::new(StoreErrorKind::NotFound, &self.store.name, format!("there is no table {name}"))
                .with_hint(format!("its tables are {}", known.join(", ")))
        })
    }

    fn wanted(&self) -> BTreeSet<String> {
        self.request.wanted.clone().unwrap_or_default()
    }

    fn schema(&self) -> Result<SchemaRef> {
        Ok(match self.table()?.1 {
            Table::Fixed(batches, _) => batches[0].schema(),
            Table::Failing(batch) => batch.schema(),
            Table::Open(_) => {
                let mut names = self.wanted();
                names.insert("pk".to_owned());
                let field = |name: &String| match self.request.columns.get(name).map(String::as_str) {
                    Some("number") => Logical::Number.field(name, true),
                    _ => Field::new(name, DataType::Utf8, true),
                };
                Arc::new(Schema::new(names.iter().map(field).collect::<Vec<_>>()))
            }
        })
    }
}

#[async_trait]
impl Source for MemorySource {
    async fn describe(&self) -> Result<SourceDescription> {
        let table = self.table()?.1;
        let key = if matches!(table, Table::Open(_)) { vec!["pk".to_owned()] } else { Vec::new() };
        Ok(SourceDescription {
            schema: self.schema()?,
            key,
            records: None,
            resumable: false,
            sees_all: true,
            notes: Vec::new(),
        })
    }

    async fn slices(&self, _: usize) -> Result<Vec<SlicePart>> {
        let count = match self.table()?.1 {
            Table::Fixed(batches, _) => batches.len(),
            Table::Open(_) | Table::Failing(_) => 1,
        };
        Ok((0..count).map(|part| SlicePart(json!(part))).collect())
    }

    async fn read(&self, part: &SlicePart, _: Option<&Cursor>, _: &RunContext) -> Result<BatchStream> {
        let permit = Arc::clone(&self.store.connection).acquire_owned().await.expect("it is never closed");
        let (name, table) = self.table()?;
        let (wanted, condition) = (self.wanted(), self.request.condition.clone());
        self.store.asked.lock().expect("nobody panicked").push(Asked {
            table: name.to_owned(),
            wanted,
            condition,
        });
        let part = usize::try_from(part.0.as_u64().expect("a number")).expect("a small one");
        let batches: Vec<Result<ReadBatch>> = match table {
            Table::Fixed(batches, unreadable) => {
                let unreadable = if part == 0 { unreadable.clone() } else { Vec::new() };
                let batch = &batches[part];
                // Each slice comes in batches of ten.
                let starts = (0..batch.num_rows().max(1)).step_by(10);
                starts
                    .map(|start| {
                        let length = 10.min(batch.num_rows() - start);
                        Ok(read_batch(batch.slice(start, length), unreadable.clone()))
                    })
                    .collect()
            }
            Table::Open(records) => vec![Ok(read_batch(open_batch(&self.schema()?, records), Vec::new()))],
            Table::Failing(batch) => {
                let lost =
                    StoreError::new(StoreErrorKind::Unreachable, &self.store.name, "the line went dead");
                vec![Ok(read_batch(batch.clone(), Vec::new())), Err(lost.with_hint("try again"))]
            }
        };
        let read = Arc::clone(&self.store.batches_read);
        let stream = futures::stream::iter(batches).map(move |batch| {
            // The connection is held until the stream is gone.
            let _held = &permit;
            read.fetch_add(1, Ordering::Relaxed);
            batch
        });
        Ok(stream.boxed())
    }
}

fn read_batch(records: RecordBatch, unreadable: Vec<Unreadable>) -> ReadBatch {
    ReadBatch { records, cursor: None, unreadable, bytes: 0, capacity: Capacity::default(), originals: None }
}

fn open_batch(schema: &SchemaRef, records: &[BTreeMap<&str, &str>]) -> RecordBatch {
    let column = |field: &Arc<Field>| {
        let values = records.iter().map(|record| match field.name().as_str() {
            "_item" => Some(json!(record).to_string()),
            name => record.get(name).map(|value| (*value).to_owned()),
        });
        Arc::new(values.collect::<StringArray>()) as ArrayRef
    };
    let columns = schema.fields().iter().map(column).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(records.len()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options).expect("columns fit")
}

/// A table out of its columns, in slices of about the same size.
pub fn fixed(columns: Vec<(Field, ArrayRef)>, slices: usize) -> Table {
    let (fields, arrays): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).expect("columns fit");
    let length = batch.num_rows().div_ceil(slices);
    let cut = |slice: usize| {
        let start = (slice * length).min(batch.num_rows());
        batch.slice(start, length.min(batch.num_rows() - start))
    };
    Table::Fixed((0..slices).map(cut).collect(), Vec::new())
}

/// A session over the stores.
pub fn session(
    stores: &[&MemoryStore],
    declared: Declared,
    numbers: Numbers,
    memory_bytes: usize,
) -> Session {
    let settings = Settings {
        parallel: 2,
        memory_bytes,
        numbers,
        context: RunContext {
            run: RunId::generate(),
            fingerprint_key: FingerprintKey::new([0; 32]),
            retry_for: Duration::from_secs(1),
            stop: CancellationToken::new(),
            meter: Arc::default(),
            budget: Arc::default(),
        },
    };
    let names = stores.iter().map(|store| store.name.clone()).collect();
    let opened =
        stores.iter().map(|store| (store.name.clone(), Arc::new((*store).clone()) as Arc<dyn Store>));
    Session::new(opened.collect(), names, declared, settings)
}

/// The rows of an answer. A query that waits for itself is a failure.
pub async fn ask(session: &Session, sql: &str) -> std::result::Result<Vec<Value>, QueryError> {
    ask_limited(session, sql, None).await
}

/// The same with a limit.
pub async fn ask_limited(
    session: &Session,
    sql: &str,
    limit: Option<usize>,
) -> std::result::Result<Vec<Value>, QueryError> {
    let asked = async {
        let mut answer = session.answer(Query::parse(sql)?, limit).await?;
        let mut rows = Vec::new();
        while let Some(batch) = answer.batches.next().await {
            let batch = batch?;
            rows.extend((0..batch.num_rows()).map(|row| Value::Object(json_row(&batch, row))));
        }
        Ok(rows)
    };
    tokio::time::timeout(Duration::from_secs(60), asked).await.unwrap_or_else(|_| panic!("no answer: {sql}"))
}
