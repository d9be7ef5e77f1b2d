//! Records of buckets that differ, on the disk, in files small enough to be looked at one after the other.

use std::fs::File;
use std::io::{BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use whimbrel_engine::{EngineError, Result};
use whimbrel_model::Fingerprint;

use super::sums::locked;

/// Records that a file should hold about.
const FILE_RECORDS: u64 = 4_000;
/// Files, at most. None is open but while it is written to.
const MOST_FILES: u64 = 2_000;
/// Bytes that are gathered for a file before they are written.
const PORTION: usize = 16 * 1024;

/// Where a record comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// It should be there.
    Source,
    /// It is there.
    Target,
    /// A run rejected it.
    Rejected,
}

/// A record of a bucket that differs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub side: Side,
    pub unit: usize,
    pub flow: usize,
    pub fingerprint: Fingerprint,
    /// Under `on_duplicate: last`, the bytes by which records of one key are ordered.
    pub order: Vec<u8>,
    /// The key and the whole record as JSON, read only where they are told.
    pub key: String,
    pub record: String,
}

/// The files.
pub(crate) struct Scratch {
    folder: PathBuf,
    /// What is gathered for each file.
    files: Vec<Mutex<Vec<u8>>>,
}

impl Scratch {
    /// For about so many records, in a folder of its own.
    pub(crate) fn new(folder: PathBuf, records: u64) -> Result<Self> {
        std::fs::create_dir_all(&folder).map_err(|source| EngineError::file("make", &folder, source))?;
        let files = records.div_ceil(FILE_RECORDS).clamp(1, MOST_FILES);
        let files = (0..files).map(|_| Mutex::default()).collect();
        Ok(Self { folder, files })
    }

    /// Keeps a record.
    pub(crate) fn add(&self, entry: &Entry) -> Result<()> {
        let frame = frame(entry);
        let files = u128::try_from(self.files.len()).unwrap_or(1);
        let number = usize::try_from(entry.fingerprint.key % files).unwrap_or(0);
        let mut gathered = locked(&self.files[number]);
        gathered.extend(frame);
        if gathered.len() < PORTION {
            return Ok(());
        }
        self.write(number, &mut gathered)
    }

    /// Appends what was gathered for a file.
    fn write(&self, number: usize, gathered: &mut Vec<u8>) -> Result<()> {
        let path = path(&self.folder, number);
        let append = || File::options().create(true).append(true).open(&path)?.write_all(gathered);
        append().map_err(|source| EngineError::file("write", &path, source))?;
        gathered.clear();
        Ok(())
    }

    /// Takes the files one after the other, all records of one key together.
    pub(crate) fn each(&self, mut take: impl FnMut(Vec<Entry>) -> Result<()>) -> Result<()> {
        for (number, file) in self.files.iter().enumerate() {
            self.write(number, &mut locked(file))?;
            let path = path(&self.folder, number);
            let failed = |source| EngineError::file("read", &path, source);
            let mut reader = BufReader::new(File::open(&path).map_err(failed)?);
            let mut entries = Vec::new();
            while let Some(entry) = read(&mut reader).map_err(failed)? {
                entries.push(entry);
            }
            take(entries)?;
        }
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            tracing::warn!(folder = %self.folder.display(), %error, "what a comparison spilled is still there");
        }
    }
}

fn path(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("{number}.part"))
}

fn number(value: usize) -> [u8; 4] {
    u32::try_from(value).unwrap_or(u32::MAX).to_be_bytes()
}

/// Side, unit, flow, fingerprint, then order, key and record behind their lengths; big endian.
fn frame(entry: &Entry) -> Vec<u8> {
    let side = match entry.side {
        Side::Source => 0,
        Side::Target => 1,
        Side::Rejected => 2,
    };
    let mut frame = vec![side];
    frame.extend(number(entry.unit));
    frame.extend(number(entry.flow));
    frame.extend(entry.fingerprint.key.to_be_bytes());
    frame.extend(entry.fingerprint.record.to_be_bytes());
    for bytes in [&entry.order[..], entry.key.as_bytes(), entry.record.as_bytes()] {
        frame.extend(number(bytes.len()));
        frame.extend(bytes);
    }
    frame
}

fn read(reader: &mut BufReader<File>) -> std::io::Result<Option<Entry>> {
    let mut head = [0; 41];
    match reader.read_exact(&mut head[..1]) {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    reader.read_exact(&mut head[1..])?;
    let side = match head[0] {
        0 => Side::Source,
        1 => Side::Target,
        2 => Side::Rejected,
        _ => return Err(damaged()),
    };
    let small = |at: usize| {
        let bytes: [u8; 4] = head[at..at + 4].try_into().map_err(|_| damaged())?;
        usize::try_from(u32::from_be_bytes(bytes)).map_err(|_| damaged())
    };
    let hash = |at: usize| {
        let bytes: [u8; 16] = head[at..at + 16].try_into().map_err(|_| damaged())?;
        Ok::<_, std::io::Error>(u128::from_be_bytes(bytes))
    };
    let (unit, flow) = (small(1)?, small(5)?);
    let fingerprint = Fingerprint { key: hash(9)?, record: hash(25)? };
    let (order, key, record) = (field(reader)?, field(reader)?, field(reader)?);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).map_err(|_| damaged());
    Ok(Some(Entry { side, unit, flow, fingerprint, order, key: text(key)?, record: text(record)? }))
}

fn field(reader: &mut BufReader<File>) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 4];
    reader.read_exact(&mut length)?;
    let mut bytes = vec![0; usize::try_from(u32::from_be_bytes(length)).map_err(|_| damaged())?];
    reader.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn damaged() -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, "it is damaged")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_comes_back_with_all_of_its_key() {
        let folder = std::env::temp_dir().join(format!("whimbrel-scratch-{}", std::process::id()));
        let scratch = Scratch::new(folder.clone(), 20_000).unwrap();
        let entry = |number: u128, side: Side| Entry {
            side,
            unit: 3,
            flow: 70_000,
            fingerprint: Fingerprint { key: number * 0x1234_5678_9abc, record: !number },
            order: vec![1, 2],
            key: r#"{"id":"ü"}"#.to_owned(),
            record: r#"{"id":"ü","n":[1.50]}"#.to_owned(),
        };
        let entries: Vec<Entry> =
            (0..1000).flat_map(|n| [entry(n, Side::Source), entry(n, Side::Target)]).collect();
        entries.iter().for_each(|entry| scratch.add(entry).unwrap());
        let mut back = Vec::new();
        let mut files = 0;
        scratch
            .each(|mut file| {
                files += 1;
                assert_eq!(file.len() % 2, 0, "both sides of a key are in one file");
                back.append(&mut file);
                Ok(())
            })
            .unwrap();
        assert_eq!((files, back.len()), (5, entries.len()));
        assert!(entries.iter().all(|entry| back.contains(entry)));
        drop(scratch);
        assert!(!folder.exists());
    }
}
