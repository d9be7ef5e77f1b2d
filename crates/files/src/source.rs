//! The reading side: files, or parts of files, parsed on a thread of their own a slice.

mod csv;
mod elements;
mod frame;
mod input;
mod members;
mod part;
mod reading;
mod text;
mod typed;

use crate::catalog::{self, Found};
use crate::client::Place;
use crate::error::{CHANGED_HINT, Fault, Outcome};
use crate::format::{Compression, Format};
use crate::types;
use arrow::datatypes::{Field, Schema, SchemaRef};
use async_trait::async_trait;
use csv::Separator;
use futures::StreamExt as _;
use input::Input;
use part::Part;
use reading::{Job, Reader};
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::{OnceCell, mpsc};
use tokio::task::JoinHandle;
use typed::TypedFile;
use whimbrel_model::attribute::{Column, ITEM};
use whimbrel_model::{Cursor, SlicePart, StoreName};
use whimbrel_store::{
    BatchStream, ReadBatch, ReadRequest, Relation, Result, RunContext, Source, SourceDescription, StoreError,
    StoreErrorKind,
};

/// From how many files on their records are not counted beforehand.
const COUNTED_FILES: usize = 64;

/// A table of files.
pub(crate) struct FilesSource {
    name: StoreName,
    place: Place,
    table: String,
    format: Option<Format>,
    request: ReadRequest,
    /// Whether the members of one object are the records, and not the object.
    of_members: bool,
    /// Looked up once: each file of a slice is compared with what it was then.
    known: OnceCell<Arc<Known>>,
}

/// What a table is.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) found: Found,
    pub(crate) columns: Columns,
    records: Option<u64>,
}

/// The columns of batches.
#[derive(Clone, Debug)]
pub(crate) enum Columns {
    /// Out of text, by name.
    Named(Vec<Column>, SchemaRef),
    /// Of files that have types.
    Typed(SchemaRef),
}

impl Columns {
    fn named(columns: Vec<Column>) -> Self {
        let fields: Vec<Field> =
            columns.iter().map(|column| column.reading.field(&column.name, true)).collect();
        Self::Named(columns, Arc::new(Schema::new(fields)))
    }

    pub(crate) fn schema(&self) -> &SchemaRef {
        match self {
            Self::Named(_, schema) | Self::Typed(schema) => schema,
        }
    }
}

impl FilesSource {
    /// # Errors
    /// The request asks for what files do not have.
    pub(crate) fn new(
        name: &StoreName,
        place: &Place,
        format: Option<Format>,
        request: ReadRequest,
    ) -> Result<Self> {
        let unsupported = |what: &str| StoreError::new(StoreErrorKind::Unsupported, name, what);
        let Relation::Table(table) = &request.relation else {
            return Err(unsupported("files have no query language: use `path` and `where`"));
        };
        if !request.slice_by.is_empty() {
            return Err(unsupported(
                "`slice_by` says nothing to files: they are cut by bytes and row groups",
            )
            .with_hint("leave `slice_by` out"));
        }
        Ok(Self {
            name: name.clone(),
            place: place.clone(),
            table: table.clone(),
            format,
            known: OnceCell::new(),
            of_members: false,
            request,
        })
    }

    /// The source whose records are, in files of plain JSON that are no array, the members of its objects: each an
    /// object of one member.
    pub(crate) fn of_members(&self) -> Self {
        Self {
            name: self.name.clone(),
            place: self.place.clone(),
            table: self.table.clone(),
            format: self.format,
            request: self.request.clone(),
            of_members: true,
            known: OnceCell::new(),
        }
    }

    fn failed(&self, fault: Fault) -> StoreError {
        fault.into_error(&self.name, &format!("cannot read \"{}\"", self.place.path_of(&self.table)))
    }

    async fn known(&self) -> Result<&Arc<Known>> {
        self.known
            .get_or_try_init(|| async { self.look().await.map(Arc::new) })
            .await
            .map_err(|f| self.failed(f))
    }

    async fn look(&self) -> Outcome<Known> {
        let mut found = catalog::find(&self.place, &self.table, self.format).await?;
        for file in found.files.iter().filter(|_| !found.format.is_text()) {
            if Compression::of_name(&file.file.path).0 != Compression::None {
                let what = format!("{} compresses its columns itself; unpack it first", found.format);
                return Err(Fault::found(StoreErrorKind::Unsupported, what));
            }
        }
        let (columns, counted) = match found.format {
            Format::Json | Format::NdJson | Format::DynamoDbJson => (self.named_columns(None)?, None),
            Format::Csv => {
                let (names, separator) = self.header(&found).await?;
                if separator != Separator::COMMA {
                    found.notes.push(format!("{separator} separates the fields, as in the header"));
                }
                (self.named_columns(Some(names))?, None)
            }
            Format::Parquet | Format::Arrow => self.typed_columns(&found).await?,
        };
        let records = found.records.or(counted);
        Ok(Known { found, columns, records })
    }

    /// The columns of text: those that are wanted, else those that are declared and the whole record, or all that
    /// a header names.
    fn named_columns(&self, header: Option<Vec<String>>) -> Outcome<Columns> {
        let ReadRequest { columns: declared, wanted, .. } = &self.request;
        let names: Vec<String> = match (header, wanted) {
            (Some(header), None) => header,
            (Some(header), Some(wanted)) => header.into_iter().filter(|name| wanted.contains(name)).collect(),
            (None, Some(wanted)) => wanted.iter().cloned().collect(),
            (None, None) => declared.keys().cloned().chain([ITEM.to_owned()]).collect(),
        };
        let column = |name: &String| {
            let word = declared.get(name).map(String::as_str);
            Column::declared(name, word).ok_or_else(|| {
                let word = word.unwrap_or_default();
                let what = format!("`columns` declares `{name}` as {word}, and there is no such type");
                Fault::found(StoreErrorKind::Unsupported, what)
            })
        };
        Ok(Columns::named(names.iter().map(column).collect::<Outcome<_>>()?))
    }

    async fn header(&self, found: &Found) -> Outcome<(Vec<String>, Separator)> {
        let Some(first) = found.files.first().cloned() else { return Ok((Vec::new(), Separator::COMMA)) };
        let (place, handle) = (self.place.clone(), Handle::current());
        crate::client::blocking(move || {
            let mut input = Input::open(&place, &handle, &first, 0)?;
            csv::header(&mut input)
        })
        .await
    }

    async fn typed_columns(&self, found: &Found) -> Outcome<(Columns, Option<u64>)> {
        let (place, handle, format) = (self.place.clone(), Handle::current(), found.format);
        let counted = if found.files.len() <= COUNTED_FILES { found.files.len() } else { 1 };
        let files: Vec<_> = found.files[..counted].to_vec();
        let is_whole = counted == found.files.len();
        let (schema, records) = crate::client::blocking(move || {
            let mut schema = None;
            let mut records = Some(0_u64);
            for file in &files {
                let opened = TypedFile::open(&place, &handle, &file.file, format)?;
                records = records.zip(opened.records()).map(|(sum, more)| sum + more);
                schema.get_or_insert_with(|| opened.schema());
            }
            Ok((schema, records))
        })
        .await?;
        let schema = schema.unwrap_or_else(|| Arc::new(Schema::empty()));
        let wanted = |name: &str| self.request.wanted.as_ref().is_none_or(|wanted| wanted.contains(name));
        let schema = types::read_schema(&schema, wanted, &self.request.columns)
            .map_err(|what| Fault::found(StoreErrorKind::Unsupported, what))?;
        Ok((Columns::Typed(schema), records.filter(|_| is_whole)))
    }

    fn foreign(&self, what: &str) -> StoreError {
        let context = format!("{what} does not belong to \"{}\" as it is read now", self.table);
        StoreError::new(StoreErrorKind::Mismatch, &self.name, context).with_hint(CHANGED_HINT)
    }
}

#[async_trait]
impl Source for FilesSource {
    async fn describe(&self) -> Result<SourceDescription> {
        let known = self.known().await?;
        let mut notes = known.found.notes.clone();
        if known.found.format == Format::Csv {
            notes.push("in CSV an empty field is NULL, and \"\" is a text without characters".to_owned());
        }
        let is_open = matches!(known.found.format, Format::Json | Format::NdJson | Format::DynamoDbJson);
        if is_open && self.request.wanted.is_none() {
            notes.push(format!(
                "{} has no columns: what `columns` declares, and `{ITEM}`, the whole record, are read",
                known.found.format
            ));
        }
        Ok(SourceDescription {
            schema: Arc::clone(known.columns.schema()),
            key: Vec::new(),
            records: known.records,
            resumable: true,
            sees_all: known.found.format == Format::DynamoDbJson,
            notes,
        })
    }

    fn members(&self) -> Option<Arc<dyn Source>> {
        Some(Arc::new(self.of_members()))
    }

    async fn slices(&self, wanted: usize) -> Result<Vec<SlicePart>> {
        let known = Arc::clone(self.known().await?);
        let (place, handle) = (self.place.clone(), Handle::current());
        let parts = crate::client::blocking(move || part::cut(&place, &handle, &known.found, wanted)).await;
        let parts = parts.map_err(|fault| self.failed(fault))?;
        let parts = parts.iter().map(|part| serde_json::to_value(part).map(SlicePart));
        parts.collect::<serde_json::Result<_>>().map_err(|error| {
            StoreError::new(StoreErrorKind::Internal, &self.name, "a part cannot be kept").caused_by(error)
        })
    }

    async fn read(
        &self,
        part: &SlicePart,
        after: Option<&Cursor>,
        context: &RunContext,
    ) -> Result<BatchStream> {
        let known = Arc::clone(self.known().await?);
        let part = Part::deserialized(&part.0).ok_or_else(|| self.foreign("a slice"))?;
        let after = match after {
            None => part::Position::default(),
            Some(cursor) => part::Position::of(cursor).ok_or_else(|| self.foreign("a cursor"))?,
        };
        let (sender, receiver) = mpsc::channel(1);
        let job = Job {
            name: self.name.clone(),
            place: self.place.clone(),
            handle: Handle::current(),
            known,
            part,
            of_members: self.of_members,
            max_records: self.request.batch_records.max(1),
            max_bytes: self.request.batch_bytes.max(1),
            stop: context.stop.clone(),
        };
        // The thread ends by itself: with the part, with a failure, or when nobody takes its batches any more.
        let reading = tokio::task::spawn_blocking(move || Reader::new(job, after, sender).run());
        let delivery = Delivery { receiver, reading: Some(reading), name: self.name.clone() };
        let batches = futures::stream::try_unfold(delivery, |mut delivery| async move {
            Ok(delivery.next().await?.map(|batch| (batch, delivery)))
        });
        Ok(batches.boxed())
    }
}

/// Batches on their way from the thread that reads them.
struct Delivery {
    receiver: mpsc::Receiver<Result<ReadBatch>>,
    reading: Option<JoinHandle<()>>,
    name: StoreName,
}

impl Delivery {
    async fn next(&mut self) -> Result<Option<ReadBatch>> {
        if let Some(batch) = self.receiver.recv().await {
            return batch.map(Some);
        }
        // No more batches may mean that all were read, or that the thread broke off.
        match self.reading.take() {
            Some(reading) => reading.await.map(|()| None).map_err(|error| {
                let context = "the thread that reads files ended badly";
                StoreError::new(StoreErrorKind::Internal, &self.name, context).caused_by(error)
            }),
            None => Ok(None),
        }
    }
}
