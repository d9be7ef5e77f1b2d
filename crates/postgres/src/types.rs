//! The type table: what a PostgreSQL type is in Arrow.
//!
//! | PostgreSQL | Arrow | note |
//! | --- | --- | --- |
//! | boolean | Boolean | |
//! | smallint, integer, bigint | Int16, Int32, Int64 | |
//! | oid | Int64 | it is unsigned |
//! | real, double precision | Float32, Float64 | bit for bit |
//! | numeric | Utf8, [`Logical::Number`] | exact text with its scale, also NaN, Infinity, -Infinity |
//! | money | Utf8, [`Logical::Number`] | a decimal with as many digits as the database's `lc_monetary` has; a note says how many |
//! | text, varchar, bpchar, name, citext, enums | Utf8 | bpchar with its padding |
//! | "char" | Utf8 | as PostgreSQL writes it: `\ooo` for bytes above 127, empty for zero |
//! | bytea | Binary | |
//! | uuid | Utf8, [`Logical::Uuid`] | |
//! | json, jsonb | Utf8, [`Logical::Json`] | every digit |
//! | date | Date32 | `infinity` is `i32::MAX`, `-infinity` is `i32::MIN` |
//! | time | Time64(µs) | 24:00:00 is 86,400,000,000 |
//! | timestamp | Timestamp(µs) | `infinity` is `i64::MAX`, `-infinity` is `i64::MIN` |
//! | timestamptz | Timestamp(µs, UTC) | as timestamp |
//! | vector, halfvec | List(Float32) | bit for bit; a half-precision float is a single-precision one too |
//! | array of a type above | List | declared with one dimension, or none that is known |
//! | array of another type | List(Utf8) | |
//! | array declared with more dimensions | Utf8 | `{{1,2},{3,4}}` |
//! | domain | as its base type | |
//! | all others: interval, timetz, inet, cidr, macaddr, bit, xml, ranges, geometric types, composites, hstore, sparsevec, tsvector, pg_lsn, reg*, … | Utf8 | PostgreSQL's own text, the type's name recorded |
//!
//! What Arrow's counts do not hold (timestamps after the year 294246), a value of more dimensions or with
//! another lower bound than 1 in a List column, and text that is not UTF-8 make the row unreadable, not the
//! column. The spec's `columns: { c: text }` reads any column as PostgreSQL's own text instead.

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
    /// Text that the spec declares to be JSON: whether it is shows value by value.
    TextAsJson,
    Jsonb,
    Date,
    Time,
    Timestamp,
    TimestampTz,
    /// A bit string; it is read as text, this is the form in which it is sent.
    Bits,
    /// A sparse vector, likewise.
    SparseVector,
    /// A vector that is an element of an array, likewise.
    VectorText(Precision),
}

/// How a column is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ColumnType {
    Scalar(Scalar),
    List(Scalar),
    /// A list of floats without NULL, in the binary form of pgvector.
    Vector(Precision),
}

/// The floats of a vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precision {
    Single,
    Half,
}

/// What stands around a column in the SELECT that reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Selected {
    function: &'static str,
    cast: &'static str,
}

impl Selected {
    /// The column itself.
    pub(crate) const PLAIN: Self = Self::cast("");
    /// As text. Nearly always what PostgreSQL shows of the value; where it is not, another form is taken.
    pub(crate) const TEXT: Self = Self::cast("::pg_catalog.text");
    const TEXT_LIST: Self = Self::cast("::pg_catalog.text[]");
    /// The cast of an inet to text would add `/32` to a single address.
    const INET: Self = Self { function: "pg_catalog.abbrev", cast: "" };
    const INET_LIST: Self = Self::cast("::pg_catalog.text::pg_catalog.text[]");
    const NUMBER: Self = Self::cast("::pg_catalog.numeric");
    const NUMBER_LIST: Self = Self::cast("::pg_catalog.numeric[]");
    const NUMBER_TEXT: Self = Self::cast("::pg_catalog.numeric::pg_catalog.text");
    const NUMBER_LIST_TEXT: Self = Self::cast("::pg_catalog.numeric[]::pg_catalog.text");
    const JSON: Self = Self { function: "pg_catalog.to_json", cast: "" };

    const fn cast(cast: &'static str) -> Self {
        Self { function: "", cast }
    }

    /// The expression over a quoted column.
    pub(crate) fn sql(self, column: &str) -> String {
        match self.function {
            "" => format!("{column}{}", self.cast),
            function => format!("{function}({column}){}", self.cast),
        }
    }
}

/// How a column is asked for and decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReadAs {
    pub column_type: ColumnType,
    pub selected: Selected,
}

impl ReadAs {
    const fn new(column_type: ColumnType, selected: Selected) -> Self {
        Self { column_type, selected }
    }

    const fn plain(scalar: Scalar) -> Self {
        Self::new(ColumnType::Scalar(scalar), Selected::PLAIN)
    }

    const TEXT: Self = Self::new(ColumnType::Scalar(Scalar::Text), Selected::TEXT);

    /// Whether the field of a row is the value's text in a form that PostgreSQL reads back.
    pub(crate) fn is_key_text(self) -> bool {
        let ColumnType::Scalar(scalar) = self.column_type else { return false };
        let is_plain = matches!(
            scalar,
            Scalar::Int2 | Scalar::Int4 | Scalar::Int8 | Scalar::Oid | Scalar::Uuid | Scalar::Text
        );
        (self.selected == Selected::PLAIN && is_plain) || self.selected == Selected::TEXT
    }
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

/// Types that are read in another form than their own.
const INET: u32 = 869;
const MONEY: u32 = 790;

/// A type as the catalog has it, after domains have been followed to their base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CatalogType {
    pub oid: u32,
    /// `pg_type.typtype`: `b` base, `e` enum, `c` composite, …
    pub kind: char,
    /// The function that makes its binary form. Types of extensions have oids of their own in each database;
    /// this name tells them from another type that only bears theirs.
    pub send: String,
}

impl CatalogType {
    pub(crate) fn is_money(&self) -> bool {
        self.oid == MONEY
    }

    /// How a value that is no array is read.
    pub(crate) fn read_as(&self) -> ReadAs {
        if let Some((_, scalar)) = BUILT_IN.iter().find(|(oid, _)| *oid == self.oid) {
            return ReadAs::plain(*scalar);
        }
        match (self.oid, self.kind, self.send.as_str()) {
            (INET, ..) => ReadAs::new(ColumnType::Scalar(Scalar::Text), Selected::INET),
            (MONEY, ..) => ReadAs::new(ColumnType::Scalar(Scalar::Numeric), Selected::NUMBER),
            // An enum's binary form is its label, citext's is text.
            (_, 'e', _) | (_, 'b', "citextsend") => ReadAs::plain(Scalar::Text),
            (_, 'b', "vector_send") => ReadAs::new(ColumnType::Vector(Precision::Single), Selected::PLAIN),
            (_, 'b', "halfvec_send") => ReadAs::new(ColumnType::Vector(Precision::Half), Selected::PLAIN),
            _ => ReadAs::TEXT,
        }
    }

    /// How an array of it is read.
    pub(crate) fn array_read_as(&self) -> ReadAs {
        let list = |scalar, selected| ReadAs::new(ColumnType::List(scalar), selected);
        let element = self.read_as();
        match (element.column_type, element.selected) {
            (ColumnType::Scalar(scalar), Selected::PLAIN) => list(scalar, Selected::PLAIN),
            (ColumnType::Scalar(scalar), Selected::NUMBER) => list(scalar, Selected::NUMBER_LIST),
            (_, Selected::INET) => list(Scalar::Text, Selected::INET_LIST),
            _ => list(Scalar::Text, Selected::TEXT_LIST),
        }
    }

    /// Whether PostgreSQL makes a JSON document of it rather than a JSON string.
    fn is_json_like(&self) -> bool {
        self.kind == 'c' || self.send == "hstore_send" || self.send == "record_send"
    }
}

impl ReadAs {
    /// What a quoted column is ordered by where all differences count, also those between equal values.
    pub(crate) fn tie(self, column: &str) -> String {
        match self.column_type {
            ColumnType::Scalar(
                Scalar::Bool
                | Scalar::Int2
                | Scalar::Int4
                | Scalar::Int8
                | Scalar::Oid
                | Scalar::Bytea
                | Scalar::Uuid
                | Scalar::Date
                | Scalar::Time
                | Scalar::Timestamp
                | Scalar::TimestampTz,
            ) if self.selected == Selected::PLAIN => column.to_owned(),
            _ => format!("{column}::pg_catalog.text COLLATE pg_catalog.\"C\""),
        }
    }

    /// Whether the server is asked for another type than the column's own.
    pub(crate) fn is_cast(self) -> bool {
        self.selected != Selected::PLAIN
    }

    /// The binary form that is sent for a column.
    pub(crate) const fn sent(column_type: ColumnType) -> Self {
        Self::new(column_type, Selected::PLAIN)
    }

    /// An array that no list can hold.
    pub(crate) const fn whole_text() -> Self {
        Self::TEXT
    }

    /// What the spec's word for a column makes of it; `of` is its type, or that of its elements. `Err`: the
    /// words that this column takes.
    pub(crate) fn declared(
        self,
        word: &str,
        of: &CatalogType,
        is_array: bool,
    ) -> Result<Self, Vec<&'static str>> {
        let mut offers = vec![("text", self.as_text(of, is_array))];
        match self.column_type {
            ColumnType::Scalar(Scalar::Json | Scalar::Jsonb) => offers.push(("json", self)),
            _ if is_array || of.is_json_like() => {
                offers.push(("json", Self::new(ColumnType::Scalar(Scalar::Json), Selected::JSON)));
            }
            ColumnType::Scalar(Scalar::Text) => {
                offers.push(("json", Self::new(ColumnType::Scalar(Scalar::TextAsJson), self.selected)));
            }
            _ => {}
        }
        let own = match self.column_type {
            ColumnType::Scalar(Scalar::Bool) => Some("boolean"),
            ColumnType::Scalar(Scalar::Int2 | Scalar::Int4 | Scalar::Int8 | Scalar::Oid) => Some("integer"),
            ColumnType::Scalar(Scalar::Numeric) => Some("number"),
            ColumnType::Scalar(Scalar::Float4 | Scalar::Float8) => Some("float"),
            ColumnType::Scalar(Scalar::Timestamp | Scalar::TimestampTz) => Some("timestamp"),
            ColumnType::Scalar(Scalar::Date) => Some("date"),
            ColumnType::Scalar(Scalar::Uuid) => Some("uuid"),
            ColumnType::Scalar(Scalar::Bytea) => Some("binary"),
            _ => None,
        };
        offers.extend(own.map(|own| (own, self)));
        if own == Some("integer") {
            // Every whole number is an exact decimal number too.
            offers.push(("number", Self::new(ColumnType::Scalar(Scalar::Numeric), Selected::NUMBER)));
        }
        let found = offers.iter().find(|(offer, _)| *offer == word).map(|(_, read_as)| *read_as);
        found.ok_or_else(|| offers.into_iter().map(|(offer, _)| offer).collect())
    }

    fn as_text(self, of: &CatalogType, is_array: bool) -> Self {
        match self.column_type {
            // The cast would take the padding of a char(n).
            ColumnType::Scalar(Scalar::Text | Scalar::Char) => self,
            _ if of.is_money() => {
                let selected = if is_array { Selected::NUMBER_LIST_TEXT } else { Selected::NUMBER_TEXT };
                Self::new(ColumnType::Scalar(Scalar::Text), selected)
            }
            _ => Self::TEXT,
        }
    }
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
            Self::Numeric
            | Self::Text
            | Self::Char
            | Self::Uuid
            | Self::Json
            | Self::TextAsJson
            | Self::Jsonb
            | Self::Bits
            | Self::SparseVector
            | Self::VectorText(_) => DataType::Utf8,
            Self::Bytea => DataType::Binary,
            Self::Date => DataType::Date32,
            Self::Time => DataType::Time64(TimeUnit::Microsecond),
            Self::Timestamp => DataType::Timestamp(TimeUnit::Microsecond, None),
            Self::TimestampTz => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        }
    }

    /// As [`ColumnType::may_be_unreadable`].
    pub(crate) fn may_be_unreadable(self, text_is_utf8: bool) -> bool {
        match self {
            Self::Timestamp | Self::TimestampTz | Self::Date | Self::TextAsJson => true,
            Self::Text | Self::Json | Self::Jsonb => !text_is_utf8,
            _ => false,
        }
    }

    fn field(self, name: &str, nullable: bool) -> Field {
        match self {
            Self::Numeric => Logical::Number.field(name, nullable),
            Self::Uuid => Logical::Uuid.field(name, nullable),
            Self::Json | Self::TextAsJson | Self::Jsonb => Logical::Json.field(name, nullable),
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
            Self::Vector(_) => {
                Field::new(name, DataType::List(Self::element_field(Scalar::Float4)), nullable)
            }
        };
        with_source_type(field, source_type)
    }

    /// Whether a well-formed value may have no place in Arrow. It is NULL in its batch then, so such a column
    /// is nullable whatever the catalog says. `text_is_utf8`: the database's encoding is not SQL_ASCII.
    pub(crate) fn may_be_unreadable(self, text_is_utf8: bool) -> bool {
        match self {
            Self::List(_) => true,
            Self::Vector(_) => false,
            Self::Scalar(scalar) => scalar.may_be_unreadable(text_is_utf8),
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

    fn of(oid: u32, kind: char, send: &str) -> CatalogType {
        CatalogType { oid, kind, send: send.to_owned() }
    }

    #[test]
    fn the_way_to_the_binary_form_decides_only_where_oids_cannot() {
        let plain = |scalar| ReadAs::plain(scalar);
        assert_eq!(of(16_400, 'b', "citextsend").read_as(), plain(Scalar::Text));
        assert_eq!(of(16_401, 'e', "enum_send").read_as(), plain(Scalar::Text));
        assert_eq!(of(16_402, 'c', "record_send").read_as(), ReadAs::TEXT);
        assert_eq!(
            of(16_403, 'b', "vector_send").read_as().column_type,
            ColumnType::Vector(Precision::Single)
        );
        assert_eq!(of(16_404, 'c', "vector_send").read_as(), ReadAs::TEXT, "somebody's own composite type");
        assert_eq!(of(1186, 'b', "interval_send").read_as(), ReadAs::TEXT);
        assert_eq!(of(23, 'b', "int4send").array_read_as().selected, Selected::PLAIN);
        assert_eq!(of(INET, 'b', "inet_send").array_read_as().selected, Selected::INET_LIST);
        assert_eq!(
            of(MONEY, 'b', "cash_send").array_read_as().column_type,
            ColumnType::List(Scalar::Numeric)
        );
    }

    #[test]
    fn a_declared_type_is_taken_or_answered_with_those_that_are() {
        let declared = |of: &CatalogType, word| of.read_as().declared(word, of, false);
        let int = of(23, 'b', "int4send");
        assert_eq!(declared(&int, "text"), Ok(ReadAs::TEXT));
        assert_eq!(declared(&int, "integer"), Ok(ReadAs::plain(Scalar::Int4)));
        assert_eq!(declared(&int, "boolean"), Err(vec!["text", "integer", "number"]));
        let text = of(25, 'b', "textsend");
        assert_eq!(declared(&text, "json"), Ok(ReadAs::plain(Scalar::TextAsJson)));
        assert_eq!(declared(&text, "text"), Ok(ReadAs::plain(Scalar::Text)));
        assert_eq!(declared(&of(3802, 'b', "jsonb_send"), "json"), Ok(ReadAs::plain(Scalar::Jsonb)));
        assert_eq!(declared(&of(16_402, 'c', "record_send"), "json").map(|r| r.selected), Ok(Selected::JSON));
        assert_eq!(
            declared(&of(MONEY, 'b', "cash_send"), "text").map(|r| r.selected),
            Ok(Selected::NUMBER_TEXT)
        );
        let list = int.array_read_as();
        assert_eq!(list.declared("json", &int, true).map(|r| r.selected), Ok(Selected::JSON));
    }
}
