//! Collections of a running Chroma server, into tables of vectors and files.

use super::{runtime, unique_name};
use crate::copy::asked;
use crate::interruption::await_checkpoint;
use crate::place::Place;
use serde_json::{Value, json};
use std::io::Write as _;
use tokio::runtime::Runtime;

const CHROMA: &str = "WHIMBREL_TEST_CHROMA_URL";

/// A tenant's database of its own on the server, with collections that go with the test.
struct Collections {
    server: String,
    tenant: String,
    made: Vec<String>,
    runtime: Runtime,
}

impl Collections {
    /// `None` where there is no server, which is said.
    fn new() -> Option<Self> {
        let Some(server) = std::env::var(CHROMA).ok().filter(|url| !url.is_empty()) else {
            writeln!(std::io::stdout(), "skipped: {CHROMA} names no server").expect("it can be said");
            return None;
        };
        let (tenant, runtime) = (unique_name(), runtime());
        let ours = Self { server, tenant, made: Vec::new(), runtime };
        ours.ask("POST", "tenants", &json!({ "name": ours.tenant }));
        ours.ask("POST", &format!("tenants/{}/databases", ours.tenant), &json!({ "name": "prod" }));
        Some(ours)
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
        let request = reqwest::Client::new()
            .request(method, format!("{}/api/v2/{path}", self.server))
            .header("content-type", "application/json")
            .body(body.to_string());
        let answer = self.runtime.block_on(async { request.send().await?.error_for_status()?.text().await });
        let answer = answer.unwrap_or_else(|error| panic!("{path}: {error}"));
        serde_json::from_str(&answer).unwrap_or(Value::Null)
    }

    fn place(&self) -> String {
        format!("tenants/{}/databases/prod/collections", self.tenant)
    }

    fn make(&mut self, name: &str, space: &str) -> String {
        let body = json!({ "name": name, "configuration": { "hnsw": { "space": space } } });
        let made = self.ask("POST", &self.place(), &body);
        self.made.push(name.to_owned());
        made["id"].as_str().expect("an id").to_owned()
    }

    fn add(&self, id: &str, numbers: std::ops::Range<usize>) {
        let numbers: Vec<usize> = numbers.collect();
        for some in numbers.chunks(2000) {
            let list = |of: &dyn Fn(usize) -> Value| some.iter().map(|number| of(*number)).collect::<Value>();
            let body = json!({
                "ids": list(&|number| json!(name(number))),
                "embeddings": list(&|number| json!(embedding(number))),
                "documents": list(&|number| if number.is_multiple_of(3) { Value::Null } else { json!(format!("text {number}")) }),
                "metadatas": list(&|number| if number.is_multiple_of(2) { Value::Null } else { metadata(number) }),
                "uris": list(&|number| if number.is_multiple_of(5) { json!(format!("file:///{number}")) } else { Value::Null }),
            });
            self.ask("POST", &format!("{}/{id}/add", self.place()), &body);
        }
    }

    fn delete(&self, name: &str) {
        self.ask("DELETE", &format!("{}/{name}", self.place()), &Value::Null);
    }

    /// Where `copy` reads a collection.
    fn url(&self, name: &str) -> String {
        format!("chroma:{}?collection={}/prod/{name}", self.server, self.tenant)
    }

    /// A spec that takes the collection `docs` into an embedded PostgreSQL.
    fn spec(&self, into: &str, rest: &str) -> String {
        format!(
            "migration: served\nstores:\n  vec: {{ chroma: {{ url: \"{}\", tenant: {}, database: prod }} }}\n  \
             pg: {{ postgres: \"embedded:v.pg\" }}\nflows:\n  docs:\n    from: {{ store: vec, collection: docs }}\n    \
             into: {{ store: pg, {into} }}\n{rest}",
            self.server, self.tenant
        )
    }
}

impl Drop for Collections {
    fn drop(&mut self) {
        let remove = || self.made.iter().for_each(|name| self.delete(name));
        if std::thread::panicking() {
            // A second panic would hide what the test found.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(remove));
        } else {
            remove();
        }
    }
}

fn name(number: usize) -> String {
    if number.is_multiple_of(4) { format!("ü {number} \"/'") } else { format!("id-{number}") }
}

/// Floats of any bits, but for what a server refuses.
fn embedding(number: usize) -> Vec<f32> {
    let bits = |at: usize| u32::try_from((number * 8 + at) * 2_654_435_761 % (1 << 32)).expect("32 bits");
    let floats = (0..8).map(|at| f32::from_bits(bits(at)));
    floats.map(|float| if float.is_finite() && float.abs() < 1e15 { float } else { 0.1 }).collect()
}

fn metadata(number: usize) -> Value {
    json!({ "n": number, "half": 0.5, "whole": 2.0, "yes": true, "text": format!("ü {number}"), "tags": ["a", "b"] })
}

#[test]
fn a_served_collection_arrives_with_its_vectors_bit_for_bit() {
    let Some(mut collections) = Collections::new() else { return };
    let id = collections.make("docs", "l2");
    collections.add(&id, 0..2500);
    let place = Place::new();
    let url = collections.url("docs");
    let copied =
        place.run(&["copy", &url, "embedded:v.pg?table=docs", "--verify", "--json"]).expect(0).json();
    assert_eq!((&copied["totals"]["created"], &copied["verify"]["outcome"]), (&json!(2500), &json!("equal")));
    let kind = "SELECT count(*) FROM pg_attribute WHERE attrelid = 'docs'::regclass AND attname = 'embedding' AND atttypmod = 8";
    assert_eq!(asked(&place, "v.pg", kind), Some(1));

    place.run(&["copy", &url, "docs.ndjson", "--verify"]).expect(0);
    let lines = std::fs::read_to_string(place.path("docs.ndjson")).expect("the file");
    let mut seen = vec![false; 2500];
    for line in lines.lines() {
        let record: Value = serde_json::from_str(line).expect("an object");
        let id = record["id"].as_str().expect("an id");
        let number: String = id.chars().filter(char::is_ascii_digit).collect();
        let number: usize = number.parse().expect("a number");
        assert_eq!((id, std::mem::replace(&mut seen[number], true)), (name(number).as_str(), false));
        let floats = record["embedding"].as_array().expect("floats");
        let bits: Vec<u32> =
            floats.iter().map(|float| float.to_string().parse::<f32>().expect("a float").to_bits()).collect();
        let expected: Vec<u32> = embedding(number).into_iter().map(f32::to_bits).collect();
        assert_eq!(bits, expected, "{id}");
        let text = (!number.is_multiple_of(3)).then(|| format!("text {number}"));
        assert_eq!(record["document"], json!(text), "{id}");
        let uri = (number.is_multiple_of(5)).then(|| format!("file:///{number}"));
        assert_eq!(record["uri"], json!(uri), "{id}");
        let expected = if number.is_multiple_of(2) { json!({}) } else { metadata(number) };
        assert_eq!(record["metadata"], expected, "{id}");
    }
    assert!(seen.iter().all(|seen| *seen));
}

#[test]
fn a_killed_run_from_a_server_goes_on_and_what_came_meanwhile_is_found() {
    let Some(mut collections) = Collections::new() else { return };
    let id = collections.make("docs", "l2");
    collections.add(&id, 0..3000);
    let place = Place::new();
    place.write(
        "v.yaml",
        &collections.spec("table: docs, key: [id], mode: upsert", "verify:\n  - { records: all }\n"),
    );
    let run = ["run", "v.yaml", "--create", "--batch-size", "1", "--json"];
    let mut running = place.start(&run);
    await_checkpoint(&place, &mut running);
    running.kill();
    // Every slice is as it was: what is added falls into one of them, some of it behind a cursor.
    collections.add(&id, 3000..3010);
    let resumed = place.run(&["resume", "--json"]).expect(0).json();
    let read = resumed["totals"]["read"].as_u64().expect("a number");
    assert!((3000..=3010).contains(&read), "{read}");
    // What the cursors had passed comes with the next run.
    let again = place.run(&["run", "v.yaml", "--verify", "--json"]).expect(0).json();
    assert_eq!((&again["totals"]["read"], &again["verify"]["outcome"]), (&json!(3010), &json!("equal")));
    assert_eq!(asked(&place, "v.pg", "SELECT count(*) FROM docs"), Some(3010));
}

#[test]
fn a_collection_that_was_made_anew_is_not_gone_on_with() {
    let Some(mut collections) = Collections::new() else { return };
    let id = collections.make("docs", "l2");
    collections.add(&id, 0..3000);
    let place = Place::new();
    place.write("v.yaml", &collections.spec("table: docs, key: [id]", ""));
    let mut running = place.start(&["run", "v.yaml", "--create", "--batch-size", "1", "--json"]);
    await_checkpoint(&place, &mut running);
    running.kill();
    collections.delete("docs");
    collections.made.clear();
    let id = collections.make("docs", "l2");
    collections.add(&id, 0..100);
    let refused = place.run(&["resume", "--json"]).expect(1);
    refused.one_error();
    assert!(refused.err.contains("another one by now") && refused.err.contains("--new"), "{}", refused.err);
}

#[test]
fn a_served_collection_is_searched_in_the_tables_of_the_library() {
    let Some(mut collections) = Collections::new() else { return };
    let id = collections.make("docs", "cosine");
    collections.add(&id, 0..500);
    let place = Place::new();
    let into = "langchain: { collection: docs, dimension: 8, metric: cosine, index: hnsw }";
    let rest = "verify:\n  - { records: all }\n  - { count: true }\n  - { overlap: docs, top: 5, at_least: 0.8, stored: 20 }\n";
    place.write("v.yaml", &collections.spec(into, rest));
    let checked = place.run(&["check", "v.yaml"]).expect(0);
    assert!(
        checked.err.contains("API v2") || checked.out.contains("API v2"),
        "{}{}",
        checked.out,
        checked.err
    );
    let planned = place.run(&["plan", "v.yaml"]).expect(0);
    let said = format!("{}{}", planned.out, planned.err);
    assert!(said.contains("8 dimensions, metric cosine") && said.contains("`rebuilt`"), "{said}");
    let ran = place.run(&["run", "v.yaml", "--create", "--verify", "--json"]).expect(0).json();
    assert_eq!((&ran["totals"]["created"], &ran["verify"]["outcome"]), (&json!(500), &json!("equal")));

    let lacking = place.run(&["copy", &collections.url("dogs"), "out.ndjson"]).expect(2);
    lacking.one_error();
    assert!(lacking.err.contains("there are docs"), "{}", lacking.err);
}
