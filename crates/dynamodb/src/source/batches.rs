//! Batches out of pages: items decoded straight into columns, and where batches are cut.
//!
//! A cursor is a key: that of the last item of its batch, or the one that the service gave behind the batch's
//! last page. A scan goes on behind any key, whether or not its item is still there, so that nothing depends
//! on where pages are cut, and items that come and go meanwhile move nobody else's place.

use super::page::Page;
use super::plan::Plan;
use crate::types::read::{Attribute, Place, Reading, Text, Values, dynamodb_json};
use arrow::array::RecordBatch;
use serde::de::{Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use whimbrel_model::{Capacity, Cursor};
use whimbrel_store::{Originals, ReadBatch, Unreadable};

/// A batch that is older than this when a page ends is not held back to be filled.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// The name under which a cursor keeps its key.
const AFTER: &str = "after";

/// An answer that cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum BatchError {
    #[error("an item is not as DynamoDB writes it")]
    Item(#[from] serde_json::Error),
    #[error("an item lacks its key attribute `{0}`")]
    NoKey(String),
    #[error("the columns do not fit together")]
    Arrow(#[from] arrow::error::ArrowError),
}

/// Makes batches.
pub(super) struct Batches {
    plan: Arc<Plan>,
    max_records: usize,
    max_bytes: usize,
    /// Which column an attribute is.
    places: HashMap<String, usize>,
    values: Vec<Values>,
    rows: Vec<(Arc<Page>, usize)>,
    /// Of the rows: their text's bytes.
    bytes: usize,
    unreadable: Vec<Unreadable>,
    capacity: Capacity,
    since: Instant,
    /// The key behind the last page that was taken in whole.
    behind: Option<Map<String, Value>>,
    /// The page at hand and its next item.
    page: Option<(Arc<Page>, usize)>,
}

impl Batches {
    pub(super) fn new(plan: &Arc<Plan>, max_records: usize, max_bytes: usize) -> Self {
        let named = plan.columns.iter().enumerate().filter(|(_, column)| column.reading != Reading::Item);
        Self {
            places: named.map(|(place, column)| (column.name.clone(), place)).collect(),
            values: plan.columns.iter().map(|column| Values::new(column.reading)).collect(),
            plan: Arc::clone(plan),
            max_records: max_records.max(1),
            max_bytes: max_bytes.max(1),
            rows: Vec::new(),
            bytes: 0,
            unreadable: Vec::new(),
            capacity: Capacity::default(),
            since: Instant::now(),
            behind: None,
            page: None,
        }
    }

    /// Takes a page; the one before must have been worked off.
    pub(super) fn push(&mut self, page: Page) {
        self.capacity.read_units += page.read_units.unwrap_or(0.0);
        self.page = Some((Arc::new(page), 0));
    }

    /// The next batch that the pages so far fill.
    ///
    /// # Errors
    /// An item cannot be read.
    pub(super) fn next(&mut self) -> Result<Option<ReadBatch>, BatchError> {
        let Some((page, mut number)) = self.page.take() else { return Ok(None) };
        while number < page.len() {
            let item = page.item(number);
            let is_full = self.rows.len() >= self.max_records || self.bytes + item.len() > self.max_bytes;
            if is_full && !self.rows.is_empty() {
                self.page = Some((page, number));
                let key = self.key_of_last()?;
                return self.finish(&key).map(Some);
            }
            self.append(item)?;
            self.rows.push((Arc::clone(&page), number));
            number += 1;
        }
        self.behind = match &page.last_key {
            Some(key) => Some(key.clone()),
            None if self.rows.is_empty() => None,
            None => Some(self.key_of_last()?),
        };
        let is_large = self.rows.len() * 2 >= self.max_records || self.bytes * 2 >= self.max_bytes;
        let is_old = self.since.elapsed() >= LONGEST_WAIT;
        if is_large || is_old || page.last_key.is_none() { self.rest() } else { Ok(None) }
    }

    /// What is left, as a batch; `None` where nothing is.
    ///
    /// # Errors
    /// The columns do not fit together.
    pub(super) fn rest(&mut self) -> Result<Option<ReadBatch>, BatchError> {
        match self.behind.take() {
            Some(key) if !self.rows.is_empty() => self.finish(&key).map(Some),
            _ => Ok(None),
        }
    }

    fn append(&mut self, item: &str) -> Result<(), BatchError> {
        let row = self.rows.len();
        if row == 0 {
            self.since = Instant::now();
        }
        self.bytes += item.len();
        let mut refused = Vec::new();
        let mut deserializer = serde_json::Deserializer::from_str(item);
        let seen = deserializer.deserialize_map(ItemVisitor {
            plan: &self.plan,
            places: &self.places,
            values: &mut self.values,
            refused: &mut refused,
        })?;
        for (place, reason) in refused {
            let column = self.plan.columns[place].name.clone();
            let raw = raw(item, &column)?;
            self.unreadable.push(Unreadable { row, column, reason, raw });
        }
        for (place, column) in self.plan.columns.iter().enumerate() {
            match column.reading {
                Reading::Item => self.values[place].append_text(&dynamodb_json(item)?),
                _ if seen.holds(place) => {}
                _ if self.plan.schema.field(place).is_nullable() => self.values[place].append_null(),
                _ => return Err(BatchError::NoKey(column.name.clone())),
            }
        }
        Ok(())
    }

    fn key_of_last(&self) -> Result<Map<String, Value>, BatchError> {
        let item = self.rows.last().map_or("{}", |(page, number)| page.item(*number));
        let attributes: HashMap<Text<'_>, &RawValue> = serde_json::from_str(item)?;
        let attribute = |name: &String| {
            let raw = attributes.get(&Text(name.as_str().into()));
            let raw = raw.ok_or_else(|| BatchError::NoKey(name.clone()))?;
            Ok((name.clone(), serde_json::from_str(raw.get())?))
        };
        self.plan.cursor_key.iter().map(attribute).collect()
    }

    fn finish(&mut self, after: &Map<String, Value>) -> Result<ReadBatch, BatchError> {
        let columns = self.values.iter_mut().map(Values::finish).collect();
        let records = RecordBatch::try_new(Arc::clone(&self.plan.schema), columns)?;
        let items = Items(std::mem::take(&mut self.rows));
        let cursor = Map::from_iter([(AFTER.to_owned(), Value::Object(after.clone()))]);
        Ok(ReadBatch {
            records,
            cursor: Some(Cursor(Value::Object(cursor))),
            unreadable: std::mem::take(&mut self.unreadable),
            bytes: u64::try_from(std::mem::take(&mut self.bytes)).unwrap_or(u64::MAX),
            capacity: std::mem::take(&mut self.capacity),
            originals: Some(Arc::new(items)),
        })
    }
}

/// The key that a cursor holds; `None` where it is of another source.
pub(super) fn after(cursor: &Cursor) -> Option<&Map<String, Value>> {
    cursor.0.get(AFTER)?.as_object()
}

/// The items of a batch, as stretches of the pages that they came in.
struct Items(Vec<(Arc<Page>, usize)>);

impl fmt::Debug for Items {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} items", self.0.len())
    }
}

impl Originals for Items {
    fn original(&self, row: usize) -> Value {
        let item = self.0.get(row).map_or("", |(page, number)| page.item(*number));
        serde_json::from_str(item).unwrap_or(Value::Null)
    }
}

/// The attribute of an item as the service wrote it.
fn raw(item: &str, column: &str) -> Result<Vec<u8>, serde_json::Error> {
    let attributes: HashMap<Text<'_>, &RawValue> = serde_json::from_str(item)?;
    let raw = attributes.get(&Text(column.into()));
    Ok(raw.map(|raw| raw.get().as_bytes().to_vec()).unwrap_or_default())
}

/// The columns that an item had a value for.
struct Seen(Vec<u64>);

impl Seen {
    fn none(columns: usize) -> Self {
        Self(vec![0; columns.div_ceil(64)])
    }

    fn holds(&self, place: usize) -> bool {
        self.0[place / 64] & (1 << (place % 64)) != 0
    }

    fn add(&mut self, place: usize) {
        self.0[place / 64] |= 1 << (place % 64);
    }
}

/// Decodes the attributes that are columns and passes over the others.
struct ItemVisitor<'a> {
    plan: &'a Plan,
    places: &'a HashMap<String, usize>,
    values: &'a mut [Values],
    refused: &'a mut Vec<(usize, String)>,
}

impl<'de> Visitor<'de> for ItemVisitor<'_> {
    type Value = Seen;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an item")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Seen, A::Error> {
        let mut seen = Seen::none(self.values.len());
        while let Some(place) = map.next_key_seed(Place(self.places))? {
            let Some(place) = place else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let attribute: Attribute<'de> = map.next_value()?;
            if seen.holds(place) {
                return Err(serde::de::Error::custom("an item that holds a name twice"));
            }
            seen.add(place);
            if let Err(reason) = self.values[place].append(self.plan.columns[place].reading, &attribute) {
                self.values[place].append_null();
                self.refused.push((place, reason));
            }
        }
        Ok(seen)
    }
}
