//! Copying a database in one state, without opening it: SQLite would write beside it.

use super::DATABASE;
use crate::error::{Fault, Outcome};
use std::collections::BTreeMap;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use whimbrel_store::StoreErrorKind;

/// What SQLite keeps beside a database, and a copy must have.
const JOURNALS: [&str; 2] = ["chroma.sqlite3-journal", "chroma.sqlite3-wal"];
/// The files of an index that are read.
const INDEX_FILES: [&str; 4] = ["header.bin", "data_level0.bin", "length.bin", "index_metadata.pickle"];
/// A file that was written so short a time ago may be written again without a later time of change.
const RECENT: Duration = Duration::from_millis(50);
/// A file of so many bytes takes longer to copy than a thread to begin, many times over.
const LARGE_BYTES: u64 = 16 << 20;
/// How often a directory is copied that changes meanwhile.
const COPIES: usize = 8;
/// How often a moment is awaited in which nothing was just written, in all: some seconds.
const WAITS: usize = 100;

/// A file as it is at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FileState {
    length: u64,
    modified: Option<SystemTime>,
    inode: u64,
}

impl FileState {
    fn of(metadata: &Metadata) -> Self {
        Self { length: metadata.len(), modified: metadata.modified().ok(), inode: inode(metadata) }
    }
}

/// The state of a file; `None`: there is none.
pub(crate) fn state(path: &Path) -> Outcome<Option<FileState>> {
    match path.metadata() {
        Ok(metadata) if metadata.is_file() => Ok(Some(FileState::of(&metadata))),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Fault::Io(path.to_owned(), error)),
    }
}

#[cfg(unix)]
fn inode(metadata: &Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    metadata.ino()
}

#[cfg(not(unix))]
fn inode(_metadata: &Metadata) -> u64 {
    0
}

/// The states of all files of a directory that are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Signature(BTreeMap<PathBuf, FileState>);

impl Signature {
    pub(crate) fn of(directory: &Path) -> Outcome<Self> {
        let mut files = BTreeMap::new();
        let mut add = |path: PathBuf| {
            if let Some(state) = state(&path)? {
                files.insert(path, state);
            }
            Ok::<_, Fault>(())
        };
        for name in [DATABASE].iter().chain(&JOURNALS) {
            add(directory.join(name))?;
        }
        for entry in std::fs::read_dir(directory).map_err(Fault::io(directory))? {
            let entry = entry.map_err(Fault::io(directory))?;
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                INDEX_FILES.iter().try_for_each(|name| add(entry.path().join(name)))?;
            }
        }
        Ok(Self(files))
    }

    /// The state of one file; `None`: there was none.
    pub(crate) fn get(&self, path: &Path) -> Option<&FileState> {
        self.0.get(path)
    }

    pub(crate) fn had_journal(&self) -> bool {
        self.0.iter().any(|(path, state)| {
            state.length > 0 && JOURNALS.iter().any(|name| path.file_name().is_some_and(|file| file == *name))
        })
    }

    /// Whether the last change is so recent that another could look the same.
    fn is_recent(&self) -> bool {
        let now = SystemTime::now();
        let age = |state: &FileState| now.duration_since(state.modified?).ok();
        self.0.values().any(|state| age(state).is_some_and(|age| age < RECENT))
    }
}

/// Refuses a directory that is none of Chroma's, or of a Chroma of long ago.
pub(crate) fn refuse_other_layouts(directory: &Path) -> Outcome<()> {
    if directory.join(DATABASE).is_file() {
        return Ok(());
    }
    let shown = directory.display();
    if directory.join("chroma-collections.parquet").exists()
        || directory.join("chroma-embeddings.parquet").exists()
    {
        let what = format!("{shown} was written by a chromadb before 0.4, whose layout is not read");
        return Err(Fault::found(StoreErrorKind::Unsupported, what).with_hint(
            "bring it to 0.4 or later first, with the tool `chroma-migrate` of the chromadb project",
        ));
    }
    std::fs::read_dir(directory).map_err(Fault::io(directory))?;
    let what = format!("{shown} holds no {DATABASE}");
    Err(Fault::found(StoreErrorKind::NotFound, what)
        .with_hint("name the directory that was given to PersistentClient or to `chroma run --path`"))
}

/// Copies the database with its journals into a folder; answers with the states of all files while that was done.
///
/// The copy is what lay in the directory at one moment: no file has changed from before to after. A database and its
/// journal as they lie at any one moment are what a crash at that moment would leave, which SQLite brings in order.
pub(crate) fn copy(directory: &Path, into: &Path) -> Outcome<Signature> {
    let (mut copies, mut waits) = (0, 0);
    while copies < COPIES && waits < WAITS {
        let before = Signature::of(directory)?;
        if before.is_recent() {
            waits += 1;
            std::thread::sleep(RECENT);
            continue;
        }
        copies += 1;
        if copy_files(directory, into, &before)? && Signature::of(directory)? == before {
            return Ok(before);
        }
    }
    let what = format!(
        "{} is being written to all the time, and no copy of it is of one moment",
        directory.display()
    );
    Err(Fault::found(StoreErrorKind::Overloaded, what)
        .with_hint("stop the program that writes to the directory"))
}

/// Whether all files were still there.
fn copy_files(directory: &Path, into: &Path, states: &Signature) -> Outcome<bool> {
    for name in [DATABASE].iter().chain(&JOURNALS) {
        let (from, to) = (directory.join(name), into.join(name));
        if to.exists() {
            std::fs::remove_file(&to).map_err(Fault::io(&to))?;
        }
        if states.get(&from).is_none() {
            continue;
        }
        match copy_file(&from, &to) {
            Ok(()) => make_writable(&to)?,
            Err(error) if error.kind() == ErrorKind::NotFound && into.is_dir() => return Ok(false),
            // It has become shorter.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(Fault::Io(from, error)),
        }
    }
    Ok(true)
}

/// Copies a file as long as it is now, by two threads where it is large: what lies in memory is copied at the pace of one
/// processor each.
fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    let length = from.metadata()?.len();
    File::create(to)?.set_len(length)?;
    let part = |range: Range<u64>| {
        let (mut from, mut to) = (File::open(from)?, OpenOptions::new().write(true).open(to)?);
        from.seek(SeekFrom::Start(range.start))?;
        to.seek(SeekFrom::Start(range.start))?;
        let wanted = range.end - range.start;
        let copied = io::copy(&mut from.take(wanted), &mut to)?;
        if copied == wanted { Ok(()) } else { Err(ErrorKind::UnexpectedEof.into()) }
    };
    let middle = if length < LARGE_BYTES { length } else { length / 2 };
    std::thread::scope(|scope| {
        let second = (middle < length).then(|| scope.spawn(|| part(middle..length)));
        let first = part(0..middle);
        let second = second.map_or(Ok(Ok(())), |second| second.join());
        first.and(second.unwrap_or_else(|_| Err(io::Error::other("the thread that copies ended badly"))))
    })
}

/// A copy takes the permissions along, also those of a file that nobody may write to.
#[cfg(unix)]
fn make_writable(path: &Path) -> Outcome<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(Fault::io(path))
}

#[cfg(not(unix))]
fn make_writable(path: &Path) -> Outcome<()> {
    let mut permissions = path.metadata().map_err(Fault::io(path))?.permissions();
    #[expect(clippy::permissions_set_readonly_false, reason = "there are no other permissions here")]
    permissions.set_readonly(false);
    std::fs::set_permissions(path, permissions).map_err(Fault::io(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_copied_whole_whatever_its_size() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        for length in [0, 1, LARGE_BYTES - 1, LARGE_BYTES + 1] {
            let bytes: Vec<u8> = (0..length / 8 + 1).flat_map(u64::to_le_bytes).collect();
            let bytes = &bytes[..usize::try_from(length).unwrap()];
            std::fs::write(&from, bytes).unwrap();
            copy_file(&from, &to).unwrap();
            assert!(std::fs::read(&to).unwrap() == bytes, "{length}");
        }
    }
}
