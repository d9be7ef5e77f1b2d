//! The last step of a load: parts put together in order, and only then given their name.

use super::joined::{self, Ending, Joined, Piece};
use super::ledger::{Entry, Extent, Ledger};
use super::row_groups::{Footer, MAGIC};
use super::staging::{PartBytes, PartKey, Staging, make_folder, safe, sync_folder};
use super::writer::{packed, packed_always};
use super::{Table, nested};
use crate::client::Place;
use crate::error::{Fault, Outcome};
use crate::format::Format;
use crate::types::encode::csv_header;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::FileWriter;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStoreExt as _, WriteMultipart};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::runtime::Handle;
use whimbrel_model::{FlowName, SliceId};
use whimbrel_store::StoreErrorKind;

const BUFFER_BYTES: usize = 1 << 20;
/// How much of an object is sent at once, and how many of these are on their way. An object has 10,000 of them at
/// the most.
const UPLOAD_BYTES: usize = 16 << 20;
const UPLOADS: usize = 2;
/// The file that is not whole yet; where it grows each has its own, since an attempt goes on with it.
const PUBLISHING: &str = "publishing";

/// A part in its place.
pub(super) struct Placed {
    pub(super) slice: SliceId,
    pub(super) flow: FlowName,
    pub(super) entry: Entry,
}

/// Puts a file together and gives it its name. May be called again: what is done is not done twice. Blocks.
pub(super) fn publish(table: &Table, staging: &Staging, handle: &Handle) -> Outcome<()> {
    let ledgers = staging.ledgers()?;
    if !staging.is_published(&table.path)? {
        let parts = placed(&ledgers, &table.path);
        if parts.is_empty() {
            return if handle.block_on(table.place.find(&table.path))?.is_some() {
                Ok(())
            } else {
                Err(Fault::found(StoreErrorKind::Mismatch, "the parts that this run wrote are gone"))
            };
        }
        write(table, staging, handle, &parts)?;
        staging.note_published(&table.path)?;
    }
    let paths: BTreeSet<&String> =
        ledgers.iter().flat_map(|ledger| ledger.flows.values()).map(|entry| &entry.path).collect();
    let mut all = true;
    for path in paths {
        all &= staging.is_published(path)?;
    }
    staging.clean(&table.path, all)
}

/// The parts of a file in the order of their slices.
fn placed(ledgers: &[Ledger], path: &str) -> Vec<Placed> {
    let mut parts = Vec::new();
    for ledger in ledgers {
        let own = ledger.flows.iter().filter(|(_, entry)| entry.path == path);
        parts.extend(own.map(|(flow, entry)| Placed {
            slice: ledger.slice.clone(),
            flow: flow.clone(),
            entry: entry.clone(),
        }));
    }
    parts.sort_by(|left, right| (order(&left.slice), &left.flow).cmp(&(order(&right.slice), &right.flow)));
    parts
}

/// What slices of a scan have in common and the number of one: `users.0007` comes before `users.10000`.
pub(super) fn order(slice: &SliceId) -> (&str, u64) {
    let text = slice.as_str();
    let numbered = text.rsplit_once('.').and_then(|(group, number)| Some((group, number.parse().ok()?)));
    numbered.unwrap_or((text, 0))
}

fn write(table: &Table, staging: &Staging, handle: &Handle, parts: &[Placed]) -> Outcome<()> {
    if parts.iter().any(|part| part.entry.shape.is_some()) {
        let mut sink = Sink::open(table, staging, handle)?;
        return finish(table, nested::write(table, staging, parts, &mut sink), sink);
    }
    // Where no slice has a record, no part knows its columns.
    let schema = schema(parts)?.or_else(|| table.planned_schema());
    if let (Some(joining), Some(folder)) = (growing_path(table, staging), staging.folder()) {
        return join(table, folder, parts, schema.as_ref(), joining);
    }
    let mut sink = Sink::open(table, staging, handle)?;
    let written = match table.format {
        Format::Parquet => parquet(table, staging, parts, &mut sink, schema),
        Format::Arrow => arrow(table, staging, parts, &mut sink, schema),
        _ => send(table, staging, parts, &mut sink, schema.as_ref()),
    };
    finish(table, written, sink)
}

/// Whether no slice has a record.
fn is_nothing(parts: &[Placed]) -> bool {
    parts.iter().all(|part| part.entry.records == 0)
}

/// What stands before, between and behind the parts; the end of Parquet says what they hold, and is not here.
fn around(table: &Table, schema: Option<&SchemaRef>, is_nothing: bool) -> Outcome<[Vec<u8>; 3]> {
    let texts = match table.format {
        Format::Parquet => return Ok([MAGIC.to_vec(), Vec::new(), Vec::new()]),
        Format::Json => ["[\n", ",\n", "\n]\n"].map(str::to_owned),
        Format::Csv => {
            let names =
                |schema: &SchemaRef| csv_header(schema.fields().iter().map(|field| field.name().as_str()));
            [schema.map(names).unwrap_or_default(), String::new(), String::new()]
        }
        _ => Default::default(),
    };
    let is_nothing = is_nothing && texts.iter().all(String::is_empty);
    let mut around: [Vec<u8>; 3] = Default::default();
    for (packed_text, text) in around.iter_mut().zip(texts) {
        *packed_text = packed(table.compression, text.into_bytes())?;
    }
    if is_nothing {
        // Without any byte it would be no file of its compression.
        around[2] = packed_always(table.compression, b"")?;
    }
    Ok(around)
}

/// What stands around records whose columns a ledger's entry knows.
pub(super) fn around_records(table: &Table, entry: &Entry) -> Outcome<[Vec<u8>; 3]> {
    let schema = entry.schema.as_deref().map(read_schema).transpose()?;
    around(table, schema.as_ref(), false)
}

/// Where a file grows while its slices are read; `None`: files like this one do not.
pub(super) fn growing_path(table: &Table, staging: &Staging) -> Option<PathBuf> {
    let grows = table.format.is_appended() && table.request.shape.is_none();
    let name = format!("{PUBLISHING}-{}", safe(&table.path));
    staging.folder().filter(|_| grows).map(|folder| folder.join(name))
}

fn finish(table: &Table, written: Outcome<()>, sink: Sink) -> Outcome<()> {
    match written {
        Ok(()) => sink.finish(table),
        Err(fault) => {
            sink.abandon();
            Err(fault)
        }
    }
}

/// The columns that all parts have.
fn schema(parts: &[Placed]) -> Outcome<Option<SchemaRef>> {
    let mut known: Option<SchemaRef> = None;
    for text in parts.iter().filter_map(|part| part.entry.schema.as_ref()) {
        let schema = read_schema(text)?;
        match &known {
            Some(known) if *known != schema => {
                let what = "flows of different columns write into it";
                return Err(Fault::found(StoreErrorKind::Mismatch, what));
            }
            _ => known = Some(schema),
        }
    }
    Ok(known)
}

/// The columns that a ledger's entry names.
pub(super) fn read_schema(text: &str) -> Outcome<SchemaRef> {
    let damaged = |_| Fault::found(StoreErrorKind::Mismatch, "a ledger's schema cannot be read");
    let bytes = BASE64.decode(text).map_err(damaged)?;
    Ok(StreamReader::try_new(bytes.as_slice(), None)?.schema())
}

pub(super) fn read(staging: &Staging, table: &Table, part: &Placed) -> Outcome<BufReader<PartBytes>> {
    let key = PartKey { path: &table.path, slice: &part.slice, flow: &part.flow };
    let bytes = staging.read_part(&key, part.entry.length, part.entry.seq())?;
    Ok(BufReader::with_capacity(BUFFER_BYTES, bytes))
}

/// Puts a file of a disk together where it grows, or has begun to.
fn join(
    table: &Table,
    folder: &Path,
    parts: &[Placed],
    schema: Option<&SchemaRef>,
    joining: PathBuf,
) -> Outcome<()> {
    let there = parts.iter().filter_map(|part| part.entry.joined).map(Extent::end).max().unwrap_or(0);
    let piece = |part: &Placed| {
        let key = PartKey { path: &table.path, slice: &part.slice, flow: &part.flow };
        Piece { path: key.below(folder), length: part.entry.length }
    };
    let pieces = parts.iter().filter(|part| part.entry.length > 0).map(piece).collect();
    let [head, between, tail] = around(table, schema, is_nothing(parts))?;
    let ending = match table.format {
        Format::Parquet => {
            let records = parts.iter().map(|part| part.entry.records).sum();
            Ending::Footer(Arc::clone(schema.ok_or_else(no_schema)?), records)
        }
        _ => Ending::Text(tail),
    };
    let around = [head, between];
    let joined = Joined { there, pieces, around, ending, freed_at_once: joined::FREED_AT_ONCE };
    if joined.is_finished(&joining, Path::new(&table.path))? {
        return Ok(());
    }
    Sink::File(BufWriter::new(joined.write(&joining)?), joining).finish(table)
}

/// Sends the parts of a text one behind the other.
fn send(
    table: &Table,
    staging: &Staging,
    parts: &[Placed],
    sink: &mut Sink,
    schema: Option<&SchemaRef>,
) -> Outcome<()> {
    let [head, between, tail] = around(table, schema, is_nothing(parts))?;
    sink.write_all(&head)?;
    for (number, part) in parts.iter().filter(|part| part.entry.length > 0).enumerate() {
        if number > 0 {
            sink.write_all(&between)?;
        }
        if io::copy(&mut read(staging, table, part)?, sink)? != part.entry.length {
            let what = format!("the part of slice {} is not as long as what was committed of it", part.slice);
            return Err(Fault::found(StoreErrorKind::Mismatch, what));
        }
    }
    Ok(sink.write_all(&tail)?)
}

/// Every batch of the parts, one behind the other.
fn batches(
    table: &Table,
    staging: &Staging,
    parts: &[Placed],
    mut take: impl FnMut(&RecordBatch) -> Outcome<()>,
) -> Outcome<()> {
    for part in parts {
        let mut bytes = read(staging, table, part)?;
        let mut records = 0;
        while !bytes.fill_buf()?.is_empty() {
            for batch in StreamReader::try_new(&mut bytes, None)? {
                let batch = batch?;
                records += u64::try_from(batch.num_rows()).unwrap_or(u64::MAX);
                take(&batch)?;
            }
        }
        check_records(part, records)?;
    }
    Ok(())
}

fn check_records(part: &Placed, records: u64) -> Outcome<()> {
    if records == part.entry.records {
        return Ok(());
    }
    let what = format!("the part of slice {} does not hold what was committed of it", part.slice);
    Err(Fault::found(StoreErrorKind::Mismatch, what))
}

fn no_schema() -> Fault {
    Fault::found(StoreErrorKind::Mismatch, "no record and no plan says which columns it has")
}

fn parquet(
    table: &Table,
    staging: &Staging,
    parts: &[Placed],
    sink: &mut Sink,
    schema: Option<SchemaRef>,
) -> Outcome<()> {
    let schema = schema.ok_or_else(no_schema)?;
    let mut footer = Footer::new();
    sink.write_all(MAGIC)?;
    for part in parts {
        let records = footer.append(&mut read(staging, table, part)?, part.entry.length, sink)?;
        check_records(part, records)?;
    }
    Ok(sink.write_all(&footer.to_bytes(&schema)?)?)
}

fn arrow(
    table: &Table,
    staging: &Staging,
    parts: &[Placed],
    sink: &mut Sink,
    schema: Option<SchemaRef>,
) -> Outcome<()> {
    let schema = schema.ok_or_else(no_schema)?;
    let mut writer = FileWriter::try_new(sink, &schema)?;
    batches(table, staging, parts, |batch| Ok(writer.write(batch)?))?;
    Ok(writer.finish()?)
}

/// Where the bytes of a file go until it is whole.
pub(super) enum Sink {
    File(BufWriter<File>, PathBuf),
    Upload(Option<WriteMultipart>, Handle),
}

impl Sink {
    fn open(table: &Table, staging: &Staging, handle: &Handle) -> Outcome<Self> {
        match (&table.place, staging.folder()) {
            (Place::Bucket(bucket), _) => {
                let path = ObjectPath::parse(&table.path).map_err(object_store::Error::from)?;
                let upload = handle.block_on(bucket.objects().put_multipart(&path))?;
                let upload = WriteMultipart::new_with_chunk_size(upload, UPLOAD_BYTES);
                Ok(Self::Upload(Some(upload), handle.clone()))
            }
            (Place::Folder(_), folder) => {
                let path = folder.unwrap_or(Path::new(".")).join(PUBLISHING);
                Ok(Self::File(BufWriter::with_capacity(BUFFER_BYTES, File::create(&path)?), path))
            }
        }
    }

    /// Gives the file its name; it replaces what had it.
    fn finish(self, table: &Table) -> Outcome<()> {
        match self {
            Self::File(buffer, temporary) => {
                let file = buffer.into_inner().map_err(io::IntoInnerError::into_error)?;
                file.sync_all()?;
                let path = Path::new(&table.path);
                let folder = path.parent().unwrap_or(Path::new("."));
                make_folder(folder)?;
                match fs::rename(&temporary, path) {
                    // Parts lie below the store's root; the file may have its place on another disk.
                    Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                        move_over(&temporary, path)?;
                    }
                    renamed => renamed?,
                }
                sync_folder(folder)
            }
            Self::Upload(upload, handle) => {
                if let Some(upload) = upload {
                    // An upload belongs to a runtime: its tasks are spawned there.
                    handle.block_on(upload.finish())?;
                }
                Ok(())
            }
        }
    }

    /// Throws away what was written; the next attempt begins anew.
    fn abandon(self) {
        match self {
            // What is left of it is overwritten by the next attempt.
            Self::File(_, path) => drop(fs::remove_file(path)),
            Self::Upload(upload, handle) => {
                if let Some(upload) = upload {
                    // The first failure is the one that is told.
                    let _ = handle.block_on(upload.abort());
                }
            }
        }
    }
}

/// Gives a file its name on another disk, there too only when all of it is there.
fn move_over(temporary: &Path, path: &Path) -> Outcome<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".whimbrel-publishing");
    let beside = path.with_file_name(name);
    fs::copy(temporary, &beside)?;
    File::open(&beside)?.sync_all()?;
    fs::rename(&beside, path)?;
    Ok(fs::remove_file(temporary)?)
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(file, _) => file.write(bytes),
            Self::Upload(upload, handle) => {
                let upload = upload.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
                let _inside = handle.enter();
                handle.block_on(upload.wait_for_capacity(UPLOADS)).map_err(io::Error::other)?;
                upload.write(bytes);
                Ok(bytes.len())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File(file, _) => file.flush(),
            Self::Upload(..) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_in_the_order_of_their_numbers() {
        let mut names = ["b.0000", "a.10000", "a.0002", "a.9999"].map(SliceId::new);
        names.sort_by(|left, right| order(left).cmp(&order(right)));
        assert_eq!(names.map(|name| name.to_string()), ["a.0002", "a.9999", "a.10000", "b.0000"]);
    }
}
