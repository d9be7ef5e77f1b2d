//! A store in memory that keeps the contract and fails where it is told to.

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use serde_json::json;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use whimbrel_model::canonical::Canonical;
use whimbrel_model::{Capacity, Cursor, Identity, SliceId, SlicePart, Stage, StoreName, record};
use whimbrel_store::{
    BatchStream, Capabilities, Creation, Encoded, Finding, Held, HeldBatch, HeldFlow, KeyPattern, LookedUp,
    Mode, Outcome, ReadBatch, ReadRequest, Refusal, Result, RunContext, Source, SourceDescription, Store,
    StoreError, StoreErrorKind, Target, TargetPlan, TargetState, WriteBatch, WriteOutcome, WriteRequest,
    Writer,
};

/// What a write does when its turn comes, one entry a write; without an entry it succeeds.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// Nothing happens.
    None,
    /// Fails before anything is written.
    Before(StoreErrorKind),
    /// Everything is written, and the answer is lost.
    After(StoreErrorKind),
    /// Nothing is written until so many slices have begun to be read.
    AwaitsReads(u64),
}

/// What tests see and set.
#[derive(Default)]
pub struct State {
    /// The target's table.
    pub table: Mutex<BTreeMap<String, String>>,
    /// Scripted writes.
    pub writes: Mutex<VecDeque<Fault>>,
    /// After so many batches a read fails once, with this kind.
    pub read_faults: Mutex<VecDeque<(usize, StoreErrorKind)>>,
    /// How many slices have begun to be read.
    pub reads: watch::Sender<u64>,
    /// How often an epoch began.
    pub epochs: AtomicU64,
    /// Batches that were read.
    pub batches_read: AtomicU64,
    /// Cancelled by the store after so many writes, as a person would with Ctrl-C.
    pub stop_after: Mutex<Option<(u64, CancellationToken)>>,
    /// Writes so far.
    pub written: AtomicU64,
    /// How much it was told to expect: reads and writes at once.
    pub expected: Mutex<Vec<(usize, usize)>>,
    /// What the store says it is.
    pub identity: Mutex<String>,
    /// Whether it shows records that no flow asked for.
    pub sees_all: AtomicBool,
}

/// Reads records 0 to n-1 and writes into a map.
pub struct MemoryStore {
    name: StoreName,
    records: i64,
    state: Arc<State>,
}

impl MemoryStore {
    pub fn open(name: &str, records: i64, state: &Arc<State>) -> Arc<dyn Store> {
        Arc::new(Self { name: StoreName::new(name), records, state: Arc::clone(state) })
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn name(&self) -> &StoreName {
        &self.name
    }

    fn location(&self) -> String {
        "memory".to_owned()
    }

    async fn identity(&self) -> Result<Identity> {
        Ok(Identity::new(self.state.identity.lock().unwrap().clone()))
    }

    async fn check(&self) -> Vec<Finding> {
        vec![Finding::good("here")]
    }

    async fn begin_epoch(&self) -> Result<()> {
        self.state.epochs.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn expect(&self, readers: usize, writers: usize) {
        self.state.expected.lock().unwrap().push((readers, writers));
    }

    fn source(&self, request: ReadRequest) -> Result<Arc<dyn Source>> {
        let name = self.name.clone();
        Ok(Arc::new(Numbers {
            name,
            records: self.records,
            batch: request.batch_records,
            state: Arc::clone(&self.state),
        }))
    }

    fn target(&self, request: WriteRequest) -> Result<Arc<dyn Target>> {
        Ok(Arc::new(Table { name: self.name.clone(), mode: request.mode, state: Arc::clone(&self.state) }))
    }
}

struct Numbers {
    name: StoreName,
    records: i64,
    batch: usize,
    state: Arc<State>,
}

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("name", DataType::Utf8, true),
    ]))
}

#[async_trait]
impl Source for Numbers {
    async fn describe(&self) -> Result<SourceDescription> {
        Ok(SourceDescription {
            sees_all: self.state.sees_all.load(Ordering::SeqCst),
            schema: schema(),
            key: vec!["id".to_owned()],
            records: u64::try_from(self.records).ok(),
            resumable: true,
            notes: Vec::new(),
        })
    }

    async fn slices(&self, wanted: usize) -> Result<Vec<SlicePart>> {
        let wanted = i64::try_from(wanted).unwrap().min(self.records.max(1));
        let border = |i: i64| self.records * i / wanted;
        Ok((0..wanted).map(|i| SlicePart(json!([border(i), border(i + 1)]))).collect())
    }

    async fn read(
        &self,
        part: &SlicePart,
        after: Option<&Cursor>,
        _context: &RunContext,
    ) -> Result<BatchStream> {
        let from = after.map_or(part.0[0].as_i64().unwrap(), |cursor| cursor.0.as_i64().unwrap() + 1);
        let upto = part.0[1].as_i64().unwrap();
        self.state.reads.send_modify(|reads| *reads += 1);
        let fault = self.state.read_faults.lock().unwrap().pop_front();
        let batch = i64::try_from(self.batch).unwrap();
        let starts: Vec<i64> = (from..upto).step_by(self.batch).collect();
        let (state, name) = (Arc::clone(&self.state), self.name.clone());
        let batches = futures::stream::iter(starts.into_iter().enumerate()).map(move |(number, start)| {
            if let Some((after, kind)) = fault
                && number == after
            {
                return Err(StoreError::new(kind, &name, "the read was cut"));
            }
            state.batches_read.fetch_add(1, Ordering::SeqCst);
            let ids: Vec<i64> = (start..(start + batch).min(upto)).collect();
            let cursor = ids.last().map(|last| Cursor(json!(last)));
            let names: ArrayRef =
                Arc::new(StringArray::from_iter_values(ids.iter().map(|id| format!("name {id}"))));
            let records =
                RecordBatch::try_new(schema(), vec![Arc::new(Int64Array::from(ids)), names]).unwrap();
            let capacity = Capacity::default();
            Ok(ReadBatch { records, cursor, unreadable: Vec::new(), bytes: 4096, capacity, originals: None })
        });
        // A stream that has failed is over.
        let ended = batches.scan(false, |failed, batch| {
            let item = (!*failed).then(|| {
                *failed = batch.is_err();
                batch
            });
            std::future::ready(item)
        });
        Ok(ended.boxed())
    }
}

struct Table {
    name: StoreName,
    mode: Mode,
    state: Arc<State>,
}

fn rows(records: &RecordBatch) -> Vec<(String, String)> {
    let key = records.column_by_name("pk").unwrap();
    let row = |row| {
        let whole = serde_json::Value::Object(record::to_json(records, row)).to_string();
        (record::text_at(key, row).unwrap().to_owned(), whole)
    };
    (0..records.num_rows()).map(row).collect()
}

fn encode(key: &str, whole: &str, context: &RunContext) -> Encoded {
    let (mut keys, mut all) = (Canonical::default(), Canonical::default());
    keys.text(key);
    all.text(whole);
    Encoded {
        preview: whole.into(),
        bytes: u64::try_from(whole.len()).unwrap(),
        capacity: Capacity::default(),
        fingerprint: context.fingerprint_key.fingerprint(&keys, &all),
    }
}

#[async_trait]
impl Target for Table {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            max_connections: None,
            atomic_batch: false,
            conditional: true,
            metered: false,
            batch_records: 10,
        }
    }

    fn resource(&self) -> String {
        "table".to_owned()
    }

    async fn identity(&self) -> Result<Option<Identity>> {
        Ok(Some(Identity::new("table 1")))
    }

    async fn plan(&self, _: &Schema) -> Result<TargetPlan> {
        Ok(TargetPlan { exists: true, key: vec!["pk".to_owned()], ..TargetPlan::default() })
    }

    fn encode(
        &self,
        records: &RecordBatch,
        context: &RunContext,
    ) -> Vec<std::result::Result<Encoded, Refusal>> {
        rows(records).iter().map(|(key, whole)| Ok(encode(key, whole, context))).collect()
    }

    async fn create(&self) -> Result<Creation> {
        Ok(Creation::Existed { name: "table".to_owned(), differences: Vec::new() })
    }

    async fn state(&self) -> Result<TargetState> {
        Ok(TargetState { empty: self.state.table.lock().unwrap().is_empty() })
    }

    async fn count(&self, _: &[Vec<KeyPattern>]) -> Result<Held> {
        let records = u64::try_from(self.state.table.lock().unwrap().len()).unwrap();
        Ok(Held { flows: vec![records], others: 0 })
    }

    async fn held_parts(&self, _wanted: usize) -> Result<Vec<SlicePart>> {
        Err(StoreError::new(StoreErrorKind::Unsupported, &self.name, "cannot read records back yet"))
    }

    async fn held(
        &self,
        _part: &SlicePart,
        _flows: &[HeldFlow],
        _context: &RunContext,
    ) -> Result<BoxStream<'static, Result<HeldBatch>>> {
        Err(StoreError::new(StoreErrorKind::Unsupported, &self.name, "cannot read records back yet"))
    }

    async fn look_up(&self, _records: &RecordBatch, _context: &RunContext) -> Result<LookedUp> {
        Err(StoreError::new(StoreErrorKind::Unsupported, &self.name, "cannot read records back yet"))
    }

    async fn writer(&self, _: &SliceId, created: bool, context: &RunContext) -> Result<Box<dyn Writer>> {
        let (name, state, context) = (self.name.clone(), Arc::clone(&self.state), context.clone());
        Ok(Box::new(TableWriter { name, mode: self.mode, created, state, context }))
    }
}

struct TableWriter {
    name: StoreName,
    mode: Mode,
    created: bool,
    state: Arc<State>,
    context: RunContext,
}

impl TableWriter {
    fn write_one(&self, key: String, whole: String, contested: bool) -> Outcome {
        if key.ends_with("#13") {
            return Outcome::Rejected(Refusal { stage: Stage::Write, reason: "13 is refused".to_owned() });
        }
        let fingerprint = encode(&key, &whole, &self.context).fingerprint;
        let mut table = self.state.table.lock().unwrap();
        match (self.mode, table.get(&key)) {
            (Mode::Upsert, _) => {
                table.insert(key, whole);
                if self.created { Outcome::Created(fingerprint) } else { Outcome::Updated(fingerprint) }
            }
            (_, None) => {
                table.insert(key, whole);
                Outcome::Created(fingerprint)
            }
            (_, Some(held)) if contested && *held == whole => Outcome::Created(fingerprint),
            (_, Some(_)) => Outcome::Skipped,
        }
    }
}

#[async_trait]
impl Writer for TableWriter {
    async fn write(&self, batch: WriteBatch) -> Result<WriteOutcome> {
        let fault = self.state.writes.lock().unwrap().pop_front().unwrap_or(Fault::None);
        let failed = |kind| StoreError::new(kind, &self.name, "the write was cut");
        if let Fault::Before(kind) = fault {
            return Err(failed(kind));
        }
        if let Fault::AwaitsReads(count) = fault {
            self.state.reads.subscribe().wait_for(|reads| *reads >= count).await.unwrap();
        }
        let rows = rows(&batch.records).into_iter();
        let outcomes = rows.map(|(key, whole)| self.write_one(key, whole, batch.contested)).collect();
        let written = self.state.written.fetch_add(1, Ordering::SeqCst) + 1;
        if let Some((after, stop)) = &*self.state.stop_after.lock().unwrap()
            && written == *after
        {
            stop.cancel();
        }
        match fault {
            Fault::After(kind) => Err(failed(kind)),
            _ => Ok(WriteOutcome { outcomes, bytes: 1, capacity: Capacity::default() }),
        }
    }
}
