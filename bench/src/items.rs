//! The records: posts of a social platform, about 290 bytes each as DynamoDB counts them, in eight attributes.

use crate::Result;
use serde_json::{Value, json};
use tokio_postgres::{Client, Config, NoTls};

/// The database that is made on the server.
const DATABASE: &str = "whimbrel_bench";
/// The target table's name.
pub(crate) const TABLE: &str = "bench_items";
/// The target table's keys.
pub(crate) const PARTITION_KEY: &str = "pk";
/// See [`PARTITION_KEY`].
pub(crate) const SORT_KEY: &str = "sk";

/// How an item follows from a row.
pub(crate) const TRANSFORM: &str = "SELECT 'FEED#' || id AS pk, 'METADATA' AS sk, 'FEED' AS type, \
                                    id, author_id, created_at, title, html_contents FROM input";

/// The columns, as they are read raw.
pub(crate) const COLUMNS: &str = "id, author_id, created_at, title, html_contents";

/// What makes the table of rows.
pub(crate) const SCHEMA: &str = "CREATE TABLE items (id bigint PRIMARY KEY, author_id bigint NOT NULL, \
                      created_at bigint NOT NULL, title text NOT NULL, html_contents text NOT NULL)";

/// The spec that moves the rows of a database into the table of an endpoint; `into` is how they are written there, as
/// in `mode: upsert`.
pub(crate) fn spec(database: &str, endpoint: &str, into: &str) -> String {
    // Strings of JSON are strings of YAML.
    let (database, endpoint) = (Value::from(database), Value::from(endpoint));
    format!(
        "migration: bench
stores:
  pg: {{ postgres: {database} }}
  ddb:
    dynamodb:
      endpoint: {endpoint}
      region: us-east-1
      tables: {{ {TABLE}: {{ key: {PARTITION_KEY}, sort_key: {SORT_KEY}, billing: on_demand }} }}
limits: {{ retry_for: 15s }}
flows:
  items:
    from: {{ store: pg, table: items }}
    transform: \"{TRANSFORM}\"
    into: {{ store: ddb, table: {TABLE}, key: [{PARTITION_KEY}, {SORT_KEY}], {into} }}
"
    )
}

/// Connects to the database with the rows; its errors end the client's requests.
pub(crate) async fn connect(server: &str) -> Result<Client> {
    let mut config: Config = server.parse()?;
    config.dbname(DATABASE);
    open(&config).await
}

async fn open(config: &Config) -> Result<Client> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// The URL of the database with the rows.
pub(crate) fn url(server: &str) -> Result<String> {
    url_of(server, DATABASE)
}

/// The URL of another database of the server.
pub(crate) fn url_of(server: &str, database: &str) -> Result<String> {
    let (base, rest) = server.rsplit_once('/').ok_or("a PostgreSQL URL with a database is expected")?;
    let parameters = rest.split_once('?').map_or(String::new(), |(_, parameters)| format!("?{parameters}"));
    Ok(format!("{base}/{database}{parameters}"))
}

/// Makes the rows, where they are not there from an earlier start.
pub(crate) async fn fill(server: &str, rows: u64) -> Result<()> {
    let rows = i64::try_from(rows)?;
    let admin = open(&server.parse()?).await?;
    let known = admin.query_opt("SELECT 1 FROM pg_database WHERE datname = $1", &[&DATABASE]).await?;
    if known.is_some() {
        let client = connect(server).await?;
        let there = client.query_one("SELECT to_regclass('items') IS NOT NULL", &[]).await?;
        if there.get::<_, bool>(0) {
            let count: i64 = client.query_one("SELECT count(*) FROM items", &[]).await?.get(0);
            if count == rows {
                return Ok(());
            }
        }
    }
    crate::say(&format!("filling PostgreSQL with {rows} rows …"));
    admin.batch_execute(&format!("DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")).await?;
    admin.batch_execute(&format!("CREATE DATABASE {DATABASE}")).await?;
    let client = connect(server).await?;
    client.batch_execute(SCHEMA).await?;
    client
        .batch_execute(&format!(
            "INSERT INTO items SELECT k, 1 + k % 100003, 1688169600 + k, \
             'Post ' || k || ': ' || md5(k::text), repeat(md5((k * 7)::text), 5) \
             FROM generate_series(1, {rows}) AS k"
        ))
        .await?;
    // Afterwards nobody writes while others measure: hint bits, visibility map, statistics.
    client.batch_execute("VACUUM (ANALYZE) items").await?;
    client.batch_execute("CHECKPOINT").await?;
    Ok(())
}

/// An item as the DynamoDB API has it; the same as that of row `k` in shape and size.
pub(crate) fn item(k: u64) -> Value {
    let digest = format!("{:032x}", u128::from(k).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
    json!({
        "pk": {"S": format!("FEED#{k}")}, "sk": {"S": "METADATA"}, "type": {"S": "FEED"},
        "id": {"N": k.to_string()}, "author_id": {"N": (1 + k % 100_003).to_string()},
        "created_at": {"N": (1_688_169_600 + k).to_string()},
        "title": {"S": format!("Post {k}: {digest}")},
        "html_contents": {"S": digest.repeat(5)},
    })
}

/// The key of the item of a number.
pub(crate) fn key(k: u64) -> Value {
    json!({PARTITION_KEY: {"S": format!("FEED#{k}")}, SORT_KEY: {"S": "METADATA"}})
}

/// The number that a partition key was made of.
pub(crate) fn number_of(partition_key: &str) -> Option<u64> {
    partition_key.strip_prefix("FEED#")?.parse().ok()
}

/// The table's key, as the API has it.
pub(crate) fn key_schema() -> Value {
    let key = |name, role| json!({"AttributeName": name, "KeyType": role});
    json!([key(PARTITION_KEY, "HASH"), key(SORT_KEY, "RANGE")])
}

/// The types of the key's attributes.
pub(crate) fn attribute_definitions() -> Value {
    let attribute = |name| json!({"AttributeName": name, "AttributeType": "S"});
    json!([attribute(PARTITION_KEY), attribute(SORT_KEY)])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As DynamoDB counts: names and texts by byte, numbers by two digits and one byte more.
    fn size(item: &Value) -> usize {
        let value = |value: &Value| match (&value["S"], &value["N"]) {
            (Value::String(text), _) => text.len(),
            (_, Value::String(digits)) => digits.len().div_ceil(2) + 1,
            _ => 0,
        };
        item.as_object().unwrap().iter().map(|(name, content)| name.len() + value(content)).sum()
    }

    #[test]
    fn items_have_the_size_that_is_promised() {
        for k in [10_000, 99_999, 5_000_000, 1_000_000_001] {
            let item = item(k);
            assert_eq!(item.as_object().unwrap().len(), 8);
            assert!((280..=300).contains(&size(&item)), "{} bytes", size(&item));
        }
    }

    #[test]
    fn the_database_takes_the_place_of_the_servers_own() {
        let of = |server| url(server).unwrap();
        assert_eq!(of("postgresql://a@h:1/postgres"), "postgresql://a@h:1/whimbrel_bench");
        assert_eq!(
            of("postgresql://a@h:1/x?sslmode=disable"),
            "postgresql://a@h:1/whimbrel_bench?sslmode=disable"
        );
    }
}
