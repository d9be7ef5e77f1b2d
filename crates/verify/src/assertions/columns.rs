//! `not_empty` and `json`: what every value of some columns must be.

use super::value::is_written;
use super::{Examples, Found, Tally, counted, cut, unusable};
use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::{DataType, Field};
use futures::StreamExt as _;
use serde_json::Value;
use std::collections::BTreeMap;
use whimbrel_model::{StoreName, json};
use whimbrel_query::{Bindings, Query, QueryError, Session, TableColumns, json_row, text_of};
use whimbrel_spec::Position;
use whimbrel_spec::resolved::{ColumnPlace, ParameterValue};

/// The parameter that the expected value is bound to.
const EXPECTED: &str = "expected";
/// Columns that a hint lists.
const LISTED: usize = 40;

/// What a value must be.
pub(super) trait Demand {
    /// Which records can hold values that are wrong: a condition on a quoted column that all of them satisfy.
    fn suspects(&self, column: &str) -> String;

    /// What `$expected` stands for in it.
    fn bound(&self) -> Option<&ParameterValue>;

    /// What is wrong with a value, in a word to count by and in a sentence; `None`: nothing.
    fn fault(&self, field: &Field, column: &ArrayRef, row: usize) -> Option<(&'static str, String)>;

    /// What is expected, for people.
    fn expected(&self) -> String;
}

/// No NULL, no empty text, and where it is given one value for all.
pub(super) struct NotEmpty<'a> {
    pub(super) equals: Option<&'a ParameterValue>,
}

impl Demand for NotEmpty<'_> {
    fn suspects(&self, column: &str) -> String {
        let text = format!("CAST({column} AS varchar)");
        match self.equals {
            Some(_) => format!("({column} IS NULL OR {text} <> ${EXPECTED})"),
            None => format!("({column} IS NULL OR {text} = '')"),
        }
    }

    fn bound(&self) -> Option<&ParameterValue> {
        self.equals
    }

    fn fault(&self, field: &Field, column: &ArrayRef, row: usize) -> Option<(&'static str, String)> {
        let Some(value) = text_of(column, row) else { return Some(("NULL", "is NULL".to_owned())) };
        if value.is_empty() {
            return Some(("empty", "is an empty text".to_owned()));
        }
        let other = self.equals.is_some_and(|equals| !is_written(field, &value, &equals.0));
        other.then(|| ("other", format!("is {}", Value::from(cut(&value)))))
    }

    fn expected(&self) -> String {
        match self.equals {
            Some(equals) => format!("no NULL, no empty text, all = {}", equals.0),
            None => "no NULL, no empty text".to_owned(),
        }
    }
}

/// JSON objects or lists. NULL is neither right nor wrong.
pub(super) struct Json;

impl Demand for Json {
    fn suspects(&self, column: &str) -> String {
        format!("({column} IS NOT NULL)")
    }

    fn bound(&self) -> Option<&ParameterValue> {
        None
    }

    fn fault(&self, field: &Field, column: &ArrayRef, row: usize) -> Option<(&'static str, String)> {
        if column.is_null(row) || matches!(field.data_type(), DataType::List(_) | DataType::LargeList(_)) {
            return None;
        }
        let text = text_of(column, row)?;
        let kind = match json::parse(&text) {
            Ok(Value::Object(_) | Value::Array(_)) => return None,
            Err(error) => return Some(("broken", format!("is no JSON: {}", cut(&error.to_string())))),
            Ok(Value::String(_)) => "a text",
            Ok(Value::Number(_)) => "a number",
            Ok(Value::Bool(_)) => "a truth value",
            Ok(Value::Null) => "null",
        };
        Some(("neither object nor list", format!("is {kind}, neither an object nor a list")))
    }

    fn expected(&self) -> String {
        "JSON objects or lists".to_owned()
    }
}

/// A failure, and the column that it is about.
pub(super) type Failed = (Option<Position>, QueryError);

/// Reads each table once, as far as its records can be wrong, and says what is.
pub(super) async fn examine(
    session: &Session,
    columns: &[ColumnPlace],
    demand: &impl Demand,
) -> Result<Found, Failed> {
    let mut tables: BTreeMap<(&StoreName, &str), Vec<&ColumnPlace>> = BTreeMap::new();
    for place in columns {
        tables.entry((&place.store, &place.table)).or_default().push(place);
    }
    let mut faults = Faults::default();
    for ((store, table), places) in tables {
        let position = places.first().map(|place| place.position);
        let known = session.columns(store, table).await.map_err(|error| (position, error))?;
        for place in &places {
            exists(place, &known).map_err(|error| (Some(place.position), error))?;
        }
        faults
            .read(session, (store, table), &places, &known.key, demand)
            .await
            .map_err(|error| (position, error))?;
    }
    Ok(faults.found(demand))
}

fn exists(place: &ColumnPlace, known: &TableColumns) -> Result<(), QueryError> {
    let Some(columns) = known.columns.as_ref().filter(|columns| !columns.contains(&place.column)) else {
        return Ok(());
    };
    let message =
        format!("store `{}`: the table {} has no column `{}`", place.store, place.table, place.column);
    let alike = columns.iter().find(|column| column.eq_ignore_ascii_case(&place.column));
    let hint = match alike {
        Some(column) => format!("did you mean `{column}`?"),
        None => {
            let listed: Vec<&str> = columns.iter().take(LISTED).map(String::as_str).collect();
            format!("its columns: {}", listed.join(", "))
        }
    };
    Err(unusable(message, hint))
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[derive(Default)]
struct Faults {
    tally: Tally,
    number: u64,
    examples: Examples,
}

impl Faults {
    async fn read(
        &mut self,
        session: &Session,
        (store, table): (&StoreName, &str),
        places: &[&ColumnPlace],
        key: &[String],
        demand: &impl Demand,
    ) -> Result<(), QueryError> {
        let mut names: Vec<&str> = key.iter().map(String::as_str).collect();
        for place in places {
            if !names.contains(&place.column.as_str()) {
                names.push(&place.column);
            }
        }
        let suspects: Vec<String> =
            places.iter().map(|place| demand.suspects(&quoted(&place.column))).collect();
        let selected: Vec<String> = names.iter().map(|name| quoted(name)).collect();
        let sql = format!(
            "SELECT {} FROM {}.{} WHERE {}",
            selected.join(", "),
            quoted(store.as_str()),
            quoted(table),
            suspects.join(" OR ")
        );
        let parameters = demand.bound().map(|value| (EXPECTED.to_owned(), value.clone()));
        let bindings = Bindings { parameters: parameters.into_iter().collect(), ..Bindings::default() };
        let answer = session.answer_in_place(Query::bound(&sql, &bindings)?, None).await?;
        let mut batches = answer.batches;
        while let Some(batch) = batches.next().await {
            let batch = batch?;
            for row in 0..batch.num_rows() {
                for place in places {
                    self.look(place, key, &batch, row, demand);
                }
            }
        }
        Ok(())
    }

    fn look(
        &mut self,
        place: &ColumnPlace,
        key: &[String],
        batch: &RecordBatch,
        row: usize,
        demand: &impl Demand,
    ) {
        let Some((at, field)) = batch.schema_ref().column_with_name(&place.column) else { return };
        let Some((word, sentence)) = demand.fault(field, batch.column(at), row) else { return };
        self.number += 1;
        *self.tally.entry(format!("{}.{} {word}", place.table, place.column)).or_default() += 1;
        self.examples.add(|| {
            let named = json_row(batch, row).into_iter().filter(|(name, _)| key.contains(name));
            let record = Value::Object(named.collect());
            format!("{} {}: {} {sentence}", place.table, cut(&record.to_string()), place.column)
        });
    }

    fn found(self, demand: &impl Demand) -> Found {
        let each = self.tally.iter().map(|(what, number)| format!("{what}: {number}"));
        let value = match self.number {
            0 => "all".to_owned(),
            number => {
                let each = each.collect::<Vec<_>>().join(", ");
                format!("{} ({each})", counted(number, "value is not", "values are not"))
            }
        };
        Found { ok: self.number == 0, expected: demand.expected(), value, examples: self.examples.0 }
    }
}
