//! Reading back: the table's rows with the fingerprints that the flows' records had when they were written.

use super::count::{self, Belonging};
use super::{delete, route};
use crate::catalog::{Layout, SliceKey, Table};
use crate::client::{Client, open_target};
use crate::encode::{Encoder, From, Meaning, Scratch, Stored, held_columns};
use crate::error::{from_driver, mismatch};
use crate::source::{Part, bind, boundaries, cut_at, select};
use crate::sql::{identifier, is_same_name};
use arrow::datatypes::Schema;
use futures::stream::{BoxStream, StreamExt as _};
use rusqlite::{Connection, Row};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::sync::mpsc::Sender;
use whimbrel_model::{Capacity, FingerprintKey, SlicePart, StoreName};
use whimbrel_store::{
    HeldBatch, HeldContents, HeldFlow, HeldRecord, Mode, ReadRequest, Relation, Result, RunContext,
    StoreError, StoreErrorKind, WriteRequest,
};

/// How much is read at a time.
const BATCH_RECORDS: usize = 4_000;
const BATCH_BYTES: usize = 4 << 20;

/// A table that is read back.
#[derive(Clone)]
pub(crate) struct Reading {
    pub client: Arc<Client>,
    pub table: Arc<Table>,
    pub request: Arc<WriteRequest>,
}

/// How rows are asked for and understood.
#[derive(Debug)]
pub(crate) struct Query {
    /// What is read, but for the key in front.
    pub fields: String,
    /// The condition that a row is in some flow's scope.
    pub condition: String,
    pub understanding: Arc<Understanding>,
}

/// What turns rows into records of flows.
#[derive(Debug)]
pub(crate) struct Understanding {
    flows: Vec<FlowReading>,
    /// Rows of no flow: their key, and all that is read of them.
    others: FlowReading,
    /// How many columns are read; behind them may be the flow's place.
    columns: usize,
    /// Whether the flow's place is read; else all rows are of the first flow.
    is_told: bool,
    /// Where the key stands, and what a row's content is, where rows can be told from later versions of them.
    version: Option<(Vec<usize>, Vec<usize>)>,
}

/// How the rows of one flow are understood.
#[derive(Debug)]
struct FlowReading {
    /// Of the columns that are part of the record.
    encoder: Encoder,
    /// Where they stand among what is read.
    places: Vec<usize>,
    /// What is shown, and how.
    shown: Vec<(String, usize, Meaning)>,
    key: Vec<String>,
}

fn request(table: &Table) -> ReadRequest {
    ReadRequest {
        relation: Relation::Table(identifier(&table.name)),
        slice_by: Vec::new(),
        columns: BTreeMap::new(),
        parameters: BTreeMap::new(),
        wanted: None,
        condition: None,
        wants_all: true,
        whole: false,
        batch_records: BATCH_RECORDS,
        batch_bytes: BATCH_BYTES,
    }
}

impl Reading {
    fn store(&self) -> &StoreName {
        &self.client.store
    }

    /// The columns that tell records of a flow apart; without any, each is compared as a whole.
    pub(crate) fn key(&self, request: &WriteRequest, schema: &Schema) -> Result<Vec<String>> {
        route::key(self.store(), request, &self.table, schema)
    }

    /// The columns that tell all rows apart, where there are any.
    pub(super) fn own_key(&self) -> Result<Vec<String>> {
        let asked = self.request.key.iter();
        let asked = asked
            .map(|name| Ok(route::existing(self.store(), &self.table, name, "`key` names it")?.name.clone()));
        let asked = asked.collect::<Result<Vec<_>>>()?;
        Ok(if asked.is_empty() { self.table.primary_key().to_vec() } else { asked })
    }

    /// Records that nothing tells apart cannot be looked up.
    fn no_key(&self) -> StoreError {
        let table = self.table.quoted();
        let context =
            format!("the records of {table} cannot be looked up: they have no key that tells them apart");
        StoreError::new(StoreErrorKind::Unsupported, self.store(), context)
            .with_hint("name the columns of a unique key under `key`, or compare all records")
    }

    /// Parts of the table: ranges of its rowid or key.
    pub(crate) async fn parts(&self, wanted: usize) -> Result<Vec<SlicePart>> {
        let (store, request) = (self.store().clone(), request(&self.table));
        let parts = self.client.read_back(move |connection| {
            let layout = Layout::read(&store, connection, &request)?;
            if layout.slice_key == SliceKey::None {
                return Ok(vec![Part::Whole]);
            }
            let whole = Part::Range { above: None, upto: None };
            let keys = boundaries(&store, connection, &layout, &request, &whole, wanted)?;
            Ok(cut_at(whole, keys))
        });
        Ok(parts.await?.iter().map(Part::to_slice).collect())
    }

    /// What reads these flows' rows, the whole table's where a row may be of none of them.
    pub(crate) fn query(&self, flows: &[HeldFlow]) -> Result<Query> {
        let store = self.store();
        let key = self.own_key()?;
        let is_told = flows.iter().any(|flow| !flow.constants.is_empty()) || flows.len() != 1;
        let holds_others = flows.iter().all(|flow| !flow.constants.is_empty());
        let mut columns: BTreeSet<String> = key.iter().cloned().collect();
        // So that rows can be told from later versions of them, where a flow is to delete some.
        let is_versioned = self.request.mode == Mode::Changed && !key.is_empty();
        if holds_others || is_versioned {
            columns.extend(self.table.columns.iter().map(|column| column.name.clone()));
        }
        let mut encoders = Vec::with_capacity(flows.len());
        for flow in flows {
            let key = self.key(&flow.request, &flow.columns)?;
            let encoder = route::encoder(store, &flow.request, &self.table, &key, &flow.columns)?;
            columns.extend(encoder.columns().iter().map(|column| column.name.clone()));
            encoders.push((encoder, key));
        }
        let columns: Vec<String> = columns.into_iter().collect();
        let place = |name: &String| columns.iter().position(|column| column == name).unwrap_or(usize::MAX);
        let whole = self.table.columns.iter().filter(|column| !column.is_generated);
        let whole = whole.map(|column| place(&column.name)).collect();
        let version = is_versioned.then(|| (key.iter().map(place).collect(), whole));
        let readings = encoders.iter().map(|(encoder, key)| self.flow(encoder, key, &columns));
        let belonging: Vec<_> = flows
            .iter()
            .map(|flow| Belonging { scope: &flow.request.scope, constants: &flow.constants })
            .collect();
        let mut fields: Vec<_> = columns.iter().map(|name| identifier(name)).collect();
        if is_told {
            fields.push(count::belongs(store, &self.table, &belonging)?);
        }
        let scopes = flows.iter().map(|flow| count::within(store, &self.table, &flow.request.scope));
        let scopes = scopes.collect::<Result<BTreeSet<_>>>()?;
        let scopes: Vec<_> = scopes.into_iter().map(|scope| format!("({scope})")).collect();
        Ok(Query {
            fields: fields.join(", "),
            condition: if scopes.is_empty() { "TRUE".to_owned() } else { scopes.join(" OR ") },
            understanding: Arc::new(Understanding {
                flows: readings.collect::<Result<_>>()?,
                others: self.others(&key, &columns)?,
                columns: columns.len(),
                is_told,
                version,
            }),
        })
    }

    /// What a flow's rows are, once they lie in `columns`.
    fn flow(&self, written: &Encoder, key: &[String], columns: &[String]) -> Result<FlowReading> {
        let encoder = Encoder::new(held_columns(written.columns()), key, []);
        let encoder = encoder.map_err(|reason| mismatch(self.store(), reason))?;
        let place = |name: &str| columns.iter().position(|column| column == name).unwrap_or(usize::MAX);
        let places: Vec<usize> = encoder.columns().iter().map(|column| place(&column.name)).collect();
        let shown = encoder.columns().iter().zip(&places);
        let shown = shown.map(|(column, at)| (column.name.clone(), *at, column.meaning)).collect();
        Ok(FlowReading { encoder, places, shown, key: key.to_vec() })
    }

    fn others(&self, key: &[String], columns: &[String]) -> Result<FlowReading> {
        let told_by = if key.is_empty() { columns } else { key };
        let of_key = told_by.iter().filter_map(|name| self.table.column(name));
        let of_key = of_key.map(|column| route::plain(&self.table, column)).collect();
        let encoder = Encoder::new(of_key, key, []).map_err(|reason| mismatch(self.store(), reason))?;
        let reading = self.flow(&encoder, key, columns)?;
        let shown = columns.iter().enumerate().map(|(at, name)| (name.clone(), at, Meaning::Plain));
        Ok(FlowReading { shown: shown.collect(), ..reading })
    }

    /// Reads a part.
    pub(crate) fn read(
        &self,
        query: Query,
        part: &SlicePart,
        context: &RunContext,
    ) -> BoxStream<'static, Result<HeldBatch>> {
        let (to, from) = tokio::sync::mpsc::channel(1);
        let (reading, part, key) = (self.clone(), part.clone(), context.fingerprint_key.clone());
        let store = self.store().clone();
        tokio::task::spawn_blocking(move || {
            let last = match reading.run(&query, &part, &key, &to) {
                Ok(()) => Ok(None),
                Err(error) => Err(error),
            };
            // Whoever has gone away does not miss it.
            let _gone = to.blocking_send(last);
        });
        futures::stream::try_unfold((store, from), |(store, mut from)| async move {
            match from.recv().await {
                Some(Ok(Some(batch))) => Ok(Some((batch, (store, from)))),
                Some(Ok(None)) => Ok(None),
                Some(Err(error)) => Err(error),
                None => {
                    let context = "a thread that reads back ended badly";
                    Err(StoreError::new(StoreErrorKind::Internal, &store, context))
                }
            }
        })
        .boxed()
    }

    fn run(
        &self,
        query: &Query,
        part: &SlicePart,
        key: &FingerprintKey,
        to: &Sender<Result<Option<HeldBatch>>>,
    ) -> Result<()> {
        let store = self.store();
        let failed = |error| from_driver(store, format!("cannot read {} back", self.table.quoted()), error);
        let connection = open_target(store, &self.client.config)?;
        let layout = Layout::read(store, &connection, &request(&self.table))?;
        let key_fields = layout.slice_key.expressions().len();
        let part = Part::from_slice(part, key_fields)
            .ok_or_else(|| mismatch(store, "a part does not belong to this table as it is now"))?;
        let sql = select(&layout, &part, &query.fields, Some(&query.condition), false);
        let mut statement = connection.prepare(&sql).map_err(failed)?;
        bind(store, &mut statement, &part, &BTreeMap::new())?;
        let mut rows = statement.raw_query();
        let mut found = Found::default();
        while let Some(row) = rows.next().map_err(failed)? {
            found.push(row, key_fields, &query.understanding).map_err(failed)?;
            if found.rows.len() >= BATCH_RECORDS || found.bytes >= BATCH_BYTES {
                let batch = query.understanding.held(std::mem::take(&mut found), key);
                if to.blocking_send(Ok(Some(batch))).is_err() {
                    return Ok(());
                }
            }
        }
        if !found.rows.is_empty() {
            let _gone = to.blocking_send(Ok(Some(query.understanding.held(found, key))));
        }
        Ok(())
    }
}

/// Rows as they were read.
#[derive(Default)]
pub(crate) struct Found {
    pub rows: Vec<Vec<Stored<'static>>>,
    pub flows: Vec<Option<usize>>,
    pub bytes: usize,
}

impl Found {
    /// Takes a row whose columns stand behind `skipped` fields.
    pub(crate) fn push(
        &mut self,
        row: &Row<'_>,
        skipped: usize,
        understanding: &Understanding,
    ) -> rusqlite::Result<()> {
        let mut values = Vec::with_capacity(understanding.columns);
        for at in 0..understanding.columns {
            let value = Stored::of(row.get_ref(skipped + at)?).into_owned();
            self.bytes += value.size();
            values.push(value);
        }
        let flow = if understanding.is_told {
            usize::try_from(row.get::<_, i64>(skipped + understanding.columns)?).ok()
        } else {
            Some(0)
        };
        self.rows.push(values);
        self.flows.push(flow);
        Ok(())
    }
}

impl Understanding {
    fn of(&self, flow: Option<usize>) -> &FlowReading {
        flow.and_then(|flow| self.flows.get(flow)).unwrap_or(&self.others)
    }

    /// Rows with their flows and fingerprints.
    pub(crate) fn held(self: &Arc<Self>, found: Found, key: &FingerprintKey) -> HeldBatch {
        let mut scratch = Scratch::default();
        let records = found.rows.iter().zip(&found.flows).map(|(row, flow)| {
            let reading = self.of(*flow);
            let values: Vec<_> =
                reading.places.iter().map(|at| row.get(*at).cloned().unwrap_or(Stored::Null)).collect();
            let fingerprint = reading.encoder.fingerprint(&values, key, &mut scratch);
            HeldRecord { flow: *flow, fingerprint }
        });
        let records = records.collect();
        HeldBatch {
            records,
            bytes: u64::try_from(found.bytes).unwrap_or(u64::MAX),
            capacity: Capacity::default(),
            contents: Arc::new(Contents {
                understanding: Arc::clone(self),
                rows: found.rows,
                flows: found.flows,
                print: key.clone(),
            }),
        }
    }
}

/// Rows that were read, for people.
struct Contents {
    understanding: Arc<Understanding>,
    rows: Vec<Vec<Stored<'static>>>,
    flows: Vec<Option<usize>>,
    print: FingerprintKey,
}

impl Contents {
    fn shown(&self, row: usize, is_shown: impl Fn(&str) -> bool) -> Map<String, Value> {
        let reading = self.understanding.of(self.flows.get(row).copied().flatten());
        let value = |at: usize, meaning| {
            let value = self.rows.get(row).and_then(|row| row.get(at));
            value.map_or(Value::Null, |value| value.json(meaning))
        };
        let shown = reading.shown.iter().filter(|(name, ..)| is_shown(name));
        shown.map(|(name, at, meaning)| (name.clone(), value(*at, *meaning))).collect()
    }
}

impl std::fmt::Debug for Contents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Contents({} rows)", self.rows.len())
    }
}

impl HeldContents for Contents {
    fn key(&self, row: usize) -> Map<String, Value> {
        let reading = self.understanding.of(self.flows.get(row).copied().flatten());
        self.shown(row, |name| {
            reading.key.is_empty() || reading.key.iter().any(|key| is_same_name(key, name))
        })
    }

    fn record(&self, row: usize) -> Map<String, Value> {
        self.shown(row, |_| true)
    }

    fn version(&self, row: usize) -> Value {
        let (Some((key, whole)), Some(row)) = (&self.understanding.version, self.rows.get(row)) else {
            return Value::Null;
        };
        delete::version(&delete::packed(row, key), &delete::packed(row, whole), &self.print)
    }
}

/// What finds a row by its key: an encoder of the key alone.
pub(crate) fn key_encoder(store: &StoreName, encoder: &Encoder, key: &[String]) -> Result<Encoder> {
    let columns = encoder.columns().iter().filter(|column| key.contains(&column.name));
    let columns =
        columns.filter(|column| matches!(column.from, From::Column(_) | From::Constant(_))).cloned();
    Encoder::new(columns.collect(), key, []).map_err(|reason| mismatch(store, reason))
}

/// Reads what a table holds under the keys of records. Blocks.
pub(crate) fn look_up(
    reading: &Reading,
    connection: &Connection,
    flow: &HeldFlow,
    records: &arrow::array::RecordBatch,
    key: &FingerprintKey,
) -> Result<whimbrel_store::LookedUp> {
    let store = reading.store();
    let failed = |error| from_driver(store, "cannot look records up by their keys", error);
    let query = reading.query(std::slice::from_ref(flow))?;
    let names = reading.key(&flow.request, &flow.columns)?;
    if names.is_empty() {
        return Err(reading.no_key());
    }
    let encoder = route::encoder(store, &flow.request, &reading.table, &names, &flow.columns)?;
    let keys = key_encoder(store, &encoder, &names)?;
    let sql = format!(
        "SELECT {} FROM {} WHERE {} AND ({})",
        query.fields,
        reading.table.quoted(),
        crate::writer::by_key(&keys, 1),
        query.condition
    );
    let mut statement = connection.prepare_cached(&sql).map_err(failed)?;
    let arrays = keys.arrays(records).map_err(|refusal| mismatch(store, refusal.reason))?;
    let mut scratch = Scratch::default();
    let (mut rows, mut found) = (Vec::with_capacity(records.num_rows()), Found::default());
    for number in 0..records.num_rows() {
        let Ok(row) = keys.row(&arrays, number, key, &mut scratch) else {
            rows.push(None);
            continue;
        };
        let held = crate::writer::find(&mut statement, &keys, &row.values, query.understanding.columns);
        rows.push(held.map_err(failed)?.map(|values| {
            found.bytes += values.iter().map(Stored::size).sum::<usize>();
            found.rows.push(values);
            found.flows.push(Some(0));
            found.rows.len() - 1
        }));
    }
    Ok(whimbrel_store::LookedUp { rows, held: query.understanding.held(found, key) })
}
