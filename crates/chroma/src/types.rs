//! The type table, Chroma → Arrow.
//!
//! | column | Arrow | what it holds |
//! | --- | --- | --- |
//! | `id` | text | the id; it names a record within its collection |
//! | `document` | text | the document; NULL where there is none, which an empty text is not |
//! | `uri` | text | the URI |
//! | `metadata` | json | an object of all metadata, names sorted, `{}` where there is none: texts, integers, floats (always with a point or an exponent), truth values, arrays of them; a float that JSON does not hold is a reject, unless it has a column of its own |
//! | `embedding` | list of 32-bit floats | bit for bit; `vector(N)` with the metric in the field's metadata |
//! | `vector_state` | text | only where it is asked for: `exact`, `rebuilt` (normalised by the index and multiplied again), `stale` (older, perhaps, than what was written last), `lost` |
//! | any name of metadata | as declared, text where it is not | the value alone, by the table of [`whimbrel_model::attribute`] |

mod lent;
mod metadata;

pub(crate) use lent::Lent;
pub(crate) use metadata::{Entry, Metadata};

use crate::catalog::Metric;
use crate::error::{Fault, Outcome};
use arrow::array::{ArrayRef, Float32Array, ListArray, RecordBatch, RecordBatchOptions, StringBuilder};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use std::collections::BTreeSet;
use std::sync::Arc;
use whimbrel_model::Logical;
use whimbrel_model::attribute::{Reading, Values};
use whimbrel_model::logical::{METRIC, with_source_type};
use whimbrel_store::{ReadRequest, StoreErrorKind};

const STATE: &str = "vector_state";
/// Every record has these, in this order.
const OWN: [(&str, What); 5] = [
    ("id", What::Id),
    ("document", What::Document),
    ("uri", What::Uri),
    ("metadata", What::Metadata),
    ("embedding", What::Embedding),
];

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Id,
    Document,
    Uri,
    Metadata,
    Embedding,
    State,
    /// One entry of the metadata, by the column's name.
    Entry(Reading),
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) what: What,
}

/// Where an embedding comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Exact,
    Rebuilt,
    Stale,
    Lost,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Rebuilt => "rebuilt",
            Self::Stale => "stale",
            Self::Lost => "lost",
        }
    }
}

/// A record.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) id: String,
    pub(crate) document: Option<String>,
    pub(crate) uri: Option<String>,
    /// By name.
    pub(crate) metadata: Vec<(String, Entry)>,
    pub(crate) embedding: Option<Vec<f32>>,
    pub(crate) state: State,
}

/// A value that its column does not hold: the column, why, and the value.
pub(crate) type Refused = (String, String, Vec<u8>);

/// What the columns of a collection depend on.
pub(crate) trait Described {
    /// The name by which it can always be read.
    fn full_name(&self) -> String;
    /// How many floats every embedding has; `None`: there is none.
    fn dimension(&self) -> Option<usize>;
    fn metric(&self) -> &Metric;
    /// The names of metadata that are known to be there.
    fn keys(&self) -> Outcome<Vec<String>>;
}

/// Whether a column is one that every record has.
pub(crate) fn is_own(name: &str) -> bool {
    name == STATE || OWN.iter().any(|(own, _)| *own == name)
}

/// The columns that a request asks for. A record has no fixed columns but its own: whatever else is asked for is
/// metadata, and must be declared or be there.
pub(crate) fn columns(request: &ReadRequest, collection: &dyn Described) -> Outcome<Vec<Column>> {
    let unsupported = |what: String| Fault::found(StoreErrorKind::Unsupported, what);
    if let Some((name, word)) = request.columns.iter().find(|(name, word)| {
        let own = if name.as_str() == "metadata" { "json" } else { "text" };
        is_own(name) && (word.as_str() != own || name.as_str() == "embedding")
    }) {
        let what = format!(
            "`columns` declares `{name}` as {word}, and Chroma's own columns have types of their own"
        );
        return Err(unsupported(what));
    }
    let is_wanted = |name: &str| match &request.wanted {
        None => name != STATE,
        Some(wanted) => wanted.contains(name) || name == "id" || (request.whole && name != STATE),
    };
    let own = OWN.iter().chain(&[(STATE, What::State)]).filter(|(name, _)| is_wanted(name));
    let mut columns: Vec<Column> =
        own.map(|(name, what)| Column { name: (*name).to_owned(), what: *what }).collect();
    let entries: Vec<&String> = match &request.wanted {
        None => request.columns.keys().filter(|name| !is_own(name)).collect(),
        Some(wanted) => wanted.iter().filter(|name| !is_own(name)).collect(),
    };
    refuse_unknown(&entries, request, collection)?;
    for name in entries {
        let word = request.columns.get(name).map_or("text", String::as_str);
        let reading = Reading::declared(word).ok_or_else(|| {
            unsupported(format!("`columns` declares `{name}` as {word}, and there is no such type"))
        })?;
        columns.push(Column { name: name.clone(), what: What::Entry(reading) });
    }
    Ok(columns)
}

/// A name that is neither declared nor anywhere in the metadata is a slip of the pen.
fn refuse_unknown(entries: &[&String], request: &ReadRequest, collection: &dyn Described) -> Outcome<()> {
    if entries.iter().all(|name| request.columns.contains_key(*name)) {
        return Ok(());
    }
    let keys: BTreeSet<String> =
        collection.keys()?.into_iter().filter(|key| !key.starts_with("chroma:")).collect();
    let unknown = entries.iter().find(|name| !request.columns.contains_key(**name) && !keys.contains(**name));
    let Some(unknown) = unknown else { return Ok(()) };
    let own = OWN.iter().map(|(name, _)| *name).chain([STATE]);
    let known: Vec<&str> = own.chain(keys.iter().map(String::as_str)).take(40).collect();
    let what = format!(
        "the collection {} has no column or metadata `{unknown}`; there are {}",
        collection.full_name(),
        known.join(", ")
    );
    Err(Fault::found(StoreErrorKind::NotFound, what)
        .with_hint("declare it under `columns` where records may lack it, `columns: { name: text }`"))
}

/// The fields of batches.
pub(crate) fn schema(columns: &[Column], collection: &dyn Described) -> SchemaRef {
    let fields = columns.iter().map(|column| {
        let text = || Field::new(&column.name, DataType::Utf8, true);
        match column.what {
            What::Id | What::Document | What::Uri | What::State => text(),
            What::Metadata => Logical::Json.field(&column.name, true),
            What::Embedding => embedding_field(&column.name, collection),
            What::Entry(reading) => reading.field(&column.name, true),
        }
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn embedding_field(name: &str, collection: &dyn Described) -> Field {
    let field = Field::new(name, DataType::List(element()), true);
    let field = match collection.dimension() {
        Some(dimension) => with_source_type(field, &format!("vector({dimension})")),
        None => with_source_type(field, "vector"),
    };
    let mut metadata = field.metadata().clone();
    metadata.insert(METRIC.to_owned(), collection.metric().to_string());
    field.with_metadata(metadata)
}

fn element() -> Arc<Field> {
    Arc::new(Field::new("item", DataType::Float32, true))
}

/// The values of a column, as far as they have come.
enum Builder {
    Text(StringBuilder),
    Embedding { floats: Vec<f32>, lengths: Vec<usize>, valid: Vec<bool>, lent: Lent },
    Entry(Reading, Values),
}

impl Builder {
    fn new(what: What, lent: &Lent) -> Self {
        match what {
            What::Embedding => Self::Embedding {
                floats: lent.room_for(0),
                lengths: Vec::new(),
                valid: Vec::new(),
                lent: lent.clone(),
            },
            What::Entry(reading) => Self::Entry(reading, Values::new(reading)),
            What::Id | What::Document | What::Uri | What::Metadata | What::State => {
                Self::Text(StringBuilder::new())
            }
        }
    }

    fn append_text(&mut self, text: Option<&str>) {
        if let Self::Text(builder) = self {
            builder.append_option(text);
        }
    }

    fn append_embedding(&mut self, embedding: Option<&[f32]>) {
        if let Self::Embedding { floats, lengths, valid, .. } = self {
            floats.extend_from_slice(embedding.unwrap_or_default());
            lengths.push(embedding.map_or(0, <[f32]>::len));
            valid.push(embedding.is_some());
        }
    }

    fn append_entry(&mut self, entry: Option<&Entry>) -> Result<(), String> {
        let Self::Entry(reading, values) = self else { return Ok(()) };
        let Some(entry) = entry else {
            values.append_null();
            return Ok(());
        };
        let appended = entry.with_attribute(|attribute| values.append(*reading, attribute));
        if appended.is_err() {
            values.append_null();
        }
        appended
    }

    fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            Self::Text(builder) => Arc::new(builder.finish()),
            Self::Entry(_, values) => values.finish(),
            Self::Embedding { floats, lengths, valid, lent } => {
                let room = lent.room_for(floats.len());
                let floats = lent.lend(std::mem::replace(floats, room));
                let floats: ArrayRef = Arc::new(Float32Array::new(floats, None));
                let offsets = OffsetBuffer::from_lengths(std::mem::take(lengths));
                let valid = NullBuffer::from(std::mem::take(valid));
                Arc::new(ListArray::try_new(element(), offsets, floats, Some(valid))?)
            }
        })
    }
}

/// Records on their way into a batch.
pub(crate) struct Rows {
    columns: Vec<Column>,
    schema: SchemaRef,
    builders: Vec<Builder>,
    records: usize,
    bytes: usize,
}

impl Rows {
    /// `lent`: memory that was used before, which those share who read one collection.
    pub(crate) fn new(columns: &[Column], schema: &SchemaRef, lent: &Lent) -> Self {
        Self {
            builders: columns.iter().map(|column| Builder::new(column.what, lent)).collect(),
            columns: columns.to_vec(),
            schema: Arc::clone(schema),
            records: 0,
            bytes: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.records
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a record; answers with what its columns do not hold, which is NULL there.
    pub(crate) fn push(&mut self, record: &Record) -> Vec<Refused> {
        let mut refused = Vec::new();
        for (column, builder) in self.columns.iter().zip(&mut self.builders) {
            match column.what {
                What::Id => builder.append_text(Some(&record.id)),
                What::Document => builder.append_text(record.document.as_deref()),
                What::Uri => builder.append_text(record.uri.as_deref()),
                What::State => builder.append_text(Some(record.state.as_str())),
                What::Embedding => builder.append_embedding(record.embedding.as_deref()),
                What::Metadata => match metadata::object(&record.metadata, |name| {
                    let mut entries = self.columns.iter().filter(|own| matches!(own.what, What::Entry(_)));
                    entries.any(|own| own.name == name)
                }) {
                    Ok(text) => {
                        self.bytes += text.len();
                        builder.append_text(Some(&text));
                    }
                    Err((reason, shown)) => {
                        builder.append_text(None);
                        refused.push((column.name.clone(), reason, shown));
                    }
                },
                What::Entry(_) => {
                    let entry = record.metadata.iter().find(|(name, _)| *name == column.name);
                    let entry = entry.map(|(_, entry)| entry);
                    if let Err(reason) = builder.append_entry(entry) {
                        let raw = entry.map(Entry::shown).unwrap_or_default();
                        refused.push((column.name.clone(), reason, raw));
                    }
                }
            }
        }
        self.records += 1;
        self.bytes += record.id.len()
            + record.document.as_ref().map_or(0, String::len)
            + record.uri.as_ref().map_or(0, String::len)
            + record.embedding.as_ref().map_or(0, |floats| floats.len() * 4);
        refused
    }

    /// The records so far as a batch, and their bytes; begins anew.
    pub(crate) fn finish(&mut self) -> Result<(RecordBatch, u64), ArrowError> {
        let columns = self.builders.iter_mut().map(Builder::finish).collect::<Result<Vec<_>, _>>()?;
        let rows = RecordBatchOptions::new().with_row_count(Some(std::mem::take(&mut self.records)));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &rows)?;
        Ok((batch, u64::try_from(std::mem::take(&mut self.bytes)).unwrap_or(u64::MAX)))
    }
}
