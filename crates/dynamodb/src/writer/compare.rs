//! What is to become of records in `mode: changed`: each is compared with the item that its key holds.

use super::Parts;
use super::delivery::Row;
use crate::client::Connection;
use crate::gets::{Gets, Tally};
use crate::limits::{self, BATCH_GETS};
use crate::pacing::{Impatience, Patience};
use crate::types::row::{Encoder, Item};
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use std::collections::HashMap;
use whimbrel_model::Capacity;
use whimbrel_store::{Refusal, Result};

/// How many requests of a batch are under way at once.
const REQUESTS: usize = 8;

/// Compares the records of a batch.
pub(super) struct Comparing<'a> {
    pub(super) parts: &'a Parts,
    pub(super) encoder: &'a Encoder<'a>,
    pub(super) connection: &'a Connection,
}

type Prepared = std::result::Result<Row, Refusal>;

impl Comparing<'_> {
    /// The rows as they are to be sent, and what looking at their keys used. A row whose content is held already
    /// has nothing to write.
    ///
    /// # Errors
    /// The store fails.
    pub(super) async fn rows(&self, rows: Vec<Prepared>) -> Result<(Vec<Prepared>, Capacity)> {
        let tally = Tally::default();
        let mut found = self.held(&rows, &tally).await?;
        let compared = rows.into_iter().map(|row| {
            row.map(|row| match found.remove(&row.prepared.fingerprint.key) {
                None => row,
                Some(item) if self.encoder.held(&item).record == row.prepared.fingerprint.record => {
                    row.unchanged()
                }
                Some(item) => Row::change(self.encoder, row.prepared, &item),
            })
        });
        let compared = compared.collect();
        Ok((compared, tally.used()))
    }

    /// What the keys of the rows hold, by the hash of the key.
    pub(super) async fn held(&self, rows: &[Prepared], tally: &Tally) -> Result<HashMap<u128, Item>> {
        let rows: Vec<&Row> = rows.iter().filter_map(|row| row.as_ref().ok()).collect();
        let requests = rows.chunks(BATCH_GETS).map(|rows| self.portion(rows, tally).boxed());
        let requests: Vec<_> = requests.collect();
        let mut requests = futures::stream::iter(requests).buffer_unordered(REQUESTS);
        let mut found = HashMap::with_capacity(rows.len());
        while let Some(held) = requests.try_next().await.map_err(|impatience| self.failed(impatience))? {
            found.extend(held);
        }
        Ok(found)
    }

    async fn portion(
        &self,
        rows: &[&Row],
        tally: &Tally,
    ) -> std::result::Result<HashMap<u128, Item>, Impatience> {
        let Parts { request, layout, context, .. } = self.parts;
        if context.stop.is_cancelled() {
            return Err(Impatience::Stopped);
        }
        let keys = rows.iter().map(|row| self.encoder.key_item(&row.prepared)).collect();
        // What lies there is taken to be about as large as what is to be written.
        let estimate = rows.iter().map(|row| limits::read_units(row.prepared.bytes)).sum();
        let mut patience = Patience::new(None, context.retry_for, &context.stop, Some(&context.meter));
        let gets = Gets { connection: self.connection, table: &request.table, layout, context, tally };
        gets.held(keys, estimate, &mut patience).await
    }

    fn failed(&self, impatience: Impatience) -> whimbrel_store::StoreError {
        let doing = format!("cannot compare records with those of table \"{}\"", self.parts.request.table);
        impatience.into_error(self.parts.connector.name(), doing)
    }
}
