use super::{Filled, all, lines};
use arrow::datatypes::DataType;
use serde_json::{Map, Value, json};
use whimbrel_model::Logical;
use whimbrel_store::conformance::context;
use whimbrel_store::{ReadBatch, ReadRequest, SourceDescription};

async fn read(
    table: &Filled,
    wanted: &[&str],
    columns: &[(&str, &str)],
) -> (Vec<ReadBatch>, SourceDescription) {
    let columns = columns.iter().map(|(name, word)| ((*name).to_owned(), (*word).to_owned())).collect();
    let source = table.source(ReadRequest { columns, ..table.request(wanted) });
    let description = source.describe().await.unwrap();
    let part = source.slices(1).await.unwrap().remove(0);
    (all(&*source, &part, None, &context()).await.unwrap(), description)
}

async fn row(table: &Filled, wanted: &[&str], columns: &[(&str, &str)]) -> Map<String, Value> {
    lines(&read(table, wanted, columns).await.0).remove(0)
}

#[tokio::test]
async fn undeclared_attributes_are_text_without_loss() {
    let digits = "12345678901234567890123456789012345678";
    let item = json!({
        "id": {"S": "ключ 🗝"},
        "s": {"S": "NUL \u{0} \"quoted\" \\ ü"}, "empty": {"S": ""}, "n": {"N": digits}, "neg": {"N": "-0.5"},
        "yes": {"BOOL": true}, "b": {"B": "AP8="}, "null": {"NULL": true},
        "m": {"M": {"b": {"N": digits}, "a": {"L": [{"NULL": true}, {"S": ""}]}}},
        "ms": {"M": {"tags": {"SS": ["x"]}}}, "ss": {"SS": ["only"]}, "ns": {"NS": ["1.5"]}, "bs": {"BS": ["AA=="]},
        "имя с пробелом": {"S": "v"}
    });
    let table = Filled::with(&[("id", "S")], &[], std::slice::from_ref(&item)).await;
    let names: Vec<&str> = item.as_object().unwrap().keys().map(String::as_str).chain(["gone"]).collect();
    let row = row(&table, &names, &[]).await;
    for (name, expected) in [
        ("id", json!("ключ 🗝")),
        ("s", json!("NUL \u{0} \"quoted\" \\ ü")),
        ("empty", json!("")),
        ("n", json!(digits)),
        ("neg", json!("-0.5")),
        ("yes", json!("true")),
        ("b", json!("AP8=")),
        ("null", Value::Null),
        ("m", json!(format!(r#"{{"a":[null,""],"b":{digits}}}"#))),
        ("ms", json!(r#"{"M":{"tags":{"SS":["x"]}}}"#)),
        ("ss", json!(r#"{"SS":["only"]}"#)),
        ("ns", json!(r#"{"NS":["1.5"]}"#)),
        ("bs", json!(r#"{"BS":["AA=="]}"#)),
        ("имя с пробелом", json!("v")),
        ("gone", Value::Null),
    ] {
        assert_eq!(row[name], expected, "{name}");
    }
}

#[tokio::test]
async fn the_whole_item_tells_null_from_missing_and_keeps_everything() {
    let mut nested = json!({"S": "deep"});
    for level in 0..30 {
        nested = if level % 2 == 0 { json!({"L": [nested]}) } else { json!({"M": {"x": nested}}) };
    }
    let item = json!({
        "id": {"N": "-1"}, "big": {"N": "9.9999999999999999999999999999999999999E+125"}, "tiny": {"N": "1E-130"},
        "null": {"NULL": true}, "nested": nested, "ss": {"SS": ["one"]}, "e": {"L": []}, "m": {"M": {}}
    });
    let table = Filled::with(&[("id", "N")], &[], std::slice::from_ref(&item)).await;
    let source = table.source(ReadRequest { wanted: None, ..table.request(&[]) });
    let description = source.describe().await.unwrap();
    assert_eq!(Logical::of(description.schema.field(0)), Some(Logical::Number));
    assert_eq!(Logical::of(description.schema.field(1)), Some(Logical::Json));
    let part = source.slices(1).await.unwrap().remove(0);
    let batches = all(&*source, &part, None, &context()).await.unwrap();
    let row = lines(&batches).remove(0);
    let read: Value = serde_json::from_str(row["_item"].as_str().unwrap()).unwrap();
    let exact = |value: &Value| whimbrel_model::decimal::Decimal::parse(value["N"].as_str().unwrap());
    for (name, value) in item.as_object().unwrap() {
        match name.as_str() {
            "big" | "tiny" | "id" => assert_eq!(exact(&read[name]), exact(value), "{name}"),
            _ => assert_eq!(read[name], *value, "{name}"),
        }
    }
    assert_eq!(read.get("missing"), None);
    assert_eq!(batches[0].originals.as_ref().unwrap().original(0)["nested"], item["nested"]);
}

#[tokio::test]
async fn declared_types_are_kept_or_refused_with_the_value() {
    let good = json!({
        "id": {"S": "good"}, "flag": {"BOOL": false}, "count": {"N": "42"}, "price": {"N": "1.10"}, "ratio": {"N": "0.25"},
        "doc": {"M": {"a": {"N": "1.50"}, "s": {"SS": ["x"]}, "b": {"B": "AP8="}}}, "at": {"S": "2024-02-29T12:00:00.000001Z"},
        "day": {"S": "2024-02-29"}, "uid": {"S": "f47ac10b-58cc-4372-a567-0e02b2c3d479"}, "bytes": {"B": "AP8="}
    });
    let long = "x".repeat(10_000);
    let bad = json!({
        "id": {"S": "bad"}, "flag": {"N": "1"}, "count": {"N": "1.5"}, "price": {"S": long}, "ratio": {"BOOL": true},
        "at": {"S": "yesterday"}, "day": {"S": "2023-02-29"}, "uid": {"S": "no"}, "bytes": {"S": "AP8="}
    });
    let declared = [
        ("flag", "boolean"),
        ("count", "integer"),
        ("price", "number"),
        ("ratio", "float"),
        ("doc", "json"),
        ("at", "timestamp"),
        ("day", "date"),
        ("uid", "uuid"),
        ("bytes", "binary"),
    ];
    let wanted = declared.map(|(name, _)| name);
    let table = Filled::with(&[("id", "S")], &[], &[good]).await;
    let read_good = row(&table, &wanted, &declared).await;
    for (name, expected) in [
        ("flag", json!(false)),
        ("count", json!(42)),
        ("ratio", json!(0.25)),
        ("doc", json!(r#"{"a":1.50,"b":"AP8=","s":["x"]}"#)),
        ("at", json!("2024-02-29T12:00:00.000001Z")),
        ("day", json!("2024-02-29")),
        ("uid", json!("f47ac10b-58cc-4372-a567-0e02b2c3d479")),
        ("bytes", json!("AP8=")),
    ] {
        // A server may write numbers in its own way: 1.5 for 1.50.
        let read = read_good[name].to_string().replace("1.5,", "1.50,");
        assert_eq!(read, expected.to_string(), "{name}");
    }

    let table = Filled::with(&[("id", "S")], &[], &[bad]).await;
    let (batches, _) = read(&table, &wanted, &declared).await;
    let refused: Vec<_> = batches[0].unreadable.iter().map(|bad| (bad.row, bad.column.as_str())).collect();
    assert_eq!(refused.len(), 8, "{refused:?}");
    assert!(batches[0].unreadable.iter().all(|bad| bad.reason.len() < 250 && bad.row == 0));
    let price = batches[0].unreadable.iter().find(|bad| bad.column == "price").unwrap();
    assert_eq!(price.raw, format!(r#"{{"S":"{long}"}}"#).into_bytes(), "the value is kept whole");
    assert_eq!(lines(&batches)[0]["price"], Value::Null);
}

#[tokio::test]
async fn large_items_and_many_attributes() {
    let mut wide = Map::from_iter([("id".to_owned(), json!({"S": "wide"}))]);
    wide.extend((0..1000).map(|number| (format!("attribute {number}"), json!({"N": number.to_string()}))));
    let large = json!({"id": {"S": "large"}, "text": {"S": "z".repeat(400 * 1024 - 20)}});
    let table = Filled::with(&[("id", "S")], &[], &[Value::Object(wide), large]).await;
    let names: Vec<String> =
        (0..1000).map(|number| format!("attribute {number}")).chain(["text".into()]).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (batches, description) = read(&table, &names, &[]).await;
    assert_eq!(description.schema.fields().len(), 1002);
    let rows = lines(&batches);
    let row = |id: &str| rows.iter().find(|row| row["id"] == id).unwrap();
    assert_eq!(row("wide")["attribute 999"], "999");
    assert_eq!(row("large")["text"].as_str().unwrap().len(), 400 * 1024 - 20);
    assert_eq!(row("large")["attribute 0"], Value::Null);
}

#[tokio::test]
async fn a_plan_says_what_it_does_not_read() {
    let items = [
        json!({"id": {"B": "AA=="}, "a": {"S": "1"}, "other": {"S": "x"}}),
        json!({"id": {"B": "AQ=="}, "a": {"N": "1"}}),
    ];
    let table = Filled::with(&[("id", "B")], &[], &items).await;
    let (_, description) = read(&table, &["a", "none"], &[]).await;
    assert_eq!(description.key, ["id"]);
    assert!(description.sees_all && description.resumable);
    assert_eq!(*description.schema.field(0).data_type(), DataType::Binary);
    let notes = description.notes.join("\n");
    for expected in [
        "in all 2 items, attributes that nothing reads: other",
        "columns that none of all 2 items has: none",
        "in all 2 items, columns of several types: a (N, S)",
    ] {
        assert!(notes.contains(expected), "{expected:?} is not in {notes:?}");
    }
}
