//! Where a relation is cut.

use super::part::{KeyValue, Part, select};
use super::reading::bind;
use crate::catalog::{Layout, SliceKey};
use crate::error::from_driver;
use rusqlite::Connection;
use whimbrel_model::StoreName;
use whimbrel_store::{ReadRequest, Result};

/// How many keys are kept of those that are seen.
const SAMPLES: usize = 2_048;
/// Keys of a larger file are not all looked at, where they are no integers.
const LOOKED_AT_BYTES: i64 = 512 << 20;

/// Keys that cut a part into about `wanted` parts, ascending. Blocks.
pub(crate) fn boundaries(
    store: &StoreName,
    connection: &Connection,
    layout: &Layout,
    request: &ReadRequest,
    part: &Part,
    wanted: usize,
) -> Result<Vec<Vec<KeyValue>>> {
    let keys = Keys { store, connection, layout, request, part };
    if wanted < 2 {
        return Ok(Vec::new());
    }
    if let SliceKey::Rowid(_) = layout.slice_key
        && let Some((first, last)) = keys.ends()?
    {
        return Ok(even_cuts(first, last, wanted));
    }
    if keys.file_bytes()? > LOOKED_AT_BYTES {
        return Ok(Vec::new());
    }
    keys.sampled(wanted)
}

struct Keys<'a> {
    store: &'a StoreName,
    connection: &'a Connection,
    layout: &'a Layout,
    request: &'a ReadRequest,
    part: &'a Part,
}

impl Keys<'_> {
    fn failed(&self, error: rusqlite::Error) -> whimbrel_store::StoreError {
        from_driver(self.store, format!("cannot cut {} into slices", self.layout.name), error)
    }

    fn file_bytes(&self) -> Result<i64> {
        let sql = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()";
        self.connection.query_row(sql, [], |row| row.get(0)).map_err(|error| self.failed(error))
    }

    /// The first and the last rowid; `None`: there is no row.
    fn ends(&self) -> Result<Option<(i64, i64)>> {
        let select = select(self.layout, self.part, "1", None, true);
        let mut ends = Vec::new();
        for sql in [format!("{select} LIMIT 1"), format!("{select} DESC LIMIT 1")] {
            let mut statement = self.connection.prepare(&sql).map_err(|error| self.failed(error))?;
            bind(self.store, &mut statement, self.part, &self.request.parameters)?;
            let mut rows = statement.raw_query();
            let row = rows.next().map_err(|error| self.failed(error))?;
            ends.extend(row.map(|row| row.get::<_, i64>(0)).transpose().map_err(|error| self.failed(error))?);
        }
        Ok(<[i64; 2]>::try_from(ends).ok().map(|[first, last]| (first, last)))
    }

    /// Every n-th key of all, where n grows with their number.
    fn sampled(&self, wanted: usize) -> Result<Vec<Vec<KeyValue>>> {
        let sql = select(self.layout, self.part, "1", None, true);
        let mut statement = self.connection.prepare(&sql).map_err(|error| self.failed(error))?;
        bind(self.store, &mut statement, self.part, &self.request.parameters)?;
        let columns = self.layout.slice_key.expressions().len();
        let mut rows = statement.raw_query();
        let (mut samples, mut every, mut seen) = (Vec::new(), 1_usize, 0_usize);
        while let Some(row) = rows.next().map_err(|error| self.failed(error))? {
            if seen.is_multiple_of(every) {
                let key = (0..columns).map(|at| row.get_ref(at).map(KeyValue::of));
                let key =
                    key.collect::<rusqlite::Result<Option<Vec<_>>>>().map_err(|error| self.failed(error))?;
                samples.extend(key);
            }
            seen += 1;
            if samples.len() == SAMPLES {
                let mut at = 0;
                samples.retain(|_| {
                    at += 1;
                    at % 2 == 1
                });
                every *= 2;
            }
        }
        let mut cuts: Vec<Vec<KeyValue>> = Vec::new();
        for cut in 1..wanted.min(samples.len()) {
            let Some(key) = samples.get(cut * samples.len() / wanted.min(samples.len())) else { continue };
            if cuts.last() != Some(key) {
                cuts.push(key.clone());
            }
        }
        // Behind the last key of all there is nothing to cut off.
        Ok(cuts)
    }
}

/// Integers that cut the stretch from the first to the last into parts of one length.
fn even_cuts(first: i64, last: i64, wanted: usize) -> Vec<Vec<KeyValue>> {
    let length = i128::from(last) - i128::from(first) + 1;
    let parts = i128::try_from(wanted).unwrap_or(1).min(length);
    let cut = |at: i128| i64::try_from(i128::from(first) + length * at / parts - 1).ok();
    (1..parts).filter_map(cut).map(|key| vec![KeyValue::Integer(key)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_are_even_and_reach_the_ends_of_integers() {
        let cuts = |first, last, wanted| {
            let keys = even_cuts(first, last, wanted).into_iter().flatten();
            keys.map(|key| if let KeyValue::Integer(key) = key { key } else { 0 }).collect::<Vec<_>>()
        };
        assert_eq!(cuts(1, 100, 4), [25, 50, 75]);
        assert_eq!(cuts(5, 6, 7), [5]);
        assert_eq!(cuts(5, 5, 7), [] as [i64; 0]);
        assert_eq!(cuts(i64::MIN, i64::MAX, 2), [-1]);
    }
}
