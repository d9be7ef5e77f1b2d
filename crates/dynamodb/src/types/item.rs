//! The column of whole items: what an item holds besides the flow's other columns.
//!
//! `_item` is an item in DynamoDB JSON. Its attributes are written as they are, each with its type; a column of the
//! flow takes the place of the attribute of its name, also where the column is NULL.

use super::read::{Attribute, Text, entries};
use super::value::canonical;
use crate::limits;
use arrow::array::{Array as _, AsArray as _, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field};
use arrow::error::ArrowError;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use std::collections::HashSet;
use whimbrel_model::canonical::Canonical;

/// The column of whole items.
pub(crate) use whimbrel_model::attribute::ITEM;

/// Whether a column is that of whole items.
pub(crate) fn is_item(field: &Field) -> bool {
    let is_text = matches!(field.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    field.name() == ITEM && is_text
}

/// An attribute that no column of the flow names.
#[derive(Clone, Debug)]
pub(crate) struct Rest {
    /// Its name.
    pub(crate) name: String,
    /// The name as a JSON string.
    pub(crate) json_name: String,
    /// Its value.
    pub(crate) value: AttributeValue,
    /// Name and value by DynamoDB's count.
    pub(crate) bytes: u64,
}

impl Rest {
    /// Appends name and value in canonical form.
    pub(crate) fn canonical(&self, into: &mut Canonical, ignore: &super::ignore::Ignore) {
        into.key(&self.name);
        if ignore.is_within(&self.name) {
            ignore.canonical(into, &self.name, &self.value);
        } else {
            canonical(into, &self.value);
        }
    }
}

/// The items of a batch; `None`: the flow has no such column.
pub(crate) fn column(
    records: &RecordBatch,
    position: Option<usize>,
) -> Result<Option<StringArray>, ArrowError> {
    let items = position.map(|position| cast(records.column(position), &DataType::Utf8)).transpose()?;
    Ok(items.map(|items| items.as_string::<i32>().clone()))
}

/// What the item of a row holds besides the columns, by name.
///
/// # Errors
/// The reason why DynamoDB does not hold it, with the attribute's name.
pub(crate) fn rest(
    items: Option<&StringArray>,
    row: usize,
    is_column: impl Fn(&str) -> bool,
) -> Result<Vec<Rest>, String> {
    let Some(items) = items.filter(|items| items.is_valid(row)) else { return Ok(Vec::new()) };
    let entries = entries(items.value(row))
        .map_err(|error| format!("`{ITEM}` is no item of DynamoDB JSON: {error}"))?;
    let mut rest = Vec::with_capacity(entries.len());
    for (Text(name), attribute) in entries {
        if is_column(&name) {
            continue;
        }
        if name.is_empty() {
            return Err(format!("`{ITEM}` has an attribute without a name, which DynamoDB does not hold"));
        }
        let value = value(&attribute).map_err(|reason| format!("`{name}` {reason}"))?;
        let nesting = limits::nesting(&value);
        if nesting > limits::NESTING {
            let most = limits::NESTING;
            return Err(format!(
                "`{name}` nests {nesting} levels deep, DynamoDB takes {most} within an item"
            ));
        }
        rest.push(Rest {
            json_name: serde_json::Value::from(&*name).to_string(),
            bytes: limits::bytes(name.len()) + limits::size(&value),
            name: name.into_owned(),
            value,
        });
    }
    Ok(rest)
}

/// The value as the SDK takes it, with what DynamoDB would refuse refused here.
fn value(attribute: &Attribute<'_>) -> Result<AttributeValue, String> {
    Ok(match attribute {
        Attribute::S(text) => AttributeValue::S(text.to_string()),
        Attribute::N(text) => AttributeValue::N(limits::number(text)?),
        Attribute::B(text) => AttributeValue::B(blob(text)?),
        Attribute::Bool(value) => AttributeValue::Bool(*value),
        Attribute::Null => AttributeValue::Null(true),
        Attribute::Set(tag, texts) => set(tag, texts)?,
        Attribute::L(values) => AttributeValue::L(values.iter().map(value).collect::<Result<_, _>>()?),
        Attribute::M(map) => {
            if map.iter().any(|(Text(name), _)| name.is_empty()) {
                return Err("has a key of no characters, which DynamoDB does not hold".to_owned());
            }
            let entry = |(Text(name), held): &(Text<'_>, Attribute<'_>)| Ok((name.to_string(), value(held)?));
            AttributeValue::M(map.iter().map(entry).collect::<Result<_, String>>()?)
        }
    })
}

fn blob(text: &str) -> Result<Blob, String> {
    BASE64.decode(text).map(Blob::new).map_err(|_| "holds a B that is no base64 text".to_owned())
}

fn set(tag: &str, texts: &[Text<'_>]) -> Result<AttributeValue, String> {
    if texts.is_empty() {
        return Err("holds an empty set, which DynamoDB does not".to_owned());
    }
    let mut seen = HashSet::new();
    let mut first = |bytes: &[u8]| match seen.insert(bytes.to_vec()) {
        true => Ok(()),
        false => Err("holds a set with an element twice".to_owned()),
    };
    match tag {
        "NS" => {
            let numbers = texts.iter().map(|Text(text)| limits::number(text));
            let numbers = numbers.collect::<Result<Vec<_>, _>>()?;
            numbers.iter().try_for_each(|number| first(number.as_bytes()))?;
            Ok(AttributeValue::Ns(numbers))
        }
        "BS" => {
            let blobs = texts.iter().map(|Text(text)| blob(text)).collect::<Result<Vec<_>, _>>()?;
            blobs.iter().try_for_each(|blob| first(blob.as_ref()))?;
            Ok(AttributeValue::Bs(blobs))
        }
        _ => {
            texts.iter().try_for_each(|Text(text)| first(text.as_bytes()))?;
            Ok(AttributeValue::Ss(texts.iter().map(|Text(text)| text.to_string()).collect()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(item: &str) -> Result<Vec<(String, AttributeValue)>, String> {
        let items = StringArray::from(vec![item]);
        let rest = rest(Some(&items), 0, |name| name == "pk")?;
        Ok(rest.into_iter().map(|rest| (rest.name, rest.value)).collect())
    }

    #[test]
    fn everything_but_the_columns_as_it_is() {
        let digits = "1".repeat(38);
        let item = format!(
            r#"{{"s":{{"SS":["b","a"]}},"pk":{{"S":"x"}},"m":{{"M":{{"n":{{"NS":["{digits}"]}},"b":{{"BS":["AP8="]}}}}}}}}"#
        );
        let nested = [
            ("n".to_owned(), AttributeValue::Ns(vec![digits])),
            ("b".to_owned(), AttributeValue::Bs(vec![Blob::new([0, 255])])),
        ];
        let expected = [
            ("m".to_owned(), AttributeValue::M(nested.into())),
            ("s".to_owned(), AttributeValue::Ss(vec!["b".to_owned(), "a".to_owned()])),
        ];
        assert_eq!(of(&item).unwrap(), expected);
    }

    #[test]
    fn what_dynamodb_does_not_hold_is_refused_by_name() {
        for (item, said) in [
            (r#"{"a":1}"#, "no item"),
            (r#"{"a":{"N":"1e200"}}"#, "`a`"),
            (r#"{"a":{"SS":[]}}"#, "empty set"),
            (r#"{"a":{"L":[{"NS":["1","1.0"]}]}}"#, "twice"),
            (r#"{"a":{"B":"?"}}"#, "base64"),
            (r#"{"a":{"M":{"":{"S":"x"}}}}"#, "no characters"),
            (r#"{"":{"S":"x"}}"#, "without a name"),
        ] {
            let reason = of(item).unwrap_err();
            assert!(reason.contains(said), "{item}: {reason}");
        }
    }
}
