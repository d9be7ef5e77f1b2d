//! `sql`: the answer of one query is as expected.

use super::value::{compare_numbers, is_number, is_written};
use super::{Examples, Found, counted, unusable};
use futures::StreamExt as _;
use serde_json::Value;
use whimbrel_query::{Answer, QueryError, json_row, text_of};
use whimbrel_spec::resolved::{Expected, ParameterValue, Relate};

/// Reads the answer and says whether it is as expected.
pub(super) async fn examine(answer: Answer, expected: &Expected) -> Result<Found, QueryError> {
    match expected {
        Expected::NoRows => no_rows(answer).await,
        Expected::Value(relations) => one_value(answer, relations).await,
    }
}

async fn no_rows(answer: Answer) -> Result<Found, QueryError> {
    let mut batches = answer.batches;
    let mut examples = Examples::default();
    let mut rows: u64 = 0;
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        for row in 0..batch.num_rows() {
            rows += 1;
            examples.add(|| Value::Object(json_row(&batch, row)).to_string());
        }
    }
    Ok(Found {
        ok: rows == 0,
        expected: "no rows".to_owned(),
        value: counted(rows, "row", "rows"),
        examples: examples.0,
    })
}

async fn one_value(answer: Answer, relations: &[(Relate, ParameterValue)]) -> Result<Found, QueryError> {
    let schema = answer.schema;
    let [field] = schema.fields().as_ref() else {
        let message =
            format!("the query yields {} columns, and one value is compared", schema.fields().len());
        return Err(unusable(message, "select one column: SELECT count(*) FROM …"));
    };
    let mut batches = answer.batches;
    let mut found: Option<Option<String>> = None;
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        for row in 0..batch.num_rows() {
            if found.is_some() {
                let hint = "let it yield one, as `count(*)` does, or expect `no_rows: true`";
                return Err(unusable("the query yields more than one row, and one value is compared", hint));
            }
            found = Some(text_of(batch.column(0), row));
        }
    }
    let expected = relations.iter().map(|(relate, value)| format!("{} {}", relate.sign(), value.0));
    let expected = expected.collect::<Vec<_>>().join(" and ");
    let (ok, value) = match found {
        None => (false, "no row".to_owned()),
        Some(None) => (false, "NULL".to_owned()),
        Some(Some(value)) => {
            let mut ok = true;
            for (relate, wanted) in relations {
                ok &= match relate {
                    Relate::Equal => is_written(field, &value, &wanted.0),
                    _ => ordered(*relate, is_number(field), &value, &wanted.0)?,
                };
            }
            (ok, value)
        }
    };
    Ok(Found { ok, expected, value, examples: Vec::new() })
}

fn ordered(relate: Relate, is_number: bool, value: &str, wanted: &str) -> Result<bool, QueryError> {
    let hint = "let the query compare, and expect `equals: true`";
    if !is_number {
        return Err(unusable("the query yields no number, and only numbers are less or greater", hint));
    }
    let order = compare_numbers(value, wanted.trim())
        .ok_or_else(|| unusable(format!("`{value}` and `{wanted}` cannot be put in order"), hint))?;
    Ok(match relate {
        Relate::Equal => order.is_eq(),
        Relate::Less => order.is_lt(),
        Relate::LessOrEqual => order.is_le(),
        Relate::Greater => order.is_gt(),
        Relate::GreaterOrEqual => order.is_ge(),
    })
}
