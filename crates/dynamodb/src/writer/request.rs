//! One request: sent once, its answer sorted by record.

use super::Delivery;
use crate::error::{Failure, Fault};
use crate::limits::{BATCH_GETS, STATEMENT_BYTES};
use crate::pacing::{Impatience, Patience, persistently};
use crate::types::row::{Item, Prepared};
use aws_sdk_dynamodb::error::BuildError;
use aws_sdk_dynamodb::types::{
    AttributeValue, BatchStatementRequest, BatchStatementResponse, ConsumedCapacity, KeysAndAttributes,
    PutRequest, ReturnConsumedCapacity, WriteRequest as PutOrDelete,
};
use futures::FutureExt as _;
use std::collections::HashMap;
use whimbrel_model::Capacity;
use whimbrel_store::{Mode, Outcome};

/// More attributes than this go into a plain conditional put: a statement binds each one separately.
const STATEMENT_ATTRIBUTES: usize = 100;

/// What the store said of one record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is durable.
    Written,
    /// Its key holds something.
    Exists,
    /// It is refused, and why.
    Refused(String),
}

/// What one request came to.
#[derive(Debug, Default)]
pub(super) struct Attempt {
    /// Records that the store has decided on.
    pub(super) settled: Vec<(usize, Verdict)>,
    /// Records that it has not.
    pub(super) again: Vec<usize>,
    /// Those of them that may have been written.
    pub(super) unsure: Vec<usize>,
    /// Why there is something left.
    pub(super) failure: Option<Failure>,
}

impl Attempt {
    fn failed(rows: &[usize], failure: Failure) -> Self {
        let unsure = if failure.fault == Fault::Unknown { rows.to_vec() } else { Vec::new() };
        Self { settled: Vec::new(), again: rows.to_vec(), unsure, failure: Some(failure) }
    }

    fn written(rows: &[usize]) -> Self {
        Self { settled: rows.iter().map(|row| (*row, Verdict::Written)).collect(), ..Self::default() }
    }

    /// One statement failed, the others stand.
    fn add(&mut self, row: usize, failure: Failure) {
        match failure.fault {
            Fault::Exists => return self.settled.push((row, Verdict::Exists)),
            Fault::Refused => return self.settled.push((row, Verdict::Refused(failure.reason))),
            Fault::Unknown => self.unsure.push(row),
            Fault::Throttled | Fault::NotSent | Fault::Fatal => {}
        }
        self.again.push(row);
        // What cannot be healed outweighs what can.
        if self.failure.as_ref().is_none_or(|known| known.fault.is_retryable()) {
            self.failure = Some(failure);
        }
    }
}

impl Delivery<'_> {
    /// Whether the row cannot share a request.
    pub(super) fn goes_alone(&self, row: usize) -> bool {
        match self.parts.request.mode {
            Mode::Upsert => false,
            Mode::Insert | Mode::SkipExisting => {
                self.item(row).is_some_and(|item| self.statement(item).is_none())
            }
        }
    }

    /// Sends the rows once.
    pub(super) async fn attempt(&self, rows: &[usize]) -> Attempt {
        let sent = match (self.parts.request.mode, rows) {
            (Mode::Upsert, _) => self.put(rows).await,
            (Mode::Insert | Mode::SkipExisting, [row]) if self.goes_alone(*row) => self.put_new(*row).await,
            (Mode::Insert | Mode::SkipExisting, _) => self.insert(rows).await,
        };
        sent.unwrap_or_else(|error| Attempt::failed(rows, Failure::protocol(&error.to_string())))
    }

    fn prepared<'s>(&'s self, rows: &[usize]) -> impl Iterator<Item = &'s Prepared> {
        rows.iter().filter_map(|row| self.item(*row))
    }

    /// `BatchWriteItem`: each item takes the place of what its key held.
    async fn put(&self, rows: &[usize]) -> Result<Attempt, BuildError> {
        let put = |prepared: &Prepared| {
            let put = PutRequest::builder().set_item(Some(prepared.item.clone())).build()?;
            Ok(PutOrDelete::builder().put_request(put).build())
        };
        let puts = self.prepared(rows).map(put).collect::<Result<Vec<_>, BuildError>>()?;
        let request = self.connection.client.batch_write_item();
        let request = request.request_items(&self.parts.request.table, puts);
        let output = match request.return_consumed_capacity(ReturnConsumedCapacity::Indexes).send().await {
            Ok(output) => output,
            Err(error) => return Ok(Attempt::failed(rows, self.connection.failure(error).await)),
        };
        self.used(write_units(output.consumed_capacity()));
        let unprocessed = output.unprocessed_items.unwrap_or_default();
        if unprocessed.is_empty() {
            return Ok(Attempt::written(rows));
        }
        let again: Option<Vec<usize>> = unprocessed
            .values()
            .flatten()
            .map(|request| self.row_of(rows, request.put_request()?.item()))
            .collect();
        let Some(again) = again else {
            let failure = Failure::protocol("an unprocessed item was given back that was never sent");
            return Ok(Attempt::failed(rows, failure));
        };
        let done: Vec<usize> = rows.iter().copied().filter(|row| !again.contains(row)).collect();
        let failure = Some(Failure::gave_back("some items were given back unprocessed"));
        Ok(Attempt { again, failure, ..Attempt::written(&done) })
    }

    /// The row of a batch that has the item's key.
    fn row_of(&self, rows: &[usize], item: &Item) -> Option<usize> {
        let key = self.parts.layout.key_of(item);
        let key = self.parts.context.fingerprint_key.fingerprint(&key, &key).key;
        rows.iter()
            .copied()
            .find(|row| self.item(*row).is_some_and(|prepared| prepared.fingerprint.key == key))
    }

    /// `BatchExecuteStatement`: one guarded insert for each item, each with an answer of its own.
    async fn insert(&self, rows: &[usize]) -> Result<Attempt, BuildError> {
        let statement = |prepared: &Prepared| {
            let (text, values) = statement(&self.parts.request.table, &prepared.item);
            BatchStatementRequest::builder().statement(text).set_parameters(Some(values)).build()
        };
        let statements = self.prepared(rows).map(statement).collect::<Result<Vec<_>, BuildError>>()?;
        let request = self.connection.client.batch_execute_statement().set_statements(Some(statements));
        let output = match request.return_consumed_capacity(ReturnConsumedCapacity::Indexes).send().await {
            Ok(output) => output,
            Err(error) => return Ok(Attempt::failed(rows, self.connection.failure(error).await)),
        };
        self.used(write_units(output.consumed_capacity()));
        if output.responses().len() != rows.len() {
            let failure = Failure::protocol("the store did not answer each statement");
            return Ok(Attempt::failed(rows, failure));
        }
        let mut attempt = Attempt::default();
        for (row, response) in rows.iter().zip(output.responses()) {
            match statement_failure(response) {
                Some(failure) => attempt.add(*row, failure),
                None => attempt.settled.push((*row, Verdict::Written)),
            }
        }
        Ok(attempt)
    }

    /// `PutItem` where the key holds nothing: for an item whose statement would be too long.
    async fn put_new(&self, row: usize) -> Result<Attempt, BuildError> {
        let (Some(prepared), Some(key)) = (self.item(row), self.parts.layout.key.first()) else {
            return Ok(Attempt::failed(&[row], Failure::protocol("an item or its key is missing")));
        };
        let request = self.connection.client.put_item().table_name(&self.parts.request.table);
        let request = request
            .set_item(Some(prepared.item.clone()))
            .condition_expression("attribute_not_exists(#key)")
            .expression_attribute_names("#key", &key.name)
            .return_consumed_capacity(ReturnConsumedCapacity::Indexes);
        match request.send().await {
            Ok(output) => {
                self.used(write_units(output.consumed_capacity.as_slice()));
                Ok(Attempt::written(&[row]))
            }
            Err(error) => {
                let mut attempt = Attempt::default();
                let failure = self.connection.failure(error).await;
                attempt.add(row, failure);
                Ok(attempt)
            }
        }
    }

    fn statement(&self, prepared: &Prepared) -> Option<String> {
        let fits =
            |text: &String| text.len() <= STATEMENT_BYTES && prepared.item.len() <= STATEMENT_ATTRIBUTES;
        Some(statement(&self.parts.request.table, &prepared.item).0).filter(fits)
    }

    /// Reads what the keys of contested rows hold: equal content is ours, else it stays; what is there no
    /// more is to be written again. The outcomes, and the rows that are gone.
    pub(super) async fn compare(
        &self,
        rows: &[usize],
        patience: &mut Patience<'_>,
    ) -> Result<(Vec<(usize, Outcome)>, Vec<usize>), Impatience> {
        let mut found = HashMap::new();
        for rows in rows.chunks(BATCH_GETS) {
            let mut keys: Vec<Item> =
                self.prepared(rows).map(|prepared| self.parts.layout.key_item(&prepared.item)).collect();
            while !keys.is_empty() {
                let (items, rest) = persistently(patience, || self.get(keys.clone()).boxed()).await?;
                if items.is_empty() && !rest.is_empty() {
                    patience.wait(Failure::gave_back("keys were given back unprocessed")).await?;
                } else {
                    patience.progressed();
                }
                for item in items {
                    let key = &self.parts.context.fingerprint_key;
                    let fingerprint = self.parts.layout.fingerprint(&item, self.ignore, key);
                    found.insert(fingerprint.key, fingerprint.record);
                }
                // What was asked for and is in neither list is not there.
                keys = rest;
            }
        }
        let (mut outcomes, mut gone) = (Vec::new(), Vec::new());
        for (row, prepared) in rows.iter().filter_map(|row| Some((*row, self.item(*row)?))) {
            match found.get(&prepared.fingerprint.key) {
                None => gone.push(row),
                Some(record) if *record == prepared.fingerprint.record => {
                    outcomes.push((row, Outcome::Created(prepared.fingerprint)));
                }
                Some(_) => outcomes.push((row, self.existing())),
            }
        }
        Ok((outcomes, gone))
    }

    /// `BatchGetItem` of the newest state: what was found, and the keys that were not looked at.
    async fn get(&self, keys: Vec<Item>) -> Result<(Vec<Item>, Vec<Item>), Failure> {
        let built = KeysAndAttributes::builder().set_keys(Some(keys)).consistent_read(true).build();
        let wanted = built.map_err(|error| Failure::protocol(&error.to_string()))?;
        let request =
            self.connection.client.batch_get_item().request_items(&self.parts.request.table, wanted);
        match request.return_consumed_capacity(ReturnConsumedCapacity::Total).send().await {
            Ok(output) => {
                self.used(Capacity { read_units: units(output.consumed_capacity()), write_units: 0.0 });
                let items = output.responses.unwrap_or_default().into_values().flatten().collect();
                let rest = output.unprocessed_keys.unwrap_or_default();
                Ok((items, rest.into_values().flat_map(|keys| keys.keys).collect()))
            }
            Err(error) => Err(self.connection.failure(error).await),
        }
    }
}

fn statement_failure(response: &BatchStatementResponse) -> Option<Failure> {
    let error = response.error()?;
    let code = error.code().map(|code| code.as_str()).unwrap_or_default();
    Some(Failure::answered(200, code, error.message().unwrap_or_default()))
}

/// `INSERT INTO "table" VALUE {'a': ?, …}` and the values, attributes by name.
fn statement(table: &str, item: &Item) -> (String, Vec<AttributeValue>) {
    let mut names: Vec<_> = item.iter().collect();
    names.sort_unstable_by_key(|(name, _)| *name);
    let pairs: Vec<_> = names.iter().map(|(name, _)| format!("'{}': ?", name.replace('\'', "''"))).collect();
    let text = format!("INSERT INTO \"{}\" VALUE {{{}}}", table.replace('"', "\"\""), pairs.join(", "));
    (text, names.into_iter().map(|(_, value)| value.clone()).collect())
}

fn units(consumed: &[ConsumedCapacity]) -> f64 {
    consumed.iter().filter_map(ConsumedCapacity::capacity_units).sum()
}

fn write_units(consumed: &[ConsumedCapacity]) -> Capacity {
    Capacity { read_units: 0.0, write_units: units(consumed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_quote_names_and_bind_values() {
        let text = |text: &str| AttributeValue::S(text.to_owned());
        let item = Item::from([("b'c".to_owned(), text("1")), ("a".to_owned(), text("2"))]);
        let (statement, values) = statement("t", &item);
        assert_eq!(statement, "INSERT INTO \"t\" VALUE {'a': ?, 'b''c': ?}");
        assert_eq!(values, [text("2"), text("1")]);
    }

    #[test]
    fn one_failed_statement_leaves_the_others_alone() {
        let mut attempt = Attempt::default();
        attempt.add(0, Failure::answered(200, "DuplicateItem", ""));
        attempt.add(1, Failure::answered(200, "ThrottlingError", ""));
        attempt.add(2, Failure::answered(200, "InternalServerError", ""));
        attempt.add(3, Failure::answered(200, "ValidationError", "bad"));
        assert_eq!(attempt.settled[0], (0, Verdict::Exists));
        assert_eq!(attempt.settled[1], (3, Verdict::Refused("ValidationError: bad".to_owned())));
        assert_eq!((&attempt.again[..], &attempt.unsure[..]), (&[1, 2][..], &[2][..]));
        attempt.add(4, Failure::answered(200, "AccessDenied", ""));
        attempt.add(5, Failure::answered(200, "ThrottlingError", ""));
        assert_eq!(attempt.failure.unwrap().fault, Fault::Fatal);
    }
}
