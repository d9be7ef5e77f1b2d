//! Reading what the keys of records hold, where a write was refused or its answer lost.

use super::delivery::{Course, Delivery, Way, rejected};
use super::update::AfterRefusal;
use crate::limits::{self, BATCH_GETS};
use crate::pacing::{Impatience, Patience};
use crate::types::row::Item;
use std::collections::HashMap;
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
            let ours = self.unsure.contains(&number);
            let decision = match row.way {
                Way::Update => match delivery.after_refusal(row, item, ours) {
                    AfterRefusal::Decided(outcome) => Some(outcome),
                    AfterRefusal::Again(conflict) => {
                        let puzzles = self.puzzles.entry(number).or_default();
                        *puzzles += 1;
                        (*puzzles > PUZZLES).then(|| rejected(&conflict))
                    }
                },
                Way::Create | Way::Put => item.map(|item| {
                    let fingerprint = row.prepared.fingerprint;
                    let parts = delivery.parts;
                    let is_imaged = parts.request.mode == Mode::Upsert && parts.images.is_some();
                    let is_changed = parts.request.mode == Mode::Changed || is_imaged;
                    let held = if is_changed {
                        delivery.encoder.held(item)
                    } else {
                        let key = &delivery.parts.context.fingerprint_key;
                        delivery.parts.layout.fingerprint(item, &delivery.parts.ignore, key)
                    };
                    match held.record == fingerprint.record {
                        true if is_changed && !ours => Outcome::Unchanged(fingerprint),
                        true => Outcome::Created(fingerprint),
                        false => delivery.existing(),
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
            let keys = self.rows(rows).map(|(_, row)| self.encoder.key_item(&row.prepared)).collect();
            // What lies there is taken to be about as large as what was to be written.
            let estimate = self.rows(rows).map(|(_, row)| limits::read_units(row.prepared.bytes)).sum();
            found.extend(self.gets().held(keys, estimate, patience).await?);
        }
        Ok(found)
    }
}
