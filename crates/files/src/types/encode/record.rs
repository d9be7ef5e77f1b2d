//! Records as a file holds them, with their fingerprints.
//!
//! A fingerprint is taken over what the file holds: in JSON a timestamp is a text, in CSV a number too; in Parquet and
//! Arrow IPC a timestamp is its instant, and a vector of 32-bit floats its bits. Columns count by name, sorted; a NULL is
//! none of them, since a file does not tell it from what is missing.

use super::cells::{Cells, Form, Writing, csv_text, quoted};
use super::ready::{Ready, heads};
use super::text::TextBuffer;
use super::whole::Whole;
use crate::format::Format;
use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value};
use whimbrel_model::attribute::{Attribute, ITEM, Text};
use whimbrel_model::canonical::{Canonical, Name};
use whimbrel_model::fingerprint::Fingerprints;
use whimbrel_model::forms::Forms;
use whimbrel_model::piece::Piece;
use whimbrel_model::{Fingerprint, FingerprintKey, Stage, json};
use whimbrel_store::{Nulls, Refusal};

/// Encodes the records of a batch.
pub(crate) struct Encoder {
    writing: Writing,
    nulls: Nulls,
    columns: Vec<(String, Cells)>,
    /// The columns whose texts are made.
    ready: Vec<Option<Ready>>,
    /// Each column's name as a string of JSON in front of a colon, behind a comma and as the first.
    heads: Vec<[Piece; 2]>,
    /// Each column's name in canonical form.
    names: Vec<Name>,
    /// The columns that count in a fingerprint, by name.
    compared: Vec<usize>,
    /// Those that are a record's key; empty: the whole record is.
    key: Vec<usize>,
    /// A column that does not stand in the record, and whether it stands elsewhere as text.
    apart: Option<(usize, bool)>,
    rows: usize,
    fingerprint_key: FingerprintKey,
    scratch: Scratch,
}

/// What the record under way needs; kept, so that no record takes memory of its own.
#[derive(Default)]
struct Scratch {
    /// How each column's value counts; those that are ready have no say.
    forms: Vec<Form>,
    /// Canonical forms that were made aside.
    aside: Canonical,
    /// The whole record, where it is one value.
    item: Option<Canonical>,
}

/// Which columns make fingerprints.
#[derive(Clone, Debug)]
pub(crate) struct Compared<'a> {
    pub(crate) key: &'a [String],
    pub(crate) ignore: &'a [String],
}

impl Encoder {
    pub(crate) fn new(
        format: Format,
        nulls: Nulls,
        compared: &Compared<'_>,
        batch: &RecordBatch,
        fingerprint_key: &FingerprintKey,
    ) -> Result<Self, ArrowError> {
        let schema = batch.schema_ref();
        let cells = schema.fields().iter().zip(batch.columns());
        let cells = cells.map(|(field, column)| Ok((field.name().clone(), Cells::new(field, column)?)));
        let columns = cells.collect::<Result<Vec<(String, Cells)>, ArrowError>>()?;
        let writing = match format {
            Format::Json | Format::NdJson => Writing::Json,
            Format::DynamoDbJson => Writing::DynamoDb,
            Format::Csv => Writing::Csv,
            Format::Parquet | Format::Arrow => Writing::Typed,
        };
        let names = columns.iter().map(|(name, _)| Name::new(name)).collect();
        let heads = columns.iter().map(|(name, _)| heads(name, writing)).collect();
        let place = |name: &String| columns.iter().position(|(column, _)| column == name);
        let mut places: Vec<usize> = (0..columns.len()).collect();
        places.retain(|place| !compared.ignore.contains(&columns[*place].0));
        places.sort_unstable_by_key(|place| &columns[*place].0);
        let mut key: Vec<usize> = compared.key.iter().filter_map(place).collect();
        key.sort_unstable_by_key(|place| &columns[*place].0);
        Ok(Self {
            writing,
            nulls,
            compared: places,
            key,
            apart: None,
            rows: batch.num_rows(),
            ready: columns.iter().map(|_| None).collect(),
            scratch: Scratch { forms: vec![Form::Nothing; columns.len()], ..Scratch::default() },
            columns,
            heads,
            names,
            fingerprint_key: fingerprint_key.clone(),
        })
    }

    /// Makes the texts of all columns of which that can be done at once.
    fn make_ready(&mut self) {
        if self.columns.iter().any(|(name, _)| name == ITEM) {
            return;
        }
        let apart = self.apart.map(|(place, _)| place);
        let made = self.columns.iter().enumerate().map(|(place, (_, cells))| {
            if apart == Some(place) { None } else { Ready::new(cells, self.writing) }
        });
        self.ready = made.collect();
    }

    /// What puts the records together, where all columns are ready; they are taken then.
    fn whole(&mut self, behind: &str) -> Option<Whole> {
        if !self.ready.iter().all(Option::is_some) {
            return None;
        }
        let ready: Vec<_> = std::mem::take(&mut self.ready).into_iter().flatten().collect();
        let shows_null = self.nulls == Nulls::Null || self.writing == Writing::Csv;
        let named = |places: &[usize]| {
            Forms::maps(places.iter().map(|place| ready[*place].values(&self.names[*place])).collect())
        };
        let key = if self.key.is_empty() { &self.compared } else { &self.key };
        let counted = [named(key), named(&self.compared)];
        Some(Whole::new(self.writing, shows_null, &self.heads, ready, behind, counted))
    }

    /// Leaves a column out of the records' text, which [`Encoder::append_apart`] writes: as the string that is its
    /// text, or as it is. It must not be NULL.
    pub(crate) fn apart(self, column: &str, as_text: bool) -> Self {
        let place = self.columns.iter().position(|(name, _)| name == column);
        Self { apart: place.map(|place| (place, as_text)), ..self }
    }

    /// Appends what stands apart from a record, as JSON.
    ///
    /// # Errors
    /// There is no such value.
    pub(crate) fn append_apart(&self, row: usize, into: &mut TextBuffer) -> Result<(), Refusal> {
        let Some((place, as_text)) = self.apart else { return Ok(()) };
        let appended = self.apart_value(place, as_text, row, into);
        appended.map(drop).map_err(|reason| Refusal { stage: Stage::Convert, reason })
    }

    fn apart_value(
        &self,
        place: usize,
        as_text: bool,
        row: usize,
        into: &mut TextBuffer,
    ) -> Result<Canonical, String> {
        let (name, cells) = &self.columns[place];
        if cells.is_null(row) {
            return Err(format!("`{name}` is NULL, and tells in which document the record stands"));
        }
        let mut canonical = Canonical::default();
        if as_text {
            let mut text = TextBuffer::default();
            cells.append(row, Writing::Csv, &mut text, &mut Canonical::default())?;
            canonical.text(text.as_str());
            quoted(text.as_str(), into);
        } else {
            cells.append(row, Writing::Json, into, &mut canonical)?;
        }
        Ok(canonical)
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Appends a record, without what separates it from others.
    ///
    /// # Errors
    /// The record has no place in the format; nothing is appended.
    pub(crate) fn append(&mut self, row: usize, into: &mut TextBuffer) -> Result<Fingerprint, Refusal> {
        let mut fingerprints = Fingerprints::new(&self.fingerprint_key, 1);
        self.append_later(row, into, &mut fingerprints)?;
        fingerprints.finish().pop().ok_or_else(lost)
    }

    /// Appends every record, and `behind` each that has a place in the format, which is text.
    pub(crate) fn all(&mut self, into: &mut TextBuffer, behind: &str) -> Vec<Result<Fingerprint, Refusal>> {
        self.make_ready();
        if let Some(whole) = self.whole(behind) {
            whole.append(self.rows, into);
            return whole.fingerprints(self.rows, &self.fingerprint_key);
        }
        self.singly(|encoder, row, fingerprints| {
            encoder.append_later(row, into, fingerprints)?;
            into.push_str(behind);
            Ok(())
        })
    }

    /// The fingerprints of every record alone.
    pub(crate) fn fingerprints(&mut self) -> Vec<Result<Fingerprint, Refusal>> {
        self.make_ready();
        if let Some(whole) = self.whole("") {
            return whole.fingerprints(self.rows, &self.fingerprint_key);
        }
        let mut unused = TextBuffer::default();
        self.singly(|encoder, row, fingerprints| {
            unused.clear();
            encoder.append_later(row, &mut unused, fingerprints)
        })
    }

    /// Record by record, each of which may be refused.
    fn singly(
        &mut self,
        mut write: impl FnMut(&mut Self, usize, &mut Fingerprints) -> Result<(), Refusal>,
    ) -> Vec<Result<Fingerprint, Refusal>> {
        let mut fingerprints = Fingerprints::new(&self.fingerprint_key, self.rows);
        let mut refused = Vec::new();
        for row in 0..self.rows {
            if let Err(refusal) = write(self, row, &mut fingerprints) {
                refused.push((row, refusal));
            }
        }
        let mut fingerprints = fingerprints.finish().into_iter();
        let mut refused = refused.into_iter().peekable();
        let settled = |row| match refused.next_if(|(at, _)| *at == row) {
            Some((_, refusal)) => Err(refusal),
            None => fingerprints.next().ok_or_else(lost),
        };
        (0..self.rows).map(settled).collect()
    }

    /// Appends a record whose fingerprint is taken with those of others.
    ///
    /// # Errors
    /// As [`Encoder::append`].
    fn append_later(
        &mut self,
        row: usize,
        into: &mut TextBuffer,
        fingerprints: &mut Fingerprints,
    ) -> Result<(), Refusal> {
        let started = into.len();
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.item = None;
        let written = self.write(row, into, &mut scratch);
        match (&written, &scratch.item) {
            (Err(_), _) => into.truncate(started),
            (Ok(()), Some(item)) => fingerprints.push(item, item),
            (Ok(()), None) => {
                let key = if self.key.is_empty() { &self.compared } else { &self.key };
                let form = |columns: &[usize], form: &mut Canonical| {
                    self.append_forms(columns, row, &scratch, form);
                };
                fingerprints.push_made(|made| form(key, made), |made| form(&self.compared, made));
            }
        }
        self.scratch = scratch;
        written.map_err(|reason| Refusal { stage: Stage::Convert, reason })
    }

    /// Appends a record's text, and tells how its values count.
    fn write(&self, row: usize, into: &mut TextBuffer, scratch: &mut Scratch) -> Result<(), String> {
        match self.item(row) {
            Some(item) if self.writing == Writing::Json => {
                scratch.item = Some(self.append_object(item, into)?);
            }
            Some(item) => scratch.item = Some(self.append_item(item, into)?),
            None => self.append_columns(row, into, scratch)?,
        }
        Ok(())
    }

    /// The whole record, where it is the one column of a format that holds records as objects.
    fn item(&self, row: usize) -> Option<&str> {
        match self.columns.as_slice() {
            [(name, Cells::Json(texts) | Cells::Text(texts))]
                if name == ITEM
                    && matches!(self.writing, Writing::DynamoDb | Writing::Json)
                    && !self.columns[0].1.is_null(row) =>
            {
                Some(texts.value(row))
            }
            _ => None,
        }
    }

    fn append_item(&self, item: &str, into: &mut TextBuffer) -> Result<Canonical, String> {
        let wrong = |error: serde_json::Error| format!("`{ITEM}` is no item of DynamoDB JSON: {error}");
        let value: std::collections::BTreeMap<Text<'_>, Attribute<'_>> =
            serde_json::from_str(item).map_err(wrong)?;
        let mut whole = Canonical::default();
        whole.map(value.len());
        for (Text(name), attribute) in &value {
            whole.key(name);
            canonical_attribute(&mut whole, attribute)?;
        }
        into.push_str("{\"Item\":");
        into.push_str(item);
        into.push('}');
        Ok(whole)
    }

    /// An object of plain JSON as it is, on one line.
    fn append_object(&self, object: &str, into: &mut TextBuffer) -> Result<Canonical, String> {
        let value = json::parse(object).map_err(|error| format!("`{ITEM}` is no JSON: {error}"))?;
        let Value::Object(entries) = value else { return Err(format!("`{ITEM}` is no object of JSON")) };
        let one = |(name, value): (&'_ String, &Value)| {
            let mut canonical = Canonical::default();
            canonical.json(value);
            (name.clone(), canonical)
        };
        let mut values: Vec<(String, Canonical)> = entries.iter().map(one).collect();
        values.sort_unstable_by(|(left, _), (right, _)| left.cmp(right));
        let whole = joined(&values.iter().map(|(name, value)| (name.as_str(), value)).collect::<Vec<_>>());
        if object.contains(['\n', '\r']) {
            into.push_str(&object.replace(['\n', '\r'], " "));
        } else {
            into.push_str(object);
        }
        Ok(whole)
    }

    fn append_columns(&self, row: usize, into: &mut TextBuffer, scratch: &mut Scratch) -> Result<(), String> {
        let [opening, closing] = around_record(self.writing);
        into.push_str(opening);
        let Scratch { forms, aside, .. } = scratch;
        aside.clear();
        let mut is_first = true;
        for (place, ((name, cells), ready)) in self.columns.iter().zip(&self.ready).enumerate() {
            if let Some(ready) = ready
                && !ready.is_null(row)
            {
                if self.writing != Writing::Typed {
                    self.begin_column(place, is_first, into);
                    ready.append(row, into);
                }
                is_first = false;
                continue;
            }
            if let Some((_, as_text)) = self.apart.filter(|(apart, _)| *apart == place) {
                let from = aside.len();
                aside.append(&self.apart_value(place, as_text, row, &mut TextBuffer::default())?);
                forms[place] = Form::Made(from..aside.len());
                continue;
            }
            let is_null = cells.is_null(row);
            if is_null && self.nulls == Nulls::Omit && self.writing != Writing::Csv {
                forms[place] = Form::Nothing;
                continue;
            }
            self.begin_column(place, is_first, into);
            is_first = false;
            let written = if is_null {
                cells.append(row, self.writing, into, aside).map(|()| Form::Nothing)
            } else if self.writing == Writing::Csv {
                csv_field(cells, row, into, aside)
            } else {
                cells.write(row, self.writing, into, aside)
            };
            forms[place] = written.map_err(|reason| format!("`{name}` {reason}"))?;
        }
        into.push_str(closing);
        Ok(())
    }

    fn begin_column(&self, place: usize, is_first: bool, into: &mut TextBuffer) {
        match self.writing {
            Writing::Json | Writing::DynamoDb | Writing::Csv => {
                into.push_piece(&self.heads[place][usize::from(is_first)]);
            }
            Writing::Typed => {}
        }
    }

    /// The values of these columns of what was written, by name, as one: as [`joined`] has them.
    fn append_forms(&self, columns: &[usize], row: usize, scratch: &Scratch, whole: &mut Canonical) {
        let Scratch { forms, aside, .. } = scratch;
        let is_there = |column: &&usize| match &self.ready[**column] {
            Some(ready) => !ready.is_null(row),
            None => matches!(forms[**column], Form::Made(_)),
        };
        let there = columns.iter().filter(is_there);
        whole.map(there.clone().count());
        for column in there {
            whole.name(&self.names[*column]);
            match (&self.ready[*column], &forms[*column]) {
                (Some(ready), _) => ready.append_form(row, whole),
                (None, Form::Made(place)) => whole.append_part(aside, place.clone()),
                (None, Form::Nothing) => {}
            }
        }
    }

    /// The record for people.
    pub(crate) fn preview(&self, row: usize) -> Map<String, Value> {
        let has_columns = matches!(self.writing, Writing::Csv | Writing::Typed);
        let shows_null = self.nulls == Nulls::Null || has_columns;
        let there = self.columns.iter().filter(|(_, cells)| shows_null || !cells.is_null(row));
        there.map(|(name, cells)| (name.clone(), cells.preview(row, self.writing))).collect()
    }
}

/// What stands in front of a record's columns, and behind them.
pub(super) fn around_record(writing: Writing) -> [&'static str; 2] {
    match writing {
        Writing::Json => ["{", "}"],
        Writing::DynamoDb => ["{\"Item\":{", "}}"],
        Writing::Csv | Writing::Typed => ["", ""],
    }
}

/// A field, quoted where it must be: what is empty without being NULL, too.
fn csv_field(
    cells: &Cells,
    row: usize,
    into: &mut TextBuffer,
    aside: &mut Canonical,
) -> Result<Form, String> {
    let started = into.len();
    let form = cells.write(row, Writing::Csv, into, aside)?;
    let text = into.part(started..into.len()).to_owned();
    into.truncate(started);
    csv_text(&text, into);
    Ok(form)
}

fn lost() -> Refusal {
    Refusal { stage: Stage::Convert, reason: "it was not written".to_owned() }
}

/// A header of CSV.
pub(crate) fn csv_header<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let quoted = |name: &str| {
        if name.is_empty() || name.contains(['"', ',', '\n', '\r']) {
            format!("\"{}\"", name.replace('"', "\"\""))
        } else {
            name.to_owned()
        }
    };
    let names: Vec<String> = names.map(quoted).collect();
    names.join(",") + "\n"
}

/// Values by name, sorted, as one; what is NULL is left out.
pub(crate) fn joined<'a>(values: &[(&'a str, &'a Canonical)]) -> Canonical {
    let mut whole = Canonical::default();
    whole.map(values.len());
    for (name, value) in values {
        whole.key(name);
        whole.append(value);
    }
    whole
}

/// Whether a value is NULL in the end: a document can be, too.
pub(crate) fn is_null(canonical: &Canonical) -> bool {
    let mut null = Canonical::default();
    null.null();
    canonical.bytes() == null.bytes()
}

/// Appends an attribute of DynamoDB JSON in canonical form.
///
/// # Errors
/// Bytes that are not base64.
pub(crate) fn canonical_attribute(into: &mut Canonical, attribute: &Attribute<'_>) -> Result<(), String> {
    let decoded = |text: &str| BASE64.decode(text).map_err(|error| format!("B that is not base64: {error}"));
    match attribute {
        Attribute::S(text) => into.text(text),
        Attribute::N(text) => into.number(text),
        Attribute::B(text) => into.binary(&decoded(text)?),
        Attribute::Bool(value) => into.bool(*value),
        Attribute::Null => into.null(),
        Attribute::Set("NS", texts) => into.set(texts, |one, Text(text)| one.number(text)),
        Attribute::Set("BS", texts) => {
            let bytes = texts.iter().map(|Text(text)| decoded(text)).collect::<Result<Vec<_>, _>>()?;
            into.set(&bytes, |one, bytes| one.binary(bytes));
        }
        Attribute::Set(_, texts) => into.set(texts, |one, Text(text)| one.text(text)),
        Attribute::L(values) => {
            into.list(values.len());
            values.iter().try_for_each(|value| canonical_attribute(into, value))?;
        }
        Attribute::M(entries) => {
            into.map(entries.len());
            for (Text(name), value) in entries {
                into.key(name);
                canonical_attribute(into, value)?;
            }
        }
        Attribute::Document(_) => return Err("a document of plain JSON is no attribute".to_owned()),
    }
    Ok(())
}
