//! Rules of `verify` with one mistake each.

use crate::{changed, shown};
use insta::assert_snapshot;

const BASE: &str = r#"migration: shop
variables: { table: shop, user_id: "42" }
stores:
  pg: { postgres: "postgres://db.example.com/shop" }
  ddb: { dynamodb: { region: us-east-1 } }
  idle: { postgres: "postgres://db.example.com/idle" }
flows:
  users: { from: { store: pg, table: users }, into: { store: ddb, table: "${table}" } }
verify:
  - RULE
"#;

fn refused(rule: &str) -> String {
    match whimbrel_spec::parse(&changed(BASE, "RULE", rule), "m/x.yaml") {
        Ok(_) => "accepted".to_owned(),
        Err(error) => shown(&error),
    }
}

#[test]
fn rules_that_are_right() {
    for rule in [
        "{ count: true }",
        "{ records: all, only: [users], name: x }",
        "{ records: 1000 }",
        "{ sql: 'SELECT count(*) FROM ddb.\"${table}\" WHERE n > $user_id', equals: $user_id, name: x }",
        "{ sql: SELECT 1, greater: 0, less_or_equal: 1e2 }",
        "{ sql: SELECT 1, no_rows: true, store: pg }",
        "{ compare: x, by: [a, b], left: SELECT 1, right: SELECT 2 }",
        "{ not_empty: 'ddb.${table}.pk', equals: $user_id }",
        "{ not_empty: [shop.pk, pg.public.users.id] }",
        "{ json: ['${table}.sk'] }",
    ] {
        assert_eq!(refused(rule), "accepted", "{rule}");
    }
}

#[test]
fn kinds_and_what_belongs_to_them() {
    assert_snapshot!(refused(r#"{ count: true, sql: "SELECT 1", equals: 1 }"#), @r"
    m/x.yaml:10:20: a verify rule is `count` already and cannot be `sql` too
      hint: make `sql` a rule of its own
    ");
    assert_snapshot!(refused("{ records: al }"), @r"
    m/x.yaml:10:16: `records` must be `all` or a whole number, not `al`
      hint: did you mean `all`?
    ");
    assert_snapshot!(refused("{ records: 0 }"), @r"
    m/x.yaml:10:16: `records` is too small: 0
      hint: it is at least 1 and at most 1000000000000
    ");
    assert_snapshot!(refused("{ records: 1.5 }"), @r"
    m/x.yaml:10:16: `records` must be `all` or a whole number, not 1.5
      hint: `whimbrel schema` describes it
    ");
    assert_snapshot!(refused("{ count: true, equals: 1 }"), @r"
    m/x.yaml:10:20: `equals` belongs to `sql` and `not_empty`, not to `count`
      hint: leave `equals` out, or make it a rule of its own
    ");
    assert_snapshot!(refused(r#"{ sql: "SELECT 1", equals: 1, only: [users] }"#), @r"
    m/x.yaml:10:35: `only` belongs to `count` and `records`, not to `sql`
      hint: leave `only` out, or make it a rule of its own
    ");
}

#[test]
fn queries_with_a_mistake() {
    assert_snapshot!(refused(r#"{ sql: "SELECT 1" }"#), @r"
    m/x.yaml:10:7: `sql` does not say what is expected of its answer
      hint: add `equals`, `less`, `less_or_equal`, `greater` or `greater_or_equal` with a value, or `no_rows: true`
    ");
    assert_snapshot!(refused(r#"{ sql: "SELECT 1", equal: 1 }"#), @r"
    m/x.yaml:10:24: unknown key `equal` in a verify rule
      hint: did you mean `equals`?
    ");
    assert_snapshot!(refused(r#"{ sql: "SELECT 1", equals: 1, no_rows: true }"#), @r"
    m/x.yaml:10:35: `no_rows` has no place beside `equals`
      hint: keep one of them
    ");
    assert_snapshot!(refused(r#"{ sql: "SELECT 1", equals: 1, less: 2 }"#), @r"
    m/x.yaml:10:35: `equals` has no place beside `less`
      hint: keep one of them
    ");
    assert_snapshot!(refused(r#"{ sql: "SELECT 1", greater_or_equal: 1, greater: 2 }"#), @r"
    m/x.yaml:10:45: `greater` has no place beside `greater_or_equal`
      hint: keep one of them
    ");
    assert_snapshot!(refused(r#"{ sql: "SELECT 1", equals: $user }"#), @r"
    m/x.yaml:10:32: there is no variable `user` for the parameter `$user`
      hint: did you mean `user_id`?
    ");
    assert_snapshot!(refused(r#"{ sql: "SELECT $usr_id", equals: 1 }"#), @r"
    m/x.yaml:10:20: there is no variable `usr_id` for the parameter `$usr_id`
      hint: did you mean `user_id`?
    ");
    assert_snapshot!(refused(r#"{ sql: "SELECT ${user_id}", equals: 1 }"#), @r#"
    m/x.yaml:10:20: `${…}` has no place in SQL
      hint: a value is `$name`, bound and never pasted in; a table's name is `"${name}"`, alone in double quotes
    "#);
    assert_snapshot!(refused(r#"{ sql: 'SELECT 1 FROM ddb."${tabel}"', no_rows: true }"#), @r#"
    m/x.yaml:10:32: there is no variable `tabel` for the table `"${tabel}"`
      hint: did you mean `table`?
    "#);
    assert_snapshot!(refused(r#"{ sql: "SELECT 1", store: pgg, equals: 1 }"#), @r"
    m/x.yaml:10:31: there is no store `pgg`
      hint: did you mean `pg`?
    ");
    assert_snapshot!(refused(r#"{ sql: "SELECT 1", store: ddb, equals: 1 }"#), @r"
    m/x.yaml:10:24: the store `ddb` is `dynamodb`, which has no SQL of its own
      hint: leave `store` out, and write `FROM ddb.table`
    ");
    assert_snapshot!(refused(r#"{ sql: 'SELECT 1 FROM "${table}"', store: pg, equals: 1 }"#), @r"
    m/x.yaml:10:28: with `store` a table's name cannot be a variable
      hint: write the table's name, or leave `store` out
    ");
}

#[test]
fn comparisons_and_columns_with_a_mistake() {
    assert_snapshot!(refused(r#"{ compare: x, left: "SELECT 1" }"#), @r"
    m/x.yaml:10:7: `compare` has no `by`
      hint: add `by`: the column, or a list of columns, that both queries share
    ");
    assert_snapshot!(refused(r#"{ compare: x, by: [a, a], left: "SELECT 1", right: "SELECT 2" }"#), @r"
    m/x.yaml:10:27: `by` names `a` twice
      hint: keep one of them
    ");
    assert_snapshot!(refused(r#"{ compare: x, by: a, left: "SELECT 1", right: "SELECT 2", name: y }"#), @r"
    m/x.yaml:10:63: `compare` is the rule's name already
      hint: leave `name` out
    ");
    assert_snapshot!(refused("{ not_empty: [name] }"), @r"
    m/x.yaml:10:19: `name` does not say of which table it is a column
      hint: write `table.column`, or `store.table.column`
    ");
    assert_snapshot!(refused("{ not_empty: [dbb.shop.pk] }"), @r"
    m/x.yaml:10:19: there is no store `dbb`
      hint: did you mean `ddb`?
    ");
    assert_snapshot!(refused(r#"{ not_empty: "shop..pk" }"#), @r"
    m/x.yaml:10:18: `shop..pk` names no column
      hint: write `store.table.column`
    ");
    assert_snapshot!(refused("{ json: [ddb.shop.pk], equals: 1 }"), @r"
    m/x.yaml:10:28: `equals` belongs to `sql` and `not_empty`, not to `json`
      hint: leave `equals` out, or make it a rule of its own
    ");
    assert_snapshot!(refused("{ json: [] }"), @r"
    m/x.yaml:10:13: the list `json` is empty
      hint: name at least one, or leave the key out
    ");
    assert_snapshot!(refused("{ json: [idle.t.c] }"), @r"
    m/x.yaml:10:14: no flow uses the store `idle`
      hint: stores of the flows: `ddb`, `pg`
    ");
}

#[test]
fn rules_about_searches() {
    let spec = |rule: &str| {
        format!(
            "migration: m\nstores:\n  pg: {{ postgres: \"postgres://h/d\" }}\n  out: {{ files: o }}\n  vec: {{ chroma: c }}\nflows:\n  \
            f: {{ from: {{ store: vec, collection: x }}, into: {{ store: pg, table: t }} }}\n  \
            g: {{ from: {{ store: vec, collection: y }}, into: {{ store: out, path: g.json }} }}\nverify:\n  - {rule}\n"
        )
    };
    for (rule, said) in [
        ("{ overlap: h }", "there is no flow `h`"),
        ("{ overlap: g }", "does not write into one `postgres` store"),
        ("{ overlap: f, average_ms: 3 }", "`average_ms` belongs to `latency`, not to `overlap`"),
        ("{ latency: f, at_least: 0.5 }", "`at_least` belongs to `overlap`, not to `latency`"),
        ("{ overlap: f, at_least: 1.5 }", "at_least"),
        ("{ overlap: f, queries: [a] }", "nothing turns `queries` into vectors"),
        ("{ overlap: f, embed: { model: m, key: k } }", "`embed` belongs to `queries`"),
        (
            "{ overlap: f, queries: [a], stored: 3, embed: { model: m, key: k } }",
            "`stored` has no place beside",
        ),
        ("{ count: true, top: 3 }", "`top` belongs to `overlap` and `latency`, not to `count`"),
    ] {
        let refusal = crate::wrong::text_refused(&spec(rule));
        assert!(refusal.contains(said), "{said}: {refusal}");
    }
}
