//! Undoing a run: a table is brought back in one transaction, by the before-images that the run's own transactions
//! have kept. The latest write is taken back first.

use super::route;
use crate::catalog::Table;
use crate::encode::{Encoder, Stored};
use crate::error::from_driver;
use crate::sql::{identifier, identifiers, is_same_name};
use crate::writer::{Whole, by_key, hash, pack, unpack};
use rusqlite::{Connection, OptionalExtension as _, params};
use serde_json::{Map, Value};
use whimbrel_model::{FingerprintKey, StoreName};
use whimbrel_store::undo::CONFLICTS_LISTED;
use whimbrel_store::{Result, StoreError, StoreErrorKind, UndoStep, Undone};

/// The key of a table that was brought back.
const DONE: &[u8] = &[];

const IMAGES: &str = "SELECT key, before, after FROM whimbrel_before_image \
    WHERE run = ?1 AND name = ?2 AND key <> x'' ORDER BY id DESC";

/// What finds rows of a table by its key alone: no flow's columns need be known for that.
pub(super) fn key_encoder(store: &StoreName, table: &Table, key: &[String]) -> Result<Encoder> {
    let columns = key.iter().map(|name| {
        let column = route::existing(store, table, name, "it is part of the key")?;
        Ok(route::plain(table, column))
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    Encoder::new(columns, key, []).map_err(|reason| crate::error::mismatch(store, reason))
}

/// Undoes one run in one table, in the open transaction.
pub(super) struct Undoing<'a> {
    pub store: &'a StoreName,
    pub connection: &'a Connection,
    pub table: &'a Table,
    /// The columns of the key, in the order of `encoder`'s.
    pub key: &'a [String],
    pub encoder: &'a Encoder,
    pub run: &'a str,
    pub flow: &'a str,
    pub print: &'a FingerprintKey,
}

/// A before-image.
struct Image {
    key: Vec<u8>,
    before: Option<Vec<u8>>,
    after: Option<Vec<u8>>,
}

impl Undoing<'_> {
    /// Looks what there is to be brought back, and does it where it is asked for and nobody is in the way; `true`:
    /// something was written.
    pub(super) fn undo(&self, step: UndoStep) -> Result<(Undone, bool)> {
        let nothing = Undone { nothing_kept: true, ..Undone::default() };
        if !crate::writer::has_images(self.store, self.connection)? {
            return Ok((nothing, false));
        }
        let done = "SELECT 1 FROM whimbrel_before_image WHERE run = ?1 AND name = ?2 AND key = ?3";
        let done = self.connection.query_row(done, params![self.run, self.table.name, DONE], |_| Ok(()));
        if done.optional().map_err(|error| self.failed(error))?.is_some() {
            return Ok((Undone { already: true, ..Undone::default() }, false));
        }
        let whole = Whole::new(self.store, self.table, self.encoder);
        let mut undone = nothing;
        self.each(|image| self.look(&whole, image, &mut undone))?;
        if step == UndoStep::Look || undone.conflicts > 0 || undone.nothing_kept {
            return Ok((undone, false));
        }
        // Rows of the table may refer to each other: what holds in the end is what counts.
        self.execute("PRAGMA defer_foreign_keys = ON", &[])?;
        if step == UndoStep::All {
            self.each(|image| self.take_away(image))?;
            self.each(|image| self.set_back(&whole, image))?;
        }
        self.each(|image| self.put_back(&whole, image))?;
        if step == UndoStep::All {
            self.close()?;
        }
        Ok((undone, true))
    }

    fn failed(&self, error: rusqlite::Error) -> StoreError {
        let context = format!("cannot undo what was written into {}", self.table.quoted());
        from_driver(self.store, context, error)
    }

    fn each(&self, mut work: impl FnMut(&Image) -> Result<()>) -> Result<()> {
        let mut statement = self.connection.prepare(IMAGES).map_err(|error| self.failed(error))?;
        let mut rows =
            statement.query(params![self.run, self.table.name]).map_err(|error| self.failed(error))?;
        while let Some(row) = rows.next().map_err(|error| self.failed(error))? {
            let image = || Ok(Image { key: row.get(0)?, before: row.get(1)?, after: row.get(2)? });
            work(&image().map_err(|error| self.failed(error))?)?;
        }
        Ok(())
    }

    fn values<'v>(&self, packed: &'v [u8], count: usize) -> Result<Vec<Stored<'v>>> {
        unpack(packed).filter(|values| values.len() == count).ok_or_else(|| {
            let context =
                format!("a before-image of {} does not fit the table as it is now", self.table.quoted());
            StoreError::new(StoreErrorKind::Mismatch, self.store, context)
                .with_hint("a column was added or removed since the run; a backup can help")
        })
    }

    fn key<'v>(&self, image: &'v Image) -> Result<Vec<Stored<'v>>> {
        self.values(&image.key, self.key.len())
    }

    fn look(&self, whole: &Whole, image: &Image, undone: &mut Undone) -> Result<()> {
        let key = self.key(image)?;
        let now = whole.row(self.connection, &key)?;
        undone.nothing_kept = false;
        let is_ours = now.as_ref().map(|now| hash(now, self.print)) == image.after;
        if !is_ours && now != image.before {
            undone.conflicts += 1;
            if undone.conflicting.len() < CONFLICTS_LISTED {
                let shown = self.key.iter().zip(self.encoder.columns().iter().zip(&key));
                let shown = shown.map(|(name, (column, value))| (name.clone(), value.json(column.meaning)));
                undone.conflicting.push(shown.collect::<Map<String, Value>>());
            }
        } else if image.before.is_some() {
            undone.restored += 1;
        } else {
            undone.removed += 1;
        }
        Ok(())
    }

    fn execute(&self, sql: &str, values: &[&Stored<'_>]) -> Result<()> {
        let run = || {
            let mut statement = self.connection.prepare_cached(sql)?;
            for (at, value) in (1..).zip(values) {
                statement.raw_bind_parameter(at, value)?;
            }
            statement.raw_execute().map(|_| ())
        };
        run().map_err(|error| self.failed(error))
    }

    /// Deletes what was added.
    fn take_away(&self, image: &Image) -> Result<()> {
        if image.before.is_some() {
            return Ok(());
        }
        let sql = format!("DELETE FROM {} WHERE {}", self.table.quoted(), by_key(self.encoder, 1));
        self.execute(&sql, &self.key(image)?.iter().collect::<Vec<_>>())
    }

    /// Sets what was written over.
    fn set_back(&self, whole: &Whole, image: &Image) -> Result<()> {
        let Some(before) = &image.before else { return Ok(()) };
        let (key, row) = (self.key(image)?, self.values(before, whole.columns.len())?);
        let is_key = |name: &String| self.key.iter().any(|key| is_same_name(key, name));
        let set: Vec<_> = whole.columns.iter().zip(&row).filter(|(name, _)| !is_key(name)).collect();
        if set.is_empty() {
            return Ok(());
        }
        let assigned = set.iter().zip(1..).map(|((name, _), at)| format!("{} = ?{at}", identifier(name)));
        let sql = format!(
            "UPDATE OR ABORT {} SET {} WHERE {}",
            self.table.quoted(),
            assigned.collect::<Vec<_>>().join(", "),
            by_key(self.encoder, 1 + set.len())
        );
        self.execute(&sql, &set.iter().map(|(_, value)| *value).chain(&key).collect::<Vec<_>>())
    }

    /// Puts back what was deleted, and notes what it is now: a trigger may have had a part in that.
    fn put_back(&self, whole: &Whole, image: &Image) -> Result<()> {
        let (Some(before), None) = (&image.before, &image.after) else { return Ok(()) };
        let key = self.key(image)?;
        if whole.row(self.connection, &key)?.is_some() {
            return Ok(());
        }
        let row = self.values(before, whole.columns.len())?;
        let places: Vec<_> = (1..=row.len()).map(|at| format!("?{at}")).collect();
        let sql = format!(
            "INSERT OR ABORT INTO {} ({}) VALUES ({})",
            self.table.quoted(),
            identifiers(&whole.columns),
            places.join(", ")
        );
        self.execute(&sql, &row.iter().collect::<Vec<_>>())?;
        let after = whole.row(self.connection, &key)?.map(|row| hash(&row, self.print));
        let sql = "UPDATE whimbrel_before_image SET after = ?4 WHERE run = ?1 AND name = ?2 AND key = ?3";
        let noted = self.connection.execute(sql, params![self.run, self.table.name, pack(&key), after]);
        noted.map(|_| ()).map_err(|error| self.failed(error))
    }

    /// The images are needed no more; that they were there is kept.
    fn close(&self) -> Result<()> {
        let close = || {
            let sql = "DELETE FROM whimbrel_before_image WHERE run = ?1 AND name = ?2";
            self.connection.execute(sql, params![self.run, self.table.name])?;
            let sql = "INSERT INTO whimbrel_before_image (run, name, flow, key) VALUES (?1, ?2, ?3, ?4)";
            self.connection.execute(sql, params![self.run, self.table.name, self.flow, DONE])
        };
        close().map(|_| ()).map_err(|error| self.failed(error))
    }
}
