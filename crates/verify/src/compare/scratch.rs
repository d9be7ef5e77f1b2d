//! Records of buckets that differ, on the disk, in files small enough to be looked at one after the other.

use serde_json::{Map, Value};
use std::fs::File;
use std::io::{BufReader, BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use whimbrel_engine::{EngineError, Result};
use whimbrel_model::Fingerprint;

use super::sums::locked;

/// Records that a file should hold about.
const FILE_RECORDS: u64 = 40_000;
/// Files, at most; each is open until all is written.
const MOST_FILES: u64 = 200;

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
    pub key: Map<String, Value>,
    pub record: Map<String, Value>,
}

/// The files.
pub(crate) struct Scratch {
    folder: PathBuf,
    files: Vec<Mutex<BufWriter<File>>>,
}

impl Scratch {
    /// For about so many records, in a folder of its own.
    pub(crate) fn new(folder: PathBuf, records: u64) -> Result<Self> {
        std::fs::create_dir_all(&folder).map_err(|source| EngineError::file("make", &folder, source))?;
        let files = records.div_ceil(FILE_RECORDS).clamp(1, MOST_FILES);
        let make = |number: u64| {
            let path = path(&folder, number);
            let file = File::create(&path).map_err(|source| EngineError::file("write", &path, source))?;
            Ok(Mutex::new(BufWriter::new(file)))
        };
        let files = (0..files).map(make).collect::<Result<_>>()?;
        Ok(Self { folder, files })
    }

    /// Keeps a record.
    pub(crate) fn add(&self, entry: &Entry) -> Result<()> {
        let frame = frame(entry);
        let files = u128::try_from(self.files.len()).unwrap_or(1);
        let number = usize::try_from(entry.fingerprint.key % files).unwrap_or(0);
        let written = locked(&self.files[number]).write_all(&frame);
        written.map_err(|source| EngineError::file("write", &self.folder, source))
    }

    /// Takes the files one after the other, all records of one key together.
    pub(crate) fn each(&self, mut take: impl FnMut(Vec<Entry>) -> Result<()>) -> Result<()> {
        for (number, file) in (0..).zip(&self.files) {
            let path = path(&self.folder, number);
            let failed = |source| EngineError::file("read", &path, source);
            locked(file).flush().map_err(failed)?;
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

fn path(folder: &Path, number: u64) -> PathBuf {
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
    let texts = [&entry.key, &entry.record].map(|map| Value::Object(map.clone()).to_string().into_bytes());
    for bytes in [&entry.order, &texts[0], &texts[1]] {
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
    let map = |bytes: Vec<u8>| serde_json::from_slice(&bytes).map_err(std::io::Error::from);
    Ok(Some(Entry { side, unit, flow, fingerprint, order, key: map(key)?, record: map(record)? }))
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
    use serde_json::json;

    #[test]
    fn every_record_comes_back_with_all_of_its_key() {
        let folder = std::env::temp_dir().join(format!("whimbrel-scratch-{}", std::process::id()));
        let scratch = Scratch::new(folder.clone(), 200_000).unwrap();
        let entry = |number: u128, side: Side| Entry {
            side,
            unit: 3,
            flow: 70_000,
            fingerprint: Fingerprint { key: number * 0x1234_5678_9abc, record: !number },
            order: vec![1, 2],
            key: json!({"id": "ü"}).as_object().cloned().unwrap(),
            record: json!({"id": "ü", "n": [1.50]}).as_object().cloned().unwrap(),
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
