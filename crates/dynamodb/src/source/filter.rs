//! What of a condition DynamoDB evaluates while it reads.
//!
//! A filter never leaves out a record that the engine would take. A column can be read from attributes of
//! several types, text from numbers for one, and DynamoDB compares only within a type: so an attribute of
//! another type than the one compared always passes, and the engine decides.

use super::access::{Expression, sign};
use crate::limits;
use crate::types::read::Reading;
use aws_sdk_dynamodb::types::AttributeValue;
use std::collections::BTreeSet;
use whimbrel_store::{Comparison, Condition, Literal};

/// "Service, account, and table quotas": the longest expression, and the most operators in one.
const EXPRESSION_BYTES: usize = 4096;
const OPERATORS: usize = 300;

/// Builds the filter of a read.
pub(super) struct Filter<'a, F> {
    expression: Expression,
    operators: usize,
    /// How a column is read; `None` where nothing may be said of it: it is a key of the query itself.
    reading: &'a F,
    /// The columns that the filter looks at.
    columns: BTreeSet<String>,
}

impl<'a, F: Fn(&str) -> Option<Reading>> Filter<'a, F> {
    /// The filter with the columns that it looks at; `None` where there is nothing that DynamoDB could
    /// evaluate.
    pub(super) fn of(condition: &Condition, reading: &'a F) -> Option<(Expression, BTreeSet<String>)> {
        let expression = Expression::default();
        let mut filter = Self { expression, operators: 0, reading, columns: BTreeSet::new() };
        let text = filter.text(condition)?;
        let fits = text.len() <= EXPRESSION_BYTES && filter.operators <= OPERATORS;
        fits.then(|| (Expression { text, ..filter.expression }, filter.columns))
    }

    /// `None`: nothing can be said, every record passes.
    fn text(&mut self, condition: &Condition) -> Option<String> {
        match condition {
            Condition::All(conditions) => {
                let texts: Vec<_> = conditions.iter().filter_map(|one| self.text(one)).collect();
                self.joined(&texts, " AND ")
            }
            Condition::Any(conditions) => {
                // A name or value that no part of the expression uses is an error.
                let before = (self.expression.clone(), self.operators, self.columns.clone());
                let texts: Option<Vec<_>> = conditions.iter().map(|one| self.text(one)).collect();
                if texts.is_none() {
                    (self.expression, self.operators, self.columns) = before;
                }
                self.joined(&texts?, " OR ")
            }
            Condition::Present(column) => {
                (self.reading)(column).filter(|reading| *reading != Reading::Item)?;
                let name = self.name(column);
                self.operators += 1;
                Some(format!("attribute_exists({name})"))
            }
            Condition::StartsWith(column, prefix) => {
                let reading = (self.reading)(column)?;
                (!prefix.is_empty()).then_some(())?;
                let tag = compared_tag(reading, &Literal::Text(String::new()))?;
                let (name, value) = (self.name(column), self.value(AttributeValue::S(prefix.clone())));
                Some(self.guarded(reading, &name, tag, &format!("begins_with({name}, {value})")))
            }
            Condition::Compare(column, comparison, literal) => {
                let reading = (self.reading)(column)?;
                let tag = compared_tag(reading, literal)?;
                let value = match literal {
                    Literal::Text(text) if text.is_empty() => return None,
                    Literal::Text(text) => AttributeValue::S(text.clone()),
                    Literal::Number(text) => AttributeValue::N(limits::number(text).ok()?),
                    Literal::Boolean(_) if *comparison != Comparison::Equal => return None,
                    Literal::Boolean(value) => AttributeValue::Bool(*value),
                };
                let (name, value) = (self.name(column), self.value(value));
                Some(self.guarded(reading, &name, tag, &format!("{name} {} {value}", sign(*comparison))))
            }
        }
    }

    /// The test, passed also by attributes of another type than the one compared.
    fn guarded(&mut self, reading: Reading, name: &str, tag: &str, test: &str) -> String {
        self.operators += 1;
        if reading == Reading::KeyText {
            return test.to_owned();
        }
        self.operators += 4;
        let tag = self.value(AttributeValue::S(tag.to_owned()));
        format!("({test} OR (attribute_exists({name}) AND NOT attribute_type({name}, {tag})))")
    }

    fn joined(&mut self, texts: &[String], word: &str) -> Option<String> {
        self.operators += texts.len().saturating_sub(1);
        match texts {
            [] => None,
            [one] => Some(one.clone()),
            several => Some(format!("({})", several.join(word))),
        }
    }

    fn name(&mut self, column: &str) -> String {
        self.columns.insert(column.to_owned());
        let names = &mut self.expression.names;
        if let Some((placeholder, _)) = names.iter().find(|(_, name)| *name == column) {
            return placeholder.clone();
        }
        let placeholder = format!("#f{}", names.len());
        names.insert(placeholder.clone(), column.to_owned());
        placeholder
    }

    fn value(&mut self, value: AttributeValue) -> String {
        let values = &mut self.expression.values;
        if let Some((placeholder, _)) = values.iter().find(|(_, there)| **there == value) {
            return placeholder.clone();
        }
        let placeholder = format!(":f{}", values.len());
        values.insert(placeholder.clone(), value);
        placeholder
    }
}

/// The type of attribute within which DynamoDB compares as the engine compares the column; `None` where there
/// is none.
fn compared_tag(reading: Reading, literal: &Literal) -> Option<&'static str> {
    match (reading, literal) {
        (Reading::Text | Reading::KeyText, Literal::Text(_)) => Some("S"),
        (Reading::Number, Literal::Number(_)) => Some("N"),
        (Reading::Boolean, Literal::Boolean(_)) => Some("BOOL"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(column: &str) -> Option<Reading> {
        match column {
            "pk" => Some(Reading::KeyText),
            "n" => Some(Reading::Number),
            "flag" => Some(Reading::Boolean),
            "at" => Some(Reading::Timestamp),
            "queried" => None,
            _ => Some(Reading::Text),
        }
    }

    fn text(condition: &Condition) -> Option<String> {
        Filter::of(condition, &reading).map(|(expression, _)| expression.text)
    }

    fn compare(column: &str, literal: Literal) -> Condition {
        Condition::Compare(column.to_owned(), Comparison::Equal, literal)
    }

    fn equal(column: &str) -> Condition {
        compare(column, Literal::Text("5".to_owned()))
    }

    #[test]
    fn another_type_passes() {
        let guarded = |test: &str| {
            Some(format!("({test} OR (attribute_exists(#f0) AND NOT attribute_type(#f0, :f1)))"))
        };
        assert_eq!(text(&equal("a")), guarded("#f0 = :f0"));
        assert_eq!(text(&compare("n", Literal::Number("5".to_owned()))), guarded("#f0 = :f0"));
        assert_eq!(text(&compare("flag", Literal::Boolean(true))), guarded("#f0 = :f0"));
        let starts = Condition::StartsWith("a".to_owned(), "x".to_owned());
        assert_eq!(text(&starts), guarded("begins_with(#f0, :f0)"));
        assert_eq!(text(&equal("pk")).as_deref(), Some("#f0 = :f0"));
        assert_eq!(text(&Condition::Present("a".to_owned())).as_deref(), Some("attribute_exists(#f0)"));
    }

    #[test]
    fn what_cannot_be_said_is_left_to_the_engine() {
        assert_eq!(text(&equal("n")), None);
        assert_eq!(text(&equal("at")), None);
        assert_eq!(text(&equal("queried")), None);
        assert_eq!(text(&Condition::Any(vec![equal("pk"), equal("n")])), None);
        let half = Condition::Any(vec![equal("a"), equal("n")]);
        let all = Condition::All(vec![half, equal("pk"), equal("n")]);
        let (expression, columns) = Filter::of(&all, &reading).unwrap();
        assert_eq!(expression.text, "#f0 = :f0");
        assert_eq!((expression.names.len(), expression.values.len(), columns.len()), (1, 1, 1));
        assert_eq!(text(&Condition::All(Vec::new())), None);
        let many = (0..200).map(|number| equal(&format!("a{number}"))).collect();
        assert_eq!(text(&Condition::All(many)), None, "beyond DynamoDB's limit");
    }
}
