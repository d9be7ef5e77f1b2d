//! The writing side: what a table takes, what is made where it is missing, and what follows a load.

pub(crate) mod catalog;
mod count;
mod definition;
mod delete;
mod differences;
mod fit;
mod foreign_keys;
mod held;
mod langchain;
mod late_key;
mod load;
mod look_up;
mod owner;
pub(crate) mod route;
pub(crate) mod scope;
mod shown;
mod step_extent;
mod structure;
mod undo;
mod vector_index;

pub(crate) use structure::define;

use crate::catalog::{candidates, identity};
use crate::client::{Connections, Lease, Purpose};
use crate::config::{ForeignKeys, PostgresConfig};
use crate::encode::{Encoder, Wire, Within, unfit};
use crate::error::from_driver;
use crate::ledger::{LedgerTables, PostgresLedger};
use crate::writer::{Keeping, PostgresWriter, Spare, WriterParts};
use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use catalog::Table;
use definition::Definition;
use delete::Deletion;
use futures::stream::BoxStream;
use langchain::Langchain;
use look_up::LookUp;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use whimbrel_model::logical::type_name;
use whimbrel_model::{
    Capacity, ColumnFidelity, Fidelity, Fingerprint, Identity, SliceId, SlicePart, StoreName,
};
use whimbrel_store::ledger::Sessions;
use whimbrel_store::{
    BeforeImages, Capabilities, Creation, Deleted, Doomed, Encoded, Held, HeldBatch, HeldFlow, KeyPattern,
    LoadStep, LookedUp, Mode, Owner, Parent, Refusal, Removal, Removed, Result, RunContext, StoreError,
    StoreErrorKind, Target, TargetPlan, TargetState, UndoStep, Undoing, Undone, WriteRequest, Writer,
};

/// How many records are written in one transaction.
const BATCH_RECORDS: usize = 10_000;
/// How many connections write at the most.
const MOST_CONNECTIONS: usize = 8;

/// What all targets of a store share.
#[derive(Default)]
pub(crate) struct Writing {
    pub ledger: Arc<LedgerTables>,
    pub sessions: Sessions<PostgresLedger>,
    /// The script that makes the store's tables.
    pub schema_file: Option<PathBuf>,
    /// Tables that this process has made.
    pub made: Mutex<BTreeSet<u32>>,
    /// The tables that the script would make, by their quoted names; read once for all flows.
    pub imagined: tokio::sync::Mutex<Option<BTreeMap<String, Table>>>,
    /// The tables that flows are written into, as the spec names them.
    pub tables: Mutex<BTreeSet<String>>,
}

/// The quoted names of tables, with their schemas and, where that is enough, without.
const NAMES: &str = "SELECT q.schema || '.' || q.name, CASE WHEN pg_catalog.pg_table_is_visible(q.oid) THEN q.name END \
    FROM (SELECT c.oid, '\"' || replace(n.nspname::text, '\"', '\"\"') || '\"' AS schema, \
    '\"' || replace(c.relname::text, '\"', '\"\"') || '\"' AS name \
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY ($1)) AS q";

/// A table that a flow is written into.
pub(crate) struct PostgresTarget {
    store: StoreName,
    config: Arc<PostgresConfig>,
    connections: Arc<Connections>,
    writing: Arc<Writing>,
    request: Arc<WriteRequest>,
    planned: Mutex<Option<Arc<Planned>>>,
    /// The table as a writer has last seen it.
    seen: tokio::sync::OnceCell<Arc<Table>>,
    /// How records were looked up last.
    look_up: Mutex<Option<Arc<LookUp>>>,
    /// Whether writers keep what they write over.
    keeps: AtomicBool,
    /// Whether no two records that this run writes here share a key.
    is_distinct: AtomicBool,
    /// Memory for the rows of batches.
    spare: Arc<Spare>,
}

/// What the plan has found out.
struct Planned {
    schema: SchemaRef,
    table: Table,
    key: Vec<String>,
    encoder: Encoder,
}

impl PostgresTarget {
    pub(crate) fn new(
        store: &StoreName,
        config: &Arc<PostgresConfig>,
        connections: &Arc<Connections>,
        writing: &Arc<Writing>,
        request: WriteRequest,
    ) -> Self {
        writing.tables.lock().unwrap_or_else(PoisonError::into_inner).insert(request.table.clone());
        Self {
            store: store.clone(),
            config: Arc::clone(config),
            connections: Arc::clone(connections),
            writing: Arc::clone(writing),
            request: Arc::new(request),
            planned: Mutex::default(),
            seen: tokio::sync::OnceCell::new(),
            look_up: Mutex::default(),
            keeps: AtomicBool::new(false),
            is_distinct: AtomicBool::new(false),
            spare: Arc::default(),
        }
    }

    fn error(&self, kind: StoreErrorKind, context: impl Into<String>) -> StoreError {
        StoreError::new(kind, &self.store, context)
    }

    /// The collection that the records are, in the tables of langchain-postgres.
    fn langchain(&self) -> Option<Langchain<'_>> {
        let collection = self.request.collection.as_ref()?;
        Some(Langchain { store: &self.store, collection })
    }

    fn planned(&self) -> Option<Arc<Planned>> {
        self.planned.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The table as it was when records were first written or read back.
    async fn seen(&self) -> Result<Arc<Table>> {
        let seen = self.seen.get_or_try_init(|| async { Ok(Arc::new(self.read_table().await?)) }).await?;
        Ok(Arc::clone(seen))
    }

    fn reading<'a>(&'a self, table: &'a Table) -> held::Reading<'a> {
        let (store, connections, request) = (&self.store, &self.connections, &*self.request);
        held::Reading { store, connections, table, request }
    }

    /// What encodes records of a schema, as far as the table is known.
    fn known_encoder(&self, schema: &SchemaRef) -> Result<Encoder> {
        match (self.planned(), self.seen.get()) {
            (Some(planned), _) if planned.schema == *schema => Ok(planned.encoder.clone()),
            (_, Some(table)) => self.encoder_for(table, schema),
            (Some(planned), None) => self.encoder_for(&planned.table, schema),
            (None, None) => Err(self.error(StoreErrorKind::Internal, "the table has not been looked at yet")),
        }
    }

    fn encoder_for(&self, table: &Table, schema: &Schema) -> Result<Encoder> {
        let key = route::key(&self.store, &self.request, table, schema)?;
        route::encoder(&self.store, &self.request, table, &key, schema)
    }

    /// The collection and the table that it is in; `None`: the records are no collection, or there is no table.
    async fn collection_table(&self, lease: &Lease) -> Result<Option<(Langchain<'_>, Table)>> {
        let Some(langchain) = self.langchain() else { return Ok(None) };
        let table = catalog::find(&self.store, lease, &self.request.table).await?;
        Ok(table.map(|table| (langchain, table)))
    }

    /// The table as it is; that it is missing is an error with those that there are.
    async fn read_table(&self) -> Result<Table> {
        let lease = self.connections.lease(Purpose::Catalog).await?;
        let table = catalog::read(&self.store, &lease, &self.request.table).await;
        let table = table.map_err(|error| match error.kind() {
            StoreErrorKind::NotFound => {
                let others = error.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
                error.with_hint(format!("make it with `whimbrel create` or `whimbrel run --create`{others}"))
            }
            _ => error,
        })?;
        lease.finish().await?;
        Ok(table)
    }

    /// What each column becomes; a column that would lose something needs leave.
    fn fidelity(&self, table: &Table, schema: &Schema) -> Result<Vec<ColumnFidelity>> {
        let named = self.request.allow_lossy.iter().map(|name| (name.as_str(), "allow_lossy"));
        let named = named.chain(self.request.forms.keys().map(|name| (name.as_str(), "as")));
        let ignored = self.request.ignore.iter().map(|path| {
            let is_whole = schema.field_with_name(path).is_ok();
            (if is_whole { path.as_str() } else { Within::column(path) }, "ignore")
        });
        let mut named = named.chain(ignored);
        if let Some((name, place)) = named.find(|(name, _)| schema.field_with_name(name).is_err()) {
            let names = schema.fields().iter().map(|field| field.name().as_str());
            let context = format!("the records have no column `{name}`; `{place}` names it");
            return Err(self.error(StoreErrorKind::Mismatch, context).with_nearest(name, names));
        }
        let mut all = Vec::with_capacity(schema.fields().len());
        for field in schema.fields() {
            let name = field.name();
            let column = route::existing(&self.store, table, name, "the records have it")?;
            let form = route::form(&self.store, &self.request, name)?;
            let found = fit::fidelity(field, &column.wire, form, &column.type_name).map_err(|reason| {
                let (from, into) = (type_name(field), &column.type_name);
                let context =
                    format!("column `{name}` ({from}) cannot go into {} ({into}): {reason}", table.sql);
                self.error(StoreErrorKind::Unsupported, context)
            })?;
            // A text that ends with spaces is a reject, unless that is given up.
            let gives_up = matches!(column.wire, Wire::Text { is_padded: true, .. })
                && !route::is_padded_already(field)
                && self.request.allow_lossy.contains(name);
            let found = if gives_up {
                Fidelity::Lossy("spaces at the end of a text are not kept".to_owned())
            } else {
                found
            };
            if let (Fidelity::Lossy(what), false) = (&found, self.request.allow_lossy.contains(name)) {
                let context = format!("column `{name}` would lose something on the way: {what}");
                return Err(self.error(StoreErrorKind::Unsupported, context).with_hint(format!(
                    "write `allow_lossy: [{name}]` if that is meant, or convert it in the transform"
                )));
            }
            all.push(ColumnFidelity {
                column: name.clone(),
                from: type_name(field),
                into: column.type_name.clone(),
                fidelity: found,
            });
        }
        Ok(all)
    }

    /// Two texts may be one key to a type that reads them in its own way, `Ann` and `ANN` to citext: written as
    /// text, the one could silently take the place of the other.
    fn check_key(&self, table: &Table, key: &[String], fidelity: &[ColumnFidelity]) -> Result<()> {
        if self.request.mode == Mode::Insert {
            return Ok(());
        }
        let is_cast =
            |name: &str| table.columns.iter().any(|column| column.name == name && column.wire.is_cast());
        let folded = fidelity.iter().find(|column| {
            key.contains(&column.column) && is_cast(&column.column) && column.fidelity != Fidelity::Exact
        });
        let Some(column) = folded else { return Ok(()) };
        let context = format!(
            "two values of the key column `{}` may differ as {} and be one key as {}",
            column.column, column.from, column.into
        );
        let hint = "write with `mode: insert`, which rejects the second, or make the column text";
        Err(self.error(StoreErrorKind::Unsupported, context).with_hint(hint))
    }

    /// Rules rewrite statements, and one that merges a batch cannot be rewritten: better said now than at the first
    /// write.
    fn check_rules(&self, table: &Table) -> Result<()> {
        let is_update = self.request.mode == Mode::Update;
        let inserts = if is_update { &[][..] } else { &table.insert_rules[..] };
        let rules: Vec<_> =
            inserts.iter().chain(&table.update_rules).map(|name| format!("`{name}`")).collect();
        if rules.is_empty() {
            return Ok(());
        }
        let context =
            format!("what is written into {} is rewritten by rules: {}", table.sql, rules.join(", "));
        let hint = "rules and whimbrel's statements exclude each other: use a trigger in their place, or take them \
             off for the load, ALTER TABLE … DISABLE RULE …";
        Err(self.error(StoreErrorKind::Unsupported, context).with_hint(hint))
    }

    /// Columns that the table wants filled and nobody fills.
    fn check_filled(&self, table: &Table, encoder: &Encoder) -> Result<()> {
        if self.request.mode == Mode::Update {
            return Ok(());
        }
        let is_filled = |name: &str| encoder.columns().iter().any(|column| column.name == name);
        let open = table.columns.iter().filter(|column| {
            column.is_not_null && !column.has_default && !column.is_generated && !is_filled(&column.name)
        });
        let names: Vec<_> = open.map(|column| format!("`{}`", column.name)).collect();
        if names.is_empty() {
            return Ok(());
        }
        let context =
            format!("{} must not be NULL in {}, and no column fills it", names.join(", "), table.sql);
        let hint = "give it a value in the transform, or a default in the table";
        Err(self.error(StoreErrorKind::Mismatch, context).with_hint(hint))
    }

    async fn parents(&self, lease: &Lease, table: &Table) -> Result<Vec<Parent>> {
        let served = load::served(&self.store, lease, &self.writing).await?;
        let parents = table.foreign_keys.iter().filter(|key| key.parent != table.oid).map(|key| {
            let (schema, name) = &key.parent_name;
            let flow = served.iter().find(|(_, oid)| *oid == key.parent);
            let own = || if schema == "public" { name.clone() } else { format!("{schema}.{name}") };
            Parent { resource: flow.map_or_else(own, |(name, _)| name.clone()), columns: key.columns.clone() }
        });
        Ok(parents.collect())
    }

    fn notes(&self, table: &Table) -> Vec<String> {
        let mut notes = Vec::new();
        if !table.triggers.is_empty() {
            notes.push(format!("each write into {} fires {}", table.sql, table.triggers.join(", ")));
        }
        if table.foreign_keys.iter().any(|key| key.parent == table.oid) {
            notes.push(format!(
                "{} refers to itself: a record that comes before the one it refers to is a reject",
                table.sql
            ));
        }
        let written = |name: &String| {
            self.planned().is_some_and(|planned| planned.schema.field_with_name(name).is_ok())
        };
        for (column, sequence) in table.sequences.iter().filter(|(column, _)| written(column)) {
            notes.push(format!("after the load {sequence} goes on behind the greatest `{column}`"));
        }
        notes
    }

    /// How a table that is there differs from what would be made.
    async fn differences(&self, table: &Table, schema: Option<&Schema>) -> Result<Vec<String>> {
        let none = Schema::empty();
        if schema.is_none() && self.writing.schema_file.is_none() {
            return Ok(Vec::new());
        }
        let definition = Definition::new(&self.store, &self.request, &self.writing, schema.unwrap_or(&none))?;
        differences::differences(&self.store, &self.connections, &definition, table).await
    }

    /// The table as it is, or as it will be: made in a transaction that is undone.
    async fn table_to_be(&self, schema: &Schema) -> Result<(Table, Vec<String>, bool)> {
        let lease = self.connections.lease(Purpose::Catalog).await?;
        let found = catalog::find(&self.store, &lease, &self.request.table).await?;
        lease.finish().await?;
        if let Some(table) = found {
            return Ok((table, Vec::new(), true));
        }
        let definition = Definition::new(&self.store, &self.request, &self.writing, schema)?;
        if let Some(table) = self.imagined(&definition).await? {
            return Ok((table.clone(), definition.shown(Some(&table)), false));
        }
        let lease = self.connections.lease(Purpose::Write).await?;
        let made = definition.make(&lease, &self.request.table).await;
        let made = match made {
            Ok(_) => catalog::read(&self.store, &lease, &self.request.table).await,
            Err(error) => Err(error),
        };
        let ddl = definition.shown(made.as_ref().ok());
        lease.roll_back().await?;
        // What whimbrel makes has its foreign keys made after the load.
        let table = Table { foreign_keys: Vec::new(), ..made? };
        Ok((table, ddl, false))
    }

    /// The table as the script makes it, where there is one and it does, in a transaction that is undone: once for
    /// all tables of the store, since a script may make hundreds.
    async fn imagined(&self, definition: &Definition) -> Result<Option<Table>> {
        if !definition.is_script() {
            return Ok(None);
        }
        let mut imagined = self.writing.imagined.lock().await;
        if imagined.is_none() {
            let lease = self.connections.lease(Purpose::Write).await?;
            let tables = self.make_and_read(&lease, definition).await;
            lease.roll_back().await?;
            *imagined = Some(tables?);
        }
        let mut names = candidates(&self.request.table).into_iter();
        Ok(imagined.as_ref().and_then(|tables| names.find_map(|name| tables.get(&name).cloned())))
    }

    async fn make_and_read(&self, lease: &Lease, definition: &Definition) -> Result<BTreeMap<String, Table>> {
        let before = definition.tables(lease).await?;
        definition.make_in(lease, "").await?;
        let mut made = definition.tables(lease).await?;
        made.retain(|oid| !before.contains(oid));
        let failed = |error| from_driver(&self.store, "cannot read which tables the script makes", error);
        let mut tables = BTreeMap::new();
        for row in lease.client().query(NAMES, &[&made]).await.map_err(failed)? {
            let (full, short): (String, Option<String>) =
                (row.try_get(0).map_err(failed)?, row.try_get(1).map_err(failed)?);
            // What whimbrel makes has its foreign keys made after the load.
            let table = catalog::read(&self.store, lease, &full).await?;
            let table = Table { foreign_keys: Vec::new(), ..table };
            tables.extend(short.map(|short| (short, table.clone())));
            tables.insert(full, table);
        }
        Ok(tables)
    }
}

#[async_trait]
impl Target for PostgresTarget {
    fn capabilities(&self) -> Capabilities {
        let is_single = self.config.single_connection;
        Capabilities {
            max_connections: Some(if is_single { 1 } else { MOST_CONNECTIONS }),
            atomic_batch: true,
            conditional: true,
            metered: false,
            batch_records: BATCH_RECORDS,
        }
    }

    fn resource(&self) -> String {
        match &self.request.collection {
            Some(collection) => format!("{}/{}", self.request.table, collection.name),
            None => self.request.table.clone(),
        }
    }

    async fn identity(&self) -> Result<Option<Identity>> {
        let lease = self.connections.lease(Purpose::Catalog).await?;
        let table = catalog::find(&self.store, &lease, &self.request.table).await?;
        let database = identity(&self.store, &lease, &self.config).await?;
        let collection = match (self.langchain(), &table) {
            (Some(langchain), Some(table)) => langchain.uuid(&lease, table).await?.map(Some),
            _ => Some(None),
        };
        lease.finish().await?;
        let place = self.config.shown_as.as_ref().map(|place| format!(" in {place}")).unwrap_or_default();
        Ok(table.zip(collection).map(|(table, collection)| {
            let collection = collection.map(|uuid| format!(" collection {uuid}")).unwrap_or_default();
            Identity::new(format!("{database}{place} table {}{collection}", table.oid))
        }))
    }

    async fn plan(&self, schema: &Schema) -> Result<TargetPlan> {
        let (table, ddl, exists) = self.table_to_be(schema).await?;
        let (table, note) = self.while_filled(table).await?;
        let mut notes: Vec<_> = note.into_iter().collect();
        if let Some(langchain) = self.langchain() {
            notes.extend(langchain.check(&table, schema)?);
        }
        self.check_rules(&table)?;
        let key = route::key(&self.store, &self.request, &table, schema)?;
        let encoder = route::encoder(&self.store, &self.request, &table, &key, schema)?;
        let fidelity = self.fidelity(&table, schema)?;
        self.check_key(&table, &key, &fidelity)?;
        self.check_filled(&table, &encoder)?;
        let lease = self.connections.lease(Purpose::Catalog).await?;
        let parents = self.parents(&lease, &table).await?;
        let exists = match self.langchain() {
            Some(langchain) if exists => langchain.is_there(&lease, &table).await?,
            _ => exists,
        };
        lease.finish().await?;
        let planned =
            Planned { schema: Arc::new(schema.clone()), table: table.clone(), key: key.clone(), encoder };
        *self.planned.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(planned));
        notes.extend(self.notes(&table));
        Ok(TargetPlan { exists, key, ddl, fidelity, notes, parents, ..TargetPlan::default() })
    }

    fn encode(
        &self,
        records: &RecordBatch,
        context: &RunContext,
    ) -> Vec<std::result::Result<Encoded, Refusal>> {
        let encoder = match self.known_encoder(records.schema_ref()) {
            Ok(encoder) => encoder,
            Err(error) => return vec![Err(unfit(error.to_string())); records.num_rows()],
        };
        let rows = encoder.encode(records, &context.fingerprint_key);
        let previews = shown::previews(&encoder, &rows, records.num_rows(), records.schema_ref());
        let mut previews = previews.into_iter();
        let encoded = |row: usize| {
            let preview = previews.next().unwrap_or_default();
            let fields = rows.fields(row).map_err(Clone::clone)?;
            let fingerprint = rows.fingerprint(row).ok_or_else(|| unfit("it has no key".to_owned()))?;
            Ok(Encoded {
                preview: Value::Object(preview),
                bytes: u64::try_from(fields.len()).unwrap_or(u64::MAX),
                capacity: Capacity::default(),
                fingerprint,
            })
        };
        (0..records.num_rows()).map(encoded).collect()
    }

    fn keys(&self, records: &RecordBatch, context: &RunContext) -> Vec<Option<u128>> {
        match self.known_encoder(records.schema_ref()) {
            Ok(encoder) => encoder.keys(records, &context.fingerprint_key),
            Err(_) => vec![None; records.num_rows()],
        }
    }

    fn knows_best(&self) -> bool {
        let is_known_there = |planned: Arc<Planned>| {
            let mut columns = planned.encoder.columns().iter();
            columns.any(|column| column.wire.is_understood_by_server_alone())
        };
        self.planned().is_some_and(is_known_there)
    }

    fn expect_distinct_keys(&self) {
        self.is_distinct.store(true, Ordering::Relaxed);
    }

    fn compares_without_key(&self) -> bool {
        // Where the server must be asked whether two values are the same, it is asked by key.
        !self.knows_best()
    }

    fn fingerprints(
        &self,
        records: &RecordBatch,
        context: &RunContext,
    ) -> Vec<std::result::Result<Fingerprint, Refusal>> {
        match self.known_encoder(records.schema_ref()) {
            Ok(encoder) => encoder.fingerprints(records, 0..records.num_rows(), &context.fingerprint_key),
            Err(error) => vec![Err(unfit(error.to_string())); records.num_rows()],
        }
    }

    fn measured(
        &self,
        records: &RecordBatch,
        context: &RunContext,
    ) -> Vec<std::result::Result<(Fingerprint, Capacity), Refusal>> {
        let fingerprints = self.fingerprints(records, context).into_iter();
        fingerprints.map(|print| print.map(|print| (print, Capacity::default()))).collect()
    }

    fn deletes(&self) -> bool {
        true
    }

    async fn delete(&self, doomed: &[Doomed], context: &RunContext) -> Result<Deleted> {
        let table = self.seen().await?;
        let lease = self.connections.lease(Purpose::Write).await?;
        let reading = self.reading(&table);
        let keeping = Keeping { run: context.run.as_str(), flow: self.request.flow.as_str() };
        let keeping = self.keeps.load(Ordering::Relaxed).then_some(keeping);
        let deletion = Deletion { reading: &reading, keeping };
        let deleted = deletion.of(&lease, doomed).await?;
        lease.finish().await?;
        Ok(deleted)
    }

    fn undoing(&self) -> Undoing {
        match self.planned() {
            Some(planned) if planned.key.is_empty() => {
                Undoing::Unable("the table has no key, so that no row of it can be found again")
            }
            _ if self.config.foreign_keys == ForeignKeys::AfterLoad => Undoing::Unable(
                "its foreign keys are taken off while it is filled (`foreign_keys: after_load`)",
            ),
            _ => Undoing::Beside("whimbrel.before_image"),
        }
    }

    async fn keep_before_images(&self, _images: Arc<dyn BeforeImages>) -> Result<()> {
        undo::make(&self.store, &self.connections).await?;
        self.keeps.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn deletes_besides(&self) -> Result<Vec<String>> {
        let table = self.seen().await?;
        let lease = self.connections.lease(Purpose::Catalog).await?;
        let besides = undo::deletes_besides(&self.store, &lease, &table).await?;
        lease.finish().await?;
        Ok(besides)
    }

    async fn undo(
        &self,
        _images: &Arc<dyn BeforeImages>,
        step: UndoStep,
        context: &RunContext,
    ) -> Result<Undone> {
        let table = self.seen().await?;
        let key = self.planned().map(|planned| planned.key.clone()).unwrap_or_default();
        let (store, connections, request) = (&self.store, &self.connections, &self.request);
        let undoing =
            undo::Undoing { store, connections, table: &table, request, key: &key, run: &context.run };
        undoing.undo(step).await
    }

    async fn create(&self) -> Result<Creation> {
        let name = self.request.table.clone();
        let schema = self.planned().map(|planned| Arc::clone(&planned.schema));
        let lease = self.connections.lease(Purpose::Write).await?;
        crate::ledger::make(&self.store, &lease).await?;
        if let Some(table) = catalog::find(&self.store, &lease, &name).await? {
            if let (Some(langchain), Some(schema)) = (self.langchain(), &schema) {
                let is_new = langchain.make(&lease, &table, schema).await?;
                lease.finish().await?;
                return Ok(match is_new {
                    true => Creation::Created(self.resource()),
                    false => Creation::Existed { name: self.resource(), differences: Vec::new() },
                });
            }
            let made = self.writing.made.lock().unwrap_or_else(PoisonError::into_inner).contains(&table.oid);
            if made {
                self.put_off_key(&lease, &table).await?;
            }
            lease.finish().await?;
            if made {
                return Ok(Creation::Created(name));
            }
            let differences = self.differences(&table, schema.as_deref()).await?;
            return Ok(Creation::Existed { name, differences });
        }
        let schema = schema.ok_or_else(|| {
            self.error(
                StoreErrorKind::Internal,
                format!("table `{name}` is to be made before it was planned"),
            )
        })?;
        let definition = Definition::new(&self.store, &self.request, &self.writing, &schema)?;
        let made = definition.make(&lease, &name).await?;
        let table = catalog::read(&self.store, &lease, &name).await?;
        if let Some(langchain) = self.langchain() {
            langchain.make(&lease, &table, &schema).await?;
        }
        load::take_off(&self.store, &lease, &made).await?;
        self.put_off_key(&lease, &table).await?;
        lease.finish().await?;
        self.writing.made.lock().unwrap_or_else(PoisonError::into_inner).extend(made);
        Ok(Creation::Created(name))
    }

    async fn prepare(&self) -> Result<()> {
        self.put_off_foreign_keys().await
    }

    async fn owner(&self) -> Result<Option<Owner>> {
        let lease = self.connections.lease(Purpose::Catalog).await?;
        let owner = match self.collection_table(&lease).await? {
            Some((langchain, table)) => langchain.owner(&lease, &table).await?,
            None => owner::owner(&self.store, &lease, &self.request.table).await?,
        };
        lease.finish().await?;
        Ok(owner)
    }

    async fn claim(&self, owner: &Owner) -> Result<bool> {
        let lease = self.connections.lease(Purpose::Write).await?;
        let claimed = match self.collection_table(&lease).await? {
            Some((langchain, table)) => langchain.claim(&lease, &table, owner).await?,
            None => owner::claim(&self.store, &lease, &self.request.table, owner).await?,
        };
        lease.finish().await?;
        Ok(claimed)
    }

    async fn remove(&self) -> Result<Removal> {
        let lease = self.connections.lease(Purpose::Write).await?;
        let removal = match self.collection_table(&lease).await? {
            Some((langchain, table)) => {
                let within = count::within(&self.store, &table, &self.request.scope)?;
                langchain.remove(&lease, &table, &within).await?
            }
            None => owner::remove(&self.store, &lease, &self.request.table, &self.request.scope).await?,
        };
        lease.finish().await?;
        Ok(removal)
    }

    async fn state(&self) -> Result<TargetState> {
        let table = self.read_table().await?;
        let lease = self.connections.lease(Purpose::Catalog).await?;
        if let Some(langchain) = self.langchain() {
            langchain.require(&lease, &table).await?;
        }
        let empty = count::is_empty(&self.store, &lease, &table, &self.request.scope).await?;
        lease.finish().await?;
        Ok(TargetState { empty })
    }

    async fn count(&self, flows: &[Vec<KeyPattern>]) -> Result<Held> {
        let table = self.read_table().await?;
        let lease = self.connections.lease(Purpose::Catalog).await?;
        let held = count::count(&self.store, &lease, &table, &self.request.scope, flows).await?;
        lease.finish().await?;
        Ok(held)
    }

    async fn held_parts(&self, wanted: usize) -> Result<Vec<SlicePart>> {
        let table = self.seen().await?;
        self.reading(&table).parts(wanted).await
    }

    async fn held(
        &self,
        part: &SlicePart,
        flows: &[HeldFlow],
        context: &RunContext,
    ) -> Result<BoxStream<'static, Result<HeldBatch>>> {
        let table = self.seen().await?;
        let reading = self.reading(&table);
        reading.query(flows)?.versioned(&reading).read(&reading, part, context).await
    }

    async fn look_up(&self, records: &RecordBatch, context: &RunContext) -> Result<LookedUp> {
        let table = self.seen().await?;
        let reading = self.reading(&table);
        let lease = look_up::lease(&reading).await?;
        let known = self.look_up.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let look_up = match known.filter(|known| known.schema == *records.schema_ref()) {
            Some(known) => known,
            None => Arc::new(LookUp::new(&reading, records.schema_ref(), &lease).await?),
        };
        *self.look_up.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&look_up));
        let found = look_up.look_up(&self.store, &lease, records, context).await?;
        lease.finish().await?;
        Ok(found)
    }

    async fn load_steps(&self) -> Result<Vec<LoadStep>> {
        let written = self.planned().map(|planned| Arc::clone(&planned.schema));
        let lease = self.connections.lease(Purpose::Catalog).await?;
        let table = catalog::read(&self.store, &lease, &self.request.table).await?;
        let mut steps = load::steps(&self.store, &lease, &self.writing, &table, written.as_deref()).await?;
        if let (Some(langchain), Some(written)) = (self.langchain(), &written) {
            // In front of the statistics, which come last.
            let place = steps.iter().position(load::is_statistics).unwrap_or(steps.len());
            let step = langchain.step(&lease, &table, written).await?;
            steps.splice(place..place, step);
        }
        lease.finish().await?;
        Ok(steps)
    }

    async fn removed_by(
        &self,
        step: &LoadStep,
        context: &RunContext,
    ) -> Result<BoxStream<'static, Result<Removed>>> {
        let planned = self.planned().ok_or_else(|| {
            self.error(StoreErrorKind::Internal, "a load's steps are asked for before it was planned")
        })?;
        let written: Vec<_> = planned.encoder.columns().iter().map(|column| column.name.clone()).collect();
        let looking = load::Looking {
            store: &self.store,
            connections: &self.connections,
            request: &self.request,
            table: &planned.table,
            key: &planned.key,
            written: &written,
        };
        looking.removed_by(step, context).await
    }

    async fn apply_step(&self, step: &LoadStep, context: &RunContext) -> Result<()> {
        load::apply(&self.store, &self.connections, step, &context.meter).await
    }

    async fn writer(&self, slice: &SliceId, created: bool, context: &RunContext) -> Result<Box<dyn Writer>> {
        let mut table = self.seen().await?;
        if table.is_key_late && !(created && self.may_miss_key()) {
            // Whoever looks rows up by their key, or cannot be sure of the source, needs it now.
            late_key::make_now(&self.store, &self.connections, table.oid).await?;
            table = Arc::new(Table { is_key_late: false, ..(*table).clone() });
        }
        let ledger = PostgresLedger {
            store: self.store.clone(),
            connections: Arc::clone(&self.connections),
            tables: Arc::clone(&self.writing.ledger),
        };
        Ok(Box::new(PostgresWriter::new(WriterParts {
            store: self.store.clone(),
            request: Arc::clone(&self.request),
            table,
            created,
            keeps: !created && self.keeps.load(Ordering::Relaxed),
            spare: Arc::clone(&self.spare),
            context: context.clone(),
            session: self.writing.sessions.join(&Arc::new(ledger), slice, &self.request.flow, context),
        })))
    }
}
