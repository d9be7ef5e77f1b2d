//! Numbers of declared digits as typed files hold them: a `numeric(12,2)` is a decimal of twelve digits there, as other
//! readers expect one. A number without declared digits, or with more than a decimal of 128 bits has, stays the text that
//! it is; so does a list of numbers.
//!
//! `NaN`, which PostgreSQL has among the values of a `numeric(12,2)`, is no decimal: such a record is refused.

use arrow::array::{Array as _, ArrayRef, AsArray as _, Decimal128Array, RecordBatch, StringArray};
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, Field, Schema};
use arrow::error::ArrowError;
use std::collections::BTreeMap;
use std::sync::Arc;
use whimbrel_model::Stage;
use whimbrel_model::decimal::Decimal;
use whimbrel_model::logical::{EXTENSION_NAME, declared_digits};
use whimbrel_store::Refusal;

/// So many characters of a value a refusal shows.
const SHOWN: usize = 60;

/// The digits that a column has as a decimal, and those behind the point; `None`: it is none.
pub(crate) fn digits(field: &Field) -> Option<(u8, i8)> {
    let digits = declared_digits(field).filter(|(precision, _)| *precision <= DECIMAL128_MAX_PRECISION);
    digits.filter(|_| *field.data_type() == DataType::Utf8)
}

/// The columns of a typed file.
pub(crate) fn schema(schema: &Schema) -> Schema {
    let column = |field: &Arc<Field>| {
        let Some((precision, scale)) = digits(field) else { return Arc::clone(field) };
        let mut metadata = field.metadata().clone();
        metadata.remove(EXTENSION_NAME);
        let data_type = DataType::Decimal128(precision, scale);
        Arc::new(Field::new(field.name(), data_type, field.is_nullable()).with_metadata(metadata))
    };
    let fields: Vec<_> = schema.fields().iter().map(column).collect();
    Schema::new_with_metadata(fields, schema.metadata().clone())
}

/// A batch as a typed file holds it.
pub(crate) struct Typed {
    /// All records; what is refused of them holds values that mean nothing.
    pub(crate) records: RecordBatch,
    pub(crate) refused: BTreeMap<usize, Refusal>,
}

/// Makes decimals of the numbers that are some.
///
/// # Errors
/// Arrow's own, where a batch does not have the columns that it says.
pub(crate) fn typed(batch: &RecordBatch) -> Result<Typed, ArrowError> {
    let mut refused = BTreeMap::new();
    if batch.schema_ref().fields().iter().all(|field| digits(field).is_none()) {
        return Ok(Typed { records: batch.clone(), refused });
    }
    let columns = batch.schema_ref().fields().iter().zip(batch.columns());
    let columns = columns.map(|(field, column)| match digits(field) {
        Some(digits) => decimals(field.name(), column.as_string(), digits, &mut refused),
        None => Ok(Arc::clone(column)),
    });
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let records = RecordBatch::try_new(Arc::new(schema(batch.schema_ref())), columns)?;
    Ok(Typed { records, refused })
}

fn decimals(
    name: &str,
    texts: &StringArray,
    (precision, scale): (u8, i8),
    refused: &mut BTreeMap<usize, Refusal>,
) -> Result<ArrayRef, ArrowError> {
    let value = |row: usize| {
        if texts.is_null(row) {
            return 0;
        }
        let text = texts.value(row);
        Decimal::scaled_text(text, precision, scale).unwrap_or_else(|| {
            let shown: String = text.chars().take(SHOWN).collect();
            let reason = format!(
                "`{name}` is {shown}, which a decimal({precision},{scale}) does not hold; `CAST(\"{name}\" AS VARCHAR)` in \
                 the transform keeps the column as text"
            );
            refused.entry(row).or_insert(Refusal { stage: Stage::Convert, reason });
            0
        })
    };
    let values: Vec<i128> = (0..texts.len()).map(value).collect();
    let array = Decimal128Array::try_new(values.into(), texts.nulls().cloned())?;
    Ok(Arc::new(array.with_precision_and_scale(precision, scale)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use whimbrel_model::Logical;
    use whimbrel_model::logical::{SOURCE_TYPE, with_source_type};

    fn number(name: &str, source_type: &str) -> Field {
        with_source_type(Logical::Number.field(name, true), source_type)
    }

    #[test]
    fn only_declared_digits_make_a_decimal() {
        let fields =
            [number("price", "numeric(12,2)"), number("any", "numeric"), number("long", "numeric(39,2)")];
        let schema = schema(&Schema::new(fields.to_vec()));
        assert_eq!(*schema.field(0).data_type(), DataType::Decimal128(12, 2));
        assert_eq!(Logical::of(schema.field(0)), None);
        assert_eq!(schema.field(0).metadata()[SOURCE_TYPE], "numeric(12,2)");
        for other in [1, 2] {
            assert_eq!(schema.field(other), &fields[other]);
        }
    }

    #[test]
    fn what_is_no_decimal_is_refused_and_the_others_are_exact() {
        let texts = |values: Vec<Option<&str>>| Arc::new(StringArray::from(values)) as ArrayRef;
        let price = texts(vec![Some("1.50"), None, Some("NaN"), Some("-99999999.99"), Some("1.555")]);
        let share = texts(vec![Some("0.125"), Some("0"), Some("7"), None, Some("0.001")]);
        let schema = Schema::new(vec![number("price", "numeric(10,2)"), number("share", "numeric(3,3)")]);
        let batch = RecordBatch::try_new(Arc::new(schema), vec![price, share]).unwrap();
        let typed = typed(&batch).unwrap();
        let price = typed.records.column(0).as_primitive::<arrow::datatypes::Decimal128Type>();
        assert_eq!((price.value(0), price.is_null(1), price.value(3)), (150, true, -9_999_999_999));
        let share = typed.records.column(1).as_primitive::<arrow::datatypes::Decimal128Type>();
        assert_eq!((share.value(0), share.value(1), share.is_null(3)), (125, 0, true));
        let refused: Vec<_> =
            typed.refused.iter().map(|(row, refusal)| (*row, refusal.reason.clone())).collect();
        let reason = |value: &str| {
            format!(
                "`price` is {value}, which a decimal(10,2) does not hold; `CAST(\"price\" AS VARCHAR)` in the transform keeps \
                 the column as text"
            )
        };
        assert_eq!(refused, [(2, reason("NaN")), (4, reason("1.555"))]);
    }
}
