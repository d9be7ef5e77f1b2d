//! The pages of a part, one after the other, one ahead of whoever works on them.

use super::page::{Page, PageRequest, key_item};
use crate::client::Connector;
use crate::error::Fault;
use crate::pacing::{Patience, persistently};
use futures::FutureExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::mpsc;
use whimbrel_model::Capacity;
use whimbrel_store::{Result, RunContext, StoreError, StoreErrorKind};

/// The most that a page reads, in units of 4 KB.
const PAGE_UNITS: f64 = 256.0;
/// Items may be larger than they were so far; a small page is asked for with so much room.
const ROOM: f64 = 1.5;

/// Fetches pages and hands them over.
pub(super) struct Pages {
    connector: Arc<Connector>,
    request: PageRequest,
    context: RunContext,
    /// Units that an item was seen to take, on average.
    units_per_item: f64,
}

impl Pages {
    pub(super) fn new(
        connector: &Arc<Connector>,
        request: PageRequest,
        context: &RunContext,
        bytes_per_item: f64,
    ) -> Self {
        let per_unit = if request.plan.consistent { 4096.0 } else { 8192.0 };
        Self {
            connector: Arc::clone(connector),
            request,
            context: context.clone(),
            units_per_item: bytes_per_item / per_unit,
        }
    }

    /// Starts to fetch. Dropping the receiver ends it, whatever is under way.
    pub(super) fn start(self) -> mpsc::Receiver<Result<Page>> {
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(self.run(sender));
        receiver
    }

    async fn run(mut self, sender: mpsc::Sender<Result<Page>>) {
        // A place is taken before the page is asked for: one page waits while one is worked on, never more.
        while let Ok(place) = sender.reserve().await {
            let page = tokio::select! {
                biased;
                () = sender.closed() => return,
                page = self.next() => page,
            };
            let goes_on = matches!(&page, Ok(page) if page.last_key.is_some());
            place.send(page);
            if !goes_on {
                return;
            }
        }
    }

    async fn next(&mut self) -> Result<Page> {
        if self.context.stop.is_cancelled() {
            let context = format!("{}: the run is stopping", self.doing());
            return Err(self.error(StoreErrorKind::Interrupted, context));
        }
        let estimate = self.reserve()?;
        let page = self.fetch(estimate).await?;
        if let Some(key) = &page.last_key {
            let key = key_item(key).ok_or_else(|| {
                self.error(StoreErrorKind::Protocol, "the position behind a page is no key".to_owned())
            })?;
            self.request.after = Some(key);
        }
        Ok(page)
    }

    async fn fetch(&mut self, estimate: Capacity) -> Result<Page> {
        let Self { connector, request, context, .. } = self;
        let connection = connector.connection().await?;
        let lost = AtomicU32::new(0);
        let lost = &lost;
        let request = &*request;
        let mut patience = Patience::new(None, context.retry_for, &context.stop, Some(&context.meter));
        let ask = || {
            let page = request.send(connection);
            page.inspect(move |answer| {
                if matches!(answer, Err(failure) if failure.fault == Fault::Unknown) {
                    lost.fetch_add(1, Ordering::Relaxed);
                }
            })
            .boxed()
        };
        let answer = persistently(&mut patience, ask).await;
        let page =
            answer.map_err(|impatience| impatience.into_error(connector.name(), doing(&request.table)))?;
        let lost = f64::from(lost.load(Ordering::Relaxed));
        let read_units = page.read_units.unwrap_or(0.0);
        let used = read_units + lost * estimate.read_units;
        context.budget.settle(estimate, Capacity { read_units: used, ..Capacity::default() });
        context.meter.used(Capacity { read_units, ..Capacity::default() });
        #[expect(clippy::cast_precision_loss, reason = "a page holds far fewer items than 2^52")]
        if page.scanned > 0 && read_units > 0.0 {
            self.units_per_item = read_units / page.scanned as f64;
        }
        Ok(page)
    }

    /// Sets aside what a page may use. Where a whole one would pass the limit, a smaller one is asked for, of
    /// as many items as fit in what is left if they are as large as those before.
    fn reserve(&mut self) -> Result<Capacity> {
        let mut units = if self.request.plan.consistent { PAGE_UNITS } else { PAGE_UNITS / 2.0 };
        self.request.limit = None;
        loop {
            let estimate = Capacity { read_units: units, ..Capacity::default() };
            let Err(spent) = self.context.budget.reserve(estimate) else { return Ok(estimate) };
            units /= 2.0;
            let items = (units / (self.units_per_item.max(0.001) * ROOM)).floor();
            if items < 1.0 {
                let context = format!("{}: the next page would pass `{}`", self.doing(), spent.limit());
                return Err(self.error(StoreErrorKind::LimitReached, context).with_hint(spent.hint()));
            }
            #[expect(clippy::cast_possible_truncation, reason = "at most 128 units of 1,000 items each")]
            let limit = items as i32;
            self.request.limit = Some(limit);
        }
    }

    fn doing(&self) -> String {
        doing(&self.request.table)
    }

    fn error(&self, kind: StoreErrorKind, context: String) -> StoreError {
        StoreError::new(kind, self.connector.name(), context)
    }
}

fn doing(table: &str) -> String {
    format!("cannot read table \"{table}\"")
}
