//! Chroma as a source: directories of several versions, whole, damaged and in use, into tables of vectors and files.

use crate::copy::asked;
use crate::place::Place;
use flate2::read::GzDecoder;
use rusqlite::Connection;
use serde_json::json;
use std::fs::File;
use std::path::{Path, PathBuf};

/// A directory as chromadb left it, unpacked as `db`; answers with its path.
pub fn directory(place: &Place, version: &str) -> PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../chroma/tests/fixtures");
    let packed = File::open(fixtures.join(version).join("db.tar.gz")).expect("a fixture");
    tar::Archive::new(GzDecoder::new(packed)).unpack(place.path("")).expect("it is unpacked");
    place.path("db")
}

/// Names, sizes and contents of all files of a directory.
fn state(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    let mut folders = vec![directory.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                files.push((path.clone(), std::fs::read(&path).expect("a file")));
            }
        }
    }
    files.sort();
    files
}

#[test]
fn a_collection_arrives_with_its_vectors_bit_for_bit() {
    let place = Place::new();
    let directory = directory(&place, "1.5.9");
    let before = state(&directory);
    let copied = place
        .run(&["copy", "chroma:db?collection=docs_l2", "embedded:v.pg?table=docs", "--verify", "--json"])
        .expect(0)
        .json();
    assert_eq!((&copied["totals"]["created"], &copied["verify"]["outcome"]), (&json!(2502), &json!("equal")));
    let kind = "SELECT count(*) FROM information_schema.columns WHERE table_name = 'docs' AND column_name = 'embedding' AND udt_name = 'vector'";
    assert_eq!(asked(&place, "v.pg", kind), Some(1));
    let other_tenant =
        ["copy", "chroma:db?collection=acme-tenant/prod-db/cos_big", "cos.ndjson", "--verify", "--json"];
    assert_eq!(place.run(&other_tenant).expect(0).json()["totals"]["created"], 30);
    let line = std::fs::read_to_string(place.path("cos.ndjson")).expect("the file");
    let record: serde_json::Value =
        serde_json::from_str(line.lines().next().expect("a record")).expect("an object");
    assert_eq!(record["embedding"].as_array().map(Vec::len), Some(1024));
    assert_eq!(state(&directory), before, "nothing is written to the directory");
}

#[test]
fn the_copy_that_is_read_goes_with_the_process() {
    let place = Place::new();
    directory(&place, "1.5.9");
    let scratch = place.path("scratch");
    std::fs::create_dir(&scratch).expect("a folder");
    // The second finds the file there, and fails behind its plan.
    for code in [0, 2] {
        let copy = ["copy", "chroma:db?collection=docs_l2", "docs.ndjson", "--mode", "insert", "--verify"];
        let running = place.start_with(&copy, |command| {
            command.env("TMPDIR", &scratch);
        });
        running.wait().expect(code);
        let left: Vec<_> = std::fs::read_dir(&scratch).expect("the folder").collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn what_a_killed_writer_left_is_read_and_left_alone() {
    for version in ["crash-1.5.9", "killed-1.5.9", "crash-0.6.3"] {
        let place = Place::new();
        let directory = directory(&place, version);
        let before = state(&directory);
        let collection = first_collection(&directory);
        let from = format!("chroma:db?collection={collection}");
        let copied = place.run(&["copy", &from, "out.ndjson", "--verify", "--json"]).expect(0).json();
        assert_eq!(copied["verify"]["outcome"], "equal", "{version}");
        let created = copied["totals"]["created"].as_u64().expect("a number");
        assert!(created > 0, "{version}: {created}");
        assert_eq!(state(&directory), before, "{version}");
    }
}

/// The full name of a collection that has vectors. The database is copied first: looking at it would bring it in order.
fn first_collection(directory: &Path) -> String {
    let copy = tempfile::tempdir().expect("a folder");
    for (path, content) in state(directory) {
        let name = path.file_name().expect("a name").to_owned();
        if name.to_string_lossy().starts_with("chroma.sqlite3") {
            std::fs::write(copy.path().join(name), content).expect("a copy");
        }
    }
    let connection = Connection::open(copy.path().join("chroma.sqlite3")).expect("a database");
    let sql = "SELECT d.tenant_id || '/' || d.name || '/' || c.name FROM collections c JOIN databases d ON d.id = c.database_id
        WHERE c.dimension IS NOT NULL ORDER BY 1 LIMIT 1";
    connection.query_row(sql, [], |row| row.get(0)).expect("a collection")
}

#[test]
fn lost_vectors_are_rejects_by_their_ids_or_null_where_that_is_asked() {
    let place = Place::new();
    let directory = directory(&place, "purge-loss-0.5.11");
    let sql =
        "SELECT d.tenant_id || '/' || d.name || '/' || c.name FROM collections c JOIN databases d ON d.id = c.database_id JOIN segments s ON s.collection = c.id AND s.scope = 'METADATA'
        JOIN embeddings e ON e.segment_id = s.id GROUP BY 1 ORDER BY 1";
    let names: Vec<String> = {
        let connection = Connection::open(directory.join("chroma.sqlite3")).expect("a database");
        let mut statement = connection.prepare(sql).expect("a query");
        let names = statement.query_map([], |row| row.get(0)).expect("names");
        names.collect::<Result<_, _>>().expect("texts")
    };
    let (mut rejected, mut read) = (0, 0);
    for name in &names {
        let (from, to) =
            (format!("chroma:db?collection={name}"), format!("{}.ndjson", name.replace('/', "-")));
        let ended = place.run(&["copy", &from, &to, "--json"]);
        let totals = &ended.json()["totals"];
        assert_eq!(ended.code, Some(if totals["rejected"] == 0 { 0 } else { 3 }), "{}", ended.err);
        rejected += totals["rejected"].as_u64().expect("a number");
        read += totals["read"].as_u64().expect("a number");
    }
    assert!(rejected > 0 && rejected < read, "{rejected} of {read}");
    let flows: String = names
        .iter()
        .map(|name| {
            format!(
                "  {word}: {{ from: {{ store: vec, collection: {name} }}, into: {{ store: out, path: {word}.json }} }}\n",
                word = name.replace('/', "-")
            )
        })
        .collect();
    place.write(
        "null.yaml",
        &format!(
            "migration: lost\nstores:\n  vec: {{ chroma: {{ path: db, lost: null }} }}\n  out: {{ files: out }}\nflows:\n{flows}"
        ),
    );
    let kept = place.run(&["run", "null.yaml", "--create", "--json"]).expect(0).json();
    assert_eq!((&kept["totals"]["rejected"], &kept["totals"]["created"]), (&json!(0), &json!(read)));
}

#[test]
fn a_damaged_index_is_said_by_its_file() {
    for (name, damage, said) in [
        ("index_metadata.pickle", b"\x80\x05not a pickle at all".as_slice(), "index_metadata.pickle"),
        ("index_metadata.pickle", b"", "index_metadata.pickle"),
        ("data_level0.bin", b"short", "its files are cut off, 2000 elements are missing"),
        ("header.bin", b"\x01\x00", "header.bin"),
    ] {
        let place = Place::new();
        let directory = directory(&place, "1.5.9");
        for (path, _) in state(&directory).iter().filter(|(path, _)| path.ends_with(name)) {
            std::fs::write(path, damage).expect("the file is damaged");
        }
        let refused = place.run(&["copy", "chroma:db?collection=docs_l2", "out.ndjson"]).expect(2);
        refused.one_error();
        assert!(
            refused.err.contains(said) && refused.err.contains("`lost: reject`"),
            "{name}: {}",
            refused.err
        );
        place.write(
            "go-on.yaml",
            "migration: damaged\nstores:\n  vec: { chroma: { path: db, lost: reject } }\n  out: { files: out }\nflows:\n  \
             docs: { from: { store: vec, collection: docs_l2 }, into: { store: out, path: docs.json } }\n",
        );
        let kept = place.run(&["run", "go-on.yaml", "--create", "--json"]).expect(3).json();
        // One of them the log adds once more: that did nothing, and what it would have added is not the record's.
        assert_eq!(
            (&kept["totals"]["read"], &kept["totals"]["rejected"]),
            (&json!(2502), &json!(1991)),
            "{name}"
        );
    }
}

#[test]
fn what_is_no_collection_or_no_directory_is_one_error_with_what_there_is() {
    let place = Place::new();
    directory(&place, "1.5.9");
    for (from, said) in [
        ("chroma:db?collection=docs_l3", "the nearest name is `docs_l2`"),
        ("chroma:db?collection=cos_big", "write `collection: acme-tenant/prod-db/cos_big`"),
        ("chroma:nowhere?collection=x", "nowhere"),
        ("chroma:http://me:hush@localhost:8000?collection=x", "CHROMA_TOKEN"),
    ] {
        let refused = place.run(&["copy", from, "out.json"]).expect(2);
        refused.one_error();
        assert!(refused.err.contains(said), "{from}: {}", refused.err);
    }
    let refused = place.run(&["copy", "dump.json", "chroma:db?collection=x"]).expect(2);
    assert!(refused.err.contains("hint: "), "{}", refused.err);
}
