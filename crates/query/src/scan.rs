//! The leaf of a plan that reads a store's table: one partition a slice, each a stream of batches.

use crate::numbers::Form;
use crate::table::Reading;
use arrow::array::{RecordBatch, RecordBatchOptions};
use async_trait::async_trait;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, Statistics};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{
    Boundedness, ChildrenPropertiesMode, EmissionType, ReplaceChildrenOptions,
};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, StatisticsArgs,
};
use futures::StreamExt as _;
use std::fmt;
use std::sync::Arc;
use whimbrel_model::{SlicePart, StoreName};
use whimbrel_store::{BatchStream, Condition, ReadBatch, RunContext, Source, StoreError, StoreErrorKind};

/// Which columns of a source's batches a scan gives, and what they become.
#[derive(Clone, Debug)]
pub(crate) struct Projected {
    pub store: StoreName,
    pub table: String,
    /// What comes out.
    pub schema: SchemaRef,
    /// For each column that comes out: its place among the source's, and its form.
    pub columns: Vec<(usize, Form)>,
}

impl Projected {
    /// A source's batch as SQL sees it. A value without a place there is an error, never NULL.
    pub(crate) fn apply(&self, batch: &ReadBatch) -> whimbrel_store::Result<RecordBatch> {
        let names = self.schema.fields();
        let looked_at = |column: &str| names.iter().any(|field| field.name() == column);
        if let Some(unreadable) = batch.unreadable.iter().find(|value| looked_at(&value.column)) {
            return Err(self.no_place(&unreadable.column, &unreadable.reason));
        }
        let columns = self.columns.iter().zip(names).map(|((place, form), field)| {
            let column = batch.records.columns().get(*place).ok_or_else(|| self.malformed())?;
            form.apply(column).map_err(|reason| {
                self.no_place(field.name(), &reason).with_hint(
                    "--numbers text leaves numbers without a declared precision as the text that they are",
                )
            })
        });
        let columns = columns.collect::<whimbrel_store::Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(batch.records.num_rows()));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
            .map_err(|error| self.malformed().caused_by(error))
    }

    fn no_place(&self, column: &str, reason: &str) -> StoreError {
        let context =
            format!("column `{column}` of {} holds a value that cannot be read: {reason}", self.table);
        StoreError::new(StoreErrorKind::Mismatch, &self.store, context)
            .with_hint("leave the column out, or declare another type for it under `columns:` in the spec")
    }

    fn malformed(&self) -> StoreError {
        let context = format!("{} was read with other columns than described", self.table);
        StoreError::new(StoreErrorKind::Internal, &self.store, context)
    }
}

/// Reads the slices of a source.
pub(crate) struct StoreScan {
    source: Arc<dyn Source>,
    parts: Vec<SlicePart>,
    projected: Projected,
    reading: Reading,
    condition: Option<Condition>,
    /// Records that are enough, of each slice.
    limit: Option<usize>,
    records: Option<u64>,
    properties: Arc<PlanProperties>,
}

impl StoreScan {
    pub(crate) fn new(
        source: Arc<dyn Source>,
        parts: Vec<SlicePart>,
        projected: Projected,
        reading: Reading,
        condition: Option<Condition>,
        limit: Option<usize>,
        records: Option<u64>,
    ) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::clone(&projected.schema)),
            Partitioning::UnknownPartitioning(parts.len()),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        let properties = Arc::new(properties);
        Self { source, parts, projected, reading, condition, limit, records, properties }
    }
}

impl fmt::Debug for StoreScan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreScan({}.{})", self.projected.store, self.projected.table)
    }
}

impl DisplayAs for StoreScan {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> =
            self.projected.schema.fields().iter().map(|field| field.name().as_str()).collect();
        let (store, table) = (&self.projected.store, &self.projected.table);
        write!(f, "StoreScan: {store}.{table}, columns=[{}], slices={}", names.join(", "), self.parts.len())?;
        if let Some(condition) = &self.condition {
            write!(f, ", asked for={condition:?}")?;
        }
        match self.limit {
            Some(limit) => write!(f, ", limit={limit}"),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl ExecutionPlan for StoreScan {
    fn name(&self) -> &str {
        "StoreScan"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn statistics_from_inputs(
        &self,
        _: &[Arc<Statistics>],
        args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let unknown = Statistics::new_unknown(&self.projected.schema);
        let records = self.records.filter(|_| args.partition().is_none());
        let records = records.and_then(|records| usize::try_from(records).ok());
        let num_rows = records.map_or(Precision::Absent, Precision::Inexact);
        Ok(Arc::new(Statistics { num_rows, ..unknown }))
    }

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let part = self
            .parts
            .get(partition)
            .cloned()
            .ok_or_else(|| DataFusionError::Internal(format!("{self:?} has no slice {partition}")))?;
        let slice = Slice {
            source: Arc::clone(&self.source),
            part,
            context: self.reading.context.clone(),
            projected: self.projected.clone(),
            state: State::Unopened,
            left: self.limit,
        };
        let failure = self.reading.failure.clone();
        let batches = futures::stream::unfold(slice, |mut slice| async move {
            let batch = slice.next().await.transpose()?;
            Some((batch, slice))
        });
        let batches = batches.map(move |batch| batch.map_err(|error| failure.keep(error)));
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.projected.schema), batches)))
    }
}

/// A slice that is being read.
struct Slice {
    source: Arc<dyn Source>,
    part: SlicePart,
    context: RunContext,
    projected: Projected,
    state: State,
    /// Records that are still wanted; `None`: all.
    left: Option<usize>,
}

enum State {
    Unopened,
    Open(BatchStream),
    /// Nothing more is wanted or there. The stream is gone, and with it the connection that it held.
    Ended,
}

impl Slice {
    async fn next(&mut self) -> whimbrel_store::Result<Option<RecordBatch>> {
        let next = self.read().await;
        if !matches!(next, Ok(Some(_))) {
            self.state = State::Ended;
        }
        next
    }

    async fn read(&mut self) -> whimbrel_store::Result<Option<RecordBatch>> {
        if matches!(self.state, State::Unopened) && self.left != Some(0) {
            self.state = State::Open(self.source.read(&self.part, None, &self.context).await?);
        }
        let State::Open(stream) = &mut self.state else { return Ok(None) };
        let Some(batch) = stream.next().await.transpose()? else { return Ok(None) };
        let mut records = self.projected.apply(&batch)?;
        if let Some(left) = &mut self.left {
            if records.num_rows() >= *left {
                records = records.slice(0, *left);
                self.state = State::Ended;
            }
            *left -= records.num_rows();
        }
        Ok(Some(records))
    }
}
