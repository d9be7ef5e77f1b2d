//! What PostgreSQL gives at most: its binary COPY, read and thrown away.

use crate::{Result, items};
use futures::TryStreamExt as _;
use std::pin::pin;
use std::time::Instant;

/// Connections that read side by side.
const CONNECTIONS: u64 = 2;

/// Rows per second. All are read twice, and the second time counts: what the first brings into memory is there for
/// whimbrel, too.
pub(crate) async fn measure(server: &str, rows: u64) -> Result<f64> {
    drain(server, rows).await?;
    drain(server, rows).await
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
async fn drain(server: &str, rows: u64) -> Result<f64> {
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
            while stream.try_next().await?.is_some() {}
            Result::Ok(())
        })
    });
    let parts: Vec<_> = parts.collect();
    for part in parts {
        part.await??;
    }
    Ok(rows as f64 / began.elapsed().as_secs_f64())
}
