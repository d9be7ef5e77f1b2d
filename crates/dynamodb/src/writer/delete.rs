//! Deleting items by their keys: `BatchWriteItem`, until none is given back.

use crate::client::{Connection, Connector};
use crate::definition::ScalarKind;
use crate::error::Failure;
use crate::gets::{Tally, units};
use crate::limits::BATCH_ITEMS;
use crate::pacing::{Impatience, Pacer, Patience, persistently};
use crate::types::row::{Item, Layout, write_units};
use aws_sdk_dynamodb::types::{AttributeValue, DeleteRequest, ReturnConsumedCapacity, WriteRequest as Put};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use serde_json::{Map, Value};
use whimbrel_model::Capacity;
use whimbrel_store::{Deleted, Result, RunContext, StoreError, StoreErrorKind, WriteRequest};

/// How many requests are under way at once.
const REQUESTS: usize = 8;

/// Deletes items of one table.
pub(crate) struct Deletion<'a> {
    pub(crate) connector: &'a Connector,
    pub(crate) pacer: &'a Pacer,
    pub(crate) request: &'a WriteRequest,
    pub(crate) layout: &'a Layout,
    pub(crate) context: &'a RunContext,
}

impl Deletion<'_> {
    /// Deletes what lies under these keys.
    ///
    /// # Errors
    /// The store fails.
    pub(crate) async fn of(&self, keys: &[Map<String, Value>]) -> Result<Deleted> {
        let items = keys.iter().map(|key| self.item(key).ok_or_else(|| self.foreign()));
        let items = items.collect::<Result<Vec<Item>>>()?;
        let connection = self.connector.connection().await?;
        let tally = Tally::default();
        let portions = items.chunks(BATCH_ITEMS).map(|items| self.portion(connection, items, &tally).boxed());
        let portions: Vec<_> = portions.collect();
        let mut portions = futures::stream::iter(portions).buffer_unordered(REQUESTS);
        while let Some(()) = portions.try_next().await.map_err(|impatience| self.failed(impatience))? {}
        let records = u64::try_from(keys.len()).unwrap_or(u64::MAX);
        Ok(Deleted { records, capacity: tally.used() })
    }

    /// A key as the SDK takes it.
    fn item(&self, key: &Map<String, Value>) -> Option<Item> {
        let attribute = |attribute: &crate::types::row::KeyAttribute| {
            let value = key.get(&attribute.name)?;
            let value = match (attribute.kind, value) {
                (ScalarKind::S, Value::String(text)) => AttributeValue::S(text.clone()),
                (ScalarKind::N, Value::Number(number)) => AttributeValue::N(number.to_string()),
                (ScalarKind::N, Value::String(digits)) => AttributeValue::N(digits.clone()),
                (ScalarKind::B, Value::String(text)) => AttributeValue::B(BASE64.decode(text).ok()?.into()),
                _ => return None,
            };
            Some((attribute.name.clone(), value))
        };
        self.layout.key.iter().map(attribute).collect()
    }

    async fn portion(
        &self,
        connection: &Connection,
        items: &[Item],
        tally: &Tally,
    ) -> std::result::Result<(), Impatience> {
        let context = self.context;
        let mut patience =
            Patience::new(Some(self.pacer), context.retry_for, &context.stop, Some(&context.meter));
        let mut left = items.to_vec();
        while !left.is_empty() {
            // What lies there is not known; an item of a kilobyte is one unit, in the table and in each index.
            let indexes = self.layout.indexes.len();
            let estimate = u64::try_from(left.len() * (1 + indexes)).unwrap_or(u64::MAX);
            let estimate = write_units(estimate);
            let permit = self.pacer.acquire(estimate.write_units, &context.stop, &context.stop).await;
            let permit = permit.ok_or(Impatience::Stopped)?;
            context.budget.reserve(estimate).map_err(Impatience::Spent)?;
            let answer = persistently(&mut patience, || self.delete(connection, left.clone()).boxed()).await;
            let used = answer.as_ref().map_or(Capacity::default(), |(_, used)| used.unwrap_or(estimate));
            tally.settle(context, estimate, used);
            permit.used(used.write_units);
            let (again, _) = answer?;
            permit.answered(left.len() - again.len());
            if again.len() == left.len() {
                patience.wait(Failure::gave_back("keys were given back unprocessed")).await?;
            } else {
                patience.progressed();
            }
            left = again;
        }
        Ok(())
    }

    /// Sends one request; the keys that it did not get to, and what it used.
    async fn delete(
        &self,
        connection: &Connection,
        items: Vec<Item>,
    ) -> std::result::Result<(Vec<Item>, Option<Capacity>), Failure> {
        let table = &self.request.table;
        let request = |item| {
            let built = DeleteRequest::builder().set_key(Some(item)).build();
            let built = built.map_err(|error| Failure::protocol(&error.to_string()))?;
            Ok(Put::builder().delete_request(built).build())
        };
        let requests = items.into_iter().map(request).collect::<std::result::Result<Vec<_>, Failure>>()?;
        let sent = connection.client.batch_write_item().request_items(table, requests);
        match sent.return_consumed_capacity(ReturnConsumedCapacity::Total).send().await {
            Ok(output) => {
                let consumed = output.consumed_capacity.unwrap_or_default();
                let used = Capacity { write_units: units(&consumed), ..Capacity::default() };
                let again = output.unprocessed_items.unwrap_or_default().into_values().flatten();
                let again = again.filter_map(|request| Some(request.delete_request?.key)).collect();
                Ok((again, (!consumed.is_empty()).then_some(used)))
            }
            Err(error) => Err(connection.failure(error).await),
        }
    }

    fn foreign(&self) -> StoreError {
        let table = &self.request.table;
        let context = format!("a key that is to be deleted is none of table \"{table}\"");
        StoreError::new(StoreErrorKind::Internal, self.connector.name(), context)
    }

    fn failed(&self, impatience: Impatience) -> StoreError {
        let doing = format!("cannot delete from table \"{}\"", self.request.table);
        impatience.into_error(self.connector.name(), doing)
    }
}
