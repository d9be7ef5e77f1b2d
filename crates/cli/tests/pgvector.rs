//! Vectors into PostgreSQL: the tables of langchain-postgres, indexes behind the load, and searches that prove them.

use crate::chroma::directory;
use crate::copy::asked;
use crate::place::Place;
use serde_json::{Value, json};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;

const SPEC: &str = r#"migration: vectors
variables: { user_id: "u-1" }
stores:
  vec: { chroma: db }
  pg: { postgres: "embedded:v.pg" }
flows:
  docs:
    from: { store: vec, collection: docs_l2 }
    into: { store: pg, langchain: { collection: docs, dimension: 8, metric: l2, index: hnsw, metadata: { user_id: $user_id } } }
verify:
  - { records: all }
  - { overlap: docs, top: 5, at_least: 0.8, stored: 30 }
  - { latency: docs, average_ms: 1000, stored: 10 }
"#;

fn assertion<'a>(found: &'a Value, name: &str) -> &'a Value {
    let all = found["assertions"].as_array().expect("assertions");
    all.iter().find(|one| one["name"] == name).expect("the assertion")
}

#[test]
fn a_langchain_collection_is_made_filled_indexed_and_searched() {
    let place = Place::new();
    directory(&place, "1.5.9");
    place.write("v.yaml", SPEC);
    let ran = place.run(&["run", "v.yaml", "--create", "--verify", "--json"]).expect(0).json();
    assert_eq!((&ran["totals"]["created"], &ran["verify"]["outcome"]), (&json!(2502), &json!("equal")));
    let overlap = assertion(&ran["verify"], "overlap: docs");
    assert_eq!(overlap["ok"], true, "{overlap}");
    let value = overlap["value"].as_str().expect("a text");
    assert!(value.contains("95 % confidence") && value.contains("over 30 searches"), "{value}");
    let latency = assertion(&ran["verify"], "latency: docs");
    assert!(latency["value"].as_str().is_some_and(|value| value.contains("p95")), "{latency}");
    let ask = |sql: &str| asked(&place, "v.pg", sql).expect("a number");
    let whole = "SELECT count(*) FROM langchain_pg_embedding e JOIN langchain_pg_collection c ON c.uuid = e.collection_id
        WHERE c.name = 'docs' AND document IS NOT NULL AND e.cmetadata ->> 'user_id' = 'u-1'";
    assert_eq!(ask(whole), 2502);
    let structure = "SELECT (SELECT count(*) FROM pg_indexes WHERE indexdef LIKE '%USING hnsw (embedding vector_l2_ops)%')
        + (SELECT count(*) FROM pg_indexes WHERE indexname = 'ix_cmetadata_gin')
        + (SELECT count(*) FROM pg_constraint WHERE conname = 'langchain_pg_embedding_collection_id_fkey')
        + (SELECT count(*) FROM pg_constraint WHERE conname = 'langchain_pg_collection_name_key')";
    assert_eq!(ask(structure), 4);
    // A second time: every id is there.
    place.run(&["run", "v.yaml", "--json"]).expect(3);

    // Ids are unique over all collections: what another has is a reject, whatever the mode.
    let other = SPEC
        .replace("collection: docs,", "collection: other,")
        .replace("migration: vectors", "migration: other");
    place.write(
        "other.yaml",
        &other.replace("index: hnsw", "index: none").replace("into: {", "into: { mode: upsert,"),
    );
    let refused = place.run(&["run", "other.yaml", "--create", "--json"]).expect(3).json();
    assert_eq!((&refused["totals"]["rejected"], &refused["totals"]["created"]), (&json!(2502), &json!(0)));
    place.run(&["clean", "other.yaml", "--confirm", "--json"]).expect(0);
    let left = "SELECT (SELECT count(*) FROM langchain_pg_collection) + (SELECT count(*) FROM langchain_pg_embedding)";
    assert_eq!(ask(left), 2503);
    place.run(&["clean", "v.yaml", "--confirm", "--json"]).expect(0);
    assert_eq!(ask("SELECT count(*) FROM pg_class WHERE relname LIKE 'langchain%'"), 0);
}

#[test]
fn what_a_collection_cannot_be_is_said_by_plan() {
    let place = Place::new();
    directory(&place, "1.5.9");
    for (from, to, said) in [
        ("metric: l2", "metric: ip", "`metric` is ip, and the source searches by l2"),
        ("dimension: 8", "dimension: 9", "`dimension` is 9, and the source's vectors have 8"),
        ("metric: l2", "metric: l3", "l3"),
        ("docs, dimension", "docs, dimesion", "dimension"),
        ("store: pg, langchain", "store: pg, table: t, langchain", "`table` has no place beside `langchain`"),
        ("overlap: docs", "overlap: dogs", "there is no flow `dogs`"),
    ] {
        let text = SPEC.replacen(from, to, 1);
        assert_ne!(text, SPEC, "{from}");
        place.write("v.yaml", &text);
        let refused = place.run(&["plan", "v.yaml"]).expect(2);
        refused.one_error();
        assert!(refused.err.contains(said), "{to}: {}", refused.err);
    }
}

#[test]
fn an_index_that_finds_too_little_fails_its_rule() {
    let place = Place::new();
    directory(&place, "1.5.9");
    place.write(
        "schema.sql",
        "CREATE EXTENSION IF NOT EXISTS vector;
         CREATE TABLE docs (id text PRIMARY KEY, document text, uri text, metadata jsonb, embedding vector(8));
         CREATE INDEX few ON docs USING ivfflat (embedding vector_l2_ops) WITH (lists = 500);",
    );
    let spec = SPEC
        .replace("\"embedded:v.pg\" }", "\"embedded:v.pg\", schema: schema.sql }")
        .replace("langchain: { collection: docs, dimension: 8, metric: l2, index: hnsw, metadata: { user_id: $user_id } }", "table: docs");
    place.write("v.yaml", &spec);
    let ran = place.run(&["run", "v.yaml", "--create", "--verify", "--json"]).expect(4).json();
    let overlap = assertion(&ran["verify"], "overlap: docs");
    assert_eq!(overlap["ok"], false, "{overlap}");
    assert!(overlap["examples"].as_array().is_some_and(|examples| !examples.is_empty()), "{overlap}");
    // One list of five hundred is looked at: the rest of the records is as it should be.
    assert_eq!(ran["totals"]["created"], 2502);
}

#[test]
fn vectors_of_every_kind_go_there_and_back_in_their_binary_forms() {
    let place = Place::new();
    place.write(
        "schema.sql",
        "CREATE EXTENSION IF NOT EXISTS vector;
         CREATE TABLE kinds (id bigint PRIMARY KEY, v vector(3), h halfvec(3), s sparsevec(5), b bit(10), w varbit);",
    );
    let records = [
        json!({"id": 1, "v": [1.5, -0.0, 3e-39], "h": [0.5, 2, -4], "s": "{1:0.5,4:-2}/5", "b": "1010000011", "w": "1"}),
        json!({"id": 2, "v": [0.1, 1e38, -7], "h": "[65504, 0, 0]", "s": [0, 0, 1.25, 0, 0], "b": "0000000000", "w": ""}),
        json!({"id": 3, "v": null, "h": null, "s": "{}/5", "b": null, "w": null}),
        json!({"id": 4, "v": [1, 2], "h": null, "s": null, "b": null, "w": null}),
        json!({"id": 5, "v": null, "h": [1e6, 0, 0], "s": null, "b": null, "w": null}),
        json!({"id": 6, "v": null, "h": null, "s": "{6:1}/5", "b": null, "w": null}),
        json!({"id": 7, "v": null, "h": null, "s": null, "b": "101", "w": null}),
    ];
    let lines: String = records.iter().map(|record| format!("{record}\n")).collect();
    place.write("in.ndjson", &lines);
    let spec = |from: &str, into: &str, more: &str| {
        format!(
            "migration: kinds\nstores:\n  files: {{ files: . }}\n  pg: {{ postgres: \"embedded:v.pg\", schema: schema.sql }}\n\
             flows:\n  kinds:\n    from: {{ {from} }}\n    into: {{ {into}, mode: upsert, allow_lossy: [h] }}\n{more}"
        )
    };
    let columns = "    columns: { id: integer, v: json, h: json, s: text, b: text, w: text }\n    transform: SELECT id, v, h, s, b, w FROM input\n";
    place.write("in.yaml", &spec("store: files, path: in.ndjson", "store: pg, table: kinds", columns));
    let there = place.run(&["run", "in.yaml", "--create", "--verify", "--json"]).expect(3).json();
    assert_eq!((&there["totals"]["created"], &there["totals"]["rejected"]), (&json!(3), &json!(4)));
    assert_eq!(there["verify"]["outcome"], "equal");
    let copied =
        place.run(&["copy", "embedded:v.pg?table=kinds", "out.ndjson", "--verify", "--json"]).expect(0);
    assert_eq!(copied.json()["verify"]["outcome"], "equal");
    let out = std::fs::read_to_string(place.path("out.ndjson")).expect("the file");
    let mut found: Vec<Value> =
        out.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
    found.sort_by_key(|record| record["id"].as_i64());
    assert_eq!(found[0]["s"], "{1:0.5,4:-2}/5");
    assert_eq!((&found[0]["b"], &found[1]["w"]), (&json!("1010000011"), &json!("")));
    assert_eq!((&found[1]["s"], &found[2]["s"]), (&json!("{3:1.25}/5"), &json!("{}/5")));
    let floats = |value: &Value| -> Vec<f32> {
        let values = value.as_array().expect("a list").iter();
        values.map(|float| float.to_string().parse().expect("a float")).collect()
    };
    assert_eq!(floats(&found[1]["h"]), [65_504.0, 0.0, 0.0]);
    assert_eq!(floats(&found[1]["v"]), [0.1, 1e38, -7.0]);
    let bits: Vec<u32> = floats(&found[0]["v"]).into_iter().map(f32::to_bits).collect();
    assert_eq!(bits, [1.5_f32, -0.0, 3e-39].map(f32::to_bits));
}

const KEY: &str = "pa-hush-7431";

/// An endpoint that makes a vector of so many floats of each text, and is busy at first; answers with its URL.
fn endpoint(dimensions: usize) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/v1", listener.local_addr().expect("its address"));
    std::thread::spawn(move || {
        for (asked, stream) in listener.incoming().enumerate() {
            let mut stream = stream.expect("a client");
            let (mut request, mut part) = (Vec::new(), [0; 4096]);
            let question: Value = loop {
                let read = stream.read(&mut part).expect("a request");
                request.extend_from_slice(&part[..read]);
                let text = String::from_utf8_lossy(&request);
                if let Some((_, body)) = text.split_once("\r\n\r\n")
                    && let Ok(question) = serde_json::from_str(body)
                {
                    break question;
                }
            };
            let head = String::from_utf8_lossy(&request).to_ascii_lowercase();
            let is_let_in = head.contains(&format!("authorization: bearer {KEY}"));
            let texts = question["input"].as_array().expect("texts").iter().enumerate();
            let vector = |at: usize| vec![0.1 * f64::from(u8::try_from(at).expect("few")) - 0.2; dimensions];
            let data: Vec<Value> =
                texts.map(|(at, _)| json!({ "index": at, "embedding": vector(at) })).collect();
            let (status, body) = match (asked, is_let_in) {
                (0, true) => ("429 Too Many Requests", json!({ "detail": "slow down" })),
                (_, true) => ("200 OK", json!({ "data": data })),
                (_, false) => ("401 Unauthorized", json!({ "detail": "who are you?" })),
            };
            let body = body.to_string();
            let answer = format!(
                "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).expect("it listens");
        }
    });
    url
}

#[test]
fn texts_are_looked_for_through_an_endpoint_whose_key_is_shown_nowhere() {
    let place = Place::new();
    directory(&place, "1.5.9");
    let rules = |url: &str, key: &str| {
        let stored = "  - { overlap: docs, top: 5, at_least: 0.8, stored: 30 }\n  - { latency: docs, average_ms: 1000, stored: 10 }\n";
        let embed = format!(
            "queries: [modern furniture, nature scenes], embed: {{ url: \"{url}\", model: m, key: \"{key}\" }}"
        );
        SPEC.replace(stored, &format!("  - {{ overlap: docs, {embed} }}\n  - {{ latency: docs, {embed} }}\n"))
    };
    place.write("v.yaml", &rules(&endpoint(8), "${env:EMBED_KEY}"));
    let with_key = |key: &str, arguments: &[&str]| {
        let mut command = place.whimbrel(arguments);
        crate::place::ended(command.env("EMBED_KEY", key).output().expect("the program starts"))
    };
    let ran = with_key(KEY, &["run", "v.yaml", "--create", "--verify", "--json"]).expect(0);
    assert!(!ran.out.contains(KEY) && !ran.err.contains(KEY), "{}{}", ran.out, ran.err);
    let found = ran.json();
    let value = assertion(&found["verify"], "overlap: docs")["value"].as_str().expect("a text").to_owned();
    assert!(value.contains("over 2 searches for texts by l2"), "{value}");

    let refused = with_key("wrong", &["verify", "v.yaml"]).expect(2);
    assert!(refused.err.contains("answers 401") && !refused.err.contains("wrong"), "{}", refused.err);
    place.write("v.yaml", &rules(&endpoint(9), KEY));
    let other_model = place.run(&["verify", "v.yaml"]).expect(2);
    assert!(other_model.err.contains("makes vectors of 9 dimensions"), "{}", other_model.err);
    place.write("v.yaml", &rules("http://127.0.0.1:9", "${env:EMBED_KEY}"));
    let unset = place.run(&["verify", "v.yaml"]).expect(2);
    assert!(unset.err.contains("EMBED_KEY"), "{}", unset.err);
}
