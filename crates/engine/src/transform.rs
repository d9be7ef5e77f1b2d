//! The transform of a flow: `SELECT … FROM input [WHERE …]`, compiled once, evaluated on each batch.
//!
//! Neither plan nor stream is made per batch, and row *i* stays row *i*: DataFusion's own filter node would
//! re-cut batches and lose which record a row came from. A batch that cannot be evaluated is halved down to
//! the record that is to blame.

use crate::distinct::readable_columns;
use crate::meaning::{meaning, misused_number};
use crate::{exact, functions};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, UInt64Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList,
    MemorySchemaProvider, SchemaProvider,
};
use datafusion::common::tree_node::TreeNode;
use datafusion::common::{DFSchema, DataFusionError, ParamValues, ScalarValue, SchemaError};
use datafusion::datasource::empty::EmptyTable;
use datafusion::execution::context::SessionConfig;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::{Expr, LogicalPlan, Operator, Volatility};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::utils::collect_columns;
use futures::FutureExt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};
use whimbrel_model::Logical;
use whimbrel_store::KeyPattern;

/// SQL that cannot be compiled.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{message}")]
pub struct TransformError {
    /// What is wrong, in a sentence.
    pub message: String,
    /// The next step, where one is known.
    pub hint: Option<String>,
    /// The line and column of the SQL, counted from 1, where they are known.
    pub at: Option<(usize, usize)>,
}

impl TransformError {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, at: None }
    }

    /// Finds the place that the message speaks of: the parser's own, or where the name in backquotes stands.
    fn placed_in(mut self, sql: &str) -> Self {
        if let Some((message, place)) = self.message.split_once(" at Line: ")
            && let Some((line, column)) =
                place.trim_end_matches(|c: char| !c.is_ascii_digit()).split_once(", Column: ")
            && let (Ok(line), Ok(column)) = (line.parse(), column.parse())
        {
            self.at = Some((line, column));
            self.message = message.to_owned();
        } else if let Some(name) = self.message.split('`').nth(1)
            && let Some(byte) = sql.to_lowercase().find(&name.to_lowercase())
            && let Some(before) = sql.get(..byte)
        {
            let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
            self.at = Some((before.matches('\n').count() + 1, column));
        }
        self
    }
}

/// A compiled projection over an optional filter.
#[derive(Debug)]
pub struct Transform {
    filter: Option<Arc<dyn PhysicalExpr>>,
    projection: Vec<Arc<dyn PhysicalExpr>>,
    output: SchemaRef,
    constants: Vec<KeyPattern>,
    /// For each column that comes out, the source columns that can be read back out of it.
    readable: BTreeMap<String, BTreeSet<String>>,
}

/// What became of a batch's rows.
#[derive(Debug)]
pub struct Transformed {
    /// The rows that go on.
    pub records: RecordBatch,
    /// For each of them, the row of the input that it came from.
    pub origins: Vec<usize>,
    /// How many rows the filter dropped.
    pub filtered: u64,
    /// Rows that could not be evaluated, with the reason.
    pub failed: Vec<(usize, String)>,
}

/// What every compiler plans with. Making it takes milliseconds (it knows some hundred functions), a copy of it none.
static PLANNER: LazyLock<SessionState> = LazyLock::new(|| {
    let mut config = SessionConfig::new().with_target_partitions(1);
    // PostgreSQL's dialect is the one that the users' documents are written in.
    config.options_mut().sql_parser.dialect = datafusion::common::config::Dialect::PostgreSQL;
    let mut state = SessionStateBuilder::new().with_config(config).with_default_features();
    state.scalar_functions().get_or_insert_default().extend(functions::all());
    state.build()
});

/// A catalog that has one table, `input`, where [`PLANNER`] looks for it.
fn catalog_of(input: &SchemaRef) -> Result<Arc<dyn CatalogProviderList>, DataFusionError> {
    let place = &PLANNER.config_options().catalog;
    let schema = MemorySchemaProvider::new();
    schema.register_table("input".to_owned(), Arc::new(EmptyTable::new(Arc::clone(input))))?;
    let catalog = MemoryCatalogProvider::new();
    catalog.register_schema(&place.default_schema, Arc::new(schema))?;
    let catalogs = MemoryCatalogProviderList::new();
    catalogs.register_catalog(place.default_catalog.clone(), Arc::new(catalog));
    Ok(Arc::new(catalogs))
}

/// Compiles SQL over one input schema.
pub struct Compiler {
    state: SessionState,
    input: SchemaRef,
    parameters: BTreeMap<String, String>,
}

impl Compiler {
    /// `parameters` are bound to `$name`, as text.
    ///
    /// # Errors
    /// The input has one column name twice.
    pub fn new(input: &SchemaRef, parameters: &BTreeMap<String, String>) -> Result<Self, TransformError> {
        let mut state = PLANNER.clone();
        state.register_catalog_list(catalog_of(input).map_err(|error| TransformError::new(plain(&error)))?);
        Ok(Self { state, input: Arc::clone(input), parameters: parameters.clone() })
    }

    /// Compiles a transform; `None` passes every column on.
    ///
    /// # Errors
    /// What the parser or the planner refuses; anything but a projection over a filter over `input`; a
    /// volatile function; one output name twice.
    pub fn transform(&self, sql: Option<&str>) -> Result<Transform, TransformError> {
        let plan = self.plan(sql.unwrap_or("SELECT * FROM input"))?;
        let (projection, filter) = shape(&plan)?;
        let mut output = Vec::new();
        let mut compiled = Vec::new();
        let mut constants = Vec::new();
        let mut readable = BTreeMap::new();
        for (expr, field) in projection.iter().zip(plan.schema().fields()) {
            let expr = expr.clone().unalias_nested().data;
            constants.extend(constant_text(&expr).map(|(text, whole)| KeyPattern {
                column: field.name().clone(),
                text,
                whole,
            }));
            readable
                .extend(readable_columns(&expr, &self.input).map(|columns| (field.name().clone(), columns)));
            let meant = meaning(&expr, &self.input);
            let expr = self.compile(expr)?;
            let found = expr.return_field(&self.input).map_err(|error| TransformError::new(plain(&error)))?;
            if output.iter().any(|other: &Field| other.name() == field.name()) {
                return Err(TransformError::new(format!("the column `{}` is selected twice", field.name())));
            }
            output.push(meaning_field(found.as_ref(), meant).with_name(field.name()));
            compiled.push(expr);
        }
        let filter = filter.map(|expr| self.condition(expr.clone())).transpose()?;
        Ok(Transform {
            filter,
            projection: compiled,
            output: Arc::new(Schema::new(output)),
            constants,
            readable,
        })
    }

    /// Compiles a condition over the input's columns.
    ///
    /// # Errors
    /// As [`Compiler::transform`], and a type other than boolean.
    pub fn predicate(&self, sql: &str) -> Result<Predicate, TransformError> {
        const BEFORE: &str = "SELECT (";
        let plan = self.plan(&format!("{BEFORE}{sql}\n) AS predicate FROM input")).map_err(|mut error| {
            error.at = error.at.map(|(line, column)| {
                (line, if line == 1 { column.saturating_sub(BEFORE.len()) } else { column })
            });
            error
        })?;
        let (projection, filter) = shape(&plan)?;
        let ([expr], None) = (projection, filter) else {
            return Err(TransformError::new("one condition is expected"));
        };
        self.condition(expr.clone().unalias_nested().data).map(Predicate)
    }

    fn condition(&self, expr: Expr) -> Result<Arc<dyn PhysicalExpr>, TransformError> {
        let expr = self.compile(expr)?;
        match expr.data_type(&self.input) {
            Ok(DataType::Boolean) => Ok(expr),
            Ok(other) => Err(TransformError::new(format!("a condition is true or false, this is {other}"))),
            Err(error) => Err(TransformError::new(plain(&error))),
        }
    }

    fn plan(&self, sql: &str) -> Result<LogicalPlan, TransformError> {
        let mut state = self.state.clone();
        // A number that a float does not hold is a decimal.
        state.config_mut().options_mut().sql_parser.parse_float_as_decimal = exact::has_long_number(sql);
        let Some(planned) = state.create_logical_plan(sql).now_or_never() else {
            return Err(TransformError::new("the SQL waits for something outside of it"));
        };
        let plan = planned.map_err(|error| self.explain(&error).placed_in(sql))?;
        let values = self
            .parameters
            .iter()
            .map(|(name, value)| (name.clone(), ScalarValue::from(value.as_str()).into()));
        let values = ParamValues::Map(values.collect());
        plan.replace_params_with_values(&values).map_err(|error| self.explain(&error))
    }

    fn compile(&self, expr: Expr) -> Result<Arc<dyn PhysicalExpr>, TransformError> {
        if changes_by_itself(&expr) {
            return Err(TransformError::new(format!(
                "`{expr}` gives another answer each time; a run that resumes would write other values"
            )));
        }
        let schema =
            DFSchema::try_from_qualified_schema("input", &self.input).map_err(|e| self.explain(&e))?;
        let expr = exact::comparisons(expr, &self.input, &schema)?;
        if let Some(name) = misused_number(&expr, &self.input) {
            let mut error = TransformError::new(format!(
                "`{name}` is an exact number, which an expression would turn into something else"
            ));
            error.hint = Some(format!(
                "say into what: cast({name} AS decimal(38, 9)), cast({name} AS bigint), cast({name} AS varchar)"
            ));
            return Err(error);
        }
        let context = datafusion::optimizer::simplify_expressions::SimplifyContext::builder()
            .with_schema(Arc::new(schema.clone()))
            .with_config_options(Arc::clone(self.state.config_options()))
            .build();
        let simplifier = ExprSimplifier::new(context);
        let coerced = simplifier.coerce(expr, &schema).map_err(|error| self.explain(&error))?;
        let simplified = simplifier.simplify(coerced).map_err(|error| self.explain(&error))?;
        self.state.create_physical_expr(simplified, &schema).map_err(|error| self.explain(&error))
    }

    /// The planner's words, and for an unknown column the nearest right name.
    fn explain(&self, error: &DataFusionError) -> TransformError {
        let root = error.find_root();
        let DataFusionError::SchemaError(schema_error, _) = root else {
            return TransformError::new(plain(error));
        };
        let SchemaError::FieldNotFound { field, .. } = schema_error.as_ref() else {
            return TransformError::new(plain(error));
        };
        let names: Vec<&str> = self.input.fields().iter().map(|field| field.name().as_str()).collect();
        let hint = match names.iter().find(|name| name.eq_ignore_ascii_case(&field.name)) {
            Some(name) => format!("a name with capitals is written in double quotes: \"{name}\""),
            None => format!("the input has: {}", names.join(", ")),
        };
        TransformError { message: format!("there is no column `{}`", field.name), hint: Some(hint), at: None }
    }
}

/// A field that says what its text means, where planning has lost it.
fn meaning_field(field: &Field, meant: Option<Logical>) -> Field {
    match meant {
        Some(meant) if Logical::of(field).is_none() && field.data_type().is_string() => {
            let named = meant.field(field.name(), field.is_nullable());
            let metadata = named.metadata().clone();
            field.clone().with_metadata(metadata)
        }
        _ => field.clone(),
    }
}

/// Whether some function in it may answer otherwise in another run (`random`, `now`).
fn changes_by_itself(expr: &Expr) -> bool {
    let moving = |expr: &Expr| match expr {
        Expr::ScalarFunction(call) => call.func.signature().volatility != Volatility::Immutable,
        _ => false,
    };
    expr.exists(|expr| Ok(moving(expr))).unwrap_or(true)
}

/// The text that an expression's every value is or begins with, and whether it is the whole of it.
fn constant_text(expr: &Expr) -> Option<(String, bool)> {
    match expr {
        Expr::Literal(value, _) => value.try_as_str().flatten().map(|text| (text.to_owned(), true)),
        Expr::BinaryExpr(binary) if binary.op == Operator::StringConcat => {
            constant_text(&binary.left).map(|(text, _)| (text, false))
        }
        Expr::ScalarFunction(call) if call.name() == "concat" => {
            constant_text(call.args.first()?).map(|(text, _)| (text, false))
        }
        Expr::Cast(cast) => constant_text(&cast.expr),
        _ => None,
    }
}

/// The projection and the filter of a plan that works row by row.
fn shape(plan: &LogicalPlan) -> Result<(&[Expr], Option<&Expr>), TransformError> {
    let refused = || {
        let mut error = TransformError::new("a transform reads `input` row by row and nothing else");
        error.hint = Some(
            "write SELECT … FROM input [WHERE …]; joins and aggregates belong into the source's `query`"
                .to_owned(),
        );
        error
    };
    let LogicalPlan::Projection(projection) = plan else { return Err(refused()) };
    let (filter, below) = match projection.input.as_ref() {
        LogicalPlan::Filter(filter) => (Some(&filter.predicate), filter.input.as_ref()),
        other => (None, other),
    };
    match below {
        LogicalPlan::TableScan(scan) if scan.table_name.table() == "input" => Ok((&projection.expr, filter)),
        _ => Err(refused()),
    }
}

/// DataFusion's message without the names of its layers.
fn plain(error: &DataFusionError) -> String {
    let text = error.find_root().strip_backtrace();
    let layers =
        ["Error during planning: ", "SQL error: ", "Execution error: ", "Arrow error: ", "Schema error: "];
    let text = layers.iter().fold(text, |text, layer| text.replace(layer, ""));
    text.replace("ParserError(\"", "").replace("\")", "").replace("datafusion.public.", "")
}

/// A compiled condition.
#[derive(Debug)]
pub struct Predicate(Arc<dyn PhysicalExpr>);

/// A condition over a batch: per row true, false or NULL, or why it could not be told.
pub type Verdicts = Vec<Result<Option<bool>, String>>;

impl Predicate {
    /// Whether the condition looks at the column.
    #[must_use]
    pub fn looks_at(&self, column: &str) -> bool {
        collect_columns(&self.0).iter().any(|looked_at| looked_at.name() == column)
    }

    /// Evaluates the condition for each row.
    #[must_use]
    pub fn evaluate(&self, batch: &RecordBatch) -> Verdicts {
        match evaluate(&self.0, batch) {
            Ok(column) => column.as_boolean().iter().map(Ok).collect(),
            Err(error) if batch.num_rows() <= 1 => vec![Err(plain(&error)); batch.num_rows()],
            Err(_) => {
                let half = batch.num_rows() / 2;
                let mut verdicts = self.evaluate(&batch.slice(0, half));
                verdicts.extend(self.evaluate(&batch.slice(half, batch.num_rows() - half)));
                verdicts
            }
        }
    }
}

fn evaluate(expr: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> Result<ArrayRef, DataFusionError> {
    expr.evaluate(batch)?.into_array(batch.num_rows())
}

impl Transform {
    /// What is constant in its columns: a text, or the text that every value begins with.
    #[must_use]
    pub fn constants(&self) -> &[KeyPattern] {
        &self.constants
    }

    /// Whether records with other values in the source's key columns have other values in the given columns that
    /// come out: no two records can meet in a target of that key, as long as the source's key is one.
    #[must_use]
    pub fn tells_apart(&self, columns: &[String], source_key: &[String]) -> bool {
        let readable = |name: &String| {
            columns.iter().any(|column| self.readable.get(column).is_some_and(|r| r.contains(name)))
        };
        !source_key.is_empty() && source_key.iter().all(readable)
    }

    /// The columns that come out.
    #[must_use]
    pub fn output(&self) -> &SchemaRef {
        &self.output
    }

    /// Transforms the given rows of the batch.
    ///
    /// # Errors
    /// Arrow's own failure to gather rows, which is a mistake of ours.
    pub fn apply(&self, batch: &RecordBatch, rows: &[usize]) -> Result<Transformed, DataFusionError> {
        let mut done = Vec::new();
        let mut transformed = Transformed {
            records: RecordBatch::new_empty(Arc::clone(&self.output)),
            origins: Vec::new(),
            filtered: 0,
            failed: Vec::new(),
        };
        self.apply_to(batch, rows, &mut done, &mut transformed)?;
        transformed.records = match done.len() {
            1 => done.remove(0),
            _ => concat_batches(&self.output, &done)?,
        };
        Ok(transformed)
    }

    fn apply_to(
        &self,
        batch: &RecordBatch,
        rows: &[usize],
        done: &mut Vec<RecordBatch>,
        transformed: &mut Transformed,
    ) -> Result<(), DataFusionError> {
        if rows.is_empty() {
            return Ok(());
        }
        let gathered = gather(batch, rows)?;
        match self.evaluate(&gathered) {
            Ok((records, kept)) => {
                let origins = rows.iter().zip(&kept).filter(|(_, kept)| **kept).map(|(row, _)| *row);
                transformed.origins.extend(origins);
                transformed.filtered += kept.iter().map(|kept| u64::from(!kept)).sum::<u64>();
                done.push(records);
            }
            Err(error) => match rows {
                [row] => transformed.failed.push((*row, plain(&error))),
                _ => {
                    let (left, right) = rows.split_at(rows.len() / 2);
                    self.apply_to(batch, left, done, transformed)?;
                    self.apply_to(batch, right, done, transformed)?;
                }
            },
        }
        Ok(())
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<(RecordBatch, Vec<bool>), DataFusionError> {
        let mut kept = vec![true; batch.num_rows()];
        let mut input = std::borrow::Cow::Borrowed(batch);
        if let Some(filter) = &self.filter {
            let mask = evaluate(filter, batch)?;
            let mask = mask.as_boolean();
            kept = (0..mask.len()).map(|row| mask.is_valid(row) && mask.value(row)).collect();
            let mask = BooleanArray::from(kept.clone());
            input = std::borrow::Cow::Owned(arrow::compute::filter_record_batch(batch, &mask)?);
        }
        let columns =
            self.projection.iter().map(|expr| evaluate(expr, &input)).collect::<Result<Vec<_>, _>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(input.num_rows()));
        let records = RecordBatch::try_new_with_options(Arc::clone(&self.output), columns, &options)?;
        Ok((records, kept))
    }
}

fn gather(batch: &RecordBatch, rows: &[usize]) -> Result<RecordBatch, DataFusionError> {
    if rows.len() == batch.num_rows() {
        return Ok(batch.clone());
    }
    let indices: UInt64Array = rows.iter().map(|row| u64::try_from(*row).ok()).collect();
    Ok(take_record_batch(batch, &indices)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int64Array, StringArray};
    use whimbrel_model::record;

    fn input() -> RecordBatch {
        let fields = vec![
            Field::new("id", DataType::Int64, false),
            Field::new("userName", DataType::Utf8, true),
            Logical::Json.field("doc", true),
        ];
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![1, -2, 3, 4])),
            Arc::new(StringArray::from(vec![Some("a"), None, Some("c"), Some("d")])),
            Arc::new(StringArray::from(vec!["{}", "[]", "1", "null"])),
        ];
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
    }

    fn compiler() -> Compiler {
        let parameters = BTreeMap::from([("who".to_owned(), "c'".to_owned())]);
        Compiler::new(input().schema_ref(), &parameters).unwrap()
    }

    fn apply(sql: &str) -> (Vec<String>, Transformed) {
        let batch = input();
        let transform = compiler().transform(Some(sql)).unwrap();
        let done = transform.apply(&batch, &[0, 1, 2, 3]).unwrap();
        let rows = (0..done.records.num_rows())
            .map(|row| serde_json::Value::Object(record::to_json(&done.records, row)).to_string());
        (rows.collect(), done)
    }

    #[test]
    fn rows_know_where_they_came_from() {
        let (rows, done) = apply(
            r#"SELECT 'USER#' || id AS pk, coalesce("userName", '-') AS name FROM input WHERE id <> 1"#,
        );
        assert_eq!(
            rows,
            [
                r#"{"pk":"USER#-2","name":"-"}"#,
                r#"{"pk":"USER#3","name":"c"}"#,
                r#"{"pk":"USER#4","name":"d"}"#
            ]
        );
        assert_eq!((done.origins, done.filtered, done.failed.len()), (vec![1, 2, 3], 1, 0));
    }

    #[test]
    fn a_record_that_fails_fails_alone() {
        let (rows, done) = apply("SELECT fixed_width(id, 3) AS n FROM input");
        assert_eq!(rows, [r#"{"n":"001"}"#, r#"{"n":"003"}"#, r#"{"n":"004"}"#]);
        assert_eq!(done.origins, [0, 2, 3]);
        assert_eq!(done.failed.len(), 1);
        assert_eq!(done.failed[0].0, 1);
        assert!(done.failed[0].1.contains("-2 is negative"), "{}", done.failed[0].1);
    }

    #[test]
    fn a_plain_column_keeps_its_meaning_under_another_name() {
        let transform = compiler()
            .transform(Some("SELECT doc AS document, json_object('a', id) AS made FROM input"))
            .unwrap();
        let meanings: Vec<_> = transform.output().fields().iter().map(|field| Logical::of(field)).collect();
        assert_eq!(meanings, [Some(Logical::Json), Some(Logical::Json)]);
        assert_eq!(transform.output().field(0).name(), "document");
    }

    #[test]
    fn parameters_are_bound_not_spliced() {
        let (rows, done) = apply(r#"SELECT id, $who AS who FROM input WHERE "userName" = $who"#);
        assert!(rows.is_empty());
        assert_eq!(done.filtered, 4);
        let verdicts = compiler().predicate("$who = 'c'''").unwrap().evaluate(&input());
        assert_eq!(verdicts[0], Ok(Some(true)));
    }

    #[test]
    fn a_forgotten_quote_is_explained() {
        let error = compiler().transform(Some("SELECT userName FROM input")).unwrap_err();
        assert_eq!(error.message, "there is no column `username`");
        assert_eq!(
            error.hint.as_deref(),
            Some("a name with capitals is written in double quotes: \"userName\"")
        );
    }

    #[test]
    fn an_error_knows_its_place() {
        let error = compiler().transform(Some("SELECT id,\n  nope FROM input")).unwrap_err();
        assert_eq!(error.at, Some((2, 3)));
        let error = compiler().transform(Some("SELECT id FROM\ninput WHERE AND")).unwrap_err();
        assert_eq!(error.at, Some((2, 13)), "{error}");
        let error = compiler().predicate("id = = 1").unwrap_err();
        assert_eq!(error.at, Some((1, 6)), "{error}");
    }

    #[test]
    fn constants_of_a_projection_are_known() {
        let sql = "SELECT 'USER#' || id AS pk, 'METADATA' AS sk, concat('A', id) AS a, id FROM input";
        let constants = compiler().transform(Some(sql)).unwrap().constants().to_vec();
        let found: Vec<_> = constants.iter().map(|c| (c.column.as_str(), c.text.as_str(), c.whole)).collect();
        assert_eq!(found, [("pk", "USER#", false), ("sk", "METADATA", true), ("a", "A", false)]);
    }

    #[test]
    fn what_is_not_row_by_row_is_refused() {
        for sql in [
            "SELECT count(*) FROM input",
            "SELECT DISTINCT id FROM input",
            "SELECT id FROM input ORDER BY id",
            "SELECT id FROM input LIMIT 1",
            "SELECT a.id FROM input a JOIN input b ON a.id = b.id",
            "SELECT id FROM input UNION ALL SELECT id FROM input",
            "SELECT random() AS r FROM input",
            "SELECT now() AS r FROM input",
            "SELECT id, id FROM input",
            "SELECT id FROM input WHERE id IN (SELECT id FROM input)",
            "DELETE FROM input",
            "SELEC id",
            "SELECT nothing FROM input",
            "SELECT $unknown AS x FROM input",
            "SELECT id FROM input WHERE NULL",
            "SELECT id FROM input WHERE id",
        ] {
            assert!(compiler().transform(Some(sql)).is_err(), "{sql}");
        }
        assert!(compiler().predicate("id").is_err(), "a number is no condition");
        assert!(compiler().predicate("id = 1), (id = 2").is_err());
    }

    #[test]
    fn conditions_tell_each_row() {
        let verdicts = compiler().predicate("fixed_width(id, 1) = '3'").unwrap().evaluate(&input());
        assert_eq!(verdicts[0], Ok(Some(false)));
        assert!(verdicts[1].is_err());
        assert_eq!(verdicts[2], Ok(Some(true)));
    }
}
