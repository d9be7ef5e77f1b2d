//! Tables of PostgreSQL out into files and back, compared by PostgreSQL itself; files as other programs write them.

use crate::copy::asked;
use crate::parcels;
use crate::place::Place;
use arrow::array::{
    ArrayRef, Date64Array, Decimal128Array, Int32Builder, Int64Array, ListBuilder, MapBuilder, RecordBatch,
    StringArray, StringBuilder, StructArray,
};
use arrow::datatypes::Field;
use rusqlite::Connection;
use serde_json::{Value, json};
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

/// Every row holds what is hard to carry: extremes, what is no number, empty against NULL, quotes and newlines.
const EVERYTHING: &str = "
    CREATE TABLE everything (id int PRIMARY KEY, small smallint, big bigint, exact numeric, money numeric(12,2),
        single real, double double precision, yes boolean, name text, short varchar(9), bytes bytea, day date,
        clock time, at timestamptz, local timestamp, uid uuid, doc jsonb, tags text[], counts int[]);
    INSERT INTO everything VALUES
        (1, -32768, 9223372036854775807, 12345678901234567890123456789012345678.125, -0.01, '-1.1754944e-38', 5e-324, true,
         E'quote \" comma , newline \\n return \\r\\n tab \\t end', 'ü€😀', '\\x00ff0a22', '0001-01-01', '23:59:59.999999',
         '2022-02-02 18:01:49.345261+00', '1969-12-31 23:59:59.999999', 'f47ac10b-58cc-4372-a567-0e02b2c3d479',
         '{\"n\": 1.500000000000000000000000000001, \"a\": [null, {}, \"\"]}', '{a,NULL,\"\",\"x,y\"}', '{1,NULL}'),
        (2, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
        (3, 0, 0, 0, 0, 0, 0, false, '', '', '', '2000-02-29', '00:00:00', '1970-01-01 00:00:00+00',
         '9999-12-31 23:59:59.999999', '00000000-0000-0000-0000-000000000000', '{}', '{}', '{}'),
        (4, 1, -9223372036854775808, 1e-20, 9999999999.99, '3.4028235e38', 1.7976931348623157e308, NULL, ' padded ', 'NULL',
         '\\x', '9999-12-31', '12:00', '0001-01-01 00:00:00+00', '0001-01-01', NULL, '\"a text\"', '{\" \"}', '{-2147483648}'),
        (5, 2, 3, 'NaN', 0.10, 'NaN', '-Infinity', true, '\\N', '\"', '\\x22', '1970-01-01', '01:02:03.4', '2038-01-19 03:14:08+00',
         '2024-01-01', NULL, 'null', NULL, NULL)";

const COLUMNS: [&str; 18] = [
    "small", "big", "exact", "money", "single", "double", "yes", "name", "short", "bytes", "day", "clock",
    "at", "local", "uid", "doc", "tags", "counts",
];

fn place() -> Place {
    let place = Place::new();
    parcels::fill(&place, "data/a.pg", EVERYTHING);
    place
}

/// The columns in which a row of the one table is not as in the other, by PostgreSQL's own comparison of their texts.
fn different<'c>(place: &Place, back: &str, columns: &[&'c str]) -> Vec<&'c str> {
    let differs = |(place, column): (usize, &&str)| {
        format!(
            "CASE WHEN EXISTS (SELECT FROM everything FULL JOIN {back} AS back USING (id)
                 WHERE everything.{column}::text IS DISTINCT FROM back.{column}::text) THEN {} ELSE 0 END",
            1_u64 << place
        )
    };
    let sum: Vec<String> = columns.iter().enumerate().map(differs).collect();
    let sql = format!("SELECT ({})::bigint", sum.join(" + "));
    let bits = asked(place, "data/a.pg", &sql).expect("a number");
    columns
        .iter()
        .enumerate()
        .filter(|(place, _)| bits >> place & 1 == 1)
        .map(|(_, column)| *column)
        .collect()
}

#[test]
fn typed_files_come_back_value_for_value() {
    let place = place();
    for (file, table) in [("t.parquet", "from_parquet"), ("t.arrow", "from_arrow")] {
        let out = ["copy", "embedded:data/a.pg?table=everything", file, "--json", "--verify"];
        let out = place.run(&out).expect(0).json();
        assert_eq!((&out["totals"]["created"], &out["verify"]["outcome"]), (&json!(5), &json!("equal")));
        let target = format!("embedded:data/a.pg?table={table}");
        let back = place.run(&["copy", file, &target, "--key", "id", "--json", "--verify"]).expect(0).json();
        assert_eq!((&back["totals"]["created"], &back["verify"]["outcome"]), (&json!(5), &json!("equal")));
        assert_eq!(different(&place, table, &COLUMNS), [""; 0], "{file}");
        let declared = format!(
            "SELECT count(*) FROM pg_attribute WHERE attrelid = '{table}'::regclass
                 AND (attname, format_type(atttypid, atttypmod)) IN (('money', 'numeric(12,2)'), ('exact', 'numeric'))"
        );
        assert_eq!(asked(&place, "data/a.pg", &declared), Some(2), "{file}");
    }
}

#[test]
fn a_number_that_is_none_is_a_reject_of_typed_files_and_arrives_as_text() {
    let place = place();
    parcels::fill(&place, "data/a.pg", "UPDATE everything SET money = 'NaN' WHERE id = 3");
    let from = "embedded:data/a.pg?table=everything";
    let out = place.run(&["copy", from, "t.parquet", "--json", "--verify"]).expect(3).json();
    assert_eq!((&out["totals"]["created"], &out["totals"]["rejected"]), (&json!(4), &json!(1)));
    let text = "SELECT id, CAST(money AS VARCHAR) AS money FROM input";
    let out = ["copy", from, "all.parquet", "--select", text, "--key", "id", "--json", "--verify"];
    let out = place.run(&out).expect(0).json();
    assert_eq!((&out["totals"]["created"], &out["verify"]["outcome"]), (&json!(5), &json!("equal")));
}

#[test]
fn texts_come_back_value_for_value_where_the_table_says_the_types() {
    let place = place();
    let like = "CREATE TABLE from_csv (LIKE everything INCLUDING ALL);
        CREATE TABLE from_json (LIKE everything INCLUDING ALL); CREATE TABLE from_lines (LIKE everything INCLUDING ALL)";
    parcels::fill(&place, "data/a.pg", like);
    for (file, table) in [("t.csv.gz", "from_csv"), ("t.json", "from_json"), ("t.ndjson.zst", "from_lines")] {
        place.run(&["copy", "embedded:data/a.pg?table=everything", file, "--verify"]).expect(0);
        // What the table has as bytes is base64 in a text, and what it has as lists is JSON; the rest PostgreSQL reads
        // as it wrote it.
        let target = format!("embedded:data/a.pg?table={table}");
        place.run(&["copy", file, &target, "--verify=count"]).expect(0);
        let mut columns = COLUMNS.to_vec();
        if table != "from_csv" {
            // JSON has one null: PostgreSQL's NULL and a document that is `null` are the same there.
            columns.retain(|column| *column != "doc");
        }
        assert_eq!(different(&place, table, &columns), [""; 0], "{file}");
    }
    // The documents of JSON, but for that one.
    let docs = "SELECT count(*) FROM everything FULL JOIN from_json AS back USING (id)
        WHERE everything.doc IS DISTINCT FROM back.doc";
    assert_eq!(asked(&place, "data/a.pg", docs), Some(1));
}

/// What a program of the system makes of its input.
fn filtered(program: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut command = Command::new(program);
    let child = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child = child.expect("gzip and zstd are there");
    let mut stdin = child.stdin.take().expect("its input");
    let input = input.to_vec();
    let feeding = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().expect("it ends");
    feeding.join().expect("it is fed").expect("it reads");
    assert!(output.status.success());
    output.stdout
}

fn lines(place: &Place, file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(place.path(file)).expect("the file is there");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn csv_of_other_programs() {
    let place = Place::new();
    // A mark at the beginning, returns, quotes, a newline within quotes, no newline at the end.
    let text = "\u{feff}id,\"a, b\",c\r\n1,\"say \"\"hi\"\"\",\r\n2,\"two\r\nlines\",\"\"\r\n\r\n3,\u{fc},x";
    for (name, bytes) in [
        ("plain.csv", text.as_bytes().to_vec()),
        ("packed.csv.gz", filtered("gzip", &["-c"], text.as_bytes())),
        ("packed.csv.zst", filtered("zstd", &["-q", "-c"], text.as_bytes())),
    ] {
        std::fs::write(place.path(name), bytes).expect("the file can be written");
        place.run(&["copy", name, "out.ndjson", "--mode", "upsert"]).expect(0);
        let expected = [
            json!({"id": "1", "a, b": "say \"hi\""}),
            json!({"id": "2", "a, b": "two\r\nlines", "c": ""}),
            json!({"id": "3", "a, b": "ü", "c": "x"}),
        ];
        assert_eq!(lines(&place, "out.ndjson"), expected, "{name}");
    }
    std::fs::write(place.path("torn.csv"), "id,b\n1,x\n2,\"no end").expect("the file can be written");
    let torn = place.run(&["copy", "torn.csv", "torn.ndjson", "--json"]).expect(3);
    assert_eq!(
        (&torn.json()["totals"]["rejected"], &torn.json()["totals"]["created"]),
        (&json!(1), &json!(1))
    );
}

#[test]
fn csv_that_is_separated_by_something_else() {
    let place = Place::new();
    let expected =
        [json!({"id": "1", "b": "x,y"}), json!({"id": "2", "b": "a;b\tc|d\n"}), json!({"id": "3"})];
    for (separator, named) in [(";", "`;`"), ("\t", "tab"), ("|", "`|`")] {
        let text = "id_b\r\n1_x,y\r\n\"2\"_\"a;b\tc|d\n\"\r\n3_\r\n".replace('_', separator);
        place.write("in.csv", &text);
        place.run(&["copy", "in.csv", "out.ndjson", "--mode", "upsert"]).expect(0);
        assert_eq!(lines(&place, "out.ndjson"), expected, "{named}");
        place.write("m.yaml", "migration: m\nstores: { disk: { files: . } }\nflows: { f: { from: { store: disk, path: in.csv }, into: { store: disk, path: o.json } } }");
        let planned = place.run(&["plan", "m.yaml"]).expect(0);
        assert!(planned.out.contains(&format!("{named} separates the fields")), "{}", planned.out);
    }
    // More than one stretch of one file, and a file of another separator beside it.
    let many: String = (0..60_000).map(|id| format!("{id};\"a;{id}\"\n")).collect();
    place.write("many/a.csv", &format!("id;b\n{many}"));
    place.write("many/b.csv", "id,b\n60000,\"a;60000\"\n");
    place.run(&["copy", "many", "many.ndjson", "--mode", "upsert"]).expect(0);
    let read = lines(&place, "many.ndjson");
    assert_eq!(read.len(), 60_001);
    assert!(read.iter().all(|line| line["b"] == format!("a;{}", line["id"].as_str().expect("a text"))));
    // Lines that no newline ends would all be one header, and no record.
    place.write("old.csv", "id,b\r1,x\r2,y\r");
    let refused = place.run(&["copy", "old.csv", "old.ndjson"]).expect(1);
    refused.one_error();
    assert!(refused.err.contains("carriage return"), "{}", refused.err);
}

/// Three records with a structure, a map, a list of lists and a date in milliseconds; the last has nothing in them.
fn nested() -> RecordBatch {
    let exact = Decimal128Array::from(vec![Some(12_345_678_901_234_567_890_123), Some(-150), None]);
    let exact: ArrayRef = Arc::new(exact.with_precision_and_scale(38, 2).expect("a decimal"));
    let text: ArrayRef = Arc::new(StringArray::from(vec![Some("x\"y"), None, None]));
    let fields = [("exact", &exact), ("text", &text)].map(|(name, column)| {
        (Arc::new(Field::new(name, column.data_type().clone(), true)), Arc::clone(column))
    });
    let (fields, columns): (Vec<_>, Vec<_>) = fields.into_iter().unzip();
    let structure = StructArray::new(fields.into(), columns, Some(vec![true, true, false].into()));
    let mut maps = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
    let mut lists = ListBuilder::new(ListBuilder::new(Int32Builder::new()));
    for row in 0..3 {
        if row < 2 {
            maps.keys().append_value("k");
            maps.values().append_value(row);
            lists.values().append_value([Some(row), None]);
        }
        maps.append(row < 2).expect("a map");
        lists.append(row < 2);
    }
    let days = Date64Array::from(vec![Some(0), Some(19_025 * 86_400_000), None]);
    let columns: [(&str, ArrayRef, bool); 5] = [
        ("id", Arc::new(Int64Array::from(vec![1, 2, 3])), false),
        ("structure", Arc::new(structure), true),
        ("map", Arc::new(maps.finish()), true),
        ("lists", Arc::new(lists.finish()), true),
        ("day", Arc::new(days), true),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).expect("a batch")
}

#[test]
fn structures_maps_and_lists_of_lists_arrive_as_documents() {
    let place = Place::new();
    let batch = nested();
    let file = std::fs::File::create(place.path("in.arrow")).expect("a file");
    let mut writer = arrow::ipc::writer::FileWriter::try_new(file, batch.schema_ref()).expect("a writer");
    writer.write(&batch).and_then(|()| writer.finish()).expect("it is written");

    place.run(&["copy", "in.arrow", "out.ndjson"]).expect(0);
    let first = json!({"id": 1, "structure": {"exact": 0, "text": "x\"y"}, "map": {"k": 0}, "lists": [[0, null]], "day": "1970-01-01"});
    let read = lines(&place, "out.ndjson");
    let text = std::fs::read_to_string(place.path("out.ndjson")).expect("the file");
    assert!(text.contains("{\"exact\":123456789012345678901.23,"), "{text}");
    assert_eq!(
        (&read[0]["map"], &read[0]["lists"], &read[0]["day"]),
        (&first["map"], &first["lists"], &first["day"])
    );
    assert_eq!(read[2], json!({"id": 3}));

    place.run(&["copy", "in.arrow", "embedded:n.pg?table=n", "--key", "id", "--verify"]).expect(0);
    let whole = "SELECT count(*) FROM n WHERE structure::text LIKE '%123456789012345678901.23%' AND map = '{\"k\": 0}'::jsonb
        AND lists -> 0 -> 0 = '0' AND day = date '1970-01-01'";
    assert_eq!(asked(&place, "n.pg", whole), Some(1));
    assert_eq!(
        asked(&place, "n.pg", "SELECT count(*) FROM n WHERE structure IS NULL AND map IS NULL"),
        Some(1)
    );

    // A record that is rejected keeps its structure, and `retry` brings it.
    let spec = "migration: n\nstores: { disk: { files: . }, lite: { sqlite: n.db } }\nflows:\n  n:\n    \
        from: { store: disk, path: in.arrow }\n    checks: [ { expect: \"id <> 1\" } ]\n    \
        into: { store: lite, table: n, key: [id] }\n";
    place.write("n.yaml", spec);
    let ran = place.run(&["run", "n.yaml", "--create", "--json"]).expect(3).json();
    place.write("n.yaml", &spec.replace("id <> 1", "id > 0"));
    let run = ran["run"].as_str().expect("the run");
    place.run(&["retry", run, "--accept-spec", "--json"]).expect(0);
    place.run(&["verify", "n.yaml", "--all"]).expect(0);
    let held = Connection::open(place.path("n.db")).expect("the file");
    let one = |sql: &str| held.query_row(sql, [], |row| row.get::<_, String>(0)).expect("a text");
    assert_eq!(
        one("SELECT structure FROM n WHERE id = 1"),
        r#"{"exact":123456789012345678901.23,"text":"x\"y"}"#
    );
    assert_eq!(one("SELECT map || lists || day FROM n WHERE id = 2"), r#"{"k":1}[[1,null]]2022-02-02"#);
}

#[test]
fn lines_that_are_torn_are_rejects_and_the_rest_arrives() {
    let place = Place::new();
    place.write("in.ndjson", "{\"id\": 1}\n{\"id\": 2, \n{\"id\": 3}\n{\"id\": 4");
    let copied = place.run(&["copy", "in.ndjson", "out.ndjson", "--json"]).expect(3);
    let totals = &copied.json()["totals"];
    assert_eq!((&totals["read"], &totals["created"], &totals["rejected"]), (&json!(4), &json!(2), &json!(2)));
    assert_eq!(lines(&place, "out.ndjson"), [json!({"id": 1}), json!({"id": 3})]);
    let rejects = std::fs::read_dir(place.only_run().join("rejects")).expect("the rejects").count();
    assert!(rejects > 0);
    assert!(copied.err.contains("whimbrel retry"), "{}", copied.err);

    // An array that does not end is no whole file: what was read of it may not be all.
    place.write("cut.json", "[{\"id\": 1},\n{\"id\": 2}");
    let cut = place.run(&["copy", "cut.json", "whole.ndjson", "--json"]).expect(3);
    assert_eq!(cut.json()["totals"]["rejected"], 1);
    assert!(cut.json()["totals"]["created"] == 2, "{}", cut.out);
}
