//! Reading what the keys of records hold, where a write was refused or its answer lost.

use super::delivery::{Course, Delivery, rejected};
use super::request::units;
use super::update::AfterRefusal;
use crate::error::Failure;
use crate::limits::{self, BATCH_GETS};
use crate::pacing::{Impatience, Patience, persistently};
use crate::types::row::Item;
use aws_sdk_dynamodb::types::{KeysAndAttributes, ReturnConsumedCapacity};
use futures::FutureExt as _;
use std::collections::HashMap;
use whimbrel_model::Capacity;
use whimbrel_store::{Mode, Outcome};

/// An update that the store refuses so often though the item is as it was read is given up.
const PUZZLES: u32 = 3;

impl Course<'_, '_> {
    /// Reads what the keys of rows hold and decides: equal content is ours, other content stays; what is to be
    /// written once more waits again.
    pub(super) async fn look_at(&mut self, rows: &[usize]) -> Result<(), Impatience> {
        let delivery = self.delivery();
        let found = delivery.held(rows, &mut self.patience).await?;
        let mut again = Vec::new();
        for (number, row) in delivery.rows(rows) {
            let item = found.get(&row.prepared.fingerprint.key);
            let decision = match delivery.parts.request.mode {
                Mode::Update => {
                    let ours = self.unsure.contains(&number);
                    match delivery.after_refusal(row, item, ours) {
                        AfterRefusal::Decided(outcome) => Some(outcome),
                        AfterRefusal::Again(conflict) => {
                            let puzzles = self.puzzles.entry(number).or_default();
                            *puzzles += 1;
                            (*puzzles > PUZZLES).then(|| rejected(&conflict))
                        }
                    }
                }
                Mode::Insert | Mode::Upsert | Mode::SkipExisting => item.map(|item| {
                    let key = &delivery.parts.context.fingerprint_key;
                    let held = delivery.parts.layout.fingerprint(item, &delivery.parts.ignore, key);
                    if held.record == row.prepared.fingerprint.record {
                        Outcome::Created(row.prepared.fingerprint)
                    } else {
                        delivery.existing()
                    }
                }),
            };
            match decision {
                Some(outcome) => self.outcomes.push((number, outcome)),
                None => again.push(number),
            }
        }
        self.waiting.extend(Some(again).filter(|again| !again.is_empty()));
        Ok(())
    }
}

impl Delivery<'_> {
    /// What the keys of rows hold, by the hash of the key.
    async fn held(
        &self,
        rows: &[usize],
        patience: &mut Patience<'_>,
    ) -> Result<HashMap<u128, Item>, Impatience> {
        let mut found = HashMap::new();
        for rows in rows.chunks(BATCH_GETS) {
            let mut keys: Vec<Item> =
                self.rows(rows).map(|(_, row)| self.encoder.key_item(&row.prepared)).collect();
            // What lies there is taken to be about as large as what was to be written.
            let estimate: u64 = self.rows(rows).map(|(_, row)| limits::read_units(row.prepared.bytes)).sum();
            while !keys.is_empty() {
                let (items, rest) = self.get_within_budget(keys, estimate, patience).await?;
                if items.is_empty() && !rest.is_empty() {
                    patience.wait(Failure::gave_back("keys were given back unprocessed")).await?;
                } else {
                    patience.progressed();
                }
                for item in items {
                    let key = self.parts.layout.key_of(&item);
                    let key = self.parts.context.fingerprint_key.fingerprint(&key, &key).key;
                    found.insert(key, item);
                }
                // What was asked for and is in neither list is not there.
                keys = rest;
            }
        }
        Ok(found)
    }

    async fn get_within_budget(
        &self,
        keys: Vec<Item>,
        estimate: u64,
        patience: &mut Patience<'_>,
    ) -> Result<(Vec<Item>, Vec<Item>), Impatience> {
        #[expect(clippy::cast_precision_loss, reason = "a hundred items cost ten thousand units at the most")]
        let estimate = Capacity { read_units: estimate as f64, write_units: 0.0 };
        self.parts.context.budget.reserve(estimate).map_err(|_| Impatience::Spent("max_read_units"))?;
        let answer = persistently(patience, || self.get(keys.clone()).boxed()).await;
        let used = match &answer {
            Ok(answer) => answer.used.unwrap_or(estimate),
            Err(_) => Capacity::default(),
        };
        self.settle(estimate, used);
        answer.map(|answer| (answer.items, answer.rest))
    }

    /// `BatchGetItem` of the newest state.
    async fn get(&self, keys: Vec<Item>) -> Result<Got, Failure> {
        let built = KeysAndAttributes::builder().set_keys(Some(keys)).consistent_read(true).build();
        let wanted = built.map_err(|error| Failure::protocol(&error.to_string()))?;
        let request =
            self.connection.client.batch_get_item().request_items(&self.parts.request.table, wanted);
        match request.return_consumed_capacity(ReturnConsumedCapacity::Total).send().await {
            Ok(output) => {
                let consumed = output.consumed_capacity.unwrap_or_default();
                let used = Capacity { read_units: units(&consumed), write_units: 0.0 };
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
