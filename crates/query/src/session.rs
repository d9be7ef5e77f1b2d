//! Answers to queries: tables opened by name, the plan made by DataFusion, batches as they come.

use crate::error::{FirstFailure, QueryError, Result};
use crate::names::Written;
use crate::numbers::Numbers;
use crate::statement::{Query, place};
use crate::table::{Place, Reading, StoreTable};
use crate::whole::in_one_store;
use arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{
    CatalogProvider, MemoryCatalogProvider, MemorySchemaProvider, SchemaProvider, TableProvider,
};
use datafusion::common::config::Dialect;
use datafusion::common::{DataFusionError, TableReference};
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::context::{SQLOptions, SessionConfig, SessionContext};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use whimbrel_engine::functions;
use whimbrel_engine::migration::Stores;
use whimbrel_model::StoreName;
use whimbrel_spec::ResolvedFlow;
use whimbrel_spec::resolved::{self, ParameterValue};
use whimbrel_store::{
    Parameter, ReadRequest, Relation, RunContext, Source, SourceDescription, StoreError, StoreErrorKind,
};

/// A column that no table has: a store that answers with it has whatever it is asked for.
const ANY_COLUMN: &str = "whimbrel:any";
/// The column that such a store has beside its key: the record whole.
const WHOLE_RECORD: &str = "_item";
/// The place of tables in SQL that name one store's table without the store.
const CATALOG: &str = "whimbrel";
const SCHEMA: &str = "only";

/// Types that the spec declares for columns, by store and table.
pub type Declared = BTreeMap<(StoreName, String), BTreeMap<String, String>>;

/// What the flows of a spec declare of the columns of their sources. Where two flows differ, neither is believed.
#[must_use]
pub fn declared(flows: &[ResolvedFlow]) -> Declared {
    let mut found: BTreeMap<_, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for flow in flows {
        let resolved::Relation::Table(table) = &flow.from.relation else { continue };
        let columns = found.entry((flow.from.store.clone(), table.clone())).or_default();
        for (column, word) in &flow.columns {
            columns.entry(column.clone()).or_default().insert(word.clone());
        }
    }
    let agreed = |words: BTreeSet<String>| match words.len() {
        1 => words.into_iter().next(),
        _ => None,
    };
    let columns = |columns: BTreeMap<String, BTreeSet<String>>| {
        columns.into_iter().filter_map(|(column, words)| Some((column, agreed(words)?))).collect()
    };
    found.into_iter().map(|(table, found)| (table, columns(found))).collect()
}

/// How queries are carried out.
#[derive(Clone)]
pub struct Settings {
    /// Slices of a table, and parts of the plan, at a time.
    pub parallel: usize,
    /// Bytes that joins, sorts and groups may hold; what can be is spilled to disk beyond.
    pub memory_bytes: usize,
    /// What exact numbers are.
    pub numbers: Numbers,
    /// What stores are lent: how long they try, when to stop, how many units they may use.
    pub context: RunContext,
}

/// Opened stores that queries are asked of.
pub struct Session {
    stores: Stores,
    names: Vec<StoreName>,
    declared: Declared,
    settings: Settings,
}

/// An answer, read as it is wanted. Dropping it ends all reading.
pub struct Answer {
    /// Its columns.
    pub schema: SchemaRef,
    /// Its rows. After an error there are no more.
    pub batches: BoxStream<'static, Result<RecordBatch>>,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer").field("schema", &self.schema).finish_non_exhaustive()
    }
}

/// The columns of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableColumns {
    /// Their names; `None` where records have no fixed columns.
    pub columns: Option<Vec<String>>,
    /// Those whose values name a record; empty where there are none.
    pub key: Vec<String>,
}

/// A table with what its store says of it.
struct Described {
    reference: TableReference,
    place: Place,
    description: SourceDescription,
    own: BTreeSet<Written>,
}

impl Described {
    fn has_any_column(&self) -> bool {
        self.description.schema.column_with_name(ANY_COLUMN).is_some()
    }

    fn has(&self, column: &str) -> bool {
        self.description.schema.column_with_name(column).is_some()
    }
}

impl Session {
    /// A session over opened stores. `names` are all stores that a query may name, opened or not.
    #[must_use]
    pub fn new(stores: Stores, names: Vec<StoreName>, declared: Declared, settings: Settings) -> Self {
        Self { stores, names, declared, settings }
    }

    /// Answers a query over any of the stores. All that it reads of a store is one snapshot, where the store has
    /// such. With a limit the answer ends after so many rows.
    ///
    /// # Errors
    /// The SQL does not fit what the stores hold, or a store fails.
    pub async fn answer(&self, query: Query, limit: Option<usize>) -> Result<Answer> {
        let failure = FirstFailure::default();
        let reading = Reading {
            context: self.settings.context.clone(),
            numbers: self.settings.numbers,
            parallel: self.settings.parallel.max(1),
            failure: failure.clone(),
        };
        for name in query.stores(&self.names)? {
            self.store(&name)?.begin_epoch().await?;
        }
        let context = self.context()?;
        for (reference, table) in self.tables(&query, &reading).await? {
            register(&context, reference, table).map_err(|error| QueryError::planning(&error))?;
        }
        let planned = context.state().statement_to_plan(query.statement).await;
        let bound = planned.and_then(|plan| plan.replace_params_with_values(&query.bindings.values()));
        let plan = bound.map_err(|error| QueryError::planning(&error))?;
        let reads =
            SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        reads.verify_plan(&plan).map_err(|error| QueryError::planning(&error))?;
        let failed = |error: &DataFusionError, or: fn(&DataFusionError) -> QueryError| match failure.take() {
            Some(error) => QueryError::Store(error),
            None => or(error),
        };
        let mut frame =
            context.execute_logical_plan(plan).await.map_err(|error| failed(&error, QueryError::planning))?;
        if let Some(limit) = limit.filter(|_| !query.explains) {
            frame = frame.limit(0, Some(limit)).map_err(|error| failed(&error, QueryError::planning))?;
        }
        let stream = frame.execute_stream().await.map_err(|error| failed(&error, QueryError::planning))?;
        let schema = stream.schema();
        let batches = stream.map_err(move |error| match failure.take() {
            Some(error) => QueryError::Store(error),
            None => QueryError::computing(&error),
        });
        Ok(Answer { schema, batches: until_error(batches.boxed()) })
    }

    /// Answers a query where its data is, where that can be: one that names a single store's tables goes to that
    /// store whole, if the store has a language of its own and understands it. Columns without a name of their own may
    /// be called otherwise there, and text sorts by the store's collation.
    ///
    /// # Errors
    /// As [`Session::answer`].
    pub async fn answer_in_place(&self, query: Query, limit: Option<usize>) -> Result<Answer> {
        let Some((store, sql)) = in_one_store(&query, &self.names) else {
            return self.answer(query, limit).await;
        };
        let (source, schema) = match self.own_source(&store, &sql, &query.bindings.parameters, limit).await {
            Ok(opened) => opened,
            // It has other words for this, or none.
            Err(QueryError::Store(error)) if is_refusal(error.kind()) => {
                return self.answer(query, limit).await;
            }
            Err(error) => return Err(error),
        };
        self.read_source(store, source, schema, limit).await
    }

    /// Asks one store in its own language. Exact numbers stay the text that they are.
    ///
    /// # Errors
    /// The store is not there, has no language of its own, or fails.
    pub async fn ask_store(&self, name: &StoreName, sql: &str, limit: Option<usize>) -> Result<Answer> {
        self.ask_store_bound(name, sql, &BTreeMap::new(), limit).await
    }

    /// The same, with values that `$name` stands for.
    ///
    /// # Errors
    /// As [`Session::ask_store`].
    pub async fn ask_store_bound(
        &self,
        name: &StoreName,
        sql: &str,
        parameters: &BTreeMap<String, ParameterValue>,
        limit: Option<usize>,
    ) -> Result<Answer> {
        let (source, schema) = self.own_source(name, sql, parameters, limit).await?;
        self.read_source(name.clone(), source, schema, limit).await
    }

    /// The columns of a table, by its name in the store.
    ///
    /// # Errors
    /// The store or the table is not there, or the store fails.
    pub async fn columns(&self, name: &StoreName, table: &str) -> Result<TableColumns> {
        let store = Arc::clone(self.store(name)?);
        let columns = self.declared.get(&(name.clone(), table.to_owned())).cloned().unwrap_or_default();
        let place = Place { store, table: table.to_owned(), columns };
        let source = place.source(BTreeSet::from([ANY_COLUMN.to_owned()]), None, None)?;
        let SourceDescription { schema, key, .. } = source.describe().await?;
        let names = schema.fields().iter().map(|field| field.name().clone());
        let has_any = schema.column_with_name(ANY_COLUMN).is_some();
        Ok(TableColumns { columns: (!has_any).then(|| names.collect()), key })
    }

    /// The reading side of a query in a store's own language, and its columns.
    async fn own_source(
        &self,
        name: &StoreName,
        sql: &str,
        parameters: &BTreeMap<String, ParameterValue>,
        limit: Option<usize>,
    ) -> Result<(Arc<dyn Source>, SchemaRef)> {
        let store = self.store(name)?;
        store.begin_epoch().await?;
        let parameters = parameters.iter().map(|(name, value)| (name.clone(), Parameter(value.0.clone())));
        let source = store.source(ReadRequest {
            relation: Relation::Query(sql.to_owned()),
            slice_by: Vec::new(),
            columns: BTreeMap::new(),
            parameters: parameters.collect(),
            wanted: None,
            condition: None,
            wants_all: false,
            whole: false,
            batch_records: limit.unwrap_or(8192).clamp(1, 8192),
            batch_bytes: 2 * 1024 * 1024,
        })?;
        let schema = source.describe().await?.schema;
        Ok((source, schema))
    }

    async fn read_source(
        &self,
        store: StoreName,
        source: Arc<dyn Source>,
        schema: SchemaRef,
        limit: Option<usize>,
    ) -> Result<Answer> {
        let parts = source.slices(1).await?;
        let mut streams = Vec::with_capacity(parts.len());
        for part in &parts {
            streams.push(source.read(part, None, &self.settings.context).await?);
        }
        let batches = futures::stream::iter(streams).flatten().map(move |batch| {
            let batch = batch?;
            match batch.unreadable.first() {
                None => Ok(batch.records),
                Some(value) => {
                    let context = format!("column `{}` cannot be read: {}", value.column, value.reason);
                    Err(StoreError::new(StoreErrorKind::Mismatch, &store, context)
                        .with_hint("cast it to text in the query")
                        .into())
                }
            }
        });
        let batches = first_rows(batches.boxed(), limit);
        Ok(Answer { schema, batches: until_error(batches) })
    }

    fn store(&self, name: &StoreName) -> Result<&Arc<dyn whimbrel_store::Store>> {
        self.stores.get(name).ok_or_else(|| {
            let known: Vec<_> = self.names.iter().map(StoreName::as_str).collect();
            let hint = format!("the spec's flows use: {}", known.join(", "));
            QueryError::sql(format!("there is no store `{name}`"), hint)
        })
    }

    fn context(&self) -> Result<SessionContext> {
        let parallel = self.settings.parallel.max(1);
        let mut config = SessionConfig::new()
            .with_target_partitions(parallel)
            .with_default_catalog_and_schema(CATALOG, SCHEMA)
            .with_create_default_catalog_and_schema(false);
        let options = config.options_mut();
        options.sql_parser.dialect = Dialect::PostgreSQL;
        // 1.5 is one and a half, not the nearest float.
        options.sql_parser.parse_float_as_decimal = true;
        let pool = Arc::new(FairSpillPool::new(self.settings.memory_bytes));
        let runtime = RuntimeEnvBuilder::new().with_memory_pool(pool).build_arc();
        let runtime = runtime.map_err(|error| QueryError::planning(&error))?;
        let mut state =
            SessionStateBuilder::new().with_config(config).with_runtime_env(runtime).with_default_features();
        state.scalar_functions().get_or_insert_default().extend(functions::all());
        Ok(SessionContext::new_with_state(state.build()))
    }

    /// Every table that the query names, with the columns that the query may mean.
    async fn tables(
        &self,
        query: &Query,
        reading: &Reading,
    ) -> Result<Vec<(TableReference, Arc<StoreTable>)>> {
        let mut described = Vec::with_capacity(query.tables.len());
        for reference in &query.tables {
            described.push(self.describe(query, reference).await?);
        }
        let fixed: Vec<&Described> = described.iter().filter(|table| !table.has_any_column()).collect();
        let in_fixed = |column: &str| fixed.iter().any(|table| table.has(column));
        let mut tables = Vec::with_capacity(described.len());
        for table in &described {
            let key: BTreeSet<&str> = table.description.key.iter().map(String::as_str).collect();
            let mut meant: BTreeSet<&str> = table.own.iter().map(|name| name.column.as_str()).collect();
            if table.has_any_column() {
                let (_, bare) = query.names.of(&table.reference);
                let bare: BTreeSet<_> = bare.iter().filter(|name| !in_fixed(&name.column)).cloned().collect();
                let mut seen = table.own.iter().chain(&bare);
                if let Some(error) = seen.find_map(|name| misleading(query, table, name)) {
                    return Err(error);
                }
                meant.extend(described_names(&bare, table));
            }
            let passes = |column: &str| {
                !table.has_any_column()
                    || key.contains(column)
                    || meant.contains(column)
                    || (column == WHOLE_RECORD && query.names.star)
            };
            let made = StoreTable::new(table.place.clone(), reading.clone(), &table.description, passes);
            tables.push((table.reference.clone(), Arc::new(made)));
        }
        Ok(tables)
    }

    async fn describe(&self, query: &Query, reference: &TableReference) -> Result<Described> {
        let (name, table) = place(reference, &self.names)?;
        let store = Arc::clone(self.store(&name)?);
        let columns = self.declared.get(&(name, table.clone())).cloned().unwrap_or_default();
        let place = Place { store, table, columns };
        let (own, bare) = query.names.of(reference);
        let mut wanted: BTreeSet<String> = own.iter().chain(bare).map(|name| name.column.clone()).collect();
        wanted.extend([ANY_COLUMN, WHOLE_RECORD].map(str::to_owned));
        let source = place.source(wanted, None, None)?;
        let described = source.describe().await;
        let description = described.map_err(|error| self.forgotten_quote(query, &place.table, error))?;
        Ok(Described { reference: reference.clone(), place, description, own })
    }

    /// A table that is not there may be one whose quotes were forgotten.
    fn forgotten_quote(&self, query: &Query, table: &str, error: StoreError) -> QueryError {
        let meant =
            query.names.unquoted_tables.iter().find(|written| {
                written.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case(table))
            });
        match meant {
            Some(written) if error.kind() == StoreErrorKind::NotFound => {
                let last = written.rsplit('.').next().unwrap_or(written);
                let hint = format!("a name with capitals is written in double quotes: \"{last}\"");
                QueryError::Store(error.with_hint(hint))
            }
            _ => QueryError::Store(error),
        }
    }
}

/// The names that are columns of the described table.
fn described_names<'a>(names: &BTreeSet<Written>, table: &'a Described) -> BTreeSet<&'a str> {
    let fields = table.description.schema.fields().iter().map(|field| field.name().as_str());
    fields.filter(|field| names.iter().any(|name| name.column == *field)).collect()
}

/// A store that has whatever it is asked for would answer a name without its quotes with nothing but NULL.
fn misleading(query: &Query, table: &Described, name: &Written) -> Option<QueryError> {
    let seems = name.seems.as_ref()?;
    if query.names.is_output(&name.column) || table.description.key.contains(&name.column) {
        return None;
    }
    let message = format!("`{seems}` without quotes is the column `{}` of {}", name.column, table.reference);
    Some(QueryError::sql(message, format!("a name with capitals is written in double quotes: \"{seems}\"")))
}

/// Puts a table where SQL looks for it.
fn register(
    context: &SessionContext,
    reference: TableReference,
    table: Arc<dyn TableProvider>,
) -> datafusion::common::Result<()> {
    let place = reference.resolve(CATALOG, SCHEMA);
    let catalog = match context.catalog(&place.catalog) {
        Some(catalog) => catalog,
        None => {
            let catalog = Arc::new(MemoryCatalogProvider::new());
            context.register_catalog(&*place.catalog, Arc::clone(&catalog) as Arc<dyn CatalogProvider>);
            catalog
        }
    };
    let schema = match catalog.schema(&place.schema) {
        Some(schema) => schema,
        None => {
            let schema: Arc<dyn SchemaProvider> = Arc::new(MemorySchemaProvider::new());
            catalog.register_schema(&place.schema, Arc::clone(&schema))?;
            schema
        }
    };
    schema.register_table(place.table.to_string(), table)?;
    Ok(())
}

/// Whether a store would not answer the query, rather than could not.
fn is_refusal(kind: StoreErrorKind) -> bool {
    matches!(kind, StoreErrorKind::Unsupported | StoreErrorKind::Mismatch | StoreErrorKind::NotFound)
}

type Batches = BoxStream<'static, Result<RecordBatch>>;

/// Ends with the first error.
fn until_error(batches: Batches) -> Batches {
    let step = |batches: Option<Batches>| async move {
        let mut batches = batches?;
        match batches.next().await? {
            Ok(batch) => Some((Ok(batch), Some(batches))),
            Err(error) => Some((Err(error), None)),
        }
    };
    futures::stream::unfold(Some(batches), step).boxed()
}

/// Ends after so many rows, and lets go of what is beyond.
fn first_rows(batches: Batches, limit: Option<usize>) -> Batches {
    let Some(limit) = limit else { return batches };
    let step = |(batches, left): (Option<Batches>, usize)| async move {
        let mut batches = batches.filter(|_| left > 0)?;
        let next = batches.next().await?;
        Some(match next {
            Ok(batch) if batch.num_rows() >= left => (Ok(batch.slice(0, left)), (None, 0)),
            Ok(batch) => {
                let left = left - batch.num_rows();
                (Ok(batch), (Some(batches), left))
            }
            Err(error) => (Err(error), (None, 0)),
        })
    };
    futures::stream::unfold((Some(batches), limit), step).boxed()
}
