//! A target in memory whose batches arrive whole with their checkpoints, or not at all, and whose children need
//! parents.

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use async_trait::async_trait;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use whimbrel_model::canonical::Canonical;
use whimbrel_model::{
    Capacity, Checkpoint, Fingerprint, Identity, SliceId, SlicePart, Stage, StoreName, record,
};
use whimbrel_store::{
    Capabilities, Creation, Encoded, Finding, Held, HeldBatch, HeldFlow, KeyPattern, LoadStep, LookedUp,
    Outcome, Parent, ReadRequest, Refusal, Removed, Result, RunContext, Source, Store, StoreError,
    StoreErrorKind, Target, TargetPlan, TargetState, WriteBatch, WriteOutcome, WriteRequest, Writer,
};

/// What becomes of a commit when its turn comes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum CommitFault {
    /// It succeeds.
    None,
    /// Nothing is committed.
    Lost,
    /// Everything is committed, and the answer is lost.
    AnswerLost,
}

/// Key → (parent's key, the whole record).
type Table = BTreeMap<String, (Option<String>, String)>;
type Place = (String, String, String);

/// What tests see and set.
#[derive(Default)]
pub struct Ledger {
    /// The tables.
    pub tables: Mutex<BTreeMap<String, Table>>,
    /// The checkpoints, by run, slice and table.
    pub checkpoints: Mutex<BTreeMap<Place, Checkpoint>>,
    /// Scripted commits.
    pub commits: Mutex<VecDeque<CommitFault>>,
    /// Whether a child without a parent is refused at once, not behind the load.
    pub enforced: bool,
    /// Whether the step behind the load is done.
    pub step_done: Mutex<bool>,
    /// Scripted attempts at that step.
    pub step_attempts: Mutex<VecDeque<CommitFault>>,
    /// Open transactions.
    pub sessions: Mutex<BTreeMap<SliceId, Arc<Mutex<Session>>>>,
}

/// The transaction of one slice.
#[derive(Default)]
pub struct Session {
    rows: Vec<(String, String, Option<String>, String)>,
    checkpoints: Vec<(Place, Checkpoint)>,
}

pub struct LedgerStore {
    name: StoreName,
    ledger: Arc<Ledger>,
}

impl LedgerStore {
    pub fn open(name: &str, ledger: &Arc<Ledger>) -> Arc<dyn Store> {
        Arc::new(Self { name: name.into(), ledger: Arc::clone(ledger) })
    }
}

#[async_trait]
impl Store for LedgerStore {
    fn name(&self) -> &StoreName {
        &self.name
    }

    fn location(&self) -> String {
        "ledger".to_owned()
    }

    async fn identity(&self) -> Result<Identity> {
        Ok(Identity::new("ledger"))
    }

    async fn check(&self) -> Vec<Finding> {
        Vec::new()
    }

    fn source(&self, _: ReadRequest) -> Result<Arc<dyn Source>> {
        Err(StoreError::new(StoreErrorKind::Unsupported, &self.name, "it is only written"))
    }

    fn target(&self, request: WriteRequest) -> Result<Arc<dyn Target>> {
        Ok(Arc::new(LedgerTable { table: request.table, ledger: Arc::clone(&self.ledger) }))
    }
}

struct LedgerTable {
    table: String,
    ledger: Arc<Ledger>,
}

fn fingerprint(key: &str, whole: &str, context: &RunContext) -> Fingerprint {
    let (mut keys, mut all) = (Canonical::default(), Canonical::default());
    keys.text(key);
    all.text(whole);
    context.fingerprint_key.fingerprint(&keys, &all)
}

fn rows(records: &RecordBatch) -> Vec<(String, Option<String>, String)> {
    let row = |row| {
        let whole = record::to_json(records, row);
        let text = |name: &str| whole.get(name).and_then(Value::as_str).map(str::to_owned);
        (text("pk").unwrap(), text("parent"), Value::Object(whole.clone()).to_string())
    };
    (0..records.num_rows()).map(row).collect()
}

impl LedgerTable {
    fn orphans(&self) -> Vec<(String, String)> {
        let tables = self.ledger.tables.lock().unwrap();
        let empty = Table::new();
        let parents = tables.get("parents").unwrap_or(&empty);
        let children = tables.get(&self.table).unwrap_or(&empty).iter();
        let orphan = |(_, (parent, _)): &(&String, &(Option<String>, String))| {
            parent.as_ref().is_some_and(|parent| !parents.contains_key(parent))
        };
        children.filter(orphan).map(|(key, (_, whole))| (key.clone(), whole.clone())).collect()
    }
}

#[async_trait]
impl Target for LedgerTable {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            max_connections: None,
            atomic_batch: true,
            conditional: true,
            metered: false,
            batch_records: 10,
        }
    }

    fn resource(&self) -> String {
        self.table.clone()
    }

    async fn plan(&self, _: &Schema) -> Result<TargetPlan> {
        let parent = Parent { resource: "parents".to_owned(), columns: vec!["parent".to_owned()] };
        let parents =
            if self.ledger.enforced && self.table == "children" { vec![parent] } else { Vec::new() };
        Ok(TargetPlan { exists: true, parents, key: vec!["pk".to_owned()], ..TargetPlan::default() })
    }

    fn encode(
        &self,
        records: &RecordBatch,
        context: &RunContext,
    ) -> Vec<std::result::Result<Encoded, Refusal>> {
        let encoded = |(key, _, whole): (String, _, String)| Encoded {
            preview: whole.as_str().into(),
            bytes: 1,
            capacity: Capacity::default(),
            fingerprint: fingerprint(&key, &whole, context),
        };
        rows(records).into_iter().map(|row| Ok(encoded(row))).collect()
    }

    async fn create(&self) -> Result<Creation> {
        Ok(Creation::Existed { name: self.table.clone(), differences: Vec::new() })
    }

    async fn state(&self) -> Result<TargetState> {
        Ok(TargetState { empty: true })
    }

    async fn count(&self, _: &[Vec<KeyPattern>]) -> Result<Held> {
        let tables = self.ledger.tables.lock().unwrap();
        let records = tables.get(&self.table).map_or(0, BTreeMap::len);
        Ok(Held { flows: vec![u64::try_from(records).unwrap()], others: 0 })
    }

    async fn held_parts(&self, _wanted: usize) -> Result<Vec<SlicePart>> {
        Err(StoreError::new(
            StoreErrorKind::Unsupported,
            &StoreName::new("ledger"),
            "cannot read records back yet",
        ))
    }

    async fn held(
        &self,
        _part: &SlicePart,
        _flows: &[HeldFlow],
        _context: &RunContext,
    ) -> Result<BoxStream<'static, Result<HeldBatch>>> {
        Err(StoreError::new(
            StoreErrorKind::Unsupported,
            &StoreName::new("ledger"),
            "cannot read records back yet",
        ))
    }

    async fn look_up(&self, _records: &RecordBatch, _context: &RunContext) -> Result<LookedUp> {
        Err(StoreError::new(
            StoreErrorKind::Unsupported,
            &StoreName::new("ledger"),
            "cannot read records back yet",
        ))
    }

    async fn load_steps(&self) -> Result<Vec<LoadStep>> {
        let due =
            self.table == "children" && !self.ledger.enforced && !*self.ledger.step_done.lock().unwrap();
        let step = LoadStep { name: "foreign key/1".to_owned(), text: "ADD FOREIGN KEY".to_owned() };
        Ok(if due { vec![step] } else { Vec::new() })
    }

    async fn removed_by(
        &self,
        _: &LoadStep,
        context: &RunContext,
    ) -> Result<BoxStream<'static, Result<Removed>>> {
        let removed = |(key, whole): (String, String)| Removed {
            key: Map::from_iter([("pk".to_owned(), key.as_str().into())]),
            fingerprint: fingerprint(&key, &whole, context),
            record: serde_json::from_str(&whole).unwrap(),
            reason: "its parent is missing".to_owned(),
        };
        let removed: Vec<_> = self.orphans().into_iter().map(|orphan| Ok(removed(orphan))).collect();
        Ok(futures::stream::iter(removed).boxed())
    }

    async fn apply_step(&self, _: &LoadStep, _: &RunContext) -> Result<()> {
        let fault = self.ledger.step_attempts.lock().unwrap().pop_front().unwrap_or(CommitFault::None);
        let away = || StoreError::new(StoreErrorKind::Unreachable, &StoreName::new("ledger"), "it is away");
        if fault == CommitFault::Lost {
            return Err(away());
        }
        let orphans = self.orphans();
        let mut tables = self.ledger.tables.lock().unwrap();
        let children = tables.entry(self.table.clone()).or_default();
        orphans.iter().for_each(|(key, _)| drop(children.remove(key)));
        *self.ledger.step_done.lock().unwrap() = true;
        if fault == CommitFault::AnswerLost { Err(away()) } else { Ok(()) }
    }

    async fn writer(&self, slice: &SliceId, _: bool, context: &RunContext) -> Result<Box<dyn Writer>> {
        let mut sessions = self.ledger.sessions.lock().unwrap();
        // A new attempt of the slice begins a new transaction.
        if self.table == "parents" || self.ledger.enforced {
            sessions.insert(slice.clone(), Arc::default());
        }
        let session = Arc::clone(sessions.entry(slice.clone()).or_default());
        let place = (context.run.to_string(), slice.to_string(), self.table.clone());
        let (table, ledger) = (self.table.clone(), Arc::clone(&self.ledger));
        Ok(Box::new(LedgerWriter { table, place, ledger, session, context: context.clone() }))
    }
}

struct LedgerWriter {
    table: String,
    place: Place,
    ledger: Arc<Ledger>,
    session: Arc<Mutex<Session>>,
    context: RunContext,
}

impl LedgerWriter {
    fn write_one(&self, (key, parent, whole): (String, Option<String>, String)) -> Outcome {
        let refused =
            |reason: &str| Outcome::Rejected(Refusal { stage: Stage::Write, reason: reason.to_owned() });
        let tables = self.ledger.tables.lock().unwrap();
        let mut session = self.session.lock().unwrap();
        let held = |table: &str, key: &str| {
            tables.get(table).is_some_and(|rows| rows.contains_key(key))
                || session.rows.iter().any(|(other, held, ..)| other == table && held == key)
        };
        if self.ledger.enforced && parent.as_ref().is_some_and(|parent| !held("parents", parent)) {
            return refused("its parent is missing");
        }
        // Nothing may be written twice: that is what the ledger is for.
        assert!(!held(&self.table, &key), "{key} arrives twice");
        let fingerprint = fingerprint(&key, &whole, &self.context);
        session.rows.push((self.table.clone(), key, parent, whole));
        Outcome::Created(fingerprint)
    }
}

#[async_trait]
impl Writer for LedgerWriter {
    async fn last(&self) -> Result<Option<Checkpoint>> {
        Ok(self.ledger.checkpoints.lock().unwrap().get(&self.place).cloned())
    }

    async fn write(&self, batch: WriteBatch) -> Result<WriteOutcome> {
        let outcomes = rows(&batch.records).into_iter().map(|row| self.write_one(row)).collect();
        Ok(WriteOutcome { outcomes, bytes: 1, capacity: Capacity::default() })
    }

    async fn commit(&self, checkpoint: &Checkpoint, flows: usize) -> Result<()> {
        let mut session = self.session.lock().unwrap();
        session.checkpoints.push((self.place.clone(), checkpoint.clone()));
        if session.checkpoints.len() < flows {
            return Ok(());
        }
        let fault = self.ledger.commits.lock().unwrap().pop_front().unwrap_or(CommitFault::None);
        let Session { rows, checkpoints } = std::mem::take(&mut *session);
        if fault != CommitFault::Lost {
            let mut tables = self.ledger.tables.lock().unwrap();
            for (table, key, parent, whole) in rows {
                tables.entry(table).or_default().insert(key, (parent, whole));
            }
            self.ledger.checkpoints.lock().unwrap().extend(checkpoints);
        }
        let failed = StoreError::new(StoreErrorKind::Unreachable, &"to".into(), "the commit was cut");
        if fault == CommitFault::None { Ok(()) } else { Err(failed) }
    }
}
