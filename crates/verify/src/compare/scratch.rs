//! Records of buckets that differ, on the disk, in files small enough to be looked at one after the other.

use super::folder::Folder;
use super::sums::locked;
use std::fs::File;
use std::io::{BufReader, Read as _, Write as _};
use std::sync::{Arc, Mutex};
use whimbrel_engine::{EngineError, Result};
use whimbrel_model::Fingerprint;

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
    /// Of a target's record, the number of the reading that it comes from: one that fails is begun again.
    pub reading: u32,
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
    folder: Arc<Folder>,
    /// What is gathered for each file.
    files: Vec<Mutex<Vec<u8>>>,
}

impl Scratch {
    /// For about so many records.
    pub(crate) fn new(folder: &Arc<Folder>, records: u64) -> Self {
        let files = records.div_ceil(FILE_RECORDS).clamp(1, MOST_FILES);
        Self { folder: Arc::clone(folder), files: (0..files).map(|_| Mutex::default()).collect() }
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
        let (path, mut file) = self.folder.append(&name(number))?;
        file.write_all(gathered).map_err(|source| EngineError::file("write", path, source))?;
        gathered.clear();
        Ok(())
    }

    /// Takes the files one after the other, all records of one key together.
    pub(crate) fn each(&self, mut take: impl FnMut(Vec<Entry>) -> Result<()>) -> Result<()> {
        for (number, file) in self.files.iter().enumerate() {
            self.write(number, &mut locked(file))?;
            let path = self.folder.path(&name(number));
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

fn name(number: usize) -> String {
    format!("{number}.part")
}

fn number(value: usize) -> [u8; 4] {
    u32::try_from(value).unwrap_or(u32::MAX).to_be_bytes()
}

/// Side, reading, unit, flow, fingerprint, then order, key and record behind their lengths; big endian.
fn frame(entry: &Entry) -> Vec<u8> {
    let side = match entry.side {
        Side::Source => 0,
        Side::Target => 1,
        Side::Rejected => 2,
    };
    let mut frame = vec![side];
    frame.extend(entry.reading.to_be_bytes());
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
    let mut head = [0; 45];
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
    let word = |at: usize| {
        let bytes: [u8; 4] = head[at..at + 4].try_into().map_err(|_| damaged())?;
        Ok::<_, std::io::Error>(u32::from_be_bytes(bytes))
    };
    let small = |at: usize| usize::try_from(word(at)?).map_err(|_| damaged());
    let hash = |at: usize| {
        let bytes: [u8; 16] = head[at..at + 16].try_into().map_err(|_| damaged())?;
        Ok::<_, std::io::Error>(u128::from_be_bytes(bytes))
    };
    let (reading, unit, flow) = (word(1)?, small(5)?, small(9)?);
    let fingerprint = Fingerprint { key: hash(13)?, record: hash(29)? };
    let (order, key, record) = (field(reader)?, field(reader)?, field(reader)?);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).map_err(|_| damaged());
    let (key, record) = (text(key)?, text(record)?);
    Ok(Some(Entry { side, reading, unit, flow, fingerprint, order, key, record }))
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
    use tokio_util::sync::CancellationToken;

    #[test]
    fn every_record_comes_back_with_all_of_its_key() {
        let place = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(
            &Folder::at(place.path().join("compare-1"), CancellationToken::new().drop_guard()),
            20_000,
        );
        let entry = |number: u128, side: Side| Entry {
            side,
            reading: 80_000,
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
    }
}
