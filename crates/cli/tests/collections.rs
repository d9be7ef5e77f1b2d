//! The migration that comes with whimbrel out of SQLite and Chroma: one user's rows and vectors, beside another's.

use crate::copy::asked;
use crate::place::Place;
use serde_json::json;

const PG: &str = "data/collections.pg";
const SPEC: &str = "data/collections-spec/collections.yaml";

#[test]
fn everything_arrives_and_a_second_user_leaves_the_first_ones_rows_alone() {
    let place = Place::new();
    let demo = place.run(&["demo", "collections", "--json"]).expect(0).json();
    assert_eq!(
        (&demo["run"]["outcome"], &demo["run"]["totals"]["created"]),
        (&json!("complete"), &json!(800))
    );
    assert_eq!(demo["verify"]["outcome"], "equal");
    let assertions = demo["verify"]["assertions"].as_array().expect("the guide's checks");
    assert!(assertions.len() >= 4 && assertions.iter().all(|one| one["ok"] == true), "{assertions:?}");
    let rows = "SELECT (SELECT count(*) FROM items) + (SELECT count(*) FROM analyses) + (SELECT count(*) FROM embeddings)
        + (SELECT count(*) FROM langchain_pg_embedding WHERE cmetadata ->> 'user_id' LIKE '0b6f%')";
    assert_eq!(asked(&place, PG, rows), Some(800));
    // Numbers of JSON keep their digits, and a date with a zone is UTC.
    let exact =
        "SELECT count(*) FROM analyses WHERE raw_response #>> '{nested,ids,0}' = '12345678901234567890'";
    assert_eq!(asked(&place, PG, exact), Some(9));

    // The same ids for another user: each is a reject, whatever the mode, and nothing of the first is touched.
    let as_other =
        |command: &[&'static str]| [command, &["--env", "demo", "--set", "user_id=other"]].concat();
    let other = place.run(&as_other(&["run", SPEC, "--json"])).expect(3).json();
    assert_eq!(other["rejects"]["count"], 800, "{other}");
    assert_eq!(asked(&place, PG, rows), Some(800));
    let cleaned = place.run(&as_other(&["clean", SPEC, "--confirm"])).expect(0);
    assert!(cleaned.out.contains("it stays for the others in it"), "{}", cleaned.out);
    assert_eq!(asked(&place, PG, rows), Some(800));
    let verified = place.run(&["verify", SPEC, "--env", "demo", "--json"]).expect(0).json();
    assert_eq!(verified["outcome"], "equal");

    place.run(&["clean", SPEC, "--env", "demo", "--confirm"]).expect(0);
    let left = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'";
    assert_eq!(asked(&place, PG, left), Some(0));
}
