use super::{expected, flow, held, target, write};
use crate::source::Filled;
use arrow::array::{ArrayRef, RecordBatch, StringArray};
use serde_json::{Value, json};
use std::sync::Arc;
use whimbrel_model::Logical;
use whimbrel_store::WriteRequest;
use whimbrel_store::conformance::context;

/// One record: a number of 38 digits, a set, a list and a document.
fn record() -> RecordBatch {
    let text = |value: Option<&str>| Arc::new(StringArray::from(vec![value])) as ArrayRef;
    let fields = vec![
        arrow::datatypes::Field::new("id", arrow::datatypes::DataType::Utf8, true),
        Logical::Number.field("number", true),
        Logical::Json.field("set", true),
        Logical::Json.field("list", true),
        Logical::Json.field("doc", true),
        Logical::Json.field("numbers", true),
        arrow::datatypes::Field::new("gone", arrow::datatypes::DataType::Utf8, true),
    ];
    let columns = vec![
        text(Some("a")),
        text(Some("12345678901234567890123456789012345678")),
        text(Some(r#"["x","y"]"#)),
        text(Some("[]")),
        text(Some(r#"{"a":1,"b":[1,2]}"#)),
        text(Some("[1,20]")),
        text(None),
    ];
    RecordBatch::try_new(Arc::new(arrow::datatypes::Schema::new(fields)), columns).unwrap()
}

fn as_written() -> Value {
    json!({
        "id": {"S": "a"}, "number": {"N": "12345678901234567890123456789012345678"}, "set": {"SS": ["x", "y"]},
        "list": {"L": []}, "doc": {"M": {"a": {"N": "1"}, "b": {"L": [{"N": "1"}, {"N": "2"}]}}},
        "numbers": {"NS": ["1", "20"]}
    })
}

#[tokio::test]
async fn what_another_client_changes_is_seen_and_nothing_else() {
    let table = Filled::with(&[("id", "S")], &[], &[]).await;
    let forms = [("set", "string_set"), ("numbers", "number_set")];
    let (target, request) = target(&table, |request| WriteRequest {
        forms: forms.map(|(name, form)| (name.to_owned(), form.to_owned())).into(),
        ..request
    });
    let record = record();
    write(&*target, &record).await;
    let wanted = expected(&*target, &record)[0];
    let flows = [flow(&record, &request, &[])];
    let changes = [
        ("nothing", json!({}), true),
        ("the order of a set", json!({"set": {"SS": ["y", "x"]}}), true),
        ("the spelling of numbers", json!({"numbers": {"NS": ["2E1", "1.00"]}}), true),
        (
            "the order of a map's keys",
            json!({"doc": {"M": {"b": {"L": [{"N": "1.0"}, {"N": "2"}]}, "a": {"N": "1"}}}}),
            true,
        ),
        ("an attribute that the flow does not write", json!({"other": {"S": "x"}}), true),
        ("one digit of 38", json!({"number": {"N": "12345678901234567890123456789012345679"}}), false),
        (
            "the order of a list",
            json!({"doc": {"M": {"a": {"N": "1"}, "b": {"L": [{"N": "2"}, {"N": "1"}]}}}}),
            false,
        ),
        ("a list that is missing", json!({"list": null}), false),
        ("a list that became NULL", json!({"list": {"NULL": true}}), false),
        ("NULL where there was nothing", json!({"gone": {"NULL": true}}), false),
        (
            "a number that became text",
            json!({"number": {"S": "12345678901234567890123456789012345678"}}),
            false,
        ),
        ("a set that became a list", json!({"set": {"L": [{"S": "x"}, {"S": "y"}]}}), false),
        ("a set with one more", json!({"set": {"SS": ["x", "y", ""]}}), false),
    ];
    for (what, change, same) in changes {
        let mut item = as_written();
        for (name, value) in change.as_object().unwrap() {
            match value {
                Value::Null => item.as_object_mut().unwrap().remove(name),
                value => item.as_object_mut().unwrap().insert(name.clone(), value.clone()),
            };
        }
        table.put(&[item]).await;
        let read = held(&*target, &flows).await;
        assert_eq!(read.len(), 1);
        assert_eq!(read[&wanted.key].1 == wanted.record, same, "{what}");
        let found = target.look_up(&record, &context()).await.unwrap().held;
        assert_eq!(found.records[0].fingerprint.record, read[&wanted.key].1, "{what}");
        assert_eq!(found.contents.record(0), read[&wanted.key].2, "{what}");
    }
}
