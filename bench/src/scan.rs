//! What a server with the DynamoDB API gives at most: its pages in a parallel scan, read and thrown away.

use crate::connection::{Connection, address, request};
use crate::load::Load;
use crate::{Result, items};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Numbers of segments of which the fastest counts.
const SEGMENTS: [u64; 4] = [1, 2, 4, 8];
/// A scan that is done sooner is done again.
const AT_LEAST: Duration = Duration::from_secs(1);
/// Where a page says what else there is to know: at its beginning or its end, depending on who wrote it.
const EDGE: usize = 4096;

/// What was measured.
#[derive(Clone, Copy)]
pub(crate) struct ScanLimit {
    /// The number of segments in which the scan was fastest.
    pub(crate) segments: u64,
    pub(crate) items_per_second: f64,
}

/// Scans the table with a few numbers of segments; every scan must find so many items.
///
/// # Errors
/// The server fails, or holds another number of items.
pub(crate) async fn measure(url: &str, items: u64) -> Result<ScanLimit> {
    let mut best = ScanLimit { segments: 0, items_per_second: 0.0 };
    for segments in SEGMENTS {
        let (began, mut found) = (Instant::now(), 0);
        while found == 0 || began.elapsed() < AT_LEAST {
            found += scan(url, segments, items, None).await?;
        }
        let items_per_second = rate(found, began);
        if items_per_second > best.items_per_second {
            best = ScanLimit { segments, items_per_second };
        }
    }
    Ok(best)
}

/// Scans the table once, and sends as many prepared rows to PostgreSQL for each page: what a program comes to that does
/// nothing between the two. Items per second.
///
/// # Errors
/// As [`measure`]; PostgreSQL fails.
pub(crate) async fn measure_with_load(url: &str, segments: u64, items: u64, load: Load) -> Result<f64> {
    let began = Instant::now();
    let found = scan(url, segments, items, Some(Arc::new(load))).await?;
    Ok(rate(found, began))
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn rate(items: u64, began: Instant) -> f64 {
    items as f64 / began.elapsed().as_secs_f64().max(1e-9)
}

async fn scan(url: &str, segments: u64, items: u64, load: Option<Arc<Load>>) -> Result<u64> {
    let mut tasks = Vec::new();
    for segment in 0..segments {
        let connection = Connection::open(address(url)?).await?;
        let mut segment = Segment { connection, segment, of: segments, after: None, is_over: false };
        let load = load.clone();
        tasks.push(tokio::spawn(async move {
            let session = match &load {
                Some(load) => Some(load.session().await?),
                None => None,
            };
            let mut found = 0;
            while let Some(count) = segment.next().await? {
                if let Some(session) = &session {
                    session.copy(count).await?;
                }
                found += count;
            }
            Result::Ok(found)
        }));
    }
    let mut found = 0;
    for task in tasks {
        found += task.await??;
    }
    if found == items {
        Ok(found)
    } else {
        Err(format!("the scan found {found} items, {items} are expected").into())
    }
}

/// A segment under way.
struct Segment {
    connection: Connection,
    segment: u64,
    of: u64,
    after: Option<Value>,
    is_over: bool,
}

impl Segment {
    /// How many items the next page holds; `None` behind the last one.
    async fn next(&mut self) -> Result<Option<u64>> {
        if self.is_over {
            return Ok(None);
        }
        let mut body = json!({"TableName": items::TABLE, "Segment": self.segment, "TotalSegments": self.of});
        if let Some(after) = self.after.take() {
            body["ExclusiveStartKey"] = after;
        }
        let page = self.connection.ask(&request("Scan", &body.to_string())).await?;
        let count =
            member(page, "\"Count\":").and_then(|count| count.as_u64()).ok_or("a page without a count")?;
        self.after = member(page, "\"LastEvaluatedKey\":");
        self.is_over = self.after.is_none();
        Ok(Some(count))
    }
}

/// What stands behind a name at either edge of a page; `name` with its quotes and colon.
fn member(page: &[u8], name: &str) -> Option<Value> {
    let edges = [&page[page.len().saturating_sub(EDGE)..], &page[..page.len().min(EDGE)]];
    let value = |edge: &[u8]| {
        let at = edge.windows(name.len()).rposition(|part| part == name.as_bytes())?;
        serde_json::Deserializer::from_slice(&edge[at + name.len()..]).into_iter().next()?.ok()
    };
    edges.into_iter().find_map(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_at_either_edge() {
        let items = format!("\"Items\":[{}]", vec!["{\"a\":{\"S\":\"\\\"Count\\\":7\"}}"; 1_000].join(","));
        let front = format!("{{\"Count\":3,\"ScannedCount\":4,{items}}}");
        assert_eq!(member(front.as_bytes(), "\"Count\":"), Some(json!(3)));
        let behind = format!("{{{items},\"LastEvaluatedKey\":{{\"pk\":{{\"S\":\"x\"}}}},\"Count\":5}}");
        assert_eq!(member(behind.as_bytes(), "\"Count\":"), Some(json!(5)));
        assert_eq!(member(behind.as_bytes(), "\"LastEvaluatedKey\":"), Some(json!({"pk": {"S": "x"}})));
        assert_eq!(member(front.as_bytes(), "\"LastEvaluatedKey\":"), None);
    }
}
