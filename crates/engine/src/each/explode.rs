//! One batch of parents into batches of elements.

use super::Parents;
use super::names::{Meant, Names};
use super::walk::{self, Found, Kind};
use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions, StringArray, UInt64Array,
};
use arrow::compute::take;
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use whimbrel_model::attribute::{Attribute, Column, ITEM, Reading, Rows, Values, raw_value};
use whimbrel_model::{Capacity, record};
use whimbrel_store::{Originals, ReadBatch, Result, StoreError, StoreErrorKind, Unreadable};

/// What a value of a fixed width counts for in the size of a row.
const FIXED_BYTES: usize = 8;

/// How much a batch holds at the most; one element may be larger.
#[derive(Clone, Copy, Debug)]
pub(super) struct Portion {
    pub(super) records: usize,
    pub(super) bytes: usize,
}

/// A batch of parents on its way into elements.
///
/// The last batch that it yields has the cursor of the parents' batch, and none before it has one: a checkpoint
/// never stands between two elements of one parent.
pub(super) struct Exploding {
    names: Arc<Names>,
    schema: SchemaRef,
    portion: Portion,
    parents: Arc<Parents>,
    batch: ReadBatch,
    document: ArrayRef,
    /// What of each parent could not be read.
    unreadable: BTreeMap<usize, Vec<Unreadable>>,
    /// The parent whose elements are next.
    row: usize,
    found: Vec<Found>,
    next: usize,
    is_begun: bool,
    is_over: bool,
}

/// An element in a batch of them.
#[derive(Clone, Debug)]
struct Place {
    /// The parent's row.
    row: usize,
    /// Its number among the elements of its parent.
    position: usize,
    found: Found,
}

impl Exploding {
    /// # Errors
    /// The batch lacks the column that holds the document.
    pub(super) fn new(
        names: &Arc<Names>,
        schema: &SchemaRef,
        portion: Portion,
        parents: &Arc<Parents>,
        mut batch: ReadBatch,
    ) -> Result<Self> {
        let document = batch.records.column_by_name(&names.document).map(Arc::clone);
        let document = document.ok_or_else(|| {
            names.failed(StoreErrorKind::Drift, format!("a batch has no column `{}`", names.document))
        })?;
        let mut unreadable: BTreeMap<usize, Vec<Unreadable>> = BTreeMap::new();
        for bad in std::mem::take(&mut batch.unreadable) {
            unreadable.entry(bad.row).or_default().push(bad);
        }
        let mut exploding = Self {
            names: Arc::clone(names),
            schema: Arc::clone(schema),
            portion,
            parents: Arc::clone(parents),
            document,
            unreadable,
            row: 0,
            found: Vec::new(),
            next: 0,
            is_begun: false,
            is_over: false,
            batch,
        };
        if exploding.batch.records.num_rows() > 0 {
            exploding.open();
            exploding.settle();
        }
        Ok(exploding)
    }

    /// Whether an element is left.
    fn is_left(&self) -> bool {
        self.next < self.found.len()
    }

    /// Finds the elements of the parent at `row`.
    fn open(&mut self) {
        self.next = 0;
        let whole = [self.names.document.as_str(), ""];
        let bad = self.unreadable.get(&self.row);
        self.found = match bad.and_then(|bad| bad.iter().find(|bad| whole.contains(&bad.column.as_str()))) {
            // The fault is told by the parent itself.
            Some(_) => vec![Found { bytes: 0..0, key: None, fault: Some(String::new()) }],
            None => match record::text_at(&self.document, self.row) {
                Some(text) => walk::walk(text, &self.names.each().path.steps),
                None => Vec::new(),
            },
        };
        self.parents.count(self.found.len());
    }

    /// Goes on to the next parent that has elements.
    fn settle(&mut self) {
        while !self.is_left() && self.row + 1 < self.batch.records.num_rows() {
            self.row += 1;
            self.open();
        }
    }

    /// The next batch of elements; at least one, which may be empty, so that the cursor goes on.
    pub(super) fn next_batch(&mut self) -> Result<Option<ReadBatch>> {
        if self.is_over {
            return Ok(None);
        }
        let (mut places, mut bytes) = (Vec::new(), 0);
        while self.is_left() && places.len() < self.portion.records && bytes < self.portion.bytes {
            let found = self.found[self.next].clone();
            bytes += found.bytes.len() + self.parent_bytes();
            places.push(Place { row: self.row, position: self.next, found });
            self.next += 1;
            self.settle();
        }
        self.is_over = !self.is_left();
        let (records, unreadable) = self.rows(&places)?;
        let originals = EachOriginals {
            document: Arc::clone(&self.document),
            column: self.names.document.clone(),
            parents: self.batch.originals.clone(),
            places,
        };
        let capacity = if self.is_begun { Capacity::default() } else { self.batch.capacity };
        self.is_begun = true;
        Ok(Some(ReadBatch {
            records,
            cursor: self.batch.cursor.clone().filter(|_| self.is_over),
            unreadable,
            bytes: u64::try_from(bytes).unwrap_or(u64::MAX),
            capacity,
            originals: Some(Arc::new(originals)),
        }))
    }

    /// How many bytes of the parent each of its elements repeats.
    fn parent_bytes(&self) -> usize {
        let columns = self.names.wanted.iter().filter_map(|(_, meant)| match meant {
            Meant::Parent(column) => self.batch.records.column_by_name(column),
            _ => None,
        });
        columns.map(|column| value_bytes(column, self.row)).sum()
    }

    fn text(&self, place: &Place) -> &str {
        let whole = record::text_at(&self.document, place.row).unwrap_or_default();
        whole.get(place.found.bytes.clone()).unwrap_or_default()
    }

    fn rows(&self, places: &[Place]) -> Result<(RecordBatch, Vec<Unreadable>)> {
        let broken = |error: ArrowError| {
            self.names.failed(StoreErrorKind::Internal, "elements could not be gathered").caused_by(error)
        };
        let mut fields = Rows::new(self.names.fields.clone());
        let mut whole = Values::new(self.names.element);
        let mut unreadable = Vec::new();
        for (row, place) in places.iter().enumerate() {
            self.row(row, place, &mut fields, &mut whole, &mut unreadable);
        }
        let fields = fields.finish().map_err(broken)?;
        let whole = whole.finish();
        let rows: UInt64Array = places.iter().map(|place| u64::try_from(place.row).ok()).collect();
        let column = |(_, meant): &(String, Meant)| match meant {
            Meant::Parent(column) => match self.batch.records.column_by_name(column) {
                Some(column) => take(column, &rows, None).map_err(broken),
                None => Err(self.drifted(column)),
            },
            Meant::Field(field) => match self.names.place(field) {
                Some(place) => Ok(Arc::clone(fields.column(place))),
                None => Err(self.names.failed(StoreErrorKind::Internal, format!("nobody reads `{field}`"))),
            },
            Meant::Key => {
                let keys = places.iter().map(|place| place.found.key.as_deref());
                Ok(Arc::new(keys.collect::<StringArray>()) as ArrayRef)
            }
            Meant::Position => {
                let positions = places.iter().map(|place| i64::try_from(place.position).unwrap_or(i64::MAX));
                Ok(Arc::new(positions.collect::<Int64Array>()) as ArrayRef)
            }
            Meant::Element => Ok(Arc::clone(&whole)),
        };
        let columns = self.names.wanted.iter().map(column).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(places.len()));
        let records = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options);
        Ok((records.map_err(broken)?, unreadable))
    }

    /// Adds an element. Whatever is wrong with it, it is one row.
    fn row(
        &self,
        row: usize,
        place: &Place,
        fields: &mut Rows,
        whole: &mut Values,
        unreadable: &mut Vec<Unreadable>,
    ) {
        let mut refuse = |column: &str, reason: String, raw: Vec<u8>| {
            unreadable.push(Unreadable { row, column: column.to_owned(), reason, raw });
        };
        for bad in self.unreadable.get(&place.row).into_iter().flatten() {
            let known = self.names.name_of(&Meant::Parent(bad.column.clone()));
            refuse(known.unwrap_or(&bad.column), bad.reason.clone(), bad.raw.clone());
        }
        let path = &self.names.each().text;
        if let Some(fault) = &place.found.fault {
            if !fault.is_empty() {
                refuse("", format!("`{path}` cannot be followed: {fault}"), Vec::new());
            }
            fields.end_row();
            whole.append_null();
            return;
        }
        let text = self.text(place);
        let position = place.position;
        if let Err(reason) = append_whole(whole, self.names.element, text) {
            refuse(self.names.name_of(&Meant::Element).unwrap_or_default(), reason, text.into());
        }
        let columns: &[Column] = &self.names.fields;
        match walk::kind(text) {
            Kind::Object => match fields.append_object(text) {
                Ok(refused) => {
                    for refused in refused {
                        let field = &columns[refused.column].name;
                        let name = self.names.name_of(&Meant::Field(field.clone())).unwrap_or(field);
                        refuse(name, refused.reason, raw_value(text, field));
                    }
                }
                Err(error) => refuse("", format!("element {position} of `{path}`: {error}"), Vec::new()),
            },
            kind => {
                fields.end_row();
                if !columns.is_empty() {
                    let reason = format!("element {position} of `{path}` is {kind}, which has no fields");
                    refuse("", reason, Vec::new());
                }
            }
        }
    }

    fn drifted(&self, column: &str) -> StoreError {
        self.names.failed(StoreErrorKind::Drift, format!("a batch has no column `{column}`"))
    }
}

/// Adds an element as a whole; as a document it stays as it is written, null too.
fn append_whole(values: &mut Values, reading: Reading, text: &str) -> std::result::Result<(), String> {
    if reading == Reading::Json {
        values.append_text(text);
        return Ok(());
    }
    let appended = Attribute::of_plain(text).map_err(|error| error.to_string());
    let appended = appended.and_then(|attribute| values.append(reading, &attribute));
    if appended.is_err() {
        values.append_null();
    }
    appended
}

/// The size of a value.
fn value_bytes(column: &ArrayRef, row: usize) -> usize {
    if column.is_null(row) {
        return 0;
    }
    match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().value_length(row).try_into().unwrap_or(0),
        DataType::Binary => column.as_binary::<i32>().value_length(row).try_into().unwrap_or(0),
        DataType::LargeUtf8 => column.as_string::<i64>().value_length(row).try_into().unwrap_or(0),
        DataType::LargeBinary => column.as_binary::<i64>().value_length(row).try_into().unwrap_or(0),
        DataType::Utf8View => column.as_string_view().value(row).len(),
        DataType::List(_) => column.as_list::<i32>().value(row).get_array_memory_size(),
        _ => FIXED_BYTES,
    }
}

/// Elements whole, with what their parents' columns do not show.
#[derive(Debug)]
struct EachOriginals {
    document: ArrayRef,
    /// The column that holds the document.
    column: String,
    parents: Option<Arc<dyn Originals>>,
    places: Vec<Place>,
}

impl Originals for EachOriginals {
    fn original(&self, row: usize) -> Value {
        let Some(Place { row, position, found }) = self.places.get(row) else { return Value::Null };
        let mut original = Map::new();
        original.insert("position".to_owned(), (*position).into());
        if let Some(text) = element(&self.document, *row, found.bytes.clone()).filter(|text| !text.is_empty())
        {
            // What holds a key twice would lose one of them as a value.
            let whole = whimbrel_model::json::parse(text).unwrap_or_else(|_| text.into());
            original.insert("element".to_owned(), whole);
        }
        if let Some(parents) = &self.parents
            && self.column != ITEM
        {
            let mut parent = parents.original(*row);
            if let Value::Object(members) = &mut parent
                && !found.bytes.is_empty()
            {
                // Its siblings are records of their own.
                members.remove(&self.column);
            }
            original.insert("parent".to_owned(), parent);
        }
        Value::Object(original)
    }
}

fn element(document: &ArrayRef, row: usize, bytes: Range<usize>) -> Option<&str> {
    record::text_at(document, row)?.get(bytes)
}
