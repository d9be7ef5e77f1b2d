//! Reading back what a file holds, to compare and to count it.

use super::{Table, nested};
use crate::format::Format;
use crate::source::FilesSource;
use crate::types::encode::{Cells, TextBuffer, Writing, canonical_attribute, is_null, joined};
use arrow::array::RecordBatch;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use whimbrel_model::attribute::{Attribute, ITEM, Text};
use whimbrel_model::canonical::Canonical;
use whimbrel_model::{Fingerprint, FingerprintKey, SlicePart, json, record};
use whimbrel_store::{
    Documents, Held, HeldBatch, HeldContents, HeldFlow, HeldRecord, KeyPattern, ReadBatch, ReadRequest,
    Relation, Result, RunContext, Source as _, StoreError, StoreErrorKind,
};

/// How much is read at once.
const BATCH_RECORDS: usize = 4_096;
const BATCH_BYTES: usize = 4 << 20;

/// The file as a source of whole records.
pub(super) fn source(table: &Table, wanted: Option<BTreeSet<String>>) -> Result<FilesSource> {
    let is_open = matches!(table.format, Format::Json | Format::NdJson | Format::DynamoDbJson);
    let whole = || BTreeSet::from([ITEM.to_owned()]);
    let request = ReadRequest {
        relation: Relation::Table(table.request.table.clone()),
        slice_by: Vec::new(),
        columns: BTreeMap::new(),
        parameters: BTreeMap::new(),
        wanted: wanted.or_else(|| is_open.then(whole)),
        condition: None,
        wants_all: true,
        whole: false,
        batch_records: BATCH_RECORDS,
        batch_bytes: BATCH_BYTES,
    };
    let source = FilesSource::new(&table.name, &table.place, Some(table.format), request)?;
    let is_one = table.request.shape.as_ref().is_some_and(|shape| shape.documents == Documents::Members);
    Ok(if is_one { source.of_members() } else { source })
}

/// A part of the file, record by record.
pub(super) async fn read(
    table: &Arc<Table>,
    part: &SlicePart,
    flows: &[HeldFlow],
    context: &RunContext,
) -> Result<BoxStream<'static, Result<HeldBatch>>> {
    if let Some(shape) = &table.request.shape {
        return nested::read(table, shape, part, flows, context).await;
    }
    let batches = source(table, None)?.read(part, None, context).await?;
    let reading = Arc::new(Reading {
        table: Arc::clone(table),
        flows: flows.iter().map(Flow::of).collect(),
        key: context.fingerprint_key.clone(),
    });
    let held = batches.map(move |batch| batch.and_then(|batch| reading.held(&batch)));
    Ok(held.boxed())
}

/// Counts the file's records by flow.
pub(super) async fn count(table: &Arc<Table>, flows: &[Vec<KeyPattern>]) -> Result<Held> {
    let context = RunContext {
        run: whimbrel_model::RunId::generate(),
        fingerprint_key: FingerprintKey::new([0; 32]),
        retry_for: std::time::Duration::ZERO,
        stop: CancellationToken::new(),
        meter: Arc::default(),
        budget: Arc::default(),
    };
    if let Some(shape) = &table.request.shape {
        return nested::count(table, shape, flows, &context).await;
    }
    let mut held = Held { flows: vec![0; flows.len()], others: 0 };
    let source = source(table, None)?;
    for part in source.slices(1).await? {
        let mut batches = source.read(&part, None, &context).await?;
        while let Some(batch) = batches.try_next().await? {
            let rows = Rows::of(table, &batch)?;
            for row in 0..batch.records.num_rows() {
                let values = rows.values(row).map_err(|reason| unreadable(table, &reason))?;
                match owner(flows.iter().map(Vec::as_slice), &values) {
                    Some(flow) => held.flows[flow] += 1,
                    None => held.others += 1,
                }
            }
        }
    }
    Ok(held)
}

pub(super) fn unreadable(table: &Table, reason: &str) -> StoreError {
    let context = format!("\"{}\" holds a record that cannot be read: {reason}", table.path);
    StoreError::new(StoreErrorKind::Mismatch, &table.name, context)
}

/// A flow into the file.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) constants: Vec<KeyPattern>,
    /// The columns that are compared; `None`: the whole item.
    pub(super) columns: Option<BTreeSet<String>>,
    pub(super) shown: BTreeSet<String>,
    pub(super) key: Vec<String>,
}

impl Flow {
    pub(super) fn of(flow: &HeldFlow) -> Self {
        let names: BTreeSet<String> =
            flow.columns.fields().iter().map(|field| field.name().clone()).collect();
        let is_whole = names.len() == 1 && names.contains(ITEM);
        let compared = names.iter().filter(|name| !flow.request.ignore.contains(name)).cloned();
        Self {
            constants: flow.constants.clone(),
            columns: (!is_whole).then(|| compared.collect()),
            shown: names,
            key: flow.request.key.clone(),
        }
    }
}

struct Reading {
    table: Arc<Table>,
    flows: Vec<Flow>,
    key: FingerprintKey,
}

impl Reading {
    fn held(&self, batch: &ReadBatch) -> Result<HeldBatch> {
        if let Some(bad) = batch.unreadable.first() {
            return Err(unreadable(&self.table, &bad.reason));
        }
        let rows = Rows::of(&self.table, batch)?;
        let record = |row| {
            let values = rows.values(row).map_err(|reason| unreadable(&self.table, &reason))?;
            let flow = owner(self.flows.iter().map(|flow| flow.constants.as_slice()), &values);
            let fingerprint = fingerprint(&self.key, flow.map(|flow| &self.flows[flow]), &values);
            Ok(HeldRecord { flow, fingerprint })
        };
        let records = (0..batch.records.num_rows()).map(record).collect::<Result<Vec<_>>>()?;
        let of = |record: &HeldRecord| {
            record.flow.map(|flow| (self.flows[flow].shown.clone(), self.flows[flow].key.clone()))
        };
        let contents = Contents {
            table: Arc::clone(&self.table),
            batch: batch.records.clone(),
            flows: records.iter().map(of).collect(),
        };
        Ok(HeldBatch { records, contents: Arc::new(contents), bytes: batch.bytes, capacity: batch.capacity })
    }
}

/// The fingerprint of a record that belongs to a flow, or to none.
pub(super) fn fingerprint(
    secret: &FingerprintKey,
    flow: Option<&Flow>,
    values: &BTreeMap<String, HeldValue>,
) -> Fingerprint {
    let is_whole = flow.is_some_and(|flow| flow.columns.is_none());
    let counts = |name: &str| match flow {
        Some(Flow { columns: Some(columns), .. }) => columns.contains(name),
        _ => true,
    };
    let all = values.iter().filter(|(name, value)| counts(name) && (is_whole || !is_null(&value.canonical)));
    let whole = joined(&all.map(|(name, value)| (name.as_str(), &value.canonical)).collect::<Vec<_>>());
    let mut key: Vec<&String> = flow.into_iter().flat_map(|flow| &flow.key).collect();
    if key.is_empty() {
        return secret.fingerprint(&whole, &whole);
    }
    key.sort_unstable();
    let there = key.into_iter().filter_map(|name| Some((name.as_str(), &values.get(name)?.canonical)));
    let key = joined(&there.filter(|(_, value)| !is_null(value)).collect::<Vec<_>>());
    secret.fingerprint(&key, &whole)
}

/// The flow with the longest constants that a record has, and the first of those that are equally long.
pub(super) fn owner<'a>(
    flows: impl Iterator<Item = &'a [KeyPattern]>,
    values: &BTreeMap<String, HeldValue>,
) -> Option<usize> {
    let has =
        |pattern: &KeyPattern| {
            let text = values.get(&pattern.column).and_then(|value| value.text.as_deref());
            text.is_some_and(|text| {
                if pattern.whole { text == pattern.text } else { text.starts_with(&pattern.text) }
            })
        };
    let fitting = flows.enumerate().filter(|(_, constants)| constants.iter().all(has));
    let length = |constants: &[KeyPattern]| constants.iter().map(|pattern| pattern.text.len()).sum::<usize>();
    let longest = fitting.max_by_key(|(place, constants)| (length(constants), std::cmp::Reverse(*place)));
    longest.map(|(place, _)| place)
}

/// A value that a file holds.
#[derive(Debug)]
pub(super) struct HeldValue {
    pub(super) canonical: Canonical,
    /// Its text, where it is one.
    pub(super) text: Option<String>,
}

/// The records of a batch, value by value.
enum Rows<'a> {
    Json(&'a RecordBatch),
    DynamoDb(&'a RecordBatch),
    Columns(Vec<(String, Cells)>, Writing),
}

impl<'a> Rows<'a> {
    fn of(table: &Table, batch: &'a ReadBatch) -> Result<Self> {
        let records = &batch.records;
        let writing = match table.format {
            Format::Json | Format::NdJson => return Ok(Self::Json(records)),
            Format::DynamoDbJson => return Ok(Self::DynamoDb(records)),
            Format::Csv => Writing::Csv,
            Format::Parquet | Format::Arrow => Writing::Typed,
        };
        let columns = records.schema_ref().fields().iter().zip(records.columns());
        let cells = columns.map(|(field, column)| Ok((field.name().clone(), Cells::new(field, column)?)));
        let cells = cells.collect::<std::result::Result<_, arrow::error::ArrowError>>();
        Ok(Self::Columns(cells.map_err(|error| unreadable(table, &error.to_string()))?, writing))
    }

    fn values(&self, row: usize) -> std::result::Result<BTreeMap<String, HeldValue>, String> {
        match self {
            Self::Json(batch) => {
                let value = json::parse(item(batch, row)).map_err(|error| error.to_string())?;
                let Value::Object(map) = value else { return Err("it is no object".to_owned()) };
                let one = |(name, value): (String, Value)| {
                    let mut canonical = Canonical::default();
                    canonical.json(&value);
                    let text = value.as_str().map(str::to_owned);
                    (name, HeldValue { canonical, text })
                };
                Ok(map.into_iter().map(one).collect())
            }
            Self::DynamoDb(batch) => {
                let item: BTreeMap<Text<'_>, Attribute<'_>> =
                    serde_json::from_str(item(batch, row)).map_err(|error| error.to_string())?;
                let one = |(Text(name), attribute): (Text<'_>, Attribute<'_>)| {
                    let mut canonical = Canonical::default();
                    canonical_attribute(&mut canonical, &attribute)?;
                    let text = match attribute {
                        Attribute::S(text) | Attribute::N(text) => Some(text.into_owned()),
                        _ => None,
                    };
                    Ok((name.into_owned(), HeldValue { canonical, text }))
                };
                item.into_iter().map(one).collect()
            }
            Self::Columns(columns, writing) => {
                let mut values = BTreeMap::new();
                for (name, cells) in columns {
                    let (mut text, mut canonical) = (TextBuffer::default(), Canonical::default());
                    // What is no text in a typed file has one in CSV.
                    cells.append(row, *writing, &mut text, &mut canonical)?;
                    if *writing == Writing::Typed {
                        cells.append(row, Writing::Csv, &mut text, &mut Canonical::default())?;
                    }
                    let text = (!cells.is_null(row)).then_some(text.as_str().to_owned());
                    values.insert(name.clone(), HeldValue { canonical, text });
                }
                Ok(values)
            }
        }
    }
}

pub(super) fn item(batch: &RecordBatch, row: usize) -> &str {
    batch.columns().first().and_then(|column| record::text_at(column, row)).unwrap_or_default()
}

/// What the records of a batch say.
#[derive(Debug)]
struct Contents {
    table: Arc<Table>,
    batch: RecordBatch,
    /// The columns and the key of each record's flow.
    flows: Vec<Option<(BTreeSet<String>, Vec<String>)>>,
}

impl Contents {
    fn whole(&self, row: usize) -> Map<String, Value> {
        match self.table.format {
            Format::Json | Format::NdJson => serde_json::from_str(item(&self.batch, row)).unwrap_or_default(),
            Format::DynamoDbJson => {
                let item: BTreeMap<Text<'_>, Attribute<'_>> =
                    serde_json::from_str(item(&self.batch, row)).unwrap_or_default();
                let plain = |attribute: &Attribute<'_>| {
                    let text = attribute.plain_json().ok()?;
                    serde_json::from_str(&text).ok()
                };
                let one = |(Text(name), attribute): (Text<'_>, Attribute<'_>)| {
                    (name.into_owned(), plain(&attribute).unwrap_or(Value::Null))
                };
                item.into_iter().map(one).collect()
            }
            Format::Csv => record::to_json(&self.batch, row),
            Format::Parquet | Format::Arrow => {
                // Documents and numbers are texts there, which only the fields' own words tell.
                let one = self.batch.slice(row, 1);
                let columns = one.schema_ref().fields().iter().zip(one.columns());
                let shown = columns.map(|(field, column)| {
                    let value = Cells::new(field, column).map(|cells| cells.preview(0, Writing::Typed));
                    (field.name().clone(), value.unwrap_or(Value::Null))
                });
                shown.collect()
            }
        }
    }
}

impl HeldContents for Contents {
    fn key(&self, row: usize) -> Map<String, Value> {
        let mut whole = self.whole(row);
        if let Some(Some((_, key))) = self.flows.get(row)
            && !key.is_empty()
        {
            whole.retain(|name, _| key.contains(name));
        }
        whole
    }

    fn record(&self, row: usize) -> Map<String, Value> {
        let mut whole = self.whole(row);
        if let Some(Some((columns, _))) = self.flows.get(row)
            && !columns.contains(ITEM)
        {
            whole.retain(|name, _| columns.contains(name));
        }
        whole
    }
}
