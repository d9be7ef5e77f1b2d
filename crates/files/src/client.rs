//! Where the files are: a folder of this machine or an object store, both read by ranges.
//!
//! Records are parsed on threads of their own, so that reading is synchronous there; bytes of an object store
//! are fetched ahead by a task.

mod local;
mod objects;

pub(crate) use local::Folder;
pub(crate) use objects::Bucket;

use crate::config::FilesConfig;
use crate::error::{Fault, Outcome};
use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;
use whimbrel_store::StoreErrorKind;

/// A file as it was found. What it *is*: its path and its version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FileRef {
    /// The whole path, or the object's key.
    pub(crate) path: String,
    /// Its length in bytes.
    pub(crate) size: u64,
    /// Inode, length and time of the last change; of an object its ETag.
    pub(crate) version: String,
}

impl FileRef {
    /// The last part of the path.
    pub(crate) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }
}

/// A root of files.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// A folder or file of this machine.
    Folder(Folder),
    /// An object store.
    Bucket(Bucket),
}

impl Place {
    /// Does no I/O.
    pub(crate) fn open(config: &FilesConfig) -> Outcome<Self> {
        match config.root.split_once("://") {
            None => Ok(Self::Folder(Folder::new(&config.root))),
            Some(("file", path)) => Ok(Self::Folder(Folder::new(path))),
            Some((scheme, _)) => Bucket::open(config, scheme).map(Self::Bucket),
        }
    }

    /// The root, for people.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Folder(folder) => folder.root().display().to_string(),
            Self::Bucket(bucket) => bucket.shown().to_owned(),
        }
    }

    /// The whole path of a table.
    pub(crate) fn path_of(&self, table: &str) -> String {
        match self {
            Self::Folder(folder) => folder.path_of(table),
            Self::Bucket(bucket) => bucket.path_of(table),
        }
    }

    /// The root as what it is, whichever way it is reached.
    pub(crate) async fn canonical(&self) -> Outcome<String> {
        match self {
            Self::Folder(folder) => {
                let folder = folder.clone();
                blocking(move || folder.canonical()).await
            }
            Self::Bucket(bucket) => Ok(bucket.shown().to_owned()),
        }
    }

    /// What there is at the root, for people.
    pub(crate) async fn probe(&self) -> Outcome<String> {
        match self {
            Self::Folder(folder) => {
                let folder = folder.clone();
                blocking(move || folder.probe()).await
            }
            Self::Bucket(bucket) => bucket.probe().await,
        }
    }

    /// The file of this path; `None`: there is none.
    pub(crate) async fn find(&self, path: &str) -> Outcome<Option<FileRef>> {
        match self {
            Self::Folder(folder) => {
                let (folder, path) = (folder.clone(), path.to_owned());
                blocking(move || folder.find(&path)).await
            }
            Self::Bucket(bucket) => bucket.find(path).await,
        }
    }

    /// The files below a folder, by path; what begins with a dot or an underscore is passed over.
    pub(crate) async fn list(&self, folder: &str) -> Outcome<Vec<FileRef>> {
        let mut files = match self {
            Self::Folder(root) => {
                let (root, path) = (root.clone(), folder.to_owned());
                blocking(move || root.list(&path)).await?
            }
            Self::Bucket(bucket) => bucket.list(folder).await?,
        };
        let below = |file: &FileRef| file.path.strip_prefix(folder).unwrap_or(&file.path).to_owned();
        files.retain(|file| !below(file).split('/').any(|part| part.starts_with(['.', '_'])));
        files.sort_unstable_by(|left, right| left.path.cmp(&right.path));
        Ok(files)
    }

    /// The whole of a small file.
    pub(crate) async fn fetch(&self, file: &FileRef) -> Outcome<Vec<u8>> {
        let (place, file) = (self.clone(), file.clone());
        let handle = tokio::runtime::Handle::current();
        blocking(move || {
            let mut bytes = Vec::new();
            place.reader(&handle, &file, 0, file.size)?.read_to_end(&mut bytes)?;
            Ok(bytes)
        })
        .await
    }

    /// Refuses a file that is not what it was.
    pub(crate) fn check_unchanged(&self, file: &FileRef) -> Outcome<()> {
        match self {
            Self::Folder(folder) => match folder.find(&file.path)? {
                Some(found) if found == *file => Ok(()),
                Some(_) => Err(changed("it has changed since the run began")),
                None => Err(changed("it is gone since the run began")),
            },
            // Every request carries the ETag.
            Self::Bucket(_) => Ok(()),
        }
    }

    /// The bytes `from..to`, one behind the other. Called on a thread that may block.
    pub(crate) fn reader(
        &self,
        handle: &tokio::runtime::Handle,
        file: &FileRef,
        from: u64,
        to: u64,
    ) -> Outcome<Box<dyn Read + Send>> {
        let to = to.min(file.size);
        match self {
            Self::Folder(folder) => {
                let mut opened = folder.open_file(file)?;
                opened.seek(SeekFrom::Start(from))?;
                Ok(Box::new(opened.take(to.saturating_sub(from))))
            }
            Self::Bucket(bucket) => Ok(Box::new(bucket.reader(handle, file, from, to))),
        }
    }

    /// Access to any of the bytes. Called on a thread that may block.
    pub(crate) fn random(&self, handle: &tokio::runtime::Handle, file: &FileRef) -> Outcome<RandomAccess> {
        let bytes = match self {
            Self::Folder(folder) => Source::Local(folder.open_file(file)?),
            Self::Bucket(bucket) => Source::Remote(bucket.clone(), handle.clone(), file.clone()),
        };
        Ok(RandomAccess { bytes: Arc::new(bytes), size: file.size, position: 0 })
    }
}

/// A file that is not what it was.
pub(crate) fn changed(how: &str) -> Fault {
    Fault::found(StoreErrorKind::Drift, how)
}

/// Runs what blocks where blocking is allowed.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Outcome<T> + Send + 'static,
) -> Outcome<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(Fault::found(StoreErrorKind::Internal, format!("a thread ended badly: {error}"))),
    }
}

#[derive(Debug)]
enum Source {
    Local(std::fs::File),
    Remote(Bucket, tokio::runtime::Handle, FileRef),
}

/// A file whose bytes are read wherever they are wanted.
#[derive(Clone, Debug)]
pub(crate) struct RandomAccess {
    bytes: Arc<Source>,
    size: u64,
    position: u64,
}

impl RandomAccess {
    fn range(&self, start: u64, length: usize) -> io::Result<Bytes> {
        match &*self.bytes {
            Source::Local(file) => {
                let mut bytes = vec![0; length];
                std::os::unix::fs::FileExt::read_exact_at(file, &mut bytes, start)?;
                Ok(bytes.into())
            }
            Source::Remote(bucket, handle, file) => {
                let end = start + u64::try_from(length).unwrap_or(u64::MAX);
                handle.block_on(bucket.range(file, start..end)).map_err(io::Error::other)
            }
        }
    }
}

impl Length for RandomAccess {
    fn len(&self) -> u64 {
        self.size
    }
}

/// How much is fetched at once where it is not said how much is wanted.
const LOOK_AHEAD_BYTES: usize = 1 << 16;

impl ChunkReader for RandomAccess {
    type T = io::BufReader<Self>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        Ok(io::BufReader::with_capacity(LOOK_AHEAD_BYTES, Self { position: start, ..self.clone() }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        self.range(start, length).map_err(|error| ParquetError::External(Box::new(error)))
    }
}

impl Read for RandomAccess {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.size.saturating_sub(self.position)).unwrap_or(usize::MAX);
        let length = into.len().min(left);
        if length > 0 {
            into[..length].copy_from_slice(&self.range(self.position, length)?);
            self.position += u64::try_from(length).unwrap_or(0);
        }
        Ok(length)
    }
}

impl Seek for RandomAccess {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(offset) => self.size.checked_add_signed(offset),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}
