//! Reading documents back as the records that they were made of.

use super::super::Table;
use super::super::held::{Flow, HeldValue, fingerprint, owner, source, unreadable};
use super::key;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use whimbrel_model::canonical::Canonical;
use whimbrel_model::{FingerprintKey, SlicePart, json};
use whimbrel_store::{
    Documents, Held, HeldBatch, HeldContents, HeldFlow, HeldRecord, KeyPattern, ReadBatch, Result,
    RunContext, Shape, Source as _,
};

/// What is looked for in a document.
#[derive(Debug)]
struct Looked {
    by: String,
    documents: Documents,
    /// The lists whose elements are records.
    lists: BTreeSet<String>,
    /// Whether the document itself is a record.
    has_own: bool,
}

/// A record of a document: where it stands, and what it says.
type Record = (String, Map<String, Value>);

impl Looked {
    fn of<'a>(shape: &Shape, flows: impl Iterator<Item = &'a [KeyPattern]>) -> Self {
        let places: BTreeSet<String> = flows
            .flatten()
            .filter(|pattern| pattern.column == Shape::PLACE)
            .map(|pattern| pattern.text.clone())
            .collect();
        let has_own = places.contains("");
        let lists = places.into_iter().filter(|list| !list.is_empty()).collect();
        Self { by: shape.by.clone(), documents: shape.documents, lists, has_own }
    }

    /// The records of a document.
    fn records(&self, text: &str) -> std::result::Result<Vec<Record>, String> {
        let value = json::parse(text).map_err(|error| error.to_string())?;
        let Value::Object(mut document) = value else { return Err("a document is no object".to_owned()) };
        let by = if self.documents == Documents::Members {
            let mut members = std::mem::take(&mut document).into_iter();
            match (members.next(), members.next()) {
                (Some((name, Value::Object(own))), None) => {
                    document = own;
                    Some(Value::String(name))
                }
                (Some((name, _)), None) => return Err(format!("{name:?} is no document")),
                _ => return Err("it is no object of documents".to_owned()),
            }
        } else {
            document.remove(&self.by)
        };
        let mut records = Vec::new();
        for list in &self.lists {
            let elements = match document.remove(list) {
                None | Some(Value::Null) => continue,
                Some(Value::Array(elements)) => elements,
                Some(_) => return Err(format!("`{list}` is no list")),
            };
            for element in elements {
                let Value::Object(mut element) = element else {
                    return Err(format!("an element of `{list}` is no object"));
                };
                element.extend(by.clone().map(|by| (self.by.clone(), by)));
                records.push((list.clone(), element));
            }
        }
        // Without a flow that writes documents, one of nothing but lists is no record.
        if self.has_own || !document.is_empty() {
            document.extend(by.map(|by| (self.by.clone(), by)));
            records.push((String::new(), document));
        }
        Ok(records)
    }
}

/// A record's values, with the place where it stands.
fn values(place: &str, record: &Map<String, Value>) -> BTreeMap<String, HeldValue> {
    let one = |(name, value): (&String, &Value)| {
        let mut canonical = Canonical::default();
        canonical.json(value);
        (name.clone(), HeldValue { canonical, text: value.as_str().map(str::to_owned) })
    };
    let place = HeldValue { canonical: Canonical::default(), text: Some(place.to_owned()) };
    record.iter().map(one).chain([(Shape::PLACE.to_owned(), place)]).collect()
}

/// A part of the file, record by record.
pub(in super::super) async fn read(
    table: &Arc<Table>,
    shape: &Shape,
    part: &SlicePart,
    flows: &[HeldFlow],
    context: &RunContext,
) -> Result<BoxStream<'static, Result<HeldBatch>>> {
    let batches = source(table, None)?.read(part, None, context).await?;
    let reading = Arc::new(Reading {
        table: Arc::clone(table),
        looked: Looked::of(shape, flows.iter().map(|flow| flow.constants.as_slice())),
        flows: flows.iter().map(|flow| Flow { key: key(&flow.request), ..Flow::of(flow) }).collect(),
        key: context.fingerprint_key.clone(),
    });
    Ok(batches.map(move |batch| batch.and_then(|batch| reading.held(&batch))).boxed())
}

/// Counts the file's records by flow.
pub(in super::super) async fn count(
    table: &Arc<Table>,
    shape: &Shape,
    flows: &[Vec<KeyPattern>],
    context: &RunContext,
) -> Result<Held> {
    let looked = Looked::of(shape, flows.iter().map(Vec::as_slice));
    let mut held = Held { flows: vec![0; flows.len()], others: 0 };
    let source = source(table, None)?;
    for part in source.slices(1).await? {
        let mut batches = source.read(&part, None, context).await?;
        while let Some(batch) = batches.try_next().await? {
            for (place, record) in records(table, &looked, &batch)? {
                match owner(flows.iter().map(Vec::as_slice), &values(&place, &record)) {
                    Some(flow) => held.flows[flow] += 1,
                    None => held.others += 1,
                }
            }
        }
    }
    Ok(held)
}

fn records(table: &Table, looked: &Looked, batch: &ReadBatch) -> Result<Vec<Record>> {
    if let Some(bad) = batch.unreadable.first() {
        return Err(unreadable(table, &bad.reason));
    }
    let mut all = Vec::new();
    for row in 0..batch.records.num_rows() {
        let text = super::super::held::item(&batch.records, row);
        all.extend(looked.records(text).map_err(|reason| unreadable(table, &reason))?);
    }
    Ok(all)
}

struct Reading {
    table: Arc<Table>,
    looked: Looked,
    flows: Vec<Flow>,
    key: FingerprintKey,
}

impl Reading {
    fn held(&self, batch: &ReadBatch) -> Result<HeldBatch> {
        let mut held = Vec::new();
        let mut contents = Vec::new();
        for (place, record) in records(&self.table, &self.looked, batch)? {
            let mut values = values(&place, &record);
            let flow = owner(self.flows.iter().map(|flow| flow.constants.as_slice()), &values);
            values.remove(Shape::PLACE);
            let of = flow.map(|flow| &self.flows[flow]);
            held.push(HeldRecord { flow, fingerprint: fingerprint(&self.key, of, &values) });
            contents.push((record, of.map(|of| (of.shown.clone(), of.key.clone()))));
        }
        let (bytes, capacity) = (batch.bytes, batch.capacity);
        Ok(HeldBatch { records: held, contents: Arc::new(Contents(contents)), bytes, capacity })
    }
}

/// The columns that a flow shows, and those of its key.
type ColumnsAndKey = (BTreeSet<String>, Vec<String>);

/// What records say, each with the columns and the key of its flow.
#[derive(Debug)]
struct Contents(Vec<(Map<String, Value>, Option<ColumnsAndKey>)>);

impl Contents {
    fn of(&self, row: usize, keep: impl Fn(&ColumnsAndKey, &String) -> bool) -> Map<String, Value> {
        let Some((record, flow)) = self.0.get(row) else { return Map::new() };
        let kept = record.iter().filter(|(name, _)| flow.as_ref().is_none_or(|flow| keep(flow, name)));
        kept.map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

impl HeldContents for Contents {
    fn key(&self, row: usize) -> Map<String, Value> {
        self.of(row, |(_, key), name| key.is_empty() || key.contains(name))
    }

    fn record(&self, row: usize) -> Map<String, Value> {
        self.of(row, |(columns, _), name| columns.contains(name))
    }
}
