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

/// How much memory the index would take whole, in kB: the vectors, and some 300 bytes of neighbours for each; and what
/// it may take: what is set already, or a part of what the server says that the machine has for it.
const MEMORY: &str = "SELECT greatest(least(needed, available / $2::bigint), configured) FROM (SELECT \
    (SELECT (pg_catalog.pg_table_size($1::oid) + greatest(reltuples, 0) * 300)::bigint / 1024 * 3 / 2 FROM pg_catalog.pg_class WHERE oid = $1::oid) AS needed, \
    (SELECT setting::bigint * 8 FROM pg_catalog.pg_settings WHERE name = 'effective_cache_size') AS available, \
    (SELECT setting::bigint FROM pg_catalog.pg_settings WHERE name = 'maintenance_work_mem') AS configured) AS all_of_it";

/// Whether a definition is that of an index over vectors.
pub(super) fn is_one(definition: &str) -> bool {
    [" USING hnsw ", " USING ivfflat "].iter().any(|method| definition.contains(method))
}

/// Makes an index in the lease's transaction, with memory and processes for it. Where the server has no shared memory
/// for so many, it is made by one process.
pub(super) async fn make(store: &StoreName, lease: &Lease, table: u32, definition: &str) -> Result<()> {
    let failed =
        |error| from_driver(store, format!("cannot make an index over vectors: {definition}"), error);
    let client = lease.client();
    let memory_kb: i64 = client
        .query_one(MEMORY, &[&table, &PART_OF_CACHE])
        .await
        .and_then(|row| row.try_get(0))
        .map_err(failed)?;
    let begin = format!(
        "SET LOCAL maintenance_work_mem = '{memory_kb}kB'; SET LOCAL statement_timeout = 0; SAVEPOINT whimbrel_index; \
         SELECT set_config('max_parallel_maintenance_workers', \
         least({MOST_WORKERS}, current_setting('max_parallel_workers')::int)::text, true)"
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
    use super::is_one;

    #[test]
    fn indexes_over_vectors_are_told_by_their_method() {
        assert!(is_one("CREATE INDEX i ON public.t USING hnsw (v vector_l2_ops)"));
        assert!(!is_one("CREATE INDEX \"hnsw\" ON public.t USING btree (v)"));
    }
}
