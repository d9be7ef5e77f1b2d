//! Tables that nobody would choose: odd names, none, one or enormous rows, no key, as many columns as there can be.
//! Both sides are read back without the program.

use super::Live;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

const SPEC: &str = r#"
migration: oddities
variables: { prefix: "" }
stores:
  pg: { postgres: "${env:DATABASE_URL}" }
  ddb:
    dynamodb:
      endpoint: "${env:AWS_ENDPOINT_URL_DYNAMODB}"
      tables:
        "${prefix}named": { key: select }
        "${prefix}none": { key: { name: id, type: number } }
        "${prefix}one": { key: { name: id, type: number } }
        "${prefix}pairs": { key: Tenant, sort_key: a b }
        "${prefix}keyless": { key: { name: n, type: number } }
        "${prefix}wide": { key: { name: id, type: number } }
        "${prefix}large": { key: { name: id, type: number } }
defaults:
  from: { store: pg }
  into: { store: ddb, mode: insert }
flows:
  named: { from: { table: "My Schema.Order 🦉" }, into: { table: "${prefix}named" } }
  none: { from: { table: none }, into: { table: "${prefix}none" } }
  one: { from: { table: one }, into: { table: "${prefix}one" } }
  pairs: { from: { table: pairs }, into: { table: "${prefix}pairs" } }
  keyless: { from: { table: keyless }, into: { table: "${prefix}keyless", mode: upsert } }
  wide: { from: { table: wide }, into: { table: "${prefix}wide" } }
  large: { from: { table: large }, into: { table: "${prefix}large" } }
verify: [ { count: true } ]
"#;

/// Flow, its table as PostgreSQL writes it, and how many items arrive.
const TABLES: [(&str, &str, u64); 7] = [
    ("named", r#""My Schema"."Order 🦉""#, 40),
    ("none", "none", 0),
    ("one", "one", 1),
    ("pairs", "pairs", 3_000),
    ("keyless", "keyless", 500),
    ("wide", "wide", 20),
    ("large", "large", 4),
];
const TOO_LARGE: u64 = 3;
/// As many columns as PostgreSQL takes.
const COLUMNS: usize = 1_600;

fn script() -> String {
    let columns: Vec<_> = (1..COLUMNS).map(|n| format!("\"Column {n}\" int")).collect();
    // NULL takes no room: a row of so many columns has to fit into 8 kB.
    let values: Vec<_> = (1..COLUMNS).map(|n| format!("nullif((k * {n}) % 7, 3)")).collect();
    format!(
        r#"CREATE SCHEMA "My Schema";
           CREATE TABLE "My Schema"."Order 🦉" ("select" text PRIMARY KEY, "Group By" text, "naïve 🦉" text,
             "quo""te's" text, "UPPER" numeric, "per%cent" boolean, "back\slash" bigint, "$dollar" text, "input" text);
           INSERT INTO "My Schema"."Order 🦉"
           SELECT 'FROM ' || k, 'it''s; DROP TABLE "x" --' || k, repeat('🦉', k), NULLIF('', repeat('x', k % 2)),
                  -123456789012345678901234567.123451 - k, k % 2 = 0, 9223372036854775807 - k, '$1 ${{x}}', E'line\nbreak\t'
           FROM generate_series(1, 40) AS k;
           CREATE TABLE none (id bigint PRIMARY KEY, note text);
           CREATE TABLE one (id bigint PRIMARY KEY, note text);
           INSERT INTO one VALUES (-9223372036854775808, '');
           CREATE TABLE pairs ("Tenant" text, "a b" text, n int NOT NULL, PRIMARY KEY ("Tenant", "a b"));
           INSERT INTO pairs
           SELECT (ARRAY['acme', 'Acme', 'ä,c"m e', '''', '日本'])[1 + k % 5], (ARRAY['x', 'Ω ', '{{}}'])[1 + k % 3] || k, k
           FROM generate_series(1, 3000) AS k;
           CREATE TABLE keyless (n int, words text);
           INSERT INTO keyless SELECT k, md5(k::text) FROM generate_series(1, 500) AS k;
           CREATE TABLE wide (id int PRIMARY KEY, {});
           INSERT INTO wide SELECT k, {} FROM generate_series(1, 20) AS k;
           CREATE TABLE large (id int PRIMARY KEY, small text, "The Payload" text);
           INSERT INTO large SELECT k, 'small', repeat('ü', 500000) FROM generate_series(1, {TOO_LARGE}) AS k;
           INSERT INTO large SELECT k, 'small', repeat('ü', 190000) FROM generate_series(11, 14) AS k;
           ANALYZE"#,
        columns.join(", "),
        values.join(", ")
    )
}

/// A row as DynamoDB must hold it: numbers, texts and truth values; NULL leaves its attribute out.
fn item(row: &Value) -> Value {
    let attribute = |(name, value): (&String, &Value)| {
        let attribute = match value {
            Value::Null => return None,
            Value::Bool(value) => json!({ "BOOL": value }),
            Value::Number(number) => json!({ "N": number.to_string() }),
            Value::String(text) => json!({ "S": text }),
            other => panic!("no column here holds {other}"),
        };
        Some((name.clone(), attribute))
    };
    row.as_object().expect("a row").iter().filter_map(attribute).collect::<Map<_, _>>().into()
}

/// Items by all of their values, so that they can be compared whatever their keys are.
fn by_value(items: impl IntoIterator<Item = Value>) -> BTreeMap<String, Value> {
    let sorted = |item: &Value| {
        let item = item.as_object().expect("an item");
        format!("{:?}", item.iter().collect::<BTreeMap<_, _>>())
    };
    items.into_iter().map(|item| (sorted(&item), item)).collect()
}

#[test]
fn odd_tables_arrive_value_by_value() {
    let Some(live) = Live::new() else { return };
    live.place.write("oddities.yaml", SPEC);
    live.database.script(&script());
    let prefix = format!("prefix={}", live.tables.name(""));
    let check = live.run(&["plan", "oddities.yaml", "--all", "--set", &prefix]).expect(3);
    let plan = format!("{}{}", check.out, check.err);
    assert!(plan.contains("no primary key"), "{plan}");

    let run = ["run", "oddities.yaml", "--create", "--verify=count", "--json", "--set", &prefix];
    let ended = live.run(&run).expect(3);
    let summary = ended.json();
    assert_eq!(summary["verify"]["outcome"], "equal");
    for (flow, table, arrive) in TABLES {
        let counts = &summary["flows"][flow];
        let rows = live.database.number(&format!("SELECT count(*) FROM {table}"));
        assert_eq!((&counts["read"], &counts["created"]), (&rows.into(), &arrive.into()), "{flow}");
        let wanted = "WHERE coalesce(octet_length(to_jsonb(t)->>'The Payload'), 0) < 400 * 1024";
        let expected = live.database.documents(&format!("SELECT to_jsonb(t) FROM {table} AS t {wanted}"));
        let expected = by_value(expected.iter().map(item));
        let found = by_value(live.tables.scan(flow));
        assert_eq!((found.len() as u64, expected.len() as u64), (arrive, arrive), "{flow}");
        let missing = expected.iter().find(|(key, _)| !found.contains_key(*key));
        assert_eq!(missing.map(|(key, _)| key.chars().take(300).collect::<String>()), None, "{flow}");
    }
    assert_eq!(summary["totals"]["rejected"], TOO_LARGE);
    let file = summary["rejects"]["file"].as_str().expect("the reject file's path");
    let rejects = std::fs::read_to_string(live.place.path(file)).expect("the rejects");
    let rejects: Vec<Value> =
        rejects.lines().map(|line| serde_json::from_str(line).expect("a reject is JSON")).collect();
    assert_eq!(rejects.len() as u64, TOO_LARGE);
    for reject in rejects {
        let reason = reject["reason"].to_string();
        assert!(reason.contains("400 KB") && reason.contains("The Payload"), "{reason}");
        // It is kept whole: the record can still be replayed.
        let kept = reject["record"]["The Payload"].as_str().expect("the payload is kept");
        assert_eq!(kept.chars().count(), 500_000);
    }
    assert!(ended.err.len() < 20_000, "what is shown of a large record is cut");
}
