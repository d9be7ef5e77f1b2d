//! Columns as files hold them, Arrow → text.
//!
//! | Arrow | JSON, NDJSON | DynamoDB JSON | CSV |
//! | --- | --- | --- | --- |
//! | text, uuid | string | S | text |
//! | json | the document | M, L, S, N, BOOL, NULL by its content | its text |
//! | number, integers, decimals | number; NaN and infinities as strings | N; NaN and infinities as S | its text |
//! | floats | the shortest number that reads back the same; NaN and infinities as strings | N; S | its text |
//! | boolean | true, false | BOOL | `true`, `false` |
//! | binary | base64 | B | base64 |
//! | list, struct | array, object | L, M | as JSON |
//! | dates, times, timestamps | string, as Arrow prints it (RFC 3339) | S | the same |
//! | NULL | left out, or null with `nulls: null` | left out, or NULL | nothing |
//! | the column `_item` | the object | the whole item | its text |
//!
//! Parquet and Arrow IPC hold the columns as they are, but for numbers of declared digits: `numeric(12,2)` is a decimal.

mod cells;
pub(crate) mod decimals;
mod moments;
mod ready;
mod record;
mod text;
mod whole;

pub(crate) use cells::{Cells, Writing, quoted};
pub(crate) use record::{Compared, Encoder, canonical_attribute, csv_header, is_null, joined};
pub(crate) use text::TextBuffer;

use arrow::datatypes::{DataType, Field, Schema};
use whimbrel_model::logical::type_name;
use whimbrel_model::{ColumnFidelity, Fidelity, Logical};

use crate::format::Format;

/// What becomes of each column.
///
/// # Errors
/// A type has no place in the format, with the column and the type.
pub(crate) fn fidelity(format: Format, schema: &Schema) -> Result<Vec<ColumnFidelity>, String> {
    schema
        .fields()
        .iter()
        .map(|field| {
            let (into, fidelity) = column(format, field).ok_or_else(|| {
                format!("`{}` is {}, which {format} does not hold yet", field.name(), type_name(field))
            })?;
            Ok(ColumnFidelity { column: field.name().clone(), from: type_name(field), into, fidelity })
        })
        .collect()
}

fn column(format: Format, field: &Field) -> Option<(String, Fidelity)> {
    if !format.is_text() {
        let decimal =
            decimals::digits(field).map(|(precision, scale)| format!("decimal({precision},{scale})"));
        let into = decimal.unwrap_or_else(|| type_name(field));
        return is_held(field.data_type()).then_some((into, Fidelity::Exact));
    }
    let (into, how) = text_column(format, field)?;
    let fidelity = how.map_or(Fidelity::Exact, |how| Fidelity::Reversible(how.to_owned()));
    Some((into.to_owned(), fidelity))
}

/// The type in a text, and what is different there.
fn text_column(format: Format, field: &Field) -> Option<(&'static str, Option<&'static str>)> {
    const SHORTEST: Option<&str> = Some("the shortest decimal that reads back as the same float");
    let names: [&'static str; 7] = match format {
        Format::Csv => ["text"; 7],
        Format::DynamoDbJson => ["S", "M", "N", "BOOL", "B", "L", "M"],
        _ => ["string", "document", "number", "boolean", "string", "array", "object"],
    };
    let [text, document, number, boolean, binary, list, object] = names;
    let as_text = |how| if format == Format::Csv { Some(how) } else { None };
    Some(match field.data_type() {
        DataType::Null => (text, None),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => match Logical::of(field) {
            Some(Logical::Json) => (document, None),
            Some(Logical::Number) => (number, None),
            Some(Logical::Uuid) | None => (text, None),
        },
        DataType::Boolean => (boolean, as_text("true or false")),
        DataType::Float16 | DataType::Float32 | DataType::Float64 => (number, SHORTEST),
        other if other.is_numeric() => (number, as_text("its digits")),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            (binary, (format != Format::DynamoDbJson).then_some("base64"))
        }
        other if other.is_temporal() && !matches!(other, DataType::Duration(_) | DataType::Interval(_)) => {
            (text, Some("as Arrow prints it, with all its digits"))
        }
        DataType::List(inner) | DataType::LargeList(inner) | DataType::FixedSizeList(inner, _) => {
            text_column(format, inner)?;
            (list, as_text("as JSON"))
        }
        DataType::Struct(fields) => {
            for inner in fields {
                text_column(format, inner)?;
            }
            (object, as_text("as JSON"))
        }
        DataType::Dictionary(_, values) => {
            text_column(format, &Field::new(field.name(), (**values).clone(), true))?
        }
        _ => return None,
    })
}

/// Whether a typed file holds the column, and reading it back gives it as it was.
fn is_held(data_type: &DataType) -> bool {
    !matches!(data_type, DataType::Union(..) | DataType::RunEndEncoded(..) | DataType::Map(..))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::TimeUnit;
    use whimbrel_model::logical::with_source_type;

    #[test]
    fn the_table() {
        let of = |format, field: &Field| match column(format, field) {
            Some((into, fidelity)) => format!("{into} {fidelity}"),
            None => "none".to_owned(),
        };
        let plain = |data_type| Field::new("c", data_type, true);
        let price = with_source_type(Logical::Number.field("c", true), "numeric(12,2)");
        for (format, field, expected) in [
            (Format::Json, plain(DataType::Utf8), "string exact"),
            (Format::Json, Logical::Number.field("c", true), "number exact"),
            (Format::DynamoDbJson, plain(DataType::Int64), "N exact"),
            (Format::DynamoDbJson, plain(DataType::Binary), "B exact"),
            (Format::Json, plain(DataType::Binary), "string reversible: base64"),
            (Format::Csv, plain(DataType::Boolean), "text reversible: true or false"),
            (
                Format::NdJson,
                plain(DataType::Timestamp(TimeUnit::Microsecond, None)),
                "string reversible: as Arrow prints it, with all its digits",
            ),
            (Format::Parquet, Logical::Json.field("c", true), "json exact"),
            (Format::Parquet, price.clone(), "decimal(12,2) exact"),
            (Format::NdJson, price, "number exact"),
            (Format::Json, plain(DataType::Duration(TimeUnit::Second)), "none"),
        ] {
            assert_eq!(of(format, &field), expected);
        }
    }
}
