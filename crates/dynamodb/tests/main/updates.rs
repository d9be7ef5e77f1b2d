//! `Mode::Update`: what is set, what guards it, and what is said where somebody else was there in between.

use crate::fixture::{Table, created, endpoint, reason, records, request, store_at, two_columns};
use crate::proxy::{Act, Proxy};
use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_dynamodb::{Client, Config};
use std::collections::HashMap;
use std::sync::Arc;
use whimbrel_model::{Logical, SliceId};
use whimbrel_store::conformance::context;
use whimbrel_store::{Mode, Nulls, Outcome, Store, WriteBatch, WriteRequest};

fn client() -> Client {
    use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
    let config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(endpoint())
        .credentials_provider(Credentials::new("local", "local", None, None, "test"));
    Client::from_conf(config.build())
}

pub type Item = HashMap<String, AttributeValue>;

/// All items of a table, read past every proxy.
pub async fn scan(table: &str) -> Vec<Item> {
    let mut pages = client().scan().table_name(table).consistent_read(true).into_paginator().items().send();
    let mut items = Vec::new();
    while let Some(item) = pages.next().await {
        items.push(item.unwrap());
    }
    items
}

pub async fn held(table: &Table, id: &str) -> Option<Item> {
    let get = client().get_item().table_name(&table.name).key("id", AttributeValue::S(id.to_owned()));
    get.consistent_read(true).send().await.unwrap().item
}

pub async fn text_of(table: &Table, id: &str) -> String {
    held(table, id).await.unwrap()["text"].as_s().unwrap().clone()
}

pub async fn put(table: &Table, id: &str, attributes: &[(&str, AttributeValue)]) {
    let mut put = client().put_item().table_name(&table.name).item("id", s(id));
    for (name, value) in attributes {
        put = put.item(*name, value.clone());
    }
    put.send().await.unwrap();
}

pub fn s(text: &str) -> AttributeValue {
    AttributeValue::S(text.to_owned())
}

pub fn updated(outcomes: &[Outcome]) -> usize {
    outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Updated(_))).count()
}

pub fn unchanged(outcomes: &[Outcome]) -> usize {
    outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Unchanged(_))).count()
}

/// One record: its id, and columns of text with what they are to be.
pub fn row(id: &str, columns: &[(&str, Option<&str>)]) -> RecordBatch {
    let id = std::iter::once(("id", Arc::new(StringArray::from(vec![id])) as ArrayRef, true));
    let columns = columns
        .iter()
        .map(|(name, value)| (*name, Arc::new(StringArray::from(vec![*value])) as ArrayRef, true));
    RecordBatch::try_from_iter_with_nullable(id.chain(columns)).unwrap()
}

#[tokio::test]
async fn without_guards_the_key_must_exist() {
    let table = Table::new().await;
    table.write(Mode::Upsert, &records(0..30, "old")).await;
    put(&table, "id00003", &[("text", s("old")), ("other", s("stays"))]).await;
    let outcomes = table.update(&records(0..60, "new"), None, false).await;
    assert_eq!(updated(&outcomes), 30);
    for outcome in &outcomes[30..] {
        assert_eq!(reason(outcome), "there is no item with this key");
    }
    assert_eq!(table.count().await, 30, "an update makes no item");
    let item = held(&table, "id00003").await.unwrap();
    assert_eq!((&item["text"], &item["other"]), (&s("new"), &s("stays")), "other attributes stay");
}

#[tokio::test]
async fn guards_are_what_was_read() {
    let table = Table::new().await;
    table.write(Mode::Upsert, &records(0..60, "old")).await;
    put(&table, "id00005", &[("text", s("theirs"))]).await;
    put(&table, "id00006", &[("text", s("new"))]).await;
    client().delete_item().table_name(&table.name).key("id", s("id00007")).send().await.unwrap();
    let outcomes = table.update(&records(0..60, "new"), Some(&records(0..60, "old")), false).await;
    assert_eq!((updated(&outcomes), unchanged(&outcomes)), (57, 1));
    assert_eq!(
        reason(&outcomes[5]),
        "conflict: attribute `text` holds another value than was read; the newer value stays"
    );
    assert!(matches!(outcomes[6], Outcome::Unchanged(_)), "somebody else has written the same");
    assert_eq!(reason(&outcomes[7]), "there is no item with this key");
    assert_eq!(text_of(&table, "id00005").await, "theirs");
    assert_eq!(text_of(&table, "id00008").await, "new");
    let again = table.update(&records(8..60, "new"), Some(&records(8..60, "old")), true).await;
    assert_eq!(updated(&again), 52, "contested: what it holds is ours");
}

#[tokio::test]
async fn what_equals_its_guard_is_not_written() {
    let proxy = Proxy::start(&endpoint(), Vec::new()).await;
    let table = Table::behind(&proxy.url).await;
    put(&table, "a", &[("one", s("1")), ("two", s("theirs")), ("n", AttributeValue::N("1.5".into()))]).await;
    let with_number = |one: &str, number: &str| {
        let fields = vec![
            Field::new("id", DataType::Utf8, true),
            Field::new("one", DataType::Utf8, true),
            Field::new("two", DataType::Utf8, true),
            Logical::Number.field("n", true),
        ];
        let text = |text: &str| Arc::new(StringArray::from(vec![text])) as ArrayRef;
        RecordBatch::try_new(
            Arc::new(Schema::new(fields)),
            vec![text("a"), text(one), text("2"), text(number)],
        )
        .unwrap()
    };
    let same = table.update(&with_number("1", "1.50"), Some(&with_number("1", "15e-1")), false).await;
    assert_eq!(unchanged(&same), 1);
    assert_eq!(proxy.seen("BatchExecuteStatement"), 0, "nothing to say");
    let one = table.update(&with_number("x", "1.5"), Some(&with_number("1", "1.5")), false).await;
    assert_eq!(updated(&one), 1, "{one:?}");
    let item = held(&table, "a").await.unwrap();
    assert_eq!((&item["one"], &item["two"]), (&s("x"), &s("theirs")), "guards name only what changes");
}

#[tokio::test]
async fn nulls_are_removed_or_written() {
    let table = Table::new().await;
    for (nulls, expected) in [(Nulls::Omit, None), (Nulls::Null, Some(AttributeValue::Null(true)))] {
        let id = format!("{nulls:?}");
        put(&table, &id, &[("gone", s("old")), ("null", AttributeValue::Null(true))]).await;
        let target =
            table.store.target(WriteRequest { nulls, ..request(&table.name, Mode::Update) }).unwrap();
        let writer = target.writer(&SliceId::new("test.0000"), false, &context()).await.unwrap();
        let batch = WriteBatch {
            records: row(&id, &[("gone", None), ("missing", Some("here")), ("null", Some("now"))]),
            guards: Some(row(&id, &[("gone", Some("old")), ("missing", None), ("null", None)])),
            seq: 1,
            cursor: None,
            contested: false,
        };
        let outcomes = writer.write(batch.clone()).await.unwrap().outcomes;
        assert_eq!(updated(&outcomes), 1, "{nulls:?}: {outcomes:?}");
        let item = held(&table, &id).await.unwrap();
        assert_eq!(item.get("gone"), expected.as_ref(), "{nulls:?}");
        assert_eq!((&item["missing"], &item["null"]), (&s("here"), &s("now")));
        let conflict = WriteBatch {
            records: row(&id, &[("missing", Some("again"))]),
            guards: Some(row(&id, &[("missing", None)])),
            ..batch
        };
        let outcomes = writer.write(conflict).await.unwrap().outcomes;
        assert!(reason(&outcomes[0]).contains("`missing`"), "what was missing is there: {outcomes:?}");
    }
}

#[tokio::test]
async fn documents_are_compared_by_what_they_say() {
    let table = Table::new().await;
    let document = |text: &str| {
        let fields = vec![Field::new("id", DataType::Utf8, true), Logical::Json.field("doc", true)];
        let columns: Vec<ArrayRef> =
            vec![Arc::new(StringArray::from(vec!["a"])), Arc::new(StringArray::from(vec![text]))];
        RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
    };
    let old = r#"{"list": [{"n": 12345678901234567890.5, "t": "ü'\""}, null, true], "empty": {}, "s": ""}"#;
    table.write(Mode::Upsert, &document(old)).await;
    let same = r#"{"s":"","empty":{},"list":[{"t":"ü'\"","n":12345678901234567890.50},null,true]}"#;
    assert_eq!(unchanged(&table.update(&document(same), Some(&document(old)), false).await), 1);
    let new = r#"{"list": []}"#;
    assert_eq!(updated(&table.update(&document(new), Some(&document(same)), false).await), 1);
    let stale = table.update(&document("{}"), Some(&document(old)), false).await;
    assert!(reason(&stale[0]).contains("`doc`"), "{stale:?}");
}

#[tokio::test]
async fn what_no_statement_holds_is_updated_alone() {
    let proxy = Proxy::start(&endpoint(), Vec::new()).await;
    let table = Table::behind(&proxy.url).await;
    let wide = |id: &str, text: Option<&str>, count: usize| {
        let names: Vec<String> = (0..count).map(|number| format!("column{number}")).collect();
        let columns: Vec<_> = names.iter().map(|name| (name.as_str(), text)).collect();
        row(id, &columns)
    };
    table.write(Mode::Upsert, &wide("a", Some("old"), 140)).await;
    let outcomes = table.update(&wide("a", None, 140), Some(&wide("a", Some("old"), 140)), false).await;
    assert_eq!((updated(&outcomes), proxy.seen("UpdateItem")), (1, 1), "{outcomes:?}");
    let outcomes = table.update(&wide("a", Some("new"), 60), Some(&wide("a", None, 60)), false).await;
    assert_eq!((updated(&outcomes), proxy.seen("UpdateItem")), (1, 2), "{outcomes:?}");
    let stale = table.update(&wide("a", Some("x"), 100), Some(&wide("a", Some("y"), 100)), false).await;
    assert!(reason(&stale[0]).contains("conflict"), "{stale:?}");
    let missing = table.update(&wide("b", Some("x"), 100), None, false).await;
    assert_eq!(reason(&missing[0]), "there is no item with this key");
    let too_many = table.update(&wide("a", Some("x"), 600), None, false).await;
    assert!(reason(&too_many[0]).contains("600 attributes change"), "{too_many:?}");
    let names = ["a.b", "c[0]", "q\"uote", "ap'os", "SELECT", "two words", "😀"];
    let named = |text| names.map(|name| (name, text));
    table.write(Mode::Upsert, &row("n", &named(Some("old")))).await;
    let outcomes =
        table.update(&row("n", &named(Some("new"))), Some(&row("n", &named(Some("old")))), false).await;
    assert_eq!(updated(&outcomes), 1, "{outcomes:?}");
    let item = held(&table, "n").await.unwrap();
    assert!(names.iter().all(|name| item[*name] == s("new")), "{item:?}");
    let plain = &names[3..];
    let columns = |text| plain.iter().map(|name| (*name, Some(text))).collect::<Vec<_>>();
    let before = proxy.seen("UpdateItem");
    let outcomes = table.update(&row("n", &columns("x")), Some(&row("n", &columns("new"))), false).await;
    assert_eq!((updated(&outcomes), proxy.seen("UpdateItem") - before), (1, 0), "{outcomes:?}");
}

#[tokio::test]
async fn a_lost_answer_of_an_update_is_settled_by_reading() {
    for act in [Act::DropAnswer, Act::FailAfter] {
        let proxy = Proxy::start(&endpoint(), vec![("BatchExecuteStatement", act.clone())]).await;
        let table = Table::behind(&proxy.url).await;
        let direct = Table { store: store_at(&endpoint()), name: table.name.clone() };
        assert_eq!(created(&direct.write(Mode::Upsert, &records(0..25, "old")).await), 25);
        direct.write(Mode::Upsert, &records(3..4, "theirs")).await;
        let outcomes = table.update(&records(0..25, "new"), Some(&records(0..25, "old")), false).await;
        assert_eq!(updated(&outcomes), 24, "{act:?}: what the lost request wrote is ours");
        assert!(reason(&outcomes[3]).contains("conflict"));
        assert_eq!((proxy.seen("BatchExecuteStatement"), proxy.seen("BatchGetItem")), (2, 1));
    }
}

#[tokio::test]
async fn an_update_with_nothing_to_set_is_refused_by_the_plan() {
    let table = Table::new().await;
    let schema = Schema::new(vec![Field::new("id", DataType::Utf8, true)]);
    let error = table.target(Mode::Update).plan(&schema).await.unwrap_err();
    assert!(error.to_string().contains("nothing to set"), "{error}");
}

#[tokio::test]
async fn what_was_read_may_be_of_another_type() {
    let table = Table::new().await;
    let typed = |column: ArrayRef| {
        let id: ArrayRef = Arc::new(StringArray::from(vec!["a"]));
        RecordBatch::try_from_iter_with_nullable([("id", id, true), ("n", column, true)]).unwrap()
    };
    let text = typed(Arc::new(StringArray::from(vec!["5"])));
    let (whole, float) =
        (typed(Arc::new(Int64Array::from(vec![5]))), typed(Arc::new(Float64Array::from(vec![5.0]))));
    table.write(Mode::Upsert, &text).await;
    assert_eq!(updated(&table.update(&whole, Some(&text), false).await), 1, "a text becomes a number");
    assert_eq!(unchanged(&table.update(&float, Some(&whole), false).await), 1, "a number is its value");
    let stale = table.update(&two_columns(vec!["a".into()], vec!["t".into()]), None, false).await;
    assert_eq!(updated(&stale), 1);
}
