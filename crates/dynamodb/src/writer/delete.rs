//! Deleting items, each only where it still is what was read: `DeleteItem` under a condition.

use crate::client::{Connection, Connector};
use crate::error::{Failure, Fault};
use crate::gets::{Tally, units};
use crate::limits;
use crate::pacing::{Impatience, Pacer, Patience, persistently};
use crate::types::read::Attribute;
use crate::types::row::{Item, Layout, write_units};
use aws_sdk_dynamodb::operation::delete_item::builders::DeleteItemFluentBuilder;
use aws_sdk_dynamodb::types::ReturnConsumedCapacity;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use serde_json::Value;
use std::collections::BTreeMap;
use whimbrel_model::Capacity;
use whimbrel_store::{Deleted, Doomed, Result, RunContext, StoreError, StoreErrorKind, WriteRequest};

/// How many requests are under way at once.
const REQUESTS: usize = 16;
/// How many attributes an expression can compare: it holds 300 operators, and each takes one and an `AND`.
const MOST_GUARDS: usize = 140;

/// Deletes items of one table.
pub(crate) struct Deletion<'a> {
    pub(crate) connector: &'a Connector,
    pub(crate) pacer: &'a Pacer,
    pub(crate) request: &'a WriteRequest,
    pub(crate) layout: &'a Layout,
    pub(crate) context: &'a RunContext,
}

/// An item that is to go, as it was read.
struct Guarded {
    key: Item,
    /// Its other attributes.
    rest: Item,
}

impl Deletion<'_> {
    /// Deletes items that are still as they were read.
    ///
    /// # Errors
    /// The store fails.
    pub(crate) async fn of(&self, doomed: &[Doomed]) -> Result<Deleted> {
        let items = doomed.iter().map(|one| self.guarded(one).ok_or_else(|| self.foreign()));
        let items = items.collect::<Result<Vec<Guarded>>>()?;
        let connection = self.connector.connection().await?;
        let tally = Tally::default();
        let requests = items.iter().map(|item| self.one(connection, item, &tally).boxed());
        let requests: Vec<_> = requests.collect();
        let mut answers = futures::stream::iter(requests).buffered(REQUESTS);
        let (mut deleted, mut place) = (Deleted::default(), 0);
        while let Some(left) = answers.try_next().await.map_err(|impatience| self.failed(impatience))? {
            match left {
                None => deleted.records += 1,
                Some(reason) => deleted.left.push((place, reason)),
            }
            place += 1;
        }
        drop(answers);
        Ok(Deleted { capacity: tally.used(), ..deleted })
    }

    /// The item as it was read: its version is its text in DynamoDB JSON.
    fn guarded(&self, doomed: &Doomed) -> Option<Guarded> {
        let Value::String(text) = &doomed.version else { return None };
        let attributes: BTreeMap<String, &serde_json::value::RawValue> = serde_json::from_str(text).ok()?;
        let (mut key, mut rest) = (Item::new(), Item::new());
        for (name, raw) in attributes {
            let value = serde_json::from_str::<Attribute<'_>>(raw.get()).ok()?.value().ok()?;
            let is_key = self.layout.key.iter().any(|attribute| attribute.name == name);
            if is_key { &mut key } else { &mut rest }.insert(name, value);
        }
        (key.len() == self.layout.key.len()).then_some(Guarded { key, rest })
    }

    /// Deletes one item; why it stays, if it does.
    async fn one(
        &self,
        connection: &Connection,
        item: &Guarded,
        tally: &Tally,
    ) -> std::result::Result<Option<String>, Impatience> {
        if item.rest.len() > MOST_GUARDS {
            let attributes = item.rest.len();
            return Ok(Some(format!("it has {attributes} attributes, more than one condition can compare")));
        }
        let context = self.context;
        let mut patience =
            Patience::new(Some(self.pacer), context.retry_for, &context.stop, Some(&context.meter));
        let size = |item: &Item| {
            item.iter().map(|(name, value)| limits::bytes(name.len()) + limits::size(value)).sum::<u64>()
        };
        let units = limits::write_units(size(&item.key) + size(&item.rest));
        let estimate = write_units(units * limits::bytes(1 + self.layout.indexes.len()));
        let permit = self.pacer.acquire(estimate.write_units, &context.stop, &context.stop).await;
        let permit = permit.ok_or(Impatience::Stopped)?;
        context.budget.reserve(estimate).map_err(Impatience::Spent)?;
        let answer = persistently(&mut patience, || self.delete(connection, item).boxed()).await;
        let used = match &answer {
            Ok((_, used)) => used.unwrap_or(estimate),
            Err(_) => Capacity::default(),
        };
        tally.settle(context, estimate, used);
        permit.used(used.write_units);
        let (is_gone, _) = answer?;
        permit.answered(1);
        patience.progressed();
        Ok((!is_gone).then(|| "it was changed after it was read".to_owned()))
    }

    /// Sends one request: whether the item is there no more, and what that used.
    async fn delete(
        &self,
        connection: &Connection,
        item: &Guarded,
    ) -> std::result::Result<(bool, Option<Capacity>), Failure> {
        let request = connection.client.delete_item().table_name(&self.request.table);
        let request = condition(request.set_key(Some(item.key.clone())), item);
        match request.return_consumed_capacity(ReturnConsumedCapacity::Total).send().await {
            Ok(output) => {
                let consumed = output.consumed_capacity;
                let used = Capacity { write_units: units(consumed.as_slice()), ..Capacity::default() };
                Ok((true, consumed.map(|_| used)))
            }
            Err(error) => {
                let failure = connection.failure(error).await;
                // A refused one costs what carrying it out would.
                if failure.fault == Fault::Exists { Ok((false, None)) } else { Err(failure) }
            }
        }
    }

    fn foreign(&self) -> StoreError {
        let table = &self.request.table;
        let context = format!("an item that is to be deleted is none of table \"{table}\"");
        StoreError::new(StoreErrorKind::Internal, self.connector.name(), context)
    }

    fn failed(&self, impatience: Impatience) -> StoreError {
        let doing = format!("cannot delete from table \"{}\"", self.request.table);
        impatience.into_error(self.connector.name(), doing)
    }
}

/// Only where every attribute that was read still holds what it held; where there is no item, nothing is left to do.
fn condition(request: DeleteItemFluentBuilder, item: &Guarded) -> DeleteItemFluentBuilder {
    let Some(key) = item.key.keys().next().filter(|_| !item.rest.is_empty()) else { return request };
    let mut request = request.expression_attribute_names("#k", key);
    let mut conditions = Vec::with_capacity(item.rest.len());
    for (number, (name, value)) in item.rest.iter().enumerate() {
        conditions.push(format!("#{number}=:{number}"));
        request = request
            .expression_attribute_names(format!("#{number}"), name)
            .expression_attribute_values(format!(":{number}"), value.clone());
    }
    let same = conditions.join(" AND ");
    request.condition_expression(format!("attribute_not_exists(#k) OR ({same})"))
}
