//! The set of keys that a run's records have claimed: one SQLite file in the run's folder.
//!
//! Keys are hashes and arrive in no order, so that a tree that held all of them would be rewritten page by page.
//! New claims therefore go to the end of a log, and to a map in memory; when the map is full, it is written as a
//! *generation*: sorted, at the end of a table that is in the order of generations, and the log begins anew. A
//! filter in memory says of nearly every new key that it is in no generation, without a look; a small one for each
//! generation says of an old key in which ones to look.
//!
//! Each batch's claims are one transaction, which outlives the process that is killed, though not the machine;
//! before the journal stores a checkpoint, [`KeySet::sync`] brings them to the disk. So no record that is
//! accounted for has lost its claim.
//!
//! An *attempt* is one start of a slice from its checkpoint. What its predecessors claimed beyond that checkpoint
//! is stale: those records are read again, and take their keys over.

use super::filter::Filter;
use crate::journal::{BeforeCommit, JournalError};
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use whimbrel_model::{FlowName, RunId, SliceId};

/// The format that this whimbrel writes.
const VERSION: i64 = 1;
/// Claims in memory, at most: about 4 MB.
const MOST_RECENT: usize = 100_000;
/// Blocks of the filter over all generations: 8 MiB, 7 bits a key for ten million keys.
const FILTER_BLOCKS: usize = 1 << 17;
/// Blocks of a generation's own filter: 128 KiB, 10 bits a key.
const GENERATION_BLOCKS: usize = 1 << 11;
/// Generations that have a filter of their own, 16 MiB in all; in later ones every old key is looked for.
const MOST_FILTERS: usize = 128;
/// How long a statement waits for another connection.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

const TABLES: &str = "
CREATE TABLE attempts (
    id INTEGER PRIMARY KEY, run TEXT NOT NULL, flow TEXT NOT NULL, slice TEXT NOT NULL, kept INTEGER
) STRICT;
CREATE TABLE log (id INTEGER PRIMARY KEY, key BLOB NOT NULL, attempt INTEGER NOT NULL, seq INTEGER) STRICT;
CREATE TABLE claims (
    generation INTEGER NOT NULL, key BLOB NOT NULL, attempt INTEGER NOT NULL, seq INTEGER NOT NULL,
    PRIMARY KEY (generation, key)
) STRICT, WITHOUT ROWID;
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
pub(super) struct AttemptId(i64);

/// Who claimed a key: the attempt, and in its slice the number of the batch.
#[derive(Clone, Copy, Debug)]
struct Claim {
    attempt: AttemptId,
    seq: u64,
}

/// Claims on the disk.
#[derive(Default)]
struct Generations {
    /// They are counted from 1.
    newest: i64,
    /// Over all of them; there from the first one on.
    filter: Option<Filter>,
    /// Over each of the first ones.
    filters: Vec<Filter>,
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
            .field("generations", &self.generations.newest)
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
        {
            let mut log =
                transaction.prepare_cached("INSERT INTO log (key, attempt, seq) VALUES (?1, ?2, ?3)")?;
            for key in keys {
                let Some(key) = *key else {
                    own.push(true);
                    continue;
                };
                let recent = self.recent.get(&key).map(|claim| (0, *claim));
                let spilled = || self.generations.find(&transaction, key);
                let free = match recent.map_or_else(spilled, |found| Ok(Some(found)))? {
                    None => true,
                    Some((generation, claim)) if is_stale(&self.attempts, claim, by) => {
                        forget(&transaction, generation, key)?;
                        true
                    }
                    Some(_) => false,
                };
                if free {
                    log.execute(params![&key.to_be_bytes()[..], by.0, signed(seq)])?;
                    self.recent.insert(key, Claim { attempt: by, seq });
                }
                own.push(free);
            }
        }
        transaction.commit()?;
        Ok(own)
    }

    fn release(&mut self, keys: &[u128], which: impl Fn(&Claim) -> bool) -> rusqlite::Result<()> {
        self.unsynced = true;
        let transaction = self.connection.transaction()?;
        for key in keys.iter().copied() {
            if let Some(claim) = self.recent.get(&key).filter(|claim| which(claim)) {
                let mut log = transaction.prepare_cached("INSERT INTO log (key, attempt) VALUES (?1, ?2)")?;
                log.execute(params![&key.to_be_bytes()[..], claim.attempt.0])?;
                self.recent.remove(&key);
            } else if let Some((generation, claim)) = self.generations.find(&transaction, key)?
                && which(&claim)
            {
                forget(&transaction, generation, key)?;
            }
        }
        transaction.commit()
    }

    /// Writes what is in memory as the next generation.
    fn spill(&mut self) -> rusqlite::Result<()> {
        let mut claims: Vec<(u128, Claim)> = self.recent.iter().map(|(key, claim)| (*key, *claim)).collect();
        claims.sort_unstable_by_key(|(key, _)| *key);
        let generation = self.generations.newest + 1;
        let transaction = self.connection.transaction()?;
        {
            let mut insert = transaction.prepare_cached(
                "INSERT INTO claims (generation, key, attempt, seq) VALUES (?1, ?2, ?3, ?4)",
            )?;
            for (key, claim) in &claims {
                insert.execute(params![
                    generation,
                    &key.to_be_bytes()[..],
                    claim.attempt.0,
                    signed(claim.seq)
                ])?;
            }
        }
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
    let mut statement = connection.prepare("SELECT key, attempt, seq FROM log ORDER BY id")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (key, attempt) = (key_of(row.get_ref(0)?.as_blob()?), AttemptId(row.get(1)?));
        match row.get::<_, Option<i64>>(2)? {
            Some(seq) => recent.insert(key, Claim { attempt, seq: unsigned(seq) }),
            None => recent.remove(&key),
        };
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

impl Generations {
    fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let mut generations = Self::default();
        let mut statement = connection.prepare("SELECT generation, key FROM claims ORDER BY generation")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            generations.note(row.get(0)?, key_of(row.get_ref(1)?.as_blob()?));
        }
        Ok(generations)
    }

    /// A key is in this generation from now on, which is the newest.
    fn note(&mut self, generation: i64, key: u128) {
        self.newest = generation;
        self.filter.get_or_insert_with(|| Filter::new(FILTER_BLOCKS)).add(key);
        let index = usize::try_from(generation - 1).unwrap_or(MOST_FILTERS);
        if index < MOST_FILTERS {
            // A generation whose keys were all taken over or given back has an empty one.
            while self.filters.len() <= index {
                self.filters.push(Filter::new(GENERATION_BLOCKS));
            }
            self.filters[index].add(key);
        }
    }

    /// The generation that holds a key, and its claim.
    fn find(&self, transaction: &Transaction<'_>, key: u128) -> rusqlite::Result<Option<(i64, Claim)>> {
        if !self.filter.as_ref().is_some_and(|filter| filter.may_hold(key)) {
            return Ok(None);
        }
        let mut find = transaction
            .prepare_cached("SELECT attempt, seq FROM claims WHERE generation = ?1 AND key = ?2")?;
        for generation in (1..=self.newest).rev() {
            let filter = usize::try_from(generation - 1).ok().and_then(|index| self.filters.get(index));
            if filter.is_some_and(|filter| !filter.may_hold(key)) {
                continue;
            }
            let claim = find.query_row(params![generation, &key.to_be_bytes()[..]], |row| {
                Ok(Claim { attempt: AttemptId(row.get(0)?), seq: unsigned(row.get(1)?) })
            });
            if let Some(claim) = claim.optional()? {
                return Ok(Some((generation, claim)));
            }
        }
        Ok(None)
    }
}

/// Takes a key out of its generation, so that it is never found there again; what is in memory is replaced anyway.
fn forget(transaction: &Transaction<'_>, generation: i64, key: u128) -> rusqlite::Result<()> {
    if generation > 0 {
        let mut delete =
            transaction.prepare_cached("DELETE FROM claims WHERE generation = ?1 AND key = ?2")?;
        delete.execute(params![generation, &key.to_be_bytes()[..]])?;
    }
    Ok(())
}

fn key_of(bytes: &[u8]) -> u128 {
    bytes.iter().fold(0, |key, byte| key << 8 | u128::from(*byte))
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
