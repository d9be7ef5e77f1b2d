//! Documents: records of several flows gathered in one file, and read back as the records that they were.

use crate::support::{chain, object_stores, store};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use futures::TryStreamExt as _;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use whimbrel_model::{Checkpoint, Counts, Fingerprint, SliceId};
use whimbrel_store::{
    Documents, HeldFlow, Mode, Nulls, Outcome, RunContext, Shape, Store, Target, WriteBatch, WriteRequest,
    Writer, conformance,
};

/// A project's name has what JSON must escape.
const ODD: &str = "b\"\t\\ü";

fn request(flow: &str, table: &str, documents: Documents, by: &str, list: Option<&str>) -> WriteRequest {
    WriteRequest {
        flow: flow.into(),
        table: table.to_owned(),
        key: list.map(|_| "token".to_owned()).into_iter().collect(),
        mode: Mode::Upsert,
        nulls: Nulls::Omit,
        forms: [].into(),
        ignore: Vec::new(),
        scope: [].into(),
        allow_lossy: Vec::new(),
        shape: Some(Shape { by: by.to_owned(), documents, list: list.map(str::to_owned) }),
        collection: None,
    }
}

fn columns(columns: &[(&str, ArrayRef)]) -> RecordBatch {
    let fields: Vec<_> =
        columns.iter().map(|(name, column)| Field::new(*name, column.data_type().clone(), true)).collect();
    let columns = columns.iter().map(|(_, column)| Arc::clone(column)).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

fn texts(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

fn projects(rows: &[(&str, Option<&str>)]) -> RecordBatch {
    let names: Vec<_> = rows.iter().map(|(name, _)| Some(*name)).collect();
    let repositories: Vec<_> = rows.iter().map(|(_, repository)| *repository).collect();
    columns(&[("project", texts(&names)), ("repository", texts(&repositories))])
}

fn tokens(rows: &[(i64, Option<&str>)]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(rows.iter().map(|(id, _)| *id)));
    let names: Vec<_> = rows.iter().map(|(_, name)| *name).collect();
    columns(&[("token", ids), ("project", texts(&names))])
}

/// The records of one flow, batch by batch of one slice; those that were created.
async fn deliver(
    target: &dyn Target,
    slice: &str,
    batches: &[RecordBatch],
    context: &RunContext,
) -> Vec<Outcome> {
    target.plan(batches[0].schema_ref()).await.unwrap();
    let writer: Box<dyn Writer> = target.writer(&SliceId::new(slice), true, context).await.unwrap();
    let mut outcomes = Vec::new();
    for (seq, records) in (1..).zip(batches) {
        let batch =
            WriteBatch { records: records.clone(), seq, cursor: None, contested: false, guards: None };
        outcomes.extend(writer.write(batch).await.unwrap().outcomes);
        let counts = Counts { read: seq, created: seq, ..Counts::default() };
        writer.commit(&Checkpoint { seq, position: seq, counts, ..Checkpoint::default() }, 1).await.unwrap();
    }
    // What was written and never committed belongs to nothing.
    let batch =
        WriteBatch { records: batches[0].clone(), seq: 99, cursor: None, contested: false, guards: None };
    writer.write(batch).await.unwrap();
    drop(writer);
    let again = target.writer(&SliceId::new(slice), true, context).await.unwrap();
    assert!(again.last().await.unwrap().is_some());
    again.finish().await.unwrap();
    outcomes
}

fn created(outcomes: Vec<Outcome>) -> BTreeSet<(u128, u128)> {
    let one = |outcome| match outcome {
        Outcome::Created(Fingerprint { key, record }) => Some((key, record)),
        Outcome::Rejected(_) => None,
        other => panic!("a file has every record anew: {other:?}"),
    };
    outcomes.into_iter().filter_map(one).collect()
}

/// What is read back, by flow; `None`: of no flow.
async fn held(
    target: &dyn Target,
    flows: &[HeldFlow],
    context: &RunContext,
) -> BTreeMap<Option<usize>, BTreeSet<(u128, u128)>> {
    let mut all: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for part in target.held_parts(3).await.unwrap() {
        let batches: Vec<_> = target.held(&part, flows, context).await.unwrap().try_collect().await.unwrap();
        for record in batches.iter().flat_map(|batch| &batch.records) {
            let print = (record.fingerprint.key, record.fingerprint.record);
            assert!(all.entry(record.flow).or_default().insert(print), "each record once");
        }
    }
    all
}

fn held_flow(request: &WriteRequest, batch: &RecordBatch) -> HeldFlow {
    let constants = request.shape.iter().map(Shape::place).collect();
    HeldFlow { constants, columns: batch.schema(), request: request.clone() }
}

async fn publish(target: &dyn Target, context: &RunContext) {
    let steps = target.load_steps().await.unwrap();
    target.apply_step(&steps[0], context).await.unwrap();
}

/// Projects in two slices and tokens in two, out of order; what the file then says is what was written.
async fn round_trip(store: &dyn Store, table: &str, documents: Documents) {
    let context = conformance::context();
    let own = request("projects", table, documents, "project", None);
    let listed = request("tokens", table, documents, "project", Some("tokens"));
    let (first, second) = (store.target(own.clone()).unwrap(), store.target(listed.clone()).unwrap());

    let some_tokens = [tokens(&[(5, Some(ODD)), (1, Some("a"))]), tokens(&[(3, None), (4, Some(ODD))])];
    let mut written_tokens = deliver(&*second, "tokens.0001", &some_tokens, &context).await;
    let refused: Vec<_> = written_tokens.iter().filter(|one| matches!(one, Outcome::Rejected(_))).collect();
    assert!(matches!(refused[..], [Outcome::Rejected(why)] if why.reason.contains("`project` is NULL")));
    let more = deliver(&*second, "tokens.0000", &[tokens(&[(2, Some("a"))])], &context).await;
    written_tokens.extend(more);
    let rows = [projects(&[(ODD, Some("r/b"))]), projects(&[("c", None), ("a", Some("r/a"))])];
    let written_projects = deliver(&*first, "projects.0000", &rows, &context).await;
    assert_eq!(written_projects.len(), 3);

    assert!(!first.plan(rows[0].schema_ref()).await.unwrap().exists, "nothing has the name yet");
    publish(&*first, &context).await;
    publish(&*first, &context).await;
    let flows = [held_flow(&own, &rows[0]), held_flow(&listed, &some_tokens[0])];
    let found = held(&*first, &flows, &context).await;
    let expected = BTreeMap::from([(Some(0), created(written_projects)), (Some(1), created(written_tokens))]);
    assert_eq!(found, expected, "{table}");
    let constants: Vec<_> = flows.iter().map(|flow| flow.constants.clone()).collect();
    let counted = second.count(&constants).await.unwrap();
    assert_eq!((counted.flows, counted.others), (vec![3, 4], 0), "{table}");
    let encoded: BTreeSet<_> = second
        .fingerprints(&some_tokens[0], &context)
        .into_iter()
        .map(|print| print.map(|print| (print.key, print.record)).unwrap())
        .collect();
    assert!(encoded.is_subset(&found[&Some(1)]));
}

fn as_object() -> Value {
    json!({
        "a": {"repository": "r/a", "tokens": [{"token": 2}, {"token": 1}]},
        ODD: {"repository": "r/b", "tokens": [{"token": 5}, {"token": 4}]},
        "c": {"tokens": []},
    })
}

fn as_records() -> Vec<Value> {
    let Value::Object(documents) = as_object() else { panic!("an object") };
    let one = |(name, mut document): (String, Value)| {
        document["project"] = name.into();
        document
    };
    documents.into_iter().map(one).collect()
}

const TABLES: [(&str, Documents); 4] = [
    ("a.json", Documents::Members),
    ("b.json.gz", Documents::Members),
    ("c.json", Documents::Records),
    ("d.ndjson.zst", Documents::Records),
];

#[tokio::test]
async fn rows_become_documents_and_are_read_back() {
    let folder = tempfile::tempdir().unwrap();
    for (table, documents) in TABLES {
        round_trip(&store(folder.path()), table, documents).await;
    }
    let text = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    let sorted = |mut records: Vec<Value>| {
        records.sort_by_key(|record| record["project"].to_string());
        records
    };
    assert_eq!(serde_json::from_slice::<Value>(&text("a.json")).unwrap(), as_object());
    let mut unpacked = Vec::new();
    flate2::read::MultiGzDecoder::new(&*text("b.json.gz")).read_to_end(&mut unpacked).unwrap();
    assert_eq!(unpacked, text("a.json"));
    assert_eq!(sorted(serde_json::from_slice(&text("c.json")).unwrap()), sorted(as_records()));
    let lines = String::from_utf8(zstd::decode_all(&*text("d.ndjson.zst")).unwrap()).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(sorted(lines), sorted(as_records()));
    assert_eq!(files(folder.path()), TABLES.map(|(table, _)| table.to_owned()).into(), "and nothing else");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_store_holds_documents_too() {
    for store in object_stores("p") {
        for (table, documents) in TABLES {
            round_trip(&store, table, documents).await;
        }
    }
}

fn files(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

#[tokio::test]
async fn elements_alone_make_documents_and_a_foreign_document_is_seen() {
    let folder = tempfile::tempdir().unwrap();
    let (store, context) = (store(folder.path()), conformance::context());
    let listed = request("tokens", "a.json", Documents::Members, "project", Some("tokens"));
    let target = store.target(listed.clone()).unwrap();
    let rows = tokens(&[(1, Some("a")), (2, Some("b"))]);
    let written = created(deliver(&*target, "tokens.0000", std::slice::from_ref(&rows), &context).await);
    publish(&*target, &context).await;
    let flow = held_flow(&listed, &rows);
    assert_eq!(
        held(&*target, std::slice::from_ref(&flow), &context).await,
        BTreeMap::from([(Some(0), written)])
    );
    // Somebody else adds a document with more than the list.
    std::fs::write(folder.path().join("a.json"), r#"{"a":{"tokens":[{"token":1}]},"z":{"x":1}}"#).unwrap();
    let found = held(&*target, std::slice::from_ref(&flow), &context).await;
    assert_eq!((found[&Some(0)].len(), found[&None].len()), (1, 1));
    let counted = target.count(std::slice::from_ref(&flow.constants)).await.unwrap();
    assert_eq!((counted.flows, counted.others), (vec![1], 1));
    for torn in
        [r#"{"a":{"tokens":[{"token":1}]}"#, r#"{"a":{"tokens":3}}"#, r#"{"a":7}"#, r#"[{"a":{},"b":{}}]"#]
    {
        std::fs::write(folder.path().join("a.json"), torn).unwrap();
        let fails = target.count(std::slice::from_ref(&flow.constants)).await;
        assert!(chain(&fails.unwrap_err()).contains("a.json"), "{torn}");
    }
}

#[tokio::test]
async fn numbers_name_documents_by_their_text() {
    let folder = tempfile::tempdir().unwrap();
    let (store, context) = (store(folder.path()), conformance::context());
    let rows = tokens(&[(1, Some("a")), (7, Some("b"))]);
    for (table, documents) in [("a.json", Documents::Members), ("b.ndjson", Documents::Records)] {
        let own = request("tokens", table, documents, "token", None);
        let target = store.target(own.clone()).unwrap();
        let plan = target.plan(rows.schema_ref()).await.unwrap();
        assert_eq!(plan.key, ["token"]);
        let written = created(deliver(&*target, "t.0000", std::slice::from_ref(&rows), &context).await);
        publish(&*target, &context).await;
        let found = held(&*target, &[held_flow(&own, &rows)], &context).await;
        assert_eq!(found, BTreeMap::from([(Some(0), written)]), "{table}");
    }
    let text = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    assert_eq!(text("a.json"), "{\n\"1\": {\"project\":\"a\"},\n\"7\": {\"project\":\"b\"}\n}\n");
    assert_eq!(text("b.ndjson"), "{\"token\":1,\"project\":\"a\"}\n{\"token\":7,\"project\":\"b\"}\n");
}

#[tokio::test]
async fn shapes_that_cannot_be_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    for (table, documents) in [
        ("a.csv", Documents::Records),
        ("a.ndjson", Documents::Members),
        ("a.parquet", Documents::Records),
        ("a.dynamodb.json", Documents::Members),
    ] {
        let refused = store.target(request("f", table, documents, "project", None));
        assert!(refused.err().unwrap().to_string().contains("`shape`"), "{table}");
    }
    let other_key = WriteRequest {
        key: vec!["repository".to_owned()],
        ..request("f", "a.json", Documents::Members, "project", None)
    };
    assert!(store.target(other_key).err().unwrap().to_string().contains("alone is their `key`"));
    let schema = Schema::new(vec![Field::new("score", DataType::Float64, true)]);
    for (by, why) in [("project", "none of the columns"), ("score", "no names")] {
        let target = store.target(request("f", "a.json", Documents::Members, by, None)).unwrap();
        let refused = target.plan(&schema).await.unwrap_err();
        assert!(refused.to_string().contains(why), "{refused}");
    }
}

#[tokio::test]
async fn two_documents_of_one_name_are_never_written() {
    let folder = tempfile::tempdir().unwrap();
    let (store, context) = (store(folder.path()), conformance::context());
    let target = store.target(request("f", "a.json", Documents::Members, "project", None)).unwrap();
    // The engine rejects the second of them beforehand; should it not, there is no file.
    let rows = projects(&[("a", Some("x")), ("a", Some("y"))]);
    deliver(&*target, "f.0000", std::slice::from_ref(&rows), &context).await;
    let step = target.load_steps().await.unwrap().remove(0);
    let refused = target.apply_step(&step, &context).await.unwrap_err();
    assert!(chain(&refused).contains("two documents for \"a\""), "{}", chain(&refused));
    assert!(!folder.path().join("a.json").exists());
}
