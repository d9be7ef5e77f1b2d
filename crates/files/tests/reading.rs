//! Reading, format by format.

use crate::support::{chain, folder, put, read, read_all, records, request, source, store, unreadable};
use arrow::array::{ArrayRef, Int64Array, LargeStringArray, RecordBatch, TimestampMicrosecondArray};
use flate2::Compression;
use flate2::write::GzEncoder;
use object_store::memory::InMemory;
use object_store::{ObjectStoreExt as _, PutPayload};
use serde_json::json;
use std::io::Write as _;
use std::sync::Arc;
use whimbrel_files::FilesStore;
use whimbrel_store::{Source, Store as _, StoreErrorKind, conformance};

const DIGITS: &str = "12345678901234567890123456789012345678";

fn ndjson(records: usize) -> String {
    (0..records).map(|i| format!("{{\"id\":\"{i}\",\"text\":\"ü {} \\\"\"}}\n", "x".repeat(i % 90))).collect()
}

pub fn gzip(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes.as_ref()).unwrap();
    encoder.finish().unwrap()
}

fn numbers(range: std::ops::Range<i64>) -> RecordBatch {
    let texts = range.clone().map(|i| (i % 5 != 0).then(|| format!("text {i}")));
    RecordBatch::try_from_iter_with_nullable([
        ("n", Arc::new(Int64Array::from_iter_values(range.clone())) as ArrayRef, false),
        ("text", Arc::new(texts.collect::<LargeStringArray>()), true),
        ("at", Arc::new(TimestampMicrosecondArray::from_iter_values(range).with_timezone("UTC")), true),
    ])
    .unwrap()
}

fn parquet(rows: i64, group: usize) -> Vec<u8> {
    let properties = parquet::file::properties::WriterProperties::builder()
        .set_max_row_group_row_count(Some(group))
        .build();
    let batch = numbers(0..rows);
    let mut writer =
        parquet::arrow::ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

#[tokio::test]
async fn every_format_passes_the_conformance_suite() {
    let folder = tempfile::tempdir().unwrap();
    let lines = ndjson(4000);
    let array = format!("[{}]", lines.trim_end().replace('\n', " ,\n"));
    put(folder.path(), "a.ndjson", &lines);
    put(folder.path(), "a.json", &array);
    put(folder.path(), "a.jsonl.gz", gzip(&lines));
    put(folder.path(), "a.ndjson.zst", zstd::encode_all(lines.as_bytes(), 1).unwrap());
    for part in 0..5 {
        put(folder.path(), &format!("many/{part}.ndjson"), ndjson(800));
    }
    for (table, count) in
        [("a.ndjson", 4000), ("a.json", 4000), ("a.jsonl.gz", 4000), ("a.ndjson.zst", 4000), ("many", 4000)]
    {
        let mut request = request(table, &[], &["id", "text"]);
        request.batch_records = 900;
        conformance_source(&*source(folder.path(), request), count, table).await;
    }
}

/// The suite compares sets of records, so that equal ones must not be there.
async fn conformance_source(source: &dyn Source, count: usize, table: &str) {
    if table == "many" {
        let read = records(&read_all(source).await.unwrap());
        assert_eq!(read.len(), count);
    } else {
        conformance::source(source, count).await;
    }
}

#[tokio::test]
async fn typed_files_pass_the_conformance_suite() {
    let folder = folder("a.parquet", parquet(2000, 300));
    let batch = numbers(0..2000);
    let mut stream = arrow::ipc::writer::StreamWriter::try_new(Vec::new(), batch.schema_ref()).unwrap();
    let mut file = arrow::ipc::writer::FileWriter::try_new(Vec::new(), batch.schema_ref()).unwrap();
    for from in (0..2000).step_by(250) {
        stream.write(&batch.slice(from, 250)).unwrap();
        file.write(&batch.slice(from, 250)).unwrap();
    }
    put(folder.path(), "stream.arrow", stream.into_inner().unwrap());
    put(folder.path(), "file.arrow", file.into_inner().unwrap());
    for table in ["a.parquet", "stream.arrow", "file.arrow"] {
        let mut request = request(table, &[], &[]);
        request.batch_records = 170;
        let source = source(folder.path(), request);
        conformance::source(&*source, 2000).await;
        let read = records(&read_all(&*source).await.unwrap());
        assert_eq!(
            read[7],
            json!({"n": 7, "text": "text 7", "at": "1970-01-01T00:00:00.000007Z"}),
            "{table}"
        );
        assert_eq!(read[5]["text"], json!(null));
    }
}

/// Rows that repeat take next to nothing in the file; what is decoded at a time is bounded all the same.
#[tokio::test]
async fn a_batch_of_wide_rows_of_parquet_takes_no_more_memory_than_asked() {
    let text = "wide ".repeat(200);
    let texts: LargeStringArray = (0..20_000).map(|_| Some(text.as_str())).collect();
    let batch = RecordBatch::try_from_iter([("text", Arc::new(texts) as ArrayRef)]).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    let bytes = writer.into_inner().unwrap();
    assert!(bytes.len() < 100_000);
    let folder = folder("wide.parquet", bytes);
    let mut request = request("wide.parquet", &[], &[]);
    (request.batch_records, request.batch_bytes) = (32_768, 1 << 20);
    let batches = read_all(&*source(folder.path(), request)).await.unwrap();
    assert_eq!(batches.iter().map(|batch| batch.records.num_rows()).sum::<usize>(), 20_000);
    // A piece of a batch keeps the memory of all of it.
    let most = batches.iter().map(|batch| batch.records.get_array_memory_size()).max().unwrap();
    assert!(most < 3 << 20, "{most} bytes at once");
}

#[tokio::test]
async fn csv_passes_the_conformance_suite() {
    let mut text = "\u{feff}id,note,\"n\"\r\n".to_owned();
    for i in 0..9000 {
        text += &format!("{i},\"line {i}\nwith \"\"quotes\"\", and more\",{i}.50\r\n");
    }
    let folder = folder("a.csv", text);
    let mut request = request("a.csv", &[("n", "number")], &[]);
    request.batch_records = 1500;
    let source = source(folder.path(), request);
    conformance::source(&*source, 9000).await;
    assert!(source.slices(5).await.unwrap().len() > 3);
    let read = records(&read_all(&*source).await.unwrap());
    assert_eq!(read[3], json!({"id": "3", "note": "line 3\nwith \"quotes\", and more", "n": "3.50"}));
}

#[tokio::test]
async fn csv_tells_null_from_empty_and_keeps_bad_lines() {
    let folder = folder("a.csv", "a,b,c\n1,,\"\"\n\n1,2\n\"x\"y,2,3\n4,5,6\n\"torn");
    let source = source(folder.path(), request("a.csv", &[], &["a", "b", "c"]));
    let batches = read_all(&*source).await.unwrap();
    let read = records(&batches);
    assert_eq!(read[0], json!({"a": "1", "b": null, "c": ""}));
    assert_eq!(read[3], json!({"a": "4", "b": "5", "c": "6"}));
    let bad = unreadable(&batches);
    let bad: Vec<_> = bad.iter().map(|(row, column, raw)| (*row, column.as_str(), raw.as_str())).collect();
    assert_eq!(bad, [(1, "", "1,2"), (2, "", "\"x\"y,2,3"), (4, "", "\"torn")]);
}

#[tokio::test]
async fn torn_and_malformed_lines_are_unreadable_and_the_rest_arrives() {
    let text = b"{\"a\":\"1\"}\nnonsense\n\n{\"a\":\"2\",\"n\":1.5}\r\n{\"a\":\"\xff\"}\n{\"a\":\"3\",\"n\":2}\n{\"a\":\"4";
    let folder = folder("a.ndjson", text);
    let source = source(folder.path(), request("a.ndjson", &[("n", "integer")], &["a", "n"]));
    let batches = read_all(&*source).await.unwrap();
    let read = records(&batches);
    assert_eq!(read.len(), 6);
    assert_eq!(read[4], json!({"a": "3", "n": 2}));
    let bad = unreadable(&batches);
    assert_eq!(bad[0], (1, String::new(), "nonsense".to_owned()));
    assert_eq!(bad[1], (2, "n".to_owned(), "1.5".to_owned()));
    assert_eq!(bad[2].0, 3);
    assert_eq!(bad[3], (5, String::new(), "{\"a\":\"4".to_owned()));
    assert_eq!(batches[0].unreadable[0].reason.split(':').next(), Some("the record cannot be read"));
    let original = batches[0].originals.as_ref().unwrap();
    assert_eq!((original.original(0), original.original(1)), (json!({"a": "1"}), json!("nonsense")));
}

#[tokio::test]
async fn json_texts_of_every_shape() {
    let one = |a: &str| json!({"a": a});
    for (text, expected, faults) in [
        (r#"{"a":"1"}"#, vec![one("1")], 0),
        ("[]", vec![], 0),
        (" [ ] \n", vec![], 0),
        ("", vec![], 0),
        (r#"{"a":"1"}{"a":"}]\""} {"a":"3"}"#, vec![one("1"), one("}]\""), one("3")], 0),
        ("\u{feff}[{\"a\":\"1\"},\n{\"a\":\"2\"}]\n", vec![one("1"), one("2")], 0),
        (r#"[{"a":"1"},{"a":"2"#, vec![one("1"), json!({"a": null}), json!({"a": null})], 2),
        (r#"[{"a":"1"},"#, vec![one("1"), json!({"a": null})], 1),
        (r#"[7,"x",{"a":"1"}]"#, vec![json!({"a": null}), json!({"a": null}), one("1")], 2),
    ] {
        let folder = folder("a.json", text);
        let source = source(folder.path(), request("a.json", &[], &["a"]));
        let batches = read_all(&*source).await.unwrap();
        assert_eq!(records(&batches), expected, "{text}");
        assert_eq!(unreadable(&batches).len(), faults, "{text}");
        if let Some(last) = batches.last() {
            let part = source.slices(1).await.unwrap().remove(0);
            let rest = read(&*source, &part, last.cursor.as_ref()).await.unwrap();
            assert!(rest.is_empty(), "nothing is read twice: {text}");
        }
    }
    for text in [r#"[{"a":"1"}] x"#, "]", r#"[{"a":"1"},,{"a":"2"}]"#] {
        let folder = folder("a.json", text);
        let source = source(folder.path(), request("a.json", &[], &["a"]));
        let error = read_all(&*source).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Protocol, "{text}");
    }
}

#[tokio::test]
async fn numbers_keep_every_digit_and_the_whole_record_can_be_had() {
    let record = format!(r#"{{"n":{DIGITS},"deep":{{"z":1.50,"a":[{DIGITS}]}}}}"#);
    let folder = folder("a.ndjson", &record);
    let source = source(folder.path(), request("a.ndjson", &[("n", "number")], &[]));
    let description = source.describe().await.unwrap();
    assert!(description.notes.iter().any(|note| note.contains("_item")));
    let read = records(&read_all(&*source).await.unwrap());
    assert_eq!(read, [json!({"n": DIGITS, "_item": record})]);
}

#[tokio::test]
async fn a_file_that_changes_under_a_run_is_drift() {
    let folder = folder("a.ndjson", ndjson(10));
    let source = source(folder.path(), request("a.ndjson", &[], &["id"]));
    let part = source.slices(1).await.unwrap().remove(0);
    put(folder.path(), "a.ndjson", ndjson(11));
    let error = read(&*source, &part, None).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Drift, "{}", chain(&error));
    std::fs::remove_file(folder.path().join("a.ndjson")).unwrap();
    assert_eq!(read(&*source, &part, None).await.unwrap_err().kind(), StoreErrorKind::Drift);
}

#[tokio::test]
async fn what_is_not_there_is_said_with_what_is() {
    let folder = folder("users.ndjson", ndjson(1));
    put(folder.path(), "mixed/a.csv", "a\n1\n");
    put(folder.path(), "mixed/a.json", "[]");
    put(folder.path(), "odd", "x");
    for (table, kind, word) in [
        ("user.ndjson", StoreErrorKind::NotFound, "users.ndjson"),
        ("mixed", StoreErrorKind::Unsupported, "more than one format"),
        ("odd", StoreErrorKind::Unsupported, "`format:`"),
    ] {
        let error = source(folder.path(), request(table, &[], &["a"])).describe().await.unwrap_err();
        assert_eq!(error.kind(), kind, "{table}");
        assert!(chain(&error).contains(word), "{}", chain(&error));
    }
    let declared = request("users.ndjson", &[("id", "strange")], &["id"]);
    assert!(chain(&source(folder.path(), declared).describe().await.unwrap_err()).contains("strange"));
}

#[tokio::test]
async fn an_object_store_is_read_like_a_disk() {
    let objects = Arc::new(InMemory::new());
    let put = async |key: &str, bytes: Vec<u8>| {
        objects.put(&key.into(), PutPayload::from(bytes)).await.unwrap();
    };
    put("p/a.ndjson", ndjson(4000).into_bytes()).await;
    put("p/b/1.parquet", parquet(500, 100)).await;
    put("p/c.json.gz", gzip(format!("[{}]", ndjson(300).trim_end().replace('\n', ",")))).await;
    let shared: Arc<dyn object_store::ObjectStore> = Arc::<InMemory>::clone(&objects);
    let store = FilesStore::over("bucket".into(), shared, "p/", None);
    for (table, count, wanted) in [
        ("a.ndjson", 4000, &["id", "text"][..]),
        ("b", 500, &["n", "text"]),
        ("c.json.gz", 300, &["id", "text"]),
    ] {
        let mut request = request(table, &[], wanted);
        request.batch_records = 500;
        conformance::source(&*store.source(request).unwrap(), count).await;
    }
    let source = store.source(request("a.ndjson", &[], &["id"])).unwrap();
    let part = source.slices(1).await.unwrap().remove(0);
    put("p/a.ndjson", ndjson(10).into_bytes()).await;
    let error = read(&*source, &part, None).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Drift, "{}", chain(&error));
}

#[tokio::test]
async fn the_store_says_what_and_where_it_is() {
    let folder = folder("a.ndjson", ndjson(1));
    let (store, again) = (store(folder.path()), store(&folder.path().join("../").join(folder.path())));
    assert_eq!(store.identity().await.unwrap(), again.identity().await.unwrap());
    assert!(store.check().await.iter().all(|finding| finding.ok));
    assert!(store.location().starts_with('/'));
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 50, failure_persistence: None, ..proptest::prelude::ProptestConfig::default() })]

    #[test]
    fn whatever_a_file_holds_nothing_breaks_off(
        bytes in proptest::collection::vec(
            proptest::prop_oneof![proptest::sample::select(b"{}[]\",:\\ \n\r1ax\xc3\x28".to_vec()), proptest::num::u8::ANY],
            0..200,
        ),
        name in proptest::sample::select(vec![
            "a.json", "a.ndjson", "a.csv", "a.dynamodb.json", "a.parquet", "a.arrow", "a.json.gz", "a.csv.zst",
        ]),
    ) {
        let folder = folder(name, &bytes);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let read = runtime.block_on(async {
            let source = source(folder.path(), request(name, &[("n", "number")], &["a", "n", "_item"]));
            source.describe().await?;
            read_all(&*source).await
        });
        if let Err(error) = read {
            proptest::prop_assert_eq!(error.kind(), StoreErrorKind::Protocol, "{}", chain(&error));
        }
    }
}
