//! Writing: whole or not at all, resumed, and read back.

use crate::support::{chain, object_stores, read_all, records, request, store};
use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Float64Array, Int64Array, ListBuilder, RecordBatch, StringArray,
    StringBuilder, TimestampMicrosecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use futures::TryStreamExt as _;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use whimbrel_model::canonical::Canonical;
use whimbrel_model::logical::with_source_type;
use whimbrel_model::{Checkpoint, Counts, Cursor, Fingerprint, Logical, SliceId};
use whimbrel_store::{
    HeldBatch, HeldFlow, KeyPattern, LoadStep, Mode, Nulls, Outcome, RunContext, Store, StoreErrorKind,
    Target, WriteBatch, WriteRequest, Writer, conformance,
};

const DIGITS: &str = "-12345678901234567890123456789012345678.90";

pub fn into(table: &str) -> WriteRequest {
    WriteRequest {
        flow: "flow".into(),
        table: table.to_owned(),
        key: vec!["id".to_owned()],
        mode: Mode::Upsert,
        nulls: Nulls::Omit,
        forms: [].into(),
        ignore: Vec::new(),
        scope: [].into(),
        allow_lossy: Vec::new(),
        shape: None,
        collection: None,
    }
}

/// Records of every kind of column.
fn batch(ids: std::ops::Range<i64>) -> RecordBatch {
    let count = usize::try_from(ids.end - ids.start).unwrap();
    let texts = ids.clone().map(|id| (id % 3 != 0).then(|| format!("ü \"{id}\",\n\u{1} \\ end")));
    let documents = ids.clone().map(|id| Some(format!("{{\"z\":{DIGITS},\n\"a\":[{id},null,\"x\"]}}")));
    let mut tags = ListBuilder::new(StringBuilder::new());
    for id in ids.clone() {
        match id % 3 {
            0 => tags.append_null(),
            1 => tags.append_value(Vec::<Option<&str>>::new()),
            _ => tags.append_value([Some("a"), None, Some("")]),
        }
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(ids.clone())),
        Arc::new(texts.collect::<StringArray>()),
        Arc::new(documents.collect::<StringArray>()),
        Arc::new(StringArray::from(vec![DIGITS; count])),
        Arc::new(Float64Array::from_iter(ids.clone().map(|id| (id % 2 == 0).then_some(0.1)))),
        Arc::new(BooleanArray::from_iter(ids.clone().map(|id| Some(id % 2 == 0)))),
        Arc::new(BinaryArray::from_iter_values(ids.clone().map(|id| vec![0, 255, id.to_le_bytes()[0]]))),
        Arc::new(TimestampMicrosecondArray::from_iter_values(ids.clone()).with_timezone("UTC")),
        Arc::new(StringArray::from(vec![""; count])),
        Arc::new(tags.finish()),
        Arc::new(ids.map(|id| (id % 4 != 0).then(|| format!("-{id}.50"))).collect::<StringArray>()),
    ];
    let price = with_source_type(Logical::Number.field("price", true), "numeric(12,2)");
    let fields = vec![
        Field::new("id", DataType::Int64, false),
        Field::new("text", DataType::Utf8, true),
        Logical::Json.field("document", true),
        Logical::Number.field("number", true),
        Field::new("float", DataType::Float64, true),
        Field::new("flag", DataType::Boolean, true),
        Field::new("bytes", DataType::Binary, true),
        Field::new("at", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), true),
        Field::new("empty", DataType::Utf8, true),
        Field::new("tags", columns[9].data_type().clone(), true),
        price,
    ];
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap()
}

pub async fn writer(target: &Arc<dyn Target>, slice: &str, context: &RunContext) -> Box<dyn Writer> {
    target.writer(&SliceId::new(slice), true, context).await.unwrap()
}

pub async fn write(writer: &dyn Writer, seq: u64, records: RecordBatch) -> Vec<Fingerprint> {
    let batch = WriteBatch { records, seq, cursor: None, contested: false, guards: None };
    let written = writer.write(batch).await.unwrap();
    let created = |outcome| match outcome {
        Outcome::Created(fingerprint) => fingerprint,
        other => panic!("a file has every record anew: {other:?}"),
    };
    written.outcomes.into_iter().map(created).collect()
}

pub fn checkpoint(seq: u64) -> Checkpoint {
    let cursor = Some(Cursor(json!({ "at": seq })));
    let counts = Counts { read: seq * 10, created: seq * 10, ..Counts::default() };
    Checkpoint { seq, cursor, position: seq * 10, counts, ..Checkpoint::default() }
}

pub async fn publish(target: &Arc<dyn Target>, context: &RunContext) {
    let steps = target.load_steps().await.unwrap();
    assert_eq!(steps.iter().map(|step| step.name.as_str()).collect::<Vec<_>>(), ["publish"]);
    target.apply_step(&steps[0], context).await.unwrap();
}

fn ordered(fingerprints: impl IntoIterator<Item = Fingerprint>) -> BTreeSet<(u128, u128)> {
    fingerprints.into_iter().map(|fingerprint| (fingerprint.key, fingerprint.record)).collect()
}

async fn held(
    target: &Arc<dyn Target>,
    request: WriteRequest,
    context: &RunContext,
) -> BTreeSet<(u128, u128)> {
    let flow = HeldFlow { constants: Vec::new(), columns: batch(0..1).schema(), request };
    let mut all = Vec::new();
    for part in target.held_parts(3).await.unwrap() {
        let batches: Vec<_> = target
            .held(&part, std::slice::from_ref(&flow), context)
            .await
            .unwrap()
            .try_collect()
            .await
            .unwrap();
        for batch in batches {
            assert!(batch.records.iter().all(|record| record.flow == Some(0)));
            all.extend(batch.records.iter().map(|record| record.fingerprint));
            assert_eq!(batch.contents.key(0).keys().collect::<Vec<_>>(), ["id"]);
            assert!(batch.contents.record(0).contains_key("number"));
            assert_shown_alike(target, &batch, context);
        }
    }
    ordered(all)
}

/// What lies in a file is shown as its records are before they are written: else attributes that are the same would be
/// named where a record differs.
fn assert_shown_alike(target: &Arc<dyn Target>, held: &HeldBatch, context: &RunContext) {
    let form = |record: Map<String, Value>| {
        let mut canonical = Canonical::default();
        canonical.json(&Value::Object(record));
        canonical.bytes().to_vec()
    };
    for encoded in target.encode(&batch(0..25), context) {
        let encoded = encoded.unwrap();
        let same = held.records.iter().position(|record| record.fingerprint == encoded.fingerprint);
        let Some(row) = same else { continue };
        let (Value::Object(preview), record) = (encoded.preview, held.contents.record(row)) else {
            panic!("a record is an object");
        };
        assert_eq!(form(preview.clone()), form(record.clone()), "{preview:?} {record:?}");
    }
}

const FORMATS: [&str; 8] = [
    "out/a.json",
    "a.json.gz",
    "a.ndjson",
    "a.jsonl.zst",
    "a.csv",
    "a.dynamodb.json.gz",
    "a.parquet",
    "a.arrow",
];

/// Two slices, one of which is begun again behind a batch that was never committed, then published and read back.
async fn round_trip(store: &dyn Store, table: &str) {
    let context = conformance::context();
    let target = store.target(into(table)).unwrap();
    let plan = target.plan(&batch(0..1).schema()).await.unwrap();
    assert!(!plan.exists && plan.fidelity.len() == 11);
    assert!(target.state().await.unwrap().empty);

    let second = writer(&target, "s.0001", &context).await;
    let mut written = write(&*second, 1, batch(20..25)).await;
    second.commit(&checkpoint(1), 1).await.unwrap();
    second.finish().await.unwrap();

    let first = writer(&target, "s.0000", &context).await;
    assert_eq!(first.last().await.unwrap(), None);
    written.extend(write(&*first, 1, batch(0..10)).await);
    first.commit(&checkpoint(1), 1).await.unwrap();
    write(&*first, 2, batch(100..107)).await;
    drop(first);

    // Another process goes on.
    let again = store.target(into(table)).unwrap();
    again.plan(&batch(0..1).schema()).await.unwrap();
    let resumed = writer(&again, "s.0000", &context).await;
    assert_eq!(resumed.last().await.unwrap(), Some(checkpoint(1)));
    written.extend(write(&*resumed, 2, batch(10..15)).await);
    resumed.commit(&checkpoint(2), 1).await.unwrap();
    written.extend(write(&*resumed, 3, batch(15..20)).await);
    resumed.commit(&checkpoint(3), 1).await.unwrap();
    resumed.finish().await.unwrap();
    let empty = writer(&again, "s.0002", &context).await;
    empty.finish().await.unwrap();
    assert!(!again.plan(&batch(0..1).schema()).await.unwrap().exists, "nothing has the name yet");

    publish(&again, &context).await;
    publish(&again, &context).await;
    assert!(again.plan(&batch(0..1).schema()).await.unwrap().exists);
    assert_eq!(held(&again, into(table), &context).await, ordered(written.iter().copied()), "{table}");
    let encoded = again.fingerprints(&batch(0..25), &context).into_iter().map(Result::unwrap);
    assert_eq!(ordered(encoded), ordered(written), "{table}");
    assert_eq!(again.count(&[Vec::new()]).await.unwrap().flows, [25]);
    let id = |text: &str| KeyPattern { column: "text".to_owned(), text: text.to_owned(), whole: false };
    let counted = again.count(&[vec![id("ü \"1")]]).await.unwrap();
    assert_eq!((counted.flows[0], counted.others), (8, 17), "{table}: 1, 10, 11, 13, 14, 16, 17, 19");
}

#[tokio::test]
async fn every_format_is_written_resumed_published_and_read_back() {
    let folder = tempfile::tempdir().unwrap();
    for table in FORMATS {
        round_trip(&store(folder.path()), table).await;
    }
    let left: BTreeSet<String> = names(folder.path());
    assert!(!left.iter().any(|name| name.starts_with('.')), "nothing is left but the files: {left:?}");
}

/// Records are encoded some at a time, and none of them twice.
#[tokio::test]
async fn a_large_batch_is_written_whole() {
    let (folder, context) = (tempfile::tempdir().unwrap(), conformance::context());
    for table in FORMATS {
        let target = store(folder.path()).target(into(table)).unwrap();
        target.plan(&batch(0..1).schema()).await.unwrap();
        let slice = writer(&target, "s.0000", &context).await;
        let written = write(&*slice, 1, batch(0..2_500)).await;
        slice.commit(&checkpoint(1), 1).await.unwrap();
        slice.finish().await.unwrap();
        publish(&target, &context).await;
        let singly = target.encode(&batch(0..2_500), &context).into_iter();
        assert_eq!(written, singly.map(|one| one.unwrap().fingerprint).collect::<Vec<_>>(), "{table}");
        let compared = target.fingerprints(&batch(0..2_500), &context).into_iter();
        assert_eq!(written, compared.map(Result::unwrap).collect::<Vec<_>>(), "{table}");
        assert_eq!(held(&target, into(table), &context).await, ordered(written), "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_store_is_written_like_a_disk() {
    for store in object_stores("p") {
        for table in FORMATS {
            round_trip(&store, table).await;
        }
        let probe = store.check().await;
        let found = format!("{} objects", FORMATS.len());
        assert!(probe[0].text.ends_with(&found), "nothing is left but the objects: {probe:?}");
    }
}

/// One record that no file takes: its document is none.
fn refused() -> RecordBatch {
    let batch = batch(50..51);
    let mut columns = batch.columns().to_vec();
    columns[2] = Arc::new(StringArray::from(vec!["{"]));
    RecordBatch::try_new(batch.schema(), columns).unwrap()
}

async fn conforms(store: &dyn Store, table: &str) {
    conformance::whole_target(&conformance::WholeFixture {
        store,
        request: into(table),
        records: batch(0..7),
        others: batch(20..25),
        // A text of CSV may be any.
        refused: (!table.ends_with(".csv")).then(refused),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_format_keeps_the_contract_of_what_is_written_whole() {
    let folder = tempfile::tempdir().unwrap();
    for table in FORMATS {
        conforms(&store(folder.path()), table).await;
    }
    for store in object_stores("whole") {
        for table in FORMATS {
            conforms(&store, table).await;
        }
    }
    for mode in [Mode::SkipExisting, Mode::Update, Mode::Changed] {
        let error = store(folder.path()).target(WriteRequest { mode, ..into("a.json") }).err().unwrap();
        assert_eq!(error.kind(), StoreErrorKind::Unsupported, "{mode:?}");
    }
    let target = store(folder.path()).target(into("a.json")).unwrap();
    let looked = target.look_up(&batch(0..1), &conformance::context()).await;
    assert_eq!(looked.unwrap_err().kind(), StoreErrorKind::Unsupported, "a file has no index");
}

fn names(folder: &Path) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

async fn dump(folder: &Path, table: &str, batches: &[RecordBatch], nulls: Nulls) {
    let context = conformance::context();
    let target = store(folder).target(WriteRequest { nulls, key: Vec::new(), ..into(table) }).unwrap();
    if let Some(batch) = batches.first() {
        target.plan(batch.schema_ref()).await.unwrap();
    }
    let writer = writer(&target, "s.0000", &context).await;
    for (seq, batch) in (1..).zip(batches) {
        write(&*writer, seq, batch.clone()).await;
        writer.commit(&checkpoint(seq), 1).await.unwrap();
    }
    writer.finish().await.unwrap();
    publish(&target, &context).await;
}

#[tokio::test]
async fn what_the_files_say_is_what_other_programs_expect() {
    let folder = tempfile::tempdir().unwrap();
    let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    dump(folder.path(), "a.ndjson", &[batch(3..4)], Nulls::Null).await;
    let line = read("a.ndjson");
    assert_eq!(line.lines().count(), 1);
    let expected = format!(
        r#"{{"id":3,"text":null,"document":{{"z":{DIGITS}, "a":[3,null,"x"]}},"number":{DIGITS},"float":null,"flag":false,"bytes":"AP8D","at":"1970-01-01T00:00:00.000003Z","empty":"","tags":null,"price":-3.50}}"#
    );
    assert_eq!(line.trim_end(), expected);
    dump(folder.path(), "a.json", &[batch(0..2), batch(2..3)], Nulls::Omit).await;
    let array: Value = serde_json::from_str(&read("a.json")).unwrap();
    assert_eq!(array.as_array().unwrap().len(), 3);
    assert!(array[0].get("text").is_none() && array[1]["text"] == "ü \"1\",\n\u{1} \\ end");
    dump(folder.path(), "a.csv", &[batch(1..2)], Nulls::Omit).await;
    let text = "\"ü \"\"1\"\",\n\u{1} \\ end\"";
    let document = format!("\"{{\"\"z\"\":{DIGITS},\n\"\"a\"\":[1,null,\"\"x\"\"]}}\"");
    let expected = format!(
        "id,text,document,number,float,flag,bytes,at,empty,tags,price\n1,{text},{document},{DIGITS},,false,AP8B,1970-01-01T00:00:00.000001Z,\"\",[],-1.50\n"
    );
    assert_eq!(read("a.csv"), expected);
    dump(folder.path(), "a.dynamodb.json", &[batch(1..2)], Nulls::Omit).await;
    let item: Value = serde_json::from_str(&read("a.dynamodb.json")).unwrap();
    assert_eq!(item["Item"]["number"], json!({"N": DIGITS}));
    assert_eq!(item["Item"]["document"]["M"]["z"], json!({"N": DIGITS}));
    assert_eq!(item["Item"]["bytes"], json!({"B": "AP8B"}));
    assert_eq!(item["Item"]["tags"], json!({"L": []}));
}

#[tokio::test]
async fn files_without_records_are_whole_files() {
    let folder = tempfile::tempdir().unwrap();
    let none = batch(0..0);
    for (table, text) in
        [("a.json", Some("[\n\n]\n")), ("a.ndjson", Some("")), ("a.csv", None), ("a.parquet", None)]
    {
        let context = conformance::context();
        let target = store(folder.path()).target(into(table)).unwrap();
        target.plan(none.schema_ref()).await.unwrap();
        writer(&target, "s.0000", &context).await.finish().await.unwrap();
        publish(&target, &context).await;
        if let Some(text) = text {
            assert_eq!(std::fs::read_to_string(folder.path().join(table)).unwrap(), text);
        }
        let source = store(folder.path()).source(request(table, &[], &["id"])).unwrap();
        assert!(records(&read_all(&*source).await.unwrap()).is_empty(), "{table}");
    }
}

#[tokio::test]
async fn items_go_round_without_losing_anything() {
    let folder = tempfile::tempdir().unwrap();
    let item =
        r#"{"b":{"BS":["AA=="]},"l":{"L":[{"NULL":true}]},"n":{"NS":["1.50","-1E+125"]},"pk":{"S":""}}"#;
    let schema = Arc::new(Schema::new(vec![Logical::Json.field("_item", false)]));
    let items = RecordBatch::try_new(schema, vec![Arc::new(StringArray::from(vec![item]))]).unwrap();
    dump(folder.path(), "a.dynamodb.json", std::slice::from_ref(&items), Nulls::Omit).await;
    let text = std::fs::read_to_string(folder.path().join("a.dynamodb.json")).unwrap();
    assert_eq!(text, format!("{{\"Item\":{item}}}\n"));
    let source = store(folder.path()).source(request("a.dynamodb.json", &[], &["_item"])).unwrap();
    assert_eq!(records(&read_all(&*source).await.unwrap()), [json!({ "_item": item })]);

    let context = conformance::context();
    let request = WriteRequest { key: Vec::new(), ..into("a.dynamodb.json") };
    let target = store(folder.path()).target(request.clone()).unwrap();
    let flow = HeldFlow { constants: Vec::new(), columns: items.schema(), request };
    let part = target.held_parts(1).await.unwrap().remove(0);
    let held: Vec<_> = target.held(&part, &[flow], &context).await.unwrap().try_collect().await.unwrap();
    let encoded = target.fingerprints(&items, &context).remove(0).unwrap();
    assert_eq!(held[0].records[0].fingerprint, encoded);
}

#[tokio::test]
async fn flows_of_a_slice_are_committed_together() {
    let folder = tempfile::tempdir().unwrap();
    let (store, context) = (store(folder.path()), conformance::context());
    let one = store.target(into("one.ndjson")).unwrap();
    let two = store.target(WriteRequest { flow: "two".into(), ..into("two.ndjson") }).unwrap();
    let join = async || (writer(&one, "s.0000", &context).await, writer(&two, "s.0000", &context).await);
    let (first, second) = join().await;
    write(&*first, 1, batch(0..3)).await;
    write(&*second, 1, batch(0..4)).await;
    first.commit(&checkpoint(1), 2).await.unwrap();
    drop((first, second));
    let (first, second) = join().await;
    assert_eq!(first.last().await.unwrap(), None, "the other had not called yet");
    write(&*first, 1, batch(0..3)).await;
    write(&*second, 1, batch(0..4)).await;
    first.commit(&checkpoint(1), 2).await.unwrap();
    second.commit(&checkpoint(1), 2).await.unwrap();
    drop((first, second));
    let (first, second) = join().await;
    assert_eq!(first.last().await.unwrap(), Some(checkpoint(1)));
    assert_eq!(second.last().await.unwrap(), Some(checkpoint(1)));
    for (target, count) in [(&one, 3), (&two, 4)] {
        publish(target, &context).await;
        assert_eq!(target.count(&[Vec::new()]).await.unwrap().flows, [count]);
    }
    assert_eq!(names(folder.path()), BTreeSet::from(["one.ndjson".to_owned(), "two.ndjson".to_owned()]));
}

#[tokio::test]
async fn what_a_file_cannot_do_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(folder.path());
    std::fs::write(folder.path().join("a.json"), "[]").unwrap();
    let refused = |request: WriteRequest| store.target(request).err().expect("refused");
    for (request, word) in [
        (WriteRequest { mode: Mode::SkipExisting, ..into("a.json") }, "written whole"),
        (WriteRequest { mode: Mode::Update, ..into("a.json") }, "written whole"),
        (WriteRequest { scope: [("a".to_owned(), "b".to_owned())].into(), ..into("a.json") }, "`scope`"),
        (into("a.txt"), "`format:`"),
        (into("a.parquet.gz"), "compresses"),
        (WriteRequest { forms: [("a".to_owned(), "json".to_owned())].into(), ..into("a.json") }, "not"),
        (WriteRequest { ignore: vec!["a.b".to_owned()], ..into("a.json") }, "`a.b`"),
    ] {
        let error = refused(request);
        assert_eq!(error.kind(), StoreErrorKind::Unsupported);
        assert!(chain(&error).contains(word) || word == "not", "{}", chain(&error));
    }
    let insert = store.target(WriteRequest { mode: Mode::Insert, ..into("a.json") }).unwrap();
    assert_eq!(insert.state().await.unwrap_err().kind(), StoreErrorKind::Mismatch);
    let target = store.target(into("b.json")).unwrap();
    let context = conformance::context();
    let step = LoadStep { name: "publish".to_owned(), text: String::new() };
    let error = target.apply_step(&step, &context).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Mismatch, "a run that wrote nothing has nothing to publish");
    let schema = Schema::new(vec![Field::new("a", DataType::Utf8, true)]);
    assert!(chain(&target.plan(&schema).await.unwrap_err()).contains("key column `id`"));
}

#[tokio::test]
async fn a_bad_document_is_a_reject_and_its_neighbours_arrive() {
    let folder = tempfile::tempdir().unwrap();
    let schema = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Utf8, false),
        Logical::Json.field("document", true),
    ]));
    let ids = Arc::new(StringArray::from(vec!["1", "2", "3", "4"]));
    let documents = Arc::new(StringArray::from(vec!["{", "null", "{\"a\":1,\"a\":2}", "[1e400]"]));
    let records_in = RecordBatch::try_new(schema, vec![ids, documents]).unwrap();
    for table in ["a.json", "a.ndjson", "a.dynamodb.json", "a.parquet"] {
        let context = conformance::context();
        let target = store(folder.path()).target(into(table)).unwrap();
        target.plan(records_in.schema_ref()).await.unwrap();
        let writer = writer(&target, "s.0000", &context).await;
        let batch =
            WriteBatch { records: records_in.clone(), seq: 1, cursor: None, contested: false, guards: None };
        let outcomes = writer.write(batch).await.unwrap().outcomes;
        let rejected: Vec<_> =
            outcomes.iter().map(|outcome| matches!(outcome, Outcome::Rejected(_))).collect();
        assert_eq!(rejected, [true, false, true, false], "{table}");
        writer.commit(&checkpoint(1), 1).await.unwrap();
        writer.finish().await.unwrap();
        publish(&target, &context).await;
        let source = store(folder.path()).source(request(table, &[], &["id", "document"])).unwrap();
        let ids: Vec<_> =
            records(&read_all(&*source).await.unwrap()).iter().map(|record| record["id"].clone()).collect();
        assert_eq!(ids, ["2", "4"], "{table}");
    }
}

#[tokio::test]
async fn a_cut_commit_leaves_the_one_before_and_a_cut_publication_is_done_again() {
    let folder = tempfile::tempdir().unwrap();
    let (store, context) = (store(folder.path()), conformance::context());
    std::fs::write(folder.path().join("a.ndjson"), "{\"id\":\"old\"}\n").unwrap();
    let target = store.target(into("a.ndjson")).unwrap();
    assert!(
        target
            .plan(batch(0..1).schema_ref())
            .await
            .unwrap()
            .notes
            .iter()
            .any(|note| note.contains("replaced"))
    );
    let first = writer(&target, "s.0000", &context).await;
    for seq in 1..=2 {
        write(&*first, seq, batch(0..3)).await;
        first.commit(&checkpoint(seq), 1).await.unwrap();
    }
    drop(first);
    let parts = folder.path().join(".whimbrel-parts").join(context.run.as_str());
    // The second commit went to the place of even numbers; its write was cut.
    let place = parts.join("ledger.s.0000.0");
    let kept = std::fs::read(&place).unwrap();
    std::fs::write(&place, &kept[..kept.len() - 1]).unwrap();
    let again = writer(&target, "s.0000", &context).await;
    assert_eq!(again.last().await.unwrap(), Some(checkpoint(1)));
    write(&*again, 2, batch(3..5)).await;
    again.commit(&checkpoint(2), 1).await.unwrap();
    again.finish().await.unwrap();
    let ids = async || {
        let source = store.source(request("a.ndjson", &[], &["id"])).unwrap();
        let ids: Vec<_> =
            records(&read_all(&*source).await.unwrap()).iter().map(|r| r["id"].clone()).collect();
        ids
    };
    let named = folder.path().join("a.ndjson").display().to_string();
    std::fs::write(parts.join(format!("publishing-{}", named.replace('/', "=2f"))), "half a file").unwrap();
    assert_eq!(ids().await, ["old"], "until it is published the file is what it was");
    let before = std::fs::read_dir(&parts).unwrap().count();
    publish(&target, &context).await;
    assert_eq!(ids().await, ["0", "1", "2", "3", "4"]);
    assert!(before > 1 && !parts.exists());
}

#[tokio::test]
async fn columns_of_other_types_than_before_the_resume_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (store, context) = (store(folder.path()), conformance::context());
    for table in ["a.parquet", "a.arrow", "a.ndjson"] {
        let target = store.target(into(table)).unwrap();
        let first = writer(&target, "s.0000", &context).await;
        write(&*first, 1, batch(0..3)).await;
        first.commit(&checkpoint(1), 1).await.unwrap();
        drop(first);
        let resumed = writer(&target, "s.0000", &context).await;
        assert_eq!(resumed.last().await.unwrap(), Some(checkpoint(1)), "{table}");
        let other = batch(3..5).project(&[0, 1]).unwrap();
        let batch = WriteBatch { records: other, seq: 2, cursor: None, contested: false, guards: None };
        let error = resumed.write(batch).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Mismatch, "{table}");
        assert!(error.to_string().contains("run --new"), "{error}");
    }
}

/// Its price is the one value of its type that is no decimal.
fn priced_at_nan() -> RecordBatch {
    let batch = batch(50..51);
    let mut columns = batch.columns().to_vec();
    columns[10] = Arc::new(StringArray::from(vec!["NaN"]));
    RecordBatch::try_new(batch.schema(), columns).unwrap()
}

#[tokio::test]
async fn a_number_without_a_decimal_is_a_reject_of_typed_files_alone() {
    let folder = tempfile::tempdir().unwrap();
    for (table, is_typed) in [("a.parquet", true), ("a.arrow", true), ("a.ndjson", false), ("a.csv", false)] {
        conformance::whole_target(&conformance::WholeFixture {
            store: &store(folder.path()),
            request: into(table),
            records: batch(0..7),
            others: batch(20..25),
            refused: is_typed.then(priced_at_nan),
        })
        .await;
        if !is_typed {
            dump(folder.path(), table, &[priced_at_nan()], Nulls::Omit).await;
        }
        let source = store(folder.path()).source(request(table, &[], &["id", "price"])).unwrap();
        let schema = source.describe().await.unwrap().schema;
        let price = schema.field_with_name("price").unwrap().data_type().clone();
        assert_eq!(price == DataType::Decimal128(12, 2), is_typed, "{table}: {price}");
    }
}

#[tokio::test]
async fn a_part_that_lost_what_was_committed_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (store, context) = (store(folder.path()), conformance::context());
    let target = store.target(into("a.ndjson")).unwrap();
    let first = writer(&target, "s.0000", &context).await;
    write(&*first, 1, batch(0..3)).await;
    first.commit(&checkpoint(1), 1).await.unwrap();
    drop(first);
    let parts = folder.path().join(".whimbrel-parts").join(context.run.as_str()).join("parts");
    let of_file = std::fs::read_dir(&parts).unwrap().next().unwrap().unwrap().path();
    let part = std::fs::read_dir(of_file).unwrap().next().unwrap().unwrap().path();
    std::fs::write(part, "short").unwrap();
    let joined = target.writer(&SliceId::new("s.0000"), true, &context).await;
    assert_eq!(joined.err().unwrap().kind(), StoreErrorKind::Mismatch);
    let step = target.load_steps().await.unwrap().remove(0);
    assert_eq!(target.apply_step(&step, &context).await.unwrap_err().kind(), StoreErrorKind::Mismatch);
    assert!(!folder.path().join("a.ndjson").exists());
}
