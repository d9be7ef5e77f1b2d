//! The writing side of one flow in one slice.

mod before;
mod deliver;

pub(crate) use before::{Keeping, Whole, hash, is_there as has_images, make as make_images, pack, unpack};
pub(crate) use deliver::find;

use crate::catalog::Table;
use crate::client::Client;
use crate::encode::Encoder;
use crate::sql::{identifier, identifiers};
use crate::target::route;
use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use deliver::Delivery;
use std::sync::{Arc, Mutex, PoisonError};
use whimbrel_model::Checkpoint;
use whimbrel_store::ledger::SliceSession;
use whimbrel_store::{
    Result, RunContext, StoreError, StoreErrorKind, WriteBatch, WriteOutcome, WriteRequest, Writer,
};

/// What a writer works with.
pub(crate) struct WriterParts {
    pub client: Arc<Client>,
    pub request: Arc<WriteRequest>,
    pub table: Arc<Table>,
    pub parents: Arc<Vec<Option<Table>>>,
    pub context: RunContext,
    /// Whose before-images are kept; `None`: nobody's.
    pub keeping: Option<Keeping>,
    pub session: Arc<SliceSession<Client>>,
}

/// How records of one schema get into the table.
pub(crate) struct Route {
    schema: SchemaRef,
    guard_schema: Option<SchemaRef>,
    table: Arc<Table>,
    encoder: Encoder,
    guards: Option<Encoder>,
    statements: Statements,
    /// What reads rows whole, where before-images are kept.
    whole: Option<Whole>,
    /// For each foreign key, what finds the row that it refers to, and that row's columns.
    parents: Vec<(String, Vec<String>)>,
}

/// The statements that a record is written with.
struct Statements {
    insert: String,
    /// What the table holds under a key; `None`: records have none.
    select: Option<String>,
    /// `None`: there is nothing to be set.
    update: Option<String>,
    /// The places of the columns that an update sets; the key's follow.
    set: Vec<usize>,
}

/// `"a" = ?1 AND "b" = ?2`, the parameters counted from `first`.
pub(crate) fn by_key(encoder: &Encoder, first: usize) -> String {
    let names = encoder.key().iter().filter_map(|at| encoder.columns().get(*at));
    let equal = names.zip(first..).map(|(column, at)| format!("{} = ?{at}", identifier(&column.name)));
    equal.collect::<Vec<_>>().join(" AND ")
}

impl Statements {
    fn new(table: &Table, encoder: &Encoder, request: &WriteRequest) -> Self {
        let sql = table.quoted();
        let names = identifiers(encoder.columns().iter().map(|column| &column.name));
        let places: Vec<_> = (1..=encoder.columns().len()).map(|at| format!("?{at}")).collect();
        let is_set = |at: &usize| {
            let name = encoder.columns().get(*at).map(|column| &column.name);
            !encoder.key().contains(at) && !name.is_some_and(|name| request.scope.contains_key(name))
        };
        let set: Vec<usize> = (0..encoder.columns().len()).filter(is_set).collect();
        let assigned: Vec<_> = set
            .iter()
            .filter_map(|at| encoder.columns().get(*at))
            .zip(1..)
            .map(|(column, at)| format!("{} = ?{at}", identifier(&column.name)))
            .collect();
        let has_key = !encoder.key().is_empty();
        Self {
            // What a table says of conflicts (`ON CONFLICT REPLACE`) does not hold: nothing is replaced unseen.
            insert: format!("INSERT OR ABORT INTO {sql} ({names}) VALUES ({})", places.join(", ")),
            select: has_key.then(|| format!("SELECT {names} FROM {sql} WHERE {}", by_key(encoder, 1))),
            update: (has_key && !set.is_empty()).then(|| {
                let by_key = by_key(encoder, 1 + set.len());
                format!("UPDATE OR ABORT {sql} SET {} WHERE {by_key}", assigned.join(", "))
            }),
            set,
        }
    }
}

pub(crate) struct SqliteWriter {
    parts: WriterParts,
    /// As for the last batch; all batches of a slice have one schema.
    route: Mutex<Option<Arc<Route>>>,
}

impl SqliteWriter {
    pub(crate) fn new(parts: WriterParts) -> Self {
        Self { parts, route: Mutex::default() }
    }

    fn route(&self, records: &RecordBatch, guards: Option<&RecordBatch>) -> Result<Arc<Route>> {
        let mut known = self.route.lock().unwrap_or_else(PoisonError::into_inner);
        let guard_schema = guards.map(RecordBatch::schema);
        if let Some(route) = &*known
            && route.schema == *records.schema_ref()
            && route.guard_schema == guard_schema
        {
            return Ok(Arc::clone(route));
        }
        let WriterParts { client, request, table, .. } = &self.parts;
        let key = route::key(&client.store, request, table, records.schema_ref())?;
        let encoder = route::encoder(&client.store, request, table, &key, records.schema_ref())?;
        let guards = guard_schema.as_deref().map(|schema| self.guard_encoder(schema)).transpose()?;
        let statements = Statements::new(table, &encoder, request);
        let whole = self.parts.keeping.as_ref().map(|_| Whole::new(&client.store, table, &encoder));
        let (schema, table) = (records.schema(), Arc::clone(table));
        let parents = self.parents();
        let route =
            Arc::new(Route { schema, guard_schema, table, encoder, guards, statements, whole, parents });
        *known = Some(Arc::clone(&route));
        Ok(route)
    }

    /// Guards are values as they were read: NULL is one of them.
    fn guard_encoder(&self, schema: &Schema) -> Result<Encoder> {
        let WriterParts { client, request, table, .. } = &self.parts;
        let mut columns = route::columns(&client.store, request, table, schema)?;
        columns.iter_mut().for_each(|column| column.is_not_null = false);
        Encoder::new(columns, &[], []).map_err(|reason| {
            let context = format!("a guard cannot be written: {reason}");
            StoreError::new(StoreErrorKind::Mismatch, &client.store, context)
        })
    }

    fn parents(&self) -> Vec<(String, Vec<String>)> {
        let keys = self.parts.table.foreign_keys.iter().zip(self.parts.parents.iter());
        keys.map(|(key, parent)| {
            let own = parent.as_ref().map(|parent| parent.primary_key().to_vec()).unwrap_or_default();
            let columns = if key.parent_columns.is_empty() { own } else { key.parent_columns.clone() };
            let equal = columns.iter().zip(1..).map(|(name, at)| format!("{} = ?{at}", identifier(name)));
            let equal = equal.chain(["TRUE".to_owned()]).collect::<Vec<_>>().join(" AND ");
            (format!("SELECT 1 FROM {} WHERE {equal}", identifier(&key.parent)), columns)
        })
        .collect()
    }
}

#[async_trait]
impl Writer for SqliteWriter {
    async fn last(&self) -> Result<Option<Checkpoint>> {
        self.parts.session.last(&self.parts.request.flow).await
    }

    async fn write(&self, batch: WriteBatch) -> Result<WriteOutcome> {
        let WriterParts { client, request, context, session, .. } = &self.parts;
        let route = self.route(&batch.records, batch.guards.as_ref())?;
        let (store, mode, key) = (client.store.clone(), request.mode, context.fingerprint_key.clone());
        let keeping = self.parts.keeping.clone();
        let mut state = session.state().await;
        let lease = session.begin(&mut state).await?;
        let written = lease.run(move |connection| {
            let (route, contested) = (&*route, batch.contested);
            let keeping = keeping.as_ref().zip(route.whole.as_ref());
            Delivery { store: &store, connection, route, mode, contested, key: &key, keeping }.deliver(&batch)
        });
        let written = written.await;
        if written.is_err() {
            state.give_up();
        }
        written
    }

    async fn commit(&self, checkpoint: &Checkpoint, flows: usize) -> Result<()> {
        self.parts.session.commit(&self.parts.request.flow, checkpoint, flows).await
    }

    async fn finish(&self) -> Result<()> {
        self.parts.session.finish(&self.parts.request.flow).await
    }
}
