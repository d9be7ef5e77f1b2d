//! The migration that comes with whimbrel out of DynamoDB: conversations and messages, many of them broken.

use crate::errors::closed_port;
use crate::place::Place;
use crate::redaction::redacted;
use insta::assert_snapshot;
use serde_json::Value;
use std::collections::BTreeMap;

/// How many are rejected, by flow and by what their reason contains. README.md of the migration has the same table.
const REJECTED: [(&str, &str, usize); 31] = [
    ("conversations", "Invalid UUID format", 24),
    ("conversations", "Missing userId field", 12 + 3),
    ("conversations", "Missing createdAt field", 8),
    ("conversations", "Missing updatedAt field", 7),
    ("conversations", "filterValues is no JSON object", 6 + 3),
    ("conversations", "`title` has", 10),
    ("conversations", "`title` holds the character U+0000", 4),
    ("conversations", "`user_id` has", 2),
    ("conversations", "`created_at` is a date that no calendar has", 6),
    ("conversations", "`created_at` is no date or time", 2),
    ("conversations", "`updated_at` has more digits", 5),
    ("conversations", "column `isActive`", 3 + 2),
    ("conversations", "a second record with the key", 5),
    ("messages", "Invalid SK format", 10),
    ("messages", "Invalid UUID format", 8 + 12),
    ("messages", "Missing userId field", 15),
    ("messages", "Missing role field", 6),
    ("messages", "Missing content field", 9 + 4),
    ("messages", "Missing createdAt field", 5),
    ("messages", "Missing updatedAt field", 5),
    ("messages", "filterValues is no JSON object", 5),
    ("messages", "`role` has", 6),
    ("messages", "`feedback` has", 4),
    ("messages", "`content` holds the character U+0000", 9),
    ("messages", "`msg_metadata` holds the character U+0000", 3),
    ("messages", "`created_at` is ", 4 + 3 + 2 + 3),
    ("messages", "`created_at` has a zone", 1),
    ("messages", "`created_at` has more digits", 8),
    ("messages", "column `isUserFilterText`", 3),
    ("messages", "a second record with the key", 12 + 6 + 3),
    ("messages", "conversation_id", 40 + 146),
];

/// What must hold in PostgreSQL, as queries and their answers.
const HELD: [(&str, i64); 16] = [
    ("SELECT count(*) FROM conversations", 5_294),
    ("SELECT count(*) FROM messages", 104_063),
    // A missing isActive is true by the guide's default; so are BOOL true and the text `true`.
    ("SELECT count(*) FROM conversations WHERE is_active IS NULL", 0),
    ("SELECT count(*) FROM conversations WHERE NOT is_active", 1_300 + 10),
    ("SELECT count(*) FROM conversations WHERE title IS NULL", 104 + 5),
    ("SELECT count(*) FROM conversations WHERE title = ''", 52),
    ("SELECT count(*) FROM conversations WHERE length(title) = 500", 1),
    ("SELECT count(*) FROM conversations WHERE title IN ('43', '44')", 2),
    ("SELECT count(*) FROM conversations WHERE filter_values->'value'->'max' IS NOT NULL AND jsonb_typeof(filter_values->'note') = 'null'", 1_733),
    ("SELECT count(*) FROM conversations WHERE jsonb_typeof(filter_values->'min') = 'number'", 30),
    ("SELECT count(*) FROM messages WHERE is_user_filter_text IS NULL", 0),
    ("SELECT count(*) FROM messages WHERE content = '12345678901234567890123456789012345678'", 3),
    ("SELECT count(*) FROM messages WHERE content = ''", 10),
    ("SELECT count(*) FROM messages WHERE msg_metadata->>'model' = 'assistant-1'", 15),
    ("SELECT count(*) FROM messages WHERE jsonb_typeof(msg_metadata) = 'array'", 5),
    // What was written in Seoul's and Lima's time is in UTC, as the rest: all of 2025, whole minutes behind each other.
    (
        "SELECT count(*) FROM messages m JOIN conversations c ON c.id = m.conversation_id
         WHERE date_trunc('second', m.created_at) NOT BETWEEN date_trunc('second', c.created_at)
               AND c.created_at + interval '25 minutes' AND m.content NOT LIKE 'Odd: %' AND m.content NOT IN ('', 'See the pages.')
               AND m.content !~ '^1234567890' AND c.title IS DISTINCT FROM 'A copy'",
        0,
    ),
];

#[test]
fn what_is_whole_arrives_and_what_is_broken_is_named() {
    let place = Place::new();
    let demo = place.run(&["demo", "contramate", "--json"]).expect(3).json();
    assert_counts(&demo, "created");
    assert_eq!(demo["verify"]["outcome"], "equal");
    assert_rejects(&place, &demo);
    assert_unmatched(&demo["run"]["unmatched"]);
    // One scan, eventually consistent: half a unit for 4 KiB, whoever the items go to.
    let units = demo["run"]["capacity"]["read_units"].as_f64().expect("units");
    assert!((3_000.0..4_500.0).contains(&units), "{units} read units");
    assert_held(&place);

    // Now PostgreSQL itself watches the foreign key: messages wait for their conversations, and orphans are the same.
    let again = place.run(&["demo", "contramate", "--json"]).expect(3).json();
    assert_counts(&again, "updated");
    assert_rejects(&place, &again);
    assert_held(&place);
}

fn assert_counts(demo: &Value, arrived: &str) {
    for (flow, read, whole) in [("conversations", 5_396, 5_294), ("messages", 104_395, 104_063)] {
        let counts = &demo["run"]["flows"][flow];
        assert_eq!(counts["read"], read, "{flow}: {counts}");
        assert_eq!(counts[arrived], whole, "{flow}: {counts}");
        assert_eq!(counts["rejected"], read - whole, "{flow}: {counts}");
    }
    assert_eq!(demo["run"]["outcome"], "incomplete");
}

/// Every reject has one of the reasons, and every reason has as many as it should.
fn assert_rejects(place: &Place, demo: &Value) {
    let file = demo["run"]["rejects"]["file"].as_str().expect("a file of rejects");
    let text = std::fs::read_to_string(place.path(file)).expect("the file can be read");
    let mut found = BTreeMap::new();
    for line in text.lines() {
        let reject: Value = serde_json::from_str(line).expect("a reject");
        let (flow, reason) =
            (reject["flow"].as_str().expect("a flow"), reject["reason"].as_str().expect("a reason"));
        let known = REJECTED.iter().position(|(of, part, _)| *of == flow && reason.contains(part));
        let known = known.unwrap_or_else(|| panic!("{flow}: {reason}"));
        *found.entry(known).or_insert(0) += 1;
        assert!(reject["key"].as_object().is_some_and(|key| !key.is_empty()), "a reject has a key: {line}");
    }
    for (number, (flow, reason, expected)) in REJECTED.iter().enumerate() {
        assert_eq!(found.get(&number), Some(expected), "{flow}: {reason}");
    }
}

fn assert_unmatched(unmatched: &Value) {
    let expected = serde_json::json!({
        "pk=USER#* sk=PROFILE": 200, "pk=USER#* sk=SETTINGS#*": 40, "pk=ORG#* sk=METADATA": 12, "pk=USER#* sk=*#*": 5,
    });
    assert_eq!(*unmatched, expected);
}

/// Asks PostgreSQL everything at once.
fn assert_held(place: &Place) {
    let columns: Vec<String> =
        HELD.iter().enumerate().map(|(number, (query, _))| format!("({query}) AS c{number}")).collect();
    let query = format!("SELECT {}", columns.join(", "));
    let spec = "data/contramate-spec/contramate.yaml";
    let answer =
        place.run(&["query", spec, &query, "--env", "demo", "--store", "main", "--json"]).expect(0).json();
    for (number, (query, expected)) in HELD.iter().enumerate() {
        assert_eq!(answer[format!("c{number}")], *expected, "{query}");
    }
}

/// The spec with a table of two items to read and nothing to write to yet.
fn small() -> Place {
    let place = Place::new();
    for (name, text) in [
        ("contramate.yaml", include_str!("../../../migrations/contramate/contramate.yaml")),
        ("schema.sql", include_str!("../../../migrations/contramate/schema.sql")),
        ("small.yaml", SMALL),
    ] {
        place.write(name, text);
    }
    place.run(&["run", "small.yaml", "--create", "--quiet"]).expect(0);
    place
}

const SMALL: &str = r#"
migration: small
stores:
  pg: { postgres: "embedded:data/contramate.pg" }
  ddb:
    dynamodb:
      endpoint: "embedded:data/contramate.dynamodb"
      region: us-east-1
      tables: { ConversationTable: { key: pk, sort_key: sk, billing: on_demand } }
flows:
  items:
    from:
      store: pg
      query: |
        SELECT 'USER#user123' AS pk, sk, 'user123' AS user_id, '2025-11-30T10:00:00Z' AS at, 'user' AS role
        FROM (VALUES ('CONV#550e8400-e29b-41d4-a716-446655440000'),
                     ('MSG#550e8400-e29b-41d4-a716-446655440000#660e8400-e29b-41d4-a716-446655440001')) AS items (sk)
        WHERE {slice}
      slice_by: sk
    transform: |
      SELECT pk, sk, user_id AS "userId", role, 'What are the payment terms?' AS content, at AS "createdAt", at AS "updatedAt"
      FROM input
    into: { store: ddb, table: ConversationTable, key: [pk, sk], mode: upsert }
"#;

const RUN: [&str; 5] = ["run", "contramate.yaml", "--env", "demo", "--no-progress"];

#[test]
fn each_trouble_of_the_guide_is_one_error_with_a_hint() {
    let place = small();
    let run = |more: &[&str], code: i32| {
        let environment = |command: &mut std::process::Command| {
            command.env("AWS_ACCESS_KEY_ID", "nobody").env("AWS_SECRET_ACCESS_KEY", "nothing");
        };
        let ended = place.start_with(&[&RUN[..], more].concat(), environment).wait().expect(code);
        ended.one_error();
        assert_eq!(ended.err.lines().filter(|line| line.starts_with("hint: ")).count(), 1, "{}", ended.err);
        ended.err
    };
    let refused = format!("database=postgres://ann@127.0.0.1:{}/db?sslmode=disable", closed_port());
    let unreachable = format!("endpoint=http://127.0.0.1:{}", closed_port());
    redacted(|| {
        assert_snapshot!("contramate_postgres_refused", run(&["--set", &refused], 1));
        assert_snapshot!("contramate_dynamodb_unreachable", run(&["--set", &unreachable], 1));
        assert_snapshot!("contramate_no_such_table", run(&["--set", "table=ConversationTabel"], 2));
        assert_snapshot!("contramate_tables_not_created", run(&[], 1));
    });
    // What the last hint says works.
    let created = place.run(&["create", "contramate.yaml", "--env", "demo"]).expect(0);
    redacted(|| assert_snapshot!("contramate_create", created.out));
    let run = place.run(&[&RUN[..], &["--new", "--json"]].concat()).expect(0).json();
    assert_eq!(run["totals"]["created"], 2);
}
