//! The set of keys that a run's records have claimed: one SQLite file in the run's folder.
//!
//! New claims go to the end of a log, one row a batch, and to a map in memory; when the map is full, it is written as
//! a [generation](super::generations), and the log begins anew.
//!
//! Each batch's claims are one transaction, which outlives the process that is killed, though not the machine;
//! before the journal stores a checkpoint, [`KeySet::sync`] brings them to the disk. So no record that is
//! accounted for has lost its claim.
//!
//! An *attempt* is one start of a slice from its checkpoint. What its predecessors claimed beyond that checkpoint
//! is stale: those records are read again, and take their keys over.

use super::generations::{self, Generations};
use crate::journal::{BeforeCommit, JournalError};
use rusqlite::{Connection, params};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use whimbrel_model::{FlowName, RunId, SliceId};

/// The format that this whimbrel writes.
const VERSION: i64 = 2;
/// Claims in memory, at most: about 4 MB.
const MOST_RECENT: usize = 100_000;
/// Bytes of a key in the log.
const KEY_BYTES: usize = 16;
/// How long a statement waits for another connection.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

const TABLES: &str = "
CREATE TABLE attempts (
    id INTEGER PRIMARY KEY, run TEXT NOT NULL, flow TEXT NOT NULL, slice TEXT NOT NULL, kept INTEGER
) STRICT;
CREATE TABLE log (id INTEGER PRIMARY KEY, keys BLOB NOT NULL, attempt INTEGER NOT NULL, seq INTEGER) STRICT;
CREATE TABLE candidates (id INTEGER PRIMARY KEY, key BLOB NOT NULL, sort BLOB NOT NULL) STRICT;
CREATE TABLE latest (
    key BLOB PRIMARY KEY, sort BLOB NOT NULL, met INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
CREATE TABLE first_passes (run TEXT PRIMARY KEY, orders TEXT NOT NULL) STRICT;
CREATE TABLE syncs (times INTEGER NOT NULL) STRICT;
INSERT INTO syncs VALUES (0);
";

/// The keys that a run, and the retries of its rejects, have claimed.
#[derive(Debug)]
pub struct KeySet {
    path: PathBuf,
    held: Mutex<Held>,
}

/// One start of a slice, for one flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct AttemptId(pub(super) i64);

/// Who claimed a key: the attempt, and in its slice the number of the batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    pub(super) attempt: AttemptId,
    pub(super) seq: u64,
}

#[derive(Debug)]
struct Attempt {
    /// Run, flow and slice.
    place: [String; 3],
    /// Up to this batch its claims are those of records that are accounted for; `None`: it goes on.
    kept: Option<u64>,
}

pub(super) struct Held {
    pub(super) connection: Connection,
    attempts: HashMap<AttemptId, Attempt>,
    /// Claims that are in no generation yet.
    recent: HashMap<u128, Claim>,
    most_recent: usize,
    generations: Generations,
    /// Whether something was written since the last sync.
    pub(super) unsynced: bool,
    /// How many keys have an order that their last record must have.
    pub(super) latest: u64,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held")
            .field("recent", &self.recent.len())
            .field("generations", &self.generations.newest())
            .finish()
    }
}

impl KeySet {
    /// Opens the set of a run's folder; makes it where it is missing. Blocks; longer where there are many keys.
    ///
    /// # Errors
    /// The file cannot be made or read.
    pub fn open(run_folder: &Path) -> Result<Self, JournalError> {
        Self::open_with(run_folder, MOST_RECENT)
    }

    fn open_with(run_folder: &Path, most_recent: usize) -> Result<Self, JournalError> {
        let path = run_folder.join("keys.sqlite");
        std::fs::create_dir_all(run_folder).map_err(|source| JournalError::File {
            action: "make the folder of",
            path: path.clone(),
            source,
        })?;
        let wrap = |source| JournalError::Sqlite { path: path.clone(), source };
        let mut connection = Connection::open(&path).map_err(wrap)?;
        let version = prepare(&mut connection).map_err(wrap)?;
        if version != VERSION {
            let what = format!("its format is {version}, and this whimbrel reads {VERSION}");
            return Err(JournalError::Damaged { path, what });
        }
        let held = Held::load(connection, most_recent).map_err(wrap)?;
        Ok(Self { path, held: Mutex::new(held) })
    }

    pub(super) fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn failed(&self, source: rusqlite::Error) -> JournalError {
        JournalError::Sqlite { path: self.path.clone(), source }
    }

    /// Notes that a slice begins again behind batch `after`, for one flow: what was claimed for it beyond that
    /// batch is stale from now on.
    pub(super) fn begin(
        &self,
        run: &RunId,
        flow: &FlowName,
        slice: &SliceId,
        after: u64,
    ) -> Result<AttemptId, JournalError> {
        let place = [run.as_str(), flow.as_str(), slice.as_str()].map(str::to_owned);
        let begun = self.held().begin(&place, after).map_err(|source| self.failed(source))?;
        begun.ok_or_else(|| {
            let what = format!("the keys that slice `{slice}` of flow `{flow}` has claimed are missing");
            JournalError::Damaged { path: self.path.clone(), what }
        })
    }

    /// Claims the keys of a batch, in order; answers of each whether it is the attempt's own now. A record without
    /// a key has nothing to claim.
    pub(super) fn claim(
        &self,
        attempt: AttemptId,
        seq: u64,
        keys: &[Option<u128>],
    ) -> Result<Vec<bool>, JournalError> {
        self.held().claim(attempt, seq, keys).map_err(|source| self.failed(source))
    }

    /// Gives keys back that a batch has claimed, for records that did not arrive.
    pub(super) fn release(&self, attempt: AttemptId, seq: u64, keys: &[u128]) -> Result<(), JournalError> {
        let own = |claim: &Claim| claim.attempt == attempt && claim.seq == seq;
        self.held().release(keys, own).map_err(|source| self.failed(source))
    }

    /// Gives keys back, whoever has claimed them.
    pub(super) fn give_back(&self, keys: &[u128]) -> Result<(), JournalError> {
        self.held().release(keys, |_| true).map_err(|source| self.failed(source))
    }

    /// Brings everything to the disk that was claimed so far. Blocks.
    ///
    /// # Errors
    /// The disk may be full.
    pub fn sync(&self) -> Result<(), JournalError> {
        self.held().sync().map_err(|source| self.failed(source))
    }
}

impl BeforeCommit for KeySet {
    fn before_commit(&self) -> Result<(), JournalError> {
        self.sync()
    }
}

/// Makes the tables in a new file; answers with the file's format.
fn prepare(connection: &mut Connection) -> rusqlite::Result<i64> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // A commit need not be on the disk; `sync` sees to that.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update(None, "cache_size", -4096)?;
    connection.pragma_update(None, "temp_store", "FILE")?;
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    let tables: i64 = transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables == 0 {
        transaction.execute_batch(TABLES)?;
        transaction.execute_batch(generations::TABLE)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    let version = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    transaction.commit()?;
    Ok(version)
}

impl Held {
    fn load(connection: Connection, most_recent: usize) -> rusqlite::Result<Self> {
        let latest =
            connection.query_row("SELECT count(*) FROM latest", [], |row| row.get(0)).map(unsigned)?;
        Ok(Self {
            attempts: attempts(&connection)?,
            recent: recent(&connection)?,
            generations: Generations::load(&connection)?,
            connection,
            most_recent,
            unsynced: true,
            latest,
        })
    }

    /// `None`: an earlier attempt must have claimed keys, and none is known.
    fn begin(&mut self, place: &[String; 3], after: u64) -> rusqlite::Result<Option<AttemptId>> {
        let earlier = self.attempts.values().any(|attempt| attempt.place == *place);
        if after > 0 && !earlier {
            return Ok(None);
        }
        let transaction = self.connection.transaction()?;
        transaction.execute(
            "UPDATE attempts SET kept = min(coalesce(kept, ?4), ?4) WHERE run = ?1 AND flow = ?2 AND slice = ?3",
            params![place[0], place[1], place[2], signed(after)],
        )?;
        transaction.execute(
            "INSERT INTO attempts (run, flow, slice) VALUES (?1, ?2, ?3)",
            params![place[0], place[1], place[2]],
        )?;
        let id = AttemptId(transaction.last_insert_rowid());
        transaction.commit()?;
        self.unsynced = true;
        for attempt in self.attempts.values_mut().filter(|attempt| attempt.place == *place) {
            attempt.kept = Some(attempt.kept.map_or(after, |kept| kept.min(after)));
        }
        self.attempts.insert(id, Attempt { place: place.clone(), kept: None });
        Ok(Some(id))
    }

    fn claim(&mut self, by: AttemptId, seq: u64, keys: &[Option<u128>]) -> rusqlite::Result<Vec<bool>> {
        if self.recent.len() >= self.most_recent {
            self.spill()?;
        }
        self.unsynced = true;
        let transaction = self.connection.transaction()?;
        let mut own = Vec::with_capacity(keys.len());
        let mut logged = Vec::with_capacity(keys.len() * KEY_BYTES);
        for key in keys {
            let Some(key) = *key else {
                own.push(true);
                continue;
            };
            let free = match self.recent.get(&key) {
                Some(claim) => is_stale(&self.attempts, *claim, by),
                None => match self.generations.find(&transaction, key)? {
                    None => true,
                    Some((generation, claim)) if is_stale(&self.attempts, claim, by) => {
                        generations::forget(&transaction, generation, key)?;
                        true
                    }
                    Some(_) => false,
                },
            };
            if free {
                logged.extend(key.to_be_bytes());
                self.recent.insert(key, Claim { attempt: by, seq });
            }
            own.push(free);
        }
        if !logged.is_empty() {
            let mut log =
                transaction.prepare_cached("INSERT INTO log (keys, attempt, seq) VALUES (?1, ?2, ?3)")?;
            log.execute(params![logged, by.0, signed(seq)])?;
        }
        transaction.commit()?;
        Ok(own)
    }

    fn release(&mut self, keys: &[u128], which: impl Fn(&Claim) -> bool) -> rusqlite::Result<()> {
        self.unsynced = true;
        let transaction = self.connection.transaction()?;
        for key in keys.iter().copied() {
            if let Some(claim) = self.recent.get(&key).filter(|claim| which(claim)) {
                let mut log =
                    transaction.prepare_cached("INSERT INTO log (keys, attempt) VALUES (?1, ?2)")?;
                log.execute(params![&key.to_be_bytes()[..], claim.attempt.0])?;
                self.recent.remove(&key);
            } else if let Some((generation, claim)) = self.generations.find(&transaction, key)?
                && which(&claim)
            {
                generations::forget(&transaction, generation, key)?;
            }
        }
        transaction.commit()
    }

    /// Writes what is in memory as the next generation.
    fn spill(&mut self) -> rusqlite::Result<()> {
        let mut claims: Vec<(u128, Claim)> = self.recent.iter().map(|(key, claim)| (*key, *claim)).collect();
        let transaction = self.connection.transaction()?;
        let generation = self.generations.write(&transaction, &mut claims)?;
        transaction.execute("DELETE FROM log", [])?;
        transaction.commit()?;
        self.recent.clear();
        claims.iter().for_each(|(key, _)| self.generations.note(generation, *key));
        Ok(())
    }

    fn sync(&mut self) -> rusqlite::Result<()> {
        if self.unsynced {
            // The file is synced whole, what earlier transactions wrote included.
            self.connection.pragma_update(None, "synchronous", "FULL")?;
            let synced = self.connection.execute("UPDATE syncs SET times = times + 1", []);
            self.connection.pragma_update(None, "synchronous", "NORMAL")?;
            synced?;
            self.unsynced = false;
        }
        Ok(())
    }
}

fn attempts(connection: &Connection) -> rusqlite::Result<HashMap<AttemptId, Attempt>> {
    let mut statement = connection.prepare("SELECT id, run, flow, slice, kept FROM attempts")?;
    let attempts = statement.query_map([], |row| {
        let kept: Option<i64> = row.get(4)?;
        let attempt = Attempt { place: [row.get(1)?, row.get(2)?, row.get(3)?], kept: kept.map(unsigned) };
        Ok((AttemptId(row.get(0)?), attempt))
    })?;
    attempts.collect()
}

/// The claims of the log, without those that were given back.
fn recent(connection: &Connection) -> rusqlite::Result<HashMap<u128, Claim>> {
    let mut recent = HashMap::new();
    let mut statement = connection.prepare("SELECT keys, attempt, seq FROM log ORDER BY id")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (attempt, seq) = (AttemptId(row.get(1)?), row.get::<_, Option<i64>>(2)?.map(unsigned));
        for key in row.get_ref(0)?.as_blob()?.as_chunks::<KEY_BYTES>().0 {
            let key = u128::from_be_bytes(*key);
            match seq {
                Some(seq) => recent.insert(key, Claim { attempt, seq }),
                None => recent.remove(&key),
            };
        }
    }
    Ok(recent)
}

/// Whether a claim was made by an earlier attempt of the same slice for a record that is read again.
fn is_stale(attempts: &HashMap<AttemptId, Attempt>, claim: Claim, by: AttemptId) -> bool {
    match (attempts.get(&claim.attempt), attempts.get(&by)) {
        (Some(holder), Some(own)) => {
            holder.place == own.place && holder.kept.is_some_and(|kept| claim.seq > kept)
        }
        _ => false,
    }
}

/// SQLite's integers are signed; no count comes near their end.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

#[cfg(test)]
#[path = "keys_tests.rs"]
mod tests;
