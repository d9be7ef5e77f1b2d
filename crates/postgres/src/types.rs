//! The type table: what a PostgreSQL type is in Arrow.
//!
//! | PostgreSQL | Arrow | note |
//! | --- | --- | --- |
//! | boolean | Boolean | |
//! | smallint, integer, bigint | Int16, Int32, Int64 | |
//! | oid | Int64 | it is unsigned |
//! | real, double precision | Float32, Float64 | bit for bit |
//! | numeric | Utf8, [`Logical::Number`] | exact text with its scale, also NaN, Infinity, -Infinity |
//! | text, varchar, bpchar, name, citext, enums | Utf8 | bpchar with its padding |
//! | "char" | Utf8 | as PostgreSQL writes it: `\ooo` for bytes above 127, empty for zero |
//! | bytea | Binary | |
//! | uuid | Utf8, [`Logical::Uuid`] | |
//! | json, jsonb | Utf8, [`Logical::Json`] | every digit |
//! | date | Date32 | `infinity` is `i32::MAX`, `-infinity` is `i32::MIN` |
//! | time | Time64(µs) | 24:00:00 is 86,400,000,000 |
//! | timestamp | Timestamp(µs) | `infinity` is `i64::MAX`, `-infinity` is `i64::MIN` |
//! | timestamptz | Timestamp(µs, UTC) | as timestamp |
//! | array of one dimension | List | |
//! | domain | as its base type | |
//!
//! What Arrow's counts do not hold (timestamps after the year 294246), arrays of more dimensions or with
//! another lower bound than 1, and text that is not UTF-8 make the row unreadable, not the column.

use arrow::datatypes::{DataType, Field, TimeUnit};
use std::sync::Arc;
use whimbrel_model::Logical;
use whimbrel_model::logical::with_source_type;

/// How a value that is no array is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scalar {
    Bool,
    Int2,
    Int4,
    Int8,
    Oid,
    Float4,
    Float8,
    Numeric,
    Text,
    Char,
    Bytea,
    Uuid,
    Json,
    Jsonb,
    Date,
    Time,
    Timestamp,
    TimestampTz,
}

/// How a column is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ColumnType {
    Scalar(Scalar),
    List(Scalar),
}

/// Built-in types by oid; these oids never change.
const BUILT_IN: [(u32, Scalar); 21] = [
    (16, Scalar::Bool),
    (17, Scalar::Bytea),
    (18, Scalar::Char),
    (19, Scalar::Text),
    (20, Scalar::Int8),
    (21, Scalar::Int2),
    (23, Scalar::Int4),
    (25, Scalar::Text),
    (26, Scalar::Oid),
    (114, Scalar::Json),
    (700, Scalar::Float4),
    (701, Scalar::Float8),
    (1042, Scalar::Text),
    (1043, Scalar::Text),
    (1082, Scalar::Date),
    (1083, Scalar::Time),
    (1114, Scalar::Timestamp),
    (1184, Scalar::TimestampTz),
    (1700, Scalar::Numeric),
    (2950, Scalar::Uuid),
    (3802, Scalar::Jsonb),
];

/// A type as the catalog has it, after domains have been followed to their base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CatalogType {
    pub oid: u32,
    /// Its bare name.
    pub name: String,
    /// `pg_type.typtype`: `b` base, `e` enum, `c` composite, …
    pub kind: char,
}

/// The scalar that a type is decoded as; `None`: not yet.
pub(crate) fn scalar_of(catalog_type: &CatalogType) -> Option<Scalar> {
    if let Some((_, scalar)) = BUILT_IN.iter().find(|(oid, _)| *oid == catalog_type.oid) {
        return Some(*scalar);
    }
    // An enum's binary form is its label, citext's is text; both have oids of their own in each database.
    (catalog_type.kind == 'e' || catalog_type.name == "citext").then_some(Scalar::Text)
}

impl Scalar {
    /// The Arrow type that holds it.
    pub(crate) fn data_type(self) -> DataType {
        match self {
            Self::Bool => DataType::Boolean,
            Self::Int2 => DataType::Int16,
            Self::Int4 => DataType::Int32,
            Self::Int8 | Self::Oid => DataType::Int64,
            Self::Float4 => DataType::Float32,
            Self::Float8 => DataType::Float64,
            Self::Numeric | Self::Text | Self::Char | Self::Uuid | Self::Json | Self::Jsonb => DataType::Utf8,
            Self::Bytea => DataType::Binary,
            Self::Date => DataType::Date32,
            Self::Time => DataType::Time64(TimeUnit::Microsecond),
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        }
    }

    fn field(self, name: &str, nullable: bool) -> Field {
        match self {
            Self::Numeric => Logical::Number.field(name, nullable),
            Self::Uuid => Logical::Uuid.field(name, nullable),
            Self::Json | Self::Jsonb => Logical::Json.field(name, nullable),
            _ => Field::new(name, self.data_type(), nullable),
        }
    }
}

impl ColumnType {
    /// The field of a column; `source_type` is the type's name in PostgreSQL.
    pub(crate) fn field(self, name: &str, nullable: bool, source_type: &str) -> Field {
        let field = match self {
            Self::Scalar(scalar) => scalar.field(name, nullable),
            Self::List(element) => Field::new(name, DataType::List(Self::element_field(element)), nullable),
        };
        with_source_type(field, source_type)
    }

    /// Whether a well-formed value may have no place in Arrow. It is NULL in its batch then, so such a column
    /// is nullable whatever the catalog says. `text_is_utf8`: the database's encoding is not SQL_ASCII.
    pub(crate) fn may_be_unreadable(self, text_is_utf8: bool) -> bool {
        match self {
            Self::List(_) => true,
            Self::Scalar(Scalar::Timestamp | Scalar::TimestampTz | Scalar::Date) => true,
            Self::Scalar(Scalar::Text | Scalar::Json | Scalar::Jsonb) => !text_is_utf8,
            Self::Scalar(_) => false,
        }
    }

    /// The field of a list's elements.
    pub(crate) fn element_field(element: Scalar) -> Arc<Field> {
        Arc::new(element.field("item", true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_oid_stands_once_in_the_table() {
        let oids: std::collections::BTreeSet<_> = BUILT_IN.iter().map(|(oid, _)| oid).collect();
        assert_eq!(oids.len(), BUILT_IN.len());
    }

    #[test]
    fn names_decide_only_where_oids_cannot() {
        let of = |oid, name: &str, kind| scalar_of(&CatalogType { oid, name: name.to_owned(), kind });
        assert_eq!(of(16_400, "citext", 'b'), Some(Scalar::Text));
        assert_eq!(of(16_401, "mood", 'e'), Some(Scalar::Text));
        assert_eq!(of(16_402, "bool", 'c'), None);
        assert_eq!(of(1186, "interval", 'b'), None);
    }
}
