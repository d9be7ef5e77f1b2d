//! Reading back: the table's rows with the fingerprints that the flows' records had when they were written.
//!
//! A row is read by the same `COPY` as any source, in the forms in which a writer takes values, and goes through the
//! encoder that writers use: what encodes alike is alike. What PostgreSQL reads out of text is read back as text and
//! compared by its meaning (`encode/meaning`); where that is not known here, [`super::look_up`] asks the server.

use super::catalog::Table;
use super::count::{self, Belonging};
use super::route;
use super::shown::Shown;
use crate::client::Connections;
use crate::encode::{Encoder, Filled, From, Within};
use crate::source::PostgresSource;
use crate::sql::Part;
use crate::template::identifier;
use arrow::array::{Array as _, AsArray as _, RecordBatch};
use arrow::datatypes::{Int32Type, Schema};
use futures::stream::{BoxStream, StreamExt as _, TryStreamExt as _};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use whimbrel_model::canonical::Canonical;
use whimbrel_model::{Capacity, Fingerprint, FingerprintKey, SlicePart, StoreName, record};
use whimbrel_store::{
    HeldBatch, HeldContents, HeldFlow, HeldRecord, Mode, ReadBatch, ReadRequest, Relation, Result,
    RunContext, Source as _, StoreError, StoreErrorKind, Unreadable, WriteRequest,
};

/// How many rows are read at a time.
const BATCH_RECORDS: usize = 4_000;
const BATCH_BYTES: usize = 4 << 20;
/// The column that says which flow a row belongs to.
const FLOW: &str = "whimbrel flow";
/// The column that says what a row was when it was read: the transaction that wrote it, and its key, as texts.
const VERSION: &str = "whimbrel version";

/// A table that is read back.
pub(super) struct Reading<'a> {
    pub store: &'a StoreName,
    pub connections: &'a Arc<Connections>,
    pub table: &'a Table,
    pub request: &'a WriteRequest,
}

/// How rows are asked for and understood.
pub(super) struct Query {
    /// The columns that are read, in order; behind them may be the flow's place.
    columns: Vec<String>,
    /// Those that are read as text.
    texts: BTreeMap<String, String>,
    fields: String,
    from: String,
    key: Vec<String>,
    pub understanding: Arc<Understanding>,
}

/// What turns rows into records of flows.
pub(super) struct Understanding {
    flows: Vec<FlowReading>,
    /// Rows of no flow: their key, and all that is read of them.
    others: FlowReading,
    /// Where the flow's place stands; `None`: all rows are of the first flow.
    flow_at: Option<usize>,
}

/// How the rows of one flow are understood.
#[derive(Debug)]
struct FlowReading {
    encoder: Encoder,
    /// Columns that are part of the fingerprint.
    compared: BTreeSet<String>,
    key: Vec<String>,
    shown: Shown,
}

impl Reading<'_> {
    /// The columns that tell records of a flow apart; without any, each is compared as a whole.
    pub(super) fn key(&self, request: &WriteRequest, schema: &Schema) -> Result<Vec<String>> {
        route::key(self.store, request, self.table, schema)
    }

    /// The columns that tell all rows apart, where there are any.
    pub(super) fn own_key(&self) -> Vec<String> {
        let asked = &self.request.key;
        if asked.is_empty() { route::table_key(self.table) } else { asked.clone() }
    }

    /// Records that nothing tells apart cannot be looked up.
    pub(super) fn no_key(&self) -> StoreError {
        let context = format!(
            "the records of {} cannot be looked up: they have no key that tells them apart",
            self.table.sql
        );
        StoreError::new(StoreErrorKind::Unsupported, self.store, context)
            .with_hint("name the columns of a unique key under `key`, or compare all records")
    }

    /// Parts of the table: ranges of the key.
    pub(super) async fn parts(&self, wanted: usize) -> Result<Vec<SlicePart>> {
        let key = self.own_key();
        if key.is_empty() {
            return Ok(vec![Part::Whole.to_slice()]);
        }
        // A tenant's rows may be few among many; of a whole table some pages tell enough.
        let relation = if self.request.scope.is_empty() {
            Relation::Table(self.table.sql.clone())
        } else {
            let names: Vec<_> = key.iter().map(|name| identifier(name)).collect();
            let within = count::within(self.store, self.table, &self.request.scope)?;
            let sql =
                format!("SELECT {} FROM {} WHERE {{slice}} AND {within}", names.join(", "), self.table.sql);
            Relation::Query(sql)
        };
        let request = ReadRequest { wanted: Some(key.iter().cloned().collect()), ..request(relation, key) };
        PostgresSource::new(self.store, self.connections, request).slices(wanted).await
    }

    /// What reads these flows' rows, the whole table's where a row may be of none of them.
    pub(super) fn query(&self, flows: &[HeldFlow]) -> Result<Query> {
        let key = self.own_key();
        let is_told = flows.iter().any(|flow| !flow.constants.is_empty()) || flows.len() != 1;
        let holds_others = flows.iter().all(|flow| !flow.constants.is_empty());
        let mut columns: BTreeSet<String> = key.iter().cloned().collect();
        if holds_others {
            columns.extend(self.table.columns.iter().map(|column| column.name.clone()));
        }
        let mut encoders = Vec::with_capacity(flows.len());
        for flow in flows {
            let key = self.key(&flow.request, &flow.columns)?;
            let encoder = route::encoder(self.store, &flow.request, self.table, &key, &flow.columns)?;
            columns.extend(encoder.columns().iter().map(|column| column.name.clone()));
            encoders.push((encoder, key));
        }
        let columns: Vec<String> = columns.into_iter().collect();
        let readings = encoders.iter().map(|(encoder, key)| self.flow(encoder.columns(), key, &columns));
        let belonging: Vec<_> = flows
            .iter()
            .map(|flow| Belonging { scope: &flow.request.scope, constants: &flow.constants })
            .collect();
        let mut fields: Vec<_> = columns.iter().map(|name| identifier(name)).collect();
        if is_told {
            let belongs = count::belongs(self.store, self.table, &belonging)?;
            fields.push(format!("({belongs})::pg_catalog.int4 AS {}", identifier(FLOW)));
        }
        let scopes = flows.iter().map(|flow| count::within(self.store, self.table, &flow.request.scope));
        let scopes = scopes.collect::<Result<BTreeSet<_>>>()?;
        let scopes: Vec<_> = scopes.into_iter().map(|scope| format!("({scope})")).collect();
        let scopes = if scopes.is_empty() { "TRUE".to_owned() } else { scopes.join(" OR ") };
        let is_text = |name: &&String| self.table.column(name).is_some_and(|column| column.wire.is_cast());
        Ok(Query {
            texts: columns.iter().filter(is_text).map(|name| (name.clone(), "text".to_owned())).collect(),
            fields: fields.join(", "),
            from: format!("{} WHERE ({scopes})", self.table.sql),
            understanding: Arc::new(Understanding {
                flows: readings.collect::<Result<_>>()?,
                others: self.others(&key, &columns)?,
                flow_at: is_told.then_some(columns.len()),
            }),
            columns,
            key,
        })
    }

    /// What a flow's rows are, once they lie in `columns`.
    fn flow(&self, filled: &[Filled], key: &[String], columns: &[String]) -> Result<FlowReading> {
        let held = filled.iter().filter_map(|column| {
            let at = columns.iter().position(|name| *name == column.name)?;
            let from = From::Column(at);
            Some(Filled { from, form: None, is_not_null: false, refuses_blanks: false, ..column.clone() })
        });
        let held: Vec<Filled> = held.collect();
        let compared = held.iter().filter(|column| !column.is_ignored).map(|column| column.name.clone());
        let shown = held.iter().filter_map(|column| match column.from {
            From::Column(at) => Some((column.name.clone(), at, column.wire.clone())),
            From::Constant(_) => None,
        });
        Ok(FlowReading {
            compared: compared.chain(key.iter().cloned()).collect(),
            shown: Shown::new(shown.collect()),
            key: key.to_vec(),
            encoder: Encoder::new(held, key, [])
                .map_err(|reason| StoreError::new(StoreErrorKind::Internal, self.store, reason))?,
        })
    }

    fn others(&self, key: &[String], columns: &[String]) -> Result<FlowReading> {
        let told_by = if key.is_empty() { columns } else { key };
        let of_key = told_by.iter().filter_map(|name| self.table.column(name)).map(|column| Filled {
            name: column.name.clone(),
            from: From::Column(0),
            wire: column.wire.clone(),
            form: None,
            is_not_null: false,
            is_ignored: false,
            without: Within::default(),
            refuses_blanks: false,
        });
        let reading = self.flow(&of_key.collect::<Vec<_>>(), key, columns)?;
        let shown = columns
            .iter()
            .enumerate()
            .filter_map(|(at, name)| Some((name.clone(), at, self.table.column(name)?.wire.clone())));
        Ok(FlowReading { shown: Shown::new(shown.collect()), ..reading })
    }
}

fn request(relation: Relation, slice_by: Vec<String>) -> ReadRequest {
    ReadRequest {
        relation,
        slice_by,
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

impl Query {
    /// The query of all rows as a source reads it, with a place for the condition of a part.
    pub(super) fn request(&self) -> ReadRequest {
        // Without a key all is one slice.
        let slice = if self.key.is_empty() { "" } else { " AND {slice}" };
        let sql = format!("SELECT {} FROM {}{slice}", self.fields, self.from);
        ReadRequest { columns: self.texts.clone(), ..request(Relation::Query(sql), self.key.clone()) }
    }

    /// The same, read so that rows can be told from later versions of them, if a flow is to delete some: only tables
    /// that hold rows themselves know of versions, and those alone are written in mode `changed`.
    pub(super) fn versioned(mut self, reading: &Reading<'_>) -> Self {
        let key = reading.own_key();
        if reading.request.mode == Mode::Changed && !key.is_empty() {
            let key = key.iter().map(|name| format!("({})::pg_catalog.text", identifier(name)));
            let parts: Vec<_> = std::iter::once("(xmin)::pg_catalog.text".to_owned()).chain(key).collect();
            let version = format!("(pg_catalog.json_build_array({}))::pg_catalog.text", parts.join(", "));
            self.fields = format!("{}, {version} AS {}", self.fields, identifier(VERSION));
        }
        self
    }

    /// The columns that are read.
    pub(super) fn columns(&self) -> &[String] {
        &self.columns
    }

    /// The table with the condition that a row is in some flow's scope.
    pub(super) fn from(&self) -> &str {
        &self.from
    }

    /// Reads a part.
    pub(super) async fn read(
        self,
        reading: &Reading<'_>,
        part: &SlicePart,
        context: &RunContext,
    ) -> Result<BoxStream<'static, Result<HeldBatch>>> {
        let source = PostgresSource::new(reading.store, reading.connections, self.request());
        let batches = source.read_unordered(part).await?;
        let understanding = self.understanding;
        let key = context.fingerprint_key.clone();
        Ok(batches.map_ok(move |batch| understanding.held(batch, &key)).boxed())
    }
}

impl Understanding {
    fn of(&self, flow: Option<usize>) -> &FlowReading {
        flow.and_then(|flow| self.flows.get(flow)).unwrap_or(&self.others)
    }

    /// Rows with their flows and fingerprints.
    pub(super) fn held(self: &Arc<Self>, batch: ReadBatch, key: &FingerprintKey) -> HeldBatch {
        let flows = self.flows_of(&batch.records);
        let records = self.records(&batch.records, &flows, &batch.unreadable, key);
        HeldBatch {
            contents: Arc::new(Contents { understanding: Arc::clone(self), records: batch.records, flows }),
            records,
            bytes: batch.bytes,
            capacity: Capacity::default(),
        }
    }

    /// The flow of each row.
    fn flows_of(&self, records: &RecordBatch) -> Vec<Option<usize>> {
        let Some(column) = self.flow_at.and_then(|at| records.columns().get(at)) else {
            return vec![Some(0); records.num_rows()];
        };
        let Some(places) = column.as_primitive_opt::<Int32Type>() else {
            return vec![None; records.num_rows()];
        };
        let place = |row: usize| usize::try_from(places.value(row)).ok().filter(|_| places.is_valid(row));
        (0..records.num_rows()).map(place).collect()
    }

    pub(super) fn records(
        &self,
        records: &RecordBatch,
        flows: &[Option<usize>],
        unreadable: &[Unreadable],
        key: &FingerprintKey,
    ) -> Vec<HeldRecord> {
        let mut held: Vec<Option<HeldRecord>> = vec![None; flows.len()];
        for flow in (0..self.flows.len()).map(Some).chain([None]) {
            let rows: Vec<usize> = (0..flows.len()).filter(|row| flows[*row] == flow).collect();
            if rows.is_empty() {
                continue;
            }
            let reading = self.of(flow);
            let fingerprints = reading.encoder.fingerprints(records, rows.iter().copied(), key);
            for (row, fingerprint) in rows.into_iter().zip(fingerprints) {
                let raw = unreadable.partition_point(|value| value.row < row);
                let raw = unreadable[raw..].iter().take_while(|value| value.row == row);
                let raw: Vec<_> = raw.filter(|value| reading.compared.contains(&value.column)).collect();
                let fingerprint = match fingerprint {
                    Ok(fingerprint) if raw.is_empty() => fingerprint,
                    found => reading.fallback(records, row, &raw, found.ok(), key),
                };
                held[row] = Some(HeldRecord { flow, fingerprint });
            }
        }
        held.into_iter().flatten().collect()
    }
}

impl FlowReading {
    /// The fingerprint of a row that no record can have become, since a value of it cannot be written: no other
    /// has it, and it is always the same.
    fn fallback(
        &self,
        records: &RecordBatch,
        row: usize,
        raw: &[&Unreadable],
        known: Option<Fingerprint>,
        key: &FingerprintKey,
    ) -> Fingerprint {
        let (mut keys, mut whole) = (Canonical::default(), Canonical::default());
        let compared: Vec<_> = self.compared.iter().collect();
        let told_by = if self.key.is_empty() { compared.clone() } else { self.key.iter().collect() };
        let has_key = raw.iter().all(|value| !told_by.contains(&&value.column));
        for (canonical, columns) in [(&mut keys, told_by), (&mut whole, compared)] {
            canonical.text("not as it could have been written");
            for name in columns {
                canonical.key(name);
                let value = records.column_by_name(name).map(|column| record::value_to_json(column, row));
                canonical.json(&value.unwrap_or_default());
                for value in raw.iter().filter(|value| value.column == *name) {
                    canonical.binary(&value.raw);
                }
            }
        }
        let found = key.fingerprint(&keys, &whole);
        Fingerprint { key: known.filter(|_| has_key).map_or(found.key, |known| known.key), ..found }
    }
}

/// Rows that were read, for people.
pub(super) struct Contents {
    understanding: Arc<Understanding>,
    records: RecordBatch,
    flows: Vec<Option<usize>>,
}

impl Contents {
    pub(super) fn new(understanding: &Arc<Understanding>, records: RecordBatch) -> Self {
        let flows = vec![Some(0); records.num_rows()];
        Self { understanding: Arc::clone(understanding), records, flows }
    }

    fn reading(&self, row: usize) -> &FlowReading {
        self.understanding.of(self.flows.get(row).copied().flatten())
    }
}

impl std::fmt::Debug for Contents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Contents({} rows)", self.records.num_rows())
    }
}

impl HeldContents for Contents {
    fn key(&self, row: usize) -> Map<String, Value> {
        let reading = self.reading(row);
        let mut record = reading.shown.record(&self.records, row);
        if reading.key.is_empty() {
            return record;
        }
        reading.key.iter().filter_map(|name| record.remove_entry(name)).collect()
    }

    fn record(&self, row: usize) -> Map<String, Value> {
        self.reading(row).shown.record(&self.records, row)
    }

    fn version(&self, row: usize) -> Value {
        let versions = self.records.column_by_name(VERSION).and_then(|column| column.as_string_opt::<i32>());
        versions.map_or(Value::Null, |versions| versions.value(row).into())
    }
}
