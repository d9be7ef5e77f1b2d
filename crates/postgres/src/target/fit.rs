//! The other half of the type table: how faithfully an Arrow column arrives in a column of a table.
//!
//! A value that its column does not hold is a reject, so that what is *exact* here never loses anything; it may
//! only be refused. *Reversible* says that the form changes. *Lossy* is what would be rounded silently.

use super::langchain::dimension_of;
use super::route::is_padded_already;
use crate::encode::{Form, Wire, plain_type};
use arrow::datatypes::{DataType, Field};
use whimbrel_model::cell::is_document;
use whimbrel_model::logical::SOURCE_TYPE;
use whimbrel_model::{Fidelity, Logical};

const HALVES: &str = "rounded to half precision";

/// What becomes of the values of a column; `Err`: it cannot be written there at all.
pub(crate) fn fidelity(
    field: &Field,
    wire: &Wire,
    form: Option<Form>,
    type_name: &str,
) -> Result<Fidelity, String> {
    let Some(plain) = plain_type(field.data_type()) else {
        return Err(format!("values of the Arrow type {} cannot be written yet", field.data_type()));
    };
    let logical = logical_of(field);
    if let Some(form) = form {
        return formed(&plain, wire, form);
    }
    let is_own =
        wire.is_cast() || matches!(wire, Wire::HalfVector(_) | Wire::SparseVector(_) | Wire::Bits(_));
    if is_own && field.metadata().get(SOURCE_TYPE).is_some_and(|name| same_type(name, type_name)) {
        return Ok(Fidelity::Exact);
    }
    if matches!(wire, Wire::Text { is_padded: true, .. }) && is_padded_already(field) {
        return Ok(Fidelity::Exact);
    }
    let found = match &plain {
        DataType::Null => Some(Fidelity::Exact),
        DataType::Utf8 if wire.is_cast() && !is_read_as_written(type_name) => Some(Fidelity::Lossy(
            "PostgreSQL reads the text in its own way, and rounds what it does not hold".to_owned(),
        )),
        DataType::Utf8 if matches!(wire, Wire::Array(..)) && is_nested(field) => {
            Some(reversible("text read as an array of one dimension; what has more is a reject"))
        }
        DataType::Utf8 => Some(of_text(logical, wire)),
        DataType::Boolean => of_boolean(wire),
        DataType::Float32 | DataType::Float64 => of_float(wire, plain == DataType::Float64),
        DataType::Binary => of_binary(wire),
        DataType::List(item) => {
            return of_list(
                item,
                wire,
                field.metadata().get(SOURCE_TYPE).and_then(|name| dimension_of(name)),
            );
        }
        DataType::Date32 => of_date(wire),
        DataType::Timestamp(_, zone) => of_moment(wire, zone.is_some()),
        DataType::Time32(_) | DataType::Time64(_) => match wire {
            Wire::Time(_) => Some(Fidelity::Exact),
            Wire::Text { .. } | Wire::Cast(_) => Some(reversible("text as PostgreSQL writes a time")),
            _ => None,
        },
        _ => of_integer(wire),
    };
    found.ok_or_else(|| {
        "PostgreSQL has no way from the one type into the other; convert it in the transform".to_owned()
    })
}

/// Whether two names are one type: that of a vector may say its dimensions.
fn same_type(one: &str, other: &str) -> bool {
    let bare = |name: &str| {
        let name = name.split('(').next().unwrap_or(name);
        name.rsplit('.').next().unwrap_or(name).to_owned()
    };
    one == other || (["halfvec", "sparsevec"].contains(&bare(one).as_str()) && bare(one) == bare(other))
}

/// Whether a column comes out of an array that was declared with more dimensions than one.
fn is_nested(field: &Field) -> bool {
    field.metadata().get(SOURCE_TYPE).is_some_and(|name| name.ends_with("[][]"))
}

/// Decimals travel as text and mean numbers, and what has parts as the text of a document.
fn logical_of(field: &Field) -> Option<Logical> {
    match field.data_type() {
        DataType::Decimal32(..)
        | DataType::Decimal64(..)
        | DataType::Decimal128(..)
        | DataType::Decimal256(..) => Some(Logical::Number),
        data_type if is_document(data_type) => Some(Logical::Json),
        _ => Logical::of(field),
    }
}

/// Types whose input takes a text as it says or refuses it. Others round (`money`, `interval`, `timetz`, points), cut
/// (`"char"`), or know words such as `now`.
fn is_read_as_written(type_name: &str) -> bool {
    const TYPES: [&str; 26] = [
        "boolean",
        "smallint",
        "integer",
        "bigint",
        "text",
        "uuid",
        "citext",
        "inet",
        "cidr",
        "macaddr",
        "macaddr8",
        "xml",
        "bit",
        "bit varying",
        "pg_lsn",
        "ltree",
        "hstore",
        "int4range",
        "int8range",
        "numrange",
        "int4multirange",
        "int8multirange",
        "nummultirange",
        "tsvector",
        "txid_snapshot",
        "isbn",
    ];
    let plain = type_name.trim_end_matches("[]");
    let plain = plain.split('(').next().unwrap_or(plain).trim();
    let plain = plain.rsplit('.').next().unwrap_or(plain);
    TYPES.contains(&plain)
}

fn reversible(how: &str) -> Fidelity {
    Fidelity::Reversible(how.to_owned())
}

fn formed(plain: &DataType, wire: &Wire, form: Form) -> Result<Fidelity, String> {
    if !matches!(plain, DataType::Timestamp(..)) {
        return Err("`as` asks for a form of a timestamp, and the column is none".to_owned());
    }
    match (form, wire) {
        (Form::Rfc3339Nanos, Wire::Text { .. }) => Ok(reversible("RFC 3339 with nine digits of a second")),
        (Form::EpochS, Wire::Int4 | Wire::Int8 | Wire::Numeric(_)) => Ok(reversible("seconds since 1970")),
        (Form::EpochMs, Wire::Int8 | Wire::Numeric(_)) => Ok(reversible("milliseconds since 1970")),
        _ => Err("the column's type does not hold the form that `as` asks for".to_owned()),
    }
}

fn of_text(logical: Option<Logical>, wire: &Wire) -> Fidelity {
    match (logical, wire) {
        (_, Wire::Text { is_padded: true, .. }) => {
            reversible("padded with spaces; a text that ends with some is a reject")
        }
        (None, Wire::Text { .. } | Wire::Enum(_))
        | (Some(Logical::Json), Wire::Json)
        | (Some(Logical::Uuid), Wire::Uuid)
        | (Some(Logical::Number), Wire::Numeric(_) | Wire::Int2 | Wire::Int4 | Wire::Int8 | Wire::Oid) => {
            Fidelity::Exact
        }
        (Some(_), Wire::Text { .. } | Wire::Enum(_)) => reversible("its text"),
        (Some(Logical::Json), Wire::Jsonb) => {
            reversible("the order of keys and the white space are PostgreSQL's")
        }
        (_, Wire::Json | Wire::Jsonb) => reversible("text read as a JSON document"),
        (_, Wire::Numeric(_) | Wire::Int2 | Wire::Int4 | Wire::Int8 | Wire::Oid) => {
            reversible("text read as a number")
        }
        (_, Wire::Float4 | Wire::Float8) => {
            reversible("text read as a number; one with more digits than the float holds is a reject")
        }
        (_, Wire::Bool) => reversible("text read as a truth value"),
        (_, Wire::Uuid) => reversible("text read as a UUID, in lower case"),
        (_, Wire::Bytea) => reversible("text read as \\x and pairs of hex digits"),
        (_, Wire::Date | Wire::Time(_)) => reversible("text read as ISO 8601"),
        (_, Wire::Timestamp(_) | Wire::TimestampTz(_)) => {
            reversible("text read as ISO 8601; a moment with a zone becomes UTC, one without is taken as UTC")
        }
        (_, Wire::Array(..) | Wire::Vector(_)) => {
            reversible("text read as a JSON array or in PostgreSQL's notation")
        }
        (_, Wire::HalfVector(_)) => Fidelity::Lossy(HALVES.to_owned()),
        (_, Wire::SparseVector(_)) => {
            reversible("text read as {place:value,…}/dimensions or as a JSON array")
        }
        (_, Wire::Bits(_)) => reversible("text read as bits"),
        (_, Wire::Cast(_)) => reversible("text read by PostgreSQL"),
    }
}

fn of_boolean(wire: &Wire) -> Option<Fidelity> {
    match wire {
        Wire::Bool => Some(Fidelity::Exact),
        Wire::Text { .. } => Some(reversible("the text true or false")),
        Wire::Json | Wire::Jsonb => Some(reversible("a JSON truth value")),
        _ => None,
    }
}

fn of_integer(wire: &Wire) -> Option<Fidelity> {
    match wire {
        Wire::Int2 | Wire::Int4 | Wire::Int8 | Wire::Oid | Wire::Numeric(_) => Some(Fidelity::Exact),
        Wire::Float4 | Wire::Float8 => Some(reversible("what the float does not hold exactly is a reject")),
        Wire::Text { .. } | Wire::Cast(_) => Some(reversible("its digits as text")),
        Wire::Json | Wire::Jsonb => Some(reversible("a JSON number")),
        _ => None,
    }
}

fn of_float(wire: &Wire, is_double: bool) -> Option<Fidelity> {
    match wire {
        Wire::Float4 if is_double => Some(Fidelity::Lossy("rounded to single precision".to_owned())),
        Wire::Float4 | Wire::Float8 => Some(Fidelity::Exact),
        Wire::Numeric(_) => Some(reversible("the shortest decimal number that names the float")),
        Wire::Int2 | Wire::Int4 | Wire::Int8 => Some(reversible("what is no whole number is a reject")),
        Wire::Text { .. } | Wire::Cast(_) => Some(reversible("the shortest text that names the float")),
        Wire::Json | Wire::Jsonb => Some(reversible("a JSON number; NaN and infinities are rejects")),
        _ => None,
    }
}

fn of_binary(wire: &Wire) -> Option<Fidelity> {
    match wire {
        Wire::Bytea => Some(Fidelity::Exact),
        Wire::Uuid => Some(reversible("its sixteen bytes")),
        _ => None,
    }
}

fn of_date(wire: &Wire) -> Option<Fidelity> {
    match wire {
        Wire::Date => Some(Fidelity::Exact),
        Wire::Timestamp(_) | Wire::TimestampTz(_) => Some(reversible("its midnight, in UTC")),
        Wire::Text { .. } | Wire::Cast(_) => Some(reversible("text as PostgreSQL writes a date")),
        _ => None,
    }
}

fn of_moment(wire: &Wire, zoned: bool) -> Option<Fidelity> {
    match (wire, zoned) {
        (Wire::TimestampTz(_), true) | (Wire::Timestamp(_), false) => Some(Fidelity::Exact),
        (Wire::TimestampTz(_), false) => Some(reversible("taken as UTC")),
        (Wire::Timestamp(_), true) => Some(reversible("an instant with a zone becomes UTC")),
        (Wire::Date, _) => Some(reversible("what has a time of day is a reject")),
        (Wire::Text { .. } | Wire::Cast(_), _) => {
            Some(reversible("text as PostgreSQL writes a timestamp, in UTC"))
        }
        _ => None,
    }
}

/// `given`: the dimensions of the source's vectors, where it says them.
fn of_list(item: &Field, wire: &Wire, given: Option<u32>) -> Result<Fidelity, String> {
    match wire {
        Wire::Array(element, _) => match fidelity(item, element, None, "")? {
            Fidelity::Exact => Ok(Fidelity::Exact),
            Fidelity::Reversible(how) => Ok(Fidelity::Reversible(format!("each element: {how}"))),
            Fidelity::Lossy(what) => Ok(Fidelity::Lossy(format!("each element {what}"))),
        },
        Wire::Vector(Some(held)) if given.is_some_and(|given| usize::try_from(given) != Ok(*held)) => Err(
            format!("its vectors have {} dimensions, and the column takes {held}", given.unwrap_or_default()),
        ),
        Wire::Vector(_) => fidelity(item, &Wire::Float4, None, ""),
        Wire::HalfVector(_) => Ok(Fidelity::Lossy(HALVES.to_owned())),
        Wire::SparseVector(_) => match fidelity(item, &Wire::Float4, None, "")? {
            Fidelity::Exact => Ok(reversible("without its zeros, -0 among them")),
            other => Ok(other),
        },
        Wire::Json | Wire::Jsonb => Ok(reversible("a JSON array")),
        Wire::Text { .. } | Wire::Cast(_) => Ok(reversible("an array in PostgreSQL's notation")),
        _ => Err("a list goes into an array, a vector, JSON or text".to_owned()),
    }
}

/// The type that a column gets in a table that is made for it.
pub(crate) fn type_for(field: &Field) -> Result<String, String> {
    let plain = |name: &str| Ok(name.to_owned());
    match field.data_type() {
        DataType::Boolean => plain("boolean"),
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => plain("smallint"),
        DataType::Int32 | DataType::UInt16 => plain("integer"),
        DataType::Int64 | DataType::UInt32 => plain("bigint"),
        DataType::UInt64 => plain("numeric(20,0)"),
        DataType::Float16 | DataType::Float32 => plain("real"),
        DataType::Float64 => plain("double precision"),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => Ok(format!("numeric({precision},{scale})")),
        DataType::Date32 => plain("date"),
        DataType::Time32(_) | DataType::Time64(_) => plain("time"),
        DataType::Timestamp(_, Some(_)) => plain("timestamp with time zone"),
        DataType::Timestamp(_, None) | DataType::Date64 => plain("timestamp without time zone"),
        data_type if is_document(data_type) => plain("jsonb"),
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            Ok(format!("{}[]", type_for(item)?))
        }
        DataType::Dictionary(_, value) => type_for(&Field::new(field.name(), (**value).clone(), true)),
        other => match plain_type(other) {
            Some(DataType::Utf8) => plain(match Logical::of(field) {
                Some(Logical::Json) => "jsonb",
                Some(Logical::Number) => "numeric",
                Some(Logical::Uuid) => "uuid",
                None => "text",
            }),
            Some(DataType::Binary) => plain("bytea"),
            Some(DataType::Null) => plain("text"),
            _ => Err(format!("there is no PostgreSQL type for the Arrow type {other}")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::TimeUnit;

    #[test]
    fn what_would_be_rounded_is_lossy() {
        let double = Field::new("x", DataType::Float64, true);
        assert!(matches!(fidelity(&double, &Wire::Float4, None, "real"), Ok(Fidelity::Lossy(_))));
        assert_eq!(fidelity(&double, &Wire::Float8, None, "double precision"), Ok(Fidelity::Exact));
        let zoned = Field::new("x", DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())), true);
        assert_eq!(fidelity(&zoned, &Wire::TimestampTz(6), None, ""), Ok(Fidelity::Exact));
        assert!(matches!(fidelity(&zoned, &Wire::Timestamp(6), None, ""), Ok(Fidelity::Reversible(_))));
        assert!(fidelity(&double, &Wire::Bytea, None, "bytea").is_err());
    }

    #[test]
    fn an_array_of_more_dimensions_is_exact_only_where_it_fits() {
        use crate::encode::Meaning;
        let nested =
            whimbrel_model::logical::with_source_type(Field::new("x", DataType::Utf8, true), "integer[][]");
        let cast = Wire::Cast(Meaning::List(Box::new(Meaning::Text)));
        assert_eq!(fidelity(&nested, &cast, None, "integer[][]"), Ok(Fidelity::Exact));
        let one = Wire::Array(Box::new(Wire::Int4), 23);
        let found = fidelity(&nested, &one, None, "integer[]").unwrap();
        assert!(matches!(found, Fidelity::Reversible(how) if how.contains("a reject")));
    }

    #[test]
    fn types_of_new_columns() {
        let of = |field: Field| type_for(&field).unwrap();
        assert_eq!(of(Logical::Json.field("x", true)), "jsonb");
        assert_eq!(of(Logical::Number.field("x", true)), "numeric");
        assert_eq!(of(Field::new("x", DataType::Utf8View, true)), "text");
        assert_eq!(of(Field::new_list("x", Field::new("item", DataType::Int64, true), true)), "bigint[]");
        let item = Field::new_struct("item", vec![Field::new("a", DataType::Int32, true)], true);
        assert_eq!(of(Field::new_list("x", item, true)), "jsonb");
        assert!(type_for(&Field::new("x", DataType::Duration(TimeUnit::Second), true)).is_err());
    }
}
