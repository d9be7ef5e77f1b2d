//! Claims on the disk: *generations*, each written once, when the map of recent claims was full.
//!
//! A generation lies on shelves by the upper bits of its keys, one row a shelf, at the end of a table that is in the
//! order of generations: hashes arrive in no order, and a tree of single keys would be rewritten page by page. A
//! filter in memory says of nearly every new key that it is in no generation, without a look; a small one for each
//! generation says of an old key in which ones to look.

use super::filter::Filter;
use super::keys::{AttemptId, Claim};
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};

/// The table of all generations.
pub(super) const TABLE: &str =
    "CREATE TABLE claims (shelf INTEGER PRIMARY KEY, claims BLOB NOT NULL) STRICT;";

/// Shelves of a generation: of 100,000 claims about 98 come on each, 3 KB.
const SHELVES: u16 = 1 << 10;
/// Bytes of a claim on its shelf: key, attempt and number of the batch, big endian.
const CLAIM_BYTES: usize = 32;
/// Blocks of the filter over all generations: 8 MiB, 7 bits a key for ten million keys.
const FILTER_BLOCKS: usize = 1 << 17;
/// Blocks of a generation's own filter: 128 KiB, 10 bits a key.
const GENERATION_BLOCKS: usize = 1 << 11;
/// Generations that have a filter of their own, 16 MiB in all; in later ones every old key is looked for.
const MOST_FILTERS: usize = 128;

/// What is known in memory of the claims on the disk.
#[derive(Default)]
pub(super) struct Generations {
    /// They are counted from 1.
    newest: i64,
    /// Over all of them; there from the first one on.
    filter: Option<Filter>,
    /// Over each of the first ones.
    filters: Vec<Filter>,
}

impl Generations {
    pub(super) fn load(connection: &Connection) -> rusqlite::Result<Self> {
        let mut generations = Self::default();
        let mut statement = connection.prepare("SELECT shelf, claims FROM claims ORDER BY shelf")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let shelf: i64 = row.get(0)?;
            for (key, _) in on_shelf(row.get_ref(1)?.as_blob()?) {
                generations.note(shelf / i64::from(SHELVES), key);
            }
        }
        Ok(generations)
    }

    /// The number of the last generation; 0 where there is none.
    pub(super) fn newest(&self) -> i64 {
        self.newest
    }

    /// Writes claims as the next generation, which is there only once it was noted.
    pub(super) fn write(
        &self,
        transaction: &Transaction<'_>,
        claims: &mut [(u128, Claim)],
    ) -> rusqlite::Result<i64> {
        let generation = self.newest + 1;
        claims.sort_unstable_by_key(|(key, _)| *key);
        let mut insert = transaction.prepare_cached("INSERT INTO claims (shelf, claims) VALUES (?1, ?2)")?;
        for together in claims.chunk_by(|one, next| shelf(generation, one.0) == shelf(generation, next.0)) {
            insert.execute(params![shelf(generation, together[0].0), shelved(together.iter().copied())])?;
        }
        Ok(generation)
    }

    /// A key is in this generation from now on, which is the newest.
    pub(super) fn note(&mut self, generation: i64, key: u128) {
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
    pub(super) fn find(
        &self,
        transaction: &Transaction<'_>,
        key: u128,
    ) -> rusqlite::Result<Option<(i64, Claim)>> {
        if !self.filter.as_ref().is_some_and(|filter| filter.may_hold(key)) {
            return Ok(None);
        }
        for generation in (1..=self.newest).rev() {
            let filter = usize::try_from(generation - 1).ok().and_then(|index| self.filters.get(index));
            if filter.is_some_and(|filter| !filter.may_hold(key)) {
                continue;
            }
            let shelf = read(transaction, shelf(generation, key))?;
            let found = on_shelf(&shelf).find(|(other, _)| *other == key);
            if let Some((_, claim)) = found {
                return Ok(Some((generation, claim)));
            }
        }
        Ok(None)
    }
}

/// Takes a key out of its generation, so that it is never found there again.
pub(super) fn forget(transaction: &Transaction<'_>, generation: i64, key: u128) -> rusqlite::Result<()> {
    let shelf = shelf(generation, key);
    let left = shelved(on_shelf(&read(transaction, shelf)?).filter(|(other, _)| *other != key));
    if left.is_empty() {
        transaction.prepare_cached("DELETE FROM claims WHERE shelf = ?1")?.execute([shelf])?;
    } else {
        let mut update = transaction.prepare_cached("UPDATE claims SET claims = ?2 WHERE shelf = ?1")?;
        update.execute(params![shelf, left])?;
    }
    Ok(())
}

/// The row that holds a key of a generation: keys are hashes, so that their upper bits fill the shelves evenly.
fn shelf(generation: i64, key: u128) -> i64 {
    generation * i64::from(SHELVES) + i64::try_from(key >> (128 - SHELVES.trailing_zeros())).unwrap_or(0)
}

fn read(transaction: &Transaction<'_>, shelf: i64) -> rusqlite::Result<Vec<u8>> {
    let mut select = transaction.prepare_cached("SELECT claims FROM claims WHERE shelf = ?1")?;
    let claims = select.query_row([shelf], |row| row.get(0)).optional()?;
    Ok(claims.unwrap_or_default())
}

fn on_shelf(bytes: &[u8]) -> impl Iterator<Item = (u128, Claim)> {
    bytes.as_chunks::<CLAIM_BYTES>().0.iter().map(|claim| {
        let mut words = claim.as_chunks::<8>().0.iter().map(|word| u64::from_be_bytes(*word));
        let mut next = || words.next().unwrap_or_default();
        let key = u128::from(next()) << 64 | u128::from(next());
        (key, Claim { attempt: AttemptId(next().cast_signed()), seq: next() })
    })
}

fn shelved(claims: impl Iterator<Item = (u128, Claim)>) -> Vec<u8> {
    let bytes = claims.flat_map(|(key, claim)| {
        let (attempt, seq) = (claim.attempt.0.to_be_bytes(), claim.seq.to_be_bytes());
        key.to_be_bytes().into_iter().chain(attempt).chain(seq)
    });
    bytes.collect()
}
