//! A migration made for the tests: two flows, several slices, records that are left out, dropped and rejected.

use crate::items::{self, Items};
use crate::place::Place;
use pglite_oxide::PgliteServer;
use serde_json::Value;
use whimbrel_model::StoreName;
use whimbrel_postgres::{PostgresConfig, PostgresStore};
use whimbrel_store::Store;

/// Rows of the table `parcels`.
pub const PARCELS: u64 = 11_000;
/// Rows of the table `senders`.
pub const SENDERS: u64 = 6_000;
/// Parcels whose kind the flow's `where` leaves out.
const DRAFTS: u64 = PARCELS / 11;
/// What must become of the parcels: read, filtered, rejected.
pub const READ: u64 = PARCELS - DRAFTS;
/// Parcels that the transform drops: every hundredth, unless it is a draft.
pub const FILTERED: u64 = PARCELS / 100 - PARCELS / 1100;
/// Parcels whose weight has too many digits: every 997th, unless it is a draft or dropped.
pub const TOO_HEAVY: u64 = 10;
/// Parcels without a title: every 1,009th, with the same exceptions.
pub const UNTITLED: u64 = 10;
/// Both.
pub const REJECTED: u64 = TOO_HEAVY + UNTITLED;

/// The spec's variables have defaults that fit `--env demo`.
pub const SPEC: &str = r#"
migration: parcels
# Where everything goes, and how long a weight may be.
variables: { digits: "4", table: parcels }
environments:
  demo:
    variables: { source: "embedded:data/parcels.pg", items: "embedded:data/parcels.dynamodb" }
  live:
    default: true
    variables: { source: "${env:DATABASE_URL}", items: "${env:AWS_ENDPOINT_URL_DYNAMODB:-}" }
stores:
  pg: { postgres: "${source}" }
  ddb: { dynamodb: { endpoint: "${items}", region: us-east-1, tables: { "${table}": { file: parcels.json } } } }
defaults:
  from: { store: pg }
  into: { store: ddb, table: "${table}", key: [pk, sk] }
limits: { retry_for: 2s }
flows:
  senders:
    from: { table: senders }
    transform: SELECT 'SENDER#' || id AS pk, 'PROFILE' AS sk, name, joined_at FROM input
    into: { mode: upsert, as: { joined_at: rfc3339_nanos } }
  parcels:
    from: { table: parcels, where: "kind <> 'draft'" }
    checks:
      - { expect: "title <> ''", else: "Parcel {id} has no title" }
    transform: |
      SELECT 'SENDER#' || sender AS pk, 'PARCEL#' || id AS sk, kind, title, details,
             fixed_width(weight, 4) AS weight
      FROM input WHERE kind <> 'lost'
    into: { mode: skip_existing }
"#;

pub const TABLE: &str = r#"{
  "TableName": "parcels", "BillingMode": "PAY_PER_REQUEST",
  "AttributeDefinitions": [{ "AttributeName": "pk", "AttributeType": "S" }, { "AttributeName": "sk", "AttributeType": "S" }],
  "KeySchema": [{ "AttributeName": "pk", "KeyType": "HASH" }, { "AttributeName": "sk", "KeyType": "RANGE" }]
}"#;

/// What fills a source with so many parcels and senders.
pub fn sql(parcels: u64, senders: u64) -> String {
    format!(
        "CREATE TABLE senders (id bigint PRIMARY KEY, name text NOT NULL, joined_at timestamptz NOT NULL);
         CREATE TABLE parcels (id bigint PRIMARY KEY, sender bigint NOT NULL, kind text NOT NULL, title text NOT NULL,
                               weight bigint NOT NULL, details jsonb);
         INSERT INTO senders SELECT k, 'sender ' || k, timestamptz '2024-01-01 00:00:00.000001+00' + k * interval '1 minute'
         FROM generate_series(1, {senders}) AS k;
         INSERT INTO parcels
         SELECT k, 1 + k % {senders}, CASE WHEN k % 11 = 0 THEN 'draft' WHEN k % 100 = 0 THEN 'lost' ELSE 'sent' END,
                CASE WHEN k % 1009 = 0 THEN '' ELSE 'parcel ' || md5(k::text) END,
                CASE WHEN k % 997 = 0 THEN 10000 + k ELSE k % 10000 END,
                jsonb_build_object('number', k, 'tags', jsonb_build_array('a', k % 7), 'note', repeat('x', k % 50))
         FROM generate_series(1, {parcels}) AS k;
         ANALYZE;"
    )
}

/// A folder with the spec and a filled source.
pub fn place() -> Place {
    let place = Place::new();
    write(&place);
    fill(&place, "data/parcels.pg", &sql(PARCELS, SENDERS));
    place
}

/// The spec, and the table that it makes.
pub fn write(place: &Place) {
    place.write("parcels.yaml", SPEC);
    place.write("parcels.json", TABLE);
}

/// The items of the target under `--env demo`.
pub fn items(place: &Place) -> Items {
    items::in_file(&place.path("data/parcels.dynamodb"), "parcels")
}

/// Makes an embedded PostgreSQL in a folder of the place and runs a script there.
pub fn fill(place: &Place, folder: &str, script: &str) {
    let folder = place.path(folder);
    std::fs::create_dir_all(folder.parent().expect("data has a folder")).expect("the folder can be made");
    // A unix socket's path is short on every system, so it does not lie beside the data.
    let socket = tempfile::tempdir().expect("a temporary folder");
    let path = socket.path().join(".s.PGSQL.5432");
    let server = PgliteServer::builder().path(folder).unix(path).start().expect("the embedded server starts");
    let url = Value::String(server.database_url());
    let config = PostgresConfig::from_value(&url).expect("its URL").embedded();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let store = PostgresStore::new(StoreName::new("pg"), config);
        store.execute_script(script).await.expect("the script runs");
        store.close().await;
    });
    server.shutdown().expect("the embedded server stops");
}
