//! The type table, both ways. SQLite types values, not columns: what a column declares is an intention, and each row
//! holds what it holds. A value that its column's type does not hold is *unreadable* on the way out, with both types
//! named and its bytes kept, and refused on the way in.
//!
//! Read, by the declared type:
//!
//! | declared type | Arrow | read from |
//! | --- | --- | --- |
//! | `INTEGER`, `INT…`, anything else with `INT` | Int64 | integers |
//! | `REAL`, `FLOAT`, `DOUBLE…` | Float64 | reals; integers that a float holds exactly |
//! | `TEXT`, `VARCHAR(n)`, `CLOB`, anything with `CHAR` | text | text; numbers as their text |
//! | `BLOB`, `BINARY`, `VARBINARY`, `IMAGE`, `BYTEA` | Binary | blobs |
//! | `NUMERIC`, `DECIMAL(p,s)`, `NUMBER`, `MONEY` | number | integers; reals as the shortest decimal that names them; decimal text |
//! | `BOOLEAN`, `BOOL` | Boolean | 0 and 1; the texts `true` and `false` |
//! | `JSON`, `JSONB` | json | text that is a JSON document; numbers |
//! | `DATE`, `DATETIME`, `TIMESTAMP`, `TIME`, `UUID`, any other name, `ANY`, none, an expression | text | text; numbers as their text |
//!
//! Read, as the spec declares under `columns`, whatever the database does:
//!
//! | word | Arrow | read from |
//! | --- | --- | --- |
//! | `text` | text | text; numbers as their text |
//! | `integer` | Int64 | integers; reals without a fraction; text that is one |
//! | `float` | Float64 | reals; integers and text that a float names |
//! | `number` | number | integers, reals, decimal text |
//! | `boolean` | Boolean | 0 and 1; the texts `true` and `false` |
//! | `binary` | Binary | blobs |
//! | `json` | json | text that is a JSON document; numbers |
//! | `uuid` | uuid | text of 36 characters; a blob of 16 bytes |
//! | `timestamp` | microseconds, UTC | SQLite's forms of a moment |
//! | `date` | day | the same, where they have no time of day |
//!
//! A moment is text (`2024-02-29`, with or without a time behind a space or `T`, a fraction, a zone; in UTC where there is
//! none), a Julian day as a real, seconds since 1970 as an integer. What may be either is unreadable: integers from 0 to
//! 5373484, numbers as text, integers beyond the year 9999.
//!
//! NULL is NULL in every column; SQLite keeps NaN as NULL. A blob is never read as text, and text that is not UTF-8
//! is unreadable.
//!
//! Written, into a table that is made for it (`STRICT`), and what fingerprints compare:
//!
//! | Arrow | SQLite | held as |
//! | --- | --- | --- |
//! | integers of up to 64 bits signed | `INTEGER` | integer |
//! | UInt64 | `TEXT` | its digits |
//! | Boolean | `INTEGER` | 0 and 1 |
//! | floats | `REAL` | real; NaN is a reject, as SQLite would hold NULL |
//! | text, uuid, json | `TEXT` | text |
//! | number, decimals | `TEXT` | its digits |
//! | Binary | `BLOB` | blob |
//! | Date32 | `TEXT` | `2024-02-29` |
//! | timestamps | `TEXT` | `2024-02-29 12:30:00.25`, with `Z` behind it where the instant is known |
//! | times | `TEXT` | `12:30:00.25` |
//! | lists of 32-bit floats | `BLOB` | the floats, little endian |
//! | other lists | `TEXT` | a JSON array |

pub(crate) mod moment;
mod value;

pub(crate) use value::{Builder, exact_float, float_text, named_float, number_text, raw, whole};

use arrow::datatypes::{DataType, Field, TimeUnit};
use whimbrel_model::Logical;
use whimbrel_model::logical::with_source_type;

/// What SQLite makes of values that are stored in a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Affinity {
    Integer,
    Text,
    Blob,
    Real,
    Numeric,
}

/// The affinity of a declared type, by SQLite's own rules in their order.
pub(crate) fn affinity(declared: &str) -> Affinity {
    let upper = declared.to_ascii_uppercase();
    let has = |word: &str| upper.contains(word);
    if has("INT") {
        Affinity::Integer
    } else if has("CHAR") || has("CLOB") || has("TEXT") {
        Affinity::Text
    } else if has("BLOB") || declared.is_empty() {
        Affinity::Blob
    } else if has("REAL") || has("FLOA") || has("DOUB") {
        Affinity::Real
    } else {
        Affinity::Numeric
    }
}

/// What a declared type means where its affinity does not say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    Boolean,
    Json,
    Number,
    Bytes,
    /// Nothing that is known: dates, UUIDs, names that are made up.
    Open,
}

/// What a declared type of numeric affinity means.
pub(crate) fn meaning(declared: &str) -> Meaning {
    const NUMBERS: [&str; 9] =
        ["NUMERIC", "DECIMAL", "DEC", "NUMBER", "NUM", "MONEY", "SMALLMONEY", "CURRENCY", "FIXED"];
    let upper = declared.to_ascii_uppercase();
    let word = upper.split(['(', ' ']).next().unwrap_or_default();
    match word {
        "BOOL" | "BOOLEAN" => Meaning::Boolean,
        "JSON" | "JSONB" => Meaning::Json,
        "BINARY" | "VARBINARY" | "IMAGE" | "BYTEA" => Meaning::Bytes,
        _ if NUMBERS.contains(&word) => Meaning::Number,
        _ => Meaning::Open,
    }
}

/// How a column is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    Integer,
    Float,
    /// Text, and numbers as their text.
    Text,
    Binary,
    Number,
    Boolean,
    Json,
    Uuid,
    Timestamp,
    Date,
}

/// The words that the spec declares types with.
pub(crate) const WORDS: &str = "text, json, boolean, integer, number, float, timestamp, date, uuid, binary";

impl Reading {
    /// What a declared type asks for.
    pub(crate) fn natural(declared: &str) -> Self {
        let upper = declared.to_ascii_uppercase();
        // `FLOATING POINT` holds INT, and is none to anybody but SQLite.
        if ["REAL", "FLOA", "DOUB"].iter().any(|word| upper.contains(word)) {
            return Self::Float;
        }
        match affinity(declared) {
            Affinity::Integer if upper.contains("POINT") => Self::Text,
            Affinity::Integer => Self::Integer,
            Affinity::Text => Self::Text,
            Affinity::Blob if declared.is_empty() => Self::Text,
            Affinity::Blob => Self::Binary,
            Affinity::Real => Self::Float,
            Affinity::Numeric => match meaning(declared) {
                Meaning::Boolean => Self::Boolean,
                Meaning::Json => Self::Json,
                Meaning::Number => Self::Number,
                Meaning::Bytes => Self::Binary,
                Meaning::Open => Self::Text,
            },
        }
    }

    /// What the spec's word asks for.
    pub(crate) fn declared(word: &str) -> Option<Self> {
        Some(match word {
            "text" => Self::Text,
            "json" => Self::Json,
            "boolean" => Self::Boolean,
            "integer" => Self::Integer,
            "number" => Self::Number,
            "float" => Self::Float,
            "timestamp" => Self::Timestamp,
            "date" => Self::Date,
            "uuid" => Self::Uuid,
            "binary" => Self::Binary,
            _ => return None,
        })
    }

    /// The word for it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Integer => "integer",
            Self::Float => "float",
            Self::Text => "text",
            Self::Binary => "binary",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Json => "json",
            Self::Uuid => "uuid",
            Self::Timestamp => "timestamp",
            Self::Date => "date",
        }
    }

    /// The column's field. The declared type is kept for people, marked as SQLite's: `INTEGER` has other bounds
    /// elsewhere.
    pub(crate) fn field(self, name: &str, declared: &str) -> Field {
        let plain = |data_type| Field::new(name, data_type, true);
        let field = match self {
            Self::Integer => plain(DataType::Int64),
            Self::Float => plain(DataType::Float64),
            Self::Text => plain(DataType::Utf8),
            Self::Binary => plain(DataType::Binary),
            Self::Boolean => plain(DataType::Boolean),
            Self::Number => Logical::Number.field(name, true),
            Self::Json => Logical::Json.field(name, true),
            Self::Uuid => Logical::Uuid.field(name, true),
            Self::Timestamp => plain(DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
            Self::Date => plain(DataType::Date32),
        };
        if declared.is_empty() { field } else { with_source_type(field, &format!("sqlite {declared}")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rusqlite::Connection;

    #[test]
    fn affinities_are_those_of_sqlite() {
        let connection = Connection::open_in_memory().unwrap();
        for declared in [
            "INT",
            "BIGINT",
            "CHARACTER(20)",
            "VARCHAR",
            "CLOB",
            "BLOB",
            "",
            "REAL",
            "DOUBLE PRECISION",
            "FLOAT",
            "NUMERIC",
            "DECIMAL(10,5)",
            "BOOLEAN",
            "DATE",
            "DATETIME",
            "FLOATING POINT",
            "CHARINT",
            "STRING",
            "JSON",
            "ANY",
            "tExT",
            "VARBINARY",
        ] {
            // What becomes of the texts `1` and `1.5` and of the number 1 tells affinities apart.
            let sql = format!(
                "DROP TABLE IF EXISTS t; CREATE TABLE t (a {declared}); INSERT INTO t VALUES ('1'), (1), ('1.5')"
            );
            connection.execute_batch(&sql).unwrap();
            let kinds = "SELECT group_concat(typeof(a), ' ') FROM (SELECT a FROM t ORDER BY rowid)";
            let kinds: String = connection.query_row(kinds, [], |row| row.get(0)).unwrap();
            let expected: &[Affinity] = match kinds.as_str() {
                "integer integer real" => &[Affinity::Integer, Affinity::Numeric],
                "text text text" => &[Affinity::Text],
                "real real real" => &[Affinity::Real],
                "text integer text" => &[Affinity::Blob],
                other => panic!("{declared}: {other}"),
            };
            assert!(expected.contains(&affinity(declared)), "{declared}: {kinds}");
        }
    }

    #[test]
    fn declared_types_have_their_readings() {
        for (declared, reading) in [
            ("INTEGER", Reading::Integer),
            ("unsigned big int", Reading::Integer),
            ("NVARCHAR(160)", Reading::Text),
            ("", Reading::Text),
            ("ANY", Reading::Text),
            ("DATETIME", Reading::Text),
            ("BLOB", Reading::Binary),
            ("varbinary(16)", Reading::Binary),
            ("NUMERIC(10,2)", Reading::Number),
            ("decimal", Reading::Number),
            ("FLOATING POINT", Reading::Float),
            ("POINT", Reading::Text),
            ("BOOLEAN", Reading::Boolean),
            ("json", Reading::Json),
        ] {
            assert_eq!(Reading::natural(declared), reading, "{declared}");
        }
        for word in WORDS.split(", ") {
            assert_eq!(Reading::declared(word).unwrap().word(), word);
        }
    }
}
