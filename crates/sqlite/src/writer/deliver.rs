//! Writing one batch inside the open transaction, record by record: a statement that fails undoes itself alone.

use super::{Keeping, Route, Whole};
use crate::encode::{Encoder, Meaning, Row, Scratch, Stored, unfit};
use crate::error::{from_driver, is_about_a_record, is_duplicate, is_orphan, mismatch};
use crate::sql::identifier;
use rusqlite::{CachedStatement, Connection, OptionalExtension as _};
use std::collections::HashMap;
use whimbrel_model::canonical::Canonical;
use whimbrel_model::{Fingerprint, FingerprintKey, Stage, StoreName};
use whimbrel_store::{Mode, Outcome, Refusal, Result, WriteBatch, WriteOutcome};

/// The most characters of a reason.
const REASON_CHARACTERS: usize = 400;

/// A batch on its way. Blocks.
pub(crate) struct Delivery<'a> {
    pub store: &'a StoreName,
    pub connection: &'a Connection,
    pub route: &'a Route,
    pub mode: Mode,
    pub contested: bool,
    pub key: &'a FingerprintKey,
    /// Whose before-images are kept, and how; `None`: nobody's.
    pub keeping: Option<(&'a Keeping, &'a Whole)>,
}

/// What became of a statement.
enum Done {
    /// It wrote a row.
    Written,
    /// A trigger had it do nothing.
    Ignored,
    Refused(rusqlite::Error),
}

impl Delivery<'_> {
    /// Writes all records; every one gets its outcome.
    pub(crate) fn deliver(&self, batch: &WriteBatch) -> Result<WriteOutcome> {
        let encoder = &self.route.encoder;
        let count = batch.records.num_rows();
        let arrays = match encoder.arrays(&batch.records) {
            Ok(arrays) => arrays,
            Err(refusal) => {
                let outcomes = vec![Outcome::Rejected(refusal); count];
                return Ok(WriteOutcome { outcomes, ..WriteOutcome::default() });
            }
        };
        let guards = self.route.guards.as_ref().zip(batch.guards.as_ref());
        let guards = guards.map(|(encoder, records)| Ok((encoder, encoder.arrays(records)?)));
        let guards = guards.transpose().map_err(|refusal: Refusal| mismatch(self.store, refusal.reason))?;
        let (mut scratch, mut written) = (Scratch::default(), WriteOutcome::default());
        let mut arrived = HashMap::with_capacity(count);
        for number in 0..count {
            let row = match encoder.row(&arrays, number, self.key, &mut scratch) {
                Ok(row) => row,
                Err(refusal) => {
                    written.outcomes.push(Outcome::Rejected(refusal));
                    continue;
                }
            };
            if !encoder.key().is_empty() && arrived.contains_key(&row.fingerprint.key) {
                let reason = "a second record with the key of an earlier one";
                written.outcomes.push(Outcome::Rejected(unfit(reason.to_owned())));
                continue;
            }
            let outcome = match &guards {
                None => self.write(&row, &[])?,
                Some((encoder, arrays)) => match encoder.row(arrays, number, self.key, &mut scratch) {
                    Ok(guard) => self.write(&row, &guard.values)?,
                    Err(refusal) => {
                        Outcome::Rejected(unfit(format!("the value that was read of {}", refusal.reason)))
                    }
                },
            };
            if matches!(outcome, Outcome::Created(_) | Outcome::Updated(_)) {
                let size: usize = row.values.iter().map(Stored::size).sum();
                written.bytes += u64::try_from(size).unwrap_or(0);
            }
            // A key is free for the next record only where the first of it did not arrive.
            if !matches!(outcome, Outcome::Rejected(_)) {
                arrived.insert(row.fingerprint.key, ());
            }
            written.outcomes.push(outcome);
        }
        Ok(written)
    }

    fn failed(&self, error: rusqlite::Error) -> whimbrel_store::StoreError {
        from_driver(self.store, "cannot write a batch", error)
    }

    fn write(&self, row: &Row<'_>, guards: &[Stored<'_>]) -> Result<Outcome> {
        if self.route.table.may_defer
            && let Some(reason) = self.orphan(row)?
        {
            return Ok(refused(reason));
        }
        if self.keeping.is_some() && self.key_of(row).any(|value| *value == Stored::Null) {
            return Ok(refused("its key holds NULL, so that what is written could not be undone".to_owned()));
        }
        if self.mode == Mode::Update {
            return match self.held(row)? {
                Some(held) => self.update(row, &held, guards),
                None => Ok(refused("the key does not exist".to_owned())),
            };
        }
        let error = match self.execute(&self.route.statements.insert, row.values.iter())? {
            Done::Written => {
                self.keep(row, None)?;
                return Ok(Outcome::Created(row.fingerprint));
            }
            Done::Ignored => return Ok(refused("a trigger of the table dropped it".to_owned())),
            Done::Refused(error) => error,
        };
        if is_duplicate(&error)
            && let Some(held) = self.held(row)?
        {
            return self.beside(row, &held);
        }
        if is_orphan(&error)
            && let Some(reason) = self.orphan(row)?
        {
            return Ok(refused(reason));
        }
        Ok(refused(reason(&error)))
    }

    /// The table holds the record's key already.
    fn beside(&self, row: &Row<'_>, held: &[Stored<'_>]) -> Result<Outcome> {
        let encoder = &self.route.encoder;
        if !encoder.is_inside(held) {
            return Ok(refused("the key is held outside of the flow's scope".to_owned()));
        }
        match self.mode {
            Mode::Insert | Mode::SkipExisting if self.contested && encoder.is_same(&row.values, held) => {
                Ok(Outcome::Created(row.fingerprint))
            }
            Mode::Insert => Ok(refused("the key exists already".to_owned())),
            Mode::SkipExisting => Ok(Outcome::Skipped),
            Mode::Changed if encoder.is_same(&row.values, held) => Ok(Outcome::Unchanged(row.fingerprint)),
            Mode::Upsert | Mode::Update | Mode::Changed => self.overwrite(row, row.fingerprint),
        }
    }

    fn update(&self, row: &Row<'_>, held: &[Stored<'_>], guards: &[Stored<'_>]) -> Result<Outcome> {
        let encoder = &self.route.encoder;
        if !encoder.is_inside(held) {
            return Ok(refused("the key is held outside of the flow's scope".to_owned()));
        }
        if encoder.is_same(&row.values, held) {
            return Ok(Outcome::Unchanged(row.fingerprint));
        }
        let conflicts = self.conflicts(held, guards);
        if !conflicts.is_empty() {
            let conflicts = conflicts.join(", ");
            return Ok(refused(format!(
                "conflict: {conflicts} changed since it was read; the newer value stays"
            )));
        }
        self.overwrite(row, row.fingerprint)
    }

    /// The guarded columns that hold something else than was read.
    fn conflicts(&self, held: &[Stored<'_>], guards: &[Stored<'_>]) -> Vec<String> {
        let Some(encoder) = &self.route.guards else { return Vec::new() };
        let own = |name: &str| self.route.encoder.columns().iter().position(|column| column.name == name);
        let differs = |(column, guard): &(&crate::encode::Filled, &Stored<'_>)| {
            let held = own(&column.name).and_then(|at| held.get(at));
            held.is_none_or(|held| !is_equal(held, guard, column.meaning))
        };
        let columns = encoder.columns().iter().zip(guards);
        columns.filter(differs).map(|(column, _)| column.name.clone()).collect()
    }

    fn overwrite(&self, row: &Row<'_>, fingerprint: Fingerprint) -> Result<Outcome> {
        let Some(update) = &self.route.statements.update else { return Ok(Outcome::Updated(fingerprint)) };
        let before = match self.keeping {
            Some((_, whole)) => whole.row(self.connection, &self.key_of(row).cloned().collect::<Vec<_>>())?,
            None => None,
        };
        let places = self.route.statements.set.iter().chain(self.route.encoder.key());
        Ok(match self.execute(update, places.filter_map(|at| row.values.get(*at)))? {
            Done::Written => {
                self.keep(row, before.as_deref())?;
                Outcome::Updated(fingerprint)
            }
            Done::Ignored => refused("a trigger of the table kept the old row".to_owned()),
            Done::Refused(error) if is_orphan(&error) => {
                refused(self.orphan(row)?.unwrap_or_else(|| reason(&error)))
            }
            Done::Refused(error) => refused(reason(&error)),
        })
    }

    fn key_of<'v, 's>(&self, row: &'v Row<'s>) -> impl Iterator<Item = &'v Stored<'s>> {
        self.route.encoder.key().iter().filter_map(|at| row.values.get(*at))
    }

    /// Keeps what a row was that was written.
    fn keep(&self, row: &Row<'_>, before: Option<&[u8]>) -> Result<()> {
        let Some((keeping, whole)) = self.keeping else { return Ok(()) };
        let key: Vec<_> = self.key_of(row).cloned().collect();
        whole.keep(self.connection, keeping, &key, before, self.key)
    }

    fn prepared(&self, sql: &str) -> Result<CachedStatement<'_>> {
        self.connection.prepare_cached(sql).map_err(|error| self.failed(error))
    }

    fn execute<'v, 's: 'v>(&self, sql: &str, values: impl Iterator<Item = &'v Stored<'s>>) -> Result<Done> {
        let mut statement = self.prepared(sql)?;
        let mut bound = Ok(());
        for (at, value) in (1..).zip(values) {
            bound = bound.and_then(|()| statement.raw_bind_parameter(at, value));
        }
        match bound.and_then(|()| statement.raw_execute()) {
            Ok(0) => Ok(Done::Ignored),
            Ok(_) => Ok(Done::Written),
            Err(error) if self.connection.is_autocommit() => {
                let context = "a record made the whole transaction roll back: a trigger says RAISE(ROLLBACK)";
                Err(mismatch(self.store, context)
                    .caused_by(error)
                    .with_hint("have the trigger say RAISE(ABORT), which refuses the record alone"))
            }
            Err(error) if is_about_a_record(&error) => Ok(Done::Refused(error)),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// What the table holds under the record's key, in the encoder's order.
    fn held(&self, row: &Row<'_>) -> Result<Option<Vec<Stored<'static>>>> {
        let Some(select) = &self.route.statements.select else { return Ok(None) };
        let mut statement = self.prepared(select)?;
        let columns = self.route.encoder.columns().len();
        find(&mut statement, &self.route.encoder, &row.values, columns).map_err(|error| self.failed(error))
    }

    /// Which foreign key of the record refers to nothing.
    fn orphan(&self, row: &Row<'_>) -> Result<Option<String>> {
        let table = &self.route.table;
        let value_of = |name: &String| {
            let at = self.route.encoder.columns().iter().position(|column| column.name == *name)?;
            row.values.get(at).filter(|value| **value != Stored::Null)
        };
        for (at, key) in table.foreign_keys.iter().enumerate() {
            let Some(values) = key.columns.iter().map(value_of).collect::<Option<Vec<_>>>() else { continue };
            let Some((sql, parent_columns)) = self.route.parents.get(at) else { continue };
            let is_own = key.parent.eq_ignore_ascii_case(&table.name)
                && parent_columns.iter().map(value_of).eq(values.iter().map(|value| Some(*value)));
            if is_own {
                continue;
            }
            let mut statement = self.prepared(sql)?;
            let mut bound = Ok(());
            for (at, value) in (1..).zip(&values) {
                bound = bound.and_then(|()| statement.raw_bind_parameter(at, value));
            }
            let found = bound.and_then(|()| Ok(statement.raw_query().next()?.is_some()));
            if !found.map_err(|error| self.failed(error))? {
                let (columns, parent) = (key.columns.join(", "), identifier(&key.parent));
                return Ok(Some(format!(
                    "FOREIGN KEY constraint failed: ({columns}) refers to no row of {parent}"
                )));
            }
        }
        Ok(None)
    }
}

/// Steps a statement whose parameters are a key and whose first fields are a row.
pub(crate) fn find(
    statement: &mut CachedStatement<'_>,
    encoder: &Encoder,
    values: &[Stored<'_>],
    columns: usize,
) -> rusqlite::Result<Option<Vec<Stored<'static>>>> {
    for (at, place) in (1..).zip(encoder.key()) {
        if let Some(value) = values.get(*place) {
            statement.raw_bind_parameter(at, value)?;
        }
    }
    let mut rows = statement.raw_query();
    let found = rows.next()?.map(|row| {
        (0..columns).map(|at| row.get_ref(at).map(|value| Stored::of(value).into_owned())).collect()
    });
    found.transpose().optional().map(Option::flatten)
}

fn is_equal(one: &Stored<'_>, other: &Stored<'_>, meaning: Meaning) -> bool {
    let (mut left, mut right) = (Canonical::default(), Canonical::default());
    one.canonical(meaning, &mut left);
    other.canonical(meaning, &mut right);
    left.bytes() == right.bytes()
}

/// A refusal by the database.
fn refused(reason: String) -> Outcome {
    Outcome::Rejected(Refusal { stage: Stage::Write, reason })
}

/// SQLite's own words.
fn reason(error: &rusqlite::Error) -> String {
    let text = match error {
        rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
        other => other.to_string(),
    };
    if text.chars().count() <= REASON_CHARACTERS {
        return text;
    }
    text.chars().take(REASON_CHARACTERS).chain(['…']).collect()
}
