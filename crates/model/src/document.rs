//! Columns of structures, maps and lists of lists as JSON.

use crate::cell::plain;
use crate::record::value_to_json;
use arrow::array::{Array, ArrayRef, AsArray, StructArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field};
use arrow::error::ArrowError;
use serde_json::{Map, Number, Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Each row's value. Numbers keep every digit, bytes are base64; a map whose keys are distinct texts is an object, any
/// other one a list of pairs.
///
/// # Errors
/// A type that is no plain one stands somewhere within.
pub(crate) fn documents(array: &ArrayRef) -> Result<Vec<Value>, ArrowError> {
    match array.data_type() {
        DataType::Struct(_) => structures(array.as_struct()),
        DataType::Map(..) => maps(array),
        DataType::List(_) => {
            let lists = array.as_list::<i32>();
            let rows = stretches(lists.value_offsets(), lists.values(), array)?;
            Ok(rows.into_iter().map(|row| row.map_or(Value::Null, Value::Array)).collect())
        }
        DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            let item = Field::new(item.name(), item.data_type().clone(), true);
            documents(&cast(array, &DataType::List(Arc::new(item)))?)
        }
        DataType::Dictionary(_, value) => documents(&cast(array, value)?),
        data_type if data_type.is_decimal() => {
            let texts = plain(array)?;
            let number = |text: &str| text.parse::<Number>().map_or_else(|_| text.into(), Value::Number);
            Ok(texts.as_string::<i32>().iter().map(|text| text.map_or(Value::Null, number)).collect())
        }
        _ => {
            let plain = plain(array)?;
            Ok((0..plain.len()).map(|row| value_to_json(&plain, row)).collect())
        }
    }
}

fn structures(array: &StructArray) -> Result<Vec<Value>, ArrowError> {
    let mut rows: Vec<_> = (0..array.len()).map(|_| Map::new()).collect();
    for (field, column) in array.fields().iter().zip(array.columns()) {
        for (row, value) in rows.iter_mut().zip(documents(column)?) {
            row.insert(field.name().clone(), value);
        }
    }
    let whole = |(place, row)| if array.is_null(place) { Value::Null } else { Value::Object(row) };
    Ok(rows.into_iter().enumerate().map(whole).collect())
}

fn maps(array: &ArrayRef) -> Result<Vec<Value>, ArrowError> {
    let maps = array.as_map();
    let keys = stretches(maps.value_offsets(), maps.keys(), array)?;
    let values = stretches(maps.value_offsets(), maps.values(), array)?;
    let whole = |(keys, values): (Option<Vec<Value>>, Option<Vec<Value>>)| {
        let (Some(keys), Some(values)) = (keys, values) else { return Value::Null };
        let texts: Vec<_> = keys.iter().filter_map(Value::as_str).collect();
        let distinct: BTreeSet<_> = texts.iter().collect();
        if distinct.len() == keys.len() {
            return texts.into_iter().map(str::to_owned).zip(values).collect::<Map<_, _>>().into();
        }
        keys.into_iter().zip(values).map(|(key, value)| json!({ "key": key, "value": value })).collect()
    };
    Ok(keys.into_iter().zip(values).map(whole).collect())
}

/// What belongs to each row of the values of all; `None` where the row is NULL.
fn stretches(
    offsets: &[i32],
    values: &ArrayRef,
    rows: &ArrayRef,
) -> Result<Vec<Option<Vec<Value>>>, ArrowError> {
    let at = |place: usize| usize::try_from(offsets[place]).unwrap_or(0);
    let (first, last) = (at(0), at(rows.len()));
    // Of a slice, no more than its own.
    let mut all = documents(&values.slice(first, last - first))?.into_iter();
    let take = |row: usize| {
        let own: Vec<_> = all.by_ref().take(at(row + 1) - at(row)).collect();
        rows.is_valid(row).then_some(own)
    };
    Ok((0..rows.len()).map(take).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::{Cell, cell};
    use arrow::array::{
        Decimal128Array, Int32Builder, Int64Array, LargeBinaryArray, ListBuilder, MapBuilder, StringBuilder,
    };
    use arrow::buffer::NullBuffer;

    fn texts(array: &ArrayRef) -> Vec<Option<String>> {
        let plain = plain(array).unwrap();
        let text = |row| match cell(&plain, row) {
            Cell::Text(text) => Some(text.to_owned()),
            _ => None,
        };
        (0..plain.len()).map(text).collect()
    }

    #[test]
    fn structures_keep_every_digit() {
        let exact = Decimal128Array::from(vec![Some(12_345_678_901_234_567_890_123), Some(-100), None])
            .with_precision_and_scale(38, 2)
            .unwrap();
        let fields = vec![
            Arc::new(Field::new("n", exact.data_type().clone(), true)),
            Arc::new(Field::new("b", DataType::LargeBinary, true)),
        ];
        let columns: Vec<ArrayRef> =
            vec![Arc::new(exact), Arc::new(LargeBinaryArray::from(vec![Some(&b"\xff"[..]), None, None]))];
        let nulls = NullBuffer::from(vec![true, true, false]);
        let array: ArrayRef = Arc::new(StructArray::new(fields.into(), columns, Some(nulls)));
        let expected = [r#"{"n":123456789012345678901.23,"b":"/w=="}"#, r#"{"n":-1.00,"b":null}"#];
        assert_eq!(texts(&array), [Some(expected[0].to_owned()), Some(expected[1].to_owned()), None]);
        assert_eq!(texts(&array.slice(1, 1)), [Some(expected[1].to_owned())]);
    }

    #[test]
    fn lists_of_lists_are_sliced_with_their_values() {
        let mut lists = ListBuilder::new(ListBuilder::new(Int32Builder::new()));
        lists.values().append_value([Some(1)]);
        lists.values().append_value([Some(2), None]);
        lists.append(true);
        lists.append(false);
        lists.values().append_null();
        lists.append(true);
        let array: ArrayRef = Arc::new(lists.finish());
        let of =
            |texts: &[Option<&str>]| texts.iter().map(|text| text.map(str::to_owned)).collect::<Vec<_>>();
        assert_eq!(texts(&array), of(&[Some("[[1],[2,null]]"), None, Some("[null]")]));
        assert_eq!(texts(&array.slice(2, 1)), of(&[Some("[null]")]));
    }

    #[test]
    fn a_map_is_an_object_where_it_can_be() {
        let mut maps = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
        for pairs in [&[("a", 1), ("b", 2)][..], &[("a", 1), ("a", 2)], &[]] {
            for (key, value) in pairs {
                maps.keys().append_value(key);
                maps.values().append_value(*value);
            }
            maps.append(true).unwrap();
        }
        let array: ArrayRef = Arc::new(maps.finish());
        let twice = r#"[{"key":"a","value":1},{"key":"a","value":2}]"#;
        let expected = [r#"{"a":1,"b":2}"#, twice, "{}"].map(|text| Some(text.to_owned()));
        assert_eq!(texts(&array), expected);
        let one: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        assert_eq!(documents(&one).unwrap(), [json!(1)]);
    }
}
