//! The suite of the contract, over a directory of each line of versions.

use crate::fixture::{Fixture, read, request};
use whimbrel_store::{Store as _, conformance};

/// However much is asked for: several batches of every slice are in memory at a time.
#[tokio::test(flavor = "multi_thread")]
async fn batches_are_of_two_megabytes_at_the_most() {
    let fixture = Fixture::unpack("0.5.23");
    let database = rusqlite::Connection::open(fixture.directory().join("chroma.sqlite3")).unwrap();
    let sql =
        "UPDATE embedding_metadata SET string_value = printf('%.8000c', 'x') WHERE key = 'chroma:document'";
    let documents = database.execute(sql, []).unwrap();
    drop(database);
    let mut request = request("docs_l2", &[]);
    (request.batch_records, request.batch_bytes) = (1 << 20, 1 << 30);
    let store = fixture.store();
    store.begin_epoch().await.expect("an epoch");
    let batches = read(&store.source(request).expect("a source")).await.expect("a read");
    store.close().await;
    assert!(documents > 800, "{documents}");
    assert_eq!(batches.iter().map(|batch| batch.records.num_rows()).sum::<usize>(), 1_102);
    // The last record of a batch reaches beyond it.
    let (most, all) =
        batches.iter().fold((0, 0), |(most, all), batch| (batch.bytes.max(most), all + batch.bytes));
    assert!((2 << 20..(2 << 20) + 16_000).contains(&most), "{most}");
    assert!(all > 4 << 20, "{all}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_contract_holds() {
    for (name, collection, records) in [
        ("0.4.24", "acme-tenant/prod-db/cos_big", 30),
        ("0.5.23", "docs_l2", 1102),
        ("crash-1.5.9", "mini_ip_wal", 11),
        ("upgraded-0.4.24-0.6.3-1.5.9", "mini_l2", 51),
    ] {
        let fixture = Fixture::unpack(name);
        let store = fixture.store();
        store.begin_epoch().await.expect("an epoch");
        let source = store.source(request(collection, &[])).expect("a source");
        conformance::source(&*source, records).await;
        store.close().await;
    }
}
