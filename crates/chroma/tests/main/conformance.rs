//! The suite of the contract, over a directory of each line of versions.

use crate::fixture::{Fixture, request};
use whimbrel_store::{Store as _, conformance};

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
