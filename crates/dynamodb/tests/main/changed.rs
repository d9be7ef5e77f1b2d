//! `Mode::Changed`: what is the same is not written, and what was written since it was compared stays.

use crate::fixture::{Table, created, endpoint, reason, records, request, two_columns};
use crate::proxy::{Act, Proxy};
use crate::updates::{held, put, row, s, text_of, unchanged, updated};
use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema};
use aws_sdk_dynamodb::types::AttributeValue;
use futures::TryStreamExt as _;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use whimbrel_model::{Logical, SliceId};
use whimbrel_store::conformance::context;
use whimbrel_store::{Doomed, HeldFlow, Mode, Outcome, Store, WriteBatch, WriteOutcome, WriteRequest};

fn plain(table: &Table) -> WriteRequest {
    request(&table.name, Mode::Changed)
}

fn ignoring(table: &Table, paths: &[&str]) -> WriteRequest {
    WriteRequest { ignore: paths.iter().map(|path| (*path).to_owned()).collect(), ..plain(table) }
}

/// Writes into a table that held something when the run began.
async fn write(table: &Table, request: WriteRequest, records: &RecordBatch) -> WriteOutcome {
    write_as(table, request, records, false, false).await
}

async fn write_as(
    table: &Table,
    request: WriteRequest,
    records: &RecordBatch,
    empty: bool,
    contested: bool,
) -> WriteOutcome {
    let target = table.store.target(request).unwrap();
    let writer = target.writer(&SliceId::new("test.0000"), empty, &context()).await.unwrap();
    let records = records.clone();
    writer.write(WriteBatch { records, seq: 1, cursor: None, contested, guards: None }).await.unwrap()
}

/// A record with a document.
fn document(id: &str, document: &Value) -> RecordBatch {
    let schema = Schema::new(vec![Field::new("id", DataType::Utf8, true), Logical::Json.field("doc", true)]);
    let text = |text: String| Arc::new(StringArray::from(vec![text])) as ArrayRef;
    RecordBatch::try_new(Arc::new(schema), vec![text(id.to_owned()), text(document.to_string())]).unwrap()
}

#[tokio::test]
async fn only_what_differs_is_written() {
    let proxy = Proxy::start(&endpoint(), Vec::new()).await;
    let table = Table::behind(&proxy.url).await;
    table.write(Mode::Upsert, &records(0..230, "same")).await;
    put(&table, "id00007", &[("text", s("old")), ("other", s("stays"))]).await;
    let (before, all) = (proxy.seen("BatchWriteItem"), records(0..240, "same"));
    let first = write(&table, plain(&table), &all).await;
    let counts = |outcome: &WriteOutcome| {
        (created(&outcome.outcomes), updated(&outcome.outcomes), unchanged(&outcome.outcomes))
    };
    assert_eq!(counts(&first), (10, 1, 229));
    assert!(first.capacity.write_units > 0.0 && first.capacity.write_units < 30.0, "{:?}", first.capacity);
    let item = held(&table, "id00007").await.unwrap();
    assert_eq!((&item["text"], &item["other"]), (&s("same"), &s("stays")), "other attributes stay");

    let statements = proxy.seen("BatchExecuteStatement");
    let second = write(&table, plain(&table), &all).await;
    assert_eq!(counts(&second), (0, 0, 240));
    assert!(second.capacity.write_units.abs() < f64::EPSILON, "{:?}", second.capacity);
    assert!(second.capacity.read_units >= 240.0, "each item was looked at: {:?}", second.capacity);
    assert!(second.capacity.spared_write_units >= 240.0, "{:?}", second.capacity);
    assert_eq!(proxy.seen("BatchExecuteStatement"), statements, "no request writes");
    assert_eq!(proxy.seen("BatchWriteItem"), before);
    let expected = table.store.target(plain(&table)).unwrap().fingerprints(&all, &context());
    let prints = second.outcomes.iter().map(|outcome| match outcome {
        Outcome::Unchanged(print) => *print,
        other => panic!("{other:?}"),
    });
    assert_eq!(prints.collect::<Vec<_>>(), expected.into_iter().map(Result::unwrap).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_table_that_held_nothing_is_not_asked() {
    let proxy = Proxy::start(&endpoint(), Vec::new()).await;
    let table = Table::behind(&proxy.url).await;
    let outcome = write_as(&table, plain(&table), &records(0..60, "new"), true, false).await;
    assert_eq!((created(&outcome.outcomes), proxy.seen("BatchGetItem")), (60, 0));
    let again = write_as(&table, plain(&table), &records(0..70, "new"), true, true).await;
    assert_eq!(created(&again.outcomes), 70, "contested: what is the same is ours");
    put(&table, "id00003", &[("text", s("older"))]).await;
    let again = write_as(&table, plain(&table), &records(0..4, "new"), true, true).await;
    assert_eq!((created(&again.outcomes), updated(&again.outcomes)), (3, 1));
    let late = write_as(&table, plain(&table), &records(3..4, "newest"), true, false).await;
    assert!(reason(&late.outcomes[0]).starts_with("conflict: the key held nothing"), "{late:?}");
    assert_eq!(text_of(&table, "id00003").await, "new");
}

#[tokio::test]
async fn what_was_written_since_it_was_compared_stays() {
    let proxy = Proxy::start(&endpoint(), Vec::new()).await;
    let table = Table::behind(&proxy.url).await;
    table.write(Mode::Upsert, &records(0..10, "old")).await;
    proxy.always("BatchExecuteStatement", Act::Refuse { status: 500, code: "InternalServerError" });
    let all = records(0..12, "new");
    let editing = async {
        while proxy.seen("BatchExecuteStatement") == 0 {
            tokio::task::yield_now().await;
        }
        put(&table, "id00002", &[("text", s("newer"))]).await;
        put(&table, "id00003", &[("text", s("new"))]).await;
        put(&table, "id00010", &[("text", s("newer"))]).await;
        proxy.always("none", Act::DropAnswer);
    };
    let (outcome, ()) = tokio::join!(write(&table, plain(&table), &all), editing);
    assert_eq!((updated(&outcome.outcomes), created(&outcome.outcomes)), (9, 1), "{outcome:?}");
    assert!(reason(&outcome.outcomes[2]).starts_with("conflict: attribute `text`"));
    assert!(reason(&outcome.outcomes[10]).starts_with("conflict: the key held nothing"));
    for id in ["id00002", "id00010"] {
        assert_eq!(text_of(&table, id).await, "newer");
    }
}

#[tokio::test]
async fn answers_that_are_lost_change_no_count() {
    for act in [Act::DropAnswer, Act::FailAfter, Act::DropRequest, Act::GiveBack(5)] {
        let script = vec![("BatchExecuteStatement", act.clone()), ("BatchGetItem", Act::DropAnswer)];
        let proxy = Proxy::start(&endpoint(), script).await;
        let table = Table::behind(&proxy.url).await;
        table.write(Mode::Upsert, &records(0..12, "old")).await;
        table.write(Mode::Upsert, &records(12..15, "new")).await;
        let outcome = write(&table, plain(&table), &records(0..25, "new")).await;
        let counts = (created(&outcome.outcomes), updated(&outcome.outcomes), unchanged(&outcome.outcomes));
        assert_eq!(counts, (10, 12, 3), "{act:?}");
        let again = write(&table, plain(&table), &records(0..25, "new")).await;
        assert_eq!(unchanged(&again.outcomes), 25, "{act:?}");
    }
}

#[tokio::test]
async fn what_is_ignored_makes_no_difference_at_any_depth() {
    let table = Table::new().await;
    let doc = |at: &str, text: &str| json!({"questions": [{"text": text, "updated_at": at, "answers": [{"n": 1.50, "at": at}]}], "at": at});
    let paths = ["doc.questions[*].updated_at", "doc.questions[*].answers[*].at", "doc.at"];
    let outcome = write(&table, ignoring(&table, &paths), &document("a", &doc("1", "x"))).await;
    assert_eq!(created(&outcome.outcomes), 1);
    let other = write(&table, ignoring(&table, &paths), &document("a", &doc("2", "x"))).await;
    assert_eq!(unchanged(&other.outcomes), 1);
    let seen = write(&table, ignoring(&table, &paths[1..]), &document("a", &doc("2", "x"))).await;
    assert_eq!(updated(&seen.outcomes), 1, "without the first path it is seen");
    let text = write(&table, ignoring(&table, &paths), &document("a", &doc("3", "y"))).await;
    assert_eq!(updated(&text.outcomes), 1);
    let held = held(&table, "a").await.unwrap()["doc"].as_m().unwrap().clone();
    assert_eq!(held["at"], s("3"), "what is written is written whole");
    let question = held["questions"].as_l().unwrap()[0].as_m().unwrap();
    let answer = question["answers"].as_l().unwrap()[0].as_m().unwrap();
    assert_eq!(answer["n"], AttributeValue::N("1.5".to_owned()));
}

#[tokio::test]
async fn whole_attributes_are_ignored_and_nulls_are_compared() {
    let table = Table::new().await;
    let ignored = || ignoring(&table, &["at"]);
    let record = |text, at| row("a", &[("text", text), ("at", Some(at))]);
    write(&table, ignored(), &record(Some("x"), "1")).await;
    assert_eq!(unchanged(&write(&table, ignored(), &record(Some("x"), "2")).await.outcomes), 1);
    assert_eq!(held(&table, "a").await.unwrap()["at"], s("1"));
    assert_eq!(updated(&write(&table, ignored(), &record(None, "3")).await.outcomes), 1);
    let item = held(&table, "a").await.unwrap();
    assert!(!item.contains_key("text"), "a NULL is no attribute: {item:?}");
    assert_eq!(item["at"], s("3"), "where something else differs it is written, too");
    assert_eq!(unchanged(&write(&table, ignored(), &record(None, "4")).await.outcomes), 1);
}

#[tokio::test]
async fn a_second_record_of_a_key_and_wide_records() {
    let table = Table::new().await;
    table.write(Mode::Upsert, &records(0..3, "old")).await;
    let (first, second) = (records(0..3, "new"), records(1..2, "newer"));
    let both = concat_batches(first.schema_ref(), [&first, &second]).unwrap();
    let outcome = write(&table, plain(&table), &both).await;
    assert_eq!(updated(&outcome.outcomes), 3);
    assert!(reason(&outcome.outcomes[3]).contains("a second record with the key"));
    let refused = write(&table, plain(&table), &two_columns(vec![String::new()], vec!["t".into()])).await;
    assert!(matches!(refused.outcomes[0], Outcome::Rejected(_)));

    let wide = |text: &str| {
        let names: Vec<String> = (0..140).map(|number| format!("column{number:03}")).collect();
        let columns: Vec<_> = names.iter().map(|name| (name.as_str(), Some(text))).collect();
        row("wide", &columns)
    };
    assert_eq!(created(&write(&table, plain(&table), &wide("one")).await.outcomes), 1);
    assert_eq!(unchanged(&write(&table, plain(&table), &wide("one")).await.outcomes), 1);
    assert_eq!(updated(&write(&table, plain(&table), &wide("two")).await.outcomes), 1);
    assert_eq!(unchanged(&write(&table, plain(&table), &wide("two")).await.outcomes), 1);
}

/// What a table holds, as it is read before some of it is deleted.
async fn doomed(table: &Table, request: &WriteRequest) -> Vec<Doomed> {
    let target = table.store.target(request.clone()).unwrap();
    let columns = records(0..1, "").schema();
    let flow = HeldFlow { constants: Vec::new(), columns, request: request.clone() };
    let mut doomed = Vec::new();
    for part in target.held_parts(2).await.unwrap() {
        let batches = target.held(&part, std::slice::from_ref(&flow), &context()).await.unwrap();
        for batch in batches.try_collect::<Vec<_>>().await.unwrap() {
            doomed.extend(
                (0..batch.records.len())
                    .map(|row| Doomed { key: batch.contents.key(row), version: batch.contents.version(row) }),
            );
        }
    }
    doomed.sort_by_key(|one| one.key["id"].as_str().map(str::to_owned));
    doomed
}

#[tokio::test]
async fn only_what_is_as_it_was_read_is_deleted() {
    let table = Table::new().await;
    table.write(Mode::Upsert, &records(0..40, "same")).await;
    let odd = AttributeValue::M(HashMap::from([
        (
            "list".to_owned(),
            AttributeValue::L(vec![AttributeValue::N("1.50".to_owned()), AttributeValue::Null(true)]),
        ),
        ("set".to_owned(), AttributeValue::Ss(vec!["b".to_owned(), "a".to_owned()])),
        ("flag".to_owned(), AttributeValue::Bool(false)),
    ]));
    put(&table, "id00001", &[("odd", odd), ("bytes", AttributeValue::B(vec![0, 255].into()))]).await;
    put(&table, "id00002", &[]).await;
    let many: Vec<_> = (0..150).map(|n| (format!("a{n}"), s("x"))).collect();
    let many: Vec<_> = many.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    put(&table, "id00003", &many).await;
    let all = doomed(&table, &plain(&table)).await;
    assert_eq!(all.len(), 40);
    put(&table, "id00010", &[("text", s("newer"))]).await;
    put(&table, "id00011", &[("other", s("another's"))]).await;
    let stored = serde_json::to_string(&all).unwrap();
    let all: Vec<Doomed> = serde_json::from_str(&stored).unwrap();
    let target = table.store.target(plain(&table)).unwrap();
    let deleted = target.delete(&all, &context()).await.unwrap();
    let places: Vec<usize> = deleted.left.iter().map(|(place, _)| *place).collect();
    assert_eq!((deleted.records, places), (37, vec![3, 10, 11]), "{:?}", deleted.left);
    assert!(deleted.left[0].1.contains("150 attributes"), "{:?}", deleted.left);
    assert!(deleted.left[1].1.contains("changed after it was read"), "{:?}", deleted.left);
    assert!(deleted.capacity.write_units >= 37.0, "{:?}", deleted.capacity);
    assert_eq!(text_of(&table, "id00010").await, "newer");
    assert_eq!(table.count().await, 3);
    // What is gone is gone: a second attempt after a kill counts the same.
    let again = target.delete(&all, &context()).await.unwrap();
    assert_eq!((again.records, again.left), (37, deleted.left));
}
