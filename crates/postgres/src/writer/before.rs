//! What a batch writes over, kept in the batch's own transaction: the rows are locked and copied before the merge, and
//! what became of them is noted after it.

use super::deliver::Delivery;
use super::merge::Plan;
use crate::error::from_driver;
use crate::template::identifier;
use tokio_postgres::types::ToSql;
use whimbrel_store::{Mode, Outcome, Result, StoreError, StoreErrorKind};

/// The statements that keep before-images of a merge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Images {
    /// Makes the table of what stood there, with nothing in it.
    pub make: String,
    /// Copies the rows that a stretch (`$1` to `$2`) is about to meet; where they may be changed they stay locked.
    pub take: String,
    /// Keeps what became of rows (`$3`) of a run (`$1`) and flow (`$2`); answers with how many, and how many of those
    /// that were changed (`$4`) had not been copied.
    pub keep: String,
}

/// Whose before-images are kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keeping<'a> {
    pub run: &'a str,
    pub flow: &'a str,
}

/// A row's content as a hash: what tells later whether others have written to it.
pub(crate) fn digest(row: &str) -> String {
    format!("pg_catalog.sha256(pg_catalog.convert_to(({row}.*)::text, 'UTF8'))")
}

impl Plan<'_> {
    pub(super) fn images(&self, stage: &str) -> Images {
        let was = stage.replacen("whimbrel_", "whimbrel_was_", 1);
        let table = &self.table.sql;
        let by_key = self.by_key();
        let changes = matches!(self.mode, Mode::Upsert | Mode::Changed | Mode::Update);
        let lock = if changes { " FOR UPDATE OF t" } else { "" };
        let key: Vec<_> = self.key.iter().map(|name| format!("t.{}::text", identifier(name))).collect();
        Images {
            make: format!(
                "CREATE TEMP TABLE IF NOT EXISTS {} (n integer NOT NULL, before text NOT NULL) ON COMMIT DELETE ROWS; \
                 DELETE FROM {was}",
                &was[8..]
            ),
            take: format!(
                "INSERT INTO {was} (n, before) SELECT p.n, (t.*)::text FROM {stage} p JOIN {table} t ON {by_key} \
                 WHERE p.n >= $1 AND p.n < $2{lock}"
            ),
            keep: format!(
                "WITH kept AS (INSERT INTO whimbrel.before_image (run, table_oid, flow, key, before, after) \
                 SELECT $1, {}, $2, ARRAY[{}], w.before, {} FROM {stage} p JOIN {table} t ON {by_key} \
                 LEFT JOIN {was} w ON w.n = p.n WHERE p.n = ANY($3) RETURNING 1) \
                 SELECT (SELECT count(*) FROM kept), (SELECT count(*) FROM unnest($4::integer[]) AS u (n) \
                 WHERE NOT EXISTS (SELECT 1 FROM {was} w WHERE w.n = u.n))",
                self.table.oid,
                key.join(", "),
                digest("t")
            ),
        }
    }
}

impl Delivery<'_> {
    /// Keeps what became of these rows, as far as they were written.
    pub(super) async fn keep_images(&mut self, rows: &[usize]) -> Result<()> {
        let (Some(keeping), Some(images)) = (self.keeping, &self.statements.images) else { return Ok(()) };
        let number = |row: &usize| i32::try_from(*row).unwrap_or(i32::MAX);
        let written =
            |row: &&usize| matches!(self.outcomes[**row], Some(Outcome::Created(_) | Outcome::Updated(_)));
        let changed = |row: &&usize| matches!(self.outcomes[**row], Some(Outcome::Updated(_)));
        let all: Vec<i32> = rows.iter().filter(written).map(number).collect();
        let changed: Vec<i32> = rows.iter().filter(changed).map(number).collect();
        if all.is_empty() {
            return Ok(());
        }
        let keep = self.prepared(&images.keep).await?;
        let parameters: [&(dyn ToSql + Sync); 4] = [&keeping.run, &keeping.flow, &all, &changed];
        let kept = self.client().query_one(&keep, &parameters).await;
        let kept = kept.and_then(|row| Ok((row.try_get::<_, i64>(0)?, row.try_get::<_, i64>(1)?)));
        let (kept, unseen) =
            kept.map_err(|error| from_driver(self.store, "cannot keep before-images", error))?;
        if unseen > 0 || usize::try_from(kept) != Ok(all.len()) {
            // The transaction is given up, and the slice goes on from its checkpoint.
            let context = "a record came to be or changed its key while its before-image was taken";
            return Err(StoreError::new(StoreErrorKind::Overloaded, self.store, context));
        }
        Ok(())
    }
}
