//! A flow as it runs: `where`, checks and transform compiled, its target opened.

use crate::error::{EngineError, Result};
use crate::rejects::RAW;
use crate::transform::{Compiler, Predicate, Transform, TransformError};
use arrow::array::{Array, RecordBatch};
use arrow::datatypes::SchemaRef;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use whimbrel_model::{FlowName, Reject, SliceId, Stage, record};
use whimbrel_spec::resolved::{Check, Relation};
use whimbrel_spec::{Position, ResolvedFlow, SpecError, SpecErrorKind, SqlText};
use whimbrel_store::{KeyPattern, Mode, ReadBatch, SourceDescription, Target};

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
    /// The spec's template for one record, for people.
    pub sample: Option<String>,
    filter: Option<Predicate>,
    checks: Vec<CompiledCheck>,
    transform: Transform,
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
        Ok(Self {
            name: flow.name.clone(),
            target,
            mode,
            key: source.key.clone(),
            sample: flow.sample.clone(),
            filter: flow.from.filter.as_ref().map(predicate).transpose()?,
            checks: flow.checks.iter().map(check).collect::<Result<_>>()?,
            transform,
        })
    }

    /// What a person should know about two records of one key.
    #[must_use]
    pub fn duplicates_note(&self, into_key: &[String], relation: &Relation) -> Option<String> {
        let query = matches!(relation, Relation::Query(_));
        match (self.transform.tells_apart(into_key, &self.key), query) {
            (true, false) => None,
            (true, true) => Some(format!("keys are distinct as long as the query yields each {} once", self.key.join(", "))),
            (false, _) => Some(
                "two records of one key are not ruled out: within a batch the second is rejected, across batches the later \
                 one stays; `--verify=count` shows how many are missing"
                    .to_owned(),
            ),
        }
    }

    /// What is constant in the records that go to the target.
    #[must_use]
    pub fn constants(&self) -> &[KeyPattern] {
        self.transform.constants()
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
            Mode::Insert | Mode::SkipExisting => true,
            Mode::Upsert => false,
        }
    }

    /// Takes a batch through `where`, checks and transform.
    ///
    /// # Errors
    /// A mistake of ours in gathering rows.
    pub fn reach(&self, slice: &SliceId, batch: &ReadBatch) -> Result<Reached> {
        let records = &batch.records;
        let mut refused: BTreeMap<usize, (Stage, String)> = BTreeMap::new();
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
        let read = count(rows.len());
        self.check(records, &rows, &mut refused);
        rows.retain(|row| !refused.contains_key(row));
        let transformed = self
            .transform
            .apply(records, &rows)
            .map_err(|error| EngineError::Internal(format!("flow `{}`: {error}", self.name)))?;
        refused.extend(transformed.failed.into_iter().map(|(row, reason)| (row, (Stage::Transform, reason))));
        let rejects = refused.into_iter().map(|(row, (stage, reason))| {
            let mut reject = self.reject(slice, records, row, stage, reason);
            keep_raw_values(batch, row, &mut reject);
            reject
        });
        let rejects = rejects.collect();
        Ok(Reached {
            batch: records.clone(),
            records: transformed.records,
            origins: transformed.origins,
            read,
            filtered: transformed.filtered,
            rejects,
        })
    }

    fn check(&self, records: &RecordBatch, rows: &[usize], refused: &mut BTreeMap<usize, (Stage, String)>) {
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
        }
    }
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
