//! Verifications on real servers.

use super::Live;

const COPY: &str = r#"
migration: parcels
stores: { old: { postgres: "${env:DATABASE_URL}" }, new: { postgres: "${env:DATABASE_URL}" } }
flows:
  parcels:
    from: { store: old, table: parcels }
    into: { store: new, table: copied, key: [id], mode: upsert }
"#;

/// The program's sessions that read the table of this name at this moment.
fn readers(table: &str) -> String {
    format!(
        "FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'whimbrel'
         AND state = 'active' AND query LIKE 'COPY%' AND query LIKE '%{table}%'"
    )
}

#[test]
fn a_verification_goes_on_when_sessions_of_its_source_and_its_target_are_ended() {
    let Some(live) = Live::new() else { return };
    live.place.write("copy.yaml", COPY);
    // More than what sockets keep: the server waits for its reader.
    live.database.script(
        "CREATE TABLE parcels (id bigint PRIMARY KEY, note text);
         INSERT INTO parcels SELECT k, repeat(md5(k::text), 250) FROM generate_series(1, 6000) AS k; ANALYZE",
    );
    live.run(&["run", "copy.yaml", "--create", "--verify=count"]).expect(0);
    live.database
        .script("UPDATE copied SET note = 'another' WHERE id = 77; DELETE FROM copied WHERE id = 5000");
    for table in ["parcels", "copied"] {
        let end = format!("SELECT count(pg_terminate_backend(pid)) {}", readers(table));
        // A verification may be over before its session is seen: then the next one is tried.
        let was_ended = (0..20).any(|_| {
            let mut running = live.start(&["verify", "copy.yaml", "--all", "--json", "--memory", "1M"]);
            let mut was_ended = false;
            while !was_ended && !running.has_ended() {
                was_ended = live.database.number(&end) > 0;
            }
            let found = running.wait().expect(4).json();
            let flow = &found["flows"]["parcels"];
            assert_eq!(
                (&flow["missing"], &flow["extra"], &flow["different"]),
                (&1.into(), &0.into(), &1.into())
            );
            assert_eq!(flow["compared"], 6000, "{flow}");
            was_ended
        });
        assert!(was_ended, "no session that reads {table} could be ended");
    }
}
