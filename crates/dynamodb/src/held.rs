//! Reading back: what the table holds, item by item, in the strongest consistency that DynamoDB has.

mod contents;
mod flows;
mod look_up;

pub(crate) use flows::Flows;
pub(crate) use look_up::LookUp;

use crate::client::Connector;
use crate::source::Page;
use contents::PageContents;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use std::sync::Arc;
use tokio::sync::mpsc;
use whimbrel_model::Capacity;
use whimbrel_store::{HeldBatch, HeldRecord, Result, StoreError, StoreErrorKind};

/// An item that is not as DynamoDB writes it.
#[derive(Debug, thiserror::Error)]
enum MalformedItem {
    #[error("an item is not as DynamoDB writes it")]
    Json(#[from] serde_json::Error),
    #[error("an attribute of type B is no base64 text")]
    Bytes(#[from] base64::DecodeError),
}

/// The items of some pages, a batch a page, told apart by flow.
pub(crate) fn batches(
    connector: &Arc<Connector>,
    table: &str,
    pages: mpsc::Receiver<Result<Page>>,
    flows: Flows,
) -> BoxStream<'static, Result<HeldBatch>> {
    let table = table.to_owned();
    let reading = Reading { connector: Arc::clone(connector), table, pages, flows: Arc::new(flows) };
    futures::stream::try_unfold(reading, |mut reading| async move {
        let Some(page) = reading.pages.recv().await else { return Ok(None) };
        let batch = batch(page?, &reading.flows).map_err(|error| reading.malformed(error))?;
        Ok(Some((batch, reading)))
    })
    .boxed()
}

/// A read under way.
struct Reading {
    connector: Arc<Connector>,
    table: String,
    pages: mpsc::Receiver<Result<Page>>,
    flows: Arc<Flows>,
}

impl Reading {
    fn malformed(&self, error: MalformedItem) -> StoreError {
        let doing = format!("cannot read table \"{}\"", self.table);
        StoreError::new(StoreErrorKind::Protocol, self.connector.name(), doing).caused_by(error)
    }
}

/// The items of a page that are in somebody's scope. The whole page's units are counted.
fn batch(page: Page, flows: &Arc<Flows>) -> std::result::Result<HeldBatch, MalformedItem> {
    let mut records = Vec::with_capacity(page.len());
    let mut items = Vec::with_capacity(page.len());
    let (mut values, mut scratch) = (flows.no_values(), flows::Scratch::default());
    let mut bytes = 0;
    for number in 0..page.len() {
        let item = page.item(number);
        bytes += item.len();
        flows.decode(item, &mut values)?;
        if let Some(flow) = flows.belongs(&values) {
            let fingerprint = flows.fingerprint(flow, &values, &mut scratch)?;
            records.push(HeldRecord { flow, fingerprint });
            items.push(number);
        }
    }
    drop(values);
    let capacity = Capacity { read_units: page.read_units.unwrap_or(0.0), ..Capacity::default() };
    let of = records.iter().map(|record| record.flow).collect();
    let contents = Arc::new(PageContents::new(page, items, of, flows));
    Ok(HeldBatch { records, contents, bytes: u64::try_from(bytes).unwrap_or(u64::MAX), capacity })
}
