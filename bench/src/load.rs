//! What PostgreSQL takes at most: prepared rows in binary COPY, over a few connections, with nothing in between.

use crate::replay::PAGE_ITEMS;
use crate::template::{FIRST, Template};
use crate::{Result, items};
use axum::body::Bytes;
use futures::SinkExt as _;
use serde_json::Value;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tokio_postgres::{Client, Config, NoTls};

/// The database that is made on the server, anew for each measurement, and removed behind the last.
const DATABASE: &str = "whimbrel_bench_target";
/// The table's name.
pub(crate) const TABLE: &str = "posts";
/// Connections that write side by side.
const CONNECTIONS: u64 = 2;

const HEADER: &[u8; 19] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
const TRAILER: [u8; 2] = (-1_i16).to_be_bytes();

/// What becomes of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A row with all its attributes, under the same key.
    Whole,
    /// A typed row, its key a number made out of the text of the item's key: the way back of the other routes. That two
    /// items make one number cannot be ruled out, so that whimbrel watches keys.
    Derived,
}

impl Shape {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Derived => "derived",
        }
    }

    /// The columns, which have the attributes' names; `true`: a number.
    fn columns(self) -> &'static [(&'static str, bool)] {
        const ALL: &[(&str, bool)] = &[
            ("pk", false),
            ("sk", false),
            ("type", false),
            ("id", true),
            ("author_id", true),
            ("created_at", true),
            ("title", false),
            ("html_contents", false),
        ];
        match self {
            Self::Whole => ALL,
            Self::Derived => &ALL[3..],
        }
    }

    /// The table's key.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Self::Whole => "pk, sk",
            Self::Derived => "id",
        }
    }

    /// What makes the table.
    pub(crate) fn schema(self) -> String {
        let column = |(name, is_number): &(&str, bool)| {
            format!("{name} {} NOT NULL", if *is_number { "bigint" } else { "text" })
        };
        let columns: Vec<_> = self.columns().iter().map(column).collect();
        format!("CREATE TABLE {TABLE} ({}, PRIMARY KEY ({}));\n", columns.join(", "), self.key())
    }

    /// How a row follows from an item.
    pub(crate) fn transform(self) -> &'static str {
        match self {
            Self::Whole => "SELECT pk, sk, type, id, author_id, created_at, title, html_contents FROM input",
            Self::Derived => {
                "SELECT CAST(substr(pk, 6) AS bigint) AS id, author_id, created_at, title, html_contents FROM input"
            }
        }
    }

    /// The row of an item, as binary COPY has it.
    fn row(self, number: u64) -> Vec<u8> {
        let (item, columns) = (items::item(number), self.columns());
        let mut row = i16::try_from(columns.len()).unwrap_or_default().to_be_bytes().to_vec();
        let mut field = |bytes: &[u8]| {
            row.extend(i32::try_from(bytes.len()).unwrap_or_default().to_be_bytes());
            row.extend(bytes);
        };
        for (name, is_number) in columns {
            match &item[name][if *is_number { "N" } else { "S" }] {
                Value::String(text) if *is_number => {
                    field(&text.parse::<i64>().unwrap_or_default().to_be_bytes());
                }
                value => field(value.as_str().unwrap_or_default().as_bytes()),
            }
        }
        row
    }
}

/// Removes what a measurement left.
///
/// # Errors
/// PostgreSQL fails.
pub(crate) async fn remove(server: &str) -> Result<()> {
    let admin = open(server, false).await?;
    admin.batch_execute(&format!("DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)")).await?;
    Ok(())
}

/// A database without tables, in place of what an earlier measurement left.
///
/// # Errors
/// PostgreSQL fails.
pub(crate) async fn clear(server: &str) -> Result<()> {
    remove(server).await?;
    let admin = open(server, false).await?;
    admin.batch_execute(&format!("CREATE DATABASE {DATABASE}")).await?;
    // Nobody is to write what others have left while something is measured.
    admin.batch_execute("CHECKPOINT").await?;
    Ok(())
}

/// The URL of that database.
pub(crate) fn url(server: &str) -> Result<String> {
    items::url_of(server, DATABASE)
}

/// How many rows the table holds.
///
/// # Errors
/// PostgreSQL fails.
pub(crate) async fn count(server: &str) -> Result<u64> {
    let client = open(server, true).await?;
    let count: i64 = client.query_one(&format!("SELECT count(*) FROM {TABLE}"), &[]).await?.get(0);
    Ok(u64::try_from(count)?)
}

/// A connection to the server or, with `target`, to that database of it.
///
/// # Errors
/// PostgreSQL fails.
pub(crate) async fn open(server: &str, target: bool) -> Result<Client> {
    let mut config: Config = server.parse()?;
    if target {
        config.dbname(DATABASE);
    }
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// Prepared rows for an empty table.
pub(crate) struct Load {
    server: String,
    sql: String,
    page: Template,
    /// The number of the next row.
    next: AtomicU64,
}

impl Load {
    /// Makes the table in a new database.
    ///
    /// # Errors
    /// PostgreSQL fails.
    pub(crate) async fn prepare(server: &str, shape: Shape) -> Result<Self> {
        clear(server).await?;
        open(server, true).await?.batch_execute(&shape.schema()).await?;
        Ok(Self {
            server: server.to_owned(),
            sql: format!("COPY {TABLE} FROM STDIN (FORMAT binary)"),
            page: Template::new(PAGE_ITEMS, |number| shape.row(number)),
            next: AtomicU64::new(FIRST + 1),
        })
    }

    /// A connection of its own.
    ///
    /// # Errors
    /// PostgreSQL fails.
    pub(crate) async fn session(self: &Arc<Self>) -> Result<Session> {
        Ok(Session { load: Arc::clone(self), client: open(&self.server, true).await? })
    }
}

/// A connection that writes rows.
pub(crate) struct Session {
    load: Arc<Load>,
    client: Client,
}

impl Session {
    /// Writes the next `count` rows in one transaction.
    ///
    /// # Errors
    /// PostgreSQL fails.
    pub(crate) async fn copy(&self, count: u64) -> Result<()> {
        let Load { page, next, sql, .. } = &*self.load;
        let first = next.fetch_add(count, Ordering::Relaxed);
        let mut data = HEADER.to_vec();
        let mut done = 0;
        while done < count {
            done += page.append(&mut data, first + done, count - done);
        }
        data.extend(TRAILER);
        let mut sink = pin!(self.client.copy_in::<_, Bytes>(sql.as_str()).await?);
        sink.send(Bytes::from(data)).await?;
        let written = sink.finish().await?;
        if written == count { Ok(()) } else { Err(format!("{written} rows arrived of {count}").into()) }
    }
}

/// Writes so many rows into an empty table; rows per second.
///
/// # Errors
/// PostgreSQL fails.
#[expect(clippy::cast_precision_loss, reason = "figures for people")]
pub(crate) async fn measure(server: &str, shape: Shape, rows: u64) -> Result<f64> {
    let load = Arc::new(Load::prepare(server, shape).await?);
    let left = Arc::new(AtomicU64::new(rows.div_ceil(PAGE_ITEMS)));
    let mut sessions = Vec::new();
    for _ in 0..CONNECTIONS {
        sessions.push(load.session().await?);
    }
    let began = Instant::now();
    let tasks = sessions.into_iter().map(|session| {
        let left = Arc::clone(&left);
        let take =
            move || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        tokio::spawn(async move {
            let mut written = 0;
            while take().is_ok() {
                session.copy(PAGE_ITEMS).await?;
                written += PAGE_ITEMS;
            }
            Result::Ok(written)
        })
    });
    let tasks: Vec<_> = tasks.collect();
    let mut written = 0;
    for task in tasks {
        written += task.await??;
    }
    Ok(written as f64 / began.elapsed().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_its_fields() {
        let row = Shape::Derived.row(FIRST + 7);
        assert_eq!(row[..6], [0, 5, 0, 0, 0, 8]);
        assert_eq!(row[6..14], (FIRST + 7).to_be_bytes());
        let item = items::item(FIRST + 7);
        assert!(row.ends_with(item["html_contents"]["S"].as_str().unwrap().as_bytes()));
        // Its number stands in it as bytes and, in the title, as digits; a page of it moves both.
        let template = Template::new(3, |number| Shape::Whole.row(number));
        let mut page = Vec::new();
        template.append(&mut page, FIRST + 5_000_000, 1);
        let text = b"Post 1005000000: ";
        assert!(page.windows(text.len()).any(|part| part == text));
        assert!(page.windows(8).any(|part| part == (FIRST + 5_000_000).to_be_bytes()));
    }

    #[test]
    fn the_key_of_each_shape_is_unique_in_the_table() {
        assert!(Shape::Whole.schema().ends_with("PRIMARY KEY (pk, sk));\n"));
        assert!(Shape::Derived.schema().starts_with("CREATE TABLE posts (id bigint NOT NULL, author_id"));
    }
}
