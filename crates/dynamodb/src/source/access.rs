//! How a table is read: whole, by parallel scan, or by key, where the condition fixes a partition key.

use crate::definition::{Definition, Index, KeyElement, KeyRole, ProjectionType, ScalarKind};
use crate::limits;
use crate::types::row::Item;
use aws_sdk_dynamodb::types::AttributeValue;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use whimbrel_store::{Comparison, Condition, Literal};

/// More partition keys than this are read by a scan.
const MOST_KEYS: usize = 100;
/// The longest texts that keys hold: of a partition key, of a sort key.
const KEY_BYTES: usize = 2048;
const SORT_KEY_BYTES: usize = 1024;

/// How records are found.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Access {
    /// All of them, segment by segment.
    Scan,
    /// Those of some partition keys.
    Query(KeyQuery),
}

/// Records found by key.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct KeyQuery {
    /// The index; `None`: the table itself.
    pub(super) index: Option<String>,
    /// Whether it is a global index, which cannot be read consistently.
    pub(super) global: bool,
    /// The attribute of the partition key.
    pub(super) partition: String,
    /// The attribute of the sort key, where there is one.
    pub(super) sort: Option<String>,
    /// The values of the partition key, each with what the condition says of the sort key then.
    pub(super) keys: BTreeMap<KeyValue, Option<SortCondition>>,
}

/// A value of a key attribute.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub(super) enum KeyValue {
    /// Text.
    S(String),
    /// A number in normal form.
    N(String),
}

impl KeyValue {
    fn of(literal: &Literal, kind: ScalarKind, most_bytes: usize) -> Option<Self> {
        match (literal, kind) {
            (Literal::Text(text), ScalarKind::S) if (1..=most_bytes).contains(&text.len()) => {
                Some(Self::S(text.clone()))
            }
            (Literal::Number(text), ScalarKind::N) => limits::number(text).ok().map(Self::N),
            _ => None,
        }
    }

    /// As the SDK takes it.
    pub(super) fn value(&self) -> AttributeValue {
        match self {
            Self::S(text) => AttributeValue::S(text.clone()),
            Self::N(text) => AttributeValue::N(text.clone()),
        }
    }

    /// Whether `self` is known not to lie behind the other.
    fn is_at_most(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::S(low), Self::S(high)) => low.as_bytes() <= high.as_bytes(),
            (Self::N(low), Self::N(high)) => {
                matches!((low.parse::<i128>(), high.parse::<i128>()), (Ok(low), Ok(high)) if low <= high)
            }
            _ => false,
        }
    }
}

/// The one condition that a query may put on the sort key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SortCondition {
    /// A comparison.
    Compare(Comparison, KeyValue),
    /// Both ends included.
    Between(KeyValue, KeyValue),
    /// A text that begins so.
    StartsWith(String),
}

/// Names and values of an expression, under placeholders.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Expression {
    pub(super) text: String,
    pub(super) names: HashMap<String, String>,
    pub(super) values: Item,
}

impl KeyQuery {
    /// The key condition for one partition key; `None` where the query has no such key.
    pub(super) fn expression(&self, key: &KeyValue) -> Option<Expression> {
        let sort_condition = self.keys.get(key)?;
        let mut expression = Expression {
            text: "#kp = :kp".to_owned(),
            names: HashMap::from([("#kp".to_owned(), self.partition.clone())]),
            values: HashMap::from([(":kp".to_owned(), key.value())]),
        };
        if let Some((sort, condition)) = self.sort.as_ref().zip(sort_condition.as_ref()) {
            let mut value = |name: &str, value| expression.values.insert(name.to_owned(), value);
            let text = match condition {
                SortCondition::Compare(comparison, bound) => {
                    value(":ks", bound.value());
                    format!(" AND #ks {} :ks", sign(*comparison))
                }
                SortCondition::Between(low, high) => {
                    value(":ks", low.value());
                    value(":kt", high.value());
                    " AND #ks BETWEEN :ks AND :kt".to_owned()
                }
                SortCondition::StartsWith(prefix) => {
                    value(":ks", AttributeValue::S(prefix.clone()));
                    " AND begins_with(#ks, :ks)".to_owned()
                }
            };
            expression.text.push_str(&text);
            expression.names.insert("#ks".to_owned(), sort.clone());
        }
        Some(expression)
    }
}

/// The sign of a comparison in expressions.
pub(super) fn sign(comparison: Comparison) -> &'static str {
    match comparison {
        Comparison::Equal => "=",
        Comparison::Less => "<",
        Comparison::LessOrEqual => "<=",
        Comparison::Greater => ">",
        Comparison::GreaterOrEqual => ">=",
    }
}

/// The attributes of a key schema, by role.
pub(super) fn key_of(schema: &[KeyElement], role: KeyRole) -> Option<&str> {
    schema.iter().find(|element| element.key_type == role).map(|element| element.attribute_name.as_str())
}

/// What is asked of a table, as far as the way of reading depends on it.
pub(super) struct Question<'a> {
    /// The table.
    pub(super) definition: &'a Definition,
    /// Whether its indexes are complete; one that is being filled lacks records.
    pub(super) indexed: bool,
    /// What the records that somebody takes satisfy.
    pub(super) condition: Option<&'a Condition>,
    /// The attributes that somebody looks at; `None`: all.
    pub(super) wanted: Option<&'a BTreeSet<String>>,
    /// Columns that are read in another way than their values compare as keys.
    pub(super) unlike_keys: &'a BTreeSet<String>,
}

impl Question<'_> {
    /// By key where the condition fixes the partition key of the table, else of an index that holds all that
    /// is wanted; else by scan.
    pub(super) fn access(&self) -> Access {
        let Some(condition) = self.condition else { return Access::Scan };
        let table = self.query(condition, &self.definition.key_schema, None);
        let query = table.or_else(|| {
            let mut indexes = self.definition.indexes().filter(|_| self.indexed);
            indexes.find_map(|(index, global)| self.query_index(condition, index, global))
        });
        query.map_or(Access::Scan, Access::Query)
    }

    fn query_index(&self, condition: &Condition, index: &Index, global: bool) -> Option<KeyQuery> {
        // An index does not hold records without its sort key: only a condition that they fail may use it.
        let sort = key_of(&index.key_schema, KeyRole::Range);
        let holds_all = sort.is_none_or(|sort| implies_presence(condition, sort));
        if !holds_all || !self.projects_all(index) {
            return None;
        }
        self.query(condition, &index.key_schema, Some((&index.index_name, global)))
    }

    fn projects_all(&self, index: &Index) -> bool {
        let keys = index.key_schema.iter().chain(&self.definition.key_schema);
        let mut held: BTreeSet<&str> = keys.map(|element| element.attribute_name.as_str()).collect();
        match index.projection.projection_type {
            ProjectionType::All => return true,
            ProjectionType::KeysOnly => {}
            ProjectionType::Include => {
                held.extend(index.projection.non_key_attributes.iter().map(String::as_str));
            }
        }
        self.wanted.is_some_and(|wanted| wanted.iter().all(|name| held.contains(name.as_str())))
    }

    fn query(
        &self,
        condition: &Condition,
        schema: &[KeyElement],
        index: Option<(&str, bool)>,
    ) -> Option<KeyQuery> {
        let partition = key_of(schema, KeyRole::Hash)?;
        let sort = key_of(schema, KeyRole::Range);
        if self.unlike_keys.contains(partition) {
            return None;
        }
        let kind = self.definition.kind_of(partition)?;
        let literals = equals(condition, partition)?;
        let mut keys = BTreeMap::new();
        for literal in literals {
            let value = KeyValue::of(literal, kind, KEY_BYTES)?;
            let bounds = sort.filter(|sort| !self.unlike_keys.contains(*sort)).and_then(|sort| {
                let bounds =
                    Bounds::of(condition, &(partition, literal), sort, self.definition.kind_of(sort)?);
                bounds.condition()
            });
            keys.insert(value, bounds);
        }
        (1..=MOST_KEYS).contains(&keys.len()).then(|| KeyQuery {
            index: index.map(|(name, _)| name.to_owned()),
            global: index.is_some_and(|(_, global)| global),
            partition: partition.to_owned(),
            sort: sort.map(str::to_owned),
            keys,
        })
    }
}

/// The values of which a column must have one for the condition to hold; `None`: others may do.
fn equals<'a>(condition: &'a Condition, column: &str) -> Option<Vec<&'a Literal>> {
    match condition {
        Condition::Compare(name, Comparison::Equal, literal) if name == column => Some(vec![literal]),
        Condition::All(conditions) => {
            conditions.iter().filter_map(|condition| equals(condition, column)).min_by_key(Vec::len)
        }
        Condition::Any(conditions) => {
            let each = conditions.iter().map(|condition| equals(condition, column));
            each.collect::<Option<Vec<_>>>().map(|all| all.into_iter().flatten().collect())
        }
        Condition::Compare(..) | Condition::StartsWith(..) | Condition::Present(_) => None,
    }
}

/// Whether no record without the column satisfies the condition.
fn implies_presence(condition: &Condition, column: &str) -> bool {
    match condition {
        Condition::All(conditions) => conditions.iter().any(|condition| implies_presence(condition, column)),
        Condition::Any(conditions) => conditions.iter().all(|condition| implies_presence(condition, column)),
        Condition::Compare(name, ..) | Condition::StartsWith(name, _) | Condition::Present(name) => {
            name == column
        }
    }
}

/// What the condition says of the sort key.
#[derive(Default)]
struct Bounds {
    equal: Option<KeyValue>,
    prefix: Option<String>,
    low: Option<(Comparison, KeyValue)>,
    high: Option<(Comparison, KeyValue)>,
}

impl Bounds {
    /// For records whose partition key has the value.
    fn of(condition: &Condition, partition: &(&str, &Literal), sort: &str, kind: ScalarKind) -> Self {
        let mut bounds = Self::default();
        bounds.add(condition, partition, sort, kind);
        bounds
    }

    fn add(&mut self, condition: &Condition, partition: &(&str, &Literal), sort: &str, kind: ScalarKind) {
        match condition {
            Condition::All(conditions) => {
                conditions.iter().for_each(|condition| self.add(condition, partition, sort, kind));
            }
            Condition::Any(conditions) => {
                // Branches for other partition keys say nothing of this one; what is left must be one.
                let is_open = |condition: &&Condition| {
                    equals(condition, partition.0).is_none_or(|values| values.contains(&partition.1))
                };
                let mut open = conditions.iter().filter(is_open);
                if let (Some(only), None) = (open.next(), open.next()) {
                    self.add(only, partition, sort, kind);
                }
            }
            Condition::Compare(name, comparison, literal) if name == sort => {
                let Some(value) = KeyValue::of(literal, kind, SORT_KEY_BYTES) else { return };
                match comparison {
                    Comparison::Equal => self.equal = Some(value),
                    Comparison::Less | Comparison::LessOrEqual => self.high = Some((*comparison, value)),
                    Comparison::Greater | Comparison::GreaterOrEqual => self.low = Some((*comparison, value)),
                }
            }
            Condition::StartsWith(name, prefix)
                if name == sort && kind == ScalarKind::S && (1..=SORT_KEY_BYTES).contains(&prefix.len()) =>
            {
                self.prefix = Some(prefix.clone());
            }
            Condition::Compare(..) | Condition::StartsWith(..) | Condition::Present(_) => {}
        }
    }

    /// The one of them that says most; records beyond the others are left out by the engine.
    fn condition(self) -> Option<SortCondition> {
        if let Some(value) = self.equal {
            return Some(SortCondition::Compare(Comparison::Equal, value));
        }
        if let Some(prefix) = self.prefix {
            return Some(SortCondition::StartsWith(prefix));
        }
        match (self.low, self.high) {
            (Some((_, low)), Some((_, high))) if low.is_at_most(&high) => {
                Some(SortCondition::Between(low, high))
            }
            (Some((comparison, value)), _) | (None, Some((comparison, value))) => {
                Some(SortCondition::Compare(comparison, value))
            }
            (None, None) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn definition() -> Definition {
        let element = |name: &str, role: &str| json!({"AttributeName": name, "KeyType": role});
        let index = |name: &str, keys: serde_json::Value, projection: serde_json::Value| json!({"IndexName": name, "KeySchema": keys, "Projection": projection});
        serde_json::from_value(json!({
            "AttributeDefinitions": [
                {"AttributeName": "pk", "AttributeType": "S"}, {"AttributeName": "sk", "AttributeType": "S"},
                {"AttributeName": "g", "AttributeType": "N"}, {"AttributeName": "h", "AttributeType": "S"}],
            "KeySchema": [element("pk", "HASH"), element("sk", "RANGE")],
            "GlobalSecondaryIndexes": [
                index("by_g", json!([element("g", "HASH"), element("h", "RANGE")]), json!({"ProjectionType": "ALL"})),
                index("by_h", json!([element("h", "HASH")]),
                    json!({"ProjectionType": "INCLUDE", "NonKeyAttributes": ["name"]}))]
        }))
        .unwrap()
    }

    fn equal(column: &str, text: &str) -> Condition {
        Condition::Compare(column.to_owned(), Comparison::Equal, Literal::Text(text.to_owned()))
    }

    fn compare(column: &str, comparison: Comparison, text: &str) -> Condition {
        Condition::Compare(column.to_owned(), comparison, Literal::Text(text.to_owned()))
    }

    fn starts(column: &str, prefix: &str) -> Condition {
        Condition::StartsWith(column.to_owned(), prefix.to_owned())
    }

    fn access(condition: &Condition, wanted: Option<&[&str]>) -> Access {
        let wanted = wanted.map(|wanted| wanted.iter().map(|name| (*name).to_owned()).collect());
        let definition = definition();
        let unlike_keys = BTreeSet::from(["sk_as_date".to_owned()]);
        let question = Question {
            definition: &definition,
            indexed: true,
            condition: Some(condition),
            wanted: wanted.as_ref(),
            unlike_keys: &unlike_keys,
        };
        question.access()
    }

    fn shown(access: &Access) -> Vec<String> {
        let Access::Query(query) = access else { return vec!["scan".to_owned()] };
        let place = query.index.as_deref().unwrap_or("table");
        let texts = query.keys.keys().filter_map(|key| Some(query.expression(key)?.text));
        texts.map(|text| format!("{place}: {text}")).collect()
    }

    #[test]
    fn a_fixed_partition_key_is_a_query() {
        let all = |conditions: &[Condition]| Condition::All(conditions.to_vec());
        for (condition, expected) in [
            (equal("pk", "A"), "table: #kp = :kp"),
            (all(&[equal("pk", "A"), starts("sk", "X#")]), "table: #kp = :kp AND begins_with(#ks, :ks)"),
            (
                all(&[
                    equal("pk", "A"),
                    compare("sk", Comparison::Greater, "b"),
                    compare("sk", Comparison::LessOrEqual, "c"),
                ]),
                "table: #kp = :kp AND #ks BETWEEN :ks AND :kt",
            ),
            (
                all(&[
                    equal("pk", "A"),
                    compare("sk", Comparison::Greater, "c"),
                    compare("sk", Comparison::Less, "b"),
                ]),
                "table: #kp = :kp AND #ks > :ks",
            ),
            (starts("pk", "A"), "scan"),
            (equal("pk", ""), "scan"),
            (Condition::Any(vec![equal("pk", "A"), equal("sk", "B")]), "scan"),
        ] {
            assert_eq!(shown(&access(&condition, None)), [expected], "{condition:?}");
        }
    }

    #[test]
    fn each_of_some_partition_keys_has_its_own_condition() {
        let flow = |pk: &str, prefix: &str| Condition::All(vec![equal("pk", pk), starts("sk", prefix)]);
        let condition = Condition::Any(vec![flow("A", "1"), flow("B", "2"), equal("pk", "C")]);
        let Access::Query(query) = access(&condition, None) else { panic!("a query is expected") };
        let sort: Vec<_> = query.keys.values().cloned().collect();
        let starts = |prefix: &str| Some(SortCondition::StartsWith(prefix.to_owned()));
        assert_eq!(sort, [starts("1"), starts("2"), None]);
        let two = Condition::Any(vec![flow("A", "1"), flow("A", "2")]);
        let Access::Query(query) = access(&two, None) else { panic!("a query is expected") };
        assert_eq!(query.keys.into_values().collect::<Vec<_>>(), [None], "two ranges are no one range");
    }

    #[test]
    fn an_index_serves_only_where_it_holds_every_record_and_attribute() {
        let g = Condition::Compare("g".to_owned(), Comparison::Equal, Literal::Number("7.0".to_owned()));
        assert_eq!(access(&g, None), Access::Scan, "records without h are not in the index");
        let both = Condition::All(vec![g, Condition::Present("h".to_owned())]);
        assert_eq!(shown(&access(&both, None)), ["by_g: #kp = :kp"]);
        let h = equal("h", "x");
        assert_eq!(access(&h, None), Access::Scan);
        assert_eq!(access(&h, Some(&["name", "other"])), Access::Scan);
        assert_eq!(shown(&access(&h, Some(&["name", "pk"]))), ["by_h: #kp = :kp"]);
    }
}
