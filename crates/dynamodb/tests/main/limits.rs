//! Each limit: what we take, the server takes; what we refuse, we refuse with the reason, and the server would.

use crate::fixture::{
    Table, definition_file, endpoint, reason, request, store_with, table_name, two_columns,
};
use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::Schema;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_dynamodb::{Client, Config};
use serde_json::json;
use std::sync::Arc;
use whimbrel_model::{Logical, Stage};
use whimbrel_store::conformance::context;
use whimbrel_store::{Mode, Outcome, Store, WriteRequest};

fn client() -> Client {
    Client::from_conf(
        Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .endpoint_url(endpoint())
            .credentials_provider(Credentials::new("local", "local", None, None, "test"))
            .build(),
    )
}

async fn server_takes(table: &str, id: &str, value: AttributeValue) -> bool {
    let put = client().put_item().table_name(table).item("id", AttributeValue::S(id.to_owned()));
    put.item("value", value).send().await.is_ok()
}

async fn one(table: &Table, id: &str, text: &str) -> Outcome {
    table.write(Mode::Upsert, &two_columns(vec![id.to_owned()], vec![text.to_owned()])).await.remove(0)
}

async fn one_json(table: &Table, json: &str) -> Outcome {
    let schema = Schema::new(vec![
        arrow::datatypes::Field::new("id", arrow::datatypes::DataType::Utf8, true),
        Logical::Json.field("value", true),
    ]);
    let columns: Vec<ArrayRef> =
        vec![Arc::new(StringArray::from(vec!["x"])), Arc::new(StringArray::from(vec![json]))];
    let batch = RecordBatch::try_new(Arc::new(schema), columns).unwrap();
    table.write(Mode::Upsert, &batch).await.remove(0)
}

#[tokio::test]
async fn items_of_400_kb() {
    let table = Table::new().await;
    let fits = 400 * 1024 - "id".len() - "x".len() - "text".len();
    assert!(matches!(one(&table, "x", &"ä".repeat(fits / 2)).await, Outcome::Created(_)));
    let refused = one(&table, "x", &"x".repeat(fits + 1)).await;
    assert!(reason(&refused).contains("400.1 KB") && reason(&refused).contains("`text`"), "{refused:?}");
    assert!(
        !server_takes(&table.name, "x", AttributeValue::S("x".repeat(fits))).await,
        "one byte of name more"
    );
}

#[tokio::test]
async fn keys() {
    let table = Table::new().await;
    assert!(matches!(one(&table, &"k".repeat(2048), "t").await, Outcome::Created(_)));
    assert!(reason(&one(&table, &"k".repeat(2049), "t").await).contains("2049 bytes"));
    assert!(reason(&one(&table, "", "t").await).contains("must not be empty"));
    assert!(!server_takes(&table.name, &"k".repeat(2049), AttributeValue::Null(true)).await);
    assert!(!server_takes(&table.name, "", AttributeValue::Null(true)).await);
}

#[tokio::test]
async fn numbers() {
    let table = Table::new().await;
    let digits = |count| "9".repeat(count);
    for number in [digits(38), "9e125".into(), "-1e-130".into(), "0.00".into()] {
        assert!(matches!(one_json(&table, &number).await, Outcome::Created(_)), "{number}");
    }
    for (number, word) in
        [(digits(39), "39 significant"), ("1e126".into(), "too large"), ("1e-131".into(), "near to zero")]
    {
        assert!(reason(&one_json(&table, &number).await).contains(word), "{number}");
        assert!(!server_takes(&table.name, "x", AttributeValue::N(number.clone())).await, "{number}");
    }
}

#[tokio::test]
async fn nesting() {
    let table = Table::new().await;
    let nested = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
    assert!(matches!(one_json(&table, &nested(31)).await, Outcome::Created(_)));
    assert!(reason(&one_json(&table, &nested(32)).await).contains("32 levels"));
    let deep = (0..32).fold(AttributeValue::Bool(true), |value, _| AttributeValue::L(vec![value]));
    assert!(!server_takes(&table.name, "x", deep).await);
}

#[tokio::test]
async fn duplicate_json_keys_and_empty_sets() {
    let table = Table::new().await;
    assert!(reason(&one_json(&table, r#"{"a":1,"a":2}"#).await).contains("stands twice"));
    assert!(!server_takes(&table.name, "x", AttributeValue::Ss(Vec::new())).await);
    let schema = [("id", "x"), ("value", "[]")]
        .map(|(name, value)| (name, Arc::new(StringArray::from(vec![value])) as ArrayRef));
    let batch = RecordBatch::try_from_iter(schema).unwrap();
    let json = Logical::Json.field("value", true);
    let schema = Schema::new(vec![batch.schema().field(0).clone(), json]);
    let batch = RecordBatch::try_new(Arc::new(schema), batch.columns().to_vec()).unwrap();
    let forms = [("value".to_owned(), "string_set".to_owned())].into();
    let target = table.store.target(WriteRequest { forms, ..request(&table.name, Mode::Upsert) }).unwrap();
    let refusal = target.encode(&batch, &context()).remove(0).unwrap_err();
    assert_eq!(refusal.stage, Stage::Convert);
    assert!(refusal.reason.contains("no empty set"), "{}", refusal.reason);
}

#[tokio::test]
async fn keys_of_indexes() {
    let definition = json!({
        "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "S"}, {"AttributeName": "text", "AttributeType": "S"}],
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
        "GlobalSecondaryIndexes": [{"IndexName": "by_text", "KeySchema": [{"AttributeName": "text", "KeyType": "HASH"}],
                                    "Projection": {"ProjectionType": "KEYS_ONLY"}}],
        "BillingMode": "PAY_PER_REQUEST"
    });
    let name = table_name();
    let store = store_with(&endpoint(), &[(&name, &definition_file(&definition))]);
    store.target(request(&name, Mode::Upsert)).unwrap().create().await.unwrap();
    let table = Table { store, name };
    assert!(reason(&one(&table, "x", "").await).contains("`text` is a key and must not be empty"));
    assert!(matches!(one(&table, "x", "t").await, Outcome::Created(_)));
    let put = client().put_item().table_name(&table.name).item("id", AttributeValue::S("y".into()));
    assert!(
        put.item("text", AttributeValue::S(String::new())).send().await.is_err(),
        "the server refuses it too"
    );
}
