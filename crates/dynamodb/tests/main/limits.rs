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

fn one_value(id: ArrayRef, field: arrow::datatypes::Field, value: ArrayRef) -> RecordBatch {
    let id_field = arrow::datatypes::Field::new("id", id.data_type().clone(), true);
    RecordBatch::try_new(Arc::new(Schema::new(vec![id_field, field])), vec![id, value]).unwrap()
}

#[tokio::test]
async fn sets() {
    let table = Table::new().await;
    let set = |json: &str| {
        let id = Arc::new(StringArray::from(vec!["x"]));
        one_value(id, Logical::Json.field("value", true), Arc::new(StringArray::from(vec![json])))
    };
    let encode = |form: &str, json: &str| {
        let forms = [("value".to_owned(), form.to_owned())].into();
        let target =
            table.store.target(WriteRequest { forms, ..request(&table.name, Mode::Upsert) }).unwrap();
        let encoded = target.encode(&set(json), &context()).remove(0);
        (target, encoded.map_err(|refusal| (refusal.stage, refusal.reason)))
    };
    for (form, json, word) in [
        ("number_set", "[1, 1.0]", "twice"),
        ("number_set", "[10, 1e1]", "twice"),
        ("string_set", r#"["a", "a"]"#, "twice"),
        ("number_set", "[]", "no empty set"),
        ("string_set", r#"["a", null]"#, "NULL"),
        ("string_set", r#"["a", 1]"#, "another type"),
        ("number_set", r#"[1, "a"]"#, "another type"),
        ("number_set", "[1e200]", "too large"),
        ("string_set", "{}", "no JSON array"),
    ] {
        let (stage, reason) = encode(form, json).1.unwrap_err();
        assert!(stage == Stage::Convert && reason.contains("`value`") && reason.contains(word), "{reason}");
    }
    let twice = AttributeValue::Ns(vec!["1".into(), "1.0".into()]);
    assert!(!server_takes(&table.name, "x", twice).await, "the server refuses it too");
    let (target, good) = encode("number_set", "[1, 2.5, -1]");
    assert_eq!(good.unwrap().preview["value"].to_string(), "[-1,1,2.5]");
    let writer = target.writer(&whimbrel_model::SliceId::new("t.0"), true, &context()).await.unwrap();
    let records = set("[1, 2.5, -1]");
    let batch = whimbrel_store::WriteBatch { records, seq: 1, cursor: None, contested: false, guards: None };
    assert!(matches!(writer.write(batch).await.unwrap().outcomes[0], Outcome::Created(_)));
}

#[tokio::test]
async fn floats_that_are_no_numbers() {
    let table = Table::new().await;
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let field = arrow::datatypes::Field::new("value", arrow::datatypes::DataType::Float64, true);
        let id = Arc::new(StringArray::from(vec!["x"]));
        let batch = one_value(id, field, Arc::new(arrow::array::Float64Array::from(vec![value])));
        let outcome = table.write(Mode::Upsert, &batch).await.remove(0);
        assert!(reason(&outcome).contains("no finite number"), "{outcome:?}");
    }
    assert!(!server_takes(&table.name, "x", AttributeValue::N("NaN".into())).await);
}

#[tokio::test]
async fn binary_keys_and_keys_of_indexes_by_type() {
    let definition = json!({
        "AttributeDefinitions": [{"AttributeName": "id", "AttributeType": "B"}, {"AttributeName": "g", "AttributeType": "N"}],
        "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
        "GlobalSecondaryIndexes": [{"IndexName": "by_g", "KeySchema": [{"AttributeName": "g", "KeyType": "HASH"}],
                                    "Projection": {"ProjectionType": "ALL"}}],
        "BillingMode": "PAY_PER_REQUEST"
    });
    let name = table_name();
    let store = store_with(&endpoint(), &[(&name, &definition_file(&definition))]);
    store.target(request(&name, Mode::Upsert)).unwrap().create().await.unwrap();
    let table = Table { store, name };
    let batch = |id: &[u8], g: &str| {
        let id = Arc::new(arrow::array::BinaryArray::from(vec![id]));
        one_value(id, Logical::Json.field("g", true), Arc::new(StringArray::from(vec![g])))
    };
    for (id, g, word) in [
        (&b""[..], "1", "`id` is a key and must not be empty"),
        (&[0; 2049][..], "1", "2049 bytes"),
        (b"x", "\"1\"", "`g` is a key of type N, not S"),
        (b"x", "[1]", "`g` is a key and must be N"),
    ] {
        let outcome = table.write(Mode::Upsert, &batch(id, g)).await.remove(0);
        assert!(reason(&outcome).contains(word), "{outcome:?}");
    }
    assert!(matches!(table.write(Mode::Insert, &batch(b"\x00", "1")).await[0], Outcome::Created(_)));
}

#[tokio::test]
async fn keys_alone_are_those_of_whole_records() {
    let table = Table::new().await;
    let target = table.target(Mode::Upsert);
    let batch = two_columns(vec!["a".into(), String::new(), "ü".into()], vec!["t".into(); 3]);
    let whole: Vec<Option<u128>> = target
        .encode(&batch, &context())
        .into_iter()
        .map(|encoded| encoded.ok().map(|encoded| encoded.fingerprint.key))
        .collect();
    let unknown = target.keys(&batch, &context());
    target.plan(batch.schema_ref()).await.unwrap();
    assert_eq!((target.keys(&batch, &context()), &unknown), (whole, &unknown));
    assert_eq!(unknown.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true]);
}
