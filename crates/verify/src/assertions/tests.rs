//! Assertions out of a spec, on stores in memory.

#[path = "../../../query/tests/memory.rs"]
#[expect(dead_code, reason = "the tests of queries need more of it")]
mod memory;

use super::{SHOWN, VerifyError, assertions, counted, cut};
use crate::Assertion;
use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field};
use memory::{MemoryStore, Table, fixed};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use whimbrel_engine::EngineError;
use whimbrel_engine::migration::Stores;
use whimbrel_model::{FingerprintKey, Logical, RunId, StoreName};
use whimbrel_query::{Declared, Numbers, Settings};
use whimbrel_spec::{Choices, Providers};
use whimbrel_store::{RunContext, Store};

const SPEC: &str = r#"migration: shop
variables: { table: Items, who: a, three: 3 }
stores: { pg: { postgres: "postgres://h/db" }, ddb: { dynamodb: { region: us-east-1 } } }
flows:
  tokens: { from: { store: pg, table: tokens }, into: { store: ddb, table: "${table}" } }
verify:
  - RULE
"#;

fn texts(name: &str, values: &[Option<&str>]) -> (Field, ArrayRef) {
    (Field::new(name, DataType::Utf8, true), Arc::new(StringArray::from(values.to_vec())))
}

fn stores() -> Stores {
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3, 4]));
    let amounts = StringArray::from(vec![Some("1.50"), Some("2"), Some("12345678901234567890.10"), None]);
    let tokens = fixed(
        vec![
            (Field::new("id", DataType::Int64, false), ids),
            texts("project", &[Some("a"), Some("a"), Some("b"), Some("b")]),
            texts("owner", &[Some("x"), None, Some(""), Some("y")]),
            (Logical::Number.field("amount", true), Arc::new(amounts)),
            texts("doc", &[Some(r#"{"a":[1]}"#), Some("[]"), Some("{a}"), Some("\"{}\"")]),
        ],
        2,
    );
    let items = vec![
        BTreeMap::from([("pk", "1"), ("project", "a"), ("amount", "1.5"), ("tenant", "3")]),
        BTreeMap::from([("pk", "2"), ("project", "a"), ("amount", "2.0"), ("tenant", "3")]),
        BTreeMap::from([
            ("pk", "3"),
            ("project", "b"),
            ("amount", "12345678901234567890.1"),
            ("tenant", "3"),
        ]),
        BTreeMap::from([("pk", "5"), ("project", "c"), ("tenant", "4")]),
    ];
    let many: Vec<i64> = (0..2000).collect();
    let many = fixed(vec![(Field::new("id", DataType::Int64, false), Arc::new(Int64Array::from(many)))], 1);
    let lost =
        arrow::array::RecordBatch::try_from_iter([("id", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]);
    let pg = vec![("tokens", tokens), ("many", many), ("lost", Table::Failing(lost.unwrap()))];
    let all = [MemoryStore::new("pg", pg), MemoryStore::new("ddb", vec![("Items", Table::Open(items))])];
    all.into_iter().map(|store| (store.name().clone(), Arc::new(store) as Arc<dyn Store>)).collect()
}

async fn tried(rule: &str) -> Result<Assertion, VerifyError> {
    tried_within(rule, 64 * 1024 * 1024).await
}

async fn tried_within(rule: &str, memory_bytes: usize) -> Result<Assertion, VerifyError> {
    let text = SPEC.replace("RULE", rule);
    let spec = whimbrel_spec::parse(&text, "shop.yaml").unwrap_or_else(|error| panic!("{rule}: {error}"));
    let resolved = whimbrel_spec::resolve(&spec, &Choices::default(), &Providers::new(".")).await.unwrap();
    let number = BTreeMap::from([("amount", "number"), ("tenant", "number")]);
    let number = number.into_iter().map(|(column, word)| (column.to_owned(), word.to_owned())).collect();
    let declared = Declared::from([((StoreName::new("ddb"), "Items".to_owned()), number)]);
    let settings = Settings {
        parallel: 2,
        memory_bytes,
        numbers: Numbers::Decimal,
        context: RunContext {
            run: RunId::generate(),
            fingerprint_key: FingerprintKey::new([0; 32]),
            retry_for: Duration::from_secs(1),
            stop: CancellationToken::new(),
            meter: Arc::default(),
            budget: Arc::default(),
        },
    };
    let stores = stores();
    let found = assertions(&resolved.verify, &stores, &declared, &settings);
    let found = tokio::time::timeout(Duration::from_secs(60), found).await;
    let mut found = found.unwrap_or_else(|_| panic!("no answer: {rule}"))?;
    assert_eq!(found.len(), 1, "{rule}");
    Ok(found.remove(0))
}

async fn found(rule: &str) -> Assertion {
    tried(rule).await.unwrap_or_else(|error| panic!("{rule}: {error}: {:?}", error.cause()))
}

/// The value, and whether it is as expected.
async fn value(rule: &str) -> (bool, String) {
    let Assertion { ok, value, .. } = found(rule).await;
    (ok, value)
}

async fn fails(rule: &str) -> EngineError {
    tried(rule).await.expect_err(rule).into_engine(Path::new("shop.yaml"))
}

#[test]
fn long_texts_are_cut_and_numbers_grouped() {
    assert_eq!(cut(&"ä".repeat(SHOWN)), "ä".repeat(SHOWN));
    assert_eq!(cut(&"ä".repeat(SHOWN + 1)), format!("{}…", "ä".repeat(SHOWN)));
    let shown = [1, 0, 999, 1000, 1_234_567].map(|number| counted(number, "row", "rows"));
    assert_eq!(shown, ["1 row", "0 rows", "999 rows", "1,000 rows", "1,234,567 rows"]);
}

#[tokio::test]
async fn a_value_is_compared_by_value() {
    let yes = |value: &str| (true, value.to_owned());
    let no = |value: &str| (false, value.to_owned());
    assert_eq!(value("{ sql: SELECT count(*) FROM pg.tokens, equals: 4 }").await, yes("4"));
    assert_eq!(value("{ sql: SELECT count(*) FROM pg.tokens, equals: 4.0 }").await, yes("4"));
    assert_eq!(value("{ sql: SELECT count(*) FROM pg.tokens, equals: $three }").await, no("4"));
    assert_eq!(
        value("{ sql: SELECT sum(amount) FROM pg.tokens WHERE id < 3, equals: 3.5 }").await,
        yes("3.5")
    );
    let large = "{ sql: SELECT max(amount) FROM pg.tokens, greater: 12345678901234567890.09, less: 12345678901234567890.11 }";
    assert_eq!(value(large).await, yes("12345678901234567890.1"));
    assert_eq!(found(large).await.expected, "< 12345678901234567890.11 and > 12345678901234567890.09");
    let less = "{ sql: SELECT max(amount) FROM pg.tokens, less_or_equal: 12345678901234567890.09 }";
    assert_eq!(value(less).await, no("12345678901234567890.1"));
    let named = "{ sql: 'SELECT count(*) FROM ddb.\"${table}\" WHERE project = $who', equals: 2, name: two }";
    assert_eq!(value(named).await, yes("2"));
    assert_eq!(found(named).await.name, "two");
    assert_eq!(value("{ sql: SELECT max(id) > 3 FROM pg.tokens, equals: true }").await, yes("true"));
    assert_eq!(value("{ sql: SELECT max(id) FROM pg.tokens WHERE false, equals: 0 }").await, no("NULL"));
    assert_eq!(value("{ sql: SELECT id FROM pg.tokens WHERE id > 9, equals: 0 }").await, no("no row"));
}

#[tokio::test]
async fn rows_that_should_not_be_are_shown() {
    let none = found("{ sql: SELECT id FROM pg.tokens WHERE id > 9, no_rows: true }").await;
    assert_eq!((none.ok, none.value.as_str()), (true, "0 rows"));
    let join = "SELECT t.id, t.amount FROM pg.tokens t LEFT JOIN ddb.\\\"Items\\\" i ON CAST(t.id AS varchar) = i.pk WHERE i.pk IS NULL OR t.id = 3 ORDER BY t.id";
    let some = found(&format!("{{ sql: \"{join}\", no_rows: true }}")).await;
    assert_eq!((some.ok, some.value.as_str(), some.expected.as_str()), (false, "2 rows", "no rows"));
    assert_eq!(some.examples, [r#"{"id":3,"amount":12345678901234567890.1}"#, r#"{"id":4,"amount":null}"#]);
    let many = found("{ sql: SELECT id FROM pg.many, no_rows: true }").await;
    assert_eq!((many.value.as_str(), many.examples.len()), ("2,000 rows", super::EXAMPLES));
}

#[tokio::test]
async fn what_cannot_be_asked_is_an_error_that_names_the_assertion() {
    for (rule, message, hint) in [
        (
            "{ sql: SELECT idd FROM pg.tokens, equals: 1, name: ids }",
            "shop.yaml:7:12: the assertion `ids` cannot be carried out: there is no column `idd`",
            "there are: pg.tokens.id",
        ),
        (
            "{ sql: \"SELECT id, project FROM pg.tokens\", equals: 1, name: two }",
            "shop.yaml:7:12: the assertion `two` cannot be carried out: the query yields 2 columns, and one value is compared",
            "select one column",
        ),
        (
            "{ sql: SELECT id FROM pg.tokens, equals: 1, name: many }",
            "shop.yaml:7:12: the assertion `many` cannot be carried out: the query yields more than one row, and one value is compared",
            "no_rows: true",
        ),
        (
            "{ sql: SELECT max(project) FROM pg.tokens, less: 1, name: text }",
            "shop.yaml:7:12: the assertion `text` cannot be carried out: the query yields no number, and only numbers are less or greater",
            "equals: true",
        ),
        (
            "{ sql: SELECT 1 / (id - id) FROM pg.tokens, no_rows: true, name: zero }",
            "shop.yaml:7:12: the assertion `zero` cannot be carried out: Divide by zero error",
            "CAST and WHERE",
        ),
        (
            "{ compare: sums, by: idd, left: SELECT id FROM pg.tokens, right: SELECT 1 AS idd }",
            "shop.yaml:7:37: the assertion `sums` cannot be carried out: the left query yields no column `idd`, which `by` names",
            "it yields: id",
        ),
        (
            "{ compare: sums, by: id, left: SELECT id FROM pg.tokens, right: \"SELECT 1 AS id, 2 AS b\" }",
            "shop.yaml:7:69: the assertion `sums` cannot be carried out: the left query yields 0 columns beside `by`, the right one 1 column",
            "the same columns",
        ),
        (
            "{ not_empty: [pg.tokens.id, pg.tokens.Owner], name: owners }",
            "shop.yaml:7:33: the assertion `owners` cannot be carried out: store `pg`: the table tokens has no column `Owner`",
            "did you mean `owner`?",
        ),
    ] {
        let error = fails(rule).await;
        assert_eq!(error.to_string(), message, "{rule}");
        assert!(error.hint().is_some_and(|found| found.contains(hint)), "{rule}: {:?}", error.hint());
    }
}

#[tokio::test]
async fn memory_is_bounded() {
    let rule = "{ compare: all, by: id, left: SELECT id FROM pg.many, right: SELECT id FROM pg.many }";
    assert!(found(rule).await.ok);
    let error = tried_within(rule, 256 * 1024).await.unwrap_err();
    assert_eq!(error.cause().to_string(), "the left query yields more rows than may be held");
    assert_eq!(error.hint(), "let both queries group more, or give it more memory (`--memory 1G`)");
}

#[tokio::test]
async fn a_store_that_fails_is_named() {
    for rule in [
        "{ sql: SELECT id FROM pg.lost, no_rows: true, name: lost }",
        "{ not_empty: pg.lost.id, name: lost }",
        "{ compare: lost, by: id, left: SELECT 1 AS id, right: SELECT id FROM pg.lost }",
    ] {
        let error = fails(rule).await;
        assert_eq!(error.to_string(), "store `pg`: the assertion `lost` cannot be carried out", "{rule}");
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        assert_eq!(cause.as_deref(), Some("store `pg`: the line went dead"), "{rule}");
        assert_eq!(error.hint().as_deref(), Some("try again"), "{rule}");
    }
    let error = fails("{ not_empty: nothing.id, name: x }").await;
    assert!(
        std::error::Error::source(&error).is_none_or(|cause| cause.to_string().contains("ddb")),
        "{error}"
    );
    let error = fails("{ sql: SELECT 1, store: pg, equals: 1, name: own }").await;
    assert_eq!(error.to_string(), "store `pg`: the assertion `own` cannot be carried out");
    assert!(error.hint().is_some_and(|hint| hint.contains("only reads")), "{:?}", error.hint());
}

#[tokio::test]
async fn both_sides_are_compared_in_both_directions() {
    let sums = |right: &str| {
        format!(
            "{{ compare: sums, by: project, left: \"SELECT project, sum(amount) FROM pg.tokens GROUP BY 1\", right: \"{right}\" }}"
        )
    };
    let same = "SELECT project, sum(amount) AS total FROM ddb.\\\"Items\\\" WHERE project <> 'c' GROUP BY 1";
    let same = found(&sums(same)).await;
    assert_eq!((same.ok, same.value.as_str()), (true, "2 rows on each side, 0 differences"));
    assert_eq!(same.expected, "the same on both sides by project");
    let other =
        "SELECT project, sum(amount) + 1 AS total FROM ddb.\\\"Items\\\" WHERE project <> 'a' GROUP BY 1";
    let other = found(&sums(other)).await;
    assert_eq!((other.ok, other.value.as_str()), (false, "2 rows on each side, 3 differences"));
    let mut examples = other.examples;
    examples.sort();
    assert_eq!(examples[0], r#"project = "a": only on the left"#);
    assert_eq!(
        examples[1],
        r#"project = "b": sum(pg.tokens.amount) 12345678901234567890.1 left, 12345678901234567891.1 right"#
    );
    assert_eq!(examples[2], r#"project = "c": only on the right"#);
}

#[tokio::test]
async fn rows_are_matched_by_several_columns_and_others_by_their_names() {
    let rows = |left: &str, right: &str| {
        format!("{{ compare: c, by: [a, b], left: \"{left}\", right: \"{right}\" }}")
    };
    let left = "SELECT * FROM (VALUES (1, 'x', 10, true), (1, NULL, 20, false)) AS t(a, b, c, d)";
    let right = "SELECT * FROM (VALUES (false, 20.0, NULL, 1), (true, 10.0, 'x', 1)) AS t(d, c, b, a)";
    let same = found(&rows(left, right)).await;
    assert_eq!(
        (same.ok, same.value.as_str(), same.examples.len()),
        (true, "2 rows on each side, 0 differences", 0)
    );
    let twice = "SELECT * FROM (VALUES (1, 'x', 10, true), (1, 'x', 10, true)) AS t(a, b, c, d)";
    let found_twice = found(&rows(twice, twice)).await;
    let value = "1 row left, 2 rows right, 2 differences";
    assert_eq!((found_twice.ok, found_twice.value.as_str()), (false, value));
    assert_eq!(
        found_twice.examples,
        [r#"a = 1, b = "x": twice on the left"#, r#"a = 1, b = "x": twice on the right"#]
    );
}

#[tokio::test]
async fn columns_that_must_be_full() {
    let full =
        found("{ not_empty: [pg.tokens.id, pg.tokens.project, 'ddb.${table}.pk', Items.tenant] }").await;
    assert_eq!(
        (full.ok, full.value.as_str(), full.expected.as_str()),
        (true, "all", "no NULL, no empty text")
    );
    assert_eq!(full.name, "not empty: tokens.id, tokens.project, Items.pk, Items.tenant");
    let owners = found("{ not_empty: [pg.tokens.owner, Items.amount], name: x }").await;
    assert!(!owners.ok);
    assert_eq!(
        owners.value,
        "3 values are not (Items.amount NULL: 1, tokens.owner NULL: 1, tokens.owner empty: 1)"
    );
    assert_eq!(owners.examples[0], r#"Items {"pk":"5"}: amount is NULL"#);
    let tenants = found("{ not_empty: Items.tenant, equals: $three }").await;
    assert_eq!(tenants.value, "1 value is not (Items.tenant other: 1)");
    assert_eq!(tenants.expected, "no NULL, no empty text, all = 3");
    assert_eq!(tenants.examples, [r#"Items {"pk":"5"}: tenant is "4""#]);
}

#[tokio::test]
async fn columns_that_must_hold_json() {
    let docs = found("{ json: pg.tokens.doc }").await;
    assert!(!docs.ok);
    assert_eq!(docs.value, "2 values are not (tokens.doc broken: 1, tokens.doc neither object nor list: 1)");
    assert_eq!(docs.examples.len(), 2);
    assert!(docs.examples.iter().any(|example| example.ends_with("is a text, neither an object nor a list")));
    let none = found("{ json: [Items.nothing] }").await;
    assert_eq!((none.ok, none.value.as_str()), (true, "all"));
}
