//! Deleting items, each only where it still is what was read: `DeleteItem` under a condition.

use super::before::text;
use super::conditional::{Conditional, REQUESTS, Sent, Unchanged, size, used};
use crate::client::Connection;
use crate::error::Fault;
use crate::gets::Tally;
use crate::limits;
use crate::pacing::Impatience;
use crate::types::ignore::Ignore;
use crate::types::read::Attribute;
use crate::types::row::Item;
use aws_sdk_dynamodb::operation::delete_item::builders::DeleteItemFluentBuilder;
use aws_sdk_dynamodb::types::ReturnConsumedCapacity;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use whimbrel_model::Fingerprint;
use whimbrel_store::{BeforeImage, BeforeImages, Deleted, Doomed, Result, StoreError, StoreErrorKind};

/// Deletes items of one table.
pub(crate) struct Deletion<'a> {
    pub(crate) requests: Conditional<'a>,
    /// Takes before-images; `None`: none are kept.
    pub(crate) images: Option<Arc<dyn BeforeImages>>,
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
        let connection = self.requests.connector.connection().await?;
        if let Some(images) = &self.images {
            images
                .keep(items.iter().zip(doomed).map(|(item, doomed)| self.image(item, doomed)).collect())
                .await?;
        }
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
        if let Some(images) = self.images.as_ref().filter(|_| !deleted.left.is_empty()) {
            let left = deleted.left.iter().filter_map(|(place, _)| items.get(*place));
            images.forget(left.map(|item| self.print(item).key).collect()).await?;
        }
        Ok(Deleted { capacity: tally.used(), ..deleted })
    }

    /// The item as it was read: its version is its text in DynamoDB JSON.
    fn guarded(&self, doomed: &Doomed) -> Option<Guarded> {
        let Value::String(text) = &doomed.version else { return None };
        let attributes: BTreeMap<String, &serde_json::value::RawValue> = serde_json::from_str(text).ok()?;
        let (mut key, mut rest) = (Item::new(), Item::new());
        for (name, raw) in attributes {
            let value = serde_json::from_str::<Attribute<'_>>(raw.get()).ok()?.value().ok()?;
            let is_key = self.requests.layout.key.iter().any(|attribute| attribute.name == name);
            if is_key { &mut key } else { &mut rest }.insert(name, value);
        }
        (key.len() == self.requests.layout.key.len()).then_some(Guarded { key, rest })
    }

    /// The item as it was read, before there is none.
    fn image(&self, item: &Guarded, doomed: &Doomed) -> BeforeImage {
        let print = self.print(item);
        BeforeImage {
            key: print.key,
            key_text: text(&item.key),
            before: doomed.version.as_str().map(ToOwned::to_owned),
            was: Some(print.record),
            becomes: None,
        }
    }

    fn print(&self, item: &Guarded) -> Fingerprint {
        let whole = item.key.iter().chain(&item.rest);
        let whole: Item = whole.map(|(name, value)| (name.clone(), value.clone())).collect();
        let Conditional { layout, context, .. } = self.requests;
        layout.fingerprint(&whole, &Ignore::default(), &context.fingerprint_key)
    }

    /// Deletes one item; why it stays, if it does.
    async fn one(
        &self,
        connection: &Connection,
        item: &Guarded,
        tally: &Tally,
    ) -> std::result::Result<Option<String>, Impatience> {
        let Some(unchanged) = Unchanged::of(&item.rest) else {
            let attributes = item.rest.len();
            return Ok(Some(format!("it has {attributes} attributes, more than one condition can compare")));
        };
        let units = limits::write_units(size(&item.key) + size(&item.rest));
        let units = units * limits::bytes(1 + self.requests.layout.indexes.len());
        let is_gone =
            self.requests.send(units, tally, || self.delete(connection, item, &unchanged).boxed()).await?;
        Ok((!is_gone).then(|| "it was changed after it was read".to_owned()))
    }

    /// Sends one request: whether the item is there no more, and what that used.
    async fn delete(&self, connection: &Connection, item: &Guarded, unchanged: &Unchanged) -> Sent {
        let request = connection.client.delete_item().table_name(&self.requests.request.table);
        let request = condition(request.set_key(Some(item.key.clone())), item, unchanged);
        match request.return_consumed_capacity(ReturnConsumedCapacity::Total).send().await {
            Ok(output) => Ok((true, used(output.consumed_capacity))),
            Err(error) => {
                let failure = connection.failure(error).await;
                // A refused one costs what carrying it out would.
                if failure.fault == Fault::Exists { Ok((false, None)) } else { Err(failure) }
            }
        }
    }

    fn foreign(&self) -> StoreError {
        let table = &self.requests.request.table;
        let context = format!("an item that is to be deleted is none of table \"{table}\"");
        StoreError::new(StoreErrorKind::Internal, self.requests.connector.name(), context)
    }

    fn failed(&self, impatience: Impatience) -> StoreError {
        let doing = format!("cannot delete from table \"{}\"", self.requests.request.table);
        impatience.into_error(self.requests.connector.name(), doing)
    }
}

/// Only where every attribute that was read still holds what it held; where there is no item, nothing is left to do.
fn condition(
    request: DeleteItemFluentBuilder,
    item: &Guarded,
    unchanged: &Unchanged,
) -> DeleteItemFluentBuilder {
    let Some(key) = item.key.keys().next().filter(|_| !item.rest.is_empty()) else { return request };
    request
        .set_expression_attribute_names(Some(unchanged.names.clone()))
        .set_expression_attribute_values(Some(unchanged.values.clone()))
        .expression_attribute_names("#k", key)
        .condition_expression(format!("attribute_not_exists(#k) OR ({})", unchanged.condition))
}
