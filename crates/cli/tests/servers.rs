//! The program on real servers, native PostgreSQL and Amazon's DynamoDB Local: what the embedded databases cannot
//! show. Each test has a database and tables of its own, and removes them.
//!
//! `cargo xtask test` starts both servers; where their variables are not set, the tests say that they are left out.

use crate::items::{self, Items};
use crate::parcels;
use crate::place::{Ended, Place, Running};
use crate::redaction::redacted;
use aws_sdk_dynamodb::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_dynamodb::types::AttributeValue;
use aws_sdk_dynamodb::{Client, Config};
use insta::assert_snapshot;
use serde_json::{Map, Value, json};
use std::cell::RefCell;
use std::io::Write;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::runtime::Runtime;
use tokio_postgres::{NoTls, SimpleQueryMessage};

mod allowed;
mod chroma;
mod faults;
mod gate;
mod indexes;
mod kills;
mod late_keys;
mod modes;
mod oddities;
mod permissions;
mod refusals;
mod shipped;
mod sqlite;
mod undoing;
mod verify;
mod whole;

const POSTGRES: &str = "WHIMBREL_TEST_POSTGRES_URL";
const DYNAMODB: &str = "WHIMBREL_TEST_DYNAMODB_ENDPOINT";

/// A folder to work in, a database, and tables.
pub struct Live {
    pub place: Place,
    pub database: Database,
    pub tables: Tables,
}

impl Live {
    /// `None` where a server is missing, which is said.
    pub fn new() -> Option<Self> {
        let server = |name| match std::env::var(name) {
            Ok(url) if !url.is_empty() => Some(url),
            _ => {
                writeln!(std::io::stdout(), "skipped: {name} names no server").expect("it can be said");
                None
            }
        };
        let (postgres, dynamodb) = (server(POSTGRES)?, server(DYNAMODB)?);
        let name = unique_name();
        Some(Self {
            place: Place::new(),
            database: Database::make(&postgres, &name),
            tables: Tables::at(&dynamodb, &name),
        })
    }

    /// The same with the migration `parcels`, its source holding so many of each.
    pub fn with_parcels(parcels: u64, senders: u64) -> Option<Self> {
        let live = Self::new()?;
        parcels::write(&live.place);
        live.database.script(&parcels::sql(parcels, senders));
        Some(live)
    }

    /// What the program finds in its environment: the servers, and credentials that DynamoDB Local takes as it
    /// takes any.
    pub fn surroundings(&self, command: &mut Command) {
        command
            .env("DATABASE_URL", self.database.url())
            .env("AWS_ENDPOINT_URL_DYNAMODB", &self.tables.endpoint)
            .env("AWS_ACCESS_KEY_ID", "nobody")
            .env("AWS_SECRET_ACCESS_KEY", "nothing")
            .env("AWS_REGION", "us-east-1");
    }

    pub fn start(&self, arguments: &[&str]) -> Running {
        self.place.start_with(arguments, |command| self.surroundings(command))
    }

    pub fn run(&self, arguments: &[&str]) -> Ended {
        self.start(arguments).wait()
    }
}

/// A name that nothing else uses, also on servers that outlive the test.
fn unique_name() -> String {
    static NUMBER: AtomicUsize = AtomicUsize::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos();
    format!("program_{}_{now}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// A database of its own; it and the roles made for it go with the test.
pub struct Database {
    server: String,
    name: String,
    roles: RefCell<Vec<String>>,
    runtime: Runtime,
}

impl Database {
    fn make(server: &str, name: &str) -> Self {
        let (server, name) = (server.to_owned(), name.to_owned());
        let database = Self { server, name, roles: RefCell::default(), runtime: runtime() };
        database.on_server(&format!("CREATE DATABASE {}", database.name));
        database
    }

    pub fn url(&self) -> String {
        self.url_of(&self.name)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The URL of another database of the same server.
    pub fn url_of(&self, name: &str) -> String {
        let (base, query) = self.server.split_once('?').unwrap_or((&self.server, ""));
        let (server, _) = base.rsplit_once('/').expect("the server's URL names a database");
        format!("{server}/{name}?{query}")
    }

    /// The same database as another role sees it, which is made here and may do what the script grants to `$role`.
    pub fn url_as_role(&self, script: &str) -> String {
        let role = format!("{}_role", self.name);
        self.script(&format!("CREATE ROLE {role} LOGIN; {}", script.replace("$role", &role)));
        self.roles.borrow_mut().push(role.clone());
        format!("{}&user={role}", self.url())
    }

    /// A copy of it, which goes with it.
    pub fn copy(&self) -> Self {
        let copy = Self {
            server: self.server.clone(),
            name: format!("{}_copy", self.name),
            roles: RefCell::default(),
            runtime: runtime(),
        };
        self.on_server(&format!("CREATE DATABASE {} TEMPLATE {}", copy.name, self.name));
        copy
    }

    /// Host and port, as one text.
    pub fn address(&self) -> String {
        let config: tokio_postgres::Config = self.server.parse().expect("the server's URL");
        let [tokio_postgres::config::Host::Tcp(host)] = config.get_hosts() else {
            panic!("one host is expected");
        };
        format!("{host}:{}", config.get_ports().first().copied().unwrap_or(5432))
    }

    pub fn script(&self, sql: &str) {
        self.ask(&self.name, sql);
    }

    /// The rows that a query gives, as PostgreSQL writes their values.
    pub fn rows(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        self.ask(&self.name, sql)
    }

    /// The first column of each row, a JSON document.
    pub fn documents(&self, sql: &str) -> Vec<Value> {
        let document = |row: Vec<Option<String>>| {
            let text = row.into_iter().next().flatten().expect("a document");
            serde_json::from_str(&text).expect("JSON")
        };
        self.rows(sql).into_iter().map(document).collect()
    }

    /// The first column of the one row, a number.
    pub fn number(&self, sql: &str) -> u64 {
        let rows = self.rows(sql);
        rows[0][0].as_ref().expect("a number").parse().expect("a number")
    }

    fn on_server(&self, sql: &str) {
        let config: tokio_postgres::Config = self.server.parse().expect("the server's URL");
        self.ask(config.get_dbname().expect("it names a database"), sql);
    }

    fn ask(&self, database: &str, sql: &str) -> Vec<Vec<Option<String>>> {
        let mut config: tokio_postgres::Config = self.server.parse().expect("the server's URL");
        config.dbname(database);
        let messages = self.runtime.block_on(async {
            let (client, connection) = config.connect(NoTls).await.expect("the server answers");
            let driver = tokio::spawn(connection);
            let messages = client.simple_query(sql).await;
            drop(client);
            driver.await.expect("no panic").expect("a clean end");
            messages.unwrap_or_else(|error| panic!("{sql}: {error:?}"))
        });
        let row = |message| match message {
            SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect())
            }
            _ => None,
        };
        messages.into_iter().filter_map(row).collect()
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A second panic would hide what the test found.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.remove()));
        } else {
            self.remove();
        }
    }
}

impl Database {
    fn remove(&self) {
        self.on_server(&format!("DROP DATABASE {} WITH (FORCE)", self.name));
        for role in self.roles.borrow().iter() {
            self.on_server(&format!("DROP ROLE {role}"));
        }
    }
}

/// Tables of a DynamoDB API whose names begin alike; they go with the test.
pub struct Tables {
    pub endpoint: String,
    prefix: String,
    client: Client,
    runtime: Runtime,
}

impl Tables {
    fn at(endpoint: &str, prefix: &str) -> Self {
        let config = Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(endpoint)
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new("nobody", "nothing", None, None, "test"))
            .build();
        Self {
            endpoint: endpoint.to_owned(),
            prefix: prefix.to_owned(),
            client: Client::from_conf(config),
            runtime: runtime(),
        }
    }

    /// The full name of a table.
    pub fn name(&self, table: &str) -> String {
        format!("{}.{table}", self.prefix)
    }

    /// Every item of a table, in DynamoDB's own JSON, but for binary values, which are in hexadecimal digits.
    pub fn scan(&self, table: &str) -> Vec<Value> {
        let (name, mut start, mut items) = (self.name(table), None, Vec::new());
        loop {
            let scan = self.client.scan().table_name(&name).set_exclusive_start_key(start);
            let scan = scan.consistent_read(true).send();
            let page = self.runtime.block_on(scan).expect("the table can be scanned");
            items.extend(page.items.unwrap_or_default().into_iter().map(document));
            start = page.last_evaluated_key;
            if start.is_none() {
                return items;
            }
        }
    }

    /// The same by the keys `pk` and `sk`.
    pub fn items(&self, table: &str) -> Items {
        let mut items = Items::new();
        self.scan(table).into_iter().for_each(|item| items::put(&mut items, item));
        items
    }

    pub fn delete(&self, table: &str) {
        self.delete_by_name(&self.name(table));
    }

    fn delete_by_name(&self, name: &str) {
        let deleted = self.client.delete_table().table_name(name).send();
        self.runtime.block_on(deleted).expect("the table can be deleted");
    }

    fn names(&self) -> Vec<String> {
        let (mut names, mut start) = (Vec::new(), None);
        loop {
            let list = self.client.list_tables().set_exclusive_start_table_name(start).send();
            let page = self.runtime.block_on(list).expect("the tables can be listed");
            names.extend(page.table_names.unwrap_or_default());
            start = page.last_evaluated_table_name;
            if start.is_none() {
                return names;
            }
        }
    }
}

impl Drop for Tables {
    fn drop(&mut self) {
        let remove = || {
            let ours = |name: &String| name.starts_with(&self.prefix);
            self.names().iter().filter(|name| ours(name)).for_each(|name| self.delete_by_name(name));
        };
        if std::thread::panicking() {
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(remove));
        } else {
            remove();
        }
    }
}

fn document(item: impl IntoIterator<Item = (String, AttributeValue)>) -> Value {
    item.into_iter().map(|(name, value)| (name, attribute(value))).collect::<Map<_, _>>().into()
}

fn attribute(value: AttributeValue) -> Value {
    let sorted = |mut texts: Vec<String>| {
        texts.sort();
        texts
    };
    let digits = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    match value {
        AttributeValue::S(text) => json!({ "S": text }),
        AttributeValue::N(text) => json!({ "N": text }),
        AttributeValue::Bool(value) => json!({ "BOOL": value }),
        AttributeValue::Null(value) => json!({ "NULL": value }),
        AttributeValue::B(bytes) => json!({ "B": digits(bytes.as_ref()) }),
        AttributeValue::L(values) => json!({ "L": values.into_iter().map(attribute).collect::<Vec<_>>() }),
        AttributeValue::M(values) => json!({ "M": document(values) }),
        AttributeValue::Ss(texts) => json!({ "SS": sorted(texts) }),
        AttributeValue::Ns(texts) => json!({ "NS": sorted(texts) }),
        other => panic!("nothing here writes {other:?}"),
    }
}

/// The error must be one, and as the snapshot of this name has it, but for the names that this test alone has.
#[track_caller]
fn assert_error(live: &Live, name: &str, ended: &Ended) {
    ended.one_error();
    let text = ended.err.replace(&live.tables.prefix, "[NAME]");
    redacted(|| assert_snapshot!(name, text));
}

/// What the items of `parcels` must be, as PostgreSQL itself says it of what the source holds.
pub fn expected_parcels(database: &Database) -> Items {
    let documents = database.documents(
        r#"SELECT jsonb_build_object(
             'pk', jsonb_build_object('S', 'SENDER#' || id), 'sk', jsonb_build_object('S', 'PROFILE'),
             'name', jsonb_build_object('S', name), 'joined_at', jsonb_build_object(
               'S', to_char(joined_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US') || '000Z'))
           FROM senders
           UNION ALL
           SELECT jsonb_build_object(
             'pk', jsonb_build_object('S', 'SENDER#' || sender), 'sk', jsonb_build_object('S', 'PARCEL#' || id),
             'kind', jsonb_build_object('S', kind), 'title', jsonb_build_object('S', title),
             'weight', jsonb_build_object('S', lpad(weight::text, 4, '0')),
             'details', jsonb_build_object('M', jsonb_build_object(
               'number', jsonb_build_object('N', details->>'number'),
               'tags', jsonb_build_object('L', jsonb_build_array(
                 jsonb_build_object('S', details->'tags'->>0), jsonb_build_object('N', details->'tags'->>1))),
               'note', jsonb_build_object('S', details->>'note'))))
           FROM parcels WHERE kind = 'sent' AND title <> '' AND weight < 10000"#,
    );
    let mut items = Items::new();
    documents.into_iter().for_each(|item| items::put(&mut items, item));
    items
}
