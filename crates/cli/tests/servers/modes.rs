//! What each mode does with keys that are there already.

use super::{Live, expected_parcels};
use crate::items::{self, Items};
use crate::parcels;

const SENDERS: u64 = 400;
/// Senders that come into the source between two runs.
const NEW: u64 = 60;

/// What the second run of a mode must do.
struct Second {
    exit: i32,
    /// What becomes of the senders that are there.
    counted: &'static str,
    /// Whether the target then has their new names.
    replaced: bool,
}

fn runs_twice(mode: &str, second: &Second) {
    let Some(live) = Live::with_parcels(1_100, SENDERS) else { return };
    let spec =
        parcels::SPEC.replace("mode: upsert", "mode: MODE").replace("mode: skip_existing", "mode: MODE");
    live.place.write("parcels.yaml", &spec.replace("MODE", mode));
    let table = format!("table={}", live.tables.name(mode));
    let run = ["run", "parcels.yaml", "--create", "--verify=count", "--json", "--set", &table];
    let first = live.run(&run).expect(3).json();
    let before = expected_parcels(&live.database);
    assert_eq!(first["totals"]["created"], before.len());
    assert_eq!(first["verify"]["outcome"], "equal");
    items::assert_same(&live.tables.items(mode), &before);

    live.database.script(&format!(
        "UPDATE senders SET name = name || ' the second' WHERE id % 2 = 0;
         INSERT INTO senders SELECT k, 'new ' || k, '2026-01-01' FROM generate_series({SENDERS} + 1, {SENDERS} + {NEW}) AS k;"
    ));
    let again = live.run(&["run", "parcels.yaml", "--only", "senders", "--json", "--set", &table]);
    let again = again.expect(second.exit).json();
    let counts = &again["flows"]["senders"];
    // Without a look at each key DynamoDB does not say which of the upserted items are new.
    let created = if second.counted == "updated" { 0 } else { NEW };
    assert_eq!(counts["read"], SENDERS + NEW);
    assert_eq!(
        (&counts["created"], &counts[second.counted]),
        (&created.into(), &(SENDERS + NEW - created).into())
    );
    let mut expected: Items = expected_parcels(&live.database);
    if !second.replaced {
        expected.extend(before);
    }
    items::assert_same(&live.tables.items(mode), &expected);
}

#[test]
fn insert_rejects_keys_that_are_there() {
    runs_twice("insert", &Second { exit: 3, counted: "rejected", replaced: false });
}

#[test]
fn upsert_takes_their_place() {
    runs_twice("upsert", &Second { exit: 0, counted: "updated", replaced: true });
}

#[test]
fn skip_existing_leaves_them() {
    runs_twice("skip_existing", &Second { exit: 0, counted: "skipped", replaced: false });
}

#[test]
fn rejects_come_in_after_the_fix() {
    let Some(live) = Live::with_parcels(1_100, SENDERS) else { return };
    let table = format!("table={}", live.tables.name("retry"));
    let run = live.run(&["run", "parcels.yaml", "--create", "--json", "--set", &table]).expect(3).json();
    // One is too heavy, one has no title.
    assert_eq!(run["totals"]["rejected"], 2);
    let id = run["run"].as_str().expect("the run's name");
    live.place
        .write("parcels.yaml", &parcels::SPEC.replace("fixed_width(weight, 4)", "fixed_width(weight, 5)"));
    let retry = live.run(&["retry", id, "--accept-spec", "--json"]).expect(3).json();
    let totals = &retry["totals"];
    assert_eq!((&totals["read"], &totals["created"], &totals["rejected"]), (&2.into(), &1.into(), &1.into()));
    let items = live.tables.items("retry");
    assert_eq!(items.len(), expected_parcels(&live.database).len() + 1);
    let heavy = &items[&("SENDER#198".to_owned(), "PARCEL#997".to_owned())];
    assert_eq!(heavy["weight"]["S"], "10997");
}
