//! Odd records of Chroma into pgvector: each arrives, or is a reject whose reason says what is wrong with it.

use crate::chroma::directory;
use crate::copy::asked;
use crate::place::{Ended, Place};
use serde_json::{Value, json};

/// Texts of a JSON pointer's place in each reject, by the id of its record; the id's first word is enough.
fn reasons(place: &Place) -> Vec<(String, String)> {
    let file = place.only_run().join("rejects.ndjson");
    let lines = std::fs::read_to_string(file).expect("the rejects");
    let text =
        |reject: &Value, at: &str| reject.pointer(at).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut found: Vec<_> = lines
        .lines()
        .map(|line| serde_json::from_str(line).expect("an object"))
        .map(|reject| (text(&reject, "/key/id"), text(&reject, "/reason")))
        .collect();
    found.sort();
    found
}

#[track_caller]
fn assert_reasons(place: &Place, expected: &[(&str, &str)]) {
    let found = reasons(place);
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for ((id, reason), (begins, said)) in found.iter().zip(expected) {
        assert!(id.starts_with(begins) && reason.contains(said), "{begins}: {said}: {id:.60}: {reason}");
    }
}

fn counted(ended: &Ended) -> (Value, Value, Value) {
    let totals = &ended.json()["totals"];
    (totals["read"].clone(), totals["created"].clone(), totals["rejected"].clone())
}

const INTO_LANGCHAIN: &str = "migration: odd
stores:
  vec: { chroma: db }
  pg: { postgres: 'embedded:v.pg' }
defaults: { into: { store: pg } }
flows:
  odd:
    from: { store: vec, collection: odd }
    into: { langchain: { collection: odd, index: hnsw, metadata: { user_id: u-1 } } }
  other:
    after: [odd]
    from: { store: vec, collection: other }
    into: { langchain: { collection: other, metadata: { user_id: u-1 } } }
verify:
  - { records: all }
";

#[test]
fn odd_records_arrive_in_the_librarys_tables_or_say_what_is_wrong() {
    let place = Place::new();
    directory(&place, "odd-0.6.3");
    place.write("odd.yaml", INTO_LANGCHAIN);
    let ran = place.run(&["run", "odd.yaml", "--create", "--verify", "--json"]).expect(3);
    assert_eq!(counted(&ran), (json!(21), json!(12), json!(9)));
    assert_eq!(ran.json()["verify"]["outcome"], "equal");
    assert_reasons(
        &place,
        &[
            ("infinity in metadata", "the value of `f`: JSON holds no infinity"),
            ("infinity in the vector", "`embedding` holds inf as element 2"),
            ("long ", "maximum 2704 for index \"langchain_pg_embedding_pkey\""),
            ("nan in the vector", "`embedding` holds NaN as element 1"),
            ("nul in a key", "`cmetadata` holds the character U+0000"),
            ("nul in metadata", "`cmetadata` holds the character U+0000"),
            ("nul in the document", "`document` holds the character U+0000"),
            ("nul in the id ", "`id` holds the character U+0000"),
            ("shared", "the key is held outside of the flow's scope"),
        ],
    );
    let ask = |sql: &str| asked(&place, "v.pg", sql).expect("a number");
    // The library fails over NULL; a record without any metadata has what the spec puts into it, and nothing else.
    let texts = "SELECT count(*) FROM langchain_pg_embedding WHERE document IS NOT NULL AND cmetadata ->> 'user_id' = 'u-1'";
    assert_eq!(ask(texts), 12);
    let empty = "SELECT count(*) FROM langchain_pg_embedding WHERE document = '' AND cmetadata = '{\"user_id\": \"u-1\"}'";
    assert_eq!(ask(empty), 1);
    let first = "SELECT count(*) FROM langchain_pg_embedding e JOIN langchain_pg_collection c ON c.uuid = e.collection_id
        WHERE e.id = 'shared' AND c.name = 'odd' AND e.document = 'of odd'";
    assert_eq!(ask(first), 1, "the first collection keeps the id");
    let numbers = "SELECT count(*) FROM langchain_pg_embedding WHERE id = 'zero' AND cmetadata ->> 'n' = '9223372036854775807'
        AND (cmetadata ->> 'f')::float8 = 1e22 AND (cmetadata ->> 'g')::float8 = 5e-324";
    assert_eq!(ask(numbers), 1);
    let bits = "SELECT count(*) FROM langchain_pg_embedding WHERE embedding::text = '[3e-39,-0,1e+38,0.1]' AND cmetadata ->> 'ü' = '🌼'";
    assert_eq!(ask(bits), 1);
}

#[test]
fn a_collection_of_another_dimension_is_refused_before_anything_is_written() {
    let place = Place::new();
    directory(&place, "odd-0.6.3");
    place.write(
        "odd.yaml",
        &INTO_LANGCHAIN
            .replace("from: { store: vec, collection: other }", "from: { store: vec, collection: five }"),
    );
    place.run(&["create", "odd.yaml"]);
    let refused = place.run(&["run", "odd.yaml", "--create"]).expect(2);
    refused.one_error();
    let said = refused.err.contains("vectors have 5 dimensions") && refused.err.contains("takes 4");
    assert!(said && refused.err.contains("a schema of its own"), "{}", refused.err);
}

#[test]
fn odd_records_arrive_in_a_table_of_ones_own_or_say_what_is_wrong() {
    let place = Place::new();
    directory(&place, "odd-0.6.3");
    place.write(
        "schema.sql",
        "CREATE EXTENSION IF NOT EXISTS vector;
         CREATE TABLE docs (id varchar(30) PRIMARY KEY, document text, f float8, metadata json, embedding vector(4));",
    );
    place.write(
        "odd.yaml",
        "migration: odd
stores:
  vec: { chroma: db }
  pg: { postgres: 'embedded:v.pg', schema: schema.sql }
flows:
  odd:
    from: { store: vec, collection: odd }
    columns: { f: float }
    transform: SELECT id, document, f, metadata, embedding FROM input
    into: { store: pg, table: docs }
verify:
  - { records: all }
",
    );
    let ran = place.run(&["run", "odd.yaml", "--create", "--verify", "--json"]).expect(3);
    assert_eq!(counted(&ran), (json!(19), json!(13), json!(6)));
    assert_eq!(ran.json()["verify"]["outcome"], "equal");
    assert_reasons(
        &place,
        &[
            ("infinity in the vector", "`embedding` holds inf as element 2"),
            ("long ", "`id`"),
            ("long and dull", "`id`"),
            ("nan in the vector", "`embedding` holds NaN as element 1"),
            ("nul in the document", "`document` holds the character U+0000"),
            ("nul in the id ", "`id` holds the character U+0000"),
        ],
    );
    let ask = |sql: &str| asked(&place, "v.pg", sql).expect("a number");
    assert_eq!(ask("SELECT count(*) FROM docs WHERE document IS NULL"), 2, "NULL is not an empty text here");
    assert_eq!(ask("SELECT count(*) FROM docs WHERE document = ''"), 1);
    // A value with a column of its own need not fit into JSON.
    assert_eq!(ask("SELECT count(*) FROM docs WHERE f = 'infinity' AND metadata::text = '{}'"), 1);
    assert_eq!(
        ask("SELECT count(*) FROM docs WHERE metadata::text LIKE '%\\\\u0000%'"),
        2,
        "json keeps it as it is written"
    );
}
