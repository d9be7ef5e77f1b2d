//! What a spec comes out as.

use crate::changed;
use async_trait::async_trait;
use insta::{assert_json_snapshot, assert_snapshot};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use whimbrel_spec::resolved::{
    AssertKind, AssertRule, Check, Expected, OnDuplicate, ParameterValue, Relate, Relation, StoreKind,
    Unmatched, VerifyRule, WriteMode,
};
use whimbrel_spec::{Choices, Found, Position, Provider, ProviderError, Providers, Resolved};

const SPEC: &str = r#"migration: shop
variables:
  table: "${env:TABLE:-shop-${environment}}"
  tenant: { default: "t'1", oneof: ["t'1", t2] }
  limit: 007
  big: 12345678901234567890.10
  password: { default: "${env:PGPASSWORD:-${prompt:Password}}", secret: true }
  never: "${prompt:Never asked}"
environments:
  live: { default: true, protected: true, variables: { host: "db.example.com:5433" } }
  demo: { variables: { host: "embedded:data/shop.pg", table: shop-demo } }
stores:
  pg:
    postgres: { host: "${host}", user: "${env:PGUSER:-}", password: "${password}", database: shop, sslrootcert: certs/ca.pem }
    schema: schema.sql
  ddb:
    dynamodb: { endpoint: "${env:ENDPOINT:-}", region: eu-west-1, tables: { "${table}": { file: table.json }, "$${x}": { key: { name: id, type: number } } } }
  unused: { postgres: "${never}" }
defaults:
  from: { store: pg, slice_by: id }
  into: { store: ddb, table: "${table}", key: [pk, sk], mode: upsert }
flows:
  late:
    after: all
    from: { query: "SELECT * FROM late WHERE tenant = $tenant AND {slice}" }
    into: { mode: skip_existing }
  messages:
    after: [conversations]
    group: talk
    from: &messages
      table: messages
      where: |
        tenant = $tenant
          AND n < $limit -- not $never
    columns: { body: json }
    checks:
      - { expect: "length(body) < $big", else: "too long: {id}" }
      - required: [id, body]
    transform: SELECT 1 AS pk FROM input
    into:
      - { as: { at: rfc3339_nanos }, nulls: null, batch: { records: 10 } }
      - { store: pg, table: copies, key: id, mode: update, on_duplicate: last, order: [at DESC, the time], scope: { tenant: $tenant, owner: $limit, price: $$5, n: 7 } }
  conversations:
    group: talk
    from: { <<: *messages, table: conversations }
    into: {}
  repair: { manual: true, from: { store: unused, table: t }, into: { store: unused } }
unmatched: ignore
verify: [{ count: true, only: [talk], name: all there }]
limits: { stall_after: 1h30m, max_reject_rate: 0.25, max_write_units: 1e6 }
"#;

/// Answers from a table and notes what it was asked.
#[derive(Clone)]
struct Table {
    name: &'static str,
    values: BTreeMap<&'static str, &'static str>,
    asked: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl Provider for Table {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn lookup(&self, argument: &str) -> Result<Option<Found>, ProviderError> {
        self.asked.lock().unwrap().push(format!("{}:{argument}", self.name));
        let secret = self.name == "prompt";
        Ok(self.values.get(argument).map(|value| Found { value: (*value).to_owned(), secret }))
    }
}

struct Outcome {
    resolved: Resolved,
    asked: Vec<String>,
    folder: tempfile::TempDir,
}

fn resolve(text: &str, env: &[(&'static str, &'static str)], choices: &Choices) -> Outcome {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("schema.sql"), "CREATE TABLE t (id int)").unwrap();
    std::fs::write(folder.path().join("table.json"), "{}").unwrap();
    let path = folder.path().join("shop.yaml");
    std::fs::write(&path, text).unwrap();
    let spec = whimbrel_spec::load(&path).unwrap();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let env = Table { name: "env", values: env.iter().copied().collect(), asked: Arc::clone(&asked) };
    let prompt =
        Table { name: "prompt", values: [("Password", "s3cret/ä")].into(), asked: Arc::clone(&asked) };
    let providers = Providers::new(folder.path()).with(env).with(prompt);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let resolved = runtime.block_on(whimbrel_spec::resolve(&spec, choices, &providers)).unwrap();
    let asked = asked.lock().unwrap().clone();
    Outcome { resolved, asked, folder }
}

fn names(resolved: &Resolved) -> Vec<&str> {
    resolved.flows.iter().map(|flow| flow.name.as_str()).collect()
}

fn only(names: &[&str]) -> Choices {
    Choices { only: Some(names.iter().map(|name| (*name).to_owned()).collect()), ..Choices::default() }
}

#[test]
fn flows_come_in_order_with_defaults_and_lists_expanded() {
    let Outcome { resolved, .. } = resolve(SPEC, &[], &Choices::default());
    assert_eq!(names(&resolved), ["conversations", "messages.1", "messages.2", "late"]);
    let after = |index: usize| {
        resolved.flows[index].after.iter().map(|name| name.as_str().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(after(1), ["conversations"]);
    assert_eq!(after(3), ["conversations", "messages.1", "messages.2"]);
    let [conversations, first, second, late] = resolved.flows.as_slice() else {
        panic!("{:?}", names(&resolved))
    };
    assert_eq!(first.scan, second.scan);
    assert_eq!(first.scan.as_str(), "messages");
    assert_eq!(
        (first.into.store.as_str(), first.into.table.as_str(), first.into.mode),
        ("ddb", "shop-live", WriteMode::Upsert)
    );
    assert_eq!(
        (second.into.store.as_str(), second.into.table.as_str(), second.into.mode),
        ("pg", "copies", WriteMode::Update)
    );
    assert_eq!(second.into.key, ["id"]);
    assert_eq!(first.into.forms, BTreeMap::from([("at".to_owned(), "rfc3339_nanos".to_owned())]));
    assert_eq!((first.into.batch_records, second.into.batch_records), (Some(10), None));
    assert_eq!(first.into.nulls, whimbrel_spec::resolved::NullRule::Null);
    assert_eq!(late.into.mode, WriteMode::SkipExisting);
    assert!(matches!(&late.from.relation, Relation::Query(query) if query.text.contains("{slice}")));
    assert_eq!(conversations.from.relation, Relation::Table("conversations".to_owned()));
    assert_eq!(conversations.from.filter, first.from.filter);
    assert_eq!(conversations.from.slice_by, ["id"]);
    assert_eq!(first.columns, BTreeMap::from([("body".to_owned(), "json".to_owned())]));
    assert_eq!(resolved.unmatched, Unmatched::Ignore);
    assert_eq!(
        resolved.verify,
        [VerifyRule::Count { name: Some("all there".to_owned()), only: vec!["talk".to_owned()] }]
    );
    assert_eq!(resolved.limits.stall_after, Duration::from_mins(90));
    assert_eq!(resolved.limits.retry_for, Duration::from_mins(5));
    assert_eq!(resolved.limits.max_reject_rate, Some(0.25));
    assert_eq!((resolved.limits.max_write_units, resolved.limits.max_read_units), (Some(1e6), None));
    assert_eq!((resolved.environment.as_deref(), resolved.protected), (Some("live"), true));
}

#[test]
fn parameters_are_those_of_the_flow_and_numbers_keep_their_digits() {
    let Outcome { resolved, .. } = resolve(SPEC, &[], &Choices::default());
    let parameters = |index: usize| {
        let values = resolved.flows[index].parameters.iter();
        values.map(|(name, value)| format!("{name}={}", value.0)).collect::<Vec<_>>()
    };
    assert_eq!(parameters(1), ["big=12345678901234567890.10", "limit=007", "tenant=t'1"]);
    assert_eq!(parameters(3), ["tenant=t'1"]);
}

#[test]
fn duplicates_have_an_order_and_tenants_their_values() {
    let Outcome { resolved, .. } = resolve(SPEC, &[], &Choices::default());
    let (first, second) = (&resolved.flows[1].into, &resolved.flows[2].into);
    assert_eq!((first.on_duplicate, first.order.as_slice()), (OnDuplicate::Reject, [].as_slice()));
    assert!(first.scope.is_empty());
    assert_eq!(second.on_duplicate, OnDuplicate::Last);
    let order: Vec<_> = second.order.iter().map(|by| (by.column.as_str(), by.descending)).collect();
    assert_eq!(order, [("at", true), ("the time", false)]);
    let scope: Vec<_> = second.scope.iter().map(|(column, value)| format!("{column}={}", value.0)).collect();
    assert_eq!(scope, ["n=7", "owner=007", "price=$5", "tenant=t'1"]);
}

#[test]
fn sql_knows_where_it_stands() {
    let Outcome { resolved, .. } = resolve(SPEC, &[], &Choices::default());
    let flow = &resolved.flows[1];
    let line_of = |text: &str| SPEC.lines().position(|line| line.contains(text)).unwrap() + 1;
    let filter = flow.from.filter.as_ref().unwrap();
    assert_eq!(filter.span.at(2, 3), Position { line: line_of("AND n <"), column: 11 });
    let Check::Expect { sql, message } = &flow.checks[0] else { panic!("{:?}", flow.checks) };
    assert_eq!(sql.span.at(1, 1), Position { line: line_of("length(body)"), column: 20 });
    assert_eq!(message.as_deref(), Some("too long: {id}"));
    let line = line_of("required: [id, body]");
    assert_eq!(
        flow.checks[1..],
        [
            Check::Required { column: "id".to_owned(), position: Position { line, column: 20 } },
            Check::Required { column: "body".to_owned(), position: Position { line, column: 24 } },
        ]
    );
}

#[test]
fn stores_have_their_values_and_absolute_paths() {
    let Outcome { resolved, folder, .. } =
        resolve(SPEC, &[("PGPASSWORD", "pw"), ("TABLE", "")], &Choices::default());
    let path = |name: &str| folder.path().join(name).display().to_string();
    let stores: Vec<_> = resolved.stores.keys().map(|name| name.as_str()).collect();
    assert_eq!(stores, ["ddb", "pg"]);
    let pg = &resolved.stores[&"pg".into()];
    assert_eq!(pg.kind, StoreKind::Postgres);
    let expected = json!({ "host": "db.example.com:5433", "password": "pw", "database": "shop", "sslrootcert": path("certs/ca.pem") });
    assert_eq!(pg.config, expected);
    assert_eq!(pg.schema_file, Some(folder.path().join("schema.sql")));
    let ddb = &resolved.stores[&"ddb".into()];
    assert_eq!(ddb.kind, StoreKind::DynamoDb);
    let tables = json!({ "shop-live": { "file": path("table.json") }, "${x}": { "key": { "name": "id", "type": "number" } } });
    assert_eq!(ddb.config, json!({ "region": "eu-west-1", "tables": tables }));
}

#[test]
fn an_embedded_host_asks_for_nothing_else() {
    let choices = Choices { environment: Some("demo".to_owned()), ..Choices::default() };
    let Outcome { resolved, asked, .. } = resolve(SPEC, &[], &choices);
    assert_eq!(resolved.stores[&"pg".into()].config, json!("embedded:data/shop.pg"));
    assert_eq!(asked, ["env:ENDPOINT"]);
    assert!(!resolved.protected);
}

#[test]
fn only_what_is_needed_is_asked_for_and_only_once() {
    let Outcome { asked, .. } = resolve(SPEC, &[], &Choices::default());
    assert_eq!(asked, ["env:ENDPOINT", "env:TABLE", "env:PGUSER", "env:PGPASSWORD", "prompt:Password"]);
    let set =
        [("password", "given"), ("table", "given")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    let choices = Choices { set: set.into(), ..Choices::default() };
    let Outcome { asked, resolved, .. } = resolve(SPEC, &[], &choices);
    assert_eq!(asked, ["env:ENDPOINT", "env:PGUSER"]);
    assert_eq!(resolved.flows[0].into.table, "given");
}

#[test]
fn a_selection_names_flows_groups_and_targets() {
    let chosen = |only_names: &[&str]| {
        let Outcome { resolved, .. } = resolve(SPEC, &[], &only(only_names));
        let stores: Vec<_> = resolved.stores.keys().map(|name| name.as_str().to_owned()).collect();
        format!("{} from {}", names(&resolved).join(" "), stores.join(" "))
    };
    assert_eq!(chosen(&["talk"]), "conversations messages.1 messages.2 from ddb pg");
    assert_eq!(chosen(&["messages.2"]), "messages.2 from pg");
    assert_eq!(chosen(&["late", "conversations"]), "conversations late from ddb pg");
    let Outcome { resolved: alone, .. } = resolve(SPEC, &[], &only(&["messages"]));
    assert!(alone.flows[0].after.is_empty(), "a flow that was not chosen is not waited for");
    let manual = changed(
        SPEC,
        "  unused: { postgres: \"${never}\" }",
        "  unused: { postgres: \"postgres://u:a%20b@h/d\" }",
    );
    let Outcome { resolved, .. } = resolve(&manual, &[], &only(&["repair"]));
    assert_eq!(names(&resolved), ["repair"]);
    assert_eq!(resolved.secrets.redact("a b, a%20b, postgres://u:x@h"), "***, ***, postgres://u:***@h");
}

#[test]
fn secrets_are_known_and_shown_nowhere() {
    let Outcome { resolved, .. } = resolve(SPEC, &[], &Choices::default());
    assert_eq!(resolved.secrets.redact("s3cret/ä or s3cret%2F%C3%A4"), "*** or ***");
    let debug = format!("{resolved:?}");
    assert!(debug.contains("messages.1"), "{debug}");
    assert!(!debug.contains("s3cret"), "{debug}");
    assert!(!debug.contains("t'1"), "the values of parameters are not shown: {debug}");
}

#[test]
fn the_digest_follows_the_text_and_the_files_that_it_names() {
    let first = resolve(SPEC, &[], &Choices::default()).resolved.digest;
    assert_eq!(first, resolve(SPEC, &[], &Choices::default()).resolved.digest);
    assert_eq!(first.len(), 64);
    let text = resolve(&format!("{SPEC}\n"), &[], &Choices::default()).resolved.digest;
    assert_ne!(first, text);
    let other_file = changed(SPEC, "    schema: schema.sql\n", "    schema: table.json\n");
    assert_ne!(resolve(&other_file, &[], &Choices::default()).resolved.digest, text);
}

#[test]
fn environments_are_listed_in_order() {
    let spec = whimbrel_spec::parse(SPEC, "x.yaml").unwrap();
    let shown: Vec<_> = spec
        .environments()
        .into_iter()
        .map(|e| {
            format!("{} default={} protected={} embedded={}", e.name, e.default, e.protected, e.embedded)
        })
        .collect();
    assert_snapshot!(shown.join("\n"), @r"
    live default=true protected=true embedded=false
    demo default=false protected=false embedded=true
    ");
    assert_eq!(spec.embedded_environment().as_deref(), Some("demo"));
    assert_eq!(spec.variable_names(), ["big", "host", "limit", "never", "password", "table", "tenant"]);
    let line = SPEC.lines().position(|line| line.contains("store: pg, table: copies")).unwrap() + 1;
    assert_eq!(spec.position(&["flows", "messages", "into", "1", "table"]), Position { line, column: 29 });
    assert_eq!(
        spec.key_position(&["flows", "messages", "into", "1", "table"]),
        Position { line, column: 22 }
    );
}

#[test]
fn built_in_variables_and_files_have_values() {
    let spec = changed(
        SPEC,
        "  never: \"${prompt:Never asked}\"",
        "  never: \"postgres://u:${file:table.json}@h/${run_id}-${run_started:-x}${working_folder}\"",
    );
    let choices = Choices {
        run_id: Some("r1".to_owned()),
        working_folder: Some("/home/w".to_owned()),
        ..only(&["repair"])
    };
    let Outcome { resolved, .. } = resolve(&spec, &[], &choices);
    assert_eq!(resolved.stores[&"unused".into()].config, json!("postgres://u:{}@h/r1-x/home/w"));
    assert_eq!(resolved.secrets.redact("a {} b"), "a *** b");
}

#[test]
fn the_schema_says_what_words_mean() {
    let schema = whimbrel_spec::json_schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_json_snapshot!(schema["$defs"]["WriteMode"], @r#"
    {
      "oneOf": [
        {
          "type": "string",
          "const": "insert",
          "description": "It is a reject."
        },
        {
          "type": "string",
          "const": "upsert",
          "description": "It takes the place of what the key held."
        },
        {
          "type": "string",
          "const": "skip_existing",
          "description": "It is skipped."
        },
        {
          "type": "string",
          "const": "changed",
          "description": "It is written where its content differs."
        },
        {
          "type": "string",
          "const": "update",
          "description": "Its columns are set where the target still holds the same-named values that were read."
        }
      ],
      "description": "What becomes of a record whose key the target holds already."
    }
    "#);
    assert_json_snapshot!(schema["$defs"]["After"], @r#"
    {
      "anyOf": [
        {
          "type": "string",
          "const": "all"
        },
        {
          "type": "array",
          "items": {
            "type": "string"
          }
        }
      ]
    }
    "#);
}

const VERIFIED: &str = r#"migration: shop
variables: { table: shop.items, user_id: "42", empty: "" }
stores: { pg: { postgres: "postgres://db.example.com/shop" }, ddb: { dynamodb: { region: us-east-1 } } }
flows:
  users: { from: { store: pg, table: users }, into: { store: ddb, table: "${table}" } }
verify:
  - { records: all, name: everything }
  - { records: 1000, only: [users] }
  - { sql: "SELECT count(*) FROM ddb.\"${table}\" WHERE id = $user_id", greater: $user_id, less_or_equal: 1.50 }
  - { sql: "SELECT 1", store: pg, no_rows: true, name: none }
  - { compare: totals, by: id, left: "SELECT 1 AS id", right: "SELECT $user_id AS id" }
  - { not_empty: ["ddb.${table}.pk", shop.pk, pg.public.users.id], equals: $user_id }
  - { json: "${table}.body" }
"#;

#[test]
fn rules_of_verification_have_their_values() {
    let Outcome { resolved, .. } = resolve(VERIFIED, &[], &Choices::default());
    let (all, some, asserted) = match resolved.verify.as_slice() {
        [
            VerifyRule::Records { name, sample: None, .. },
            VerifyRule::Records { sample, only, .. },
            rest @ ..,
        ] => (name.as_deref(), (sample, only.as_slice()), rest),
        other => panic!("{other:?}"),
    };
    assert_eq!((all, some), (Some("everything"), (&Some(1000), ["users".to_owned()].as_slice())));
    let rules: Vec<&AssertRule> = asserted
        .iter()
        .map(|rule| match rule {
            VerifyRule::Assert(rule) => rule.as_ref(),
            other => panic!("{other:?}"),
        })
        .collect();
    let names: Vec<&str> = rules.iter().map(|rule| rule.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "sql: SELECT count(*) FROM ddb.\"${table}\" WHERE id = $user_id",
            "none",
            "totals",
            "not empty: shop.items.pk, shop.pk, public.users.id",
            "JSON: shop.items.body",
        ]
    );
    let value = |text: &str| ParameterValue(text.to_owned());
    let AssertKind::Sql { store: None, query, expected } = &rules[0].kind else { panic!("{:?}", rules[0]) };
    assert_eq!(query.parameters, BTreeMap::from([("user_id".to_owned(), value("42"))]));
    assert_eq!(query.tables, BTreeMap::from([("table".to_owned(), "shop.items".to_owned())]));
    let between = vec![(Relate::LessOrEqual, value("1.50")), (Relate::Greater, value("42"))];
    assert_eq!(expected, &Expected::Value(between));
    let AssertKind::Sql { store: Some(store), expected: Expected::NoRows, .. } = &rules[1].kind else {
        panic!("{:?}", rules[1])
    };
    assert_eq!(store.as_str(), "pg");
    assert!(matches!(&rules[2].kind, AssertKind::Compare { by, left, right }
            if by == &["id"] && left.parameters.is_empty() && right.parameters.len() == 1));
    let AssertKind::NotEmpty { columns, equals } = &rules[3].kind else { panic!("{:?}", rules[3]) };
    assert_eq!(equals, &Some(value("42")));
    let places: Vec<_> =
        columns.iter().map(|at| (at.store.as_str(), at.table.as_str(), at.column.as_str())).collect();
    assert_eq!(places, [("ddb", "shop.items", "pk"), ("ddb", "shop", "pk"), ("pg", "public.users", "id")]);
    assert_eq!(rules[4].position, Position { line: 13, column: 5 });
}

#[test]
fn elements_and_shapes_have_their_places() {
    let text = "migration: m
stores: { dump: { files: . } }
flows:
  tokens:
    from: { store: dump, path: a.json, each: '$.*.tokens[*]', key_as: project }
    into: { store: dump, path: b.json, shape: { object_by: project } }
";
    let resolved = resolve(text, &[], &Choices::default()).resolved;
    let flow = &resolved.flows[0];
    let each = flow.from.each.as_ref().unwrap();
    assert_eq!((each.text.as_str(), each.key_as.as_deref()), ("$.*.tokens[*]", Some("project")));
    assert_eq!((each.path.column.as_deref(), each.path.steps.len()), (None, 3));
    assert_eq!(each.position, Position { line: 5, column: 46 });
    assert_eq!(flow.into.shape.as_ref().unwrap().object_by.as_deref(), Some("project"));
}

#[test]
fn a_sqlite_file_is_relative_to_the_spec() {
    let text = "\
migration: m
variables: { dataset: golden }
stores:
  lite: { sqlite: 'data/items_${dataset}.db', schema: schema.sql }
  other: { sqlite: 'sqlite:b.db' }
flows: { t: { from: { store: other, table: t }, into: { store: lite, table: t } } }
";
    let Outcome { resolved, folder, .. } = resolve(text, &[], &Choices::default());
    let lite = &resolved.stores[&"lite".into()];
    assert_eq!(lite.kind, StoreKind::Sqlite);
    assert_eq!(lite.config, json!(folder.path().join("data/items_golden.db").display().to_string()));
    assert_eq!(lite.schema_file, Some(folder.path().join("schema.sql")));
    let other = &resolved.stores[&"other".into()];
    assert_eq!(other.config, json!(folder.path().join("b.db").display().to_string()));
}

#[test]
fn a_chroma_directory_is_relative_to_the_spec_and_its_collection_is_a_relation() {
    let text = "\
migration: m
stores:
  vec: { chroma: 'data/chroma' }
  parts: { chroma: { path: c, tenant: acme, lost: null } }
  pg: { postgres: 'postgres://h/d' }
flows:
  a: { from: { store: vec, collection: docs }, into: { store: pg, table: docs } }
  b: { from: { store: parts, collection: acme/db/docs }, into: { store: pg, table: more } }
";
    let Outcome { resolved, folder, .. } = resolve(text, &[], &Choices::default());
    let vec = &resolved.stores[&"vec".into()];
    let path = |name: &str| folder.path().join(name).display().to_string();
    assert_eq!((vec.kind, &vec.config), (StoreKind::Chroma, &json!({ "path": path("data/chroma") })));
    let parts = &resolved.stores[&"parts".into()];
    assert_eq!(parts.config, json!({ "path": path("c"), "tenant": "acme", "lost": null }));
    assert_eq!(resolved.flows[1].from.relation, Relation::Table("acme/db/docs".to_owned()));
}

#[test]
fn a_chroma_server_is_named_by_its_url_and_its_token_is_secret() {
    let text = "\
migration: m
stores:
  vec: { chroma: 'http://h:8000' }
  copied: { chroma: 'chroma+https://h/c' }
  parts: { chroma: { url: 'https://h', token: 'hush hush', path: '' } }
  user: { chroma: { url: 'https://h', user: us, password: whisper } }
  pg: { postgres: 'postgres://h/d' }
flows:
  a: { from: { store: vec, collection: docs }, into: { store: pg, table: a } }
  b: { from: { store: copied, collection: docs }, into: { store: pg, table: b } }
  c: { from: { store: parts, collection: docs }, into: { store: pg, table: c } }
  d: { from: { store: user, collection: docs }, into: { store: pg, table: d } }
";
    let Outcome { resolved, .. } = resolve(text, &[], &Choices::default());
    let config = |name: &str| &resolved.stores[&name.into()].config;
    assert_eq!(*config("vec"), json!({ "url": "http://h:8000" }));
    assert_eq!(*config("copied"), json!({ "url": "https://h/c" }));
    assert_eq!(config("parts")["url"], "https://h");
    assert_eq!(resolved.secrets.redact("hush hush, hush%20hush, whisper"), "***, ***, ***");
    let debug = format!("{resolved:?}");
    assert!(!debug.contains("hush hush") && !debug.contains("whisper"), "{debug}");
}
