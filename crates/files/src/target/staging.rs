//! Where a run keeps what is not published yet: parts, one a slice and flow, and ledgers, one a slice.
//!
//! Everything lies in `.whimbrel-parts/RUN/` below the store's root. On a disk a part is a file that grows and is
//! cut to its ledger's length when its slice goes on. An object cannot grow: there a part is a row of objects, one
//! a batch, and those behind the ledger's last batch are removed.

use super::ledger::Ledger;
use crate::client::{Bucket, Place};
use crate::error::{Fault, Outcome};
use futures::{StreamExt as _, TryStreamExt as _};
use md5::{Digest as _, Md5};
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStoreExt as _, PutPayload};
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use tokio::runtime::Handle;
use whimbrel_model::{FlowName, RunId, SliceId};
use whimbrel_store::StoreErrorKind;

/// The folder of all runs.
const FOLDER: &str = ".whimbrel-parts";
/// How this begins, a ledger is named.
const LEDGER: &str = "ledger";
/// The folder of the parts of files.
const PARTS: &str = "parts";
/// The folder of notes that files are published.
const PUBLISHED: &str = "published";

/// What a run keeps in a store. Called on threads that may block.
#[derive(Clone, Debug)]
pub(crate) enum Staging {
    Folder(PathBuf),
    Objects(Bucket, String, Handle),
}

/// A name that is safe as a part of a path, and different for different names.
pub(super) fn safe(name: &str) -> String {
    let mut safe = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => safe.push(char::from(byte)),
            b'.' if !safe.is_empty() => safe.push('.'),
            // A String takes whatever is written.
            other => drop(write!(safe, "={other:02x}")),
        }
    }
    if safe.len() > LONGEST_NAME {
        let digest: String = Md5::digest(name).iter().map(|byte| format!("{byte:02x}")).collect();
        safe.truncate(LONGEST_NAME - digest.len());
        safe.push_str(&digest);
    }
    safe
}

/// File systems take names of 255 bytes, and a part has two of these.
const LONGEST_NAME: usize = 120;

impl Staging {
    /// Does no I/O. `path` is that of a file that the run writes.
    pub(crate) fn of(place: &Place, base: &str, run: &RunId, handle: Handle) -> Self {
        let name = format!("{FOLDER}/{}", safe(run.as_str()));
        match place {
            Place::Folder(_) => Self::Folder(Path::new(base).join(name)),
            Place::Bucket(bucket) => {
                let prefix = if base.is_empty() { name } else { format!("{base}/{name}") };
                Self::Objects(bucket.clone(), prefix, handle)
            }
        }
    }

    /// The last ledger of a slice; `None`: there is none.
    pub(crate) fn ledger(&self, slice: &SliceId) -> Outcome<Option<Ledger>> {
        let name = safe(slice.as_str());
        let places = match self {
            Self::Folder(_) => {
                vec![self.get(&format!("{LEDGER}.{name}.0"))?, self.get(&format!("{LEDGER}.{name}.1"))?]
            }
            Self::Objects(..) => vec![self.get(&format!("{LEDGER}.{name}.0"))?],
        };
        last(places.into_iter().flatten())
    }

    /// Writes a ledger, durably.
    pub(crate) fn keep(&self, ledger: &Ledger) -> Outcome<()> {
        let bytes = ledger.to_bytes().map_err(|error| Fault::Io(io::Error::other(error)))?;
        let name = safe(ledger.slice.as_str());
        match self {
            Self::Folder(folder) => {
                let path = folder.join(format!("{LEDGER}.{name}.{}", ledger.version % 2));
                write_synced(&path, &bytes)
            }
            Self::Objects(bucket, prefix, handle) => {
                let path = ObjectPath::from(format!("{prefix}/{LEDGER}.{name}.0"));
                handle.block_on(bucket.objects().put(&path, PutPayload::from(bytes)))?;
                Ok(())
            }
        }
    }

    /// All ledgers of the run, one a slice.
    pub(crate) fn ledgers(&self) -> Outcome<Vec<Ledger>> {
        let mut slices = std::collections::BTreeMap::new();
        for name in self.names("")? {
            if let Some(slice) =
                name.strip_prefix(&format!("{LEDGER}.")).and_then(|rest| rest.rsplit_once('.'))
            {
                slices.entry(slice.0.to_owned()).or_insert_with(Vec::new).extend(self.get(&name)?);
            }
        }
        let ledgers = slices.into_values().map(|places| last(places.into_iter()));
        Ok(ledgers.collect::<Outcome<Vec<_>>>()?.into_iter().flatten().collect())
    }

    /// Opens a part to go on behind what its ledger says.
    pub(crate) fn open_part(&self, key: &PartKey<'_>, length: u64, seq: u64) -> Outcome<Part> {
        let name = key.name();
        match self {
            Self::Folder(folder) => {
                let path = folder.join(&name);
                make_folder(path.parent().unwrap_or(folder))?;
                let mut file = OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
                if file.metadata()?.len() < length {
                    return Err(lost(key));
                }
                file.set_len(length)?;
                file.seek(SeekFrom::End(0))?;
                sync_folder(path.parent().unwrap_or(folder))?;
                Ok(Part::File(file))
            }
            Self::Objects(bucket, prefix, handle) => {
                let prefix = format!("{prefix}/{name}");
                for stale in self.names(&name)?.into_iter().filter(|chunk| chunk_seq(chunk) > seq) {
                    let path = ObjectPath::from(format!("{prefix}/{stale}"));
                    handle.block_on(bucket.objects().delete(&path))?;
                }
                Ok(Part::Objects(bucket.clone(), prefix, handle.clone()))
            }
        }
    }

    /// Reads the committed bytes of a part.
    pub(crate) fn read_part(&self, key: &PartKey<'_>, length: u64, seq: u64) -> Outcome<PartBytes> {
        let name = key.name();
        match self {
            Self::Folder(folder) => {
                let file = File::open(folder.join(name))?;
                if file.metadata()?.len() < length {
                    return Err(lost(key));
                }
                Ok(PartBytes::File(file.take(length)))
            }
            Self::Objects(bucket, prefix, handle) => {
                let mut chunks = self.names(&name)?;
                chunks.retain(|chunk| chunk_seq(chunk) <= seq);
                chunks.sort_unstable();
                let chunks = chunks.into_iter().map(|chunk| format!("{prefix}/{name}/{chunk}"));
                Ok(PartBytes::Objects(Chunks {
                    bucket: bucket.clone(),
                    handle: handle.clone(),
                    left: chunks.collect::<Vec<_>>().into_iter(),
                    chunk: bytes::Bytes::new(),
                }))
            }
        }
    }

    /// Notes that a file is published, durably.
    pub(crate) fn note_published(&self, path: &str) -> Outcome<()> {
        let name = format!("{PUBLISHED}/{}", safe(path));
        match self {
            Self::Folder(folder) => {
                make_folder(&folder.join(PUBLISHED))?;
                write_synced(&folder.join(name), b"")
            }
            Self::Objects(bucket, prefix, handle) => {
                let key = ObjectPath::from(format!("{prefix}/{name}"));
                handle.block_on(bucket.objects().put(&key, PutPayload::new()))?;
                Ok(())
            }
        }
    }

    /// The paths of files that are published, in the form of [`Staging::is_published`].
    pub(crate) fn is_published(&self, path: &str) -> Outcome<bool> {
        Ok(self.names(PUBLISHED)?.contains(&safe(path)))
    }

    /// Removes the parts of a file, and everything where all files are published.
    pub(crate) fn clean(&self, path: &str, all: bool) -> Outcome<()> {
        let below = if all { String::new() } else { format!("/{PARTS}/{}", safe(path)) };
        match self {
            Self::Folder(folder) => {
                remove_folder(Path::new(&format!("{}{below}", folder.display())))?;
                if let (true, Some(runs)) = (all, folder.parent()) {
                    // Where another run has parts there, the folder stays.
                    let _ = fs::remove_dir(runs);
                }
                Ok(())
            }
            Self::Objects(bucket, prefix, handle) => {
                let prefix = ObjectPath::from(format!("{prefix}{below}"));
                let objects = bucket.objects();
                let found = objects.list(Some(&prefix)).map_ok(|meta| meta.location).boxed();
                handle.block_on(objects.delete_stream(found).try_collect::<Vec<_>>())?;
                Ok(())
            }
        }
    }

    /// The folder, where it is one of a disk.
    pub(crate) fn folder(&self) -> Option<&Path> {
        match self {
            Self::Folder(folder) => Some(folder),
            Self::Objects(..) => None,
        }
    }

    fn get(&self, name: &str) -> Outcome<Option<Vec<u8>>> {
        match self {
            Self::Folder(folder) => match fs::read(folder.join(name)) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(error.into()),
            },
            Self::Objects(bucket, prefix, handle) => {
                let path = ObjectPath::from(format!("{prefix}/{name}"));
                let got = handle.block_on(async { bucket.objects().get(&path).await?.bytes().await });
                match got {
                    Ok(bytes) => Ok(Some(bytes.to_vec())),
                    Err(object_store::Error::NotFound { .. }) => Ok(None),
                    Err(error) => Err(error.into()),
                }
            }
        }
    }

    /// The names of what lies in a folder of the run.
    fn names(&self, below: &str) -> Outcome<Vec<String>> {
        match self {
            Self::Folder(folder) => match fs::read_dir(folder.join(below)) {
                Ok(entries) => entries
                    .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
                    .collect::<io::Result<_>>()
                    .map_err(Fault::from),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
                Err(error) => Err(error.into()),
            },
            Self::Objects(bucket, prefix, handle) => {
                let folder = if below.is_empty() { prefix.clone() } else { format!("{prefix}/{below}") };
                let path = ObjectPath::from(folder);
                let found = handle.block_on(bucket.objects().list_with_delimiter(Some(&path)))?;
                let names = found.objects.iter().filter_map(|meta| meta.location.filename());
                Ok(names.map(str::to_owned).collect())
            }
        }
    }
}

fn lost(key: &PartKey<'_>) -> Fault {
    let what = format!("the part of slice {} is shorter than what was committed of it", key.slice);
    Fault::found(StoreErrorKind::Mismatch, what)
}

fn last(places: impl Iterator<Item = Vec<u8>>) -> Outcome<Option<Ledger>> {
    let mut newest: Option<Ledger> = None;
    for bytes in places {
        let read = Ledger::from_bytes(&bytes);
        let read = read.map_err(|error| Fault::found(StoreErrorKind::Mismatch, error.to_string()))?;
        if let Some(ledger) =
            read.filter(|read| newest.as_ref().is_none_or(|known| read.version > known.version))
        {
            newest = Some(ledger);
        }
    }
    Ok(newest)
}

/// Which part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PartKey<'a> {
    /// The file that it will be part of.
    pub(crate) path: &'a str,
    pub(crate) slice: &'a SliceId,
    pub(crate) flow: &'a FlowName,
}

impl PartKey<'_> {
    /// Where it lies below a folder of this machine.
    pub(crate) fn below(&self, folder: &Path) -> PathBuf {
        folder.join(self.name())
    }

    fn name(&self) -> String {
        let (path, slice, flow) = (safe(self.path), safe(self.slice.as_str()), safe(self.flow.as_str()));
        format!("{PARTS}/{path}/{slice}+{flow}")
    }
}

/// A part that is written.
#[derive(Debug)]
pub(crate) enum Part {
    File(File),
    Objects(Bucket, String, Handle),
}

impl Part {
    /// Appends the bytes of a batch.
    pub(crate) fn append(&mut self, seq: u64, bytes: Vec<u8>) -> Outcome<()> {
        match self {
            Self::File(file) => file.write_all(&bytes)?,
            Self::Objects(bucket, prefix, handle) => {
                let path = ObjectPath::from(format!("{prefix}/{seq:020}"));
                handle.block_on(bucket.objects().put(&path, PutPayload::from(bytes)))?;
            }
        }
        Ok(())
    }

    /// Makes durable what was appended.
    pub(crate) fn sync(&self) -> Outcome<()> {
        match self {
            Self::File(file) => Ok(file.sync_data()?),
            Self::Objects(..) => Ok(()),
        }
    }
}

/// The number of the batch that a chunk's name says.
fn chunk_seq(name: &str) -> u64 {
    name.parse().unwrap_or(u64::MAX)
}

/// What is committed of a part.
pub(crate) enum PartBytes {
    /// A file of this machine, which the system can copy by itself.
    File(io::Take<File>),
    Objects(Chunks),
}

impl Read for PartBytes {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read(into),
            Self::Objects(chunks) => chunks.read(into),
        }
    }
}

/// Chunks, one behind the other.
pub(crate) struct Chunks {
    bucket: Bucket,
    handle: Handle,
    left: std::vec::IntoIter<String>,
    chunk: bytes::Bytes,
}

impl Read for Chunks {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            let Some(next) = self.left.next() else { return Ok(0) };
            let path = ObjectPath::from(next);
            let got = self.handle.block_on(async { self.bucket.objects().get(&path).await?.bytes().await });
            self.chunk = got.map_err(io::Error::other)?;
        }
        let length = self.chunk.len().min(into.len());
        into[..length].copy_from_slice(&self.chunk.split_to(length));
        Ok(length)
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> Outcome<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    make_folder(folder)?;
    let is_new = !path.exists();
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    if is_new {
        sync_folder(folder)?;
    }
    Ok(())
}

/// Makes a folder with those above it, durably.
pub(crate) fn make_folder(folder: &Path) -> Outcome<()> {
    if folder.is_dir() || folder.as_os_str().is_empty() {
        return Ok(());
    }
    let above = folder.parent().unwrap_or(Path::new("."));
    make_folder(above)?;
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error.into()),
        _ => {}
    }
    sync_folder(above)
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> Outcome<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    Ok(File::open(folder)?.sync_all()?)
}

fn remove_folder(folder: &Path) -> Outcome<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
