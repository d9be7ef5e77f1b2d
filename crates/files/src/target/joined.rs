//! Parts on a disk, put together into one file without room for both.
//!
//! Bytes are appended part by part. Whenever enough of them are on the disk for good, the parts that they came from
//! are removed: a large dump needs little more room than its file. How far an attempt that was cut off has come is told
//! by the parts that are gone, and what they were long is known; so the next attempt cuts the file there and goes on.

use super::row_groups::Footer;
use super::staging::sync_folder;
use crate::error::{Fault, Outcome};
use arrow::datatypes::SchemaRef;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::thread::{self, ScopedJoinHandle};
use whimbrel_store::StoreErrorKind;

/// So many bytes are on the disk for good before the parts that they came from are removed.
pub(super) const FREED_AT_ONCE: u64 = 64 << 20;

/// A part and its length, of which nothing counts that lies behind it.
pub(super) struct Piece {
    pub(super) path: PathBuf,
    pub(super) length: u64,
}

/// What becomes one file.
pub(super) struct Joined {
    /// So many bytes of the file are there already, what stands before its first record among them; 0: none is.
    pub(super) there: u64,
    /// In their order; none is empty.
    pub(super) pieces: Vec<Piece>,
    /// What stands before the first, and between two.
    pub(super) around: [Vec<u8>; 2],
    pub(super) ending: Ending,
    /// After so many bytes the disk is given room back.
    pub(super) freed_at_once: u64,
}

/// What stands behind the last piece.
pub(super) enum Ending {
    Text(Vec<u8>),
    /// Of Parquet: what the file has of these columns, which should be so many records.
    Footer(SchemaRef, u64),
}

impl Ending {
    /// Its bytes, of a file that is so long without them.
    fn bytes(&self, file: &mut File, length: u64) -> Outcome<Vec<u8>> {
        let (schema, records) = match self {
            Self::Text(text) => return Ok(text.clone()),
            Self::Footer(schema, records) => (schema, *records),
        };
        let mut footer = Footer::new();
        footer.look_at(file, length)?;
        if footer.records() == records {
            return footer.to_bytes(schema);
        }
        let what = format!("{} records are in the file, and {records} were committed", footer.records());
        Err(Fault::found(StoreErrorKind::Mismatch, what))
    }
}

impl Joined {
    /// How long the file is before piece `number`, with what stands between; with the last one the whole file.
    fn length_before(&self, number: usize) -> u64 {
        let [head, between] = self.around.each_ref().map(|text| text.len() as u64);
        let pieces: u64 = self.pieces.iter().take(number).map(|piece| piece.length).sum();
        // What stands between is written with the piece behind it.
        if self.there == 0 {
            head + pieces + between * (number as u64).saturating_sub(1)
        } else {
            self.there + pieces + between * number as u64
        }
    }

    /// How many pieces an earlier attempt has put in for good: it has removed the last of them.
    fn put_in(&self) -> io::Result<usize> {
        for (number, piece) in self.pieces.iter().enumerate().rev() {
            if !piece.path.try_exists()? {
                return Ok(number + 1);
            }
        }
        Ok(0)
    }

    /// Whether an earlier attempt came to its end: the file has its name, and only its parts are not all removed.
    pub(super) fn is_finished(&self, joining: &Path, named: &Path) -> Outcome<bool> {
        if (self.put_in()? == 0 && self.there == 0) || joining.try_exists()? {
            return Ok(false);
        }
        let length = self.length_before(self.pieces.len());
        let Ok(mut file) = File::open(named) else { return Ok(false) };
        let left = file.metadata()?.len().checked_sub(length);
        // What cannot be read as this file is another one.
        let mut ending = || self.ending.bytes(&mut file, length);
        Ok(left.is_some_and(|left| ending().is_ok_and(|ending| ending.len() as u64 == left)))
    }

    /// Puts the file together at `joining`, or goes on with it; answers with it, not yet durable. Blocks.
    ///
    /// # Errors
    /// A part is shorter than it should be, or the disk fails; what is put in so far stays.
    pub(super) fn write(&self, joining: &Path) -> Outcome<File> {
        let begun = self.put_in()?;
        let mut options = OpenOptions::new();
        let mut file = options.create(true).truncate(false).read(true).write(true).open(joining)?;
        let is_new = begun == 0 && self.there == 0;
        let at = if is_new { 0 } else { self.length_before(begun) };
        if file.metadata()?.len() < at {
            return Err(Fault::found(StoreErrorKind::Mismatch, "the parts that this run wrote are gone"));
        }
        file.set_len(at)?;
        file.seek(SeekFrom::End(0))?;
        if is_new {
            sync_folder(joining.parent().unwrap_or(Path::new(".")))?;
            file.write_all(&self.around[0])?;
        }
        self.put_in_from(begun, &file)?;
        let ending = self.ending.bytes(&mut file, self.length_before(self.pieces.len()))?;
        file.seek(SeekFrom::End(0))?;
        file.write_all(&ending)?;
        Ok(file)
    }

    /// Puts in the pieces from `begun` on, stretch by stretch: while one is brought onto the disk, the next is copied.
    fn put_in_from(&self, begun: usize, file: &File) -> Outcome<()> {
        thread::scope(|scope| {
            let mut from = begun;
            let mut before: Option<(ScopedJoinHandle<'_, io::Result<()>>, Range<usize>)> = None;
            while from < self.pieces.len() {
                let stretch = from..self.stretch_end(from);
                let copied = self.copy(stretch.clone(), file);
                if let Some((syncing, pieces)) = before.take() {
                    ended(syncing)?;
                    self.pieces[pieces].iter().try_for_each(|piece| fs::remove_file(&piece.path))?;
                }
                copied?;
                from = stretch.end;
                // The last stretch is made durable with the whole file.
                if from < self.pieces.len() {
                    before = Some((scope.spawn(|| file.sync_data()), stretch));
                }
            }
            Ok(())
        })
    }

    /// Where a stretch ends that begins with a piece: there is enough of it for the disk to be given room back.
    fn stretch_end(&self, from: usize) -> usize {
        let (mut end, mut bytes) = (from, 0);
        while end < self.pieces.len() && (end == from || bytes < self.freed_at_once) {
            bytes += self.pieces[end].length;
            end += 1;
        }
        end
    }

    /// Appends pieces, one behind the other: two threads that write into one file would wait for each other.
    fn copy(&self, pieces: Range<usize>, mut file: &File) -> Outcome<()> {
        for number in pieces {
            let piece = &self.pieces[number];
            if number > 0 || self.there > 0 {
                file.write_all(&self.around[1])?;
            }
            let mut part = File::open(&piece.path)?.take(piece.length);
            // From file to file the bytes stay within the system.
            if io::copy(&mut part, &mut file)? != piece.length {
                let name = piece.path.file_name().unwrap_or_default().to_string_lossy();
                let what = format!("the part {name} is not as long as what was committed of it");
                return Err(Fault::found(StoreErrorKind::Mismatch, what));
            }
        }
        Ok(())
    }
}

/// What a thread has ended with; its panic is passed on.
fn ended<T>(worker: ScopedJoinHandle<'_, T>) -> T {
    worker.join().unwrap_or_else(|panic| resume_unwind(panic))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(folder: &Path, freed_at_once: u64) -> Joined {
        let piece = |number: usize| {
            let path = folder.join(format!("part{number}"));
            let text = format!("piece {number}").repeat(number + 1);
            // What lies behind a part's length belongs to no checkpoint.
            fs::write(&path, format!("{text}torn")).unwrap();
            Piece { path, length: text.len() as u64 }
        };
        let around = ["[\n", ",\n"].map(|text| text.as_bytes().to_vec());
        let ending = Ending::Text(b"\n]\n".to_vec());
        Joined { there: 0, pieces: (0..9).map(piece).collect(), around, ending, freed_at_once }
    }

    fn expected() -> String {
        let pieces: Vec<_> = (0..9).map(|number| format!("piece {number}").repeat(number + 1)).collect();
        format!("[\n{}\n]\n", pieces.join(",\n"))
    }

    #[test]
    fn parts_are_removed_as_they_are_put_in_and_the_next_attempt_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let joined = joined(folder.path(), 1);
        let (joining, hidden) = (folder.path().join("joining"), folder.path().join("hidden"));
        let torn = &joined.pieces[5];
        fs::copy(&torn.path, &hidden).unwrap();
        fs::write(&torn.path, "short").unwrap();
        assert!(matches!(joined.write(&joining), Err(Fault::Found(StoreErrorKind::Mismatch, _))));
        let left = |joined: &Joined| joined.pieces.iter().filter(|piece| piece.path.exists()).count();
        assert_eq!(left(&joined), 4, "five are in the file");
        fs::rename(&hidden, &torn.path).unwrap();
        joined.write(&joining).unwrap();
        assert_eq!(fs::read_to_string(&joining).unwrap(), expected());
        assert_eq!(left(&joined), 1, "the last one goes with the folder");
        // Cut off before the end was noted, and what was written last is torn.
        fs::write(&joining, expected().replace("]\n", "")).unwrap();
        joined.write(&joining).unwrap();
        assert_eq!(fs::read_to_string(&joining).unwrap(), expected());
    }

    #[test]
    fn a_file_that_has_its_name_is_not_put_together_again() {
        let folder = tempfile::tempdir().unwrap();
        let joined = joined(folder.path(), 1);
        let (joining, named) = (folder.path().join("joining"), folder.path().join("named"));
        assert!(!joined.is_finished(&joining, &named).unwrap());
        joined.write(&joining).unwrap();
        assert!(!joined.is_finished(&joining, &named).unwrap());
        fs::rename(&joining, &named).unwrap();
        assert!(joined.is_finished(&joining, &named).unwrap());
        fs::write(&named, "another's").unwrap();
        assert!(!joined.is_finished(&joining, &named).unwrap());
        assert!(matches!(joined.write(&joining), Err(Fault::Found(StoreErrorKind::Mismatch, _))));
    }

    #[test]
    fn a_small_file_keeps_its_parts_until_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let joined = joined(folder.path(), FREED_AT_ONCE);
        let joining = folder.path().join("joining");
        joined.write(&joining).unwrap();
        assert_eq!(fs::read_to_string(&joining).unwrap(), expected());
        assert!(joined.pieces.iter().all(|piece| piece.path.exists()));
    }
}
