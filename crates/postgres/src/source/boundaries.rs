//! Where slices end: at keys with about as many records between each two of them.
//!
//! Keys are taken by rank, never by arithmetic, so that gaps and crowds among them make no difference. A small
//! relation is ranked whole. Of a large table a share of the pages is looked at: records of one page often lie
//! close together in the order of the key, so that what counts is the number of pages and not of records. What
//! has no pages to choose from (views, queries) is sampled by record once it is large.

use super::PostgresSource;
use crate::catalog::Layout;
use crate::client::{Lease, first_value};
use crate::error::from_driver;
use crate::sql::{self, Part, Relation, Sample};
use whimbrel_store::Result;

/// How many parts a straggler's rest becomes.
pub(super) const SPLIT_INTO: usize = 4;
/// How many pages stand for one slice: its size is then off by a quarter or so, by chance. A run waits for them before it
/// reads its first record, and slices are worked on side by side whatever their size.
const PAGES_PER_SLICE: usize = 16;
/// More pages than this are never looked at.
const MAX_PAGES: usize = 32_768;
/// Beyond so many records a relation without pages is sampled.
const ALL_UP_TO: u64 = 1_000_000;
/// How many records then stand for one slice.
const RECORDS_PER_SLICE: usize = 4_000;

impl PostgresSource {
    /// The last keys of the parts that a part is cut into, but for the last one's; without repetition.
    pub(super) async fn boundaries(
        &self,
        lease: &Lease,
        layout: &Layout,
        part: &Part,
        wanted: usize,
    ) -> Result<Vec<Vec<String>>> {
        let sample = self.sample(lease, layout, part, wanted).await?;
        let found = self.ranked(lease, layout, part, wanted, sample).await?;
        if sample != Sample::All && found.is_empty() {
            return self.ranked(lease, layout, part, wanted, Sample::All).await;
        }
        Ok(found)
    }

    async fn sample(&self, lease: &Lease, layout: &Layout, part: &Part, wanted: usize) -> Result<Sample> {
        let is_whole = *part == Part::Range { above: None, upto: None };
        // Only some of the pages hold records of a part; how many is not known.
        let enough = if is_whole { (PAGES_PER_SLICE * wanted).min(MAX_PAGES) } else { MAX_PAGES };
        if layout.can_sample {
            let pages = self.pages(lease, layout).await?;
            #[expect(clippy::cast_precision_loss, reason = "a share of pages, roughly")]
            let percent = 100.0 * enough as f64 / pages.max(1) as f64;
            // To look at most of the pages is no less work than to look at all of them.
            return Ok(if percent < 60.0 { Sample::Pages(percent) } else { Sample::All });
        }
        let records = self.count(lease, layout).await?;
        if records <= ALL_UP_TO {
            return Ok(Sample::All);
        }
        #[expect(clippy::cast_precision_loss, reason = "a share of records, roughly")]
        let share = (RECORDS_PER_SLICE * wanted) as f64 / records as f64;
        Ok(if share < 0.6 { Sample::Records(share) } else { Sample::All })
    }

    /// The pages of a table, with those of its partitions and of the tables that inherit from it.
    async fn pages(&self, lease: &Lease, layout: &Layout) -> Result<u64> {
        let Relation::Table { sql, .. } = &layout.relation else { return Ok(0) };
        let name = sql.replace('\'', "''");
        let sql = format!(
            "WITH RECURSIVE tree(oid) AS (SELECT '{name}'::regclass::oid UNION \
             SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN tree t ON i.inhparent = t.oid) \
             SELECT (sum(pg_relation_size(t.oid)) / current_setting('block_size')::int)::bigint \
             FROM tree t JOIN pg_catalog.pg_class c ON c.oid = t.oid WHERE c.relkind IN ('r', 'm')"
        );
        let answer = lease.client().simple_query(&sql).await.map_err(|error| {
            from_driver(&self.store, format!("cannot measure {}", layout.relation.name()), error)
        })?;
        Ok(first_value(&answer).and_then(|pages| pages.parse().ok()).unwrap_or(0))
    }

    async fn ranked(
        &self,
        lease: &Lease,
        layout: &Layout,
        part: &Part,
        wanted: usize,
        sample: Sample,
    ) -> Result<Vec<Vec<String>>> {
        let failed =
            |error| from_driver(&self.store, format!("cannot slice {}", layout.relation.name()), error);
        let sql = sql::boundaries(layout, part, wanted, sample)
            .ok_or_else(|| self.internal("boundaries hold U+0000"))?;
        let rows = lease.client().query(&sql, &[]).await.map_err(failed)?;
        let mut boundaries = Vec::with_capacity(rows.len());
        for row in rows {
            let key =
                (0..row.len()).map(|at| row.try_get(at)).collect::<std::result::Result<Vec<String>, _>>();
            boundaries.push(key.map_err(failed)?);
        }
        // Behind the last key there is nothing to cut off.
        let last = boundaries.pop();
        boundaries.dedup();
        boundaries.retain(|key| Some(key) != last.as_ref());
        if let Part::Range { upto: Some(upto), .. } = part {
            boundaries.retain(|key| key != upto);
        }
        Ok(boundaries)
    }
}
