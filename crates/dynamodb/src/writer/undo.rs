//! Bringing items back: each is as it was before a run, where it still is what the run has left.

use super::before::text;
use super::delete::Deletion;
use crate::client::{Connection, Connector};
use crate::error::{Failure, Fault};
use crate::gets::{Gets, Tally, units};
use crate::limits::{self, BATCH_GETS};
use crate::pacing::{Impatience, Pacer, Patience, persistently};
use crate::types::ignore::Ignore;
use crate::types::read::Attribute;
use crate::types::row::{Item, Layout, write_units};
use crate::types::value::preview;
use aws_sdk_dynamodb::types::ReturnConsumedCapacity;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::sync::Arc;
use whimbrel_model::Capacity;
use whimbrel_store::undo::CONFLICTS_LISTED;
use whimbrel_store::{
    BeforeImage, BeforeImages, Doomed, Result, RunContext, StoreError, StoreErrorKind, Undone, WriteRequest,
};

/// How many requests are under way at once.
const REQUESTS: usize = 16;
/// How many attributes a condition compares; of an item with more the others are not looked at again.
const MOST_GUARDS: usize = 140;

/// Undoes one run in one table.
pub(crate) struct Restoring<'a> {
    pub(crate) connector: &'a Connector,
    pub(crate) pacer: &'a Pacer,
    pub(crate) request: &'a WriteRequest,
    pub(crate) layout: &'a Layout,
    pub(crate) context: &'a RunContext,
}

/// An item that is to be put back in the place of what was just read.
struct Return {
    item: Item,
    now: Item,
    key: Item,
}

impl Restoring<'_> {
    /// Goes through all images; acts only where it is asked to.
    ///
    /// # Errors
    /// The store fails, or an image cannot be read; some items may have been brought back.
    pub(crate) async fn undo(&self, images: &Arc<dyn BeforeImages>, act: bool) -> Result<Undone> {
        let connection = self.connector.connection().await?;
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
            (self.request.table.as_str(), self.layout, self.context, &Tally::default());
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
                (None, Some(now)) if print == Some(image.becomes) => {
                    undone.removed += 1;
                    gone.push(Doomed { key: shown(&key), version: text(&now).into() });
                }
                (Some(before), Some(now)) if print == Some(image.becomes) => {
                    undone.restored += 1;
                    back.push(Return { item: self.item(before)?, now, key });
                }
                _ => conflict(undone, shown(&key)),
            }
        }
        if !act {
            return Ok(());
        }
        let Self { connector, pacer, request, .. } = *self;
        let deleted = Deletion { connector, pacer, request, layout, context }.of(&gone).await?;
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
            let context = format!("a before-image of table \"{}\" cannot be read", self.request.table);
            StoreError::new(StoreErrorKind::Internal, self.connector.name(), context)
        })
    }

    fn print(&self, item: &Item) -> u128 {
        self.layout.fingerprint(item, &Ignore::default(), &self.context.fingerprint_key).record
    }

    /// Puts one item back; its key, where it was changed in the meantime.
    async fn put(
        &self,
        connection: &Connection,
        one: &Return,
        tally: &Tally,
    ) -> std::result::Result<Option<Map<String, Value>>, Impatience> {
        let context = self.context;
        let mut patience =
            Patience::new(Some(self.pacer), context.retry_for, &context.stop, Some(&context.meter));
        let units = limits::write_units(size(&one.item).max(size(&one.now)));
        let estimate = write_units(units * limits::bytes(1 + 2 * self.layout.indexes.len()));
        let permit = self.pacer.acquire(estimate.write_units, &context.stop, &context.stop).await;
        let permit = permit.ok_or(Impatience::Stopped)?;
        context.budget.reserve(estimate).map_err(Impatience::Spent)?;
        let answer = persistently(&mut patience, || self.send(connection, one).boxed()).await;
        let used = match &answer {
            Ok((_, used)) => used.unwrap_or(estimate),
            Err(_) => Capacity::default(),
        };
        tally.settle(context, estimate, used);
        permit.used(used.write_units);
        let (is_back, _) = answer?;
        permit.answered(1);
        Ok((!is_back).then(|| shown(&one.key)))
    }

    /// Sends one request: whether the item is back, and what that used.
    async fn send(
        &self,
        connection: &Connection,
        one: &Return,
    ) -> std::result::Result<(bool, Option<Capacity>), Failure> {
        let mut request = connection.client.put_item().table_name(&self.request.table);
        request = request.set_item(Some(one.item.clone()));
        let mut conditions = Vec::new();
        for (number, (name, value)) in one.now.iter().take(MOST_GUARDS).enumerate() {
            conditions.push(format!("#{number}=:{number}"));
            request = request
                .expression_attribute_names(format!("#{number}"), name)
                .expression_attribute_values(format!(":{number}"), value.clone());
        }
        request = request.condition_expression(conditions.join(" AND "));
        match request.return_consumed_capacity(ReturnConsumedCapacity::Total).send().await {
            Ok(output) => {
                let consumed = output.consumed_capacity;
                let used = Capacity { write_units: units(consumed.as_slice()), ..Capacity::default() };
                Ok((true, consumed.map(|_| used)))
            }
            Err(error) => {
                let failure = connection.failure(error).await;
                if failure.fault != Fault::Exists {
                    return Err(failure);
                }
                // An earlier request, whose answer was lost, may have done it.
                let get = connection.client.get_item().table_name(&self.request.table);
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
        let doing = format!("cannot undo what was written into table \"{}\"", self.request.table);
        impatience.into_error(self.connector.name(), doing)
    }
}

fn size(item: &Item) -> u64 {
    item.iter().map(|(name, value)| limits::bytes(name.len()) + limits::size(value)).sum()
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
