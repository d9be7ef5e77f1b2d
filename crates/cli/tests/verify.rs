//! Differences that somebody else made, found record by record.

use crate::parcels::{self, PARCELS, SENDERS};
use crate::place::{Ended, Place, Running, folders, until};
use dynoxide::Database;
use rusqlite::{Connection, OpenFlags};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

const RUN: &[&str] = &["run", "parcels.yaml", "--env", "demo", "--create", "--verify=all", "--json"];
const VERIFY: &[&str] = &["verify", "parcels.yaml", "--env", "demo", "--all", "--json"];

/// Waits for the moment in which the run is over and its verification is not.
fn await_verification(place: &Place, running: &mut Running) {
    let path = place.path(".whimbrel/journal.sqlite");
    until("the end of the run itself", || {
        assert!(!running.has_ended(), "it was verified before it was looked at");
        let journal = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
        let over = "SELECT count(*) FROM runs WHERE outcome IS NOT NULL";
        let over: i64 = journal.query_row(over, [], |row| row.get(0)).ok()?;
        (over == 1).then_some(())
    });
}

/// What was asked for behind the run follows, and only once.
fn assert_caught_up(place: &Place) {
    assert!(!place.only_run().join("verification.json").exists(), "the verification did not end");
    let resumed = place.run(&["resume", "--json"]).expect(3).json();
    assert_eq!(resumed["verify"]["outcome"], "equal", "{resumed}");
    assert_eq!(resumed["resumes"], 0, "the run itself was over");
    let report = std::fs::read_to_string(place.path("proof.md")).expect("the report");
    assert!(report.contains("## Verification"), "{report}");
    place.run(&["resume"]).expect(2).one_error();
    let left = folders(&place.path(".whimbrel"));
    assert!(!left.iter().any(|path| path.display().to_string().contains("compare-")), "{left:?}");
}

#[test]
fn a_run_that_is_killed_in_its_verification_is_verified_by_resume() {
    let place = parcels::place();
    let mut running = place.start(&[RUN, &["--report", "proof.md", "--parallel", "1"]].concat());
    await_verification(&place, &mut running);
    running.kill();
    assert_caught_up(&place);
}

#[test]
fn a_run_that_is_interrupted_in_its_verification_is_verified_by_resume() {
    let place = parcels::place();
    let mut running = place.start(&[RUN, &["--report", "proof.md", "--parallel", "1"]].concat());
    await_verification(&place, &mut running);
    running.signal("INT");
    let ended = running.wait().expect(130);
    assert!(ended.err.contains("whimbrel resume"), "{}", ended.err);
    assert_caught_up(&place);
}

/// Does something to the items while no program has them open.
fn tamper(place: &Place, requests: &[(&str, Value)]) {
    let path = place.path("data/parcels.dynamodb");
    let database = Database::new(path.to_str().expect("the path is UTF-8")).expect("the database opens");
    for (action, request) in requests {
        let mut request = request.clone();
        request["TableName"] = "parcels".into();
        match *action {
            "put" => {
                let request = serde_json::from_value(request).expect("a request");
                database.put_item(request).map(drop)
            }
            _ => {
                let request = serde_json::from_value(request).expect("a request");
                database.delete_item(request).map(drop)
            }
        }
        .expect("the item changes");
    }
}

fn flow<'a>(found: &'a Value, name: &str) -> &'a Value {
    &found["flows"][name]
}

/// Missing, extra, different.
fn figures(found: &Value, name: &str) -> [u64; 3] {
    ["missing", "extra", "different"].map(|kind| flow(found, name)[kind].as_u64().expect("a number"))
}

fn keys(found: &Value, kind: &str) -> BTreeSet<String> {
    let differences = found["differences"].as_array().cloned().unwrap_or_default();
    let of_kind = differences.iter().filter(|difference| difference["kind"] == kind);
    of_kind.map(|difference| difference["key"]["sk"].as_str().expect("a key").to_owned()).collect()
}

#[test]
fn every_planted_difference_is_found_and_nothing_else_and_repaired() {
    let place = parcels::place();
    let run = place.run(RUN).expect(3).json();
    assert_eq!(run["verify"]["outcome"], "equal", "{}", run["verify"]);
    assert_eq!(flow(&run["verify"], "senders")["compared"], SENDERS);
    assert_eq!(flow(&run["verify"], "parcels")["rejected"], parcels::REJECTED);

    let mut items = parcels::items(&place);
    let mut item =
        |pk: &str, sk: &str| items.remove(&(pk.to_owned(), sk.to_owned())).expect("the item is there");
    let mut retitled = item("SENDER#2", "PARCEL#1");
    retitled["title"] = json!({"S": "another"});
    let mut reordered = item("SENDER#3", "PARCEL#2");
    let details = reordered["details"]["M"].as_object().expect("a map").clone();
    reordered["details"]["M"] = Value::Object(details.into_iter().rev().collect());
    reordered["details"]["M"]["number"]["N"] = "2.0".into();
    let mut shorter = item("SENDER#4", "PARCEL#3");
    shorter["details"]["M"]["tags"] = json!({"L": []});
    let mut swapped = [item("SENDER#5", "PARCEL#4"), item("SENDER#6", "PARCEL#5")];
    let titles = [swapped[1]["title"].clone(), swapped[0]["title"].clone()];
    swapped.iter_mut().zip(titles).for_each(|(item, title)| item["title"] = title);
    let [first, second] = swapped;
    let key = json!({"Key": {"pk": {"S": "SENDER#7"}, "sk": {"S": "PROFILE"}}});
    let stranger = json!({"pk": {"S": "SENDER#0"}, "sk": {"S": "PARCEL#0"}, "title": {"S": "<script>"}});
    let nobody = json!({"pk": {"S": "OTHER"}, "sk": {"S": "X"}});
    let put = |item: Value| ("put", json!({"Item": item}));
    let changes = [
        put(retitled),
        put(reordered),
        put(shorter),
        put(first),
        put(second),
        ("delete", key),
        put(stranger),
        put(nobody),
    ];
    tamper(&place, &changes);

    let found = place.run(VERIFY).expect(4).json();
    assert_eq!(figures(&found, "senders"), [1, 0, 0]);
    assert_eq!(figures(&found, "parcels"), [0, 1, 4], "order of keys and 2.0 for 2 are no differences");
    assert_eq!(found["others"], 1);
    assert_eq!(keys(&found, "missing"), BTreeSet::from(["PROFILE".to_owned()]));
    let different = ["PARCEL#1", "PARCEL#3", "PARCEL#4", "PARCEL#5"].map(str::to_owned);
    assert_eq!(keys(&found, "different"), BTreeSet::from(different));
    let differences = found["differences"].as_array().expect("differences");
    let retitled = differences.iter().find(|one| one["key"]["sk"] == "PARCEL#1").expect("it is named");
    assert_eq!(retitled["attributes"].as_array().map(Vec::len), Some(1), "{retitled}");
    assert_eq!(retitled["attributes"][0]["target"], "another");
    assert_eq!(retitled["since"], "target_changed");
    let file = found["differences_file"].as_str().expect("a file");
    let lines = std::fs::read_to_string(place.path(file)).expect("the file of differences");
    assert_eq!(lines.lines().count(), 7);

    let repaired =
        place.run(&["verify", "parcels.yaml", "--env", "demo", "--repair", "--json"]).expect(4).json();
    assert_eq!(repaired["repaired"], 5);
    assert_eq!(figures(&repaired, "senders"), [0, 0, 0]);
    assert_eq!(figures(&repaired, "parcels"), [0, 1, 0], "what is extra stays");
    assert_eq!(repaired["others"], 1);

    // Where the source changed, the verification says so; other flows' records are nobody's business then.
    parcels::fill(&place, "data/parcels.pg", "UPDATE senders SET name = 'new' WHERE id = 5");
    let only = [VERIFY, &["--only", "senders"]].concat();
    let found = place.run(&only).expect(4).json();
    assert_eq!(figures(&found, "senders"), [0, 0, 1]);
    assert_eq!((&found["others"], &found["differences"][0]["since"]), (&json!(0), &json!("source_changed")));
}

#[test]
fn a_sample_is_repeatable_and_a_verification_needs_no_run() {
    let place = parcels::place();
    let create: &[&str] = &["run", "parcels.yaml", "--env", "demo", "--create", "--journal", "elsewhere"];
    place.run(create).expect(3);
    let sample = |seed: &[&str]| -> Ended {
        let arguments =
            [&["verify", "parcels.yaml", "--env", "demo", "--sample", "300", "--json"], seed].concat();
        place.run(&arguments).expect(0)
    };
    let first = sample(&["--seed", "7"]).json();
    let again = sample(&["--seed", "7"]).json();
    assert_eq!(first["flows"], again["flows"]);
    assert_eq!(first["depth"]["sample"]["seed"], 7);
    let compared: u64 =
        ["senders", "parcels"].iter().map(|name| flow(&first, name)["compared"].as_u64().unwrap_or(0)).sum();
    assert!((250..=300).contains(&compared), "{compared}");

    // No run of this journal has rejected what cannot arrive: it is refused again, by the same rules.
    let found = place.run(VERIFY).expect(0).json();
    assert_eq!(flow(&found, "parcels")["rejected"], parcels::REJECTED);
    let counted =
        place.run(&["verify", "parcels.yaml", "--env", "demo", "--count", "--json"]).expect(0).json();
    assert_eq!(figures(&counted, "parcels"), [0, 0, 0]);
}

const LEDGER: &str = "
migration: ledger
environments: { demo: { variables: { from: 'embedded:data/from.pg', into: 'embedded:data/into.pg' } } }
variables: { from: '', into: '' }
stores:
  old: { postgres: '${from}' }
  new: { postgres: '${into}' }
flows:
  entries:
    from: { store: old, table: entries }
    into: { store: new, table: entries, key: [id], mode: upsert }
";

#[test]
fn one_digit_one_bit_and_an_empty_text_are_differences_in_postgresql() {
    let place = Place::new();
    place.write("ledger.yaml", LEDGER);
    let table = |doc: &str| {
        format!(
            "CREATE TABLE entries (id bigint PRIMARY KEY, amount numeric(38), share float8, word text, tags text[],
             facts jsonb, at timestamptz, raw bytea, doc {doc});"
        )
    };
    let (source, target) = (table("text"), table("tsvector"));
    parcels::fill(&place, "data/from.pg", &format!("{source}
        INSERT INTO entries SELECT k, 12345678901234567890123456789012345670 + k % 10, k / 7.0::float8, 'word ' || k,
        array['a', k::text], jsonb_build_object('k', k, 'list', '[]'::jsonb, 'exact', 1.10),
        timestamptz '2024-01-01 00:00:00.000001+00' + k * interval '1 s', decode(md5(k::text), 'hex'), 'b a b x' || k
        FROM generate_series(1, 3000) k; ANALYZE;"));
    parcels::fill(&place, "data/into.pg", &target);
    place.run(&["run", "ledger.yaml", "--env", "demo", "--verify=all"]).expect(0);
    parcels::fill(
        &place,
        "data/into.pg",
        "
        UPDATE entries SET amount = amount + 1 WHERE id = 11;
        UPDATE entries SET share = share + 2.220446049250313e-16 * greatest(1, share) WHERE id = 3;
        UPDATE entries SET word = '' WHERE id = 12;
        UPDATE entries SET word = NULL WHERE id = 13;
        UPDATE entries SET facts = '{\"exact\": 1.1000, \"list\": [], \"k\": 14.0}' WHERE id = 14;
        UPDATE entries SET facts = facts - 'list' WHERE id = 15;
        UPDATE entries SET at = at + interval '1 us' WHERE id = 16;
        UPDATE entries SET tags = array[tags[2], tags[1]] WHERE id = 17;
        INSERT INTO entries SELECT 9001, amount, share, word, tags, facts, at, raw, doc FROM entries WHERE id = 18;
        UPDATE entries SET doc = 'other' WHERE id = 19;
        DELETE FROM entries WHERE id = 18;",
    );
    let found = place.run(&["verify", "ledger.yaml", "--env", "demo", "--all", "--json"]).expect(4).json();
    assert_eq!(figures(&found, "entries"), [1, 1, 8], "{found}");
    let attribute = |id: &str| {
        let differences = found["differences"].as_array().expect("differences");
        let one = differences.iter().find(|one| one["key"]["id"].to_string().trim_matches('"') == id);
        let one = one.unwrap_or_else(|| panic!("{id} is named: {found}"));
        // What only PostgreSQL reads is shown as each side writes it.
        let names = one["attributes"]
            .as_array()
            .expect("attributes")
            .iter()
            .map(|attribute| attribute["name"].as_str());
        let names: Vec<&str> =
            names.map(|name| name.expect("a name")).filter(|name| *name != "doc").collect();
        assert_eq!(names.len(), 1, "{one}");
        names[0].to_owned()
    };
    let named = ["11", "3", "12", "13", "15", "16", "17"].map(attribute);
    assert_eq!(named, ["amount", "share", "word", "word", "facts", "at", "tags"]);

    let repair = ["verify", "ledger.yaml", "--env", "demo", "--repair", "--json"];
    place.run(&repair).expect(4);
    parcels::fill(&place, "data/into.pg", "DELETE FROM entries WHERE id = 9001");
    parcels::fill(&place, "data/from.pg", "UPDATE entries SET word = 'later' WHERE id = 20");
    let found = place.run(&["verify", "ledger.yaml", "--env", "demo", "--json"]).expect(4).json();
    assert_eq!(figures(&found, "entries"), [0, 0, 1]);
    let attributes = found["differences"][0]["attributes"].as_array().expect("attributes");
    let word = attributes.iter().find(|attribute| attribute["name"] == "word").expect("it is named");
    assert_eq!((&word["source"], &word["target"]), (&json!("later"), &json!("word 20")));
}

#[test]
fn rules_say_how_closely_each_flow_is_looked_at() {
    let place = parcels::place();
    place.run(RUN).expect(3);
    let rules = "verify: [{ count: true }, { records: all, only: [senders] }]\n";
    place.write("parcels.yaml", &format!("{}{rules}", parcels::SPEC));
    let mut items = parcels::items(&place);
    let mut retitled =
        items.remove(&("SENDER#2".to_owned(), "PARCEL#1".to_owned())).expect("the item is there");
    retitled["title"] = json!({"S": "another"});
    tamper(&place, &[("put", json!({"Item": retitled}))]);
    let verify = ["verify", "parcels.yaml", "--env", "demo", "--json"];
    let found = place.run(&verify).expect(0).json();
    assert_eq!(flow(&found, "senders")["compared"], SENDERS);
    assert_eq!(flow(&found, "parcels")["numbers_alone"], true, "its contents are not looked at: {found}");
    let spoken = place.run(&verify[..4]).expect(0);
    assert!(spoken.err.contains("of one flow the numbers of records alone"), "{}", spoken.err);

    let key = |pk: &str, sk: &str| json!({"Key": {"pk": {"S": pk}, "sk": {"S": sk}}});
    tamper(&place, &[("delete", key("SENDER#7", "PROFILE")), ("delete", key("SENDER#2", "PARCEL#1"))]);
    let found = place.run(&verify).expect(4).json();
    assert_eq!((figures(&found, "senders"), figures(&found, "parcels")), ([1, 0, 0], [1, 0, 0]));
    assert_eq!(keys(&found, "missing"), BTreeSet::from(["PROFILE".to_owned()]));
    let only = place.run(&[&verify[..], &["--only", "parcels"]].concat()).expect(4).json();
    assert_eq!((&only["depth"], only["flows"].as_object().map(Map::len)), (&json!("count"), Some(1)));
}

#[test]
fn a_rehearsal_moves_everything_and_touches_no_target() {
    let place = parcels::place();
    let rehearsed = ["run", "parcels.yaml", "--env", "demo", "--rehearse", "--json"];
    let run = place.run(&rehearsed).expect(3).json();
    assert_eq!(run["verify"]["outcome"], "equal");
    assert_eq!(run["flows"]["senders"]["created"], SENDERS);
    assert!(run["totals"]["read"].as_u64() > Some(PARCELS / 2));
    assert!(!place.path("data/parcels.dynamodb").exists(), "the target was not even made");
    let report = place.only_run().join("report.html");
    assert!(std::fs::read_to_string(report).expect("a report").contains("<svg"));
    // It stands in nobody's way.
    place.run(RUN).expect(3);
}

const WORDS: &str = "
migration: words
stores:
  from: { files: . }
  rows: { sqlite: rows.sqlite }
flows:
  words: { from: { store: from, path: words.csv }, into: { store: rows, table: words } }
";

#[test]
fn records_without_a_key_are_named_whole_and_not_repaired() {
    let place = Place::new();
    place.write("words.csv", "word,of\na,b\na,b\na,b\n");
    place.write("words.yaml", WORDS);
    place.run(&["run", "words.yaml", "--create", "--verify"]).expect(0);
    let rows = Connection::open(place.path("rows.sqlite")).expect("the database opens");
    rows.execute("DELETE FROM words WHERE rowid = 2", []).expect("a row goes");
    drop(rows);
    let found = place.run(&["verify", "words.yaml", "--json"]).expect(4).json();
    assert_eq!(figures(&found, "words"), [1, 0, 0], "one of three that are the same");
    assert_eq!(found["differences"][0]["key"], json!({"word": "a", "of": "b"}));
    let refused = place.run(&["verify", "words.yaml", "--repair"]).expect(2);
    refused.one_error();
    assert!(refused.err.contains("no key") && refused.err.contains("hint: "), "{}", refused.err);
}

const LISTS: &str = "
migration: lists
stores:
  from: { files: . }
  rows: { sqlite: rows.sqlite }
  lines: { files: out, format: csv }
flows:
  rows: { from: { store: from, path: words.csv }, into: { store: rows, table: words, key: [id] } }
  lines: { from: { store: from, path: words.csv }, into: { store: lines, path: words.txt, key: [id] } }
verify: [{ sql: SELECT count(*) FROM rows.words, equals: 50, name: fifty words }]
";

#[test]
fn what_stands_in_for_a_database_file_and_for_files_is_what_they_are() {
    let place = Place::new();
    let words: String = (1..=50).map(|id| format!("{id},w{id}\n")).collect();
    place.write("words.csv", &format!("id,word\n{words}"));
    place.write("lists.yaml", LISTS);
    let run = place.run(&["run", "lists.yaml", "--rehearse", "--json"]).expect(0).json();
    assert_eq!(run["verify"]["outcome"], "equal", "{run}");
    assert_eq!(run["verify"]["assertions"][0]["ok"], true, "{run}");
    let lines =
        std::fs::read_to_string(place.only_run().join("rehearsal/lines/words.txt")).expect("the file");
    assert!(lines.starts_with("id,word\n1,w1\n"), "{lines}");
    assert!(
        !place.path("rows.sqlite").exists() && !place.path("out").exists(),
        "the targets were not touched"
    );
    let part = place.run(&["run", "lists.yaml", "--rehearse", "--only", "lines", "--json"]).expect(0).json();
    assert_eq!(part["verify"]["assertions"], json!([]), "nobody rehearsed what they are about: {part}");
}

const ODD: &str = "\
migration: odd
stores:
  one: { postgres: \"embedded:one.pg\" }
  other: { postgres: \"embedded:other.pg\" }
flows:
  odd: { from: { store: one, table: odd }, into: { store: other, table: odd, key: [id], ignore: [\"doc.seen_at\"] } }
";

#[test]
fn of_a_record_that_differs_only_what_differs_is_named() {
    let place = Place::new();
    let source = "CREATE TABLE odd (id int PRIMARY KEY, n int, b bit(5), w varbit, bs bit(3)[], m int[][], doc jsonb, d date); \
         INSERT INTO odd VALUES (1, 1, B'10101', B'1010', '{101}', '{{1,2},{3,4}}', '{\"a\": 1, \"seen_at\": 1}', 'infinity'), \
         (2, 2, B'00000', B'', '{}', '[0:1][1:1]={{1},{NULL}}', '{\"seen_at\": 2}', NULL)";
    parcels::fill(&place, "one.pg", source);
    place.write("odd.yaml", ODD);
    let plan = place.run(&["plan", "odd.yaml"]).expect(0);
    assert!(plan.out.contains("integer[][]"), "{}", plan.out);
    let run = place.run(&["run", "odd.yaml", "--create", "--verify", "--json"]).expect(0).json();
    assert_eq!((&run["totals"]["created"], &run["verify"]["outcome"]), (&json!(2), &json!("equal")), "{run}");

    let change = "UPDATE odd SET n = 7, doc = jsonb_set(doc, '{seen_at}', '9') WHERE id = 1; \
         UPDATE odd SET doc = jsonb_set(doc, '{seen_at}', '9') WHERE id = 2";
    parcels::fill(&place, "other.pg", change);
    let found = place.run(&["verify", "odd.yaml", "--all", "--json"]).expect(4).json();
    assert_eq!(figures(&found, "odd"), [0, 0, 1], "{found}");
    let attributes = &found["differences"][0]["attributes"];
    assert_eq!(*attributes, json!([{ "name": "n", "source": 1, "target": 7 }]), "{found}");

    // What is missing is shown as PostgreSQL writes it.
    parcels::fill(&place, "other.pg", "DELETE FROM odd WHERE id = 1");
    let found = place.run(&["verify", "odd.yaml", "--all", "--json"]).expect(4).json();
    let attributes = found["differences"][0]["attributes"].as_array().expect("attributes").clone();
    let shown =
        |name: &str| attributes.iter().find(|one| one["name"] == name).map(|one| one["source"].clone());
    for (name, value) in [("b", json!("10101")), ("w", json!("1010")), ("bs", json!(["101"]))] {
        assert_eq!(shown(name), Some(value), "{attributes:?}");
    }
    assert_eq!(shown("d"), Some(json!("infinity")));

    // The same words stand in files, and PostgreSQL takes them back.
    place.run(&["copy", "embedded:one.pg?table=odd", "odd.ndjson", "--verify"]).expect(0);
    let lines = std::fs::read_to_string(place.path("odd.ndjson")).expect("the file");
    assert!(lines.contains("\"infinity\""), "{lines}");
}

#[test]
fn a_rehearsal_with_xml_says_where_there_is_xml() {
    let place = Place::new();
    place.write("in.ndjson", "{\"id\": 1, \"x\": \"<a/>\"}\n");
    place.write("x.sql", "CREATE TABLE x (id int PRIMARY KEY, x xml);");
    let spec = "migration: x\nstores:\n  files: { files: . }\n  pg: { postgres: \"embedded:x.pg\", schema: x.sql }\n\
         flows:\n  x:\n    from: { store: files, path: in.ndjson }\n    columns: { id: integer, x: text }\n    transform: SELECT id, x FROM input\n    into: { store: pg, table: x }\n";
    place.write("x.yaml", spec);
    let ended = place.run(&["run", "x.yaml", "--rehearse", "--json"]);
    ended.one_error();
    assert!(ended.err.contains("without XML") && ended.err.contains("native server"), "{}", ended.err);
}
