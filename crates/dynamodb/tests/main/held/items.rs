//! The column `_item`: whole items, each attribute with its type.

use super::{by_key, expected, flow, held, target, to_arrive, write};
use crate::source::Filled;
use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use aws_sdk_dynamodb::types::AttributeValue;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use whimbrel_model::Logical;
use whimbrel_store::conformance::context;
use whimbrel_store::{Mode, Outcome, Store as _, Target, WriteRequest};

fn batch(records: &[(&str, &Value)]) -> RecordBatch {
    let keys: StringArray = records.iter().map(|(key, _)| Some(*key)).collect();
    let items: StringArray = records.iter().map(|(_, item)| Some(item.to_string())).collect();
    let fields = vec![Field::new("pk", DataType::Utf8, true), Logical::Json.field("_item", true)];
    let columns: Vec<ArrayRef> = vec![Arc::new(keys), Arc::new(items)];
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

/// Every type there is, sets and bytes within a map, numbers at both ends.
fn everything() -> Value {
    json!({
        "pk": {"S": "another"}, "text": {"S": "ü\u{0}\"\n"}, "empty": {"S": ""},
        "digits": {"N": "12345678901234567890123456789012345678"}, "small": {"N": "1E-130"}, "large": {"N": "-9.9E125"},
        "bytes": {"B": "AP8="}, "no_bytes": {"B": ""}, "yes": {"BOOL": true}, "null": {"NULL": true},
        "texts": {"SS": ["b", "a"]}, "numbers": {"NS": ["2", "1.5"]}, "blobs": {"BS": ["AP8=", "AQ=="]},
        "map": {"M": {"set": {"SS": ["x"]}, "deep": {"M": {"b": {"B": "AQ=="}, "l": {"L": []}}}}},
        "list": {"L": [{"NS": ["7"]}, {"M": {}}, {"NULL": true}]},
        "S": {"S": "a name like a type"}, "a.b[0]": {"S": "a name like a path"}
    })
}

/// As DynamoDB JSON writes it.
fn tagged(value: &AttributeValue) -> Value {
    let base64 = |blob: &aws_sdk_dynamodb::primitives::Blob| BASE64.encode(blob);
    match value {
        AttributeValue::S(text) => json!({"S": text}),
        AttributeValue::N(text) => json!({"N": text}),
        AttributeValue::B(blob) => json!({"B": base64(blob)}),
        AttributeValue::Bool(value) => json!({"BOOL": value}),
        AttributeValue::Null(value) => json!({"NULL": value}),
        AttributeValue::Ss(texts) => json!({"SS": texts}),
        AttributeValue::Ns(texts) => json!({"NS": texts}),
        AttributeValue::Bs(blobs) => json!({"BS": blobs.iter().map(base64).collect::<Vec<_>>()}),
        AttributeValue::L(values) => json!({"L": values.iter().map(tagged).collect::<Vec<_>>()}),
        AttributeValue::M(map) => {
            json!({"M": map.iter().map(|(name, value)| (name.clone(), tagged(value))).collect::<Value>()})
        }
        other => panic!("{other:?}"),
    }
}

async fn scanned(table: &Filled) -> Vec<Value> {
    let scanned = table.client.scan().table_name(&table.name).consistent_read(true).send().await.unwrap();
    let tagged = |item: &HashMap<String, AttributeValue>| {
        item.iter().map(|(name, value)| (name.clone(), tagged(value))).collect::<Value>()
    };
    let mut items: Vec<Value> = scanned.items().iter().map(tagged).collect();
    items.sort_unstable_by_key(|item| item["pk"]["S"].to_string());
    items
}

#[tokio::test]
async fn whole_items_arrive_value_for_value_and_are_read_back_the_same() {
    let table = Filled::with(&[("pk", "S")], &[], &[]).await;
    let records = batch(&[("1", &everything()), ("2", &json!({}))]);
    let (target, request) = target(&table, |request| request);
    write(&*target, &records).await;
    let mut first = everything();
    first["pk"] = json!({"S": "1"});
    let found = scanned(&table).await;
    assert_eq!(found.len(), 2);
    assert_same(&found[0], &first);
    assert_eq!(found[1], json!({"pk": {"S": "2"}}));

    let read = held(&*target, &[flow(&records, &request, &[])]).await;
    assert_eq!(read, to_arrive(&*target, &records, 0), "every attribute counts");
    let looked_up = target.look_up(&records, &context()).await.unwrap();
    assert_eq!(by_key(&[looked_up.held]), read);

    // One digit, one element of a set within a map, one attribute more: each is another record.
    for (path, value) in [
        ("/digits/N", json!("12345678901234567890123456789012345679")),
        ("/map/M/set/SS/0", json!("y")),
        ("/list/L/2", json!({"BOOL": false})),
    ] {
        let mut other = everything();
        *other.pointer_mut(path).unwrap() = value;
        let wanted = expected(&*target, &batch(&[("1", &other)]))[0];
        assert_ne!(read[&wanted.key].1, wanted.record, "{path}");
    }
}

/// As DynamoDB tells them apart: sets have no order, numbers are compared by value.
fn assert_same(found: &Value, expected: &Value) {
    let names =
        |item: &Value| item.as_object().unwrap().keys().cloned().collect::<std::collections::BTreeSet<_>>();
    assert_eq!(names(found), names(expected));
    for (name, value) in expected.as_object().unwrap() {
        let sorted = |value: &Value| {
            let mut value = value.clone();
            for tag in ["SS", "NS", "BS"] {
                if let Some(Value::Array(elements)) = value.get_mut(tag) {
                    elements.sort_unstable_by_key(Value::to_string);
                }
            }
            if let Some(Value::String(digits)) = value.get_mut("N") {
                *digits = whimbrel_model::decimal::Decimal::parse(digits).unwrap().to_string();
            }
            value
        };
        assert_eq!(sorted(&found[name]), sorted(value), "{name}");
    }
}

#[tokio::test]
async fn whole_items_are_inserted_skipped_ignored_and_refused_like_others() {
    let table = Filled::with(&[("pk", "S")], &[], &[json!({"pk": {"S": "1"}, "old": {"S": "x"}})]).await;
    let insert = |mode| {
        let request = WriteRequest { mode, ..crate::fixture::request(&table.name, mode) };
        crate::fixture::store_at(&crate::fixture::endpoint()).target(request).unwrap()
    };
    let many: serde_json::Map<_, _> =
        (0..200).map(|number| (format!("it's {number}"), json!({"N": number.to_string()}))).collect();
    let large = json!({"blob": {"S": "x".repeat(450 * 1024)}});
    let wrong = json!({"set": {"SS": []}});
    let records = batch(&[
        ("1", &json!({"new": {"S": "y"}})),
        ("2", &Value::Object(many.clone())),
        ("3", &large),
        ("4", &wrong),
    ]);
    let skip = insert(Mode::SkipExisting);
    let outcomes = written(&*skip, &records).await;
    assert!(matches!(&outcomes[..2], [Outcome::Skipped, Outcome::Created(_)]), "{outcomes:?}");
    let reason = |outcome: &Outcome| match outcome {
        Outcome::Rejected(refusal) => refusal.reason.clone(),
        other => panic!("{other:?}"),
    };
    assert!(
        reason(&outcomes[2]).contains("`blob`") && reason(&outcomes[2]).contains("400 KB"),
        "{outcomes:?}"
    );
    assert!(reason(&outcomes[3]).contains("`set` holds an empty set"), "{outcomes:?}");
    let found = scanned(&table).await;
    assert_eq!(found[0], json!({"pk": {"S": "1"}, "old": {"S": "x"}}), "it was there");
    assert_eq!(
        found[1].as_object().unwrap().len(),
        many.len() + 1,
        "its statement is too long: it goes alone"
    );

    let ignoring = |ignore: &[&str]| {
        let ignore = ignore.iter().map(|name| (*name).to_owned()).collect();
        let request = WriteRequest { ignore, ..crate::fixture::request(&table.name, Mode::Upsert) };
        crate::fixture::store_at(&crate::fixture::endpoint()).target(request).unwrap()
    };
    let (one, other) = (json!({"a": {"M": {"b": {"S": "x"}}}}), json!({"a": {"M": {"b": {"S": "y"}}}}));
    for (ignore, same) in [(&["a.b"][..], true), (&["a"], true), (&["c"], false)] {
        let target = ignoring(ignore);
        target.plan(&batch(&[]).schema()).await.unwrap();
        let prints = expected(&*target, &batch(&[("1", &one), ("1", &other)]));
        assert_eq!(prints[0] == prints[1], same, "{ignore:?}");
    }
    let refused = insert(Mode::Update).plan(&batch(&[]).schema()).await.unwrap_err();
    assert!(refused.to_string().contains("cannot be updated yet"), "{refused}");
}

async fn written(target: &dyn Target, records: &RecordBatch) -> Vec<Outcome> {
    let slice = whimbrel_model::SliceId::new("items.0000");
    let writer = target.writer(&slice, false, &context()).await.unwrap();
    let batch = whimbrel_store::WriteBatch {
        records: records.clone(),
        seq: 1,
        cursor: None,
        contested: false,
        guards: None,
    };
    writer.write(batch).await.unwrap().outcomes
}

#[tokio::test]
async fn an_index_takes_the_items_that_have_its_key() {
    let table = Filled::with(&[("pk", "S")], &[("by_g", &[("g", "N")])], &[]).await;
    let (target, _) = target(&table, |request| request);
    target.plan(&batch(&[]).schema()).await.unwrap();
    let text = json!({"S": "x".repeat(3000)});
    let records = batch(&[
        ("1", &json!({"text": text})),
        ("2", &json!({"text": text, "g": {"N": "7"}})),
        ("3", &json!({"text": text, "g": {"S": "no number"}})),
    ]);
    let encoded = target.encode(&records, &context());
    let units: Vec<_> =
        encoded.iter().map(|one| one.as_ref().map(|one| one.capacity.write_units).ok()).collect();
    assert_eq!(units, [Some(3.0), Some(6.0), None], "only where there is its key");
    assert!(encoded[2].as_ref().unwrap_err().reason.contains("`g`"));
}
