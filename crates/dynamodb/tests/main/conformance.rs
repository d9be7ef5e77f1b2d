use crate::fixture::{definition_file, endpoint, request, store_with, table_name};
use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Float64Array, Int64Array, ListBuilder, RecordBatch,
    StringArray, StringBuilder, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema};
use serde_json::json;
use std::sync::Arc;
use whimbrel_model::Logical;
use whimbrel_store::conformance::{self, TargetFixture};
use whimbrel_store::{Mode, Store, WriteRequest};

/// Every kind of column; `text` tells batches apart, the key is (`pk`, `n`).
fn records(keys: &[&str], text: &str) -> RecordBatch {
    let rows = keys.len();
    let mut tags = ListBuilder::new(StringBuilder::new());
    keys.iter().for_each(|_| tags.append_value([Some("b"), Some("a")]));
    let columns: Vec<(Field, ArrayRef)> = vec![
        (Field::new("pk", DataType::Utf8, true), Arc::new(StringArray::from(keys.to_vec()))),
        (Field::new("n", DataType::Int64, true), Arc::new(Int64Array::from(vec![-42; rows]))),
        (Field::new("text", DataType::Utf8, true), Arc::new(StringArray::from(vec![text; rows]))),
        (
            Logical::Json.field("doc", true),
            Arc::new(StringArray::from(vec![
                r#"{"z":[1.50,null,true,""],"a":{"b":12345678901234567890.12}}"#;
                rows
            ])),
        ),
        (Logical::Number.field("exact", true), Arc::new(StringArray::from(vec!["0.000100"; rows]))),
        (Field::new("float", DataType::Float64, true), Arc::new(Float64Array::from(vec![1e-7; rows]))),
        (Field::new("flag", DataType::Boolean, true), Arc::new(BooleanArray::from(vec![false; rows]))),
        (
            Field::new("bytes", DataType::Binary, true),
            Arc::new(BinaryArray::from(vec![&b"\x00\xff"[..]; rows])),
        ),
        (Field::new("day", DataType::Date32, true), Arc::new(Date32Array::from(vec![19_000; rows]))),
        (
            Field::new(
                "at",
                DataType::Timestamp(arrow::datatypes::TimeUnit::Microsecond, Some("UTC".into())),
                true,
            ),
            Arc::new(TimestampMicrosecondArray::from(vec![1_700_000_000_123_456; rows]).with_timezone("UTC")),
        ),
        (Field::new("tags", DataType::new_list(DataType::Utf8, true), true), Arc::new(tags.finish())),
        (Field::new("nothing", DataType::Utf8, true), Arc::new(StringArray::from(vec![None::<&str>; rows]))),
        (Field::new("gpk", DataType::Utf8, true), Arc::new(StringArray::from(vec![Some("g"); rows]))),
    ];
    let (fields, arrays): (Vec<_>, Vec<_>) = columns.into_iter().unzip();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays).unwrap()
}

fn with_index() -> serde_json::Value {
    let table = json!({
        "TableName": "overridden",
        "AttributeDefinitions": [
            {"AttributeName": "pk", "AttributeType": "S"}, {"AttributeName": "n", "AttributeType": "N"},
            {"AttributeName": "gpk", "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "n", "KeyType": "RANGE"}],
        "GlobalSecondaryIndexes": [{
            "IndexName": "by_g", "KeySchema": [{"AttributeName": "gpk", "KeyType": "HASH"}],
            "Projection": {"ProjectionType": "ALL"}}],
        "BillingMode": "PAY_PER_REQUEST"
    });
    definition_file(&table)
}

#[tokio::test]
async fn the_suite_holds() {
    let name = table_name();
    let store = store_with(&endpoint(), &[(&name, &with_index())]);
    let with_set =
        |mode| WriteRequest { forms: [("tags".into(), "string_set".into())].into(), ..request(&name, mode) };
    let upsert = store.target(with_set(Mode::Upsert)).unwrap();
    let skip_existing = store.target(with_set(Mode::SkipExisting)).unwrap();
    upsert.create().await.unwrap();
    let keys: Vec<String> = (0..60).map(|key| format!("k{key}")).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    conformance::target(&TargetFixture {
        upsert: &*upsert,
        skip_existing: &*skip_existing,
        records: records(&keys, "one"),
        changed: records(&keys, "other"),
        refused: records(&[""], "an empty key"),
    })
    .await;
}
