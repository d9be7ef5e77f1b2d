//! Writing one batch inside the open transaction, until every record has an outcome.

use super::before::Keeping;
use super::merge::Statements;
use crate::encode::{HEADER, Rows, TRAILER};
use crate::error::{from_driver, is_about_a_value, is_said_of_statements};
use crate::ledger::Open;
use bytes::{BufMut as _, Bytes, BytesMut};
use futures::SinkExt as _;
use std::pin::pin;
use tokio_postgres::error::DbError;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Statement};
use whimbrel_model::{Stage, StoreName};
use whimbrel_store::Patience;
use whimbrel_store::{Mode, Outcome, Refusal, Result, RunContext, StoreError, StoreErrorKind};

/// Where what is tried next begins.
const SAVEPOINT: &str = "SAVEPOINT whimbrel_batch";
/// Undoes what was tried last.
const UNDO: &str = "ROLLBACK TO SAVEPOINT whimbrel_batch; RELEASE SAVEPOINT whimbrel_batch";
/// How much goes into one message. The server takes memory for a message whole, and gives it back with each `COPY`: for
/// large ones it spends more on new pages than on the rows.
const CHUNK_BYTES: usize = 64 << 10;
/// As much for an embedded server.
const EMBEDDED_CHUNK_BYTES: usize = 1 << 20;
/// The most characters of a reason.
const REASON_CHARACTERS: usize = 400;
/// Where the server's code finds that a policy of row-level security does not let a row in.
const POLICY_CHECK: &str = "ExecWithCheckOptions";

/// Why some rows could not be written together.
enum Failure {
    /// One of the records is to blame.
    Record(String),
    /// One of the records is, unless it is the statement itself: PostgreSQL says it of either.
    RecordOrStatement(String),
    /// The same may succeed later.
    Again(StoreError),
    /// It cannot.
    Fatal(StoreError),
}

/// A batch on its way.
pub(crate) struct Delivery<'a> {
    pub store: &'a StoreName,
    pub context: &'a RunContext,
    pub open: &'a mut Open,
    pub statements: &'a Statements,
    pub mode: Mode,
    pub rows: &'a Rows,
    pub guards: Option<&'a Rows>,
    /// How many fields a row has, and of those of its guards.
    pub fields: usize,
    pub guard_fields: usize,
    pub contested: bool,
    /// Whether the table held nothing before this run.
    pub is_new: bool,
    /// Whose before-images are kept; `None`: none are.
    pub keeping: Option<Keeping<'a>>,
    pub outcomes: &'a mut [Option<Outcome>],
}

impl Delivery<'_> {
    /// Writes the rows with these numbers, which ascend.
    pub(crate) async fn deliver(&mut self, rows: Vec<usize>) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let is_plain = self.is_new
            && !self.contested
            && matches!(self.mode, Mode::Insert | Mode::Upsert | Mode::Changed);
        if is_plain && self.direct(&rows).await? {
            return Ok(());
        }
        let staged = self.stage(rows).await?;
        self.merge_all(staged.clone()).await?;
        self.keep_images(&staged).await
    }

    pub(super) fn client(&self) -> &Client {
        self.open.lease.client()
    }

    fn judge(&self, error: tokio_postgres::Error) -> Failure {
        if let Some(db) = error.as_db_error()
            && concerns_a_record(db)
        {
            let is_doubtful = is_said_of_statements(db.code());
            return if is_doubtful {
                Failure::RecordOrStatement(reason(db))
            } else {
                Failure::Record(reason(db))
            };
        }
        let error = from_driver(self.store, "cannot write a batch", error);
        let is_alive = !self.client().is_closed();
        // Without its connection the transaction is gone, other flows' records with it.
        if error.kind() == StoreErrorKind::Overloaded && is_alive {
            Failure::Again(error)
        } else {
            Failure::Fatal(error)
        }
    }

    async fn execute(&self, sql: &str) -> Result<()> {
        let done = self.client().batch_execute(sql).await;
        done.map_err(|error| from_driver(self.store, "cannot write a batch", error))
    }

    /// Straight into the table. `false`: nothing was written; something among the rows is in the way.
    async fn direct(&mut self, rows: &[usize]) -> Result<bool> {
        let Some(copy) = &self.statements.direct else { return Ok(false) };
        let data = self.data(rows, false);
        match self.copy_in(copy, data).await {
            // A trigger may drop rows without an error. The savepoint ends with the transaction.
            Ok(count) if usize::try_from(count) == Ok(rows.len()) => {
                rows.iter().for_each(|row| self.settle(*row, Outcome::Created));
                return Ok(true);
            }
            Ok(_) => {}
            Err(Failure::Record(_) | Failure::RecordOrStatement(_) | Failure::Again(_)) => {}
            Err(Failure::Fatal(error)) => return Err(error),
        }
        self.execute(UNDO).await?;
        Ok(false)
    }

    /// Sends a whole `COPY` behind a savepoint; answers with how many rows arrived. Without its savepoint it fails for
    /// good: undone would be what an earlier one began.
    async fn copy_in(&self, sql: &str, mut data: Bytes) -> std::result::Result<u64, Failure> {
        let line = self.open.lease.line();
        // Each question to the server costs a way there and back: what is known beforehand is asked together.
        let begun = line.client().batch_execute(SAVEPOINT);
        let copying = async {
            let copy = line.prepared(sql).await?;
            line.client().copy_in::<_, Bytes>(&copy).await
        };
        let (begun, sink) = futures::join!(begun, copying);
        begun.map_err(|error| self.lost(error))?;
        let mut sink = pin!(sink.map_err(|error| self.judge(error))?);
        // An embedded server that refuses a row while messages are still to come may never answer again.
        let is_embedded = self.open.lease.is_only_one();
        let most = if is_embedded { EMBEDDED_CHUNK_BYTES } else { CHUNK_BYTES };
        while !data.is_empty() {
            let chunk = data.split_to(data.len().min(most));
            if sink.send(chunk).await.is_err() {
                // The server's answer, which `finish` reads, says why.
                break;
            }
        }
        sink.finish().await.map_err(|error| self.judge(error))
    }

    /// That a savepoint could not be made.
    fn lost(&self, error: tokio_postgres::Error) -> Failure {
        Failure::Fatal(from_driver(self.store, "cannot write a batch", error))
    }

    /// Into the staging table; answers with the rows that are there.
    async fn stage(&mut self, rows: Vec<usize>) -> Result<Vec<usize>> {
        let Statements { stage, make, copy, .. } = self.statements;
        if self.open.used.insert(stage.clone()) {
            self.execute(make).await?;
        } else {
            self.execute(&format!("DELETE FROM {stage}")).await?;
        }
        if let (Some(_), Some(images)) = (self.keeping, &self.statements.images) {
            self.execute(&images.make).await?;
        }
        let mut staged = Vec::with_capacity(rows.len());
        let mut waiting = vec![rows];
        while let Some(rows) = waiting.pop() {
            let data = self.data(&rows, true);
            let failure = match self.copy_in(copy, data).await {
                Ok(_) => {
                    self.execute("RELEASE SAVEPOINT whimbrel_batch").await?;
                    staged.extend(rows);
                    continue;
                }
                Err(failure) => failure,
            };
            let reason = match failure {
                Failure::Record(reason) | Failure::RecordOrStatement(reason) => reason,
                Failure::Again(error) | Failure::Fatal(error) => return Err(error),
            };
            self.execute(UNDO).await?;
            self.halve_or_reject(&rows, reason, &mut waiting);
        }
        Ok(staged)
    }

    /// Halves rows of which one is to blame, until it stands alone.
    fn halve_or_reject(&mut self, rows: &[usize], reason: String, waiting: &mut Vec<Vec<usize>>) {
        if let [row] = *rows {
            self.outcomes[row] = Some(refused(reason));
            return;
        }
        let (one, other) = rows.split_at(rows.len() / 2);
        waiting.extend([other.to_vec(), one.to_vec()]);
    }

    async fn merge_all(&mut self, staged: Vec<usize>) -> Result<()> {
        if staged.is_empty() {
            return Ok(());
        }
        let merge = self.prepared(&self.statements.merge).await?;
        let mut patience = Patience::new(self.context);
        let (mut is_probed, mut is_vetted) = (false, false);
        let mut waiting = vec![staged];
        while let Some(rows) = waiting.pop() {
            let Err(failure) = self.merge(&merge, &rows).await else { continue };
            // What is fatal ends the transaction, and is what is to be told: on a lost connection this would fail as well.
            if !matches!(failure, Failure::Fatal(_)) {
                rows.iter().for_each(|row| self.outcomes[*row] = None);
                self.execute(UNDO).await?;
            }
            if matches!(failure, Failure::RecordOrStatement(_)) && !is_vetted {
                is_vetted = true;
                self.vet(&merge).await?;
            }
            match failure {
                Failure::Record(_) | Failure::RecordOrStatement(_) if !is_probed && rows.len() > 1 => {
                    is_probed = true;
                    waiting.extend(Some(self.probe(rows).await?).filter(|rows| !rows.is_empty()));
                }
                Failure::Record(reason) | Failure::RecordOrStatement(reason) => {
                    self.halve_or_reject(&rows, reason, &mut waiting);
                }
                Failure::Again(error) => {
                    patience.wait(self.store, error).await?;
                    waiting.push(rows);
                }
                Failure::Fatal(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether the statement works at all: what it says of no record is about itself.
    async fn vet(&self, merge: &Statement) -> Result<()> {
        let none: [&(dyn ToSql + Sync); 2] = [&0_i32, &0_i32];
        self.execute(SAVEPOINT).await?;
        let tried = self.client().query(merge, &none).await;
        tried.map_err(|error| from_driver(self.store, "cannot write a batch", error))?;
        self.execute(UNDO).await
    }

    /// Rejects the rows that the table is known to refuse; answers with the others.
    async fn probe(&mut self, rows: Vec<usize>) -> Result<Vec<usize>> {
        let stage = &self.statements.stage;
        for sql in &self.statements.probes {
            self.execute(SAVEPOINT).await?;
            let found = self.client().query(sql.as_str(), &[]).await;
            let found = found.and_then(|rows| {
                let pair = |row: &tokio_postgres::Row| Ok((row.try_get::<_, i32>(0)?, row.try_get(1)?));
                rows.iter().map(pair).collect::<std::result::Result<Vec<(i32, String)>, _>>()
            });
            match found {
                Ok(found) => {
                    self.execute("RELEASE SAVEPOINT whimbrel_batch").await?;
                    self.take_out(stage, found).await?;
                }
                // A condition may fail on some row as it would have failed in the table: halving finds it.
                Err(error) => match self.judge(error) {
                    Failure::Record(_) | Failure::RecordOrStatement(_) | Failure::Again(_) => {
                        self.execute(UNDO).await?;
                    }
                    Failure::Fatal(error) => return Err(error),
                },
            }
        }
        let left: Vec<_> = rows.iter().copied().filter(|row| self.outcomes[*row].is_none()).collect();
        // From here on small stretches may be asked for, again and again.
        let index = format!("CREATE INDEX IF NOT EXISTS whimbrel_{} ON {stage} (n)", stage_suffix(stage));
        self.execute(&index).await?;
        Ok(left)
    }

    /// Rejects rows of the stage, and takes them out of it: merges take stretches of numbers, and what is looked for
    /// next may rest on what is staged.
    async fn take_out(&mut self, stage: &str, found: Vec<(i32, String)>) -> Result<()> {
        let gone: Vec<i32> = found.iter().map(|(row, _)| *row).collect();
        for (row, reason) in found {
            self.outcomes[place(row)].get_or_insert_with(|| refused(cut(reason)));
        }
        if gone.is_empty() {
            return Ok(());
        }
        let delete = format!("DELETE FROM {stage} WHERE n = ANY($1)");
        let deleted = self.client().execute(&delete, &[&gone]).await;
        deleted.map(drop).map_err(|error| from_driver(self.store, "cannot write a batch", error))
    }

    pub(super) async fn prepared(&mut self, sql: &str) -> Result<Statement> {
        if let Some(statement) = self.open.statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client().prepare(sql).await;
        let statement =
            statement.map_err(|error| from_driver(self.store, "cannot prepare a merge", error))?;
        self.open.statements.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    /// Writes a stretch of the staged rows in one statement.
    async fn merge(&mut self, merge: &Statement, rows: &[usize]) -> std::result::Result<(), Failure> {
        let (Some(first), Some(last)) = (rows.first(), rows.last()) else { return Ok(()) };
        let (from, upto) = (number(*first), number(last + 1));
        let bounds: [&(dyn ToSql + Sync); 2] = [&from, &upto];
        let take = match (self.keeping, &self.statements.images) {
            (Some(_), Some(images)) => Some(self.prepared(&images.take).await.map_err(Failure::Fatal)?),
            _ => None,
        };
        let client = self.client();
        let taking = async {
            match &take {
                Some(take) => client.execute(take, &bounds).await.map(drop),
                None => Ok(()),
            }
        };
        // The savepoint and what follows it go together.
        let (begun, taken, merged) =
            futures::join!(client.batch_execute(SAVEPOINT), taking, client.query_one(merge, &bounds));
        begun.map_err(|error| self.lost(error))?;
        taken.map_err(|error| self.judge(error))?;
        let merged = merged.and_then(|row| {
            let created: Option<Vec<i32>> = row.try_get(0)?;
            let held: Option<Vec<i32>> = row.try_get(1)?;
            let count: i64 = row.try_get(2)?;
            Ok((created.unwrap_or_default(), held.unwrap_or_default(), count))
        });
        let (created, held, count) = merged.map_err(|error| self.judge(error))?;
        let written = usize::try_from(count).unwrap_or(usize::MAX);
        if self.statements.classify.is_none() {
            if written != rows.len() {
                return Err(Failure::Record("a trigger or rule of the table dropped it".to_owned()));
            }
            rows.iter().for_each(|row| self.settle(*row, Outcome::Created));
        } else if written != created.len() + held.len() {
            return Err(Failure::Record("a trigger of the table changed its key".to_owned()));
        } else {
            created.into_iter().for_each(|row| self.settle(place(row), Outcome::Created));
            held.into_iter().for_each(|row| self.settle(place(row), Outcome::Updated));
            self.classify(rows).await?;
        }
        let released = self.client().batch_execute("RELEASE SAVEPOINT whimbrel_batch").await;
        released.map_err(|error| self.judge(error))
    }

    /// What became of the rows that a merge left alone.
    async fn classify(&mut self, rows: &[usize]) -> std::result::Result<(), Failure> {
        let left: Vec<i32> =
            rows.iter().filter(|row| self.outcomes[**row].is_none()).map(|row| number(*row)).collect();
        let Some(sql) = self.statements.classify.as_deref().filter(|_| !left.is_empty()) else {
            return Ok(());
        };
        let statement = self.prepared(sql).await.map_err(Failure::Fatal)?;
        let found = self.client().query(&statement, &[&left]).await.map_err(|error| self.judge(error))?;
        for row in found {
            let seen =
                (|| Ok((row.try_get::<_, i32>(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?)))();
            let (row, is_inside, is_same, conflicts): (i32, bool, bool, String) =
                seen.map_err(|error| self.judge(error))?;
            let row = place(row);
            let outcome = self.left_alone(row, is_inside, is_same, &conflicts);
            self.outcomes[row] = Some(outcome);
        }
        for row in left.into_iter().map(place) {
            let missing = match self.mode {
                Mode::Update => "the key does not exist",
                Mode::Changed => "conflict: it was deleted while it was compared, or a trigger dropped it",
                Mode::Insert | Mode::Upsert | Mode::SkipExisting => {
                    "a trigger or rule of the table dropped it"
                }
            };
            self.outcomes[row].get_or_insert_with(|| refused(missing.to_owned()));
        }
        Ok(())
    }

    fn left_alone(&self, row: usize, is_inside: bool, is_same: bool, conflicts: &str) -> Outcome {
        let Some(fingerprint) = self.rows.fingerprint(row) else {
            return refused("it was never sent".to_owned());
        };
        if !is_inside {
            return refused("the key is held outside of the flow's scope".to_owned());
        }
        match self.mode {
            Mode::Insert | Mode::SkipExisting if self.contested && is_same => Outcome::Created(fingerprint),
            Mode::Insert => refused("the key exists already".to_owned()),
            Mode::SkipExisting => Outcome::Skipped,
            Mode::Update | Mode::Changed if is_same => Outcome::Unchanged(fingerprint),
            Mode::Changed => refused(
                "conflict: it has changed since it was compared, or a trigger kept it; what is there stays"
                    .to_owned(),
            ),
            Mode::Update if !conflicts.is_empty() => {
                refused(format!("conflict: {conflicts} changed since it was read; the newer value stays"))
            }
            Mode::Update | Mode::Upsert => refused("a trigger of the table kept the old row".to_owned()),
        }
    }

    fn settle(&mut self, row: usize, outcome: impl Fn(whimbrel_model::Fingerprint) -> Outcome) {
        if let (Some(fingerprint), Some(place)) = (self.rows.fingerprint(row), self.outcomes.get_mut(row)) {
            *place = Some(outcome(fingerprint));
        }
    }

    /// Rows as `COPY` takes them.
    fn data(&self, rows: &[usize], is_staged: bool) -> Bytes {
        if let Some(copy) = self.rows.copy_of(rows).filter(|_| !is_staged) {
            return copy;
        }
        let fields = self.fields + if is_staged { 1 + self.guard_fields } else { 0 };
        let size = |row: &usize| 2 + 8 + self.rows.fields(*row).map_or(0, <[u8]>::len);
        let mut data = BytesMut::with_capacity(HEADER.len() + 2 + rows.iter().map(size).sum::<usize>());
        data.put_slice(HEADER);
        for row in rows {
            let Ok(bytes) = self.rows.fields(*row) else { continue };
            data.put_i16(i16::try_from(fields).unwrap_or(i16::MAX));
            if is_staged {
                data.put_i32(4);
                data.put_i32(number(*row));
            }
            data.put_slice(bytes);
            if let Some(Ok(guards)) = self.guards.filter(|_| is_staged).map(|guards| guards.fields(*row)) {
                data.put_slice(guards);
            }
        }
        data.put_i16(TRAILER);
        data.freeze()
    }
}

/// The part of a staging table's name that tells it apart.
fn stage_suffix(stage: &str) -> &str {
    stage.trim_end_matches('"').rsplit("whimbrel_").next().unwrap_or_default()
}

fn number(row: usize) -> i32 {
    i32::try_from(row).unwrap_or(i32::MAX)
}

fn place(number: i32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// A refusal by the server.
pub(super) fn refused(reason: String) -> Outcome {
    Outcome::Rejected(Refusal { stage: Stage::Write, reason })
}

/// Whether an error is about a record and not about the server, the session or the statement.
fn concerns_a_record(db: &DbError) -> bool {
    is_about_a_value(db) || (db.code().code() == "42501" && db.routine() == Some(POLICY_CHECK))
}

/// The server's own words. Its detail shows the whole row where a check or NOT NULL failed; that is left out.
fn reason(db: &DbError) -> String {
    let mut text = db.message().to_owned();
    let shows_row = matches!(db.code().code(), "23502" | "23514");
    if let Some(constraint) = db.constraint().filter(|name| !text.contains(name)) {
        text = format!("{text} (constraint {constraint})");
    }
    if let Some(detail) = db.detail().filter(|_| !shows_row) {
        text = format!("{text}: {detail}");
    }
    cut(text)
}

fn cut(text: String) -> String {
    if text.chars().count() <= REASON_CHARACTERS {
        return text;
    }
    text.chars().take(REASON_CHARACTERS).chain(['…']).collect()
}
