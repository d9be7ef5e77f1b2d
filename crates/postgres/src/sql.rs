//! The statements that read, and the parts that they read.

use crate::catalog::{KeyColumn, Layout};
use crate::template::{Query, identifier, literal};
use serde_json::{Value, json};
use whimbrel_model::{Cursor, SlicePart};

/// What is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Relation {
    /// A table or view, by schema and name, quoted.
    Table {
        sql: String,
        ties: Ties,
    },
    Query(Query),
}

/// What orders records of one slice key, so that a second read has the same order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ties {
    /// Where the row lies.
    Ctid,
    /// The whole record as text.
    Record,
}

impl Relation {
    /// For people.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Table { sql, .. } => format!("table {sql}"),
            Self::Query(_) => "the query".to_owned(),
        }
    }
}

/// A part of a relation. Bounds are keys, each column in PostgreSQL's own text form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Everything, in no order.
    Whole,
    /// Keys after `above`, up to and including `upto`; `None`: no bound.
    Range { above: Option<Vec<String>>, upto: Option<Vec<String>> },
    /// Records with a NULL in their key, in no order.
    Nulls,
}

impl Part {
    pub(crate) fn to_slice(&self) -> SlicePart {
        SlicePart(match self {
            Self::Whole => json!({ "whole": true }),
            Self::Range { above, upto } => json!({ "above": above, "upto": upto }),
            Self::Nulls => json!({ "null": true }),
        })
    }

    /// `None`: it is not of this store, or of another key.
    pub(crate) fn from_slice(part: &SlicePart, key_columns: usize) -> Option<Self> {
        let map = part.0.as_object()?;
        if map.get("whole") == Some(&Value::Bool(true)) {
            return Some(Self::Whole);
        }
        if map.get("null") == Some(&Value::Bool(true)) {
            return (key_columns > 0).then_some(Self::Nulls);
        }
        let bound = |name: &str| match map.get(name)? {
            Value::Null => Some(None),
            bound => Some(Some(texts(bound, key_columns)?)),
        };
        (key_columns > 0).then_some(Self::Range { above: bound("above")?, upto: bound("upto")? })
    }

    /// The rest of it after a cursor; `None`: the cursor does not belong to it.
    pub(crate) fn after(self, cursor: &Cursor, key_columns: usize) -> Option<Self> {
        match self {
            Self::Range { upto, .. } => {
                Some(Self::Range { above: Some(texts(&cursor.0, key_columns)?), upto })
            }
            Self::Whole | Self::Nulls => None,
        }
    }

    /// Whether it is read in the order of its key.
    pub(crate) fn is_ordered(&self) -> bool {
        matches!(self, Self::Range { .. })
    }
}

fn texts(value: &Value, count: usize) -> Option<Vec<String>> {
    let values = value.as_array().filter(|values| values.len() == count)?;
    values.iter().map(|value| value.as_str().map(str::to_owned)).collect()
}

/// The name under which a relation is read.
const ALIAS: &str = "input";

/// A column outside of the relation.
fn outside(column: &KeyColumn) -> String {
    format!("{ALIAS}.{}", identifier(&column.name))
}

/// The condition that a part is, over key columns written by `write`. `None`: a bound holds U+0000.
fn condition(part: &Part, key: &[KeyColumn], write: fn(&KeyColumn) -> String) -> Option<String> {
    let all: Vec<_> = key.iter().map(write).collect();
    let mut conditions = Vec::new();
    match part {
        Part::Whole => {}
        Part::Nulls => {
            let nulls: Vec<_> = all.iter().map(|column| format!("{column} IS NULL")).collect();
            conditions.push(format!("({})", nulls.join(" OR ")));
        }
        Part::Range { above, upto } => {
            // A comparison of rows may be decided before it meets a NULL, so NULLs are kept out by name.
            let nullable = key.iter().filter(|column| column.holds_null);
            conditions.extend(nullable.map(|column| format!("{} IS NOT NULL", write(column))));
            for (operator, bound) in [(">", above), ("<=", upto)] {
                let Some(bound) = bound else { continue };
                let value = |(text, column): (&String, &KeyColumn)| {
                    Some(format!("{}::{}", literal(text)?, column.source_type))
                };
                let values = bound.iter().zip(key).map(value).collect::<Option<Vec<_>>>()?;
                conditions.push(match (&all[..], &values[..]) {
                    ([column], [value]) => format!("{column} {operator} {value}"),
                    _ => format!("({}) {operator} ({})", all.join(", "), values.join(", ")),
                });
            }
        }
    }
    Some(if conditions.is_empty() { "TRUE".to_owned() } else { conditions.join(" AND ") })
}

/// `FROM …`, the relation whole but for a condition inside of a query.
pub(crate) fn from(layout: &Layout, inside: &str) -> String {
    match &layout.relation {
        Relation::Table { sql, .. } => format!("FROM {sql} AS {ALIAS}"),
        // The line breaks keep a comment at the query's end from swallowing the parenthesis.
        Relation::Query(query) => format!("FROM (\n{}\n) AS {ALIAS}", query.sql(inside)),
    }
}

/// `FROM … WHERE …` of a part.
fn from_part(layout: &Layout, part: &Part) -> Option<String> {
    match &layout.relation {
        Relation::Query(query) if query.has_slice() => {
            Some(from(layout, &condition(part, &layout.slice_key, |column| column.inside.clone())?))
        }
        _ => Some(format!("{} WHERE {}", from(layout, "TRUE"), condition(part, &layout.slice_key, outside)?)),
    }
}

/// How many fields stand behind the columns of a row that has a cursor: the number of its key's group where
/// keys may repeat, and the key as text.
pub(crate) fn hidden_fields(layout: &Layout) -> usize {
    layout.slice_key.len() + usize::from(!layout.is_unique)
}

/// The query of a part. In an ordered part the hidden fields follow the columns.
pub(crate) fn select(layout: &Layout, part: &Part) -> Option<String> {
    let mut fields: Vec<_> =
        layout.columns.iter().map(|c| format!("{ALIAS}.{}", identifier(&c.name))).collect();
    let from = from_part(layout, part)?;
    if !part.is_ordered() {
        return Some(format!("SELECT {} {from}", fields.join(", ")));
    }
    let key: Vec<_> = layout.slice_key.iter().map(outside).collect();
    let mut order = key.join(", ");
    if !layout.is_unique {
        // Which keys are equal is for the database to say: 1.0 and 1.00 are, and so may be `a` and `A`.
        fields.push(format!("rank() OVER (ORDER BY {order})"));
        order.push_str(match layout.relation {
            Relation::Table { ties: Ties::Ctid, .. } => ", input.tableoid, input.ctid",
            _ => ", ROW(input.*)::text",
        });
    }
    fields.extend(key.iter().map(|column| format!("{column}::text")));
    Some(format!("SELECT {} {from} ORDER BY {order}", fields.join(", ")))
}

/// A query whose rows are the last keys of `wanted - 1` parts of about equal size; `percent` of the pages are
/// looked at where it is given.
pub(crate) fn boundaries(layout: &Layout, wanted: usize, percent: Option<f64>) -> Option<String> {
    let key: Vec<_> = layout.slice_key.iter().map(outside).collect();
    let numbered: Vec<_> = key.iter().enumerate().map(|(at, column)| format!("{column} AS k{at}")).collect();
    let texts: Vec<_> = (0..key.len()).map(|at| format!("k{at}::text")).collect();
    let whole = Part::Range { above: None, upto: None };
    let sample =
        percent.map_or_else(String::new, |percent| format!(" TABLESAMPLE SYSTEM ({percent}) REPEATABLE (1)"));
    let condition = condition(&whole, &layout.slice_key, outside)?;
    Some(format!(
        "SELECT {} FROM (SELECT {}, row_number() OVER (ORDER BY {}) AS n, count(*) OVER () AS total {}{sample} WHERE {condition}) AS keys \
         WHERE n < total AND n * {wanted} / total > (n - 1) * {wanted} / total ORDER BY n",
        texts.join(", "),
        numbered.join(", "),
        key.join(", "),
        from(layout, "TRUE"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_survive_being_stored() {
        let key = |texts: &[&str]| Some(texts.iter().map(|text| (*text).to_owned()).collect());
        for part in [
            Part::Whole,
            Part::Nulls,
            Part::Range { above: None, upto: None },
            Part::Range { above: key(&["a'", "1"]), upto: key(&["b", "2"]) },
        ] {
            assert_eq!(Part::from_slice(&part.to_slice(), 2), Some(part));
        }
    }

    #[test]
    fn parts_of_another_key_are_refused() {
        for value in [json!({}), json!({ "above": ["a"], "upto": null }), json!([1]), json!({ "segment": 1 })]
        {
            assert_eq!(Part::from_slice(&SlicePart(value.clone()), 2), None, "{value}");
        }
        assert_eq!(Part::Whole.after(&Cursor(json!(["a"])), 1), None);
        assert_eq!(Part::Range { above: None, upto: None }.after(&Cursor(json!(["a", "b"])), 1), None);
    }
}
