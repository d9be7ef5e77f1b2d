//! `whimbrel query`: SQL over the stores of a spec.

use crate::parcels::{self, PARCELS, SENDERS};
use crate::place::{Ended, Place};

fn query(place: &Place, sql: &str, more: &[&str]) -> Ended {
    place.run(&[&["query", "parcels.yaml", sql, "--env", "demo"], more].concat())
}

#[test]
fn two_tables_are_joined_and_counted() {
    let place = parcels::place();
    let sql = "SELECT s.name, count(*) AS parcels, sum(p.weight) AS weight FROM pg.senders s \
               JOIN pg.public.parcels p ON p.sender = s.id WHERE s.id BETWEEN 2 AND 3 GROUP BY s.name ORDER BY s.name";
    let table = query(&place, sql, &[]).expect(0);
    let lines: Vec<&str> = table.out.lines().collect();
    assert_eq!(lines[0].split_whitespace().collect::<Vec<_>>(), ["name", "parcels", "weight"]);
    assert_eq!(lines[2].split_whitespace().collect::<Vec<_>>(), ["sender", "2", "2", "6002"]);
    assert_eq!(lines.len(), 4, "{}", table.out);
    assert_eq!(table.err.trim_end(), "2 rows");
    let json = query(&place, sql, &["--json", "--quiet"]).expect(0);
    let expected = "{\"name\":\"sender 2\",\"parcels\":2,\"weight\":6002}\n\
                    {\"name\":\"sender 3\",\"parcels\":2,\"weight\":6004}\n";
    assert_eq!((json.out.as_str(), json.err.as_str()), (expected, ""));
    let csv = query(&place, "SELECT id, title FROM pg.parcels WHERE id = 1009", &["--csv"]).expect(0);
    assert_eq!(csv.out, "id,title\r\n1009,\"\"\r\n");
}

#[test]
fn a_table_ends_after_a_thousand_rows_and_programs_get_all() {
    let place = parcels::place();
    let table = query(&place, "SELECT id FROM pg.parcels", &[]).expect(0);
    assert_eq!(table.out.lines().count(), 1002);
    assert!(table.err.starts_with("the first 1,000 rows; --limit N shows more"), "{}", table.err);
    let few = query(&place, "SELECT id FROM pg.parcels", &["--limit", "3", "--json"]).expect(0);
    assert_eq!((few.out.lines().count(), few.err.trim_end()), (3, "the first 3 rows; there are more"));
    let all = query(&place, "SELECT id FROM pg.parcels", &["--csv", "--quiet"]).expect(0);
    assert_eq!(u64::try_from(all.out.lines().count()), Ok(PARCELS + 1));
    let exact =
        query(&place, "SELECT id FROM pg.senders", &["--limit", &SENDERS.to_string(), "--json"]).expect(0);
    assert_eq!(exact.err.trim_end(), "6,000 rows");
}

#[test]
fn numbers_and_documents_keep_every_digit() {
    let place = Place::new();
    place.write("parcels.yaml", parcels::SPEC);
    place.write("parcels.json", parcels::TABLE);
    parcels::fill(
        &place,
        "data/parcels.pg",
        "CREATE TABLE prices (id int PRIMARY KEY, exact numeric(12,2), open numeric, doc jsonb, at timestamptz);
         INSERT INTO prices VALUES
           (1, 0.10, 12345678901234567890123456789.123456789, '{\"n\": 1.10}', 'infinity'),
           (2, 0.20, 1e-15, NULL, '2024-01-02 03:04:05.000006+00'), (3, NULL, 'NaN', NULL, NULL);",
    );
    let rows =
        query(&place, "SELECT * FROM pg.prices WHERE id < 3 ORDER BY id", &["--json", "--numbers", "text"]);
    let expected = "{\"id\":1,\"exact\":0.10,\"open\":12345678901234567890123456789.123456789,\"doc\":{\"n\":1.10},\
                    \"at\":\"infinity\"}\n\
                    {\"id\":2,\"exact\":0.20,\"open\":0.000000000000001,\"doc\":null,\
                    \"at\":\"2024-01-02T03:04:05.000006Z\"}\n";
    assert_eq!(rows.expect(0).out, expected);
    let sum = query(&place, "SELECT sum(exact) AS s FROM pg.prices WHERE exact + 0.1 <= 0.3", &["--json"]);
    assert_eq!(sum.expect(0).out, "{\"s\":0.30}\n");
    let failed = query(&place, "SELECT sum(open) FROM pg.prices", &["--json"]).expect(1);
    failed.one_error();
    assert!(
        failed.err.contains("column `open` of prices holds a value that cannot be read: NaN"),
        "{}",
        failed.err
    );
    assert!(failed.err.contains("hint: --numbers text"), "{}", failed.err);
    let own = query(
        &place,
        "SELECT open, open > 5 AS much FROM prices ORDER BY id DESC",
        &["--store", "pg", "--json"],
    );
    let expected = "{\"open\":\"NaN\",\"much\":true}\n{\"open\":0.000000000000001,\"much\":false}\n\
                    {\"open\":12345678901234567890123456789.123456789,\"much\":true}\n";
    assert_eq!(own.expect(0).out, expected);
}

#[test]
fn what_is_wrong_is_said_in_one_error() {
    let place = parcels::place();
    for (sql, error, hint) in [
        ("SELECT * FROM pg.senderz", "there is no table", "senders"),
        ("SELECT nam FROM pg.senders", "there is no column `nam`", "senders.name"),
        ("SELECT * FROM senders", "in which store is the table `senders`?", "ddb.senders, pg.senders"),
        ("SELECT * FROM px.senders", "there is no store `px`", "ddb, pg"),
        ("DELETE FROM pg.senders", "only queries are answered", "SELECT"),
        ("SELECT (1", "xpected", "docs/query.md"),
    ] {
        let ended = query(&place, sql, &[]);
        ended.one_error();
        assert_eq!(ended.out, "", "{sql}");
        assert!(matches!(ended.code, Some(1 | 2)), "{sql}: {:?}", ended.code);
        assert!(ended.err.contains(error) && ended.err.contains(hint), "{sql}: {}", ended.err);
    }
    let failed = query(&place, "SELECT 1 / (id - id) FROM pg.senders", &[]).expect(1);
    failed.one_error();
    assert!(failed.err.contains("ivide by zero"), "{}", failed.err);
}

#[test]
fn a_stores_own_language_only_reads() {
    let place = parcels::place();
    let own = |sql: &str| query(&place, sql, &["--store", "pg", "--json"]);
    assert_eq!(own("SELECT count(*) AS n FROM senders").expect(0).out, format!("{{\"n\":{SENDERS}}}\n"));
    for sql in [
        "DELETE FROM senders",
        "WITH gone AS (DELETE FROM senders RETURNING id) SELECT * FROM gone",
        "SELECT 1) AS input; DELETE FROM senders; --",
        "SELECT set_config('transaction_read_only', 'off', true), nextval('counter')",
        "SELECT lo_create(0)",
    ] {
        own(sql).expect(1).one_error();
    }
    assert_eq!(own("SELECT count(*) AS n FROM senders").expect(0).out, format!("{{\"n\":{SENDERS}}}\n"));
    query(&place, "SELECT 1", &["--store", "nobody"]).expect(2).one_error();
}

#[test]
fn both_sides_are_looked_at_with_one_tool() {
    let place = parcels::place();
    let flags =
        ["run", "parcels.yaml", "--env", "demo", "--create", "--only", "parcels", "--limit", "600", "--json"];
    let created = place.run(&flags).json()["totals"]["created"].as_u64().expect("a count");
    assert!(created > 500, "{created}");
    let sql = "SELECT count(*) AS n, min(d.title) AS title FROM ddb.parcels d \
               JOIN pg.parcels p ON d.sk = concat('PARCEL#', p.id) WHERE d.kind = 'sent' AND p.title <> d.title";
    assert_eq!(query(&place, sql, &["--json"]).expect(0).out, "{\"n\":0,\"title\":null}\n");
    let items = query(&place, "SELECT count(*) AS n FROM ddb.parcels WHERE sk LIKE 'PARCEL#%'", &["--json"])
        .expect(0);
    assert_eq!(items.out, format!("{{\"n\":{created}}}\n"));
}
