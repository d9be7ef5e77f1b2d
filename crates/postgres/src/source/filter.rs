//! What of a condition PostgreSQL is told, so that it leaves records out before they travel.
//!
//! It is told only what it takes as whimbrel does: text by its bytes, NULL equal to nothing. What it lets through
//! beyond the condition is left out further on; what it leaves out nobody would have seen.

use crate::catalog::Column;
use crate::template::{identifier, literal};
use crate::types::{ColumnType, Scalar};
use whimbrel_store::{Comparison, Condition, Literal};

/// The types by oid whose text is what Arrow holds, padding and case included.
const TEXT: [u32; 2] = [25, 1043];

/// Conditions over columns of a relation.
pub(crate) struct Filter<'a> {
    pub columns: &'a [Column],
    /// What the relation is called.
    pub alias: &'a str,
    /// Whether the order of texts by bytes is that of UTF-8.
    pub is_utf8: bool,
    /// Whether the server knows `starts_with`.
    pub knows_starts: bool,
}

impl Filter<'_> {
    /// An SQL condition that every record within the condition satisfies; `None`: there is none but TRUE.
    pub(crate) fn sql(&self, condition: &Condition) -> Option<String> {
        match condition {
            Condition::All(all) => {
                let known: Vec<_> = all.iter().filter_map(|one| self.sql(one)).collect();
                (!known.is_empty()).then(|| format!("({})", known.join(" AND ")))
            }
            Condition::Any(any) => {
                let all = any.iter().map(|one| self.sql(one)).collect::<Option<Vec<_>>>()?;
                (!all.is_empty()).then(|| format!("({})", all.join(" OR ")))
            }
            Condition::Compare(name, comparison, value) => self.compare(name, *comparison, value),
            Condition::StartsWith(name, start) if self.knows_starts => {
                let column = self.text(name)?;
                Some(format!(
                    "pg_catalog.starts_with({column} COLLATE pg_catalog.\"C\", {})",
                    literal(start)?
                ))
            }
            Condition::StartsWith(..) => None,
            Condition::Present(name) => Some(format!("{} IS NOT NULL", self.place(self.column(name)?))),
        }
    }

    fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    fn place(&self, column: &Column) -> String {
        format!("{}.{}", self.alias, identifier(&column.name))
    }

    /// A column whose texts are compared as they are.
    fn text(&self, name: &str) -> Option<String> {
        let column = self.column(name)?;
        let is_text = column.column_type == ColumnType::Scalar(Scalar::Text)
            && TEXT.contains(&column.type_oid)
            && !column.read_as.is_cast();
        is_text.then(|| self.place(column))
    }

    fn compare(&self, name: &str, comparison: Comparison, value: &Literal) -> Option<String> {
        let operator = match comparison {
            Comparison::Equal => "=",
            Comparison::Less => "<",
            Comparison::LessOrEqual => "<=",
            Comparison::Greater => ">",
            Comparison::GreaterOrEqual => ">=",
        };
        match value {
            // Texts of equal bytes are equal in every collation, and an index can be used.
            Literal::Text(text) if comparison == Comparison::Equal => {
                Some(format!("{} = {}", self.text(name)?, literal(text)?))
            }
            Literal::Text(text) if self.is_utf8 => {
                let column = self.text(name)?;
                Some(format!("{column} COLLATE pg_catalog.\"C\" {operator} {}", literal(text)?))
            }
            Literal::Text(_) => None,
            Literal::Number(number) => {
                let column = self.column(name)?;
                let is_whole = matches!(
                    column.column_type,
                    ColumnType::Scalar(Scalar::Int2 | Scalar::Int4 | Scalar::Int8)
                );
                let number: i64 = number.parse().ok().filter(|_| is_whole)?;
                Some(format!("{} {operator} '{number}'::pg_catalog.int8", self.place(column)))
            }
            Literal::Boolean(value) => {
                let column = self.column(name)?;
                let is_boolean = column.column_type == ColumnType::Scalar(Scalar::Bool);
                let is_equal = comparison == Comparison::Equal;
                (is_boolean && is_equal).then(|| format!("{} = {value}", self.place(column)))
            }
        }
    }
}
