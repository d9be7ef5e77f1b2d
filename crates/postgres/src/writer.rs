//! The writing side of one flow in one slice.

mod before;
mod deliver;
mod merge;
mod probe;
mod spare;

use crate::encode::{Encoder, Rows, unfit};
use crate::ledger::PostgresLedger;
use crate::target::catalog::Table;
use crate::target::route;
use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
pub(crate) use before::{Keeping, digest};
use deliver::Delivery;
use merge::{Plan, Statements};
pub(crate) use spare::Spare;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex, PoisonError};
use whimbrel_model::{Checkpoint, StoreName};
use whimbrel_store::ledger::SliceSession;
use whimbrel_store::{
    Outcome, Result, RunContext, StoreError, StoreErrorKind, WriteBatch, WriteOutcome, WriteRequest, Writer,
};

/// What a writer works with.
pub(crate) struct WriterParts {
    pub store: StoreName,
    pub request: Arc<WriteRequest>,
    pub table: Arc<Table>,
    /// Whether the table held nothing before this run.
    pub created: bool,
    /// Whether what is written over is kept.
    pub keeps: bool,
    pub context: RunContext,
    pub session: Arc<SliceSession<PostgresLedger>>,
    pub spare: Arc<Spare>,
}

/// How records of one schema get into the table.
struct Route {
    schema: SchemaRef,
    guard_schema: Option<SchemaRef>,
    encoder: Encoder,
    guards: Option<Encoder>,
    statements: Statements,
}

pub(crate) struct PostgresWriter {
    parts: WriterParts,
    /// As for the last batch; all batches of a slice have one schema.
    route: Mutex<Option<Arc<Route>>>,
}

impl PostgresWriter {
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
        let WriterParts { store, request, table, .. } = &self.parts;
        let key = route::key(store, request, table, records.schema_ref())?;
        let encoder = route::encoder(store, request, table, &key, records.schema_ref())?;
        let guard_encoder = guard_schema.as_deref().map(|schema| self.guard_encoder(schema)).transpose()?;
        // The encoder orders its columns by name, and so are the guards staged.
        let guard_names: Vec<_> =
            guard_encoder.iter().flat_map(Encoder::columns).map(|column| column.name.clone()).collect();
        let scope: Vec<_> = request.scope.keys().cloned().collect();
        // A key that is not made yet keeps nothing apart; it was put off since nothing need be kept apart.
        let merged_by = if table.is_key_late { &[] } else { key.as_slice() };
        let plan = Plan {
            table,
            encoder: &encoder,
            mode: request.mode,
            key: merged_by,
            scope: &scope,
            guards: &guard_names,
        };
        let statements = plan.statements();
        let schema = records.schema();
        let route = Arc::new(Route { schema, guard_schema, encoder, guards: guard_encoder, statements });
        *known = Some(Arc::clone(&route));
        Ok(route)
    }

    /// Guards are values as they were read: NULL is one of them.
    fn guard_encoder(&self, schema: &Schema) -> Result<Encoder> {
        let WriterParts { store, request, table, .. } = &self.parts;
        let mut columns = route::columns(store, request, table, schema)?;
        columns.iter_mut().for_each(|column| column.is_not_null = false);
        Encoder::new(columns, &[], []).map_err(|reason| {
            StoreError::new(StoreErrorKind::Mismatch, store, format!("a guard cannot be written: {reason}"))
        })
    }
}

/// Rows that go on, and rows that repeat the key of an earlier one, with that one.
#[derive(Default)]
struct Sorted {
    first: Vec<usize>,
    repeated: Vec<(usize, usize)>,
}

/// Keys are hashes already.
#[derive(Default)]
struct Low(u64);

impl Hasher for Low {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, key: u128) {
        #[expect(clippy::cast_possible_truncation, reason = "half of a hash")]
        let half = key as u64;
        self.0 = half;
    }
}

/// `has_key`: whether two rows of one key must be told apart here.
fn sort(rows: &Rows, count: usize, has_key: bool) -> Sorted {
    if !has_key {
        let first = (0..count).filter(|row| rows.fields(*row).is_ok()).collect();
        return Sorted { first, repeated: Vec::new() };
    }
    let mut seen: HashMap<u128, usize, BuildHasherDefault<Low>> =
        HashMap::with_capacity_and_hasher(count, BuildHasherDefault::default());
    let mut sorted = Sorted::default();
    for row in 0..count {
        let Some(fingerprint) = rows.fingerprint(row) else { continue };
        let earlier = *seen.entry(fingerprint.key).or_insert(row);
        if earlier == row { sorted.first.push(row) } else { sorted.repeated.push((row, earlier)) }
    }
    sorted
}

#[async_trait]
impl Writer for PostgresWriter {
    async fn last(&self) -> Result<Option<Checkpoint>> {
        self.parts.session.last(&self.parts.request.flow).await
    }

    async fn write(&self, batch: WriteBatch) -> Result<WriteOutcome> {
        let WriterParts { store, request, context, session, spare, .. } = &self.parts;
        let count = batch.records.num_rows();
        if batch.contested && self.parts.table.is_key_late {
            let context = "a batch that may be there already, and a table without the key to look for it";
            return Err(StoreError::new(StoreErrorKind::Internal, store, context));
        }
        let route = self.route(&batch.records, batch.guards.as_ref())?;
        let mut rows = route.encoder.encode_into(spare.take(), &batch.records, &context.fingerprint_key);
        let guards = route.guards.as_ref().zip(batch.guards.as_ref());
        let guards = guards.map(|(encoder, guards)| encoder.encode(guards, &context.fingerprint_key));
        if let Some(guards) = &guards {
            for row in 0..count {
                if let Err(refusal) = guards.fields(row) {
                    rows.refuse(row, unfit(format!("the value that was read of {}", refusal.reason)));
                }
            }
        }
        let mut outcomes: Vec<Option<Outcome>> = (0..count)
            .map(|row| rows.fields(row).err().map(|refusal| Outcome::Rejected(refusal.clone())))
            .collect();
        // A key that is not made yet is that of records without a second of their key.
        let sorted = sort(&rows, count, route.encoder.has_key() && !self.parts.table.is_key_late);
        let mut state = session.state().await;
        let open = session.begin(&mut state).await?;
        let mut delivery = Delivery {
            store,
            context,
            open,
            statements: &route.statements,
            mode: request.mode,
            rows: &rows,
            guards: guards.as_ref(),
            fields: route.encoder.columns().len(),
            guard_fields: route.guards.as_ref().map_or(0, |encoder| encoder.columns().len()),
            contested: batch.contested,
            is_new: self.parts.created,
            keeping: self
                .parts
                .keeps
                .then(|| Keeping { run: context.run.as_str(), flow: request.flow.as_str() }),
            outcomes: &mut outcomes,
        };
        let delivered = delivery.deliver_all(sorted).await;
        if let Err(error) = delivered {
            state.give_up();
            return Err(error);
        }
        drop(state);
        let written = |row: &usize| matches!(outcomes[*row], Some(Outcome::Created(_) | Outcome::Updated(_)));
        let sizes = (0..count).filter(written).map(|row| rows.fields(row).map_or(0, <[u8]>::len));
        let bytes = u64::try_from(sizes.sum::<usize>()).unwrap_or(u64::MAX);
        if let Some(memory) = rows.into_memory() {
            spare.give(memory);
        }
        let outcomes: Option<Vec<Outcome>> = outcomes.into_iter().collect();
        let outcomes = outcomes.ok_or_else(|| {
            StoreError::new(StoreErrorKind::Internal, store, "a record was written without an outcome")
        })?;
        Ok(WriteOutcome { outcomes, bytes, ..WriteOutcome::default() })
    }

    async fn commit(&self, checkpoint: &Checkpoint, flows: usize) -> Result<()> {
        self.parts.session.commit(&self.parts.request.flow, checkpoint, flows).await
    }

    async fn finish(&self) -> Result<()> {
        self.parts.session.finish(&self.parts.request.flow).await
    }
}

impl Delivery<'_> {
    /// A record that repeats a key is refused, unless the first of that key did not arrive itself.
    async fn deliver_all(&mut self, sorted: Sorted) -> Result<()> {
        self.deliver(sorted.first).await?;
        let (mut again, mut holders) = (Vec::new(), HashMap::new());
        for (row, earlier) in sorted.repeated {
            let holder = *holders.entry(earlier).or_insert(earlier);
            let is_refused = matches!(self.outcomes[holder], Some(Outcome::Rejected(_)));
            if is_refused && holder == earlier {
                holders.insert(earlier, row);
                again.push(row);
            } else {
                let reason = "a second record with the key of an earlier one";
                self.outcomes[row] = Some(Outcome::Rejected(unfit(reason.to_owned())));
            }
        }
        self.deliver(again).await
    }
}
