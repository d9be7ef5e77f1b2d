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
