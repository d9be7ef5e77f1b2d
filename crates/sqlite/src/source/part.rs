//! Slices and cursors: ranges of keys, with the values as SQLite holds them.

use crate::catalog::{From, Layout, SliceKey};
use rusqlite::ToSql;
use rusqlite::types::{ToSqlOutput, ValueRef};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use whimbrel_model::record::{base64, from_base64};
use whimbrel_model::{Cursor, SlicePart};

/// A value of a key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum KeyValue {
    Integer(i64),
    /// A real by its bits.
    Real(u64),
    Text(String),
    /// Text that is not UTF-8.
    RawText(Bytes),
    Blob(Bytes),
}

/// Bytes, stored in base64.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bytes(Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&base64(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(from_base64(&Value::deserialize(deserializer)?)))
    }
}

impl KeyValue {
    /// `None`: it is NULL.
    pub(crate) fn of(value: ValueRef<'_>) -> Option<Self> {
        Some(match value {
            ValueRef::Null => return None,
            ValueRef::Integer(value) => Self::Integer(value),
            ValueRef::Real(value) => Self::Real(value.to_bits()),
            ValueRef::Text(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => Self::Text(text.to_owned()),
                Err(_) => Self::RawText(Bytes(bytes.to_vec())),
            },
            ValueRef::Blob(bytes) => Self::Blob(Bytes(bytes.to_vec())),
        })
    }
}

impl ToSql for KeyValue {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Integer(value) => ToSqlOutput::from(*value),
            Self::Real(bits) => ToSqlOutput::from(f64::from_bits(*bits)),
            Self::Text(text) => ToSqlOutput::from(text.as_str()),
            Self::RawText(bytes) => ToSqlOutput::Borrowed(ValueRef::Text(&bytes.0)),
            Self::Blob(bytes) => ToSqlOutput::Borrowed(ValueRef::Blob(&bytes.0)),
        })
    }
}

/// A part of a relation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Part {
    /// All of it, without order.
    Whole,
    /// The keys above the first and up to the second; `None` is open.
    Range { above: Option<Vec<KeyValue>>, upto: Option<Vec<KeyValue>> },
}

/// What binds the bounds of a range.
const ABOVE: &str = "@whimbrel_above_";
const UPTO: &str = "@whimbrel_upto_";

impl Part {
    pub(crate) fn to_slice(&self) -> SlicePart {
        SlicePart(serde_json::to_value(self).unwrap_or_default())
    }

    /// `None`: it is a part of something else.
    pub(crate) fn from_slice(part: &SlicePart, columns: usize) -> Option<Self> {
        let part: Self = serde_json::from_value(part.0.clone()).ok()?;
        let fits = |bound: &Option<Vec<KeyValue>>| bound.as_ref().is_none_or(|key| key.len() == columns);
        let is_ours = match &part {
            Self::Whole => columns == 0,
            Self::Range { above, upto } => columns > 0 && fits(above) && fits(upto),
        };
        is_ours.then_some(part)
    }

    /// What lies behind a cursor; `None`: it is a cursor of something else.
    pub(crate) fn after(self, cursor: &Cursor, columns: usize) -> Option<Self> {
        let key: Vec<KeyValue> = serde_json::from_value(cursor.0.clone()).ok()?;
        match self {
            Self::Range { upto, .. } if key.len() == columns => Some(Self::Range { above: Some(key), upto }),
            _ => None,
        }
    }

    /// The condition of the part over a key's expressions.
    pub(crate) fn predicate(&self, key: &SliceKey) -> String {
        let Self::Range { above, upto } = self else { return "TRUE".to_owned() };
        let names = key.expressions();
        let compare = |operator: &str, prefix: &str| {
            let values: Vec<_> = (0..names.len()).map(|at| format!("{prefix}{at}")).collect();
            format!("({}) {operator} ({})", names.join(", "), values.join(", "))
        };
        let mut conditions = Vec::new();
        conditions.extend(above.as_ref().map(|_| compare(">", ABOVE)));
        conditions.extend(upto.as_ref().map(|_| {
            let range = compare("<=", UPTO);
            // A record without a key must be seen by somebody, who says so.
            let nulls: Vec<_> = names.iter().map(|name| format!("{name} IS NULL")).collect();
            if above.is_none() && key.is_unsure() {
                format!("({range} OR {})", nulls.join(" OR "))
            } else {
                range
            }
        }));
        if conditions.is_empty() { "TRUE".to_owned() } else { conditions.join(" AND ") }
    }

    /// The value that a parameter of [`Part::predicate`] stands for.
    pub(crate) fn bound(&self, parameter: &str) -> Option<&KeyValue> {
        let Self::Range { above, upto } = self else { return None };
        let (key, at) = match (parameter.strip_prefix(ABOVE), parameter.strip_prefix(UPTO)) {
            (Some(at), _) => (above, at),
            (_, Some(at)) => (upto, at),
            _ => return None,
        };
        key.as_ref()?.get(at.parse::<usize>().ok()?)
    }
}

/// The cursor behind a key.
pub(crate) fn cursor(key: &[KeyValue]) -> Cursor {
    Cursor(serde_json::to_value(key).unwrap_or_default())
}

/// What reads a part: the key, then these fields; in the key's order where there is one and it is wanted.
pub(crate) fn select(
    layout: &Layout,
    part: &Part,
    fields: &str,
    condition: Option<&str>,
    is_ordered: bool,
) -> String {
    let key = layout.slice_key.expressions();
    let predicate = part.predicate(&layout.slice_key);
    let (from, mut conditions) = match &layout.from {
        From::Table(name) => (name.clone(), vec![predicate]),
        From::Query(query) if query.has_slice() => (format!("(\n{}\n)", query.sql(&predicate)), Vec::new()),
        From::Query(query) => (format!("(\n{}\n)", query.sql("TRUE")), vec![predicate]),
    };
    conditions.extend(condition.map(|condition| format!("({condition})")));
    conditions.retain(|condition| condition != "TRUE");
    let filter =
        if conditions.is_empty() { String::new() } else { format!(" WHERE {}", conditions.join(" AND ")) };
    let all: Vec<_> = key.iter().cloned().chain([fields.to_owned()]).collect();
    let order =
        if is_ordered && !key.is_empty() { format!(" ORDER BY {}", key.join(", ")) } else { String::new() };
    format!("SELECT {} FROM {from}{filter}{order}", all.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_and_cursors_come_back_as_they_were() {
        let key = vec![
            KeyValue::Integer(i64::MIN),
            KeyValue::Real(f64::MAX.to_bits()),
            KeyValue::Text("ü\0".to_owned()),
        ];
        let part = Part::Range { above: None, upto: Some(key.clone()) };
        let text = serde_json::to_string(&part.to_slice()).unwrap();
        let again: SlicePart = serde_json::from_str(&text).unwrap();
        assert_eq!(Part::from_slice(&again, 3), Some(part.clone()));
        assert_eq!(Part::from_slice(&again, 2), None, "a key of another length is another relation's");
        let behind = part.after(&cursor(&key), 3).unwrap();
        assert_eq!(behind, Part::Range { above: Some(key.clone()), upto: Some(key) });
        assert_eq!(Part::Whole.after(&cursor(&[]), 0), None);
    }
}
