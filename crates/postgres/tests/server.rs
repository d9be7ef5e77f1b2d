//! Servers to test against.

use futures::TryStreamExt as _;
use futures::future::LocalBoxFuture;
use pglite_oxide::PgliteServer;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio_postgres::NoTls;
use whimbrel_model::{Cursor, SlicePart, StoreName, record};
use whimbrel_postgres::PostgresConfig;
use whimbrel_postgres::PostgresStore;
use whimbrel_postgres::config::{Host, SslMode};
use whimbrel_store::conformance::context;
use whimbrel_store::{ReadBatch, ReadRequest, Relation, Source, Store as _};

pub const REAL_SERVER: &str = "WHIMBREL_TEST_POSTGRES_URL";

/// A database of its own on some server.
pub struct Fixture {
    pub store: PostgresStore,
    pub config: PostgresConfig,
}

impl Fixture {
    pub fn new(config: PostgresConfig) -> Self {
        Self { store: PostgresStore::new(StoreName::new("pg"), config.clone()), config }
    }

    pub async fn run(&self, sql: &str) {
        self.store.execute_script(sql).await.unwrap_or_else(|error| panic!("{error}: {:?}", error));
    }

    pub fn table(&self, name: &str) -> Arc<dyn Source> {
        self.store.source(request(Relation::Table(name.to_owned()))).expect("a source")
    }

    /// Where the server listens, for a proxy that stands before it.
    pub fn address(&self) -> String {
        match &self.config.host {
            Host::Tcp(host) => format!("{host}:{}", self.config.port),
            Host::Unix(_) => panic!("no proxy stands before a socket: name the server by host and port"),
        }
    }

    /// The same database by way of a proxy on this machine.
    pub fn by_way_of(&self, port: u16) -> PostgresStore {
        let host = Host::Tcp("127.0.0.1".to_owned());
        let config = PostgresConfig { host, port, ssl_mode: SslMode::Disable, ..self.config.clone() };
        PostgresStore::new(StoreName::new("pg"), config)
    }

    pub fn query(&self, sql: &str, slice_by: &[&str]) -> Arc<dyn Source> {
        let mut request = request(Relation::Query(sql.to_owned()));
        request.slice_by = slice_by.iter().map(|name| (*name).to_owned()).collect();
        self.store.source(request).expect("a source")
    }
}

pub fn request(relation: Relation) -> ReadRequest {
    ReadRequest {
        relation,
        slice_by: Vec::new(),
        columns: BTreeMap::new(),
        parameters: BTreeMap::new(),
        wanted: None,
        condition: None,
        wants_all: false,
        whole: false,
        batch_records: 100,
        batch_bytes: 1 << 20,
    }
}

/// Runs a test against the embedded server and, where there is one, the real one.
pub async fn on_each_server(test: impl for<'a> Fn(&'a Fixture) -> LocalBoxFuture<'a, ()>) {
    on_embedded_server(&test).await;
    on_real_server(&test).await;
}

/// Runs a test against an embedded server: one connection.
pub async fn on_embedded_server(test: impl for<'a> Fn(&'a Fixture) -> LocalBoxFuture<'a, ()>) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    // A unix socket: over TCP this server answers small queries forty milliseconds late.
    let folder = std::env::temp_dir().join(format!("whimbrel-{}-{number}", std::process::id()));
    let socket = folder.join(".s.PGSQL.5432");
    let start =
        move || PgliteServer::builder().temporary().unix(socket).start().expect("the embedded server starts");
    let server = tokio::task::spawn_blocking(start).await.expect("no panic");
    let config =
        PostgresConfig::from_value(&Value::String(server.database_url())).expect("its URL can be read");
    let fixture = Fixture::new(config.embedded());
    test(&fixture).await;
    fixture.store.close().await;
    let stopped = tokio::task::spawn_blocking(move || server.shutdown()).await.expect("no panic");
    stopped.expect("the embedded server survived the test");
    std::fs::remove_dir_all(folder).expect("the socket's folder can go");
}

/// Runs a test in a new database of the real server, where there is one.
pub async fn on_real_server(test: impl for<'a> Fn(&'a Fixture) -> LocalBoxFuture<'a, ()>) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let Ok(url) = std::env::var(REAL_SERVER) else { return };
    let (admin, connection) = tokio_postgres::connect(&url, NoTls).await.expect("the real server");
    let driver = tokio::spawn(connection);
    let name = format!("whimbrel_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    admin.batch_execute(&format!("CREATE DATABASE {name}")).await.expect("a database of our own");
    let mut config = PostgresConfig::from_value(&Value::String(url)).expect("its URL can be read");
    config.database.clone_from(&name);
    let fixture = Fixture::new(config);
    test(&fixture).await;
    fixture.store.close().await;
    admin.batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await.expect("dropped");
    drop(admin);
    driver.await.expect("no panic").expect("a clean end");
}

/// A connection beside the store's own, to a real server.
pub async fn beside(fixture: &Fixture) -> tokio_postgres::Client {
    let url = std::env::var(REAL_SERVER).expect("a real server");
    let mut config: tokio_postgres::Config = url.parse().expect("its URL can be read");
    config.dbname(&fixture.config.database);
    let (client, connection) = config.connect(NoTls).await.expect("a second connection");
    tokio::spawn(connection);
    client
}

/// Ends all sessions of the database but the one that asks, and waits until they are gone.
pub async fn end_other_sessions(client: &tokio_postgres::Client) {
    const OTHERS: &str =
        "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    client.query(&format!("SELECT pg_terminate_backend(pid) {OTHERS}"), &[]).await.expect("a superuser");
    let left = async || {
        let count = client.query_one(&format!("SELECT count(*) {OTHERS}"), &[]).await.expect("a count");
        count.get::<_, i64>(0)
    };
    while left().await > 0 {}
}

pub async fn read(source: &dyn Source, part: &SlicePart, after: Option<&Cursor>) -> Vec<ReadBatch> {
    let stream = source.read(part, after, &context()).await.expect("a stream");
    stream.try_collect().await.expect("the stream ends well")
}

/// All records of a source, in the order of its slices.
pub async fn read_all(source: &dyn Source, wanted: usize) -> Vec<ReadBatch> {
    let mut all = Vec::new();
    for part in source.slices(wanted).await.expect("slices") {
        all.extend(read(source, &part, None).await);
    }
    all
}

/// One column of all batches, value by value.
pub fn column(batches: &[ReadBatch], name: &str) -> Vec<Value> {
    let values = |batch: &ReadBatch| {
        let column = Arc::clone(batch.records.column_by_name(name).expect("the column is there"));
        (0..column.len()).map(move |row| record::value_to_json(&column, row)).collect::<Vec<_>>()
    };
    batches.iter().flat_map(values).collect()
}
