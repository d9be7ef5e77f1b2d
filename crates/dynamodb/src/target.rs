//! The writing side of a flow: what the plan says, and making the table.

use crate::catalog::{Catalog, Table};
use crate::client::Connector;
use crate::definition::{Definition, KeyRole};
use crate::held::{self, Flows, LookUp};
use crate::limits::{BATCH_ITEMS, UNITS_PER_PARTITION};
use crate::pacing::{MOST_REQUESTS, Pacer};
use crate::source::Segment;
use crate::types::ignore::Ignore;
use crate::types::row::{Encoder, KeyAttribute, Layout, Measured, refused, write_units};
use crate::types::{Conversion, Form, conversion, item};
use crate::{count, limits, owner, writer};
use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use async_trait::async_trait;
use futures::stream::BoxStream;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use whimbrel_model::logical::type_name;
use whimbrel_model::{Capacity, ColumnFidelity, Fidelity, Fingerprint, Identity, SliceId, SlicePart};
use whimbrel_store::{
    BeforeImages, Capabilities, Creation, Deleted, Doomed, Encoded, Held, HeldBatch, HeldFlow, HotKeyColumn,
    KeyPattern, LookedUp, Mode, Nulls, Owner, ReadBackCost, Refusal, Removal, Result, RunContext, StoreError,
    StoreErrorKind, Target, TargetPlan, TargetState, UndoStep, Undoing, Undone, WriteRequest, Writer,
};

/// A table as the target of one flow.
#[derive(Debug)]
pub(crate) struct DynamoTarget {
    connector: Arc<Connector>,
    pacer: Arc<Pacer>,
    request: Arc<WriteRequest>,
    ignore: Arc<Ignore>,
    /// Where the keys lie, as soon as somebody has looked.
    layout: RwLock<Option<Arc<Layout>>>,
    /// Takes before-images.
    images: RwLock<Option<Arc<dyn BeforeImages>>>,
}

impl DynamoTarget {
    /// Does no I/O.
    pub(crate) fn new(
        connector: Arc<Connector>,
        pacer: Arc<Pacer>,
        request: WriteRequest,
        ignore: Ignore,
    ) -> Self {
        let (request, ignore) = (Arc::new(request), Arc::new(ignore));
        Self { connector, pacer, request, ignore, layout: RwLock::default(), images: RwLock::default() }
    }

    fn catalog(&self) -> Catalog<'_> {
        Catalog::new(&self.connector)
    }

    fn error(&self, kind: StoreErrorKind, context: impl Into<String>) -> StoreError {
        StoreError::new(kind, self.connector.name(), context)
    }

    /// What the spec says of the table. Reads the definition's file, which is small, each time: a run may be
    /// planned, corrected and planned again.
    fn definition(&self) -> Result<Option<Definition>> {
        let table = &self.request.table;
        let spec = self.connector.config().tables.get(table);
        let read = |spec| Definition::read(table, spec);
        spec.map(read).transpose().map_err(|error| {
            let context = format!("the definition of table \"{table}\" cannot be used");
            self.error(StoreErrorKind::Unsupported, context).caused_by(error)
        })
    }

    fn unreadable_ignore(&self, reason: &str) -> StoreError {
        self.error(StoreErrorKind::Unsupported, format!("`ignore` cannot be read: {reason}"))
    }

    fn remember(&self, layout: &Layout) -> Arc<Layout> {
        let layout = Arc::new(layout.clone());
        *self.layout.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&layout));
        layout
    }

    fn seen_layout(&self) -> Option<Arc<Layout>> {
        self.layout.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The layout as it was seen, else as the definition has it.
    fn known_layout(&self) -> std::result::Result<Arc<Layout>, Refusal> {
        if let Some(layout) = self.seen_layout() {
            return Ok(layout);
        }
        match self.definition() {
            Ok(Some(definition)) => Ok(Arc::new(Layout::of(&definition))),
            _ => Err(refused(format!("the key of table \"{}\" is not known", self.request.table))),
        }
    }

    fn encoder<'a>(
        &'a self,
        records: &RecordBatch,
        layout: &'a Layout,
        context: &'a RunContext,
    ) -> std::result::Result<Encoder<'a>, Refusal> {
        let schema = records.schema_ref();
        Encoder::new(schema, &self.request, &self.ignore, layout, &context.fingerprint_key)
    }

    /// Single requests to the table, measured and limited as the target's others are.
    fn conditional<'a>(&'a self, table: &'a Table, context: &'a RunContext) -> writer::Conditional<'a> {
        let (connector, pacer, request) = (&*self.connector, &*self.pacer, &*self.request);
        writer::Conditional { connector, pacer, request, layout: &table.layout, context }
    }

    async fn existing(&self, made: bool) -> Result<Table> {
        let table = match self.catalog().ready(&self.request.table, made).await? {
            Some(table) => table,
            None => return Err(self.catalog().missing(&self.request.table).await),
        };
        self.remember(&table.layout);
        Ok(table)
    }

    /// What becomes of each column, by its name.
    fn conversions(&self, schema: &Schema) -> Result<BTreeMap<String, Conversion>> {
        let forms = self.request.forms.keys().map(|name| (name, "as"));
        let lossy = self.request.allow_lossy.iter().map(|name| (name, "allow_lossy"));
        let has_items = schema.fields().iter().any(|field| item::is_item(field));
        if has_items && matches!(self.request.mode, Mode::Update | Mode::Changed) {
            let context = format!("whole items, the column `{}`, cannot be updated yet", item::ITEM);
            return Err(self
                .error(StoreErrorKind::Unsupported, context)
                .with_hint("name the columns that are to be set, or use `mode: upsert`"));
        }
        let is_column = |name: &str| schema.field_with_name(name).is_ok();
        if let Some((name, key)) = forms.chain(lossy).find(|(name, _)| !is_column(name)) {
            return Err(self.no_such_column(schema, name, &format!("`{key}` names it")));
        }
        for path in &self.request.ignore {
            let attribute = Ignore::attribute(path);
            if !has_items && !is_column(path) && !is_column(attribute) {
                return Err(self.no_such_column(schema, attribute, "`ignore` names it"));
            }
        }
        let mut conversions = BTreeMap::new();
        for field in schema.fields() {
            let name = field.name();
            if name.is_empty() {
                let context = "a column without a name cannot be an attribute";
                return Err(self
                    .error(StoreErrorKind::Unsupported, context)
                    .with_hint("name it in the transform, `… AS name`"));
            }
            let asked = self.request.forms.get(name).map(String::as_str);
            if item::is_item(field) && asked.is_none() {
                let whole =
                    Conversion { form: Form::Text, into: "its attributes", fidelity: Fidelity::Exact };
                conversions.insert(name.clone(), whole);
                continue;
            }
            let made = conversion(field, asked).map_err(|reason| {
                self.error(
                    StoreErrorKind::Unsupported,
                    format!("column \"{name}\" cannot go into DynamoDB: {reason}"),
                )
            })?;
            if let (Fidelity::Lossy(what), false) = (&made.fidelity, self.request.allow_lossy.contains(name))
            {
                let context = format!("column \"{name}\" would lose something on the way: {what}");
                return Err(self.error(StoreErrorKind::Unsupported, context).with_hint(format!(
                    "write `allow_lossy: [{name}]` if that is meant, or choose another form in `as:`"
                )));
            }
            conversions.insert(name.clone(), made);
        }
        Ok(conversions)
    }

    fn no_such_column(&self, schema: &Schema, name: &str, why: &str) -> StoreError {
        let nearest = schema.fields().iter().map(|field| field.name()).max_by(|one, other| {
            let likeness = |column: &str| strsim::jaro_winkler(column, name);
            likeness(one).total_cmp(&likeness(other))
        });
        let error =
            self.error(StoreErrorKind::Mismatch, format!("the records have no column \"{name}\"; {why}"));
        match nearest {
            Some(nearest) => error.with_hint(format!("the nearest column is \"{nearest}\"")),
            None => error,
        }
    }

    /// The keys of table and indexes against the columns of the flow; what is worth saying of the indexes.
    fn check_keys(
        &self,
        schema: &Schema,
        layout: &Layout,
        conversions: &BTreeMap<String, Conversion>,
    ) -> Result<Vec<String>> {
        let table = &self.request.table;
        let shown =
            |key: &[KeyAttribute]| key.iter().map(|key| key.name.as_str()).collect::<Vec<_>>().join(", ");
        if !self.request.key.is_empty() {
            let same = self.request.key.len() == layout.key.len()
                && self.request.key.iter().all(|name| layout.is_key(name));
            if !same {
                let (asked, is) = (self.request.key.join(", "), shown(&layout.key));
                let context = format!("the key of table \"{table}\" is ({is}), the flow says ({asked})");
                return Err(self.error(StoreErrorKind::Mismatch, context));
            }
        }
        for key in &layout.key {
            match conversions.get(&key.name) {
                None => {
                    return Err(self.no_such_column(
                        schema,
                        &key.name,
                        &format!("it is a key of table \"{table}\""),
                    ));
                }
                Some(conversion) => self.check_key_type(key, conversion, &format!("table \"{table}\""))?,
            }
        }
        let mut notes = Vec::new();
        if conversions.contains_key(item::ITEM) {
            // Whatever key of an index an item has, is known when it comes.
            return Ok(notes);
        }
        let mut absent: Vec<&str> = Vec::new();
        for index in &layout.indexes {
            for key in index.key.iter().filter(|key| !layout.is_key(&key.name)) {
                match conversions.get(&key.name) {
                    Some(conversion) if conversion.into == "NULL" => {}
                    Some(conversion) => {
                        self.check_key_type(key, conversion, &format!("index \"{}\"", index.name))?;
                    }
                    None if absent.last() == Some(&index.name.as_str()) => {}
                    None => absent.push(&index.name),
                }
                if self.request.nulls == Nulls::Null && conversions.contains_key(&key.name) {
                    notes.push(format!(
                        "\"{}\" is left out where it is NULL: a key of an index cannot be NULL",
                        key.name
                    ));
                }
            }
        }
        if !absent.is_empty() {
            notes.push(format!("not in {}: the flow has no column for its key", absent.join(", ")));
        }
        Ok(notes)
    }

    /// A tenant's records cannot meet another's where the tenant is part of the key. Elsewhere each write would
    /// have to look first at what its key holds.
    fn check_scope(&self, layout: &Layout) -> Result<()> {
        match self.request.scope.keys().find(|column| !layout.is_key(column)) {
            None => Ok(()),
            Some(column) => Err(self
                .error(
                    StoreErrorKind::Unsupported,
                    format!(
                        "`scope` by \"{column}\", which is no key of table \"{}\", is not there yet",
                        self.request.table
                    ),
                )
                .with_hint("put the tenant into the table's key")),
        }
    }

    fn check_key_type(&self, key: &KeyAttribute, conversion: &Conversion, place: &str) -> Result<()> {
        if conversion.scalar_kind() == Some(key.kind) {
            return Ok(());
        }
        let KeyAttribute { name, kind, .. } = key;
        let context = format!(
            "\"{name}\" is a key of {place} with type {kind}, and the column would arrive as {}",
            conversion.into
        );
        Err(self
            .error(StoreErrorKind::Mismatch, context)
            .with_hint("convert it in the transform or with `as:`"))
    }

    fn notes(&self, table: Option<&Table>, definition: Option<&Definition>) -> Vec<String> {
        let mut notes = Vec::new();
        let name = &self.request.table;
        let Some(seen) = table.map(|table| &table.definition).or(definition) else { return notes };
        notes.push(format!("table {name} is billed {}", seen.shown_billing()));
        let indexes: Vec<_> = seen.indexes().map(|(index, _)| index.index_name.as_str()).collect();
        if !indexes.is_empty() {
            notes.push(format!("each write also goes into its indexes: {}", indexes.join(", ")));
        }
        if let (Some(table), Some(definition)) = (table, definition) {
            let differences = definition.differences(&table.definition);
            notes.extend(
                differences
                    .into_iter()
                    .map(|difference| format!("table {name} is not as defined: {difference}")),
            );
        }
        if let Some(items) = table.and_then(|table| table.items).filter(|items| *items > 0) {
            notes
                .push(format!("table {name} holds about {items} items (counted by DynamoDB some hours ago)"));
        }
        if table.is_some_and(|table| !table.writable) {
            notes.push(format!("table {name} is not ready yet; a run waits for it"));
        }
        notes
    }
}

/// What reading the table costs: one item takes whole units, a page its sum.
#[expect(clippy::cast_precision_loss, reason = "an estimate from what DynamoDB counted some hours ago")]
fn read_back(table: &Table) -> Option<ReadBackCost> {
    let (records, bytes) = (table.items.filter(|items| *items > 0)?, table.bytes?);
    let each_units = limits::read_units(bytes.div_ceil(records)) as f64;
    Some(ReadBackCost { records, whole_units: limits::read_units(bytes) as f64, each_units })
}

fn hot_keys(layout: &Layout) -> Vec<HotKeyColumn> {
    let hot = |place: &str, keys: &[KeyAttribute]| {
        let partition = keys.iter().filter(|key| key.role == KeyRole::Hash);
        let column = |key: &KeyAttribute| HotKeyColumn {
            place: place.to_owned(),
            column: key.name.clone(),
            units_per_value: UNITS_PER_PARTITION,
        };
        partition.map(column).collect::<Vec<_>>()
    };
    let indexes = layout.indexes.iter().filter(|index| index.global);
    hot("table", &layout.key)
        .into_iter()
        .chain(indexes.flat_map(|index| hot(&index.name, &index.key)))
        .collect()
}

fn fidelity(schema: &Schema, conversions: &BTreeMap<String, Conversion>) -> Vec<ColumnFidelity> {
    let column = |field: &Arc<arrow::datatypes::Field>| {
        let conversion = conversions.get(field.name())?;
        Some(ColumnFidelity {
            column: field.name().clone(),
            from: type_name(field),
            into: conversion.into.to_owned(),
            fidelity: conversion.fidelity.clone(),
        })
    };
    schema.fields().iter().filter_map(column).collect()
}

#[async_trait]
impl Target for DynamoTarget {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            max_connections: None,
            atomic_batch: false,
            conditional: true,
            metered: true,
            // Enough requests that one batch can use all that the limiter will ever allow.
            batch_records: BATCH_ITEMS * MOST_REQUESTS,
        }
    }

    fn resource(&self) -> String {
        self.request.table.clone()
    }

    async fn identity(&self) -> Result<Option<Identity>> {
        let table = self.catalog().table(&self.request.table).await?;
        Ok(table.map(|table| table.identity(self.connector.shown_endpoint())))
    }

    async fn plan(&self, schema: &Schema) -> Result<TargetPlan> {
        let definition = self.definition()?;
        let table = self.catalog().table(&self.request.table).await?;
        let layout = match (&table, &definition) {
            (Some(table), _) => table.layout.clone(),
            (None, Some(definition)) => Layout::of(definition),
            (None, None) => {
                let hint = "say under `tables:` of the store what it is to look like, or make it yourself";
                return Err(self.catalog().missing(&self.request.table).await.with_hint(hint));
            }
        };
        self.check_scope(&layout)?;
        let conversions = self.conversions(schema)?;
        if self.request.mode == Mode::Update && conversions.keys().all(|name| layout.is_key(name)) {
            let context = format!("an update of table \"{}\" has nothing to set", self.request.table);
            return Err(self
                .error(StoreErrorKind::Unsupported, context)
                .with_hint("give the transform a column besides the key"));
        }
        let mut notes = self.notes(table.as_ref(), definition.as_ref());
        notes.extend(self.check_keys(schema, &layout, &conversions)?);
        if table.is_some() && self.catalog().is_recoverable(&self.request.table).await == Some(false) {
            notes.push(format!(
                "point-in-time recovery of table {} is off: what is overwritten there cannot be brought back",
                self.request.table
            ));
        }
        let ddl = match (&table, &definition) {
            (None, Some(definition)) => vec![format!("CreateTable {}", pretty(definition))],
            _ => Vec::new(),
        };
        self.remember(&layout);
        Ok(TargetPlan {
            exists: table.is_some(),
            key: layout.key.iter().map(|key| key.name.clone()).collect(),
            ddl,
            fidelity: fidelity(schema, &conversions),
            hot_keys: hot_keys(&layout),
            notes,
            write_units_per_second: table.as_ref().and_then(Table::write_units_per_second),
            parents: Vec::new(),
            read_back: table.as_ref().and_then(read_back),
        })
    }

    fn encode(
        &self,
        records: &RecordBatch,
        context: &RunContext,
    ) -> Vec<std::result::Result<Encoded, Refusal>> {
        let encoded = |layout: &Layout| {
            let encoder = self.encoder(records, layout, context)?;
            let encoded = encoder.encode(records).into_iter();
            Ok(encoded.map(|prepared| prepared.map(|prepared| encoder.encoded(&prepared))).collect())
        };
        self.known_layout()
            .and_then(|layout| encoded(&layout))
            .unwrap_or_else(|refusal| vec![Err(refusal); records.num_rows()])
    }

    fn keys(&self, records: &RecordBatch, context: &RunContext) -> Vec<Option<u128>> {
        let keys =
            |layout: Arc<Layout>| Ok::<_, Refusal>(self.encoder(records, &layout, context)?.keys(records));
        self.known_layout().and_then(keys).unwrap_or_else(|_| vec![None; records.num_rows()])
    }

    fn fingerprints(
        &self,
        records: &RecordBatch,
        context: &RunContext,
    ) -> Vec<std::result::Result<Fingerprint, Refusal>> {
        let prints = |layout: Arc<Layout>| {
            let measured = self.encoder(records, &layout, context)?.measure(records).into_iter();
            Ok(measured.map(|measured| measured.map(|measured| measured.fingerprint)).collect())
        };
        self.known_layout().and_then(prints).unwrap_or_else(|refusal| vec![Err(refusal); records.num_rows()])
    }

    fn measured(
        &self,
        records: &RecordBatch,
        context: &RunContext,
    ) -> Vec<std::result::Result<(Fingerprint, Capacity), Refusal>> {
        let units = |measured: Measured| {
            (measured.fingerprint, write_units(measured.table_units + measured.index_units))
        };
        let all = |layout: Arc<Layout>| {
            let measured = self.encoder(records, &layout, context)?.measure(records).into_iter();
            Ok(measured.map(|measured| measured.map(units)).collect())
        };
        self.known_layout().and_then(all).unwrap_or_else(|refusal| vec![Err(refusal); records.num_rows()])
    }

    fn deletes(&self) -> bool {
        true
    }

    async fn delete(&self, doomed: &[Doomed], context: &RunContext) -> Result<Deleted> {
        let table = self.existing(false).await?;
        let images = self.images.read().unwrap_or_else(PoisonError::into_inner).clone();
        writer::Deletion { requests: self.conditional(&table, context), images }.of(doomed).await
    }

    fn undoing(&self) -> Undoing {
        Undoing::HandedOver
    }

    async fn keep_before_images(&self, images: Arc<dyn BeforeImages>) -> Result<()> {
        *self.images.write().unwrap_or_else(PoisonError::into_inner) = Some(images);
        Ok(())
    }

    async fn undo(
        &self,
        images: &Arc<dyn BeforeImages>,
        step: UndoStep,
        context: &RunContext,
    ) -> Result<Undone> {
        let table = self.existing(false).await?;
        // No item refers to another: nothing need be put back before the rest.
        writer::Restoring(self.conditional(&table, context)).undo(images, step == UndoStep::All).await
    }

    async fn create(&self) -> Result<Creation> {
        let name = &self.request.table;
        let definition = self.definition()?;
        let (table, created) = match (self.catalog().ready(name, false).await?, &definition) {
            (Some(table), _) => (table, false),
            (None, None) => {
                let context =
                    format!("there is no table \"{name}\" and nothing says what it is to look like");
                return Err(self
                    .error(StoreErrorKind::NotFound, context)
                    .with_hint(format!("write `tables: {{ {name}: {{ key: … }} }}` or `{{ file: create-table.json }}` in the store")));
            }
            (None, Some(definition)) => {
                let created = self.catalog().make(name, definition).await?;
                (self.existing(true).await?, created)
            }
        };
        self.remember(&table.layout);
        if created {
            return Ok(Creation::Created(name.clone()));
        }
        let differences =
            definition.map(|definition| definition.differences(&table.definition)).unwrap_or_default();
        Ok(Creation::Existed { name: name.clone(), differences })
    }

    fn is_defined(&self) -> bool {
        matches!(self.definition(), Ok(Some(_)))
    }

    async fn owner(&self) -> Result<Option<Owner>> {
        owner::owner(&self.connector, &self.request.table).await
    }

    async fn claim(&self, owner: &Owner) -> Result<bool> {
        owner::claim(&self.connector, &self.request.table, owner).await
    }

    async fn remove(&self) -> Result<Removal> {
        let removed = self.catalog().remove(&self.request.table).await?;
        Ok(if removed { Removal::Removed } else { Removal::Absent })
    }

    async fn state(&self) -> Result<TargetState> {
        self.existing(false).await?;
        Ok(TargetState { empty: count::is_empty(&self.connector, &self.request.table).await? })
    }

    async fn count(&self, flows: &[Vec<KeyPattern>]) -> Result<Held> {
        count::count(&self.connector, &self.request.table, flows).await
    }

    async fn held_parts(&self, wanted: usize) -> Result<Vec<SlicePart>> {
        let table = self.existing(false).await?;
        Segment::all(&table, wanted)
            .map_err(|error| self.error(StoreErrorKind::Internal, "a part cannot be kept").caused_by(error))
    }

    async fn held(
        &self,
        part: &SlicePart,
        flows: &[HeldFlow],
        context: &RunContext,
    ) -> Result<BoxStream<'static, Result<HeldBatch>>> {
        let name = &self.request.table;
        let segment = Segment::of(part).ok_or_else(|| {
            self.error(StoreErrorKind::Mismatch, format!("a part does not belong to table \"{name}\""))
        })?;
        let table = self.existing(false).await?;
        let flows = Flows::of(flows, &table.layout, &context.fingerprint_key)
            .map_err(|reason| self.unreadable_ignore(&reason))?;
        let pages = segment.pages(&self.connector, name, &table, context);
        Ok(held::batches(&self.connector, name, pages, flows))
    }

    async fn look_up(&self, records: &RecordBatch, context: &RunContext) -> Result<LookedUp> {
        let known = self.seen_layout();
        let layout = match known {
            Some(layout) => layout,
            None => Arc::new(self.existing(false).await?.layout),
        };
        let table = &self.request.table;
        let encoder = self.encoder(records, &layout, context).map_err(|refusal| {
            let context = format!("cannot look records up in table \"{table}\": {}", refusal.reason);
            self.error(StoreErrorKind::Unsupported, context)
        })?;
        let flows = Flows::one(records.schema_ref(), &self.request, &layout, &context.fingerprint_key)
            .map_err(|reason| self.unreadable_ignore(&reason))?;
        let (connector, layout) = (&*self.connector, &*layout);
        LookUp { connector, table, layout, encoder: &encoder, context }.of(records, flows).await
    }

    async fn writer(&self, _slice: &SliceId, created: bool, context: &RunContext) -> Result<Box<dyn Writer>> {
        let table = self.existing(false).await?;
        self.pacer.bounded(table.write_units_per_second());
        let parts = writer::Parts {
            connector: Arc::clone(&self.connector),
            pacer: Arc::clone(&self.pacer),
            request: Arc::clone(&self.request),
            ignore: Arc::clone(&self.ignore),
            layout: Arc::new(table.layout),
            created,
            images: self.images.read().unwrap_or_else(PoisonError::into_inner).clone().filter(|_| !created),
            context: context.clone(),
        };
        Ok(Box::new(writer::DynamoWriter::new(parts)))
    }
}

fn pretty(definition: &Definition) -> String {
    // A struct of strings and numbers has no way not to be JSON.
    serde_json::to_string_pretty(definition).unwrap_or_default()
}
