//! The layout of DynamoDB's export to S3.

use crate::reading::gzip;
use crate::support::{chain, put, read_all, records, request, source, unreadable};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest as _, Md5};
use serde_json::json;
use std::path::Path;
use whimbrel_store::{StoreErrorKind, conformance};

fn items(range: std::ops::Range<usize>) -> String {
    let item = |i| {
        format!(
            r#"{{"Item":{{"pk":{{"S":"U#{i}"}},"n":{{"N":"{i}.10"}},"tags":{{"SS":["a","b"]}},"m":{{"M":{{"z":{{"NULL":true}},"a":{{"L":[]}}}}}}}}}}"#
        )
    };
    range.map(|i| item(i) + "\n").collect()
}

fn md5(bytes: &[u8]) -> String {
    BASE64.encode(Md5::digest(bytes))
}

/// An export of 300 items in three files.
fn export(folder: &Path, claimed: usize) {
    let mut lines = String::new();
    for number in 0..3 {
        let bytes = gzip(items(number * 100..(number + 1) * 100));
        put(folder, &format!("t/AWSDynamoDB/01-x/data/f{number}.json.gz"), &bytes);
        let line = json!({"itemCount": 100, "md5Checksum": md5(&bytes), "etag": "0-1",
            "dataFileS3Key": format!("elsewhere/AWSDynamoDB/01-x/data/f{number}.json.gz")});
        lines += &format!("{line}\n");
    }
    let summary = json!({"version": "2020-06-30", "tableArn": "arn:aws:dynamodb:eu-west-1:1:table/t",
        "exportTime": "2024-01-01T00:00:00.000Z", "itemCount": claimed, "outputFormat": "DYNAMODB_JSON"});
    put(folder, "t/AWSDynamoDB/01-x/manifest-summary.json", summary.to_string());
    put(folder, "t/AWSDynamoDB/01-x/manifest-summary.md5", md5(summary.to_string().as_bytes()));
    put(folder, "t/AWSDynamoDB/01-x/manifest-files.json", &lines);
    put(folder, "t/AWSDynamoDB/01-x/manifest-files.md5", md5(lines.as_bytes()));
    put(folder, "t/AWSDynamoDB/01-x/_started", "");
}

const TABLE: &str = "t/AWSDynamoDB/01-x";

#[tokio::test]
async fn an_export_is_read_as_its_manifest_says() {
    let folder = tempfile::tempdir().unwrap();
    export(folder.path(), 300);
    let mut all = request(TABLE, &[("n", "number")], &["pk", "n", "tags", "m", "none"]);
    all.batch_records = 70;
    let export = source(folder.path(), all);
    let description = export.describe().await.unwrap();
    assert_eq!(description.records, Some(300));
    assert!(description.sees_all && description.notes[0].contains("table/t"));
    conformance::source(&*export, 300).await;
    let read = records(&read_all(&*export).await.unwrap());
    let tags = r#"{"SS":["a","b"]}"#;
    let first = json!({"pk": "U#7", "n": "7.10", "tags": tags, "m": r#"{"a":[],"z":null}"#, "none": null});
    assert_eq!(read[7], first);
    let whole = source(folder.path(), request(TABLE, &[], &["_item"]));
    let read = records(&read_all(&*whole).await.unwrap());
    assert_eq!(
        read[0]["_item"],
        r#"{"m":{"M":{"a":{"L":[]},"z":{"NULL":true}}},"n":{"N":"0.10"},"pk":{"S":"U#0"},"tags":{"SS":["a","b"]}}"#
    );
}

#[tokio::test]
async fn an_export_is_found_below_the_prefix_that_it_was_made_under() {
    let folder = tempfile::tempdir().unwrap();
    export(folder.path(), 300);
    for place in ["t", "t/AWSDynamoDB", "."] {
        let found = source(folder.path(), request(place, &[], &["pk"]));
        assert_eq!(found.describe().await.unwrap().records, Some(300), "{place}");
        assert_eq!(records(&read_all(&*found).await.unwrap()).len(), 300, "{place}");
    }
    let copied = folder.path().join("t/AWSDynamoDB/02-y");
    std::fs::create_dir_all(&copied).unwrap();
    std::fs::copy(
        folder.path().join(TABLE).join("manifest-summary.json"),
        copied.join("manifest-summary.json"),
    )
    .unwrap();
    let error = source(folder.path(), request("t", &[], &["pk"])).describe().await.unwrap_err();
    assert!(chain(&error).contains("01-x") && chain(&error).contains("02-y"), "{}", chain(&error));
}

#[tokio::test]
async fn an_export_that_is_not_what_its_manifest_says_is_refused() {
    let damaged = async |damage: &dyn Fn(&Path), word: &str| {
        let folder = tempfile::tempdir().unwrap();
        export(folder.path(), 300);
        damage(&folder.path().join(TABLE));
        let export = source(folder.path(), request(TABLE, &[], &["pk"]));
        let error = read_all(&*export).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Mismatch, "{}", chain(&error));
        assert!(chain(&error).contains(word), "{}", chain(&error));
    };
    damaged(&|folder| std::fs::remove_file(folder.join("data/f1.json.gz")).unwrap(), "f1.json.gz").await;
    damaged(&|folder| put(folder, "data/f1.json.gz", gzip(items(0..99))), "99 items").await;
    damaged(&|folder| put(folder, "data/f1.json.gz", gzip(items(1..101))), "MD5").await;
    damaged(&|folder| put(folder, "manifest-files.json", "{}"), "MD5").await;
    let claims = |folder: &Path| export(&folder.join("../../.."), 301);
    damaged(&claims, "301 items").await;
}

#[tokio::test]
async fn data_files_without_their_manifest_are_read_as_what_they_are() {
    let folder = tempfile::tempdir().unwrap();
    // As a program writes them that knows no manifest.
    put(folder.path(), "b/AWSDynamoDB/9f1c/data/0a7d.gz", gzip(items(0..120)));
    put(folder.path(), "b/AWSDynamoDB/9f1c/data/77e1.json.gz", gzip(items(120..200)));
    for table in ["b/AWSDynamoDB/9f1c", "b"] {
        let export = source(folder.path(), request(table, &[("n", "number")], &["pk", "n"]));
        let description = export.describe().await.unwrap();
        assert!(
            description.notes.iter().any(|note| note.contains("without its manifest")),
            "{description:?}"
        );
        let read = records(&read_all(&*export).await.unwrap());
        assert_eq!((read.len(), &read[7]), (200, &json!({"pk": "U#7", "n": "7.10"})));
    }
}

#[tokio::test]
async fn items_one_a_line_or_in_an_array_wrapped_or_alone() {
    let folder = tempfile::tempdir().unwrap();
    let lines = items(0..20);
    let bare: String = lines.lines().map(|line| line[8..line.len() - 1].to_owned() + "\n").collect();
    put(folder.path(), "a.dynamodb.json", &lines);
    put(folder.path(), "b.dynamodb.json", format!("[\n{}]", lines.trim_end().replace('\n', ",\n")));
    put(folder.path(), "c.dynamodb.json", &bare);
    let mut all = Vec::new();
    for table in ["a.dynamodb.json", "b.dynamodb.json", "c.dynamodb.json"] {
        let source = source(folder.path(), request(table, &[], &["pk", "_item"]));
        conformance::source(&*source, 20).await;
        all.push(records(&read_all(&*source).await.unwrap()));
    }
    assert!(all[0] == all[1] && all[1] == all[2]);
    put(
        folder.path(),
        "d.dynamodb.json",
        "{\"Item\":{\"S\":\"x\"}}\n{\"Item\":{\"S\":{\"S\":\"y\"}}}\n{\"pk\":1}\n",
    );
    let source = source(folder.path(), request("d.dynamodb.json", &[], &["Item", "S"]));
    let batches = read_all(&*source).await.unwrap();
    let read = records(&batches);
    assert_eq!(read[0], json!({"Item": "x", "S": null}), "an attribute named Item");
    assert_eq!(read[1], json!({"Item": null, "S": "y"}), "an item with an attribute named S");
    assert_eq!(unreadable(&batches), [], "what nobody reads is passed over");
}

/// What moto 5.2.1 wrote for `export_table_to_point_in_time`: one packed file of items, no manifest.
#[tokio::test]
async fn an_export_that_another_program_made_is_read_whole() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let digits = "12345678901234567890123456789012345678";
    let export = source(&fixtures, request("moto-export", &[("n", "number")], &["pk", "n", "_item"]));
    let read = records(&read_all(&*export).await.unwrap());
    assert_eq!(read.len(), 30);
    assert_eq!((&read[7]["pk"], &read[7]["n"]), (&json!("O#07"), &json!(digits)));
    let item = format!(
        r#"{{"blob":{{"B":"AP8="}},"m":{{"M":{{"l":{{"L":[{{"NULL":true}},{{"BOOL":false}},{{"N":"1.5"}}]}}}}}},"n":{{"N":"{digits}"}},"pk":{{"S":"O#07"}},"tags":{{"SS":["a","b"]}},"text":{{"S":"ü \"q\"\n"}}}}"#
    );
    assert_eq!(read[7]["_item"], item.as_str());
    let description = export.describe().await.unwrap();
    assert!(description.sees_all && !description.notes.is_empty(), "{:?}", description.notes);
}
