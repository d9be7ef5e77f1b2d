//! Every record of every directory, value for value and embeddings bit for bit.

use crate::fixture::{ALL, EVERYTHING, Fixture, read, request};
use arrow::array::{Array as _, AsArray as _};
use arrow::datatypes::Float32Type;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use whimbrel_model::record::text_at;
use whimbrel_store::{ReadBatch, Store as _};

/// A value of the truth, in the words of JSON.
fn expected(value: &Value) -> Value {
    let Value::Object(typed) = value else { return value.clone() };
    let (kind, value) = typed.iter().next().expect("a typed value");
    match (kind.as_str(), value) {
        ("i", Value::String(digits)) => serde_json::from_str(digits).expect("an integer"),
        ("f", Value::String(hex)) => {
            Value::from(format!("float {:016x}", u64::from_str_radix(hex, 16).expect("bits")))
        }
        ("a", Value::Array(values)) => values.iter().map(expected).collect(),
        other => panic!("the truth has a value of another kind: {other:?}"),
    }
}

/// A value that was read, with floats by their bits.
fn found(value: &Value) -> Value {
    match value {
        Value::Number(number) if number.to_string().contains(['.', 'e']) => {
            let float: f64 = number.to_string().parse().expect("a float");
            Value::from(format!("float {:016x}", float.to_bits()))
        }
        Value::Array(values) => values.iter().map(found).collect(),
        other => other.clone(),
    }
}

fn bits(batch: &ReadBatch, row: usize) -> Option<Vec<u8>> {
    let lists = batch.records.column_by_name("embedding").expect("embeddings").as_list::<i32>();
    if lists.is_null(row) {
        return None;
    }
    let floats = lists.value(row);
    Some(floats.as_primitive::<Float32Type>().values().iter().flat_map(|float| float.to_le_bytes()).collect())
}

fn check_record(batch: &ReadBatch, row: usize, truth: &Value, place: &str) {
    let text = |name: &str| text_at(batch.records.column_by_name(name).expect("a column"), row);
    assert_eq!(text("id"), truth["id"].as_str(), "{place}: the order");
    let place = format!("{place} {}", truth["id"]);
    assert_eq!(text("document"), truth["document"].as_str(), "{place}: the document");
    assert_eq!(text("uri"), truth["uri"].as_str(), "{place}: the URI");
    let metadata: Value = serde_json::from_str(text("metadata").expect("an object")).expect("JSON");
    let metadata = metadata.as_object().expect("an object");
    let truth_metadata = truth["metadata"].as_object().expect("an object");
    assert_eq!(metadata.len(), truth_metadata.len(), "{place}: {metadata:?}");
    for (key, value) in truth_metadata {
        assert_eq!(metadata.get(key).map(found), Some(expected(value)), "{place}: {key}");
    }
    let embedding = truth["embedding"].as_str().map(|text| STANDARD.decode(text).expect("base64"));
    assert_eq!(bits(batch, row), embedding, "{place}: the embedding");
    let is_refused = batch.unreadable.iter().any(|unreadable| unreadable.row == row);
    assert_eq!(is_refused, embedding.is_none(), "{place}: lost embeddings, and no others, are said");
    let state = text("vector_state").expect("a state");
    assert_eq!(state == "lost", embedding.is_none(), "{place}: {state}");
    assert_eq!(state == "stale", truth["stale"] == Value::Bool(true), "{place}: {state}");
}

/// What is said beforehand of all records together is what is true of each.
fn check_notes(notes: &[String], records: &[Value], place: &str) {
    let count = |is_meant: &dyn Fn(&Value) -> bool| records.iter().filter(|truth| is_meant(truth)).count();
    let (lost, stale) =
        (count(&|truth| truth["embedding"].is_null()), count(&|truth| truth["stale"] == Value::Bool(true)));
    let note = |part: &str| notes.iter().find(|note| note.contains(part));
    let all = records.len();
    for (count, part, begin) in [
        (lost, "Chroma has lost", format!("Chroma has lost {lost} of {all} embeddings, ")),
        (stale, " embeddings may be others", format!("{stale} embeddings may be others ")),
    ] {
        assert_eq!(note(part).is_some(), count > 0, "{place}: {notes:?}");
        assert!(note(part).is_none_or(|note| note.starts_with(&begin)), "{place}: {notes:?}, not {begin}");
    }
    let normalised = note("keeps embeddings normalised").and_then(|note| note.split("two units").next());
    let indexed =
        normalised.and_then(|note| note.split(": of ").nth(1)?.split(' ').next()?.parse::<usize>().ok());
    assert!(indexed.is_none_or(|indexed| (1..=all - lost).contains(&indexed)), "{place}: {notes:?}");
}

async fn check_collection(fixture: &Fixture, truth: &Value, place: &str) -> usize {
    let text = |name: &str| truth[name].as_str().expect("a text");
    let name = format!("{}/{}/{}", text("tenant"), text("database"), text("name"));
    let place = format!("{place} {name}");
    let store = fixture.store();
    let source = store.source(request(&name, &EVERYTHING)).expect("a source");
    let description = source.describe().await.expect("a description");
    let records = truth["records"].as_array().expect("records");
    assert_eq!(truth["count"].as_u64(), description.records, "{place}: the count");
    check_notes(&description.notes, records, &place);
    let field = description.schema.field_with_name("embedding").expect("embeddings");
    assert_eq!(
        field.metadata().get("whimbrel:metric").map(String::as_str),
        truth["space"].as_str(),
        "{place}"
    );
    let dimension =
        truth["dimension"].as_u64().map_or("vector".to_owned(), |count| format!("vector({count})"));
    assert_eq!(field.metadata().get("whimbrel:source_type"), Some(&dimension), "{place}");
    let batches = read(&source).await.unwrap_or_else(|error| panic!("{place}: {error:?}"));
    let rows = batches.iter().flat_map(|batch| (0..batch.records.num_rows()).map(move |row| (batch, row)));
    let mut count = 0;
    for ((batch, row), truth) in rows.zip(records) {
        check_record(batch, row, truth, &place);
        count += 1;
    }
    let found: usize = batches.iter().map(|batch| batch.records.num_rows()).sum();
    assert_eq!((count, found), (records.len(), records.len()), "{place}: the number of records");
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn every_record_of_every_version() {
    let mut count = 0;
    for name in ALL {
        let fixture = Fixture::unpack(name);
        let before = fixture.files();
        let truth = fixture.truth();
        for collection in truth["collections"].as_array().expect("collections") {
            count += check_collection(&fixture, collection, name).await;
        }
        assert_eq!(fixture.files(), before, "{name}: not a byte of the directory was touched");
    }
    assert_eq!(count, 10_754);
}

#[tokio::test]
async fn exactly_the_collections_that_there_are_are_listed() {
    for name in ALL {
        let fixture = Fixture::unpack(name);
        let findings = fixture.store().check().await;
        assert!(findings.iter().all(|finding| finding.ok), "{name}: {findings:?}");
        let mut listed: Vec<&str> =
            findings.iter().filter_map(|finding| finding.text.split(": ").next()).collect();
        listed.retain(|text| text.matches('/').count() == 2 && !text.starts_with("chroma"));
        let truth = fixture.truth();
        let text = |value: &Value, name: &str| value[name].as_str().expect("a text").to_owned();
        let full =
            |one: &Value| format!("{}/{}/{}", text(one, "tenant"), text(one, "database"), text(one, "name"));
        let mut expected: Vec<_> =
            truth["collections"].as_array().expect("collections").iter().map(full).collect();
        expected.sort();
        assert_eq!(listed, expected, "{name}");
    }
}
