//! A store's table as a table of DataFusion.

use crate::condition::{self, Columns};
use crate::error::FirstFailure;
use crate::numbers::{Form, Numbers};
use crate::scan::{Projected, StoreScan};
use async_trait::async_trait;
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{Result, Statistics};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use whimbrel_store::{
    ReadRequest, Relation, RunContext, Source, SourceDescription, Store, StoreError, StoreErrorKind,
};

/// Records in a batch, and bytes: what is in memory of each slice that is being read.
const BATCH_RECORDS: usize = 8192;
const BATCH_BYTES: usize = 2 * 1024 * 1024;
/// A table of fewer records is read as one slice: cutting it would cost more than it gains.
const RECORDS_PER_SLICE: u64 = 20_000;

/// What a store's table is asked for, by the name that SQL gives it.
#[derive(Clone)]
pub(crate) struct Place {
    /// The store.
    pub store: Arc<dyn Store>,
    /// The table's name there.
    pub table: String,
    /// Types that the spec declares for its columns.
    pub columns: BTreeMap<String, String>,
}

impl Place {
    /// The reading side of the table for some of its columns.
    pub(crate) fn source(
        &self,
        wanted: BTreeSet<String>,
        condition: Option<whimbrel_store::Condition>,
        limit: Option<usize>,
    ) -> whimbrel_store::Result<Arc<dyn Source>> {
        self.store.source(ReadRequest {
            relation: Relation::Table(self.table.clone()),
            slice_by: Vec::new(),
            columns: self.columns.clone(),
            parameters: BTreeMap::new(),
            wanted: Some(wanted),
            condition,
            wants_all: false,
            whole: false,
            batch_records: limit.unwrap_or(BATCH_RECORDS).clamp(1, BATCH_RECORDS),
            batch_bytes: BATCH_BYTES,
        })
    }
}

/// How tables are read.
#[derive(Clone)]
pub(crate) struct Reading {
    /// What stores are lent.
    pub context: RunContext,
    /// What exact numbers become.
    pub numbers: Numbers,
    /// Slices at a time.
    pub parallel: usize,
    /// Where a store's failure is kept whole.
    pub failure: FirstFailure,
}

/// A table whose columns are known.
pub(crate) struct StoreTable {
    place: Place,
    reading: Reading,
    /// As the store has them.
    stored: SchemaRef,
    forms: Vec<Form>,
    /// As SQL sees them.
    schema: SchemaRef,
    records: Option<u64>,
}

impl StoreTable {
    /// The table with those of the described columns that pass.
    pub(crate) fn new(
        place: Place,
        reading: Reading,
        description: &SourceDescription,
        passes: impl Fn(&str) -> bool,
    ) -> Self {
        let fields = description.schema.fields().iter().filter(|field| passes(field.name()));
        let stored: SchemaRef = Arc::new(Schema::new(fields.cloned().collect::<Vec<_>>()));
        let forms: Vec<_> = stored.fields().iter().map(|field| Form::of(field, reading.numbers)).collect();
        let in_sql = |(field, form): (&Arc<Field>, &Form)| form.field(field);
        let fields: Vec<_> = stored.fields().iter().zip(&forms).map(in_sql).collect();
        let schema = Arc::new(Schema::new(fields));
        Self { place, reading, stored, forms, schema, records: description.records }
    }

    fn columns(&self) -> Columns<'_> {
        Columns { stored: &self.stored, forms: &self.forms }
    }

    /// How many slices are worth their while.
    fn wanted_slices(&self, limit: Option<usize>) -> usize {
        match (limit, self.records) {
            (Some(_), _) => 1,
            (None, None) => self.reading.parallel,
            (None, Some(records)) => {
                let worth = usize::try_from(records / RECORDS_PER_SLICE).unwrap_or(usize::MAX);
                worth.clamp(1, self.reading.parallel)
            }
        }
    }

    async fn open(
        &self,
        fields: &[usize],
        conditions: Vec<whimbrel_store::Condition>,
        limit: Option<usize>,
    ) -> whimbrel_store::Result<StoreScan> {
        let wanted = fields.iter().map(|at| self.stored.field(*at).name().clone()).collect();
        let condition = condition::all(conditions);
        let source = self.place.source(wanted, condition.clone(), limit)?;
        let described = source.describe().await?;
        let columns = fields.iter().map(|at| {
            let field = self.stored.field(*at);
            let found = described.schema.column_with_name(field.name());
            let same = found.filter(|(_, found)| found.data_type() == field.data_type());
            same.map(|(place, _)| (place, self.forms[*at])).ok_or_else(|| self.drifted(field.name()))
        });
        let columns = columns.collect::<whimbrel_store::Result<Vec<_>>>()?;
        let parts = source.slices(self.wanted_slices(limit)).await?;
        let schema = Arc::new(self.schema.project(fields).map_err(|error| {
            StoreError::new(StoreErrorKind::Internal, self.place.store.name(), "a column is not there")
                .caused_by(error)
        })?);
        let projected = Projected {
            store: self.place.store.name().clone(),
            table: self.place.table.clone(),
            schema,
            columns,
        };
        Ok(StoreScan::new(source, parts, projected, self.reading.clone(), condition, limit, self.records))
    }

    fn drifted(&self, column: &str) -> StoreError {
        let context = format!("column `{column}` of {} has changed since the query began", self.place.table);
        StoreError::new(StoreErrorKind::Drift, self.place.store.name(), context).with_hint("ask again")
    }
}

impl fmt::Debug for StoreTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreTable({}.{})", self.place.store.name(), self.place.table)
    }
}

#[async_trait]
impl TableProvider for StoreTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &&Expr| match self.columns().say(filter) {
            Some(_) => TableProviderFilterPushDown::Inexact,
            None => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(support).collect())
    }

    fn statistics(&self) -> Option<Statistics> {
        let records = usize::try_from(self.records?).ok()?;
        Some(Statistics { num_rows: Precision::Inexact(records), ..Statistics::new_unknown(&self.schema) })
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let all;
        let fields = match projection {
            Some(fields) => fields,
            None => {
                all = (0..self.schema.fields().len()).collect();
                &all
            }
        };
        let conditions = filters.iter().filter_map(|filter| self.columns().say(filter)).collect();
        match self.open(fields, conditions, limit).await {
            Ok(scan) => Ok(Arc::new(scan)),
            Err(error) => Err(self.reading.failure.keep(error)),
        }
    }
}
