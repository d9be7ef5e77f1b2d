//! A flow as it runs: `where`, checks and transform compiled, its target opened.

use crate::changed::Changing;
use crate::changes::Watch;
use crate::duplicates::{Duplicates, Order};
use crate::error::{EngineError, Result};
use crate::rejects::RAW;
use crate::shapes;
use crate::spill;
use crate::transform::{Compiler, Predicate, Transform, TransformError};
use arrow::array::{Array, RecordBatch, UInt64Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use whimbrel_model::{ColumnFidelity, Fingerprint, FlowName, Logical, Reject, SliceId, Stage, record};
use whimbrel_spec::resolved::{Check, OnDuplicate, OrderColumn, POSITION, Relation};
use whimbrel_spec::{Position, ResolvedFlow, SpecError, SpecErrorKind, SqlText};
use whimbrel_store::{KeyPattern, Mode, Originals, ReadBatch, RunContext, SourceDescription, Target};

/// What is said of SQL that the planner refuses without a better hint.
const ROW_BY_ROW: &str = "a transform is SELECT … FROM input [WHERE …], a condition what stands behind WHERE: row by row, \
    over the source's columns; joins and aggregates belong into the source's `query`";

/// How many characters of a value a message shows.
const SHOWN_CHARACTERS: usize = 120;

/// A compiled flow.
pub struct FlowPlan {
    /// Its name.
    pub name: FlowName,
    /// What it writes into.
    pub target: Arc<dyn Target>,
    /// How it writes.
    pub mode: Mode,
    /// The source's key columns.
    pub key: Vec<String>,
    /// The target's key columns.
    pub into_key: Vec<String>,
    /// The spec's template for one record, for people.
    pub sample: Option<String>,
    /// In [`Mode::Update`]: the input's columns whose values guard the output columns of the same name; `None`
    /// where what was read is not what the target held.
    pub guards: Option<Vec<usize>>,
    /// Whether the guards are read from the very table that is written, so that nobody need ask it what it holds.
    pub reads_its_target: bool,
    /// In [`Mode::Changed`]: what records are compared with, and what is deleted.
    pub changing: Option<Changing>,
    /// What becomes of a second record of one key.
    pub duplicates: Duplicates,
    /// Who is told of each record that is altered; set before anything is read, or never.
    pub watch: OnceLock<Watch>,
    filter: Option<Predicate>,
    checks: Vec<CompiledCheck>,
    transform: Transform,
    constants: Vec<KeyPattern>,
}

enum CompiledCheck {
    Expect { condition: Predicate, message: String },
    Required { column: String, index: usize },
}

/// What of a batch reached a flow.
#[derive(Debug)]
pub struct Reached {
    /// The source's batch.
    pub batch: RecordBatch,
    /// The records of the batch whole, where its columns are not.
    pub originals: Option<Arc<dyn Originals>>,
    /// The rows of the batch that reached the flow, ascending.
    pub taken: Vec<usize>,
    /// The values that the target must still hold, row by row of `records`.
    pub guards: Option<RecordBatch>,
    /// The records to write.
    pub records: RecordBatch,
    /// For each record to write, its row in the source's batch.
    pub origins: Vec<usize>,
    /// Records that reached the flow.
    pub read: u64,
    /// Records that its transform dropped.
    pub filtered: u64,
    /// Records that go no further.
    pub rejects: Vec<Reject>,
}

/// Rows that go no further: where it was found, and why.
type Refused = BTreeMap<usize, (Stage, String)>;

impl FlowPlan {
    /// Compiles a flow's SQL over its source's columns. `spec` is the file that errors name.
    ///
    /// # Errors
    /// SQL that cannot be compiled, or a check of a column that is not there.
    pub fn compile(
        flow: &ResolvedFlow,
        spec: &Path,
        source: &SourceDescription,
        target: Arc<dyn Target>,
        mode: Mode,
    ) -> Result<Self> {
        let guarded = flow.into.guarded.unwrap_or_else(|| flow.from.each.is_none() && reads_its_target(flow));
        let guarded = guarded && mode == Mode::Update;
        let input = &source.schema;
        let placed = |sql: &SqlText, error: TransformError| {
            let place = error.at.map_or(sql.span.start, |(line, column)| sql.span.at(line, column));
            let hint = error.hint.clone().unwrap_or_else(|| ROW_BY_ROW.to_owned());
            let message = format!("flow `{}`: {error}", flow.name);
            EngineError::Spec(SpecError::at(SpecErrorKind::Invalid, place, message, hint).in_file(spec))
        };
        let parameters =
            flow.parameters.iter().map(|(name, value)| (name.clone(), value.0.clone())).collect();
        let compiler = Compiler::new(input, &parameters).map_err(|error| EngineError::Flow {
            flow: flow.name.clone(),
            message: error.to_string(),
            hint: error.hint,
        })?;
        let unknown = |name: &str, position: Position| {
            let message = format!("flow `{}`: the source has no column `{name}`", flow.name);
            let hint = format!("it has: {}", names(input));
            EngineError::from(SpecError::at(SpecErrorKind::Invalid, position, message, hint).in_file(spec))
        };
        template(flow.sample.as_deref(), input).map_err(|name| unknown(&name, flow.position))?;
        let predicate = |sql: &SqlText| compiler.predicate(sql.as_str()).map_err(|error| placed(sql, error));
        let check = |check: &Check| match check {
            Check::Expect { sql, message } => {
                template(message.as_deref(), input).map_err(|name| unknown(&name, sql.span.start))?;
                let message =
                    message.clone().unwrap_or_else(|| format!("it is not true that {}", sql.text.trim()));
                Ok(CompiledCheck::Expect { condition: predicate(sql)?, message })
            }
            Check::Required { column, position } => match input.index_of(column) {
                Ok(index) => Ok(CompiledCheck::Required { column: column.clone(), index }),
                Err(_) => Err(unknown(column, *position)),
            },
        };
        let transform = match &flow.transform {
            Some(sql) => compiler.transform(Some(sql.as_str())).map_err(|error| placed(sql, error))?,
            None => compiler.transform(None).map_err(|error| EngineError::Internal(error.to_string()))?,
        };
        let place = flow.into.shape.as_ref().and_then(shapes::of).map(|shape| shape.place());
        let guards = guarded.then(|| guarded_columns(input, transform.output(), &flow.into.key));
        Ok(Self {
            name: flow.name.clone(),
            guards,
            reads_its_target: reads_its_target(flow),
            changing: Changing::of(flow),
            target,
            mode,
            into_key: flow.into.key.clone(),
            key: source.key.clone(),
            sample: flow.sample.clone(),
            duplicates: Duplicates::Rejected,
            watch: OnceLock::new(),
            filter: flow.from.filter.as_ref().map(predicate).transpose()?,
            checks: flow.checks.iter().map(check).collect::<Result<_>>()?,
            // Where a record stands in a file of documents tells it from those of other flows, as a constant does.
            constants: transform.constants().iter().cloned().chain(place).collect(),
            transform,
        })
    }

    /// The flow as it writes records again that the target held already: their columns as text, nothing left out
    /// and nothing checked.
    ///
    /// # Errors
    /// A mistake of ours.
    pub fn written_again(&self) -> Result<Self> {
        let columns = self.output().fields().iter();
        let columns: Vec<_> = columns.map(|field| Field::new(field.name(), DataType::Utf8, true)).collect();
        let internal = |error: TransformError| EngineError::Internal(error.to_string());
        let compiler = Compiler::new(&Arc::new(Schema::new(columns)), &BTreeMap::new()).map_err(internal)?;
        Ok(Self {
            name: self.name.clone(),
            target: Arc::clone(&self.target),
            mode: self.mode,
            key: Vec::new(),
            into_key: self.into_key.clone(),
            sample: None,
            guards: None,
            reads_its_target: false,
            changing: None,
            duplicates: Duplicates::Rejected,
            watch: OnceLock::new(),
            filter: None,
            checks: Vec::new(),
            constants: self.constants.clone(),
            transform: compiler.transform(None).map_err(internal)?,
        })
    }

    /// Decides what becomes of two records of one key: nothing, where the key of the target proves that there are
    /// none. That a query yields each of its `slice_by` once is only said, so that its keys are watched.
    ///
    /// # Errors
    /// The flow's records cannot be put in the order that it names.
    pub fn rule_on_duplicates(
        &mut self,
        flow: &ResolvedFlow,
        into_key: &[String],
        spec: &Path,
    ) -> Result<()> {
        self.into_key = into_key.to_vec();
        // Where nothing names a parent, two elements of different parents may have one key.
        let is_named = flow.from.each.as_ref().is_none_or(|each| {
            let own = |name: &String| name == POSITION || Some(name) == each.key_as.as_ref();
            !self.key.first().is_some_and(own)
        });
        let table = matches!(flow.from.relation, Relation::Table(_)) && is_named;
        let order = match flow.into.on_duplicate {
            OnDuplicate::Reject => None,
            OnDuplicate::Last => Some(Order::new(&flow.into.order, self.output()).map_err(|error| {
                let message = format!("flow `{}`: {error}", flow.name);
                let hint = format!("its records have: {}", names(self.output()));
                SpecError::at(SpecErrorKind::Invalid, flow.into.position, message, hint).in_file(spec)
            })?),
        };
        self.duplicates = match order {
            // Without a key every record is a row of its own.
            _ if into_key.is_empty() => Duplicates::Impossible(Vec::new()),
            _ if table && self.transform.tells_apart(into_key, &self.key) => {
                Duplicates::Impossible(self.key.clone())
            }
            Some(order) => Duplicates::Last(order),
            None => Duplicates::Rejected,
        };
        Ok(())
    }

    /// Whether the target's key tells the source's records apart, and is of integers and UUIDs as the source has them.
    #[must_use]
    pub fn has_exact_key(&self) -> bool {
        let is_exact = |name: &String| {
            let field = self.output().field_with_name(name);
            field.is_ok_and(|field| {
                field.data_type().is_integer() || Logical::of(field) == Some(Logical::Uuid)
            })
        };
        let is_told_apart = matches!(&self.duplicates, Duplicates::Impossible(key) if !key.is_empty());
        is_told_apart && !self.into_key.is_empty() && self.into_key.iter().all(is_exact)
    }

    /// A column of `order` that is compared as text although the target holds something else, and what that is.
    #[must_use]
    pub fn ordered_as_text(
        &self,
        order: &[OrderColumn],
        fidelity: &[ColumnFidelity],
    ) -> Option<(String, String)> {
        let is_text = |name: &str| {
            let field = self.output().field_with_name(name);
            field.is_ok_and(|field| *field.data_type() == DataType::Utf8 && Logical::of(field).is_none())
        };
        let texts = ["text", "character", "varchar", "citext", "S", "string"];
        let arriving = fidelity.iter().filter(|column| order.iter().any(|by| by.column == column.column));
        let other = arriving
            .filter(|column| is_text(&column.column))
            .find(|column| !texts.iter().any(|text| column.into.starts_with(text)))?;
        Some((other.column.clone(), other.into.clone()))
    }

    /// Whether it takes only some of the records, by `where`.
    #[must_use]
    pub fn is_choosy(&self) -> bool {
        self.filter.is_some()
    }

    /// What is constant in the records that go to the target.
    #[must_use]
    pub fn constants(&self) -> &[KeyPattern] {
        &self.constants
    }

    /// The columns that go to the target.
    #[must_use]
    pub fn output(&self) -> &SchemaRef {
        self.transform.output()
    }

    /// Whether an existing record of equal content may be ours, so that it matters what an earlier attempt sent.
    #[must_use]
    pub fn settles_by_content(&self) -> bool {
        match self.mode {
            Mode::Insert | Mode::SkipExisting | Mode::Update | Mode::Changed => true,
            Mode::Upsert => false,
        }
    }

    /// The rows of a batch that pass `where`, ascending, and those of them that can go no further.
    fn take(&self, batch: &ReadBatch) -> (Vec<usize>, Refused) {
        let records = &batch.records;
        let mut refused: Refused = BTreeMap::new();
        for bad in &batch.unreadable {
            let column =
                if bad.column.is_empty() { String::new() } else { format!("column `{}`: ", bad.column) };
            refused.insert(bad.row, (Stage::Read, format!("{column}{}", bad.reason)));
        }
        let mut rows: Vec<usize> = (0..records.num_rows()).collect();
        if let Some(filter) = &self.filter {
            let verdicts = filter.evaluate(records);
            // What could not be read is NULL here; a verdict that rests on it says nothing.
            let blind =
                batch.unreadable.iter().filter(|bad| bad.column.is_empty() || filter.looks_at(&bad.column));
            let blind: BTreeSet<usize> = blind.map(|bad| bad.row).collect();
            rows.retain(|row| blind.contains(row) || !matches!(verdicts[*row], Ok(Some(false) | None)));
            refused.retain(|row, _| rows.binary_search(row).is_ok());
            for (row, verdict) in verdicts.into_iter().enumerate() {
                if let Err(reason) = verdict {
                    refused
                        .entry(row)
                        .or_insert((Stage::Check, format!("`where` cannot be evaluated: {reason}")));
                }
            }
        }
        (rows, refused)
    }

    fn rejects(&self, slice: &SliceId, batch: &ReadBatch, refused: Refused) -> Vec<Reject> {
        let reject = |(row, (stage, reason))| {
            let original = batch.originals.as_ref().map(|originals| originals.original(row));
            let mut reject = self.reject(slice, &batch.records, row, stage, reason);
            reject.original = original;
            keep_raw_values(batch, row, &mut reject);
            reject
        };
        refused.into_iter().map(reject).collect()
    }

    /// Takes a batch through `where` alone, for records that wait until other flows are complete: they are read
    /// again then, and counted then. Only what cannot be kept is a reject at once.
    ///
    /// # Errors
    /// A mistake of ours in gathering rows.
    pub fn set_aside(&self, slice: &SliceId, batch: &ReadBatch) -> Result<Reached> {
        let (taken, refused) = self.take(batch);
        let kept: Vec<usize> = taken.iter().copied().filter(|row| !refused.contains_key(row)).collect();
        let indices: UInt64Array = kept.iter().map(|row| count(*row)).collect::<Vec<_>>().into();
        let records = take_record_batch(&batch.records, &indices).map_err(|error| {
            EngineError::Internal(format!("flow `{}`: records to wait: {error}", self.name))
        })?;
        let originals = batch.originals.as_ref();
        let originals = originals.map(|whole| kept.iter().map(|row| whole.original(*row)).collect());
        Ok(Reached {
            batch: batch.records.clone(),
            originals: batch.originals.clone(),
            taken,
            guards: None,
            records: spill::with_originals(records, originals)?,
            origins: Vec::new(),
            read: count(refused.len()),
            filtered: 0,
            rejects: self.rejects(slice, batch, refused),
        })
    }

    /// Takes a batch through `where`, checks and transform.
    ///
    /// # Errors
    /// A mistake of ours in gathering rows.
    pub fn reach(&self, slice: &SliceId, batch: &ReadBatch) -> Result<Reached> {
        let records = &batch.records;
        let (taken, mut refused) = self.take(batch);
        let mut rows = taken.clone();
        self.check(records, &rows, &mut refused);
        rows.retain(|row| !refused.contains_key(row));
        let transformed = self
            .transform
            .apply(records, &rows)
            .map_err(|error| EngineError::Internal(format!("flow `{}`: {error}", self.name)))?;
        refused.extend(transformed.failed.into_iter().map(|(row, reason)| (row, (Stage::Transform, reason))));
        let guards = self.guard(records, &transformed.origins)?;
        Ok(Reached {
            batch: records.clone(),
            originals: batch.originals.clone(),
            guards,
            records: transformed.records,
            origins: transformed.origins,
            read: count(taken.len()),
            taken,
            filtered: transformed.filtered,
            rejects: self.rejects(slice, batch, refused),
        })
    }

    /// The values that the target must still hold for the rows that are written.
    fn guard(&self, records: &RecordBatch, origins: &[usize]) -> Result<Option<RecordBatch>> {
        let Some(columns) = &self.guards else { return Ok(None) };
        let rows: UInt64Array = origins.iter().map(|row| count(*row)).collect::<Vec<_>>().into();
        let guards = records.project(columns).and_then(|guards| take_record_batch(&guards, &rows));
        guards
            .map(Some)
            .map_err(|error| EngineError::Internal(format!("flow `{}`: the values read: {error}", self.name)))
    }

    fn check(&self, records: &RecordBatch, rows: &[usize], refused: &mut Refused) {
        for check in &self.checks {
            match check {
                CompiledCheck::Expect { condition, message } => {
                    let verdicts = condition.evaluate(records);
                    for row in rows {
                        let reason = match &verdicts[*row] {
                            Ok(Some(true)) => continue,
                            Ok(_) => fill(message, records, *row),
                            Err(reason) => format!("a check cannot be evaluated: {reason}"),
                        };
                        refused.entry(*row).or_insert((Stage::Check, reason));
                    }
                }
                CompiledCheck::Required { column, index } => {
                    let values = records.column(*index);
                    for row in rows.iter().filter(|row| values.is_null(**row)) {
                        refused.entry(*row).or_insert((Stage::Check, format!("Missing {column} field")));
                    }
                }
            }
        }
    }

    /// A reject of row `row` of the source's batch, whole.
    #[must_use]
    pub fn reject(
        &self,
        slice: &SliceId,
        batch: &RecordBatch,
        row: usize,
        stage: Stage,
        reason: String,
    ) -> Reject {
        Reject {
            flow: self.name.clone(),
            slice: slice.clone(),
            stage,
            key: record::key_to_json(batch, row, &self.key),
            reason,
            record: record::to_json(batch, row),
            original: None,
            fingerprint: None,
        }
    }

    /// What tells one of the records that are to be written from every other, as the target would hold it.
    pub(crate) fn fingerprint(
        &self,
        records: &RecordBatch,
        position: usize,
        context: &RunContext,
    ) -> Option<Fingerprint> {
        self.target.fingerprints(&records.slice(position, 1), context).pop()?.ok()
    }
}

/// Whether a flow reads what it writes, so that a value that was read is what the target held.
fn reads_its_target(flow: &ResolvedFlow) -> bool {
    flow.from.store == flow.into.store && flow.from.relation == Relation::Table(flow.into.table.clone())
}

/// The input's columns that also are columns of the output, the key left out.
fn guarded_columns(input: &SchemaRef, output: &SchemaRef, key: &[String]) -> Vec<usize> {
    let guards = |name: &String| output.index_of(name).is_ok() && !key.contains(name);
    let fields = input.fields().iter().enumerate();
    fields.filter(|(_, field)| guards(field.name())).map(|(index, _)| index).collect()
}

/// A value that could not be held is kept beside its record, as the store sent it, in base64.
fn keep_raw_values(batch: &ReadBatch, row: usize, reject: &mut Reject) {
    let raw = batch.unreadable.iter().filter(|bad| bad.row == row && !bad.raw.is_empty());
    let raw: Map<String, Value> =
        raw.map(|bad| (bad.column.clone(), record::base64(&bad.raw).into())).collect();
    if !raw.is_empty() {
        reject.record.insert(RAW.to_owned(), Value::Object(raw));
    }
}

/// The first name in a template's braces that is no column.
fn template(template: Option<&str>, input: &SchemaRef) -> std::result::Result<(), String> {
    let names = template.into_iter().flat_map(|template| template.split('{').skip(1));
    let mut names = names.filter_map(|rest| rest.split_once('}').map(|(name, _)| name));
    names.find(|name| input.index_of(name).is_err()).map_or(Ok(()), |name| Err(name.to_owned()))
}

/// Fills `{column}` in a template with the record's values, cut to a readable length.
#[must_use]
pub fn fill(template: &str, batch: &RecordBatch, row: usize) -> String {
    let mut filled = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        filled.push_str(before);
        let Some((name, tail)) = after.split_once('}') else {
            filled.push('{');
            rest = after;
            continue;
        };
        match batch.column_by_name(name) {
            Some(column) => filled.push_str(&shown(&record::value_to_json(column, row))),
            None => filled.extend(["{", name, "}"]),
        }
        rest = tail;
    }
    filled.push_str(rest);
    filled
}

fn shown(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Null => "NULL".to_owned(),
        other => other.to_string(),
    };
    match text.char_indices().nth(SHOWN_CHARACTERS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

fn names(schema: &SchemaRef) -> String {
    schema.fields().iter().map(|field| field.name().as_str()).collect::<Vec<_>>().join(", ")
}

fn count(rows: usize) -> u64 {
    u64::try_from(rows).unwrap_or(u64::MAX)
}
