//! Specs with one mistake each.

use crate::{changed, shown};
use insta::assert_snapshot;

pub const BASE: &str = r#"migration: shop
variables:
  table: "${env:SHOP_TABLE:-shop}"
  user_id: "42"
  dataset: { default: golden, oneof: [golden, full] }
environments:
  live: { default: true, variables: { database: "${env:DATABASE_URL}" } }
  demo: { variables: { database: "embedded:data/shop.pg" } }
stores:
  pg:
    postgres: "${database}"
    schema: schema.sql
  ddb:
    dynamodb:
      region: us-east-1
      tables: { "${table}": { key: pk, sort_key: sk, billing: on_demand } }
defaults:
  from: { store: pg }
flows:
  users:
    group: people
    from:
      table: users
      where: "id > $user_id"
      slice_by: id
    columns: { createdAt: timestamp }
    checks:
      - { expect: "name <> ''", else: "no name: {id}" }
      - { required: [id, name] }
    transform: |
      SELECT 'USER#' || id AS pk, 'METADATA' AS sk, name
      FROM input
    sample: "{name}"
    into:
      store: ddb
      table: "${table}"
      key: [pk, sk]
      mode: upsert
      nulls: omit
      as: { created_at: rfc3339_nanos }
      batch: { records: 25 }
  orders:
    after: [users]
    from: { query: "SELECT * FROM orders WHERE {slice}" }
    into: { store: ddb, table: "${table}", key: pk, mode: skip_existing }
unmatched: reject
verify:
  - { count: true, only: [people] }
limits: { retry_for: 5m, max_reject_rate: 0.05 }
undo: false
"#;

/// What a spec's one mistake looks like; the base where nothing is to be replaced.
pub fn refused(from: &str, to: &str) -> String {
    text_refused(&changed(BASE, from, to))
}

pub fn text_refused(text: &str) -> String {
    match whimbrel_spec::parse(text, "m/x.yaml") {
        Ok(_) => "accepted".to_owned(),
        Err(error) => shown(&error),
    }
}

#[test]
fn the_base_is_right() {
    assert_eq!(text_refused(BASE), "accepted");
}

#[test]
fn unknown_keys_name_the_nearest_one() {
    assert_snapshot!(refused("migration: shop", "migrations: shop"), @r"
    m/x.yaml:1:1: unknown key `migrations` in the spec
      hint: did you mean `migration`?
    ");
    assert_snapshot!(refused("unmatched: reject", "unmatchd: reject"), @r"
    m/x.yaml:46:1: unknown key `unmatchd` in the spec
      hint: did you mean `unmatched`?
    ");
    assert_snapshot!(refused("oneof: [golden, full]", "one_of: [golden, full]"), @r"
    m/x.yaml:5:31: unknown key `one_of` in a variable
      hint: did you mean `oneof`?
    ");
    assert_snapshot!(refused("default: true, variables", "defualt: true, variables"), @r"
    m/x.yaml:7:11: unknown key `defualt` in an environment
      hint: did you mean `default`?
    ");
    assert_snapshot!(refused("    schema: schema.sql", "    schemas: schema.sql"), @r"
    m/x.yaml:12:5: unknown key `schemas` in a store
      hint: did you mean `schema`?
    ");
    assert_snapshot!(refused("      region: us-east-1", "      regoin: us-east-1"), @r"
    m/x.yaml:15:7: unknown key `regoin` in a store's `dynamodb`
      hint: did you mean `region`?
    ");
    assert_snapshot!(refused("sort_key: sk", "sortkey: sk"), @r"
    m/x.yaml:16:40: unknown key `sortkey` in a table's definition
      hint: did you mean `sort_key`?
    ");
    assert_snapshot!(refused("  from: { store: pg }", "  form: { store: pg }"), @r"
    m/x.yaml:18:3: unknown key `form` in `defaults`
      hint: did you mean `from`?
    ");
    assert_snapshot!(refused("    group: people", "    gruop: people"), @r"
    m/x.yaml:21:5: unknown key `gruop` in a flow
      hint: did you mean `group`?
    ");
    assert_snapshot!(refused("      slice_by: id", "      slice: id"), @r"
    m/x.yaml:25:7: unknown key `slice` in a flow's `from`
      hint: did you mean `slice_by`?
    ");
    assert_snapshot!(refused("else: \"no name: {id}\"", "otherwise: \"no name\""), @r"
    m/x.yaml:28:33: unknown key `otherwise` in a check
      hint: keys: `expect`, `else`, `required`
    ");
    assert_snapshot!(refused("      table: \"${table}\"\n      key: [pk, sk]", "      tabel: \"${table}\"\n      key: [pk, sk]"), @r"
    m/x.yaml:36:7: unknown key `tabel` in a flow's `into`
      hint: did you mean `table`?
    ");
    assert_snapshot!(refused("{ records: 25 }", "{ record: 25 }"), @r"
    m/x.yaml:41:16: unknown key `record` in a flow's `batch`
      hint: did you mean `records`?
    ");
    assert_snapshot!(refused("retry_for: 5m", "retry_fro: 5m"), @r"
    m/x.yaml:49:11: unknown key `retry_fro` in `limits`
      hint: did you mean `retry_for`?
    ");
    assert_snapshot!(refused("count: true", "counts: true"), @r"
    m/x.yaml:48:7: unknown key `counts` in a verify rule
      hint: did you mean `count`?
    ");
    assert_snapshot!(refused("    sample: \"{name}\"", "    colour: blue"), @r"
    m/x.yaml:33:5: unknown key `colour` in a flow
      hint: keys: `group`, `after`, `manual`, `from`, `columns`, `checks`, `transform`, `sample`, `into`
    ");
}

#[test]
fn wrong_types() {
    assert_snapshot!(refused("  from: { store: pg }", "  from: pg"), @r"
    m/x.yaml:18:9: `from` must be a mapping, not text
      hint: its keys: `store`, `table`, `query`, `collection`, `path`, `run`, `where`, `slice_by`, `each`, `key_as`
    ");
    assert_snapshot!(refused("limits: { retry_for: 5m, max_reject_rate: 0.05 }", "limits: [5m]"), @r"
    m/x.yaml:49:9: `limits` must be a mapping, not a list
      hint: its keys: `max_cost_usd`, `max_write_units`, `max_read_units`, `max_reject_rate`, `retry_for`, `stall_after`
    ");
    assert_snapshot!(refused("  user_id: \"42\"", "  user_id: [42]"), @r"
    m/x.yaml:4:12: `user_id` must be text, a number, true or false or a mapping, not a list
      hint: its keys: `default`, `oneof`, `secret`, `description`, `cognito`
    ");
    assert_snapshot!(refused("default: true", "default: \"yes\""), @r"
    m/x.yaml:7:20: `default` must be true or false, not text
      hint: write `true`
    ");
    assert_snapshot!(refused("      region: us-east-1", "      region: 1"), @r#"
    m/x.yaml:15:15: `region` must be text, not a number
      hint: put it in quotes: "1"
    "#);
    assert_snapshot!(refused("    after: [users]", "    after: users"), @r"
    m/x.yaml:43:12: `after` must be `all` or a list, not `users`
      hint: write `after: [users]`
    ");
    assert_snapshot!(refused("{ required: [id, name] }", "{ required: { id: name } }"), @r"
    m/x.yaml:29:21: `required` must be text or a list, not a mapping
      hint: begin each entry with `- `
    ");
    assert_snapshot!(refused("{ records: 25 }", "{ records: \"25\" }"), @r"
    m/x.yaml:41:25: `records` must be a whole number, not text
      hint: leave the quotes out: 25
    ");
    assert_snapshot!(refused("{ records: 25 }", "{ records: 2.5 }"), @r"
    m/x.yaml:41:25: `records` must be a whole number, not 2.5
      hint: `whimbrel schema` describes it
    ");
    assert_snapshot!(refused("verify:\n  - { count: true, only: [people] }", "verify: { count: true }"), @r"
    m/x.yaml:47:9: `verify` must be a list, not a mapping
      hint: begin each entry with `- `
    ");
    assert_snapshot!(refused("limits: { retry_for: 5m, max_reject_rate: 0.05 }", "limits:"), @r"
    m/x.yaml:49:1: `limits` must be a mapping, not nothing
      hint: write its value after `limits:`
    ");
    assert_snapshot!(refused("    postgres: \"${database}\"", "    postgres: [a]"), @r"
    m/x.yaml:11:15: `postgres` must be text or a mapping, not a list
      hint: its keys: `host`, `port`, `user`, `password`, `database`, `sslmode`, `sslrootcert`, `sslcert`, `sslkey`, `connect_timeout`, `application_name`, `options`, `foreign_keys`
    ");
    assert_snapshot!(refused("    transform: |\n      SELECT 'USER#' || id AS pk, 'METADATA' AS sk, name\n      FROM input", "    transform: true"), @r#"
    m/x.yaml:30:16: `transform` must be text, not true or false
      hint: put it in quotes: "true"
    "#);
    assert_snapshot!(refused("nulls: omit", "nulls:"), @r"
    m/x.yaml:39:7: `nulls` must be `omit` or `null`, not nothing
      hint: write its value after `nulls:`
    ");
}

#[test]
fn missing_keys() {
    assert_snapshot!(refused("migration: shop\n", ""), @r"
    m/x.yaml:1:1: `migration` is missing in the spec
      hint: add `migration: …`: the migration's name
    ");
    assert_snapshot!(text_refused("migration: x\nstores: { a: { postgres: b } }\n"), @r"
    m/x.yaml:1:1: `flows` is missing in the spec
      hint: add `flows: …`: the streams of records, run in the order of `after`, else side by side
    ");
    assert_snapshot!(text_refused("migration: x\nflows: { a: { from: { store: a, table: t } } }\n"), @r"
    m/x.yaml:1:1: `stores` is missing in the spec
      hint: add `stores: …`: the databases that flows read from and write to
    ");
    assert_snapshot!(refused("      store: ddb\n      table", "      table"), @r"
    m/x.yaml:35:7: `into` of the flow `users` names no store
      hint: add `store: NAME`, here or under `defaults`
    ");
    assert_snapshot!(refused("    from: { query: \"SELECT * FROM orders WHERE {slice}\" }", "    from: { slice_by: id }"), @r"
    m/x.yaml:44:11: `from` of the flow `orders` has neither `table` nor `query`
      hint: say what is read: `table: NAME` or `query: SELECT …`
    ");
    assert_snapshot!(refused("  from: { store: pg }", "  from: { slice_by: id }"), @r"
    m/x.yaml:23:7: `from` of the flow `users` names no store
      hint: add `store: NAME`, here or under `defaults`
    ");
    assert_snapshot!(refused("    into: { store: ddb, table: \"${table}\", key: pk, mode: skip_existing }\n", ""), @r"
    m/x.yaml:42:3: the flow `orders` has no `into`
      hint: add `into: { store: NAME, table: NAME, key: [NAME] }`
    ");
    assert_snapshot!(refused("    into: { store: ddb, table: \"${table}\", key: pk, mode: skip_existing }", "    into: { store: ddb, key: pk }"), @r"
    m/x.yaml:45:11: `into` of the flow `orders` names no table
      hint: say where records go: `table: NAME`
    ");
    assert_snapshot!(text_refused("migration: x\nstores: { a: { postgres: b } }\nflows: { f: { into: { store: a, table: t } } }\n"), @r"
    m/x.yaml:3:10: the flow `f` has no `from`
      hint: add `from: { store: NAME, table: NAME }`
    ");
}

#[test]
fn unknown_values() {
    assert_snapshot!(refused("{ key: pk, sort_key: sk,", "{ key: { name: pk, type: string },"), @r"
    m/x.yaml:16:54: `type` cannot be `string`
      hint: values of `type`: `text`, `number`, `binary`
    ");
    assert_snapshot!(refused("mode: upsert", "mode: upsret"), @r"
    m/x.yaml:38:13: `mode` cannot be `upsret`
      hint: did you mean `upsert`?
    ");
    assert_snapshot!(refused("mode: upsert", "mode: replace"), @r"
    m/x.yaml:38:13: `mode` cannot be `replace`
      hint: values of `mode`: `insert`, `upsert`, `skip_existing`, `changed`, `update`
    ");
    assert_snapshot!(refused("rfc3339_nanos", "rfc3339_nano"), @r"
    m/x.yaml:40:25: `created_at` cannot be `rfc3339_nano`
      hint: did you mean `rfc3339_nanos`?
    ");
    assert_snapshot!(refused("rfc3339_nanos", "iso"), @r"
    m/x.yaml:40:25: `created_at` cannot be `iso`
      hint: values of `created_at`: `string_set`, `number_set`, `binary_set`, `rfc3339_nanos`, `epoch_s`, `epoch_ms`, `rfc3339`, `rfc3339_millis`, `rfc3339_micros`, `text`, `number`, `binary`, `json`, `map`, `list`
    ");
    assert_snapshot!(refused("createdAt: timestamp", "createdAt: timestampz"), @r"
    m/x.yaml:26:27: `createdAt` cannot be `timestampz`
      hint: did you mean `timestamp`?
    ");
    assert_snapshot!(refused("unmatched: reject", "unmatched: keep"), @r"
    m/x.yaml:46:12: `unmatched` cannot be `keep`
      hint: values of `unmatched`: `reject`, `ignore`
    ");
    assert_snapshot!(refused("billing: on_demand", "billing: on-demand"), @r"
    m/x.yaml:16:63: `billing` cannot be `on-demand`
      hint: did you mean `on_demand`?
    ");
    assert_snapshot!(refused("nulls: omit", "nulls: drop"), @r"
    m/x.yaml:39:14: `nulls` cannot be `drop`
      hint: values of `nulls`: `omit`, `null`
    ");
    assert_snapshot!(refused("mode: upsert", "mode: null"), @r"
    m/x.yaml:38:7: `mode` must be `insert`, `upsert`, `skip_existing`, `changed` or `update`, not null
      hint: write its value after `mode:`
    ");
}

#[test]
fn stores() {
    assert_snapshot!(refused("    postgres: \"${database}\"", "    postgress: \"${database}\""), @r"
    m/x.yaml:11:5: unknown key `postgress` in a store
      hint: did you mean `postgres`?
    ");
    assert_snapshot!(refused("    schema: schema.sql", "    dynamodb: { region: eu-west-1 }"), @r"
    m/x.yaml:12:5: the store `pg` is `postgres` already and cannot be `dynamodb` too
      hint: make `dynamodb` a store of its own
    ");
    assert_snapshot!(refused("    postgres: \"${database}\"\n", ""), @r"
    m/x.yaml:10:3: the store `pg` has no kind
      hint: give it `postgres`, `dynamodb`, `sqlite`, `chroma` or `files`
    ");
    assert_snapshot!(refused("      region: us-east-1\n", "      region: us-east-1\n      schema: x.sql\n"), @r"
    m/x.yaml:16:7: unknown key `schema` in a store's `dynamodb`
      hint: keys: `region`, `endpoint`, `profile`, `consistent_reads`, `tables`, `capacity`
    ");
    assert_snapshot!(refused("  ddb:\n    dynamodb:", "  ddb:\n    schema: x.sql\n    dynamodb:"), @r"
    m/x.yaml:14:5: `schema` belongs to a `postgres` or `sqlite` store
      hint: describe the tables under `dynamodb: { tables: … }`
    ");
    assert_snapshot!(refused("key: pk, sort_key: sk", "file: t.json, key: pk, sort_key: sk"), @r"
    m/x.yaml:16:45: the table `${table}` has both `file` and `key`
      hint: the file says the key already; keep one of them
    ");
    assert_snapshot!(refused("key: pk, sort_key: sk", "file: t.json, sort_key: sk"), @r"
    m/x.yaml:16:45: `sort_key` has no place beside `file`
      hint: say it in the file
    ");
    assert_snapshot!(refused("{ key: pk, sort_key: sk, billing: on_demand }", "{ billing: on_demand }"), @r"
    m/x.yaml:16:17: the table `${table}` has neither `file` nor `key`
      hint: name a CreateTable request with `file`, or the partition key with `key`
    ");
    assert_snapshot!(refused("  from: { store: pg }", "  from: { store: pgg }"), @r"
    m/x.yaml:18:18: there is no store `pgg`
      hint: did you mean `pg`?
    ");
    assert_snapshot!(refused("      store: ddb\n      table", "      store: dynamo\n      table"), @r"
    m/x.yaml:35:14: there is no store `dynamo`
      hint: stores: `ddb`, `pg`
    ");
    assert_snapshot!(refused("    postgres: \"${database}\"", "    postgres: { host: a, port: 70000 }"), @r"
    m/x.yaml:11:32: `port` is too large: 70000
      hint: it is at least 1 and at most 65535
    ");
    assert_snapshot!(text_refused("migration: x\nstores: {}\nflows: { f: {} }\n"), @r"
    m/x.yaml:2:9: `stores` has nothing in it
      hint: name at least one
    ");
}

#[test]
fn flows_and_their_order() {
    assert_snapshot!(refused("    after: [users]", "    after: [user]"), @r"
    m/x.yaml:43:13: there is no flow `user`
      hint: did you mean `users`?
    ");
    assert_snapshot!(refused("    after: [users]", "    after: [orders]"), @r"
    m/x.yaml:43:13: the flow `orders` waits for itself
      hint: leave it out of its own `after`
    ");
    assert_snapshot!(refused("    group: people", "    group: people\n    after: [orders]"), @r"
    m/x.yaml:22:5: flows wait for each other in a circle: `users` after `orders` after `users`
      hint: take one `after` out of the circle
    ");
    assert_snapshot!(refused("    after: [users]", "    after: everything"), @r"
    m/x.yaml:43:12: `after` must be `all` or a list, not `everything`
      hint: write `after: [everything]`
    ");
    assert_snapshot!(refused("    group: people", "    group: orders"), @r"
    m/x.yaml:21:12: the group `orders` has the name of a flow that is not in it
      hint: give the group a name of its own, so that `--only` is clear
    ");
    assert_snapshot!(text_refused("migration: x\nstores: { a: { postgres: b } }\nflows: {}\n"), @r"
    m/x.yaml:3:8: `flows` has nothing in it
      hint: name at least one
    ");
    assert_snapshot!(text_refused("migration: x\nstores: { a: { postgres: b } }\nflows:\n"), @r"
    m/x.yaml:3:1: `flows` must be a mapping, not nothing
      hint: write its value after `flows:`
    ");
    assert_snapshot!(refused("      table: users\n", "      table: users\n      query: SELECT 1\n"), @r"
    m/x.yaml:24:7: `from` of the flow `users` has both `table` and `query`
      hint: keep one of them
    ");
    assert_snapshot!(refused("{slice}\"", "{slice} OR {slice}\""), @r"
    m/x.yaml:44:59: `{slice}` stands in the query twice
      hint: keep the one that should be restricted
    ");
    assert_snapshot!(refused("into: { store: ddb, table: \"${table}\", key: pk, mode: skip_existing }", "into: []"), @r"
    m/x.yaml:45:11: the list `into` is empty
      hint: name at least one, or leave the key out
    ");
    assert_snapshot!(refused("into: { store: ddb, table: \"${table}\", key: pk, mode: skip_existing }", "into: [{ store: ddb, table: a }, { store: ddd, table: b }]"), @r"
    m/x.yaml:45:47: there is no store `ddd`
      hint: did you mean `ddb`?
    ");
    assert_snapshot!(refused("key: [pk, sk]", "key: []"), @r"
    m/x.yaml:37:12: the list `key` is empty
      hint: name at least one, or leave the key out
    ");
}

#[test]
fn checks_and_verify_rules() {
    assert_snapshot!(refused("{ required: [id, name] }", "{ required: [id, createdat] }"), @r"
    m/x.yaml:29:26: `required` names `createdat`, and `columns` calls it `createdAt`
      hint: did you mean `createdAt`?
    ");
    assert_snapshot!(refused("{ required: [id, name] }", "{ else: nothing }"), @r"
    m/x.yaml:29:9: a check has neither `expect` nor `required`
      hint: add one of them
    ");
    assert_snapshot!(refused("{ required: [id, name] }", "{ required: [id], expect: \"a\" }"), @r"
    m/x.yaml:29:27: a check has both `expect` and `required`
      hint: make them two checks
    ");
    assert_snapshot!(refused("{ required: [id, name] }", "{ required: [id], else: \"a\" }"), @r"
    m/x.yaml:29:27: `else` belongs to `expect`
      hint: `required` has a message of its own; leave `else` out
    ");
    assert_snapshot!(refused("only: [people]", "only: [peoples]"), @r"
    m/x.yaml:48:27: there is no flow and no group `peoples`
      hint: did you mean `people`?
    ");
    assert_snapshot!(refused("{ count: true, only: [people] }", "{ only: [people] }"), @r"
    m/x.yaml:48:5: a verify rule has no kind
      hint: give it one of `count: true`, `records`, `sql`, `compare`, `not_empty`, `json`, `overlap` and `latency`
    ");
    assert_snapshot!(refused("{ count: true, only: [people] }", "{ count: false }"), @r"
    m/x.yaml:48:5: a verify rule has no kind
      hint: give it one of `count: true`, `records`, `sql`, `compare`, `not_empty`, `json`, `overlap` and `latency`
    ");
}

#[test]
fn names_and_keys() {
    assert_snapshot!(refused("migration: shop", "migration: my shop"), @r"
    m/x.yaml:1:12: `my shop` cannot be a name for `migration`
      hint: a name begins with a letter and has letters, digits, `_` and `-`, at most 64 characters
    ");
    assert_snapshot!(refused("  orders:\n", "  or.ders:\n"), @r"
    m/x.yaml:42:3: `or.ders` cannot be a name in `flows`
      hint: a name begins with a letter and has letters, digits, `_` and `-`, at most 64 characters
    ");
    assert_snapshot!(refused("  user_id: \"42\"", "  user-id: \"42\""), @r"
    m/x.yaml:4:3: `user-id` cannot be a name in `variables`
      hint: a name begins with a letter and has letters, digits and `_`, at most 64 characters
    ");
    assert_snapshot!(refused("  demo: {", "  de/mo: {"), @r"
    m/x.yaml:8:3: `de/mo` cannot be a name in `environments`
      hint: a name begins with a letter and has letters, digits, `_` and `-`, at most 64 characters
    ");
    assert_snapshot!(refused("    group: people", "    group: \"the people\""), @r"
    m/x.yaml:21:12: `the people` cannot be a name for `group`
      hint: a name begins with a letter and has letters, digits, `_` and `-`, at most 64 characters
    ");
    assert_snapshot!(refused("  orders:\n", "  users:\n"), @r"
    m/x.yaml:42:3: the key `users` is there twice
      hint: the first one is in line 20; keep one of them
    ");
    assert_snapshot!(refused("      mode: upsert\n", "      mode: upsert\n      mode: insert\n"), @r"
    m/x.yaml:39:7: the key `mode` is there twice
      hint: the first one is in line 38; keep one of them
    ");
    assert_snapshot!(refused("  user_id: \"42\"", "  run_id: \"42\"\n  user_id: \"42\""), @r"
    m/x.yaml:4:3: `run_id` is a variable that whimbrel gives itself
      hint: choose another name, `my_run_id`
    ");
    assert_snapshot!(refused("  user_id: \"42\"", "  [a, b]: \"42\""), @r#"
    m/x.yaml:4:3: a key must be a name, not a list
      hint: `${…}` at the beginning of a value needs quotes: "${name}"
    "#);
}

#[test]
fn numbers_and_times() {
    assert_snapshot!(refused("max_reject_rate: 0.05", "max_reject_rate: 1e999"), @r"
    m/x.yaml:49:43: `max_reject_rate` is too large: 1e+999
      hint: it is at least 0 and at most 1
    ");
    assert_snapshot!(refused("retry_for: 5m", "retry_for: 5 minutes"), @r"
    m/x.yaml:49:22: `retry_for` cannot be `5 minutes`
      hint: a stretch of time is a whole number with `ms`, `s`, `m`, `h` or `d`, as in `5m`
    ");
    assert_snapshot!(refused("retry_for: 5m", "retry_for: 5"), @r"
    m/x.yaml:49:22: `retry_for` must be text, not a number
      hint: write its unit: `5s`, `5m`, `5h`
    ");
    assert_snapshot!(refused("retry_for: 5m", "retry_for: -5m"), @r"
    m/x.yaml:49:22: `retry_for` cannot be `-5m`
      hint: a stretch of time is a whole number with `ms`, `s`, `m`, `h` or `d`, as in `5m`
    ");
    assert_snapshot!(refused("max_reject_rate: 0.05", "max_reject_rate: -0.1"), @r"
    m/x.yaml:49:43: `max_reject_rate` is too small: -0.1
      hint: it is at least 0 and at most 1
    ");
    assert_snapshot!(refused("max_reject_rate: 0.05", "max_reject_rate: 5"), @r"
    m/x.yaml:49:43: `max_reject_rate` is too large: 5
      hint: it is at least 0 and at most 1
    ");
    assert_snapshot!(refused("{ records: 25 }", "{ records: 0 }"), @r"
    m/x.yaml:41:25: `records` is too small: 0
      hint: it is at least 1 and at most 1000000
    ");
    assert_snapshot!(refused("{ records: 25 }", "{ records: 99999999999999 }"), @r"
    m/x.yaml:41:25: `records` is too large: 99999999999999
      hint: it is at least 1 and at most 1000000
    ");
}

#[test]
fn text_that_is_no_spec() {
    assert_snapshot!(refused("    schema: schema.sql", "    schema: { a: ${database} }"), @r#"
    m/x.yaml:12:19: not valid YAML: while parsing a flow mapping, did not find expected ',' or '}'
      hint: count the brackets; between `{ }` and `[ ]` a value with brackets or commas needs quotes: "${name}"
    "#);
    assert_snapshot!(text_refused(""), @r"
    m/x.yaml:1:1: the spec is empty
      hint: begin with `migration: NAME`, then `stores` and `flows`
    ");
    assert_snapshot!(text_refused("# only a comment\n"), @r"
    m/x.yaml:1:1: the spec is empty
      hint: begin with `migration: NAME`, then `stores` and `flows`
    ");
    assert_snapshot!(text_refused("- a\n- b\n"), @r"
    m/x.yaml:1:1: the spec must be a mapping, not a list
      hint: its keys: `migration`, `variables`, `environments`, `stores`, `defaults`, `flows`, `unmatched`, `verify`, `limits`, `prices`, `undo`
    ");
    assert_snapshot!(text_refused("just text\n"), @r"
    m/x.yaml:1:1: the spec must be a mapping, not text
      hint: its keys: `migration`, `variables`, `environments`, `stores`, `defaults`, `flows`, `unmatched`, `verify`, `limits`, `prices`, `undo`
    ");
    assert_snapshot!(refused("  user_id: \"42\"", "\tuser_id: \"42\""), @r"
    m/x.yaml:4:2: not valid YAML: tabs disallowed within this context (block indentation)
      hint: YAML is indented with spaces; replace the tab
    ");
    assert_snapshot!(refused("    sample: \"{name}\"", "    sample: \"{name}"), @r"
    m/x.yaml:34:5: not valid YAML: invalid indentation in multiline quoted scalar
      hint: check the indentation and the quotes here and on the line before
    ");
    assert_snapshot!(refused("only: [people] }", "only: [people }"), @r#"
    m/x.yaml:48:26: not valid YAML: mismatched bracket '[' closed by '}'
      hint: count the brackets; between `{ }` and `[ ]` a value with brackets or commas needs quotes: "${name}"
    "#);
    assert_snapshot!(refused("  user_id: \"42\"", "  user_id: {env:X}}"), @r#"
    m/x.yaml:4:19: not valid YAML: misplaced bracket
      hint: count the brackets; between `{ }` and `[ ]` a value with brackets or commas needs quotes: "${name}"
    "#);
    assert_snapshot!(refused("postgres: \"${database}\"", "postgres: *url"), @r"
    m/x.yaml:11:15: not valid YAML: while parsing node, found unknown anchor
      hint: an alias `*name` needs an anchor `&name` before it
    ");
    assert_snapshot!(refused("undo: false\n", "undo: false\n---\na: b\n"), @r"
    m/x.yaml:51:1: a second document begins here
      hint: a spec is one YAML document; move the second one into a file of its own
    ");
    assert_snapshot!(refused("  user_id: \"42\"", "  user_id: !secret \"42\""), @r"
    m/x.yaml:4:20: the tag `!secret` means nothing here
      hint: leave the tag out; text that begins with `!` needs quotes
    ");
    assert_snapshot!(refused("  user_id: \"42\"", "  <<: 42"), @r"
    m/x.yaml:4:7: `<<` merges mappings only
      hint: write `<<: *name` of an anchored mapping
    ");
    assert_snapshot!(refused("migration: shop", "migration: shop: two"), @r"
    m/x.yaml:1:16: not valid YAML: mapping values are not allowed in this context
      hint: text with `: ` in it needs quotes; else check the indentation
    ");
    assert_snapshot!(refused("migration: shop", "migration: @shop"), @r"
    m/x.yaml:1:12: not valid YAML: unexpected character: `@'
      hint: text that begins with a special character needs quotes
    ");
}

#[test]
fn the_last_of_several_needs_an_order() {
    let into = |keys: &str| refused("      key: [pk, sk]", &format!("      {keys}"));
    assert_snapshot!(into("on_duplicate: last"), @r"
    m/x.yaml:37:7: `on_duplicate: last` does not say by what
      hint: add `order: [column, …]`: the record with the greatest value wins, with ` desc` the least
    ");
    assert_snapshot!(into("order: [updated_at]"), @r"
    m/x.yaml:37:7: `order` belongs to `on_duplicate: last`
      hint: add `on_duplicate: last`, or leave `order` out
    ");
    assert_snapshot!(into("on_duplicate: reject\n      order: updated_at"), @r"
    m/x.yaml:38:7: `order` belongs to `on_duplicate: last`
      hint: add `on_duplicate: last`, or leave `order` out
    ");
    assert_snapshot!(into("on_duplicate: { last: updated_at }"), @r"
    m/x.yaml:37:21: `on_duplicate` must be `reject` or `last`, not a mapping
      hint: `whimbrel schema` describes it
    ");
    assert_snapshot!(into("on_duplicate: newest"), @r"
    m/x.yaml:37:21: `on_duplicate` cannot be `newest`
      hint: values of `on_duplicate`: `reject`, `last`
    ");
    assert_snapshot!(into("on_duplicate: last\n      order: []"), @r"
    m/x.yaml:38:14: the list `order` is empty
      hint: name at least one, or leave the key out
    ");
    assert_snapshot!(into("on_duplicate: last\n      order: [a desc, b, a]"), @r"
    m/x.yaml:38:26: `order` names `a` twice
      hint: keep one of them
    ");
    assert_snapshot!(into("on_duplicate: last\n      order: [a, '']"), @r"
    m/x.yaml:38:18: a column of `order` has no name
      hint: name a column, or leave it out
    ");
    assert_snapshot!(into("on_duplicate: last\n      order: { a: desc }"), @r"
    m/x.yaml:38:14: `order` must be text or a list, not a mapping
      hint: begin each entry with `- `
    ");
    for right in ["order: at", "order: at desc", "order: [at DESC, n asc, \"the time\"]"] {
        assert_eq!(into(&format!("on_duplicate: last\n      {right}")), "accepted");
    }
}

#[test]
fn scope() {
    let into = |keys: &str| refused("      key: [pk, sk]", &format!("      {keys}"));
    assert_snapshot!(into("scope: { user_id: $user }"), @r"
    m/x.yaml:37:25: there is no variable `user` for the parameter `$user`
      hint: did you mean `user_id`?
    ");
    assert_snapshot!(into("scope: { user_id: \"${user_id}\" }"), @r"
    m/x.yaml:37:25: `user_id` cannot be `${user_id}`
      hint: write `$name` of a variable alone, or the text itself; `$$` in front stands for `$`
    ");
    assert_snapshot!(into("scope: { user_id: $user_id-x }"), @r"
    m/x.yaml:37:25: `user_id` cannot be `$user_id-x`
      hint: write `$name` of a variable alone, or the text itself; `$$` in front stands for `$`
    ");
    assert_snapshot!(into("scope: { user_id: [a] }"), @r"
    m/x.yaml:37:25: `user_id` must be text, a number or true or false, not a list
      hint: `whimbrel schema` describes it
    ");
    assert_snapshot!(into("scope: { user_id: }"), @r"
    m/x.yaml:37:16: `user_id` must be text, a number or true or false, not nothing
      hint: write its value after `user_id:`
    ");
    assert_snapshot!(into("scope: {}"), @r"
    m/x.yaml:37:14: a flow's `scope` has nothing in it
      hint: name at least one
    ");
    assert_snapshot!(into("scope: user_id"), @r"
    m/x.yaml:37:14: `scope` must be a mapping, not text
      hint: `whimbrel schema` describes it
    ");
    for right in ["$user_id", "acme", "42", "true", "$$5", "a$b"] {
        assert_eq!(into(&format!("scope: {{ user_id: {right} }}")), "accepted");
    }
}

#[test]
fn what_each_kind_of_store_can_be_read_by() {
    assert_snapshot!(refused("  from: { store: pg }", "  from: { store: ddb }"), @r"
    m/x.yaml:44:13: the store `ddb` is `dynamodb`, which answers no `query`
      hint: name its `table`, and which of its items with `where`
    ");
    let table = changed(BASE, "  from: { store: pg }", "  from: { store: ddb }");
    assert_eq!(
        text_refused(&changed(&table, "query: \"SELECT * FROM orders WHERE {slice}\"", "table: orders")),
        "accepted"
    );
}

#[test]
fn units_of_a_run() {
    assert_eq!(refused("retry_for: 5m", "max_write_units: 100, max_read_units: 0.5"), "accepted");
    assert_snapshot!(refused("retry_for: 5m", "max_write_units: -1"), @r"
    m/x.yaml:49:28: `max_write_units` is too small: -1
      hint: it is at least 0
    ");
    assert_snapshot!(refused("retry_for: 5m", "max_read_units: \"100\""), @r"
    m/x.yaml:49:27: `max_read_units` must be a number, not text
      hint: leave the quotes out: 100
    ");
    assert_snapshot!(refused("retry_for: 5m", "max_read_unit: 100"), @r"
    m/x.yaml:49:11: unknown key `max_read_unit` in `limits`
      hint: did you mean `max_read_units`?
    ");
}

#[test]
fn files_are_named_by_path() {
    let files = |from: &str, into: &str| {
        text_refused(&format!(
            "migration: m\nstores:\n  pg: {{ postgres: \"postgres://h/d\" }}\n  dump: {{ files: out/ }}\nflows:\n  f:\n    from: {from}\n    into: {into}\n"
        ))
    };
    let (pg, dump) = ("{ store: pg, table: t }", "{ store: dump, path: t.json }");
    assert_eq!(files(pg, dump), "accepted");
    assert_eq!(files(dump, pg), "accepted");
    assert_snapshot!(files(pg, "{ store: dump, table: t }"), @r"
    m/x.yaml:8:26: the store `dump` is `files`, which has no `table`
      hint: name a file below the store's root: `path: users.parquet`
    ");
    assert_snapshot!(files(pg, "{ store: dump }"), @r"
    m/x.yaml:8:11: no file of the store `dump` is named
      hint: say which: `path: users.parquet`
    ");
    assert_snapshot!(files("{ store: dump, query: SELECT 1 }", dump), @r"
    m/x.yaml:7:26: the store `dump` is `files`, which has no `query`
      hint: name a file below the store's root: `path: users.parquet`
    ");
    assert_snapshot!(files("{ store: pg, path: t.json }", dump), @r"
    m/x.yaml:7:24: `path` names a file, and the store `pg` is not `files`
      hint: name its `table`
    ");
    assert_snapshot!(files("{ store: dump, path: t.json, table: t }", pg), @r"
    m/x.yaml:7:40: `table` has no place beside `path`
      hint: name a file below the store's root: `path: users.parquet`
    ");
    assert_snapshot!(refused("    schema: schema.sql", "    format: csv"), @r"
    m/x.yaml:12:5: `format` belongs to a `files` store
      hint: leave it out
    ");
}

#[test]
fn collections_belong_to_chroma() {
    let spec = |store: &str, from: &str, into: &str| {
        format!(
            "migration: m\nstores:\n  pg: {{ postgres: \"postgres://h/d\" }}\n  vec: {{ {store} }}\nflows:\n  f:\n    from: {{ {from} }}\n    into: {{ {into} }}\n"
        )
    };
    let vec = "chroma: data/c";
    let pg = "store: pg, table: t";
    for (store, from, into, said) in [
        (vec, "store: vec, table: t", pg, "`chroma`, which has no `table`"),
        (vec, "store: vec", pg, "no collection of the store `vec` is named"),
        (vec, "store: pg, collection: t", pg, "the store `pg` is not `chroma`"),
        (vec, "store: vec, collection: t, query: SELECT 1", pg, "`query` has no place beside `collection`"),
        (vec, "store: pg, table: t", "store: vec, table: t", "to which nothing is ever written"),
        ("chroma: { path: c, lost: maybe }", "store: vec, collection: t", pg, "`lost`"),
        (
            "chroma: c, schema: s.sql",
            "store: vec, collection: t",
            pg,
            "nothing is made in a Chroma directory",
        ),
    ] {
        let refusal = text_refused(&spec(store, from, into));
        assert!(refusal.contains(said), "{said}: {refusal}");
    }
}

/// Whatever is cut off or left out: an error has a place and a hint, and the schema allows nothing that cannot
/// be read.
#[test]
fn a_mutilated_spec_is_refused_at_a_place() {
    let lines: Vec<&str> = BASE.lines().collect();
    let without = (0..lines.len()).map(|gone| {
        let kept = lines.iter().enumerate().filter(|(index, _)| *index != gone).map(|(_, line)| *line);
        kept.collect::<Vec<_>>().join("\n")
    });
    let cut = BASE.char_indices().step_by(5).map(|(at, _)| BASE[..at].to_owned());
    let spaced =
        BASE.match_indices(' ').step_by(3).map(|(at, _)| format!("{}{}", &BASE[..at], &BASE[at + 1..]));
    let mut refused = 0;
    for text in without.chain(cut).chain(spaced) {
        let Err(error) = whimbrel_spec::parse(&text, "x.yaml") else { continue };
        refused += 1;
        assert!(error.position().is_some() && !error.hint().is_empty(), "{text}\n{error}");
        assert!(!error.message().contains("cannot be read"), "{text}\n{error}");
    }
    assert!(refused > 300, "{refused}");
}
