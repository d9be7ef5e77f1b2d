//! Reading what the table holds under the keys of some records.

use super::MalformedItem;
use super::contents::ItemContents;
use super::flows::{Flows, Scratch};
use crate::client::{Connection, Connector};
use crate::gets::{Gets, Tally};
use crate::limits::{self, BATCH_GETS};
use crate::pacing::{Impatience, Patience};
use crate::types::row::{Encoder, Item, Layout, Prepared};
use arrow::array::RecordBatch;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use whimbrel_model::Fingerprint;
use whimbrel_store::{HeldBatch, HeldRecord, LookedUp, Result, RunContext, StoreError, StoreErrorKind};

/// How many requests are under way at once.
const REQUESTS: usize = 8;

/// Looks records up in a table.
#[derive(Debug)]
pub(crate) struct LookUp<'a> {
    pub(crate) connector: &'a Connector,
    pub(crate) table: &'a str,
    pub(crate) layout: &'a Layout,
    pub(crate) encoder: &'a Encoder<'a>,
    pub(crate) context: &'a RunContext,
}

/// Some keys that are asked for together, with the read units that they are taken to hold.
#[derive(Debug, Default)]
struct Portion {
    keys: Vec<Item>,
    units: u64,
}

impl LookUp<'_> {
    /// What the table holds under the keys of the records. A key that several have is asked for once.
    ///
    /// # Errors
    /// The store fails.
    pub(crate) async fn of(&self, records: &RecordBatch, flows: Flows) -> Result<LookedUp> {
        let connection = self.connector.connection().await?;
        let (hashes, portions) = self.portions(records);
        let tally = Tally::default();
        let mut found = HashMap::new();
        let requests = portions.into_iter().map(|portion| self.held(connection, &tally, portion).boxed());
        let mut requests = futures::stream::iter(requests).buffer_unordered(REQUESTS);
        while let Some(held) = requests.try_next().await.map_err(|impatience| self.failed(impatience))? {
            found.extend(held);
        }
        drop(requests);
        let (mut places, mut items) = (HashMap::new(), Vec::with_capacity(found.len()));
        for hash in hashes.iter().flatten() {
            if let Some(item) = found.remove(hash) {
                places.insert(*hash, items.len());
                items.push(item);
            }
        }
        let rows = hashes.into_iter().map(|hash| places.get(&hash?).copied()).collect();
        let records = fingerprints(&items, &flows)
            .map_err(|error| self.error(StoreErrorKind::Protocol, self.doing()).caused_by(error))?;
        let record = |fingerprint| HeldRecord { flow: Some(0), fingerprint };
        let held = HeldBatch {
            records: records.into_iter().map(record).collect(),
            bytes: items.iter().map(size).sum(),
            contents: Arc::new(ItemContents::new(items, flows)),
            capacity: tally.used(),
        };
        Ok(LookedUp { rows, held })
    }

    /// The hash of each record's key, and the different keys in portions of a request.
    fn portions(&self, records: &RecordBatch) -> (Vec<Option<u128>>, Vec<Portion>) {
        // What lies there is taken to be about as large as what is looked up.
        let prepared = self.encoder.encode(records).into_iter();
        let units = prepared.map(|one| one.map_or(1, |one: Prepared| limits::read_units(one.bytes)));
        let mut portions: Vec<Portion> = Vec::new();
        let mut seen = HashSet::new();
        let mut hashes = Vec::with_capacity(records.num_rows());
        for (asked, units) in self.encoder.key_items(records).into_iter().zip(units) {
            let Some((hash, key)) = asked else {
                hashes.push(None);
                continue;
            };
            hashes.push(Some(hash));
            if !seen.insert(hash) {
                continue;
            }
            if portions.last().is_none_or(|portion| portion.keys.len() == BATCH_GETS) {
                portions.push(Portion::default());
            }
            if let Some(portion) = portions.last_mut() {
                portion.keys.push(key);
                portion.units += units;
            }
        }
        (hashes, portions)
    }

    async fn held(
        &self,
        connection: &Connection,
        tally: &Tally,
        portion: Portion,
    ) -> std::result::Result<HashMap<u128, Item>, Impatience> {
        let Self { table, layout, context, .. } = *self;
        if context.stop.is_cancelled() {
            return Err(Impatience::Stopped);
        }
        let mut patience = Patience::new(None, context.retry_for, &context.stop, Some(&context.meter));
        let gets = Gets { connection, table, layout, context, tally };
        gets.held(portion.keys, portion.units, &mut patience).await
    }

    fn doing(&self) -> String {
        format!("cannot look records up in table \"{}\"", self.table)
    }

    fn failed(&self, impatience: Impatience) -> StoreError {
        impatience.into_error(self.connector.name(), self.doing())
    }

    fn error(&self, kind: StoreErrorKind, context: String) -> StoreError {
        StoreError::new(kind, self.connector.name(), context)
    }
}

fn fingerprints(items: &[Item], flows: &Flows) -> std::result::Result<Vec<Fingerprint>, MalformedItem> {
    let mut values = flows.no_values();
    let mut scratch = Scratch::default();
    let mut all = Vec::with_capacity(items.len());
    for item in items {
        flows.take(item.iter(), &mut values);
        all.push(flows.fingerprint(Some(0), &values, &mut scratch)?);
    }
    Ok(all)
}

/// An item's size by DynamoDB's count.
fn size(item: &Item) -> u64 {
    item.iter().map(|(name, value)| limits::bytes(name.len()) + limits::size(value)).sum()
}
