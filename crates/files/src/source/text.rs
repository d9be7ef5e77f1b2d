//! Batches out of the records of a text.

use super::csv::{Fields, Separator};
use super::frame::Framed;
use super::part::Position;
use arrow::error::ArrowError;
use serde_json::Value;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use whimbrel_model::Capacity;
use whimbrel_model::attribute::{Attribute, Column, Refused, Rows, raw_value};
use whimbrel_store::{Originals, ReadBatch, Unreadable};

/// How a record is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notation {
    /// An object of plain JSON.
    Json,
    /// `{"Item": {…}}` or the item alone, in DynamoDB JSON.
    DynamoDb,
    /// Fields in the header's order.
    Csv,
}

/// How much of a reason is told.
const SHOWN_CHARACTERS: usize = 200;

/// Gathers records into batches.
pub(super) struct TextBatches {
    notation: Notation,
    rows: Rows,
    text: Vec<u8>,
    ranges: Vec<Range<usize>>,
    unreadable: Vec<Unreadable>,
    /// The columns of the file's fields, and what stands between these.
    places: Vec<Option<usize>>,
    separator: Separator,
}

impl TextBatches {
    pub(super) fn new(notation: Notation, columns: &[Column]) -> Self {
        Self {
            notation,
            rows: Rows::new(columns.to_vec()),
            text: Vec::new(),
            ranges: Vec::new(),
            unreadable: Vec::new(),
            places: Vec::new(),
            separator: Separator::COMMA,
        }
    }

    /// Takes the names that a file of CSV begins with; the first column that it lacks, where it lacks one.
    pub(super) fn set_header(&mut self, names: &[String], separator: Separator) -> Result<(), String> {
        let lacking = self.rows.columns().iter().find(|column| !names.contains(&column.name));
        if let Some(column) = lacking {
            return Err(column.name.clone());
        }
        self.separator = separator;
        self.places = names.iter().map(|name| self.rows.place(name)).collect();
        Ok(())
    }

    /// Where the next record's bytes belong.
    pub(super) fn text(&mut self) -> &mut Vec<u8> {
        &mut self.text
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.ranges.len()
    }

    /// The bytes of all records.
    pub(super) fn bytes(&self) -> usize {
        self.text.len()
    }

    /// Takes the bytes behind the last record as one more.
    pub(super) fn push(&mut self, framed: Framed) {
        let start = self.ranges.last().map_or(0, |range| range.end);
        let range = start..self.text.len();
        let row = self.ranges.len();
        let record = &self.text[range.clone()];
        let read = match (framed.fault, std::str::from_utf8(record)) {
            (None, Ok(record)) => match self.notation {
                Notation::Json => self.rows.append_object(record).map_err(|error| error.to_string()),
                Notation::DynamoDb => append_item(&mut self.rows, record).map_err(|error| error.to_string()),
                Notation::Csv => append_fields(&mut self.rows, &self.places, record, self.separator),
            },
            (fault, text) => {
                self.rows.end_row();
                let is_text = text.map(|_| ()).map_err(|_| "it is not UTF-8");
                Err(fault.or(is_text.err()).unwrap_or_default().to_owned())
            }
        };
        match read {
            Ok(refused) => {
                for Refused { column, reason } in refused {
                    let column = self.rows.columns()[column].name.clone();
                    let raw = self.raw(range.clone(), &column);
                    self.unreadable.push(Unreadable { row, column, reason, raw });
                }
            }
            Err(reason) => {
                // A reason may quote what the record holds.
                let reason: String = reason.chars().take(SHOWN_CHARACTERS).collect();
                let reason = format!("the record cannot be read: {reason}");
                let raw = record.to_vec();
                self.unreadable.push(Unreadable { row, column: String::new(), reason, raw });
            }
        }
        self.ranges.push(range);
    }

    fn raw(&self, range: Range<usize>, column: &str) -> Vec<u8> {
        let record = std::str::from_utf8(&self.text[range]).unwrap_or_default();
        match self.notation {
            Notation::Json => raw_value(record, column),
            Notation::DynamoDb => raw_value(item(record).unwrap_or(record), column),
            Notation::Csv => {
                let place = self.rows.place(column);
                let number = self.places.iter().position(|of| of.is_some() && *of == place);
                let field = number.and_then(|number| Fields::of(record, self.separator).nth(number)?.ok()?);
                field.unwrap_or_default().as_bytes().to_vec()
            }
        }
    }

    /// The records so far as a batch that ends at a position.
    pub(super) fn finish(&mut self, position: &Position) -> Result<ReadBatch, ArrowError> {
        let records = self.rows.finish()?;
        let (text, ranges) = (std::mem::take(&mut self.text), std::mem::take(&mut self.ranges));
        let bytes = u64::try_from(text.len()).unwrap_or(u64::MAX);
        // The next batch will be about as large.
        self.text.reserve(text.len());
        self.ranges.reserve(ranges.len());
        Ok(ReadBatch {
            records,
            cursor: position.cursor(),
            unreadable: std::mem::take(&mut self.unreadable),
            bytes,
            capacity: Capacity::default(),
            originals: Some(Arc::new(Texts { notation: self.notation, text, ranges })),
        })
    }
}

/// The item in `{"Item": {…}}`, where it can be found by its looks; what it holds is judged when it is read.
fn item(record: &str) -> Option<&str> {
    let inner = record.trim().strip_prefix('{')?.strip_suffix('}')?;
    let value = inner.trim_start().strip_prefix("\"Item\"")?.trim_start().strip_prefix(':')?;
    Some(value.trim())
}

fn append_item(rows: &mut Rows, record: &str) -> Result<Vec<Refused>, serde_json::Error> {
    let Some(item) = item(record) else { return rows.append_item(record) };
    // An item alone may have one attribute, of that very name: its value has one name, of a type.
    if item.len() < record.len() && is_attribute(item) {
        rows.append_item(record)
    } else {
        rows.append_item(item)
    }
}

fn is_attribute(value: &str) -> bool {
    let head = value.trim_start_matches('{').trim_start();
    let tags =
        ["\"S\"", "\"N\"", "\"B\"", "\"BOOL\"", "\"NULL\"", "\"SS\"", "\"NS\"", "\"BS\"", "\"L\"", "\"M\""];
    // Only then it is worth to read it twice.
    tags.iter().any(|tag| head.starts_with(tag)) && serde_json::from_str::<Attribute<'_>>(value).is_ok()
}

fn append_fields(
    rows: &mut Rows,
    places: &[Option<usize>],
    record: &str,
    separator: Separator,
) -> Result<Vec<Refused>, String> {
    let mut number = 0;
    let mut wrong = None;
    rows.take_refused();
    for field in Fields::of(record, separator) {
        match (field, places.get(number)) {
            (Ok(Some(text)), Some(Some(place))) => rows.set_plain(*place, Attribute::S(text)),
            (Ok(_), _) => {}
            (Err(reason), _) => wrong = Some(reason.to_owned()),
        }
        number += 1;
    }
    rows.end_row();
    if wrong.is_none() && number != places.len() {
        let fields = if number == 1 { "field" } else { "fields" };
        wrong = Some(format!("it has {number} {fields}, and the header {}", places.len()));
    }
    match wrong {
        None => Ok(rows.take_refused()),
        Some(reason) => Err(reason),
    }
}

/// The records of a batch as the file holds them.
struct Texts {
    notation: Notation,
    text: Vec<u8>,
    ranges: Vec<Range<usize>>,
}

impl fmt::Debug for Texts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} records", self.ranges.len())
    }
}

impl Originals for Texts {
    fn original(&self, row: usize) -> Value {
        let record = self.ranges.get(row).and_then(|range| self.text.get(range.clone())).unwrap_or_default();
        let text = String::from_utf8_lossy(record);
        let parsed = match self.notation {
            Notation::Json => serde_json::from_str(&text).ok(),
            Notation::DynamoDb => serde_json::from_str(item(&text).unwrap_or(&text)).ok(),
            Notation::Csv => None,
        };
        parsed.unwrap_or_else(|| Value::String(text.into_owned()))
    }
}
