//! What a build whose fingerprints are of another form has begun: this one neither mixes them with its own nor trusts
//! them.

use crate::chest;
use crate::place::Place;
use rusqlite::Connection;

/// As if the run had been made by such a build.
fn by_another_build(place: &Place, outcome: Option<&str>) {
    let journal = Connection::open(place.path(".whimbrel/journal.sqlite")).expect("a journal");
    let sql = "UPDATE runs SET canonical_version = canonical_version - 1, outcome = ?1";
    assert_eq!(journal.execute(sql, [outcome]).expect("the journal can be changed"), 1);
}

fn chest() -> Place {
    let place = Place::new();
    chest::write(&place, "sqlite");
    place.run(&["run", "chest.yaml", "--set", "target=target.db", "--create"]).expect(3);
    place
}

#[test]
fn a_run_of_another_build_is_not_gone_on_with() {
    let place = chest();
    let before = chest::rows(&place.path("target.db"));
    let run = place.only_run().file_name().expect("a name").to_string_lossy().into_owned();
    let values = ["--set", "target=target.db"];
    let refused = |arguments: &[&str]| {
        let ended = place.run(&[arguments, &values].concat()).expect(2);
        ended.one_error();
        assert!(ended.err.contains("whose fingerprints are of another form"), "{}", ended.err);
    };
    by_another_build(&place, Some("incomplete"));
    refused(&["undo", &run, "--confirm"]);
    by_another_build(&place, None);
    refused(&["resume"]);
    assert!(before == chest::rows(&place.path("target.db")), "nothing was changed");
}

#[test]
fn a_verification_says_what_it_does_not_know_of_another_build() {
    let place = chest();
    let verify = |code| {
        let ended = place.run(&["verify", "chest.yaml", "--set", "target=target.db"]).expect(code);
        ended.out + &ended.err
    };
    let what = "another build of whimbrel";
    let own = verify(0);
    assert!(!own.contains(what), "{own}");
    by_another_build(&place, Some("incomplete"));
    let other = verify(4);
    let flat = other.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains(what) && flat.contains("records that it rejected count as missing"), "{other}");
    // What is unreadable is so still; what referred to no box is not told apart from what was lost.
    assert!(flat.contains("things 2,375 5 0 25"), "{other}");
}
