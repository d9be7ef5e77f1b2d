//! `compare`: two queries yield the same rows, matched by some of their columns.

use super::value::append;
use super::{Examples, Found, counted, cut, unusable};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::StreamExt as _;
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use whimbrel_model::canonical::Canonical;
use whimbrel_query::{Answer, QueryError, json_row};

/// Bytes that a row takes beside its values.
const ROW_BYTES: usize = 160;

/// Which columns of an answer are which.
struct Layout {
    side: &'static str,
    schema: SchemaRef,
    by: Vec<usize>,
    /// The others, in the order of the other side's.
    others: Vec<usize>,
}

impl Layout {
    fn new(side: &'static str, schema: SchemaRef, by: &[String]) -> Result<Self, QueryError> {
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let place = |column: &String| {
            names.iter().position(|name| name == column).ok_or_else(|| {
                let message = format!("the {side} query yields no column `{column}`, which `by` names");
                unusable(message, format!("it yields: {}; a name is given with AS", names.join(", ")))
            })
        };
        let by = by.iter().map(place).collect::<Result<Vec<_>, _>>()?;
        let others = (0..names.len()).filter(|at| !by.contains(at)).collect();
        Ok(Self { side, schema, by, others })
    }

    fn names(&self) -> Vec<&str> {
        self.others.iter().map(|at| self.schema.field(*at).name().as_str()).collect()
    }

    /// Puts the other columns in the order of those of the left side: by name where both sides have the same names,
    /// else they stay as they are.
    fn follow(&mut self, left: &[String]) -> Result<(), QueryError> {
        let names = self.names();
        if names.len() != left.len() {
            let message = format!(
                "the left query yields {} beside `by`, the right one {}",
                counted(left.len() as u64, "column", "columns"),
                counted(names.len() as u64, "column", "columns")
            );
            return Err(unusable(message, "let both yield the same columns"));
        }
        let mine: BTreeSet<&str> = names.iter().copied().collect();
        let theirs: BTreeSet<&str> = left.iter().map(String::as_str).collect();
        if mine.len() == names.len() && mine == theirs {
            let place = |name: &String| names.iter().position(|mine| mine == name).map(|at| self.others[at]);
            self.others = left.iter().filter_map(place).collect();
        }
        Ok(())
    }

    fn canonical(&self, columns: &[usize], batch: &RecordBatch, row: usize) -> Vec<u8> {
        let mut canonical = Canonical::default();
        for at in columns {
            append(&mut canonical, self.schema.field(*at), batch.column(*at), row);
        }
        canonical.bytes().to_vec()
    }

    /// The values of some columns for people.
    fn shown(&self, columns: &[usize], batch: &RecordBatch, row: usize) -> Vec<String> {
        let shown = |at: &usize| {
            let one = batch.project(&[*at]).ok();
            let value = one.and_then(|one| json_row(&one, row).into_iter().next()).map(|(_, value)| value);
            cut(&value.unwrap_or(Value::Null).to_string())
        };
        columns.iter().map(shown).collect()
    }

    fn key(&self, batch: &RecordBatch, row: usize) -> String {
        let names = self.by.iter().map(|at| self.schema.field(*at).name());
        let parts = names.zip(self.shown(&self.by, batch, row));
        parts.map(|(name, value)| format!("{name} = {value}")).collect::<Vec<_>>().join(", ")
    }
}

/// A row of the left side.
struct Row {
    key: String,
    /// Each other column in canonical form, and for people.
    values: Vec<(Vec<u8>, String)>,
    met: bool,
}

/// The rows of the left side, by the canonical form of their key.
pub(super) struct Side {
    names: Vec<String>,
    rows: HashMap<Vec<u8>, Row>,
    found: Differences,
}

#[derive(Default)]
struct Differences {
    number: u64,
    examples: Examples,
}

impl Differences {
    fn add(&mut self, example: impl FnOnce() -> String) {
        self.number += 1;
        self.examples.add(example);
    }
}

impl Side {
    /// Reads an answer whole.
    pub(super) async fn collect(
        side: &'static str,
        answer: Answer,
        by: &[String],
        memory_bytes: usize,
    ) -> Result<Self, QueryError> {
        let layout = Layout::new(side, answer.schema, by)?;
        let names = layout.names().into_iter().map(str::to_owned).collect();
        let mut held = Self { names, rows: HashMap::new(), found: Differences::default() };
        let mut batches = answer.batches;
        let mut bytes = 0_usize;
        while let Some(batch) = batches.next().await {
            let batch = batch?;
            for row in 0..batch.num_rows() {
                bytes += held.add(&layout, &batch, row);
                if bytes > memory_bytes {
                    let hint = "let both queries group more, or give it more memory (`--memory 1G`)";
                    let message = format!("the {side} query yields more rows than may be held");
                    return Err(QueryError::Computation { message, hint: hint.to_owned() });
                }
            }
        }
        Ok(held)
    }

    /// Keeps a row, and says how many bytes it takes.
    fn add(&mut self, layout: &Layout, batch: &RecordBatch, row: usize) -> usize {
        let key = layout.canonical(&layout.by, batch, row);
        if self.rows.contains_key(&key) {
            self.found.add(|| format!("{}: twice on the {}", layout.key(batch, row), layout.side));
            return 0;
        }
        let canonical = layout.others.iter().map(|at| layout.canonical(&[*at], batch, row));
        let values: Vec<_> = canonical.zip(layout.shown(&layout.others, batch, row)).collect();
        let held = Row { key: layout.key(batch, row), values, met: false };
        let bytes =
            held.values.iter().map(|(form, shown)| form.len() + shown.len() + ROW_BYTES / 2).sum::<usize>();
        let bytes = bytes + key.len() + held.key.len() + ROW_BYTES;
        self.rows.insert(key, held);
        bytes
    }
}

/// Compares the rows of the other answer with those that are held.
pub(super) async fn compare(mut left: Side, answer: Answer, by: &[String]) -> Result<Found, QueryError> {
    let mut layout = Layout::new("right", answer.schema, by)?;
    layout.follow(&left.names)?;
    let left_rows = left.rows.len() as u64;
    let mut found = std::mem::take(&mut left.found);
    let mut batches = answer.batches;
    let mut right_rows: u64 = 0;
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        for row in 0..batch.num_rows() {
            right_rows += 1;
            let Some(held) = left.rows.get_mut(&layout.canonical(&layout.by, &batch, row)) else {
                found.add(|| format!("{}: only on the right", layout.key(&batch, row)));
                continue;
            };
            if held.met {
                found.add(|| format!("{}: twice on the right", held.key));
                continue;
            }
            held.met = true;
            difference(&layout, held, &left.names, &batch, row, &mut found);
        }
    }
    let mut missing: Vec<&Row> = left.rows.values().filter(|row| !row.met).collect();
    // In an order that is the same each time.
    missing.sort_by(|one, other| one.key.cmp(&other.key));
    for row in missing {
        found.add(|| format!("{}: only on the left", row.key));
    }
    let rows = |number| counted(number, "row", "rows");
    let sides = match left_rows == right_rows {
        true => format!("{} on each side", rows(left_rows)),
        false => format!("{} left, {} right", rows(left_rows), rows(right_rows)),
    };
    Ok(Found {
        ok: found.number == 0,
        expected: format!("the same on both sides by {}", by.join(", ")),
        value: format!("{sides}, {}", counted(found.number, "difference", "differences")),
        examples: found.examples.0,
    })
}

/// Notes a row whose other columns are not the same.
fn difference(
    layout: &Layout,
    held: &Row,
    names: &[String],
    batch: &RecordBatch,
    row: usize,
    found: &mut Differences,
) {
    let differs = |at: usize| layout.canonical(&[layout.others[at]], batch, row) != held.values[at].0;
    let columns: Vec<usize> = (0..names.len()).filter(|at| differs(*at)).collect();
    if columns.is_empty() {
        return;
    }
    found.add(|| {
        let shown = layout.shown(&layout.others, batch, row);
        let texts = columns
            .iter()
            .map(|at| format!("{} {} left, {} right", names[*at], held.values[*at].1, shown[*at]));
        format!("{}: {}", held.key, texts.collect::<Vec<_>>().join("; "))
    });
}
