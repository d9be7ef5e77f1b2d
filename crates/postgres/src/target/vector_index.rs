//! Indexes over vectors, which are made many times faster with memory for the whole of them.

use crate::client::Lease;
use crate::error::from_driver;
use tokio_postgres::error::SqlState;
use whimbrel_model::StoreName;
use whimbrel_store::Result;

/// The part of the server's `effective_cache_size` that making an index may take.
const PART_OF_CACHE: i64 = 4;
/// What the most processes are that make one index.
const MOST_WORKERS: i32 = 7;

/// A quarter more than what is reckoned, for what allocators keep.
const MARGIN_PERCENT: i64 = 125;

/// What the table takes, vectors that lie beside it included, in bytes; what the server says that the machine has as a
/// cache, and what it gives to making an index if nothing is said, in kB; and the table's name. Statistics are made after
/// the indexes: how many rows there are must be counted.
const TABLE: &str = "SELECT pg_catalog.pg_table_size($1::oid), \
    (SELECT setting::bigint * 8 FROM pg_catalog.pg_settings WHERE name = 'effective_cache_size'), \
    (SELECT setting::bigint FROM pg_catalog.pg_settings WHERE name = 'maintenance_work_mem'), $1::oid::regclass::text";

/// How much memory to give to an index, in kB: what it takes whole, but no more than a part of the cache, unless more
/// is set already.
async fn memory_kb(
    client: &tokio_postgres::Client,
    table: u32,
    definition: &str,
) -> std::result::Result<i64, tokio_postgres::Error> {
    let row = client.query_one(TABLE, &[&table]).await?;
    let (bytes, cache_kb, set_kb): (i64, i64, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let count = format!("SELECT count(*) FROM {}", row.try_get::<_, String>(3)?);
    let rows: i64 = client.query_one(&count, &[]).await?.try_get(0)?;
    let needed = rows.saturating_mul(bytes_beside_a_vector(definition)).saturating_add(bytes);
    let needed_kb = needed.saturating_mul(MARGIN_PERCENT) / 100 / 1024 + 1;
    Ok(needed_kb.min(cache_kb / PART_OF_CACHE).max(set_kb))
}

/// What pgvector keeps for each vector of a graph that it makes: itself, and 16 bytes for each of `2 * m` neighbours and
/// for those of the few upper levels.
fn bytes_beside_a_vector(definition: &str) -> i64 {
    let options = definition.rsplit_once(" WITH (").and_then(|(_, rest)| rest.split_once(')'));
    let m = options.and_then(|(options, _)| {
        let m = options.split(',').find_map(|option| option.trim().strip_prefix("m"))?;
        m.trim_matches([' ', '=', '\'']).parse::<i64>().ok()
    });
    160 + m.unwrap_or(16).clamp(2, 100) * 34
}

/// Whether a definition is that of an index over vectors.
pub(super) fn is_one(definition: &str) -> bool {
    [" USING hnsw ", " USING ivfflat "].iter().any(|method| definition.contains(method))
}

/// Makes an index in the lease's transaction, with memory and processes for it. A table whose vectors lie beside it is
/// small however many there are, and would get no processes by its size. Where the server has no shared memory for so
/// many, it is made by one process.
pub(super) async fn make(store: &StoreName, lease: &Lease, table: u32, definition: &str) -> Result<()> {
    let failed =
        |error| from_driver(store, format!("cannot make an index over vectors: {definition}"), error);
    let client = lease.client();
    let memory_kb = memory_kb(client, table, definition).await.map_err(failed)?;
    let begin = format!(
        "SET LOCAL maintenance_work_mem = '{memory_kb}kB'; SET LOCAL statement_timeout = 0; SAVEPOINT whimbrel_index; \
         SELECT set_config('max_parallel_maintenance_workers', \
         least({MOST_WORKERS}, current_setting('max_parallel_workers')::int)::text, true), \
         set_config('min_parallel_table_scan_size', '0', true)"
    );
    client.batch_execute(&begin).await.map_err(failed)?;
    tracing::info!(%definition, memory_kb, "an index over vectors is made");
    let Err(error) = client.batch_execute(definition).await else {
        return client.batch_execute("RELEASE SAVEPOINT whimbrel_index").await.map_err(failed);
    };
    // Processes share the memory in a file system that may be small, as in a container.
    let is_small = error.code().is_some_and(|code| {
        [SqlState::DISK_FULL, SqlState::OUT_OF_MEMORY, SqlState::INSUFFICIENT_RESOURCES].contains(code)
    });
    if !is_small {
        return Err(failed(error));
    }
    tracing::warn!(%error, "the server lacks memory that processes share; one process makes the index");
    let alone = "ROLLBACK TO SAVEPOINT whimbrel_index; SET LOCAL max_parallel_maintenance_workers = 0";
    client.batch_execute(alone).await.map_err(failed)?;
    client.batch_execute(definition).await.map_err(failed)?;
    client.batch_execute("RELEASE SAVEPOINT whimbrel_index").await.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::{bytes_beside_a_vector, is_one};

    #[test]
    fn a_graph_of_more_neighbours_takes_more_memory() {
        let of = |with: &str| bytes_beside_a_vector(&format!("CREATE INDEX i ON t USING hnsw (v) {with}"));
        assert_eq!(
            [of(""), of("WITH (m='16', ef_construction='64')"), of("WITH (m = 48)")],
            [704, 704, 1792]
        );
    }

    #[test]
    fn indexes_over_vectors_are_told_by_their_method() {
        assert!(is_one("CREATE INDEX i ON public.t USING hnsw (v vector_l2_ops)"));
        assert!(!is_one("CREATE INDEX \"hnsw\" ON public.t USING btree (v)"));
    }
}
