//! The statements that read, and the parts that they read.

use crate::catalog::{Column, KeyColumn, Layout};
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
    /// All its columns. To make one text of them would cost more, also where no keys repeat.
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
    Range { above: Option<Position>, upto: Option<Vec<String>> },
    /// Records with a NULL in their key, in no order.
    Nulls,
}

/// A place among the records of a part: behind a record, in the order of the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    /// The record's key.
    pub key: Vec<String>,
    /// Where among the records of that key; `None`: behind all of them.
    pub within: Option<Within>,
}

/// A place among the records of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Within {
    /// How many of them lie before it.
    pub records: u64,
    /// A digest of the last of those.
    pub anchor: String,
}

impl Position {
    /// Behind all records of a key.
    pub(crate) fn behind(key: Vec<String>) -> Self {
        Self { key, within: None }
    }

    pub(crate) fn to_cursor(&self) -> Cursor {
        Cursor(match &self.within {
            None => json!(self.key),
            Some(within) => {
                json!({ "key": self.key, "records": within.records, "anchor": within.anchor })
            }
        })
    }

    fn from_cursor(cursor: &Cursor, key_columns: usize) -> Option<Self> {
        let Some(map) = cursor.0.as_object() else {
            return Some(Self::behind(texts(&cursor.0, key_columns)?));
        };
        let within = Within {
            records: map.get("records")?.as_u64().filter(|records| *records > 0)?,
            anchor: map.get("anchor")?.as_str()?.to_owned(),
        };
        Some(Self { key: texts(map.get("key")?, key_columns)?, within: Some(within) })
    }
}

impl Part {
    pub(crate) fn to_slice(&self) -> SlicePart {
        SlicePart(match self {
            Self::Whole => json!({ "whole": true }),
            // No slice begins among the records of one key.
            Self::Range { above, upto } => {
                json!({ "above": above.as_ref().map(|above| &above.key), "upto": upto })
            }
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
        let above = bound("above")?.map(Position::behind);
        (key_columns > 0).then_some(Self::Range { above, upto: bound("upto")? })
    }

    /// The rest of it after a cursor; `None`: the cursor does not belong to it.
    pub(crate) fn after(self, cursor: &Cursor, key_columns: usize) -> Option<Self> {
        match self {
            Self::Range { upto, .. } => {
                Some(Self::Range { above: Some(Position::from_cursor(cursor, key_columns)?), upto })
            }
            Self::Whole | Self::Nulls => None,
        }
    }

    /// Where it begins among the records of one key.
    pub(crate) fn within(&self) -> Option<&Within> {
        match self {
            Self::Range { above: Some(Position { within, .. }), .. } => within.as_ref(),
            _ => None,
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

/// So many columns may each be ordered by: a query has no more than 1,664 fields, those that it only orders by
/// among them.
const MOST_TIES: usize = 700;

/// The name under which a relation is read.
pub(crate) const ALIAS: &str = "input";

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
            let above =
                above.as_ref().map(|above| (if above.within.is_some() { ">=" } else { ">" }, &above.key));
            for (operator, bound) in above.into_iter().chain(upto.as_ref().map(|upto| ("<=", upto))) {
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

/// What of the request's condition the server is told.
pub(crate) fn filter(layout: &Layout) -> &str {
    layout.filter.as_deref().unwrap_or("TRUE")
}

/// `FROM … WHERE …` of a part.
fn from_part(layout: &Layout, part: &Part) -> Option<String> {
    match &layout.relation {
        Relation::Query(query) if query.has_slice() => {
            let inside = condition(part, &layout.slice_key, |column| column.inside.clone())?;
            Some(format!("{} WHERE {}", from(layout, &inside), filter(layout)))
        }
        _ => {
            let part = condition(part, &layout.slice_key, outside)?;
            Some(format!("{} WHERE {part} AND {}", from(layout, "TRUE"), filter(layout)))
        }
    }
}

/// What a statement would give of a part if all columns were asked for as they are: for the server to check.
pub(crate) fn shape(layout: &Layout, part: &Part) -> Option<String> {
    let column = |column: &Column| format!("{ALIAS}.{}", identifier(&column.name));
    let columns: Vec<_> = layout.columns.iter().map(column).collect();
    Some(format!("SELECT {} {}", columns.join(", "), from_part(layout, part)?))
}

/// The query of a part's columns, in no order.
pub(crate) fn select_unordered(layout: &Layout, part: &Part) -> Option<String> {
    Some(format!("SELECT {} {}", fields(layout).join(", "), from_part(layout, part)?))
}

/// The columns as they are asked for.
pub(crate) fn fields(layout: &Layout) -> Vec<String> {
    let column =
        |column: &Column| column.read_as.selected.sql(&format!("{ALIAS}.{}", identifier(&column.name)));
    layout.columns.iter().map(column).collect()
}

/// The query of a part. In an ordered part hidden fields follow the columns: the number of its key's group
/// where keys may repeat, and the key as text where the columns do not tell it.
pub(crate) fn select(layout: &Layout, part: &Part) -> Option<String> {
    if !part.is_ordered() {
        return select_unordered(layout, part);
    }
    let mut fields = fields(layout);
    let from = from_part(layout, part)?;
    let key: Vec<_> = layout.slice_key.iter().map(outside).collect();
    let mut order = key.join(", ");
    if layout.numbers_groups() {
        fields.push(format!("rank() OVER (ORDER BY {order})"));
    }
    if !layout.is_unique {
        match layout.relation {
            Relation::Table { ties: Ties::Ctid, .. } => order.push_str(", input.tableoid, input.ctid"),
            _ if layout.columns.len() > MOST_TIES => order.push_str(", ROW(input.*)::pg_catalog.text"),
            _ => layout.columns.iter().for_each(|column| {
                order.push_str(", ");
                order.push_str(&column.read_as.tie(&format!("{ALIAS}.{}", identifier(&column.name))));
            }),
        }
    }
    if !layout.tells_keys() {
        fields.extend(key.iter().map(|column| format!("{column}::text")));
    }
    let offset = part
        .within()
        .map_or_else(String::new, |within| format!(" OFFSET {}", within.records.saturating_sub(1)));
    Some(format!("SELECT {} {from} ORDER BY {order}{offset}", fields.join(", ")))
}

/// Which records boundaries are looked for among.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Sample {
    /// All of them.
    All,
    /// Those on so many percent of a table's pages.
    Pages(f64),
    /// Each with this likelihood.
    Records(f64),
}

/// A query whose rows are the last keys of `wanted` parts of about equal size, which a part is cut into, in order.
pub(crate) fn boundaries(layout: &Layout, part: &Part, wanted: usize, sample: Sample) -> Option<String> {
    let key: Vec<_> = layout.slice_key.iter().map(outside).collect();
    let numbered: Vec<_> = key.iter().enumerate().map(|(at, column)| format!("{column} AS k{at}")).collect();
    let texts: Vec<_> = (0..key.len()).map(|at| format!("k{at}::text")).collect();
    let from = match &layout.relation {
        Relation::Query(query) if query.has_slice() => {
            let inside = condition(part, &layout.slice_key, |column| column.inside.clone())?;
            from(layout, &inside)
        }
        _ => from(layout, "TRUE"),
    };
    let (pages, records) = match sample {
        Sample::All => (String::new(), String::new()),
        Sample::Pages(percent) => (format!(" TABLESAMPLE SYSTEM ({percent}) REPEATABLE (1)"), String::new()),
        Sample::Records(share) => (String::new(), format!(" AND random() < {share}")),
    };
    let condition = condition(part, &layout.slice_key, outside)?;
    let looked_at = format!("{from}{pages} WHERE {condition} AND {}{records}", filter(layout));
    if let ([key], [column]) = (&key[..], &layout.slice_key[..])
        && !column.source_type.ends_with("[]")
    {
        return Some(percentiles(key, &looked_at, wanted));
    }
    Some(format!(
        "SELECT {} FROM (SELECT {}, row_number() OVER (ORDER BY {}) AS n, count(*) OVER () AS total \
         {looked_at}) AS keys WHERE n * {wanted} / total > (n - 1) * {wanted} / total ORDER BY n",
        texts.join(", "),
        numbered.join(", "),
        key.join(", "),
    ))
}

/// The same of a key of one column, of whose type there are arrays: a fifth of the time of numbering each record.
fn percentiles(key: &str, looked_at: &str, wanted: usize) -> String {
    format!(
        "SELECT k::text FROM unnest((SELECT percentile_disc(ARRAY(SELECT i / {wanted}::float8 \
         FROM generate_series(1, {wanted}) AS i)) WITHIN GROUP (ORDER BY {key}) {looked_at})) \
         WITH ORDINALITY AS keys(k, n) ORDER BY n"
    )
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
            Part::Range { above: key(&["a'", "1"]).map(Position::behind), upto: key(&["b", "2"]) },
        ] {
            assert_eq!(Part::from_slice(&part.to_slice(), 2), Some(part));
        }
    }

    #[test]
    fn positions_survive_being_stored() {
        let key = vec!["a".to_owned(), "1".to_owned()];
        let within = Within { records: 3, anchor: "00ff".to_owned() };
        for position in [Position::behind(key.clone()), Position { key, within: Some(within) }] {
            assert_eq!(Position::from_cursor(&position.to_cursor(), 2), Some(position));
        }
        for value in
            [json!({ "key": ["a"], "records": 0, "anchor": "" }), json!({ "key": ["a"] }), json!("a")]
        {
            assert_eq!(Position::from_cursor(&Cursor(value), 1), None);
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
