//! Which columns the records of a store have that has none of its own: the union of what a sample of them has.

use arrow::array::{Array as _, AsArray as _};
use futures::StreamExt as _;
use serde_json::{Map, Value};
use std::collections::{BTreeSet, HashMap};
use whimbrel_model::attribute::ITEM;
use whimbrel_store::{RunContext, Source};

/// What the records looked at hold.
#[derive(Debug, Default)]
pub struct Sample {
    /// The columns, in the order in which they came.
    pub columns: Vec<Column>,
    /// How many records were looked at.
    pub records: u64,
    /// Whether those were all that there are.
    pub is_all: bool,
    places: HashMap<String, usize>,
}

/// A column of the records looked at.
#[derive(Debug)]
pub struct Column {
    /// Its name.
    pub name: String,
    kinds: BTreeSet<Kind>,
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Text,
    Number,
    Boolean,
    Document,
    Binary,
    StringSet,
    NumberSet,
    BinarySet,
}

impl Kind {
    fn of_plain(value: &Value) -> Option<Self> {
        Some(match value {
            Value::Null => return None,
            Value::Bool(_) => Self::Boolean,
            Value::Number(_) => Self::Number,
            Value::String(_) => Self::Text,
            Value::Array(_) | Value::Object(_) => Self::Document,
        })
    }

    fn of_tagged(value: &Value) -> Option<Self> {
        let tag = value.as_object()?.keys().next()?;
        Some(match tag.as_str() {
            "N" => Self::Number,
            "BOOL" => Self::Boolean,
            "M" | "L" => Self::Document,
            "B" => Self::Binary,
            "SS" => Self::StringSet,
            "NS" => Self::NumberSet,
            "BS" => Self::BinarySet,
            "NULL" => return None,
            _ => Self::Text,
        })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Document => "json",
            Self::Binary => "binary",
            Self::StringSet => "string_set",
            Self::NumberSet => "number_set",
            Self::BinarySet => "binary_set",
        }
    }
}

impl Column {
    /// The type to be declared; nothing where it is text, or where records differ.
    pub fn declared(&self) -> Option<&'static str> {
        let documents = [Kind::Document, Kind::StringSet, Kind::NumberSet];
        if !self.kinds.is_empty() && self.kinds.iter().all(|kind| documents.contains(kind)) {
            return Some("json");
        }
        match self.only()? {
            kind @ (Kind::Number | Kind::Boolean | Kind::Binary) => Some(kind.name()),
            _ => None,
        }
    }

    /// The form by which DynamoDB gets back the set that it was.
    pub fn set(&self) -> Option<&'static str> {
        match self.only()? {
            kind @ (Kind::StringSet | Kind::NumberSet) => Some(kind.name()),
            _ => None,
        }
    }

    /// For people: the type, and why it is text where records differ.
    pub fn shown(&self) -> String {
        let kinds: Vec<_> = self.kinds.iter().map(|kind| kind.name()).collect();
        match (self.declared(), kinds.len()) {
            (Some(declared), _) => declared.to_owned(),
            (None, 0 | 1) => "text".to_owned(),
            (None, _) => format!("text, as records have {}", kinds.join(" and ")),
        }
    }

    fn only(&self) -> Option<Kind> {
        self.kinds.iter().next().copied().filter(|_| self.kinds.len() == 1)
    }
}

impl Sample {
    /// Reads the first `most` records. `tagged`: they are items in DynamoDB's own JSON.
    ///
    /// # Errors
    /// The store fails.
    pub async fn take(
        source: &dyn Source,
        tagged: bool,
        most: u64,
        context: &RunContext,
    ) -> whimbrel_store::Result<Self> {
        let mut sample = Self::default();
        for part in source.slices(1).await? {
            let mut batches = source.read(&part, None, context).await?;
            while let Some(batch) = batches.next().await {
                let batch = batch?;
                let Some(items) = batch.records.column_by_name(ITEM) else { continue };
                let Some(items) = items.as_string_opt::<i32>() else { continue };
                for row in 0..items.len() {
                    if sample.records == most {
                        return Ok(sample);
                    }
                    if items.is_valid(row)
                        && let Ok(item) = serde_json::from_str::<Map<String, Value>>(items.value(row))
                    {
                        sample.add(&item, tagged);
                    }
                    sample.records += 1;
                }
            }
        }
        sample.is_all = true;
        Ok(sample)
    }

    fn add(&mut self, item: &Map<String, Value>, tagged: bool) {
        for (name, value) in item {
            let place = *self.places.entry(name.clone()).or_insert(self.columns.len());
            if place == self.columns.len() {
                self.columns.push(Column { name: name.clone(), kinds: BTreeSet::new() });
            }
            let kind = if tagged { Kind::of_tagged(value) } else { Kind::of_plain(value) };
            self.columns[place].kinds.extend(kind);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sampled(items: &[Value], tagged: bool) -> Vec<String> {
        let mut sample = Sample::default();
        items.iter().filter_map(Value::as_object).for_each(|item| sample.add(item, tagged));
        let shown = |column: &Column| {
            let set = column.set().map(|set| format!(" as {set}")).unwrap_or_default();
            format!("{}: {}{set}", column.name, column.shown())
        };
        sample.columns.iter().map(shown).collect()
    }

    #[test]
    fn what_all_samples_agree_on_is_the_type() {
        let items = [
            json!({"id": {"S": "1"}, "n": {"N": "1"}, "m": {"N": "1"}, "l": {"L": []}, "s": {"SS": ["a"]}}),
            json!({"id": {"S": "2"}, "n": {"N": "2"}, "m": {"S": "x"}, "l": {"M": {}}, "b": {"BOOL": true}}),
            json!({"n": {"NULL": true}, "z": {"NULL": true}, "bin": {"B": "AA=="}, "bs": {"BS": ["AA=="]}}),
        ];
        assert_eq!(
            sampled(&items, true),
            [
                "id: text",
                "n: number",
                "m: text, as records have text and number",
                "l: json",
                "s: json as string_set",
                "b: boolean",
                "z: text",
                "bin: binary",
                "bs: text",
            ]
        );
    }

    #[test]
    fn plain_json_has_no_tags() {
        let items = [json!({"a": 1, "b": {"S": "x"}}), json!({"a": null, "c": [1], "d": false, "e": "x"})];
        assert_eq!(sampled(&items, false), ["a: number", "b: json", "c: json", "d: boolean", "e: text"]);
    }
}
