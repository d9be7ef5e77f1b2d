//! Rows of columns, out of the text of records.

use super::ITEM;
use super::column::{Reading, Values};
use super::value::{Attribute, Text, dynamodb_json};
use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use serde::de::{DeserializeSeed, Deserializer as _, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// A column and how it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name; an attribute's name, but for [`ITEM`].
    pub name: String,
    /// How it is read.
    pub reading: Reading,
}

impl Column {
    /// The column of this name, as the spec declares it; `None`: there is no such word.
    #[must_use]
    pub fn declared(name: &str, word: Option<&str>) -> Option<Self> {
        let reading = match word {
            _ if name == ITEM => Reading::Item,
            Some(word) => Reading::declared(word)?,
            None => Reading::Text,
        };
        Some(Self { name: name.to_owned(), reading })
    }
}

/// A value that its column does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which column.
    pub column: usize,
    /// Why, in a sentence.
    pub reason: String,
}

/// Takes records one by one into columns. A record always adds one row: what could not be read of it is NULL.
#[derive(Debug)]
pub struct Rows {
    schema: SchemaRef,
    columns: Vec<Column>,
    places: HashMap<String, usize>,
    /// The names of the record before, in order: the next one's are mostly the same.
    expected: Vec<(String, Option<usize>)>,
    values: Vec<Values>,
    seen: Vec<bool>,
    refused: Vec<Refused>,
    item: Option<usize>,
    len: usize,
}

/// How many names of a record are remembered to be expected in the next.
const EXPECTED_NAMES: usize = 256;

impl Rows {
    /// None yet. Every column can be NULL.
    #[must_use]
    pub fn new(columns: Vec<Column>) -> Self {
        let fields = columns.iter().map(|column| column.reading.field(&column.name, true));
        let schema = Arc::new(Schema::new(fields.collect::<Vec<Field>>()));
        let named = columns.iter().enumerate().filter(|(_, column)| column.reading != Reading::Item);
        Self {
            schema,
            places: named.map(|(place, column)| (column.name.clone(), place)).collect(),
            expected: Vec::new(),
            values: columns.iter().map(|column| Values::new(column.reading)).collect(),
            seen: vec![false; columns.len()],
            refused: Vec::new(),
            item: columns.iter().position(|column| column.reading == Reading::Item),
            columns,
            len: 0,
        }
    }

    /// The columns' fields.
    #[must_use]
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The columns.
    #[must_use]
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The place of a column; `None` where nobody reads it.
    #[must_use]
    pub fn place(&self, name: &str) -> Option<usize> {
        self.places.get(name).copied()
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds an item of DynamoDB JSON, `{"name": {"S": "value"}}`; answers with what its columns do not hold.
    ///
    /// # Errors
    /// It is no item; what was read before the fault stays in its row.
    pub fn append_item(&mut self, item: &str) -> Result<Vec<Refused>, serde_json::Error> {
        let read = self.visit(item, Notation::DynamoDb).and_then(|()| {
            self.item.map_or(Ok(()), |place| dynamodb_json(item).map(|text| self.whole(place, &text)))
        });
        self.end_row();
        read.map(|()| std::mem::take(&mut self.refused))
    }

    /// Adds an object of plain JSON; answers with what its columns do not hold.
    ///
    /// # Errors
    /// It is no object; what was read before the fault stays in its row.
    pub fn append_object(&mut self, object: &str) -> Result<Vec<Refused>, serde_json::Error> {
        let read = self.visit(object, Notation::Plain);
        if let (Some(place), Ok(())) = (self.item, &read) {
            self.whole(place, object.trim());
        }
        self.end_row();
        read.map(|()| std::mem::take(&mut self.refused))
    }

    /// Sets a column of the row that [`Rows::end_row`] will end; a column that was set before stays as it is.
    pub fn set(&mut self, place: usize, attribute: &Attribute<'_>) {
        if !self.seen[place] {
            self.seen[place] = true;
            if let Err(reason) = self.values[place].append(self.columns[place].reading, attribute) {
                self.values[place].append_null();
                self.refused.push(Refused { column: place, reason });
            }
        }
    }

    /// The same for a value of plain JSON or of CSV, which have no bytes: where they are declared, text is base64.
    pub fn set_plain(&mut self, place: usize, attribute: Attribute<'_>) {
        match (attribute, self.columns[place].reading) {
            (Attribute::S(text), Reading::Binary) => self.set(place, &Attribute::B(text)),
            (attribute, _) => self.set(place, &attribute),
        }
    }

    /// What the columns did not hold of the row since the last call.
    pub fn take_refused(&mut self) -> Vec<Refused> {
        std::mem::take(&mut self.refused)
    }

    /// Ends a row: columns that were not set are NULL.
    pub fn end_row(&mut self) {
        for (seen, values) in self.seen.iter_mut().zip(&mut self.values) {
            if !std::mem::take(seen) {
                values.append_null();
            }
        }
        self.len += 1;
    }

    /// The rows so far as a batch; begins anew.
    ///
    /// # Errors
    /// The columns do not fit together, which no record brings about.
    pub fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        let columns: Vec<ArrayRef> = self.values.iter_mut().map(Values::finish).collect();
        let rows =
            arrow::array::RecordBatchOptions::new().with_row_count(Some(std::mem::take(&mut self.len)));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &rows)
    }

    fn whole(&mut self, place: usize, text: &str) {
        self.seen[place] = true;
        self.values[place].append_text(text);
    }

    fn visit(&mut self, text: &str, notation: Notation) -> Result<(), serde_json::Error> {
        self.refused.clear();
        let mut deserializer = serde_json::Deserializer::from_str(text);
        deserializer.deserialize_map(RecordVisitor { rows: self, notation })?;
        deserializer.end()
    }
}

#[derive(Clone, Copy)]
enum Notation {
    DynamoDb,
    Plain,
}

/// Decodes what is a column and passes over the rest.
struct RecordVisitor<'r> {
    rows: &'r mut Rows,
    notation: Notation,
}

impl<'de> Visitor<'de> for RecordVisitor<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record with names and values")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { rows, notation } = self;
        let mut number = 0;
        while let Some(place) =
            map.next_key_seed(Name { places: &rows.places, expected: &mut rows.expected, number })?
        {
            number += 1;
            let Some(place) = place else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            if rows.seen[place] {
                let name = &rows.columns[place].name;
                return Err(A::Error::custom(format_args!("the name {name:?} stands twice in one record")));
            }
            match notation {
                Notation::DynamoDb => rows.set(place, &map.next_value::<Attribute<'de>>()?),
                Notation::Plain => {
                    let raw: &'de RawValue = map.next_value()?;
                    rows.set_plain(place, Attribute::of_plain(raw.get()).map_err(A::Error::custom)?);
                }
            }
        }
        Ok(())
    }
}

/// A name, as the place of its column.
struct Name<'a> {
    places: &'a HashMap<String, usize>,
    expected: &'a mut Vec<(String, Option<usize>)>,
    number: usize,
}

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Option<usize>;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Option<usize>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Option<usize>, E> {
        if let Some((_, place)) = self.expected.get(self.number).filter(|(expected, _)| expected == name) {
            return Ok(*place);
        }
        let place = self.places.get(name).copied();
        if self.number < EXPECTED_NAMES {
            self.expected.truncate(self.number);
            self.expected.push((name.to_owned(), place));
        }
        Ok(place)
    }
}

/// The text of one value of a record of DynamoDB JSON or plain JSON; empty where there is none of that name.
#[must_use]
pub fn raw_value(record: &str, name: &str) -> Vec<u8> {
    let values: Result<HashMap<Text<'_>, &RawValue>, _> = serde_json::from_str(record);
    let raw = values.ok().and_then(|values| values.get(&Text(name.into())).map(|raw| raw.get().into()));
    raw.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record;
    use serde_json::{Value, json};

    fn rows(columns: &[(&str, Option<&str>)]) -> Rows {
        Rows::new(columns.iter().map(|(name, word)| Column::declared(name, *word).unwrap()).collect())
    }

    fn finished(mut rows: Rows) -> Vec<Value> {
        let batch = rows.finish().unwrap();
        (0..batch.num_rows()).map(|row| Value::Object(record::to_json(&batch, row))).collect()
    }

    #[test]
    fn both_notations_fill_the_same_columns() {
        let mut rows = rows(&[("a", None), ("n", Some("number")), ("_item", None)]);
        let digits = "12345678901234567890123456789012345678";
        let item =
            format!(r#"{{"x":{{"L":[]}},"n":{{"N":"{digits}"}},"a":{{"M":{{"b":{{"BOOL":true}}}}}}}}"#);
        assert_eq!(rows.append_item(&item).unwrap(), []);
        let object = format!(r#" {{"x":[],"n":{digits},"a":{{"z":1.0, "b":true}}}} "#);
        assert_eq!(rows.append_object(&object).unwrap(), []);
        let read = finished(rows);
        assert_eq!(read[0]["n"], json!(digits));
        assert_eq!(read[0]["a"], json!(r#"{"b":true}"#));
        assert_eq!(read[1]["n"], json!(digits));
        assert_eq!(read[1]["a"], json!(r#"{"z":1.0, "b":true}"#), "a document stays as it was written");
        assert_eq!(read[1]["_item"], json!(object.trim()));
        assert!(read[0]["_item"].as_str().unwrap().starts_with(r#"{"a":{"M""#), "the names are sorted");
    }

    #[test]
    fn bytes_of_plain_json_are_base64() {
        let mut rows = rows(&[("b", Some("binary"))]);
        assert_eq!(rows.append_object(r#"{"b":"AP8="}"#).unwrap(), []);
        assert_eq!(rows.append_object(r#"{"b":"no base64!"}"#).unwrap().len(), 1);
        assert_eq!(rows.append_object(r#"{"b":7}"#).unwrap().len(), 1);
        // DynamoDB has bytes of its own.
        assert_eq!(rows.append_item(r#"{"b":{"S":"AP8="}}"#).unwrap().len(), 1);
        assert_eq!(finished(rows)[0]["b"], json!("AP8="));
    }

    #[test]
    fn a_bad_record_is_still_one_row() {
        let mut rows = rows(&[("a", None), ("n", Some("integer"))]);
        assert!(rows.append_item(r#"{"a":{"S":"1"},"n":{"N":"#).is_err());
        assert!(rows.append_object(r#"{"a":"2","a":"3"}"#).is_err());
        assert!(rows.append_object("[1]").is_err());
        assert!(rows.append_object(r#"{"a":"4"} {"a":"5"}"#).is_err());
        let refused = rows.append_object(r#"{"n":1.5,"a":null}"#).unwrap();
        assert_eq!((refused.len(), refused[0].column), (1, 1));
        assert!(rows.append_object(r#"{"b":1,"n":"7","a":"ü"}"#).unwrap().is_empty());
        let read = finished(rows);
        assert_eq!(read.len(), 6);
        assert_eq!(read[4], json!({"a": null, "n": null}));
        assert_eq!(read[5], json!({"a": "ü", "n": 7}));
    }

    #[test]
    fn names_may_come_in_any_order() {
        let mut rows = rows(&[("a", None), ("b", None)]);
        for text in [r#"{"a":"1","b":"2"}"#, r#"{"b":"2","a":"1"}"#, r#"{"c":0,"a":"1","b":"2"}"#] {
            rows.append_object(text).unwrap();
        }
        assert!(finished(rows).iter().all(|row| *row == json!({"a": "1", "b": "2"})));
    }

    #[test]
    fn one_value_can_be_had_as_it_was_written() {
        assert_eq!(raw_value(r#"{"a":{"S":"x"},"b":{"N":"1"}}"#, "b"), br#"{"N":"1"}"#);
        assert_eq!(raw_value("{", "b"), b"");
    }
}
