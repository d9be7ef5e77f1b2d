//! Reading what keys hold: `BatchGetItem` of the newest state, until every key was looked at.

use crate::client::Connection;
use crate::error::Failure;
use crate::pacing::{Impatience, Patience, persistently};
use crate::types::row::{Item, Layout};
use aws_sdk_dynamodb::types::{ConsumedCapacity, KeysAndAttributes, ReturnConsumedCapacity};
use futures::FutureExt as _;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use whimbrel_model::Capacity;
use whimbrel_store::RunContext;

/// What a piece of work used, told to the run as it goes.
#[derive(Debug, Default)]
pub(crate) struct Tally(Mutex<Capacity>);

impl Tally {
    /// Units were used, for which an estimate was set aside.
    pub(crate) fn settle(&self, context: &RunContext, estimate: Capacity, used: Capacity) {
        context.budget.settle(estimate, used);
        context.meter.used(used);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) += used;
    }

    /// All that was used so far.
    pub(crate) fn used(&self) -> Capacity {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The units of an answer together.
pub(crate) fn units(consumed: &[ConsumedCapacity]) -> f64 {
    consumed.iter().filter_map(ConsumedCapacity::capacity_units).sum()
}

/// Looks at keys of one table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gets<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) table: &'a str,
    pub(crate) layout: &'a Layout,
    pub(crate) context: &'a RunContext,
    pub(crate) tally: &'a Tally,
}

impl Gets<'_> {
    /// What the keys hold, by the hash of the key: at most [`crate::limits::BATCH_GETS`] different ones, which
    /// are taken to hold as many read units as estimated.
    ///
    /// # Errors
    /// There is no patience left.
    pub(crate) async fn held(
        &self,
        mut keys: Vec<Item>,
        estimate: u64,
        patience: &mut Patience<'_>,
    ) -> Result<HashMap<u128, Item>, Impatience> {
        let mut found = HashMap::new();
        while !keys.is_empty() {
            let (items, rest) = self.get_within_budget(keys, estimate, patience).await?;
            if items.is_empty() && !rest.is_empty() {
                patience.wait(Failure::gave_back("keys were given back unprocessed")).await?;
            } else {
                patience.progressed();
            }
            found.extend(items.into_iter().map(|item| (self.key_hash(&item), item)));
            // What was asked for and is in neither list is not there.
            keys = rest;
        }
        Ok(found)
    }

    fn key_hash(&self, item: &Item) -> u128 {
        let key = self.layout.key_of(item);
        self.context.fingerprint_key.fingerprint(&key, &key).key
    }

    async fn get_within_budget(
        &self,
        keys: Vec<Item>,
        estimate: u64,
        patience: &mut Patience<'_>,
    ) -> Result<(Vec<Item>, Vec<Item>), Impatience> {
        #[expect(clippy::cast_precision_loss, reason = "a hundred items cost ten thousand units at the most")]
        let estimate = Capacity { read_units: estimate as f64, ..Capacity::default() };
        self.context.budget.reserve(estimate).map_err(Impatience::Spent)?;
        let answer = persistently(patience, || self.get(keys.clone()).boxed()).await;
        let used = match &answer {
            Ok(answer) => answer.used.unwrap_or(estimate),
            Err(_) => Capacity::default(),
        };
        self.tally.settle(self.context, estimate, used);
        answer.map(|answer| (answer.items, answer.rest))
    }

    async fn get(&self, keys: Vec<Item>) -> Result<Got, Failure> {
        let built = KeysAndAttributes::builder().set_keys(Some(keys)).consistent_read(true).build();
        let wanted = built.map_err(|error| Failure::protocol(&error.to_string()))?;
        let request = self.connection.client.batch_get_item().request_items(self.table, wanted);
        match request.return_consumed_capacity(ReturnConsumedCapacity::Total).send().await {
            Ok(output) => {
                let consumed = output.consumed_capacity.unwrap_or_default();
                let used = Capacity { read_units: units(&consumed), ..Capacity::default() };
                let items = output.responses.unwrap_or_default().into_values().flatten().collect();
                let rest = output.unprocessed_keys.unwrap_or_default();
                let rest = rest.into_values().flat_map(|keys| keys.keys).collect();
                Ok(Got { items, rest, used: (!consumed.is_empty()).then_some(used) })
            }
            Err(error) => Err(self.connection.failure(error).await),
        }
    }
}

/// The answer to a `BatchGetItem`.
struct Got {
    /// What was found.
    items: Vec<Item>,
    /// The keys that were not looked at.
    rest: Vec<Item>,
    used: Option<Capacity>,
}
