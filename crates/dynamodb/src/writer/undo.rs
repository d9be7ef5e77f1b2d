//! Bringing items back: each is as it was before a run, where it still is what the run has left.

use super::before::text;
use super::conditional::{Conditional, REQUESTS, Sent, Unchanged, size, used};
use super::delete::Deletion;
use crate::client::Connection;
use crate::error::Fault;
use crate::gets::{Gets, Tally};
use crate::limits::{self, BATCH_GETS};
use crate::pacing::{Impatience, Patience};
use crate::types::ignore::Ignore;
use crate::types::read::Attribute;
use crate::types::row::Item;
use crate::types::value::preview;
use aws_sdk_dynamodb::types::ReturnConsumedCapacity;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;
use whimbrel_store::undo::CONFLICTS_LISTED;
use whimbrel_store::{BeforeImage, BeforeImages, Doomed, Result, StoreError, StoreErrorKind, Undone};

/// Undoes one run in one table.
pub(crate) struct Restoring<'a>(pub(crate) Conditional<'a>);

/// An item that is to be put back in the place of what was just read; `None`: there was none.
struct Return {
    item: Item,
    now: Option<Item>,
    key: Item,
}

impl Restoring<'_> {
    /// Goes through all images; acts only where it is asked to.
    ///
    /// # Errors
    /// The store fails, or an image cannot be read; some items may have been brought back.
    pub(crate) async fn undo(&self, images: &Arc<dyn BeforeImages>, act: bool) -> Result<Undone> {
        let connection = self.0.connector.connection().await?;
        let mut undone = Undone { nothing_kept: true, ..Undone::default() };
        let mut after = None;
        loop {
            let portion = images.behind(after, BATCH_GETS).await?;
            let Some(last) = portion.last() else { return Ok(undone) };
            after = Some(last.key);
            undone.nothing_kept = false;
            self.portion(connection, &portion, act, &mut undone).await?;
        }
    }

    async fn portion(
        &self,
        connection: &Connection,
        images: &[BeforeImage],
        act: bool,
        undone: &mut Undone,
    ) -> Result<()> {
        let (table, layout, context, tally) =
            (self.0.request.table.as_str(), self.0.layout, self.0.context, &Tally::default());
        let keys = images.iter().map(|image| self.item(&image.key_text)).collect::<Result<Vec<_>>>()?;
        let mut patience = Patience::new(None, context.retry_for, &context.stop, Some(&context.meter));
        let gets = Gets { connection, table, layout, context, tally };
        let estimate = limits::bytes(keys.len());
        let held = gets.held(keys.clone(), estimate, &mut patience).await;
        let mut held = held.map_err(|impatience| self.failed(impatience))?;
        let (mut gone, mut back) = (Vec::new(), Vec::new());
        for (image, key) in images.iter().zip(keys) {
            let now = held.remove(&image.key);
            let print = now.as_ref().map(|item| self.print(item));
            match (&image.before, now) {
                // It is as it was before already.
                _ if print == image.was => {}
                (None, Some(now)) if print == image.becomes => {
                    undone.removed += 1;
                    gone.push(Doomed { key: shown(&key), version: text(&now).into() });
                }
                (Some(before), now) if print == image.becomes => {
                    undone.restored += 1;
                    back.push(Return { item: self.item(before)?, now, key });
                }
                _ => conflict(undone, shown(&key)),
            }
        }
        if !act {
            return Ok(());
        }
        let deletion = Deletion { requests: self.0, images: None };
        let deleted = deletion.of(&gone).await?;
        for (place, _) in deleted.left {
            undone.removed -= 1;
            gone.get(place).into_iter().for_each(|doomed| conflict(undone, doomed.key.clone()));
        }
        let requests: Vec<_> = back.iter().map(|one| self.put(connection, one, tally).boxed()).collect();
        let mut answers = futures::stream::iter(requests).buffer_unordered(REQUESTS);
        while let Some(left) = answers.try_next().await.map_err(|impatience| self.failed(impatience))? {
            if let Some(key) = left {
                undone.restored -= 1;
                conflict(undone, key);
            }
        }
        Ok(())
    }

    /// An item out of its text.
    fn item(&self, text: &str) -> Result<Item> {
        let parse = || {
            let attributes: BTreeMap<String, &serde_json::value::RawValue> =
                serde_json::from_str(text).ok()?;
            let attribute = |(name, raw): (String, &serde_json::value::RawValue)| {
                Some((name, serde_json::from_str::<Attribute<'_>>(raw.get()).ok()?.value().ok()?))
            };
            attributes.into_iter().map(attribute).collect::<Option<Item>>()
        };
        parse().ok_or_else(|| {
            let context = format!("a before-image of table \"{}\" cannot be read", self.0.request.table);
            StoreError::new(StoreErrorKind::Internal, self.0.connector.name(), context)
        })
    }

    fn print(&self, item: &Item) -> u128 {
        self.0.layout.fingerprint(item, &Ignore::default(), &self.0.context.fingerprint_key).record
    }

    /// Puts one item back; its key, where it was changed in the meantime.
    async fn put(
        &self,
        connection: &Connection,
        one: &Return,
        tally: &Tally,
    ) -> std::result::Result<Option<Map<String, Value>>, Impatience> {
        // What cannot be compared whole could be somebody's by now: it stays as it is.
        let unchanged = match &one.now {
            Some(now) => Unchanged::of(now),
            None => Unchanged::absent(&one.key),
        };
        let Some(unchanged) = unchanged else { return Ok(Some(shown(&one.key))) };
        let units = limits::write_units(size(&one.item).max(one.now.as_ref().map_or(0, size)));
        let units = units * limits::bytes(1 + 2 * self.0.layout.indexes.len());
        let is_back = self.0.send(units, tally, || self.send(connection, one, &unchanged).boxed()).await?;
        Ok((!is_back).then(|| shown(&one.key)))
    }

    /// Sends one request: whether the item is back, and what that used.
    async fn send(&self, connection: &Connection, one: &Return, unchanged: &Unchanged) -> Sent {
        let request = connection.client.put_item().table_name(&self.0.request.table);
        let request = request
            .set_item(Some(one.item.clone()))
            .set_expression_attribute_names(Some(unchanged.names.clone()))
            .set_expression_attribute_values(
                Some(unchanged.values.clone()).filter(|values| !values.is_empty()),
            )
            .condition_expression(&unchanged.condition);
        match request.return_consumed_capacity(ReturnConsumedCapacity::Total).send().await {
            Ok(output) => Ok((true, used(output.consumed_capacity))),
            Err(error) => {
                let failure = connection.failure(error).await;
                if failure.fault != Fault::Exists {
                    return Err(failure);
                }
                // An earlier request, whose answer was lost, may have done it.
                let get = connection.client.get_item().table_name(&self.0.request.table);
                let get = get.set_key(Some(one.key.clone())).consistent_read(true).send().await;
                match get {
                    Ok(output) => {
                        let is_back =
                            output.item.is_some_and(|now| self.print(&now) == self.print(&one.item));
                        Ok((is_back, None))
                    }
                    Err(error) => Err(connection.failure(error).await),
                }
            }
        }
    }

    fn failed(&self, impatience: Impatience) -> StoreError {
        let doing = format!("cannot undo what was written into table \"{}\"", self.0.request.table);
        impatience.into_error(self.0.connector.name(), doing)
    }
}

fn shown(key: &Item) -> Map<String, Value> {
    let mut names: Vec<_> = key.iter().collect();
    names.sort_unstable_by_key(|(name, _)| *name);
    names.into_iter().map(|(name, value)| (name.clone(), preview(value))).collect()
}

fn conflict(undone: &mut Undone, key: Map<String, Value>) {
    undone.conflicts += 1;
    if undone.conflicting.len() < CONFLICTS_LISTED {
        undone.conflicting.push(key);
    }
}
