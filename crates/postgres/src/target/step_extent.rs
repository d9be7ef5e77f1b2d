//! How far PostgreSQL is with an index that it makes, as it tells on another connection.

use crate::client::{Connections, Purpose};
use crate::error::from_driver;
use std::convert::Infallible;
use std::time::Duration;
use tokio::time::MissedTickBehavior;
use whimbrel_model::StoreName;
use whimbrel_store::{Meter, Result, StepExtent};

/// How often PostgreSQL is asked. What is made sooner is not asked about.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// The log says each so many hundredths of a phase.
const LOGGED_PERCENT: u64 = 10;

/// A phase that has no tuples to count is counted by blocks of the table: that of an HNSW index, the scan of any other.
const EXTENT: &str = "SELECT phase, \
    CASE WHEN tuples_total > 0 THEN tuples_done ELSE blocks_done END, \
    CASE WHEN tuples_total > 0 THEN tuples_total ELSE blocks_total END \
    FROM pg_catalog.pg_stat_progress_create_index WHERE pid = $1";

/// Does `work`, which the backend `pid` is busy with, and tells the meter how far it is. That it cannot be told, for
/// want of a connection or of the view, is nobody's error.
pub(super) async fn told<T>(
    store: &StoreName,
    connections: &Connections,
    pid: i32,
    meter: &Meter,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    tokio::pin!(work);
    if !connections.are_many() {
        return work.await;
    }
    let done = tokio::select! {
        done = &mut work => done,
        Err(error) = tell(store, connections, pid, meter) => {
            tracing::debug!(%error, "how far an index is cannot be told");
            work.await
        }
    };
    meter.step_at(None);
    done
}

/// Asks again and again, in a transaction of its own each time: within one PostgreSQL answers the same.
async fn tell(store: &StoreName, connections: &Connections, pid: i32, meter: &Meter) -> Result<Infallible> {
    let first = tokio::time::Instant::now() + ASK_EVERY;
    let mut ticks = tokio::time::interval_at(first, ASK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut logged = None;
    loop {
        ticks.tick().await;
        let lease = connections.lease(Purpose::Catalog).await?;
        let found = lease.client().query_opt(EXTENT, &[&pid]).await;
        let found = found.and_then(|row| {
            row.map(|row| Ok((row.try_get(0)?, row.try_get::<_, i64>(1)?, row.try_get::<_, i64>(2)?)))
                .transpose()
        });
        let found = found.map_err(|error| from_driver(store, "cannot see how far an index is", error))?;
        lease.finish().await?;
        let number = |value: i64| u64::try_from(value).unwrap_or(0);
        let extent: Option<StepExtent> =
            found.map(|(phase, done, all)| StepExtent { phase, done: number(done), all: number(all) });
        let reached = extent.as_ref().map(|extent| (extent.phase.clone(), tenth(extent)));
        if let (Some(extent), true) = (&extent, reached != logged) {
            let StepExtent { phase, done, all } = extent;
            tracing::info!(%phase, done, all, "an index is made");
        }
        logged = reached;
        meter.step_at(extent);
    }
}

/// How many tenths of a phase are done.
fn tenth(extent: &StepExtent) -> u64 {
    let percent = extent.done.saturating_mul(100).checked_div(extent.all).unwrap_or(0);
    percent.min(100) / LOGGED_PERCENT
}

#[cfg(test)]
mod tests {
    use super::tenth;
    use whimbrel_store::StepExtent;

    #[test]
    fn the_log_gets_a_line_for_each_tenth() {
        let of = |done, all| tenth(&StepExtent { phase: String::new(), done, all });
        assert_eq!([of(0, 0), of(0, 50), of(4, 50), of(5, 50), of(49, 50), of(50, 50)], [0, 0, 0, 1, 9, 10]);
    }
}
