//! What a request means for a table: its columns, and how its records are found.

use super::access::{Access, Expression, KeyValue, Question, key_of};
use super::filter::Filter;
use crate::catalog::Table;
use crate::definition::{KeyRole, ScalarKind};
use crate::types::read::Reading;
use arrow::datatypes::{Schema, SchemaRef};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;
use whimbrel_model::SlicePart;
use whimbrel_store::ReadRequest;

/// The column that holds the whole item.
pub(super) const ITEM: &str = "_item";

/// A request, made out against a table.
#[derive(Debug)]
pub(super) struct Plan {
    /// The columns of every batch.
    pub(super) schema: SchemaRef,
    /// The columns with how they are read, in the schema's order.
    pub(super) columns: Vec<Column>,
    /// The table's key attributes, partition key first.
    pub(super) key: Vec<String>,
    /// The attributes that say where a read goes on: the table's key and that of the index that is read.
    pub(super) cursor_key: Vec<String>,
    /// How records are found.
    pub(super) access: Access,
    /// What DynamoDB leaves out while it reads, and the columns that this depends on.
    pub(super) filter: Option<(Expression, BTreeSet<String>)>,
    /// Whether reading sees every write that was answered before.
    pub(super) consistent: bool,
}

/// A column.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) reading: Reading,
}

/// A part of a table, as a slice keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Part {
    /// A segment of a parallel scan.
    Scan { segment: i32, of: i32 },
    /// The records of one partition key.
    Query {
        /// The index; `None`: the table itself.
        index: Option<String>,
        key: KeyValue,
    },
}

impl Part {
    /// As the engine keeps it.
    ///
    /// # Errors
    /// None that the type allows.
    pub(super) fn to_slice(&self) -> serde_json::Result<SlicePart> {
        serde_json::to_value(self).map(SlicePart)
    }
}

impl Plan {
    /// # Errors
    /// A column is declared as what it cannot be read as, with the column and the word.
    pub(super) fn of(request: &ReadRequest, table: &Table, consistent: bool) -> Result<Self, String> {
        let definition = &table.definition;
        let keys = [KeyRole::Hash, KeyRole::Range].into_iter();
        let key: Vec<String> =
            keys.filter_map(|role| key_of(&definition.key_schema, role)).map(str::to_owned).collect();
        let columns = columns(request, &key, |name| definition.kind_of(name))?;
        let readings = Readings { request, key: &key, kind_of: &|name| definition.kind_of(name) };
        let indexed_keys = definition.indexes().flat_map(|(index, _)| &index.key_schema);
        let key_names = indexed_keys.map(|element| &element.attribute_name).chain(&key);
        let unlike_keys = key_names.filter(|name| !readings.compares_as_key(name)).cloned().collect();
        let question = Question {
            definition,
            indexed: table.indexed,
            condition: request.condition.as_ref(),
            wanted: request.wanted.as_ref(),
            unlike_keys: &unlike_keys,
        };
        let access = question.access();
        let mut cursor_key = key.clone();
        if let Access::Query(query) = &access {
            let own = [Some(&query.partition), query.sort.as_ref()].into_iter().flatten();
            let own: Vec<_> = own.filter(|name| !cursor_key.contains(name)).cloned().collect();
            cursor_key.extend(own);
        }
        // Attributes by which records are queried have no place in a filter.
        let reading = |column: &str| match &access {
            Access::Query(query) if query.partition == column || query.sort.as_deref() == Some(column) => {
                None
            }
            _ => readings.of(column),
        };
        let condition = request.condition.as_ref().filter(|_| !request.wants_all);
        let filter = condition.and_then(|condition| Filter::of(condition, &reading));
        let global = matches!(&access, Access::Query(query) if query.global);
        let field = |column: &Column| {
            let is_natural_key = key.contains(&column.name) && !request.columns.contains_key(&column.name);
            column.reading.field(&column.name, !is_natural_key)
        };
        let schema = Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()));
        Ok(Self { schema, columns, cursor_key, access, filter, consistent: consistent && !global, key })
    }

    /// Everything as it is, by a scan that sees every write that was answered before.
    pub(super) fn whole() -> Self {
        Self {
            schema: Arc::new(Schema::empty()),
            columns: Vec::new(),
            key: Vec::new(),
            cursor_key: Vec::new(),
            access: Access::Scan,
            filter: None,
            consistent: true,
        }
    }

    /// What a person should know of the way records are found.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if let Access::Query(query) = &self.access {
            let place = match &query.index {
                Some(index) => format!("index {index}"),
                None => "the table".to_owned(),
            };
            let bounded = query.keys.values().flatten().count();
            let sort = query.sort.as_deref().filter(|_| bounded > 0);
            let by = sort.map(|sort| format!(", with a condition on its sort key `{sort}`"));
            notes.push(format!(
                "Query on {place}: {} of its partition key `{}`{}; records of other keys are not read",
                match query.keys.len() {
                    1 => "one value".to_owned(),
                    many => format!("{many} values"),
                },
                query.partition,
                by.unwrap_or_default()
            ));
            if query.index.is_some() {
                notes.push("an index lags behind its table, and holds no record without its key".to_owned());
            }
        }
        if let Some((_, columns)) = &self.filter {
            let columns: Vec<_> = columns.iter().map(|column| format!("`{column}`")).collect();
            notes.push(format!(
                "DynamoDB itself leaves out records by {}; they cost read units all the same",
                columns.join(", ")
            ));
        }
        notes
    }

    /// The request's own part, where the plan still reads that way.
    pub(super) fn part(&self, part: &SlicePart) -> Option<Part> {
        let part: Part = serde_json::from_value(part.0.clone()).ok()?;
        let fits = match (&part, &self.access) {
            (Part::Scan { segment, of }, Access::Scan) => (0..*of).contains(segment),
            (Part::Query { index, key }, Access::Query(query)) => {
                *index == query.index && query.keys.contains_key(key)
            }
            (Part::Scan { .. } | Part::Query { .. }, _) => false,
        };
        fits.then_some(part)
    }
}

/// How attributes are read.
struct Readings<'a> {
    request: &'a ReadRequest,
    key: &'a [String],
    kind_of: &'a dyn Fn(&str) -> Option<ScalarKind>,
}

impl Readings<'_> {
    fn of(&self, name: &str) -> Option<Reading> {
        if name == ITEM {
            return Some(Reading::Item);
        }
        match self.request.columns.get(name) {
            Some(word) => Reading::declared(word),
            None if self.key.iter().any(|key| key == name) => (self.kind_of)(name).map(Reading::of_key),
            None => Some(Reading::Text),
        }
    }

    /// Whether the engine compares the column as DynamoDB compares the key.
    fn compares_as_key(&self, name: &str) -> bool {
        matches!(
            ((self.kind_of)(name), self.of(name)),
            (Some(ScalarKind::S), Some(Reading::KeyText | Reading::Text))
                | (Some(ScalarKind::N), Some(Reading::Number))
        )
    }
}

/// The key, then what is wanted: named attributes, else what is declared and the whole item.
fn columns(
    request: &ReadRequest,
    key: &[String],
    kind_of: impl Fn(&str) -> Option<ScalarKind>,
) -> Result<Vec<Column>, String> {
    let readings = Readings { request, key, kind_of: &kind_of };
    if let Some((name, word)) = request.columns.iter().find(|(_, word)| Reading::declared(word).is_none()) {
        return Err(format!("`columns` declares `{name}` as {word}, and there is no such type"));
    }
    let others: Vec<&str> = match &request.wanted {
        Some(wanted) => wanted.iter().map(String::as_str).collect(),
        None => request.columns.keys().map(String::as_str).chain([ITEM]).collect(),
    };
    let names = key.iter().map(String::as_str);
    let names = names.chain(others.into_iter().filter(|name| !key.iter().any(|key| key == name)));
    Ok(names.filter_map(|name| Some(Column { name: name.to_owned(), reading: readings.of(name)? })).collect())
}
