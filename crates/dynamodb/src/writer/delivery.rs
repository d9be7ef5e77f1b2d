//! The delivery of one batch: portions of it are sent side by side, each until every record has an outcome.

use super::Parts;
use super::aside::Aside;
use super::request::{Attempt, Verdict};
use super::update::{Change, Guards};
use crate::client::Connection;
use crate::error::Fault;
use crate::gets::{Gets, Tally};
use crate::pacing::{Impatience, Patience};
use crate::types::row::{Encoder, Item, Prepared, write_units};
use std::collections::{HashMap, HashSet};
use tokio_util::sync::CancellationToken;
use whimbrel_model::{Capacity, Stage};
use whimbrel_store::{Mode, Outcome, Refusal, Result, StoreError};

/// A record that is given back so often while others pass waits aside.
const STRIKES: u32 = 3;

/// A record to be sent.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) prepared: Prepared,
    /// What an update sets; empty in other modes.
    pub(super) changes: Vec<Change>,
    /// What the request holds for it, guards included.
    bytes: u64,
    /// What is set aside for it.
    units: u64,
    pub(super) way: Way,
}

/// How a record gets into the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// In the place of whatever its key holds.
    Put,
    /// Where its key holds nothing.
    Create,
    /// Attribute by attribute, where the item holds what was read.
    Update,
}

impl Row {
    /// A record that takes the place of what its key holds; the units of indexes doubled, since it may take an
    /// item out of them, unless the table is `new`.
    pub(super) fn put(prepared: Prepared, new: bool) -> Self {
        let indexes = if new { prepared.index_units } else { 2 * prepared.index_units };
        let (bytes, units) = (prepared.bytes, prepared.table_units + indexes);
        Self { prepared, changes: Vec::new(), bytes, units, way: Way::Put }
    }

    /// A record that is written where its key holds nothing.
    pub(super) fn create(prepared: Prepared) -> Self {
        Self { way: Way::Create, ..Self::put(prepared, true) }
    }

    /// A record whose attributes are set where they differ from those of an item that was read.
    pub(super) fn change(encoder: &Encoder<'_>, prepared: Prepared, item: &Item) -> Self {
        let (changes, guard_bytes) = Change::from_item(encoder, &prepared, item);
        Self::changing(encoder, prepared, changes, guard_bytes)
    }

    /// A record that takes the place of an item that was read, attribute by attribute, where the item is still the same.
    pub(super) fn replace(encoder: &Encoder<'_>, prepared: Prepared, item: &Item) -> Self {
        let (changes, guard_bytes) = Change::all_of_item(encoder, &prepared, item);
        Self::changing(encoder, prepared, changes, guard_bytes)
    }

    /// The same update, on condition that the item is as it was read here.
    ///
    /// # Errors
    /// It is not as the row's guards have it.
    pub(super) fn confirmed(self, encoder: &Encoder<'_>, item: &Item) -> std::result::Result<Self, Outcome> {
        let (changes, guard_bytes) = Change::confirmed(self.changes, encoder, &self.prepared, item)?;
        Ok(Self::changing(encoder, self.prepared, changes, guard_bytes))
    }

    /// What an item is after the row's changes.
    pub(super) fn applied(&self, encoder: &Encoder<'_>, item: &Item) -> Item {
        let mut item = item.clone();
        for change in &self.changes {
            let name = change.name(encoder).to_owned();
            match change.new_value(&self.prepared) {
                Some(value) => drop(item.insert(name, value.clone())),
                None => drop(item.remove(&name)),
            }
        }
        item
    }

    /// A record whose attributes are set where they differ from what was read.
    pub(super) fn update(
        encoder: &Encoder<'_>,
        prepared: Prepared,
        guards: Option<&Guards>,
        row: usize,
    ) -> std::result::Result<Self, Refusal> {
        let (changes, guard_bytes) = Change::all(encoder, &prepared, guards, row)?;
        Ok(Self::changing(encoder, prepared, changes, guard_bytes))
    }

    fn changing(encoder: &Encoder<'_>, prepared: Prepared, changes: Vec<Change>, guard_bytes: u64) -> Self {
        let changed: Vec<usize> = changes.iter().filter_map(Change::column).collect();
        let (holding, keyed) = encoder.indexes_of(&changed);
        let units = prepared.table_units * (1 + holding + keyed);
        Self { bytes: prepared.bytes + guard_bytes, changes, prepared, units, way: Way::Update }
    }

    /// What writing the record would use where its key held nothing, indexes included.
    pub(super) fn units_anew(&self) -> u64 {
        self.prepared.table_units + self.prepared.index_units
    }

    /// A record that the table was found to hold already.
    pub(super) fn unchanged(self) -> Self {
        Self { way: Way::Update, changes: Vec::new(), ..self }
    }

    /// Whether the target holds the record already, as far as was read.
    pub(super) fn has_nothing_to_write(&self) -> bool {
        self.way == Way::Update && self.changes.is_empty()
    }
}

/// The delivery of one batch.
pub(super) struct Delivery<'a> {
    pub(super) parts: &'a Parts,
    pub(super) connection: &'a Connection,
    pub(super) encoder: Encoder<'a>,
    pub(super) aside: Aside,
    /// By row; none where the record was refused before.
    rows: Vec<Option<Row>>,
    contested: bool,
    /// Ends waiting between attempts: the run is stopping, or another request of the batch has failed.
    pub(super) stop: CancellationToken,
    /// Ends everything that is not sent yet: another request of the batch has failed.
    given_up: CancellationToken,
    tally: Tally,
}

impl<'a> Delivery<'a> {
    pub(super) fn new(
        parts: &'a Parts,
        encoder: Encoder<'a>,
        connection: &'a Connection,
        rows: Vec<Option<Row>>,
        contested: bool,
    ) -> Self {
        Self {
            parts,
            connection,
            encoder,
            aside: Aside::default(),
            rows,
            contested,
            stop: parts.context.stop.child_token(),
            given_up: CancellationToken::new(),
            tally: Tally::default(),
        }
    }

    /// The rows that are to be sent.
    pub(super) fn numbers(&self) -> impl Iterator<Item = usize> {
        self.rows.iter().enumerate().filter_map(|(number, row)| row.as_ref().map(|_| number))
    }

    pub(super) fn row(&self, number: usize) -> Option<&Row> {
        self.rows.get(number).and_then(Option::as_ref)
    }

    pub(super) fn rows<'s>(&'s self, numbers: &'s [usize]) -> impl Iterator<Item = (usize, &'s Row)> {
        numbers.iter().filter_map(|number| Some((*number, self.row(*number)?)))
    }

    /// What a request holds for the row.
    pub(super) fn bytes(&self, row: usize) -> u64 {
        self.row(row).map_or(0, |row| row.bytes)
    }

    /// So many portions are going to be delivered.
    pub(super) fn announce(&self, portions: usize) {
        self.aside.expect(portions);
    }

    /// Nothing more is sent.
    pub(super) fn give_up(&self) {
        self.stop.cancel();
        self.given_up.cancel();
    }

    pub(super) fn capacity(&self) -> Capacity {
        self.tally.used()
    }

    /// The keys of rows that were not written, of those whose hashes are given.
    pub(super) fn unwritten(&self, outcomes: &[Option<Outcome>], imaged: &[u128]) -> Vec<u128> {
        let imaged: HashSet<u128> = imaged.iter().copied().collect();
        let is_written =
            |outcome: &Option<Outcome>| matches!(outcome, Some(Outcome::Created(_) | Outcome::Updated(_)));
        let keys = outcomes.iter().enumerate().filter(|(_, outcome)| !is_written(outcome));
        keys.filter_map(|(number, _)| Some(self.row(number)?.prepared.fingerprint.key))
            .filter(|key| imaged.contains(key))
            .collect()
    }

    /// Units that the rows did not use which the table held already.
    pub(super) fn spared(&self, outcomes: &[Option<Outcome>]) -> u64 {
        let unchanged = |(number, outcome): (usize, &Option<Outcome>)| match outcome {
            Some(Outcome::Unchanged(_)) => self.row(number).map(Row::units_anew),
            _ => None,
        };
        outcomes.iter().enumerate().filter_map(unchanged).sum()
    }

    /// Units were used, for which an estimate was set aside.
    pub(super) fn settle(&self, estimate: Capacity, used: Capacity) {
        self.tally.settle(&self.parts.context, estimate, used);
    }

    /// Looks at what keys hold.
    pub(super) fn gets(&self) -> Gets<'_> {
        Gets {
            connection: self.connection,
            table: &self.parts.request.table,
            layout: &self.parts.layout,
            context: &self.parts.context,
            tally: &self.tally,
        }
    }

    pub(super) fn failed(&self, impatience: Impatience) -> StoreError {
        let table = &self.parts.request.table;
        let context = match &impatience {
            Impatience::Failed(failure) if failure.fault.is_retryable() => {
                let patience = self.parts.context.retry_for.as_secs();
                format!(
                    "cannot write to table \"{table}\": no progress for {patience} s, last {}",
                    failure.reason
                )
            }
            _ => format!("cannot write to table \"{table}\""),
        };
        impatience.into_error(self.parts.connector.name(), context)
    }

    /// What a written record counts as.
    pub(super) fn written(&self, row: &Row) -> Outcome {
        let fingerprint = row.prepared.fingerprint;
        match row.way {
            Way::Update => Outcome::Updated(fingerprint),
            Way::Put if !self.parts.created => Outcome::Updated(fingerprint),
            Way::Put | Way::Create => Outcome::Created(fingerprint),
        }
    }

    /// What a record counts as whose key holds something else.
    pub(super) fn existing(&self) -> Outcome {
        match self.parts.request.mode {
            Mode::SkipExisting => Outcome::Skipped,
            Mode::Insert | Mode::Upsert | Mode::Update => rejected("the key exists already"),
            Mode::Changed => rejected(
                "conflict: the key held nothing when it was looked at, and now holds something else; that stays",
            ),
        }
    }

    fn outcome(&self, number: usize, verdict: &Verdict) -> Outcome {
        match (verdict, self.row(number)) {
            (Verdict::Written, Some(row)) => self.written(row),
            (Verdict::Exists, _) => self.existing(),
            (Verdict::Refused(reason), _) => rejected(reason),
            (Verdict::Written, None) => rejected("it was never sent"),
        }
    }

    /// Writes rows until each has an outcome or waits aside.
    pub(super) async fn deliver(&self, rows: Vec<usize>) -> Result<Vec<(usize, Outcome)>> {
        let _done = self.aside.portion();
        let unsure = if self.contested { rows.iter().copied().collect() } else { HashSet::new() };
        let mut course = Course::new(self, unsure, false);
        course.waiting.push(rows);
        while let Some(rows) = course.waiting.pop() {
            course.step(rows).await.map_err(|error| self.failed(error))?;
        }
        Ok(course.outcomes)
    }
}

/// A record was refused by the store.
pub(super) fn rejected(reason: &str) -> Outcome {
    Outcome::Rejected(Refusal { stage: Stage::Write, reason: reason.to_owned() })
}

/// The course of some rows until each has its outcome.
pub(super) struct Course<'d, 'a> {
    delivery: &'d Delivery<'a>,
    pub(super) patience: Patience<'d>,
    /// Rows that may have been written already.
    pub(super) unsure: HashSet<usize>,
    /// How often a row was given back while others passed.
    strikes: HashMap<usize, u32>,
    /// How often a row was found to be as it should be after its guard had failed.
    pub(super) puzzles: HashMap<usize, u32>,
    pub(super) waiting: Vec<Vec<usize>>,
    /// Rows that wait aside and were given back once more.
    pub(super) given_back: Vec<usize>,
    pub(super) outcomes: Vec<(usize, Outcome)>,
    /// These rows wait aside: being throttled says something of their keys, not of the table.
    is_aside: bool,
}

impl<'d, 'a> Course<'d, 'a> {
    pub(super) fn new(delivery: &'d Delivery<'a>, unsure: HashSet<usize>, is_aside: bool) -> Self {
        let context = &delivery.parts.context;
        let pacer = Some(&*delivery.parts.pacer);
        Self {
            delivery,
            patience: Patience::new(pacer, context.retry_for, &delivery.stop, Some(&context.meter)),
            unsure,
            strikes: HashMap::new(),
            puzzles: HashMap::new(),
            waiting: Vec::new(),
            given_back: Vec::new(),
            outcomes: Vec::new(),
            is_aside,
        }
    }

    pub(super) fn delivery(&self) -> &'d Delivery<'a> {
        self.delivery
    }

    /// Sends rows once and sorts what became of them.
    pub(super) async fn step(&mut self, rows: Vec<usize>) -> std::result::Result<(), Impatience> {
        let Attempt { settled, mut again, unsure: lost, failure, .. } = self.send(&rows).await?;
        if !settled.is_empty() {
            self.patience.progressed();
        }
        let passed = !settled.is_empty();
        let parts = self.delivery.parts;
        let is_update = match parts.request.mode {
            Mode::Update | Mode::Changed => true,
            Mode::Upsert => parts.images.is_some(),
            Mode::Insert | Mode::SkipExisting => false,
        };
        let (to_look_at, settled): (Vec<_>, Vec<_>) = settled.into_iter().partition(|(row, verdict)| {
            *verdict == Verdict::Exists && (is_update || self.unsure.contains(row))
        });
        for (row, verdict) in settled {
            self.outcomes.push((row, self.delivery.outcome(row, &verdict)));
        }
        self.unsure.extend(lost);
        if !to_look_at.is_empty() {
            let rows: Vec<usize> = to_look_at.into_iter().map(|(row, _)| row).collect();
            self.look_at(&rows).await?;
        }
        let Some(failure) = failure else { return Ok(()) };
        match (failure.fault, again.len()) {
            (Fault::Refused, 0 | 1) => {
                self.patience.progressed();
                self.outcomes.extend(again.into_iter().map(|row| (row, rejected(&failure.reason))));
            }
            (Fault::Refused, count) => {
                // Somewhere in there is what is refused: halve until it stands alone.
                let (one, other) = again.split_at(count / 2);
                self.waiting.extend([one.to_vec(), other.to_vec()]);
            }
            (fault, _) => {
                if passed && fault == Fault::Throttled && !self.is_aside {
                    again = self.set_aside(again);
                }
                if again.is_empty() {
                    return Ok(());
                }
                self.patience.wait(failure).await?;
                if self.is_aside && fault == Fault::Throttled {
                    self.given_back.extend(again);
                } else {
                    self.waiting.push(again);
                }
            }
        }
        Ok(())
    }

    /// Sends rows once, within the table's pace and the run's budget.
    async fn send(&mut self, rows: &[usize]) -> std::result::Result<Attempt, Impatience> {
        let Delivery { parts, given_up, stop, .. } = self.delivery;
        let estimate = write_units(self.delivery.rows(rows).map(|(_, row)| row.units).sum());
        let permit = parts.pacer.acquire(estimate.write_units, given_up, stop).await;
        let permit = permit.ok_or(Impatience::Stopped)?;
        parts.context.budget.reserve(estimate).map_err(Impatience::Spent)?;
        let attempt = self.delivery.attempt(rows).await;
        let used = attempt.used(estimate, rows.len());
        self.delivery.settle(estimate, used);
        permit.used(used.write_units);
        match attempt.failure.as_ref().map(|failure| failure.fault) {
            None | Some(Fault::Refused | Fault::Exists) => permit.answered(rows.len()),
            Some(Fault::Throttled) if !self.is_aside => permit.throttled(),
            Some(Fault::Throttled | Fault::NotSent | Fault::Unknown | Fault::Fatal) => drop(permit),
        }
        Ok(attempt)
    }

    /// Moves rows aside that are given back again and again while others pass; the rest.
    fn set_aside(&mut self, rows: Vec<usize>) -> Vec<usize> {
        let mut rest = Vec::new();
        for row in rows {
            let strikes = self.strikes.entry(row).or_default();
            *strikes += 1;
            if *strikes < STRIKES || !self.delivery.aside.put(row, self.unsure.contains(&row)) {
                rest.push(row);
            }
        }
        rest
    }
}
