//! Reading back: what is there has the fingerprints of what was sent.

use crate::fixture::{Fixture, batch, batch_of, people, writing};
use crate::target::{words, write};
use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Schema;
use futures::TryStreamExt as _;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;
use whimbrel_model::{Logical, SlicePart};
use whimbrel_store::{HeldBatch, HeldFlow, KeyPattern, Mode, Target, WriteRequest, conformance};

async fn held(target: &Arc<dyn Target>, part: &SlicePart, flows: &[HeldFlow]) -> Vec<HeldBatch> {
    let stream = target.held(part, flows, &conformance::context()).await.unwrap();
    stream.try_collect().await.unwrap()
}

fn flow(records: &RecordBatch, request: &WriteRequest, constants: Vec<KeyPattern>) -> HeldFlow {
    HeldFlow { constants, columns: records.schema(), request: request.clone() }
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_together_hold_every_record_once() {
    let fixture = Fixture::new("CREATE TABLE people (id INT PRIMARY KEY, name TEXT) WITHOUT ROWID");
    let request = writing("people", Mode::Upsert);
    let target = fixture.target(request.clone());
    let ids: Vec<i64> = (0..9_000).map(|id| id * 7 - 5_000).collect();
    let names: Vec<_> = ids.iter().map(|id| format!("name {id}")).collect();
    let records = people(&ids, &names.iter().map(|name| Some(name.as_str())).collect::<Vec<_>>());
    target.plan(records.schema_ref()).await.unwrap();
    assert!(words(&write(&target, batch(&records, 1)).await).iter().all(|word| word == "created"));
    let context = conformance::context();
    let sent: BTreeSet<String> =
        target.fingerprints(&records, &context).into_iter().map(|one| one.unwrap().to_string()).collect();
    for wanted in [1, 5] {
        let parts = target.held_parts(wanted).await.unwrap();
        assert_eq!(parts.len(), wanted);
        let mut seen = Vec::new();
        for part in &parts {
            for batch in held(&target, part, &[flow(&records, &request, Vec::new())]).await {
                assert!(batch.records.iter().all(|record| record.flow == Some(0)));
                seen.extend(batch.records.iter().map(|record| record.fingerprint.to_string()));
            }
        }
        assert_eq!(seen.len(), 9_000);
        assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), sent);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_values_are_equal_and_others_are_not() {
    let fixture = Fixture::new("CREATE TABLE t (id INT PRIMARY KEY, doc TEXT, n TEXT, x REAL, more)");
    let request = WriteRequest { ignore: vec!["more".to_owned()], ..writing("t", Mode::Upsert) };
    let target = fixture.target(request.clone());
    let plain = batch_of(vec![
        ("id", Arc::new(Int64Array::from(vec![1, 2, 3, 4])) as ArrayRef),
        ("doc", Arc::new(StringArray::from(vec!["{\"a\":1,\"b\":[1.0]}"; 4]))),
        ("n", Arc::new(StringArray::from(vec!["1.50"; 4]))),
        ("x", Arc::new(Float64Array::from(vec![0.1; 4]))),
        ("more", Arc::new(StringArray::from(vec!["x"; 4]))),
    ]);
    let mut fields: Vec<_> = plain.schema().fields().iter().map(|field| (**field).clone()).collect();
    fields[1] = Logical::Json.field("doc", true);
    fields[2] = Logical::Number.field("n", true);
    let records = RecordBatch::try_new(Arc::new(Schema::new(fields)), plain.columns().to_vec()).unwrap();
    target.plan(records.schema_ref()).await.unwrap();
    write(&target, batch(&records, 1)).await;
    fixture
        .connect()
        .execute_batch(
            "UPDATE t SET doc = '{ \"b\": [1], \"a\": 1.0 }', n = '1.5', more = 'y' WHERE id = 1; \
             UPDATE t SET doc = '{\"a\":1,\"b\":[1.0,null]}' WHERE id = 2; UPDATE t SET x = 0.1 + 1e-17 * 8 WHERE id = 3; \
             INSERT INTO t VALUES (5, 'broken', CAST(x'ff' AS TEXT), x'00', NULL)",
        )
        .unwrap();
    let part = target.held_parts(1).await.unwrap().remove(0);
    let read = held(&target, &part, &[flow(&records, &request, Vec::new())]).await.remove(0);
    let sent: Vec<_> =
        target.fingerprints(&records, &conformance::context()).into_iter().map(Result::unwrap).collect();
    let same: Vec<_> = sent.iter().zip(&read.records).map(|(sent, held)| *sent == held.fingerprint).collect();
    let keys: Vec<_> =
        sent.iter().zip(&read.records).map(|(sent, held)| sent.key == held.fingerprint.key).collect();
    assert_eq!((same, keys, read.records.len()), (vec![true, false, false, true], vec![true; 4], 5));
    assert_eq!(json!(read.contents.key(4)), json!({"id": 5}));
    assert_eq!(
        json!(read.contents.record(3)),
        json!({"id": 4, "doc": {"a": 1, "b": [1.0]}, "n": "1.50", "x": 0.1, "more": "x"})
    );
    assert_eq!(read.contents.record(4)["n"], "/w==");
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_several_flows_and_of_none() {
    let fixture = Fixture::new(
        "CREATE TABLE items (pk TEXT PRIMARY KEY, v INT, w TEXT); INSERT INTO items VALUES ('A#1', 1, 'x'), ('B#1', 2, 'y'), ('C#1', 3, 'z')",
    );
    let request = writing("items", Mode::Upsert);
    let target = fixture.target(request.clone());
    let constants =
        |text: &str| vec![KeyPattern { column: "pk".to_owned(), text: text.to_owned(), whole: false }];
    let of = |column: &'static str| {
        let value: ArrayRef = if column == "v" {
            Arc::new(Int64Array::from(vec![1]))
        } else {
            Arc::new(StringArray::from(vec!["y"]))
        };
        batch_of(vec![("pk", Arc::new(StringArray::from(vec!["?"])) as ArrayRef), (column, value)])
    };
    let flows = [flow(&of("v"), &request, constants("A#")), flow(&of("w"), &request, constants("B#"))];
    let part = target.held_parts(1).await.unwrap().remove(0);
    let read = held(&target, &part, &flows).await.remove(0);
    assert_eq!(read.records.iter().map(|record| record.flow).collect::<Vec<_>>(), [Some(0), Some(1), None]);
    assert_eq!(json!(read.contents.record(1)), json!({"pk": "B#1", "w": "y"}));
    assert_eq!(json!(read.contents.record(2)), json!({"pk": "C#1", "v": 3, "w": "z"}));
    assert_eq!(json!(read.contents.key(2)), json!({"pk": "C#1"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_looked_up_by_their_keys() {
    let fixture = Fixture::new(
        "CREATE TABLE people (id INT PRIMARY KEY, name TEXT); INSERT INTO people VALUES (1, 'a'), (3, 'other')",
    );
    let target = fixture.target(writing("people", Mode::Upsert));
    let records = people(&[3, 2, 1], &[Some("c"), Some("b"), Some("a")]);
    let found = target.look_up(&records, &conformance::context()).await.unwrap();
    assert_eq!(found.rows, [Some(0), None, Some(1)]);
    let sent: Vec<_> =
        target.fingerprints(&records, &conformance::context()).into_iter().map(Result::unwrap).collect();
    assert_ne!(found.held.records[0].fingerprint, sent[0]);
    assert_eq!(found.held.records[0].fingerprint.key, sent[0].key);
    assert_eq!(found.held.records[1].fingerprint, sent[2]);
    assert_eq!(json!(found.held.contents.record(0)), json!({"id": 3, "name": "other"}));
}
