//! Specs that must be expressible: those of the design, and those that come with whimbrel.

use std::path::{Path, PathBuf};
use whimbrel_spec::resolved::Relation;
use whimbrel_spec::{Choices, Providers};

/// The example of ARCHITECTURE.md with its messages written out, as far as it can run today.
const CONTRAMATE: &str = r##"
migration: contramate
variables: { table: "${env:DYNAMODB_TABLE_NAME:-ConversationTable}" }
environments:
  demo: { variables: { endpoint: "embedded:data/contramate.dynamodb", database: "embedded:data/contramate.pg" } }
  live: { default: true, variables: { endpoint: "${env:AWS_ENDPOINT_URL_DYNAMODB:-}", database: "${env:DATABASE_URL}" } }
stores:
  app:  { dynamodb: { endpoint: "${endpoint}" } }
  main: { postgres: "${database}" }
flows:
  conversations:
    from: { store: app, table: "${table}", where: "starts_with(sk, 'CONV#')" }
    columns: { filterValues: json, isActive: boolean }
    checks:
      - { expect: "is_uuid(substr(sk, 6))", else: "Invalid UUID format: {sk}" }
      - { required: [userId, createdAt, updatedAt] }
    transform: |
      SELECT substr(sk, 6) AS id, "userId" AS user_id, title, "filterValues" AS filter_values,
             coalesce("isActive", true) AS is_active, "createdAt" AS created_at, "updatedAt" AS updated_at
      FROM input
    into: { store: main, table: conversations, key: [id], mode: upsert }
  messages:
    after: [conversations]
    from: { store: app, table: "${table}", where: "starts_with(sk, 'MSG#')" }
    checks:
      - { expect: "is_uuid(split_part(sk, '#', 3))", else: "Invalid UUID format: {sk}" }
    sample: "{role} message in conv {conversation_id}"
    into: { store: main, table: messages, key: [id], mode: upsert, ignore: [updated_at, "questions[*].updated_at"] }
verify: [ { count: true } ]
"##;

fn resolve(spec: &whimbrel_spec::Spec, environment: &str) -> whimbrel_spec::Resolved {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let choices = Choices { environment: Some(environment.to_owned()), ..Choices::default() };
    let providers = Providers::new(spec.base_dir());
    let resolved = runtime.block_on(whimbrel_spec::resolve(spec, &choices, &providers));
    resolved.unwrap_or_else(|error| panic!("{error}\n{}", error.hint()))
}

#[test]
fn contramate() {
    let spec = whimbrel_spec::parse(CONTRAMATE, "contramate.yaml").unwrap();
    let resolved = resolve(&spec, "demo");
    assert_eq!(resolved.flows.len(), 2);
    assert_eq!(resolved.flows[0].from.relation, resolved.flows[1].from.relation);
    assert!(matches!(&resolved.flows[0].from.relation, Relation::Table(_)));
    assert_eq!(resolved.stores[&"app".into()].config["endpoint"], "embedded:data/contramate.dynamodb");
}

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../migrations/{name}/{name}.yaml"))
}

#[test]
fn the_migrations_as_they_are_shipped() {
    for (name, store, flows, rules) in
        [("contramate", "main", 2, 6), ("cello", "pg", 2, 3), ("ratel", "pg", 10, 5)]
    {
        let spec =
            whimbrel_spec::load(shipped(name)).unwrap_or_else(|error| panic!("{error}\n{}", error.hint()));
        assert_eq!(spec.embedded_environment().as_deref(), Some("demo"));
        let resolved = resolve(&spec, "demo");
        assert!(resolved.flows.len() >= flows, "{name}: {} flows", resolved.flows.len());
        assert_eq!(resolved.stores[&store.into()].config, format!("embedded:data/{name}.pg"));
        assert_eq!(resolved.verify.len(), rules, "{name}");
    }
}
