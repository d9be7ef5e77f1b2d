//! Whole tables, for those who compare: every item with everything that it holds, as it is now.
//!
//! No projection is asked for: it would cost the same units, what it leaves out could not be shown of an item
//! that belongs to no flow, and what is not looked at is passed over faster than a server takes it out.

use super::page::{Page, PageRequest};
use super::pages::Pages;
use super::plan::{Part, Plan};
use super::{bytes_per_item, segments, worth};
use crate::catalog::Table;
use crate::client::Connector;
use std::sync::Arc;
use tokio::sync::mpsc;
use whimbrel_model::SlicePart;
use whimbrel_store::{Result, RunContext};

/// Counts that are hours old know nothing of the run that has just ended, so that some segments are always
/// worth to be asked.
const FEWEST_SEGMENTS: usize = 4;

/// A part of a table.
#[derive(Debug)]
pub(crate) struct Segment {
    part: Part,
    plan: Arc<Plan>,
}

impl Segment {
    /// Segments that together are the table, at most `wanted`.
    ///
    /// # Errors
    /// None that the type allows.
    pub(crate) fn all(table: &Table, wanted: usize) -> serde_json::Result<Vec<SlicePart>> {
        let counted = table.items.unwrap_or(0) > 0;
        let worth = if counted { worth(table).max(FEWEST_SEGMENTS) } else { wanted };
        segments(worth.min(wanted)).iter().map(Part::to_slice).collect()
    }

    /// The segment that a part names; `None` where it names something else.
    pub(crate) fn of(part: &SlicePart) -> Option<Self> {
        let plan = Arc::new(Plan::whole());
        plan.part(part).map(|part| Self { part, plan })
    }

    /// Starts to fetch its pages. Dropping the receiver ends it.
    pub(crate) fn pages(
        self,
        connector: &Arc<Connector>,
        name: &str,
        table: &Table,
        context: &RunContext,
    ) -> mpsc::Receiver<Result<Page>> {
        let Self { part, plan } = self;
        let request = PageRequest { table: name.to_owned(), plan, part, after: None, limit: None };
        Pages::new(connector, request, context, bytes_per_item(table)).start()
    }
}
