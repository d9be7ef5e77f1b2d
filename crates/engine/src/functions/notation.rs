//! Whole records from one notation of JSON into the other.

use arrow::array::{ArrayRef, AsArray, StringArray};
use datafusion::common::{Result, exec_err};
use std::sync::Arc;
use whimbrel_model::attribute::{item_to_plain, plain_to_item};

/// `plain_json(_item)`: an item of DynamoDB JSON as an object of plain JSON, every attribute with all its digits; sets
/// become arrays, bytes base64.
pub(super) fn plain_json(args: &[ArrayRef]) -> Result<ArrayRef> {
    rewritten(args, "plain_json: it is no item of DynamoDB JSON", item_to_plain)
}

/// `dynamodb_json(_item)`: an object of plain JSON as an item of DynamoDB JSON.
pub(super) fn dynamodb_json(args: &[ArrayRef]) -> Result<ArrayRef> {
    rewritten(args, "dynamodb_json: it is no object of JSON", plain_to_item)
}

/// `json_set(document, key, text)`: the object with this text under this key, whatever stood there; as it is where the
/// text is NULL.
pub(super) fn json_set(args: &[ArrayRef]) -> Result<ArrayRef> {
    let (documents, keys) = (args[0].as_string::<i32>(), args[1].as_string::<i32>());
    let texts = args[2].as_string::<i32>();
    let set = |((document, key), text): ((Option<&str>, Option<&str>), Option<&str>)| {
        let Some(document) = document else { return Ok(None) };
        let Some(key) = key else { return exec_err!("the key of json_set is NULL") };
        let Some(text) = text else { return Ok(Some(document.to_owned())) };
        match whimbrel_model::json::parse(document) {
            Ok(serde_json::Value::Object(mut object)) => {
                object.insert(key.to_owned(), text.into());
                Ok(Some(serde_json::Value::Object(object).to_string()))
            }
            Ok(_) => exec_err!("json_set: it is no object of JSON"),
            Err(error) => exec_err!("json_set: it is no JSON: {error}"),
        }
    };
    let texts = documents.iter().zip(keys).zip(texts).map(set).collect::<Result<StringArray>>()?;
    Ok(Arc::new(texts))
}

fn rewritten(
    args: &[ArrayRef],
    wrong: &str,
    rewrite: fn(&str) -> std::result::Result<String, serde_json::Error>,
) -> Result<ArrayRef> {
    let text = |text: Option<&str>| match text.map(rewrite).transpose() {
        Ok(text) => Ok(text),
        Err(error) => exec_err!("{wrong}: {error}"),
    };
    let texts = args[0].as_string::<i32>().iter().map(text).collect::<Result<StringArray>>()?;
    Ok(Arc::new(texts))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over(function: fn(&[ArrayRef]) -> Result<ArrayRef>, text: Option<&str>) -> Result<Option<String>> {
        let array: ArrayRef = Arc::new(StringArray::from(vec![text]));
        let made = function(&[array])?;
        Ok(made.as_string::<i32>().iter().next().flatten().map(str::to_owned))
    }

    #[test]
    fn a_text_is_put_under_a_key() {
        let set = |document: Option<&str>, text: Option<&str>| {
            let column = |text: Option<&str>| -> ArrayRef { Arc::new(StringArray::from(vec![text])) };
            let made = json_set(&[column(document), column(Some("k")), column(text)])?;
            Ok::<_, datafusion::common::DataFusionError>(
                made.as_string::<i32>().iter().next().flatten().map(str::to_owned),
            )
        };
        let of = |document, text| set(Some(document), text).unwrap();
        assert_eq!(of(r#"{"a":1.0}"#, Some("x\"")).as_deref(), Some(r#"{"a":1.0,"k":"x\""}"#));
        assert_eq!(of(r#"{"k":[1],"a":2e400}"#, Some("")).as_deref(), Some(r#"{"k":"","a":2e+400}"#));
        assert_eq!(of("{ }", None).as_deref(), Some("{ }"));
        assert_eq!(set(None, Some("x")).unwrap(), None);
        assert!(set(Some("[1]"), Some("x")).unwrap_err().to_string().contains("no object"));
    }

    #[test]
    fn there_and_back() {
        let item = r#"{"a":{"M":{"n":{"N":"1.50"}}},"b":{"L":[{"NULL":true}]}}"#;
        let plain = r#"{"a":{"n":1.50},"b":[null]}"#;
        assert_eq!(over(plain_json, Some(item)).unwrap().as_deref(), Some(plain));
        assert_eq!(over(dynamodb_json, Some(plain)).unwrap().as_deref(), Some(item));
        assert_eq!(over(plain_json, None).unwrap(), None);
        assert!(over(plain_json, Some(plain)).unwrap_err().to_string().contains("no item"));
        assert!(over(dynamodb_json, Some("[1]")).unwrap_err().to_string().contains("no object"));
    }
}
