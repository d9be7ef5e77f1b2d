//! Updates: attributes are set where they differ from what was read, and only where the item still holds what
//! was read.

use super::delivery::{Delivery, Row, rejected};
use super::request::{Attempt, quote};
use crate::error::Failure;
use crate::limits::{self, STATEMENT_BYTES};
use crate::types::cell::Cells;
use crate::types::conversion;
use crate::types::row::{Encoder, Item, Prepared, refusal};
use crate::types::value::same;
use arrow::array::RecordBatch;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::AttributeValue;
use whimbrel_store::{Outcome, Refusal, WriteRequest};

/// How long an expression of `UpdateItem` may be, and how many operators and functions it may hold: "Quotas in
/// Amazon DynamoDB".
const EXPRESSION_BYTES: usize = 4096;
const EXPRESSION_OPERATORS: usize = 300;
/// More changes than this go into an `UpdateItem`: a statement names each one twice and binds it separately.
const STATEMENT_CHANGES: usize = 50;

/// Why an update of what is not there is a reject.
pub(super) const NO_ITEM: &str = "there is no item with this key";

/// Why an update stays away from what somebody else has written.
fn conflict(name: &str) -> String {
    format!("conflict: attribute `{name}` holds another value than was read; the newer value stays")
}

/// What was read, column by column.
pub(super) struct Guards {
    /// By column of the encoder; `None`: not guarded.
    cells: Vec<Option<Cells>>,
}

/// What an attribute must still hold.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Guard {
    /// Anything.
    Free,
    /// Nothing, or NULL: a record's columns do not tell the two apart.
    Absent,
    /// Nothing: an item does.
    Missing,
    /// This value.
    Holds(AttributeValue),
}

/// One attribute that is set, or removed where its new value is absent.
#[derive(Clone, Debug)]
pub(super) struct Change {
    attribute: Changed,
    guard: Guard,
}

/// Which attribute it is.
#[derive(Clone, Debug)]
enum Changed {
    /// A column of the encoder.
    Column(usize),
    /// One that no column names: it becomes what the record's whole item holds, or is removed.
    Other(String),
}

/// What follows from a refused update.
pub(super) enum AfterRefusal {
    Decided(Outcome),
    /// The item is as it was read after all; with the reason to reject it should that never end.
    Again(String),
}

impl Guards {
    /// Plans the columns of guards. They are read by the form that the spec asks for where it fits what was
    /// read, else as they come.
    ///
    /// # Errors
    /// The refusal that every record gets: a column of what was read has no place in DynamoDB.
    pub(super) fn new(
        encoder: &Encoder<'_>,
        request: &WriteRequest,
        guards: &RecordBatch,
    ) -> Result<Self, Refusal> {
        let cells = |column: &crate::types::row::Column| {
            let name = &column.name;
            let Some((position, field)) = guards.schema_ref().column_with_name(name) else { return Ok(None) };
            if column.is_table_key {
                return Ok(None);
            }
            let asked = request.forms.get(name).map(String::as_str);
            let planned = conversion(field, asked).or_else(|_| conversion(field, None));
            let planned = planned.map_err(|reason| refusal(name, &format!("as it was read: {reason}")))?;
            Cells::new(guards.column(position), &planned.form)
                .map(Some)
                .map_err(|error| refusal(name, &format!("as it was read cannot be compared: {error}")))
        };
        Ok(Self { cells: encoder.columns.iter().map(cells).collect::<Result<_, _>>()? })
    }

    /// What the column held in a row.
    fn guard(&self, encoder: &Encoder<'_>, column: usize, row: usize) -> Result<Guard, Refusal> {
        let Some(cells) = &self.cells[column] else { return Ok(Guard::Free) };
        if cells.is_null(row) {
            return Ok(Guard::Absent);
        }
        let name = &encoder.columns[column].name;
        match cells.value(row) {
            Ok(AttributeValue::Null(_)) => Ok(Guard::Absent),
            Ok(value) => Ok(Guard::Holds(value)),
            Err(reason) => Err(refusal(name, &format!("as it was read cannot be compared: it {reason}"))),
        }
    }
}

fn is_same(new: Option<&AttributeValue>, held: Option<&AttributeValue>) -> bool {
    match (new, held) {
        (Some(new), Some(held)) => same(new, held),
        (None, None) => true,
        _ => false,
    }
}

impl Guard {
    /// That an attribute still holds what was read.
    fn of(held: Option<&AttributeValue>) -> Self {
        match held {
            None => Self::Missing,
            Some(AttributeValue::Null(_)) => Self::Absent,
            Some(held) => Self::Holds(held.clone()),
        }
    }

    /// Whether the attribute holds what is to be written, so that nothing is left to do.
    fn equals(&self, new: Option<&AttributeValue>) -> bool {
        match (self, new) {
            (Self::Free, _) => false,
            (Self::Absent, new) => matches!(new, None | Some(AttributeValue::Null(_))),
            (Self::Missing, new) => new.is_none(),
            (Self::Holds(old), Some(new)) => same(old, new),
            (Self::Holds(_), None) => false,
        }
    }

    /// Whether an attribute still holds what was read.
    fn holds(&self, now: Option<&AttributeValue>) -> bool {
        match self {
            Self::Free => true,
            Self::Absent => matches!(now, None | Some(AttributeValue::Null(_))),
            Self::Missing => now.is_none(),
            Self::Holds(old) => now.is_some_and(|now| same(old, now)),
        }
    }

    fn value(&self) -> Option<&AttributeValue> {
        match self {
            Self::Holds(value) => Some(value),
            Self::Free | Self::Absent | Self::Missing => None,
        }
    }
}

impl Change {
    /// The changes of a row, and how many bytes their guards take.
    ///
    /// # Errors
    /// What was read cannot be compared.
    pub(super) fn all(
        encoder: &Encoder<'_>,
        prepared: &Prepared,
        guards: Option<&Guards>,
        row: usize,
    ) -> Result<(Vec<Self>, u64), Refusal> {
        let (mut changes, mut bytes) = (Vec::new(), 0);
        for (column, new) in prepared.values.iter().enumerate() {
            if encoder.columns[column].is_table_key {
                continue;
            }
            let guard = match guards {
                Some(guards) => guards.guard(encoder, column, row)?,
                None => Guard::Free,
            };
            if !guard.equals(new.as_ref()) {
                bytes += guard.value().map_or(0, limits::size);
                changes.push(Self { attribute: Changed::Column(column), guard });
            }
        }
        Ok((changes, bytes))
    }
}

impl Change {
    /// What of a record differs from an item that was read, each attribute guarded by what it held there, and how
    /// many bytes the guards take.
    pub(super) fn from_item(encoder: &Encoder<'_>, prepared: &Prepared, item: &Item) -> (Vec<Self>, u64) {
        let (mut changes, mut bytes) = (Vec::new(), 0);
        for (column, new) in prepared.values.iter().enumerate() {
            let Some(known) = encoder.columns.get(column).filter(|column| !column.is_table_key) else {
                continue;
            };
            let held = item.get(&known.name);
            if is_same(new.as_ref(), held) {
                continue;
            }
            let guard = Guard::of(held);
            bytes += guard.value().map_or(0, limits::size);
            changes.push(Self { attribute: Changed::Column(column), guard });
        }
        (changes, bytes)
    }

    /// The same changes, each guarded by what an item that was read holds, so that it is known what they take the place
    /// of; without those that are there already. How many bytes the guards take.
    ///
    /// # Errors
    /// The attribute that holds another value than a guard says.
    pub(super) fn confirmed(
        changes: Vec<Self>,
        encoder: &Encoder<'_>,
        prepared: &Prepared,
        item: &Item,
    ) -> Result<(Vec<Self>, u64), Outcome> {
        let held = |change: &Self| item.get(change.name(encoder));
        let is_there = |change: &Self| is_same(change.new_value(prepared), held(change));
        let (there, mut left): (Vec<_>, Vec<_>) = changes.into_iter().partition(is_there);
        drop(there);
        if let Some(change) = left.iter().find(|change| !change.guard.holds(held(change))) {
            return Err(rejected(&conflict(change.name(encoder))));
        }
        for change in &mut left {
            change.guard = Guard::of(item.get(change.name(encoder)));
        }
        let bytes = left.iter().filter_map(|change| change.guard.value()).map(limits::size).sum();
        Ok((left, bytes))
    }

    /// Every attribute of a record and of an item that was read, each guarded by what the item held.
    pub(super) fn all_of_item(encoder: &Encoder<'_>, prepared: &Prepared, item: &Item) -> (Vec<Self>, u64) {
        let mut changes = Vec::new();
        for (column, known) in encoder.columns.iter().enumerate().filter(|(_, column)| !column.is_table_key) {
            let held = item.get(&known.name);
            if held.is_some() || prepared.values.get(column).is_some_and(Option::is_some) {
                changes.push(Self { attribute: Changed::Column(column), guard: Guard::of(held) });
            }
        }
        let others = item.keys().filter(|name| encoder.columns.iter().all(|column| column.name != **name));
        let new = prepared.rest().map(|(name, _)| name).filter(|name| !item.contains_key(*name));
        changes.extend(others.map(String::as_str).chain(new).map(|name| Self {
            attribute: Changed::Other(name.to_owned()),
            guard: Guard::of(item.get(name)),
        }));
        let bytes = changes.iter().filter_map(|change| change.guard.value()).map(limits::size).sum();
        (changes, bytes)
    }

    /// The column of the encoder, where it is one.
    pub(super) fn column(&self) -> Option<usize> {
        match self.attribute {
            Changed::Column(column) => Some(column),
            Changed::Other(_) => None,
        }
    }

    /// The attribute's name.
    pub(super) fn name<'s>(&'s self, encoder: &'s Encoder<'_>) -> &'s str {
        match &self.attribute {
            Changed::Column(column) => encoder.columns.get(*column).map_or("", |column| &column.name),
            Changed::Other(name) => name,
        }
    }

    /// What the attribute becomes; `None`: it is removed.
    pub(super) fn new_value<'p>(&self, prepared: &'p Prepared) -> Option<&'p AttributeValue> {
        match &self.attribute {
            Changed::Column(column) => prepared.values.get(*column)?.as_ref(),
            Changed::Other(name) => prepared.rest_value(name),
        }
    }
}

impl Delivery<'_> {
    fn name<'s>(&'s self, change: &'s Change) -> &'s str {
        change.name(&self.encoder)
    }

    /// Whether the update does not fit a statement: too many or too long names, or names that a statement reads
    /// as paths.
    pub(super) fn update_goes_alone(&self, row: &Row) -> bool {
        let names = || {
            let keys = self.parts.layout.key.iter().map(|key| key.name.as_str());
            row.changes.iter().map(|change| self.name(change)).chain(keys)
        };
        let length: usize = names().map(|name| 3 * (name.len() + 16)).sum();
        row.changes.len() > STATEMENT_CHANGES
            || length + 2 * self.parts.request.table.len() + 32 > STATEMENT_BYTES
            || names().any(|name| name.contains(['.', '[', ']', '"']))
    }

    /// `UPDATE "table" SET "a"=? REMOVE "b" WHERE "key"=? AND "a"=? AND ("b" IS MISSING OR "b" IS NULL)`
    pub(super) fn update_statement<'s>(
        &'s self,
        row: &'s Row,
        text: &mut String,
        parameters: &mut Vec<&'s AttributeValue>,
    ) {
        text.push_str("UPDATE ");
        quote(text, '"', &self.parts.request.table);
        for change in &row.changes {
            let new = change.new_value(&row.prepared);
            text.push_str(if new.is_some() { " SET " } else { " REMOVE " });
            quote(text, '"', self.name(change));
            if let Some(new) = new {
                text.push_str("=?");
                parameters.push(new);
            }
        }
        let keys = self.encoder.attributes(&row.prepared).filter(|(column, _)| column.is_table_key);
        for (number, (column, value)) in keys.enumerate() {
            text.push_str(if number == 0 { " WHERE " } else { " AND " });
            quote(text, '"', column.name);
            text.push_str("=?");
            parameters.push(value);
        }
        for change in &row.changes {
            match &change.guard {
                Guard::Free => {}
                Guard::Holds(old) => {
                    text.push_str(" AND ");
                    quote(text, '"', self.name(change));
                    text.push_str("=?");
                    parameters.push(old);
                }
                Guard::Missing => {
                    text.push_str(" AND ");
                    quote(text, '"', self.name(change));
                    text.push_str(" IS MISSING");
                }
                Guard::Absent => {
                    text.push_str(" AND (");
                    quote(text, '"', self.name(change));
                    text.push_str(" IS MISSING OR ");
                    quote(text, '"', self.name(change));
                    text.push_str(" IS NULL)");
                }
            }
        }
    }

    /// `UpdateItem` for what does not fit a statement.
    pub(super) async fn update_alone(&self, number: usize) -> Attempt {
        let (Some(row), Some(key)) = (self.row(number), self.parts.layout.key.first()) else {
            return Attempt::failed(&[number], Failure::protocol("an item or its key is missing"));
        };
        let client = &self.connection.client;
        let request = client.update_item().table_name(&self.parts.request.table);
        let request = request
            .set_key(Some(self.encoder.key_item(&row.prepared)))
            .expression_attribute_names("#k", &key.name)
            .return_consumed_capacity(self.wanted_capacity());
        let Some(request) = self.expressions(row, request) else {
            let reason =
                format!("{} attributes change, more than one guarded update holds", row.changes.len());
            return Attempt::refused(number, reason);
        };
        match request.send().await {
            Ok(output) => Attempt::written(&[number]).consumed(output.consumed_capacity.as_slice()),
            Err(error) => Attempt::alone(number, self.connection.failure(error).await),
        }
    }

    /// The update and its condition as expressions; `None` where they become too long.
    fn expressions(
        &self,
        row: &Row,
        mut request: UpdateItemFluentBuilder,
    ) -> Option<UpdateItemFluentBuilder> {
        let (mut sets, mut removes) = (Vec::new(), Vec::new());
        let mut conditions = vec!["attribute_exists(#k)".to_owned()];
        let (mut needs_null, mut operators) = (false, 1);
        for (number, change) in row.changes.iter().enumerate() {
            request = request.expression_attribute_names(format!("#{number}"), self.name(change));
            match change.new_value(&row.prepared) {
                Some(new) => {
                    sets.push(format!("#{number}=:{number}"));
                    request = request.expression_attribute_values(format!(":{number}"), new.clone());
                }
                None => removes.push(format!("#{number}")),
            }
            match &change.guard {
                Guard::Free => {}
                Guard::Holds(old) => {
                    operators += 2;
                    conditions.push(format!("#{number}=:o{number}"));
                    request = request.expression_attribute_values(format!(":o{number}"), old.clone());
                }
                Guard::Missing => {
                    operators += 2;
                    conditions.push(format!("attribute_not_exists(#{number})"));
                }
                Guard::Absent => {
                    needs_null = true;
                    operators += 4;
                    conditions.push(format!(
                        "(attribute_not_exists(#{number}) OR attribute_type(#{number},:null))"
                    ));
                }
            }
        }
        if needs_null {
            request = request.expression_attribute_values(":null", AttributeValue::S("NULL".to_owned()));
        }
        let clause = |word: &str, parts: &[String]| match parts {
            [] => String::new(),
            parts => format!("{word} {} ", parts.join(",")),
        };
        let update = clause("SET", &sets) + &clause("REMOVE", &removes);
        let condition = conditions.join(" AND ");
        let fits = update.len().max(condition.len()) <= EXPRESSION_BYTES && operators <= EXPRESSION_OPERATORS;
        fits.then(|| request.update_expression(update.trim_end()).condition_expression(condition))
    }

    /// What follows where the store refused an update, and the key now holds this item.
    pub(super) fn after_refusal(&self, row: &Row, item: Option<&Item>, ours: bool) -> AfterRefusal {
        let Some(item) = item else {
            return AfterRefusal::Decided(rejected(NO_ITEM));
        };
        let now = |change: &Change| item.get(self.name(change));
        let is_new = |change: &Change| {
            let new = change.new_value(&row.prepared);
            match (new, now(change)) {
                (Some(new), Some(now)) => same(new, now),
                (None, None | Some(AttributeValue::Null(_))) => true,
                _ => false,
            }
        };
        let fingerprint = row.prepared.fingerprint;
        if row.changes.iter().all(is_new) {
            let outcome = if ours { Outcome::Updated(fingerprint) } else { Outcome::Unchanged(fingerprint) };
            return AfterRefusal::Decided(outcome);
        }
        let conflict = |change: &Change| conflict(self.name(change));
        match row.changes.iter().find(|change| !change.guard.holds(now(change))) {
            Some(change) => AfterRefusal::Decided(rejected(&conflict(change))),
            None => AfterRefusal::Again(row.changes.first().map(conflict).unwrap_or_default()),
        }
    }
}
