//! The writing side: a file that is there whole, or not at all.
//!
//! Records go into parts beside the file, one a slice and flow, durable with their checkpoint; text and Parquet on a disk
//! go into a file that grows ([`growing`]). When all slices are done, the load's last step puts together in order what is
//! apart, and gives the file its name. Until then there is none of that name, or the one that was there before.

mod growing;
mod held;
mod joined;
mod ledger;
mod nested;
mod packing;
mod publish;
mod row_groups;
mod session;
mod staging;
mod writer;

use crate::client::{Place, blocking};
use crate::error::{Fault, Outcome};
use crate::format::{Compression, Format, format_of_name};
use crate::types::encode::{Compared, Encoder, TextBuffer, decimals, fidelity};
use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::error::ArrowError;
use async_trait::async_trait;
use futures::stream::BoxStream;
use growing::Growing;
use serde_json::Value;
use session::Session;
use staging::Staging;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::runtime::Handle;
use whimbrel_model::{Capacity, Fingerprint, FingerprintKey, RunId, SliceId, SlicePart, Stage, StoreName};
use whimbrel_store::{
    Capabilities, Creation, Documents, Encoded, Held, HeldBatch, HeldFlow, KeyPattern, LoadStep, LookedUp,
    Mode, Refusal, Result, RunContext, Source as _, StoreError, StoreErrorKind, Target, TargetPlan,
    TargetState, WriteRequest, Writer,
};
use writer::FilesWriter;

/// How many records a batch should hold: a row group, or objects that are neither many nor large.
const BATCH_RECORDS: usize = 32_768;
/// The same of text on a disk, which waits for it by bytes: few are quick to be worked on.
const TEXT_RECORDS: usize = 8_192;
/// So many records are encoded at a time.
const BLOCK_RECORDS: usize = 1_024;
/// The step that gives the file its name.
const PUBLISH: &str = "publish";

/// What is under way, which the flows of a store share.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    slices: Mutex<HashMap<(RunId, SliceId), Weak<Session>>>,
    /// Files that grow, by their paths; `None`: it is put together at the end.
    files: Mutex<Files>,
    durable_at_once: bool,
}

impl Sessions {
    /// Nothing is held back: each commit is durable.
    pub(crate) fn durable_at_once() -> Self {
        Self { durable_at_once: true, ..Self::default() }
    }
}

type Files = HashMap<(RunId, String), Option<Arc<Growing>>>;

/// A file that is to be written.
#[derive(Debug)]
pub(crate) struct Table {
    name: StoreName,
    place: Place,
    /// The whole path.
    path: String,
    /// The folder below which parts are kept.
    base: String,
    format: Format,
    compression: Compression,
    request: WriteRequest,
    /// The columns, as last planned.
    schema: Mutex<Option<SchemaRef>>,
    /// What a record of the last batch took as text, so that the next batch's text has room from the start.
    row_bytes: AtomicUsize,
}

impl Table {
    fn compared(&self) -> Compared<'_> {
        Compared { key: &self.request.key, ignore: &self.request.ignore }
    }

    fn encoder(
        &self,
        records: &RecordBatch,
        key: &FingerprintKey,
    ) -> std::result::Result<Encoder, ArrowError> {
        let encoder = Encoder::new(self.format, self.request.nulls, &self.compared(), records, key)?;
        Ok(match &self.request.shape {
            Some(shape) => encoder.apart(&shape.by, shape.documents == Documents::Members),
            None => encoder,
        })
    }

    /// Encoders of a batch, a stretch at a time: what is made of one on the way is still in the processor's caches when it
    /// is needed, and its memory serves the next one.
    fn encoders(
        &self,
        records: &RecordBatch,
        key: &FingerprintKey,
    ) -> impl Iterator<Item = std::result::Result<Encoder, ArrowError>> {
        let rows = records.num_rows();
        (0..rows).step_by(BLOCK_RECORDS).map(move |start| {
            let block = records.slice(start, BLOCK_RECORDS.min(rows - start));
            self.encoder(&block, key)
        })
    }

    /// The columns of the file, where records have these.
    fn written_schema<'a>(&self, schema: &'a Schema) -> Cow<'a, Schema> {
        if self.format.is_text() { Cow::Borrowed(schema) } else { Cow::Owned(decimals::schema(schema)) }
    }

    /// Why records have no place in a typed file, by row.
    fn refused(&self, records: &RecordBatch) -> std::result::Result<BTreeMap<usize, Refusal>, ArrowError> {
        if self.format.is_text() { Ok(BTreeMap::new()) } else { Ok(decimals::typed(records)?.refused) }
    }

    fn planned_schema(&self) -> Option<SchemaRef> {
        self.schema.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// The target of a flow.
pub(crate) struct FilesTarget {
    table: Arc<Table>,
    sessions: Arc<Sessions>,
}

impl FilesTarget {
    /// # Errors
    /// The request asks for what a file cannot do.
    pub(crate) fn new(
        name: &StoreName,
        place: &Place,
        format: Option<Format>,
        request: WriteRequest,
        sessions: &Arc<Sessions>,
    ) -> Result<Self> {
        let unsupported = |what: String| StoreError::new(StoreErrorKind::Unsupported, name, what);
        let refused = match request.mode {
            Mode::Insert | Mode::Upsert => None,
            Mode::SkipExisting => Some("skip_existing"),
            Mode::Update => Some("update"),
            Mode::Changed => Some("changed"),
        };
        if let Some(mode) = refused {
            let what = format!("a file is written whole: `mode: {mode}` is not for files");
            return Err(
                unsupported(what).with_hint("use `mode: upsert`, which replaces the file, or `insert`")
            );
        }
        if !request.scope.is_empty() {
            return Err(unsupported("a file is written whole: `scope` is not for files".to_owned()));
        }
        if let Some(column) = request.forms.keys().next() {
            return Err(unsupported(format!("`as` of column `{column}`: files take no forms yet")));
        }
        if let Some(path) = request.ignore.iter().find(|path| path.contains(['[', '.'])) {
            return Err(unsupported(format!("`ignore` takes whole columns of files, not yet `{path}`")));
        }
        let path = place.path_of(&request.table);
        let format = format.or_else(|| format_of_name(&path)).ok_or_else(|| {
            unsupported(format!("the name \"{path}\" says no format; say it with `format:`"))
        })?;
        let key = nested::key(&request);
        if let Some(what) = request.shape.as_ref().and_then(|shape| nested::refusal(shape, format, &key)) {
            return Err(unsupported(what).with_hint("look at `shape`, `key` and the file's name"));
        }
        let request = WriteRequest { key, ..request };
        let compression = Compression::of_name(&path).0;
        if compression != Compression::None && !format.is_text() {
            let what = format!("{format} compresses its columns itself; leave the suffix of \"{path}\" out");
            return Err(unsupported(what));
        }
        let base = if request.table.is_empty() || request.table == "." {
            path.rsplit_once('/').map_or(String::new(), |(folder, _)| folder.to_owned())
        } else {
            place.path_of("")
        };
        let schema = Mutex::default();
        let (name, place) = (name.clone(), place.clone());
        let row_bytes = AtomicUsize::new(0);
        let table = Table { name, place, path, base, format, compression, request, schema, row_bytes };
        Ok(Self { table: Arc::new(table), sessions: Arc::clone(sessions) })
    }

    fn failed(&self, doing: &str, fault: Fault) -> StoreError {
        fault.into_error(&self.table.name, &format!("cannot {doing} \"{}\"", self.table.path))
    }

    async fn exists(&self) -> Result<bool> {
        let found = self.table.place.find(&self.table.path).await;
        found.map(|found| found.is_some()).map_err(|fault| self.failed("look at", fault))
    }

    fn staging(&self, run: &RunId) -> Staging {
        Staging::of(&self.table.place, &self.table.base, run, Handle::current())
    }

    fn session(&self, run: &RunId, slice: &SliceId, staging: Staging) -> Outcome<Arc<Session>> {
        let mut sessions = self.sessions.slices.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, session| session.strong_count() > 0);
        let key = (run.clone(), slice.clone());
        let flow = &self.table.request.flow;
        if let Some(session) = sessions.get(&key).and_then(Weak::upgrade).filter(|known| known.takes(flow)) {
            return Ok(session);
        }
        let session = Arc::new(Session::open(staging, slice, self.sessions.durable_at_once)?);
        sessions.insert(key, Arc::downgrade(&session));
        Ok(session)
    }

    /// The file that a slice is written into while others are read, if it grows so.
    fn growing(&self, run: &RunId, slice: &SliceId, staging: &Staging) -> Outcome<Option<Arc<Growing>>> {
        if self.sessions.durable_at_once {
            return Ok(None);
        }
        let mut files = self.sessions.files.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (run.clone(), self.table.path.clone());
        if let Some(known) = files.get(&key) {
            return Ok(known.clone());
        }
        let growing = Growing::open(&self.table, staging, slice)?.map(Arc::new);
        files.insert(key, growing.clone());
        Ok(growing)
    }

    /// Lets go of a file that is whole.
    fn forget(&self, run: &RunId) {
        let mut files = self.sessions.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.remove(&(run.clone(), self.table.path.clone()));
    }
}

#[async_trait]
impl Target for FilesTarget {
    fn capabilities(&self) -> Capabilities {
        let is_text = self.table.format.is_text() && matches!(self.table.place, Place::Folder(_));
        Capabilities {
            max_connections: None,
            atomic_batch: true,
            conditional: false,
            metered: false,
            batch_records: if is_text { TEXT_RECORDS } else { BATCH_RECORDS },
        }
    }

    fn resource(&self) -> String {
        self.table.path.clone()
    }

    async fn plan(&self, schema: &Schema) -> Result<TargetPlan> {
        let table = &self.table;
        let unsupported = |what: String| StoreError::new(StoreErrorKind::Unsupported, &table.name, what);
        if let Some(column) = table.request.key.iter().find(|name| schema.index_of(name).is_err()) {
            let context = format!("the key column `{column}` is none of the columns that are written");
            return Err(StoreError::new(StoreErrorKind::Mismatch, &table.name, context));
        }
        let mut fidelity = fidelity(table.format, schema).map_err(unsupported)?;
        if let Some(shape) = &table.request.shape {
            nested::fidelity(shape, schema, &mut fidelity).map_err(unsupported)?;
        }
        let written = table.written_schema(schema).into_owned();
        *table.schema.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(written));
        let exists = self.exists().await?;
        let mut notes =
            vec![format!("{} is written whole: it has its name when all records are there", table.format)];
        notes.extend(table.request.shape.as_ref().map(nested::note));
        if exists {
            notes.push("the file that is there is replaced then".to_owned());
        }
        Ok(TargetPlan { exists, key: table.request.key.clone(), fidelity, notes, ..TargetPlan::default() })
    }

    fn encode(
        &self,
        records: &RecordBatch,
        context: &RunContext,
    ) -> Vec<std::result::Result<Encoded, Refusal>> {
        let mut encoder = match self.table.encoder(records, &context.fingerprint_key) {
            Ok(encoder) => encoder,
            Err(error) => return unencodable(records, &error),
        };
        let mut refused = match self.table.refused(records) {
            Ok(refused) => refused,
            Err(error) => return unencodable(records, &error),
        };
        let (rows, mut text) = (encoder.rows(), TextBuffer::default());
        let one = |row| {
            if let Some(refusal) = refused.remove(&row) {
                return Err(refusal);
            }
            text.clear();
            let fingerprint = encoder.append(row, &mut text)?;
            Ok(Encoded {
                preview: Value::Object(encoder.preview(row)),
                bytes: u64::try_from(text.len()).unwrap_or(u64::MAX),
                capacity: Capacity::default(),
                fingerprint,
            })
        };
        (0..rows).map(one).collect()
    }

    fn fingerprints(
        &self,
        records: &RecordBatch,
        context: &RunContext,
    ) -> Vec<std::result::Result<Fingerprint, Refusal>> {
        let mut fingerprints = Vec::with_capacity(records.num_rows());
        for encoder in self.table.encoders(records, &context.fingerprint_key) {
            match encoder {
                Ok(mut encoder) => fingerprints.extend(encoder.fingerprints()),
                Err(error) => return unencodable(records, &error),
            }
        }
        match self.table.refused(records) {
            Ok(refused) => refused.into_iter().for_each(|(row, refusal)| fingerprints[row] = Err(refusal)),
            Err(error) => return unencodable(records, &error),
        }
        fingerprints
    }

    fn compares_without_key(&self) -> bool {
        true
    }

    async fn held_parts(&self, wanted: usize) -> Result<Vec<SlicePart>> {
        held::source(&self.table, None)?.slices(wanted).await
    }

    async fn held(
        &self,
        part: &SlicePart,
        flows: &[HeldFlow],
        context: &RunContext,
    ) -> Result<BoxStream<'static, Result<HeldBatch>>> {
        held::read(&self.table, part, flows, context).await
    }

    async fn look_up(&self, _records: &RecordBatch, _context: &RunContext) -> Result<LookedUp> {
        let what = "a file has no index by which a record could be looked up";
        Err(StoreError::new(StoreErrorKind::Unsupported, &self.table.name, what)
            .with_hint("compare all records instead of a sample"))
    }

    async fn create(&self) -> Result<Creation> {
        let name = self.table.path.clone();
        Ok(if self.exists().await? {
            Creation::Existed { name, differences: Vec::new() }
        } else {
            Creation::Created(name)
        })
    }

    async fn state(&self) -> Result<TargetState> {
        if self.table.request.mode == Mode::Insert && self.exists().await? {
            let context =
                format!("\"{}\" is there already, and `mode: insert` replaces nothing", self.table.path);
            return Err(StoreError::new(StoreErrorKind::Mismatch, &self.table.name, context)
                .with_hint("remove the file, or use `mode: upsert`, which replaces it"));
        }
        // What is written takes the place of what is there as a whole: no record of it counts.
        Ok(TargetState { empty: true })
    }

    async fn count(&self, flows: &[Vec<KeyPattern>]) -> Result<Held> {
        if self.exists().await? {
            held::count(&self.table, flows).await
        } else {
            Ok(Held { flows: vec![0; flows.len()], others: 0 })
        }
    }

    async fn load_steps(&self) -> Result<Vec<LoadStep>> {
        let text = format!("put the parts together as \"{}\"", self.table.path);
        Ok(vec![LoadStep { name: PUBLISH.to_owned(), text }])
    }

    async fn apply_step(&self, step: &LoadStep, context: &RunContext) -> Result<()> {
        if step.name != PUBLISH {
            let context = format!("files know no step `{}`", step.name);
            return Err(StoreError::new(StoreErrorKind::Unsupported, &self.table.name, context));
        }
        let (table, staging, handle) =
            (Arc::clone(&self.table), self.staging(&context.run), Handle::current());
        let published = blocking(move || publish::publish(&table, &staging, &handle)).await;
        self.forget(&context.run);
        published.map_err(|fault| self.failed("publish", fault))
    }

    async fn writer(&self, slice: &SliceId, _created: bool, context: &RunContext) -> Result<Box<dyn Writer>> {
        let staging = self.staging(&context.run);
        let flow = self.table.request.flow.clone();
        let this = Self { table: Arc::clone(&self.table), sessions: Arc::clone(&self.sessions) };
        let (run, slice) = (context.run.clone(), slice.clone());
        let joined = blocking(move || {
            let growing = this.growing(&run, &slice, &staging)?;
            let session = this.session(&run, &slice, staging)?;
            let last = session.join(&this.table, growing.as_ref())?;
            Ok((session, last))
        });
        let (session, last) = joined.await.map_err(|fault| self.failed("write", fault))?;
        let (table, context) = (Arc::clone(&self.table), context.clone());
        Ok(Box::new(FilesWriter { table, flow, session, last, context }))
    }
}

fn unencodable<T>(records: &RecordBatch, error: &ArrowError) -> Vec<std::result::Result<T, Refusal>> {
    let refusal = || Refusal { stage: Stage::Convert, reason: format!("the record cannot be read: {error}") };
    (0..records.num_rows()).map(|_| Err(refusal())).collect()
}
