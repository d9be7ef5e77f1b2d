//! What PostgreSQL gives at most: its binary COPY, read and thrown away.

use crate::{Result, items};
use futures::TryStreamExt as _;
use std::pin::pin;
use std::time::Instant;

/// Connections that read side by side.
const CONNECTIONS: u64 = 2;

/// What was measured.
#[derive(Clone, Copy)]
pub(crate) struct CopyLimit {
    pub(crate) rows_per_second: f64,
    pub(crate) bytes_per_second: f64,
}

/// Reads all rows twice, and counts the second time: what the first brings into memory is there for whimbrel, too.
pub(crate) async fn measure(server: &str, rows: u64) -> Result<CopyLimit> {
    drain(server, rows).await?;
    drain(server, rows).await
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
async fn drain(server: &str, rows: u64) -> Result<CopyLimit> {
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(items::connect(server).await?);
    }
    let began = Instant::now();
    let parts = clients.into_iter().zip(0_u64..).map(|(client, part)| {
        let (after, upto) = (rows * part / CONNECTIONS, rows * (part + 1) / CONNECTIONS);
        tokio::spawn(async move {
            let columns = items::COLUMNS;
            let sql = format!(
                "COPY (SELECT {columns} FROM items WHERE id > {after} AND id <= {upto}) TO STDOUT (FORMAT binary)"
            );
            let mut stream = pin!(client.copy_out(sql.as_str()).await?);
            let mut bytes = 0_u64;
            while let Some(part) = stream.try_next().await? {
                bytes += part.len() as u64;
            }
            Result::Ok(bytes)
        })
    });
    let parts: Vec<_> = parts.collect();
    let mut bytes = 0;
    for part in parts {
        bytes += part.await??;
    }
    let seconds = began.elapsed().as_secs_f64();
    Ok(CopyLimit { rows_per_second: rows as f64 / seconds, bytes_per_second: bytes as f64 / seconds })
}
