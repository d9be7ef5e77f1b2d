//! All ids of a collection, on disk, so that memory does not grow with it.
//!
//! A server gives ids page by page, by their places in its own order, and places move when somebody deletes. So each
//! page begins with the last id of the one before. Is that still at its place, then everything behind it in the order
//! is behind it in the answer, too: nothing that is there all the time is left out. Where it is not, the listing goes
//! back until a page begins with an id that it knows.

use super::Server;
use super::catalog::Served;
use crate::catalog::Metric;
use crate::client::Scratch;
use crate::error::{Fault, Outcome};
use rusqlite::{Connection, ToSql, params_from_iter};
use serde::Deserialize;
use serde_json::json;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use whimbrel_store::{Result, StoreError, StoreErrorKind};

/// How many ids are asked for at once; the fewer where a server refuses the more.
const PAGES: [usize; 2] = [10_000, 300];
/// How often the listing of one collection goes back at the most.
const STEPS_BACK: usize = 200;

/// The ids of a collection at the beginning of an epoch, sorted by their bytes.
pub(crate) struct Listing {
    ids: Mutex<Ids>,
    /// How many there are.
    pub(super) count: u64,
    /// How many records the server counted, before they were listed and afterwards.
    counted: (u64, u64),
    /// The metric that a search has shown, where the server does not say one.
    pub(super) metric: Option<Metric>,
}

/// A page of ids.
#[derive(Deserialize)]
struct Page {
    ids: Vec<String>,
}

/// Ids in a scratch database.
struct Ids {
    connection: Connection,
    /// Goes after the connection.
    _scratch: Scratch,
}

/// Where the listing goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    At(usize),
    /// The ids before this place have moved.
    Back,
    End,
}

impl Ids {
    fn make() -> Outcome<Self> {
        let scratch = Scratch::make()?;
        let connection = Connection::open(scratch.path().join("ids.sqlite3"))?;
        // It is made anew whenever it is needed: nothing of it must outlive a crash.
        connection.query_row("PRAGMA journal_mode = OFF", [], |row| row.get::<_, String>(0))?;
        connection.execute_batch(
            "PRAGMA synchronous = OFF; CREATE TABLE ids (id BLOB PRIMARY KEY) WITHOUT ROWID",
        )?;
        Ok(Self { connection, _scratch: scratch })
    }

    /// Takes a page that was asked for at a place.
    fn take(&mut self, place: usize, page: &[String]) -> Outcome<Next> {
        let has_moved = match page.first() {
            _ if place == 0 => false,
            Some(first) => !self.has(first)?,
            None => true,
        };
        if has_moved {
            return Ok(Next::Back);
        }
        let transaction = self.connection.transaction()?;
        {
            let mut insert = transaction.prepare_cached("INSERT OR IGNORE INTO ids VALUES (?1)")?;
            for id in page {
                insert.execute([id.as_bytes()])?;
            }
        }
        transaction.commit()?;
        Ok(if page.len() > 1 { Next::At(place + page.len() - 1) } else { Next::End })
    }

    fn has(&self, id: &str) -> Outcome<bool> {
        let mut statement =
            self.connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM ids WHERE id = ?1)")?;
        Ok(statement.query_row([id.as_bytes()], |row| row.get(0))?)
    }

    fn count(&self, above: Option<&str>, upto: Option<&str>) -> Outcome<u64> {
        let (range, bounds) = range(above, upto);
        let mut statement = self.connection.prepare_cached(&format!("SELECT count(*) FROM ids {range}"))?;
        Ok(statement.query_row(params_from_iter(bounds), |row| row.get(0))?)
    }

    /// Ids above one and up to another, in order, without the first so many of them.
    fn between(
        &self,
        above: Option<&str>,
        upto: Option<&str>,
        skipped: u64,
        at_most: usize,
    ) -> Outcome<Vec<String>> {
        let (range, bounds) = range(above, upto);
        let sql = format!("SELECT id FROM ids {range} ORDER BY id LIMIT {at_most} OFFSET {skipped}");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query(params_from_iter(bounds))?;
        let mut ids = Vec::new();
        while let Some(row) = rows.next()? {
            let id: Vec<u8> = row.get(0)?;
            let id = String::from_utf8(id).map_err(|_| Fault::mismatch("an id is not what was kept"))?;
            ids.push(id);
        }
        Ok(ids)
    }
}

/// What picks the ids above one and up to another.
fn range<'a>(above: Option<&'a str>, upto: Option<&'a str>) -> (&'static str, Vec<Box<dyn ToSql + 'a>>) {
    let bytes = |id: &'a str| Box::new(id.as_bytes()) as Box<dyn ToSql>;
    match (above, upto) {
        (None, None) => ("", Vec::new()),
        (Some(above), None) => ("WHERE id > ?1", vec![bytes(above)]),
        (None, Some(upto)) => ("WHERE id <= ?1", vec![bytes(upto)]),
        (Some(above), Some(upto)) => ("WHERE id > ?1 AND id <= ?2", vec![bytes(above), bytes(upto)]),
    }
}

impl Listing {
    fn ids(&self) -> MutexGuard<'_, Ids> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ids above one and up to another, in order. Blocks.
    pub(super) fn between(
        &self,
        above: Option<&str>,
        upto: Option<&str>,
        at_most: usize,
    ) -> Outcome<Vec<String>> {
        self.ids().between(above, upto, 0, at_most)
    }

    /// The ids that cut those above one and up to another into about `wanted` parts of one size. Blocks.
    pub(super) fn boundaries(
        &self,
        above: Option<&str>,
        upto: Option<&str>,
        wanted: usize,
    ) -> Outcome<Vec<String>> {
        let ids = self.ids();
        let count = ids.count(above, upto)?;
        let parts = u64::try_from(wanted).unwrap_or(u64::MAX).min(count).max(1);
        let mut cuts = Vec::new();
        let mut from = (above.map(str::to_owned), 0);
        for part in 1..parts {
            // The last id of the part; the search goes on from the cut before.
            let last = count / parts * part + (count % parts).min(part) - 1;
            let found = ids.between(from.0.as_deref(), upto, last - from.1, 1)?;
            let Some(cut) = found.into_iter().next() else { break };
            cuts.push(cut.clone());
            from = (Some(cut), last + 1);
        }
        Ok(cuts)
    }

    /// What a person should know of how the ids were listed.
    pub(super) fn note(&self) -> Option<String> {
        let (before, after) = self.counted;
        if before == after && before == self.count {
            return None;
        }
        let counted =
            if before == after { before.to_string() } else { format!("{before}, and then {after}") };
        let why = if before == after { "" } else { ", as somebody writes to it" };
        Some(format!("the server counts {counted} records and lists {} ids{why}", self.count))
    }
}

impl Server {
    /// Lists the ids of a collection.
    pub(super) async fn list(&self, collection: &Served) -> Result<Listing> {
        let doing = format!("cannot list the records of the collection {}", collection.full_name());
        let before = self.count(collection).await?;
        let ids = Arc::new(Mutex::new(self.blocking(&doing, Ids::make).await?));
        let (mut place, mut sizes, mut steps_back, mut step) = (0, PAGES.iter().copied().peekable(), 0, 1);
        let mut size = sizes.next().unwrap_or(1);
        loop {
            let body = json!({ "limit": size, "offset": place, "include": [] });
            let answer = match self.records(collection, &body, None).await? {
                Ok(answer) => answer,
                Err(refusal) if refusal.is_refused() && sizes.peek().is_some() && place == 0 => {
                    tracing::warn!(store = %self.store, %refusal, "asking for fewer ids at once");
                    size = sizes.next().unwrap_or(1);
                    continue;
                }
                Err(refusal) => return Err(refusal.into_error(&self.store, &doing)),
            };
            let page: Page = self.read(&doing, &answer)?;
            let taking = Arc::clone(&ids);
            let take = move || taking.lock().unwrap_or_else(PoisonError::into_inner).take(place, &page.ids);
            match self.blocking(&doing, take).await? {
                Next::End => break,
                Next::At(next) => (place, step) = (next, 1),
                Next::Back if steps_back == STEPS_BACK => return Err(self.restless(&doing)),
                Next::Back => {
                    steps_back += 1;
                    // Twice as far each time, to the beginning in the end.
                    place = place.saturating_sub(step);
                    step *= 2;
                }
            }
        }
        let after = self.count(collection).await?;
        let ids = Arc::into_inner(ids).ok_or_else(|| self.error(StoreErrorKind::Internal, &*doing))?;
        let count = self.blocking_count(&doing, &ids)?;
        let metric = if collection.says_metric { None } else { self.searched_metric(collection).await? };
        let listing = Listing { ids, count, counted: (before, after), metric };
        if let Some(note) = listing.note() {
            tracing::warn!(store = %self.store, collection = collection.full_name(), "{note}");
        }
        Ok(listing)
    }

    fn blocking_count(&self, doing: &str, ids: &Mutex<Ids>) -> Result<u64> {
        let counted = ids.lock().unwrap_or_else(PoisonError::into_inner).count(None, None);
        counted.map_err(|fault| fault.into_error(&self.store, doing))
    }

    fn restless(&self, doing: &str) -> StoreError {
        let context = format!("{doing}: it changes faster than it can be listed");
        self.error(StoreErrorKind::SnapshotLost, context)
            .with_hint("stop the program that deletes from the collection, then `whimbrel resume`")
    }

    /// Does something that may block, on a thread of its own; `doing` says what failed.
    pub(super) async fn blocking<T: Send + 'static>(
        &self,
        doing: &str,
        work: impl FnOnce() -> Outcome<T> + Send + 'static,
    ) -> Result<T> {
        match tokio::task::spawn_blocking(work).await {
            Ok(done) => done.map_err(|fault| fault.into_error(&self.store, doing)),
            Err(error) => {
                let context = format!("{doing}: the thread ended badly");
                Err(self.error(StoreErrorKind::Internal, context).caused_by(error))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lists a collection by pages of a size, while `meddle` changes it before each request.
    fn list(
        mut held: Vec<String>,
        size: usize,
        mut meddle: impl FnMut(usize, &mut Vec<String>),
    ) -> Vec<String> {
        let mut ids = Ids::make().unwrap();
        let (mut place, mut step) = (0, 1);
        for request in 0.. {
            meddle(request, &mut held);
            let page: Vec<_> = held.iter().skip(place).take(size).cloned().collect();
            match ids.take(place, &page).unwrap() {
                Next::End => break,
                Next::At(next) => (place, step) = (next, 1),
                Next::Back => {
                    place = place.saturating_sub(step);
                    step *= 2;
                }
            }
        }
        ids.between(None, None, 0, usize::MAX >> 1).unwrap()
    }

    fn named(numbers: impl IntoIterator<Item = usize>) -> Vec<String> {
        numbers.into_iter().map(|number| format!("{number:04}")).collect()
    }

    #[test]
    fn a_quiet_collection_is_listed_whole_whatever_the_page() {
        for count in [0, 1, 2, 3, 10, 11, 100] {
            for size in [2, 3, 10, 1000] {
                assert_eq!(list(named(0..count), size, |_, _| {}), named(0..count), "{count} by {size}");
            }
        }
    }

    #[test]
    fn nothing_that_is_there_all_the_time_is_left_out() {
        // Deleted from the front, what is behind moves forward, past where the next page begins.
        let found = list(named(0..100), 10, |request, held| {
            if (1..6).contains(&request) {
                held.drain(..7);
            }
        });
        assert_eq!(found[found.len() - 65..], named(35..100));
        // The very id that the pages meet at goes.
        let found = list(named(0..50), 10, |request, held| {
            if request == 1 {
                held.retain(|id| id != "0009");
            }
        });
        assert_eq!(found, named(0..50));
        // All that was listed goes, and what is there is shorter than the place.
        let found = list(named(0..60), 20, |request, held| {
            if request == 2 {
                held.drain(..50);
            }
        });
        assert_eq!(found[found.len() - 10..], named(50..60));
        // Added in front, as where the order is that of the ids: pages repeat themselves, nothing is missed.
        let found = list(named(100..150), 10, |request, held| {
            if request < 9 {
                held.insert(0, format!("{:04}", 99 - request));
            }
        });
        assert_eq!(found[found.len() - 50..], named(100..150));
    }

    #[test]
    fn parts_cover_all_ids_in_the_order_of_their_bytes() {
        let mut ids = Ids::make().unwrap();
        let all = ["", "a", "a\u{0}b", "b", "é", "\u{ffff}", "\u{10000}"].map(str::to_owned);
        assert_eq!(ids.take(0, &all).unwrap(), Next::At(6));
        let listing = Listing { ids: Mutex::new(ids), count: 7, counted: (7, 7), metric: None };
        for wanted in [1, 2, 3, 7, 20] {
            let cuts = listing.boundaries(None, None, wanted).unwrap();
            assert_eq!(cuts.len(), wanted.min(7) - 1, "{wanted} wanted");
            let ends = cuts.iter().map(Some).chain([None]);
            let mut above = None;
            let mut found = Vec::new();
            for upto in ends {
                let part = listing.between(above, upto.map(String::as_str), 100).unwrap();
                assert!(!part.is_empty());
                found.extend(part);
                above = upto.map(String::as_str);
            }
            assert_eq!(found, all, "{wanted} wanted");
        }
        assert_eq!(listing.between(Some("a"), Some("b"), 1).unwrap(), ["a\u{0}b"]);
        assert_eq!(listing.boundaries(Some("b"), None, 3).unwrap(), ["é", "\u{ffff}"]);
        assert_eq!(listing.note(), None);
        let other = Listing { counted: (9, 8), ..listing };
        assert_eq!(
            other.note().unwrap(),
            "the server counts 9, and then 8 records and lists 7 ids, as somebody writes to it"
        );
    }
}
