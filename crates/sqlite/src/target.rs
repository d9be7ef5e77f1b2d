//! The writing side: what a table takes, and what is made where it is missing.

mod count;
mod definition;
mod delete;
mod held;
pub(crate) mod route;
mod structure;
mod undo;

pub(crate) use structure::define;

use crate::catalog::{self, Kind, Table, bare};
use crate::client::Client;
use crate::encode::{Encoder, Scratch, Stored, unfit};
use crate::ledger;
use crate::writer::{Keeping, SqliteWriter, WriterParts, make_images};
use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use definition::{Definition, differences};
use delete::Deletion;
use futures::stream::BoxStream;
use held::Reading;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OnceCell;
use whimbrel_model::logical::type_name;
use whimbrel_model::{Capacity, ColumnFidelity, Fidelity, Fingerprint, Identity, SliceId, SlicePart};
use whimbrel_store::ledger::Sessions;
use whimbrel_store::{
    BeforeImages, Capabilities, Creation, Deleted, Doomed, Encoded, Held, HeldBatch, HeldFlow, KeyPattern,
    LookedUp, Mode, Parent, Refusal, Removal, Result, RunContext, StoreError, StoreErrorKind, Target,
    TargetPlan, TargetState, UndoStep, Undoing, Undone, WriteRequest, Writer,
};

/// How many records are written in one transaction.
const BATCH_RECORDS: usize = 5_000;

/// What all targets of a store share.
#[derive(Default)]
pub(crate) struct Writing {
    pub sessions: Sessions<Client>,
    /// Whether it is known that some flow is written into this store, before the flow asks for its table.
    is_announced: AtomicBool,
    /// The script that makes the store's tables.
    schema_file: Option<PathBuf>,
    /// Tables that this process has made.
    made: Mutex<BTreeSet<String>>,
    /// The tables that flows are written into, as the spec names them.
    tables: Mutex<BTreeSet<String>>,
}

impl Writing {
    /// With a script that makes the store's tables.
    pub(crate) fn with_schema_file(path: PathBuf) -> Self {
        Self { schema_file: Some(path), ..Self::default() }
    }

    /// Some flow is written into this store.
    pub(crate) fn announce(&self) {
        self.is_announced.store(true, Ordering::Relaxed);
    }

    /// Whether any flow is written into this store.
    pub(crate) fn is_used(&self) -> bool {
        self.is_announced.load(Ordering::Relaxed)
            || !self.tables.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }
}

/// A table that a flow is written into.
pub(crate) struct SqliteTarget {
    client: Arc<Client>,
    writing: Arc<Writing>,
    request: Arc<WriteRequest>,
    planned: Mutex<Option<Arc<Planned>>>,
    /// The table as a writer has last seen it, with the parents of its foreign keys.
    seen: OnceCell<Seen>,
    /// Whether before-images are kept.
    keeps: AtomicBool,
}

/// What the plan has found out.
struct Planned {
    schema: SchemaRef,
    table: Table,
    encoder: Arc<Encoder>,
}

/// A table and, for each of its foreign keys, the table that it refers to.
#[derive(Clone)]
struct Seen {
    table: Arc<Table>,
    parents: Arc<Vec<Option<Table>>>,
}

impl SqliteTarget {
    pub(crate) fn new(client: &Arc<Client>, writing: &Arc<Writing>, request: WriteRequest) -> Self {
        writing.tables.lock().unwrap_or_else(PoisonError::into_inner).insert(request.table.clone());
        Self {
            client: Arc::clone(client),
            writing: Arc::clone(writing),
            request: Arc::new(request),
            planned: Mutex::default(),
            seen: OnceCell::new(),
            keeps: AtomicBool::new(false),
        }
    }

    fn error(&self, kind: StoreErrorKind, context: impl Into<String>) -> StoreError {
        StoreError::new(kind, &self.client.store, context)
    }

    /// Whose before-images a run would keep.
    fn keeping(&self, context: &RunContext) -> Option<Keeping> {
        Some(Keeping { run: context.run.to_string(), flow: self.request.flow.to_string() })
    }

    fn planned(&self) -> Option<Arc<Planned>> {
        self.planned.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The table as it is now; that it is missing is an error with those that there are.
    async fn read_table(&self) -> Result<Seen> {
        let (store, name) = (self.client.store.clone(), self.request.table.clone());
        let found = self.client.read_back(move |connection| {
            let table = catalog::read(&store, connection, &name)?;
            let parents = table.foreign_keys.iter().map(|key| catalog::find(&store, connection, &key.parent));
            let parents = Arc::new(parents.collect::<Result<Vec<_>>>()?);
            Ok(Seen { table: Arc::new(table), parents })
        });
        let found = found.await.map_err(|error| match error.kind() {
            StoreErrorKind::NotFound => {
                let others = error.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
                let hint = format!("make it with `whimbrel create` or `whimbrel run --create`{others}");
                if others.contains("whimbrel create") { error } else { error.with_hint(hint) }
            }
            _ => error,
        })?;
        self.check_kind(&found.table)?;
        Ok(found)
    }

    fn check_kind(&self, table: &Table) -> Result<()> {
        if table.kind == Kind::Table {
            return Ok(());
        }
        let context = format!("{} is a {}, and records are written into tables", table.quoted(), table.kind);
        Err(self.error(StoreErrorKind::Unsupported, context))
    }

    /// The table as it was when records were first written or read back.
    async fn seen(&self) -> Result<Seen> {
        self.seen.get_or_try_init(|| self.read_table()).await.cloned()
    }

    async fn reading(&self) -> Result<Reading> {
        let (client, request) = (Arc::clone(&self.client), Arc::clone(&self.request));
        Ok(Reading { client, table: self.seen().await?.table, request })
    }

    /// What encodes records of a schema, as far as the table is known.
    fn known_encoder(&self, schema: &SchemaRef) -> Result<Arc<Encoder>> {
        match (self.planned(), self.seen.get()) {
            (Some(planned), _) if planned.schema == *schema => Ok(Arc::clone(&planned.encoder)),
            (_, Some(seen)) => self.encoder_for(&seen.table, schema).map(Arc::new),
            (Some(planned), None) => self.encoder_for(&planned.table, schema).map(Arc::new),
            (None, None) => Err(self.error(StoreErrorKind::Internal, "the table has not been looked at yet")),
        }
    }

    fn encoder_for(&self, table: &Table, schema: &Schema) -> Result<Encoder> {
        let key = route::key(&self.client.store, &self.request, table, schema)?;
        route::encoder(&self.client.store, &self.request, table, &key, schema)
    }

    /// The table as it is, or as it will be, with its DDL and whether it exists.
    async fn table_to_be(&self, schema: &Schema) -> Result<(Table, Vec<String>, bool)> {
        let file = self.writing.schema_file.clone();
        let (store, request, schema) =
            (self.client.store.clone(), Arc::clone(&self.request), Arc::new(schema.clone()));
        if !self.client.exists() {
            let made = move || {
                let definition = Definition::new(&store, &request, file.as_deref(), &schema)?;
                let table = definition.imagine(None)?;
                Ok((definition.shown(&table), table))
            };
            let (ddl, table) = crate::client::blocking(&self.client.store, made).await?;
            return Ok((table, ddl, false));
        }
        self.client
            .read_back(move |connection| {
                if let Some(table) = catalog::find(&store, connection, &request.table)? {
                    return Ok((table, Vec::new(), true));
                }
                let definition = Definition::new(&store, &request, file.as_deref(), &schema)?;
                let table = definition.imagine(Some(connection))?;
                let ddl = definition.shown(&table);
                Ok((table, ddl, false))
            })
            .await
    }

    /// What each column becomes; a column that would lose something needs leave.
    fn fidelity(&self, table: &Table, schema: &Schema) -> Result<Vec<ColumnFidelity>> {
        let store = &self.client.store;
        let named = self.request.allow_lossy.iter().map(|name| (name, "allow_lossy"));
        let named = named.chain(self.request.forms.keys().map(|name| (name, "as")));
        let mut named = named.chain(self.request.ignore.iter().map(|name| (name, "ignore")));
        if let Some((name, place)) = named.find(|(name, _)| schema.field_with_name(name).is_err()) {
            let context = format!("the records have no column `{name}`; `{place}` names it");
            let names = schema.fields().iter().map(|field| field.name().as_str());
            return Err(self.error(StoreErrorKind::Mismatch, context).with_nearest(name, names));
        }
        let mut all = Vec::with_capacity(schema.fields().len());
        for field in schema.fields() {
            let column = route::existing(store, table, field.name(), "the records have it")?;
            let form = route::form(store, &self.request, field.name())?;
            let into = if column.declared.is_empty() { "any" } else { &column.declared };
            let found = route::slot(table, column).fidelity(field, form).map_err(|reason| {
                let context = format!(
                    "column `{}` ({}) cannot go into {} ({into}): {reason}",
                    field.name(),
                    type_name(field),
                    table.quoted()
                );
                self.error(StoreErrorKind::Unsupported, context)
            })?;
            if let (Fidelity::Lossy(what), false) = (&found, self.request.allow_lossy.contains(field.name()))
            {
                let context = format!("column `{}` would lose something on the way: {what}", field.name());
                return Err(self.error(StoreErrorKind::Unsupported, context).with_hint(format!(
                    "write `allow_lossy: [{}]` if that is meant, or convert it in the transform",
                    field.name()
                )));
            }
            all.push(ColumnFidelity {
                column: field.name().clone(),
                from: type_name(field),
                into: into.to_owned(),
                fidelity: found,
            });
        }
        Ok(all)
    }

    /// Columns that the table wants filled and nobody fills.
    fn check_filled(&self, table: &Table, encoder: &Encoder) -> Result<()> {
        if self.request.mode == Mode::Update {
            return Ok(());
        }
        let is_filled = |name: &str| encoder.columns().iter().any(|column| column.name == name);
        let open = table.columns.iter().filter(|column| {
            let makes_itself =
                column.has_default || column.is_generated || table.rowid_alias.as_ref() == Some(&column.name);
            column.is_not_null && !makes_itself && !is_filled(&column.name)
        });
        let names: Vec<_> = open.map(|column| format!("`{}`", column.name)).collect();
        if names.is_empty() {
            return Ok(());
        }
        let context =
            format!("{} must not be NULL in {}, and no column fills it", names.join(", "), table.quoted());
        let hint = "give it a value in the transform, or a default in the table";
        Err(self.error(StoreErrorKind::Mismatch, context).with_hint(hint))
    }

    fn parents(&self, table: &Table) -> Vec<Parent> {
        let served = self.writing.tables.lock().unwrap_or_else(PoisonError::into_inner);
        let others = table.foreign_keys.iter().filter(|key| !key.parent.eq_ignore_ascii_case(&table.name));
        let parents = others.map(|key| {
            let flow = served.iter().find(|name| bare(name).eq_ignore_ascii_case(&key.parent));
            Parent { resource: flow.unwrap_or(&key.parent).clone(), columns: key.columns.clone() }
        });
        parents.collect()
    }

    fn notes(table: &Table) -> Vec<String> {
        let mut notes = Vec::new();
        if !table.triggers.is_empty() {
            notes.push(format!("writes into {} fire {}", table.quoted(), table.triggers.join(", ")));
        }
        if table.foreign_keys.iter().any(|key| key.parent.eq_ignore_ascii_case(&table.name)) {
            notes.push(format!(
                "{} refers to itself: a record that comes before the one it refers to is a reject",
                table.quoted()
            ));
        }
        notes
    }
}

#[async_trait]
impl Target for SqliteTarget {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            max_connections: Some(1),
            atomic_batch: true,
            conditional: true,
            metered: false,
            batch_records: BATCH_RECORDS,
        }
    }

    fn resource(&self) -> String {
        self.request.table.clone()
    }

    async fn identity(&self) -> Result<Option<Identity>> {
        if !self.client.exists() {
            return Ok(None);
        }
        let (client, name) = (Arc::clone(&self.client), self.request.table.clone());
        let found = self.client.read_back(move |connection| {
            let table = catalog::find(&client.store, connection, &name)?;
            let file = crate::identity::of_file(&client.store, connection, client.config.path())?;
            Ok(table.map(|table| Identity::new(format!("{file} table {}", table.quoted()))))
        });
        found.await
    }

    async fn plan(&self, schema: &Schema) -> Result<TargetPlan> {
        let (table, ddl, exists) = self.table_to_be(schema).await?;
        self.check_kind(&table)?;
        let store = &self.client.store;
        let key = route::key(store, &self.request, &table, schema)?;
        route::check_key(store, &self.request, &table, &key)?;
        let encoder = route::encoder(store, &self.request, &table, &key, schema)?;
        let fidelity = self.fidelity(&table, schema)?;
        self.check_filled(&table, &encoder)?;
        let (parents, notes) = (self.parents(&table), Self::notes(&table));
        let planned = Planned { schema: Arc::new(schema.clone()), table, encoder: Arc::new(encoder) };
        *self.planned.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(planned));
        Ok(TargetPlan { exists, key, ddl, fidelity, notes, parents, ..TargetPlan::default() })
    }

    fn encode(
        &self,
        records: &RecordBatch,
        context: &RunContext,
    ) -> Vec<std::result::Result<Encoded, Refusal>> {
        let refused = |refusal: Refusal| vec![Err(refusal); records.num_rows()];
        let encoder = match self.known_encoder(records.schema_ref()) {
            Ok(encoder) => encoder,
            Err(error) => return refused(unfit(error.to_string())),
        };
        let arrays = match encoder.arrays(records) {
            Ok(arrays) => arrays,
            Err(refusal) => return refused(refusal),
        };
        let mut scratch = Scratch::default();
        let mut encoded = |row| {
            let row = encoder.row(&arrays, row, &context.fingerprint_key, &mut scratch)?;
            Ok(Encoded {
                preview: Value::Object(encoder.shown(&row.values)),
                bytes: u64::try_from(row.values.iter().map(Stored::size).sum::<usize>()).unwrap_or(u64::MAX),
                capacity: Capacity::default(),
                fingerprint: row.fingerprint,
            })
        };
        (0..records.num_rows()).map(&mut encoded).collect()
    }

    fn keys(&self, records: &RecordBatch, context: &RunContext) -> Vec<Option<u128>> {
        let fingerprints = self.fingerprints(records, context).into_iter();
        fingerprints.map(|fingerprint| fingerprint.ok().map(|fingerprint| fingerprint.key)).collect()
    }

    fn compares_without_key(&self) -> bool {
        true
    }

    fn fingerprints(
        &self,
        records: &RecordBatch,
        context: &RunContext,
    ) -> Vec<std::result::Result<Fingerprint, Refusal>> {
        match self.known_encoder(records.schema_ref()) {
            Ok(encoder) => encoder.fingerprints(records, &context.fingerprint_key),
            Err(error) => vec![Err(unfit(error.to_string())); records.num_rows()],
        }
    }

    fn deletes(&self) -> bool {
        true
    }

    async fn delete(&self, doomed: &[Doomed], context: &RunContext) -> Result<Deleted> {
        let reading = self.reading().await?;
        let key = reading.own_key()?;
        let (print, doomed) = (context.fingerprint_key.clone(), doomed.to_vec());
        let keeping = self.keeping(context).filter(|_| self.keeps.load(Ordering::Relaxed));
        let mut lease = self.client.begin(false).await?;
        let deleted = lease.run(move |connection| {
            let (store, table) = (&reading.client.store, &*reading.table);
            let encoder = undo::key_encoder(store, table, &key)?;
            let (encoder, request, keeping, print) = (&encoder, &*reading.request, keeping.as_ref(), &print);
            Deletion { store, connection, table, encoder, request, keeping, print }.of(&doomed)
        });
        let deleted = deleted.await?;
        lease.commit().await?;
        Ok(deleted)
    }

    fn undoing(&self) -> Undoing {
        match self.planned() {
            Some(planned) if planned.encoder.key().is_empty() => {
                Undoing::Unable("the table has no key, so that no row of it can be found again")
            }
            _ => Undoing::Beside("whimbrel_before_image"),
        }
    }

    async fn keep_before_images(&self, _images: Arc<dyn BeforeImages>) -> Result<()> {
        let store = self.client.store.clone();
        let mut lease = self.client.begin(false).await?;
        lease.run(move |connection| make_images(&store, connection)).await?;
        lease.commit().await?;
        self.keeps.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn deletes_besides(&self) -> Result<Vec<String>> {
        let reading = self.reading().await?;
        let client = Arc::clone(&self.client);
        client
            .read_back(move |connection| delete::besides(&reading.client.store, connection, &reading.table))
            .await
    }

    async fn undo(
        &self,
        _images: &Arc<dyn BeforeImages>,
        step: UndoStep,
        context: &RunContext,
    ) -> Result<Undone> {
        let reading = self.reading().await?;
        let key = reading.own_key()?;
        let (print, run) = (context.fingerprint_key.clone(), context.run.to_string());
        let mut lease = self.client.begin(false).await?;
        let undone = lease.run(move |connection| {
            let (store, table) = (&reading.client.store, &*reading.table);
            let encoder = undo::key_encoder(store, table, &key)?;
            let (encoder, flow, print) = (&encoder, reading.request.flow.as_str(), &print);
            undo::Undoing { store, connection, table, key: &key, encoder, run: &run, flow, print }.undo(step)
        });
        let (undone, is_written) = undone.await?;
        if is_written {
            lease.commit().await?;
        }
        Ok(undone)
    }

    async fn remove(&self) -> Result<Removal> {
        if !self.client.exists() {
            return Ok(Removal::Absent);
        }
        let (store, request) = (self.client.store.clone(), Arc::clone(&self.request));
        let mut lease = self.client.begin(false).await?;
        let removed = lease.run(move |connection| delete::remove(&store, connection, &request));
        let removed = removed.await?;
        lease.commit().await?;
        Ok(removed)
    }

    async fn held_parts(&self, wanted: usize) -> Result<Vec<SlicePart>> {
        self.reading().await?.parts(wanted).await
    }

    async fn held(
        &self,
        part: &SlicePart,
        flows: &[HeldFlow],
        context: &RunContext,
    ) -> Result<BoxStream<'static, Result<HeldBatch>>> {
        let reading = self.reading().await?;
        let query = reading.query(flows)?;
        Ok(reading.read(query, part, context))
    }

    async fn look_up(&self, records: &RecordBatch, context: &RunContext) -> Result<LookedUp> {
        let reading = self.reading().await?;
        let (records, key) = (records.clone(), context.fingerprint_key.clone());
        let flow =
            HeldFlow { constants: Vec::new(), columns: records.schema(), request: (*self.request).clone() };
        let client = Arc::clone(&self.client);
        client.read_back(move |connection| held::look_up(&reading, connection, &flow, &records, &key)).await
    }

    async fn create(&self) -> Result<Creation> {
        let name = self.request.table.clone();
        let schema = self.planned().map(|planned| Arc::clone(&planned.schema));
        let definition = schema.as_deref().map(|schema| {
            let file = self.writing.schema_file.as_deref();
            Definition::new(&self.client.store, &self.request, file, schema)
        });
        let definition = definition.transpose()?;
        let mut lease = self.client.begin(true).await?;
        let (store, wanted) = (self.client.store.clone(), name.clone());
        let done = lease.run(move |connection| {
            ledger::make(&store, connection)?;
            if let Some(table) = catalog::find(&store, connection, &wanted)? {
                let defined = definition.map(|definition| (definition.imagine(None), definition.is_script()));
                let differences = match defined {
                    Some((Ok(defined), is_script)) => differences(&table, &defined, is_script),
                    Some((Err(error), _)) => {
                        vec![format!("it could not be compared with its definition: {error}")]
                    }
                    None => Vec::new(),
                };
                return Ok(Err((table.name, differences)));
            }
            let definition = definition.ok_or_else(|| {
                let context = format!("table `{wanted}` is to be made before it was planned");
                StoreError::new(StoreErrorKind::Internal, &store, context)
            })?;
            Ok(Ok(definition.make(connection)?))
        });
        let done = done.await?;
        lease.commit().await?;
        let mut made = self.writing.made.lock().unwrap_or_else(PoisonError::into_inner);
        match done {
            Ok(names) => {
                made.extend(names);
                Ok(Creation::Created(name))
            }
            Err((own, _)) if made.contains(&own) => Ok(Creation::Created(name)),
            Err((_, differences)) => Ok(Creation::Existed { name, differences }),
        }
    }

    async fn state(&self) -> Result<TargetState> {
        let seen = self.read_table().await?;
        let (store, request) = (self.client.store.clone(), Arc::clone(&self.request));
        let empty = self
            .client
            .read_back(move |connection| count::is_empty(&store, connection, &seen.table, &request.scope));
        Ok(TargetState { empty: empty.await? })
    }

    async fn count(&self, flows: &[Vec<KeyPattern>]) -> Result<Held> {
        let seen = self.read_table().await?;
        let (store, request, flows) = (self.client.store.clone(), Arc::clone(&self.request), flows.to_vec());
        self.client
            .read_back(move |connection| {
                count::count(&store, connection, &seen.table, &request.scope, &flows)
            })
            .await
    }

    async fn writer(&self, slice: &SliceId, created: bool, context: &RunContext) -> Result<Box<dyn Writer>> {
        let Seen { table, parents } = self.seen().await?;
        Ok(Box::new(SqliteWriter::new(WriterParts {
            client: Arc::clone(&self.client),
            request: Arc::clone(&self.request),
            table,
            parents,
            context: context.clone(),
            keeping: self.keeping(context).filter(|_| !created && self.keeps.load(Ordering::Relaxed)),
            session: self.writing.sessions.join(&self.client, slice, &self.request.flow, context),
        })))
    }
}
