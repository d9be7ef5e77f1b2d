//! Cello's repair of times: from the table and from a dump of it, word by word, and what it must leave alone.

use crate::faults::Server;
use crate::items::{self, Items};
use crate::kills::{Case, Target, kills};
use crate::place::{Ended, Place, Shipped, until};
use dynoxide::{Database, ImportOptions};
use serde_json::{Value, json};
use std::process::Command;

/// As PostgreSQL prints it, and as it should be.
const OLD: [&str; 2] = ["2022-02-02 18:01:49.345261+00", "2023-02-02 18:01:49.345261+00"];
const NEW: [&str; 2] = ["2022-02-02T18:01:49.345261000Z", "2023-02-02T18:01:49.345261000Z"];

const TABLE: &str = "data/cello-old.dynamodb";

fn s(text: &str) -> Value {
    json!({ "S": text })
}

fn token(project: &str, id: &str, times: [&str; 2]) -> Value {
    json!({"pk": s(&format!("PROJECT#{project}")), "sk": s(&format!("TOKEN#{id}")),
           "created_at": s(times[0]), "expires_at": s(times[1]), "note": {"M": {"n": {"N": "1.5"}}}})
}

/// 150 items: 20 projects, 80 tokens whose times are right, and 50 that want repair.
fn hundred_and_fifty() -> Vec<Value> {
    let project =
        |n| json!({"pk": s(&format!("PROJECT#p{n}")), "sk": s("METADATA"), "repository": s(OLD[0])});
    let right = |n| token("right", &format!("tkn-{n}"), NEW);
    let wrong = |n| token("my-project", &format!("tkn-{}", 123 + n), OLD);
    (0..20).map(project).chain((0..80).map(right)).chain((0..50).map(wrong)).collect()
}

/// Makes the table `cello` and puts items into it.
fn import(database: &Database, items: &[Value]) {
    let mut table: Value = serde_json::from_str(
        &std::fs::read_to_string(Shipped::named("cello").file("dynamodb-schema.json")).expect("the table"),
    )
    .expect("JSON");
    table["TableName"] = json!("cello");
    database.create_table(serde_json::from_value(table).expect("a table")).expect("the table can be made");
    let items = items.iter().map(|item| serde_json::from_value(item.clone()).expect("an item")).collect();
    database.import_items("cello", items, ImportOptions::default()).expect("the items can be written");
}

fn open(place: &Place) -> Database {
    Database::new(place.path(TABLE).to_str().expect("the path is UTF-8")).expect("the database opens")
}

/// A folder whose embedded DynamoDB holds these items.
fn holding(items: &[Value]) -> Place {
    let place = Place::new();
    std::fs::create_dir_all(place.path("data")).expect("the folder can be made");
    import(&open(&place), items);
    place
}

fn held(place: &Place) -> Items {
    items::in_file(&place.path(TABLE), "cello")
}

fn repair(place: &Place, command: &str, spec: &str, more: &[&str]) -> Ended {
    let spec = Shipped::named("cello").file(spec);
    place.run(&[&[command, &spec, "--env", "demo", "--no-progress"], more].concat())
}

/// What the repair should have made of items.
fn repaired(items: &[Value]) -> Items {
    let mut expected = Items::new();
    for item in items {
        let mut item = item.clone();
        if item["sk"]["S"] != "METADATA" {
            for name in ["created_at", "expires_at"] {
                if let Some(place) = OLD.iter().position(|old| item[name]["S"] == *old) {
                    item[name] = s(NEW[place]);
                }
            }
        }
        items::put(&mut expected, item);
    }
    expected
}

fn dump(place: &Place, file: &str) {
    let from = format!("dynamodb://cello?region=us-east-1&endpoint=embedded:{TABLE}");
    place.run(&["copy", &from, file, "--quiet"]).expect(0);
}

#[test]
fn a_dry_run_says_each_change_and_the_run_does_it() {
    let items = hundred_and_fifty();
    let place = holding(&items);
    let before = held(&place);
    let change = |id: u32, fate: &str| {
        format!(
            "[PROJECT#my-project][TOKEN#tkn-{id}]:\n  created_at: {} → {}\n  expires_at: {} → {}\n  {fate}\n",
            OLD[0], NEW[0], OLD[1], NEW[1]
        )
    };
    let line = "-".repeat(80);
    let summary = |skipped: u32, processed: u32| {
        format!(
            "{line}\nSummary:\n  Total records: 150\n  Skipped: {skipped}\n  Processed: {processed}\n  Successful: {processed}\n  Failed: 0\n"
        )
    };
    let planned = repair(&place, "plan", "repair.yaml", &["--all", "--diff"]).expect(0).out;
    for id in 123..173 {
        assert!(planned.contains(&change(id, "DRY RUN - Would update")), "{planned}");
    }
    assert_eq!(planned.matches("DRY RUN").count(), 50);
    assert!(planned.contains(&summary(100, 50)), "{planned}");
    assert_eq!(held(&place), before, "a plan writes nothing");

    let done = repair(&place, "run", "repair.yaml", &["--diff", "--verify"]).expect(0).out;
    for id in 123..173 {
        assert!(done.contains(&change(id, "✓ Updated")), "{done}");
    }
    assert!(done.contains(&summary(100, 50)), "{done}");
    items::assert_same(&held(&place), &repaired(&items));

    let again = repair(&place, "run", "repair.yaml", &["--diff"]).expect(0).out;
    assert_eq!(again, summary(150, 0));
    items::assert_same(&held(&place), &repaired(&items));
}

/// What is said to become of a token, or to have become of it.
#[track_caller]
fn fate_of(out: &str, id: &str) -> String {
    let (_, rest) = out.split_once(&format!("[TOKEN#{id}]:\n")).unwrap_or_else(|| panic!("{id}: {out}"));
    let fate = rest.lines().find(|line| line.starts_with("  ") && !line.contains('→'));
    fate.expect("its fate").trim().to_owned()
}

#[test]
fn a_dump_of_the_table_tells_what_to_repair_and_what_has_changed_since_stays() {
    for file in ["ddb-dump.json", "ddb-dump.dynamodb.json"] {
        let items = hundred_and_fifty();
        let place = holding(&items);
        dump(&place, file);
        // Somebody extends a token, somebody removes another, and a third is repaired already.
        let mut expected = repaired(&items);
        let database = open(&place);
        let put = |item: &Value| {
            let request = json!({"TableName": "cello", "Item": item});
            database.put_item(serde_json::from_value(request).expect("an item")).expect("it can be written");
        };
        let key = |id: &str| ("PROJECT#my-project".to_owned(), format!("TOKEN#{id}"));
        let extended = token("my-project", "tkn-130", [OLD[0], "2029-01-01 00:00:00+00"]);
        put(&extended);
        expected.insert(key("tkn-130"), extended);
        put(&token("my-project", "tkn-132", NEW));
        let gone =
            json!({"TableName": "cello", "Key": {"pk": s("PROJECT#my-project"), "sk": s("TOKEN#tkn-131")}});
        database.delete_item(serde_json::from_value(gone).expect("a key")).expect("it can go");
        expected.remove(&key("tkn-131"));
        drop(database);

        let set = format!("file={file}");
        let numbers =
            "  Total records: 150\n  Skipped: 101\n  Processed: 49\n  Successful: 47\n  Failed: 2\n";
        let planned =
            repair(&place, "plan", "repair-from-dump.yaml", &["--all", "--diff", "--set", &set]).expect(3);
        assert!(planned.out.contains(numbers), "{}", planned.out);
        let foreseen = |id: &str| fate_of(&planned.out, id);
        assert!(
            foreseen("tkn-130").contains("Would fail: conflict: attribute `expires_at`"),
            "{}",
            planned.out
        );
        assert!(foreseen("tkn-131").contains("Would fail: there is no record"), "{}", planned.out);
        assert_eq!(foreseen("tkn-133"), "DRY RUN - Would update");
        let done = repair(&place, "run", "repair-from-dump.yaml", &["--diff", "--set", &set]).expect(3);
        assert!(done.out.contains(numbers), "{}", done.out);
        let fate = |id: &str| fate_of(&done.out, id);
        assert!(fate("tkn-130").starts_with("✗ Failed: conflict"), "{}", done.out);
        assert!(fate("tkn-131").starts_with("✗ Failed: "), "{}", done.out);
        assert_eq!(fate("tkn-133"), "✓ Updated");
        items::assert_same(&held(&place), &expected);
    }
}

#[test]
fn an_item_that_is_edited_while_it_is_repaired_keeps_the_edit() {
    let items: Vec<_> = (0..4_000).map(|n| token(&format!("p{}", n % 7), &format!("tkn-{n}"), OLD)).collect();
    let place = Place::new();
    let server = Server::start();
    import(&server.database, &items);
    let endpoint = format!("endpoint={}", server.endpoint());
    let spec = Shipped::named("cello").file("repair.yaml");
    let run = ["run", &spec, "--env", "demo", "--diff", "--no-progress", "--set", &endpoint];
    let mut running = place.start_with(&run, |command: &mut Command| {
        command.env("AWS_ACCESS_KEY_ID", "nobody").env("AWS_SECRET_ACCESS_KEY", "nothing");
    });
    // The first update shows that the page with all of them was read. Stopped, the program cannot win the race.
    let is_old = |item: &Value| item["created_at"]["S"] == OLD[0];
    until("the first update", || {
        assert!(!running.has_ended(), "the repair ended before it was looked at");
        items::of(&server.database, "cello").values().any(|item| !is_old(item)).then_some(())
    });
    running.signal("STOP");
    // What was on its way has arrived when nothing moves any more.
    let mut seen = items::of(&server.database, "cello");
    until("the table to be still", || {
        let before = std::mem::replace(&mut seen, items::of(&server.database, "cello"));
        (before == seen).then_some(())
    });
    let edited = "2031-01-01 00:00:00.5+00";
    let mut edits = Vec::new();
    for (key, mut item) in seen.into_iter().filter(|(_, item)| is_old(item)) {
        item["expires_at"] = s(edited);
        let request = json!({"TableName": "cello", "Item": item});
        let request = serde_json::from_value(request).expect("an item");
        server.database.put_item(request).expect("it can be written");
        edits.push(key);
    }
    running.signal("CONT");
    assert!(edits.len() > 100, "the repair was stopped too late: {}", edits.len());
    let ended = running.wait().expect(3);
    assert!(ended.out.contains("✗ Failed: conflict"), "{}", ended.err);
    let found = items::of(&server.database, "cello");
    assert_eq!(found.len(), items.len());
    let kept = edits.iter().filter(|key| found[*key]["expires_at"]["S"] == edited).count();
    let failed = ended.out.matches("✗ Failed: conflict").count();
    assert_eq!((kept, failed), (edits.len(), edits.len()), "an edit was overwritten");
}

#[test]
fn only_the_shape_of_postgresql_is_repaired_and_no_day_is_guessed() {
    // What stands there, and what should stand there afterwards; nothing where it must stay as it is.
    let forms = [
        ("2022-02-02 18:01:49.345261+00", Some("2022-02-02T18:01:49.345261000Z")),
        ("2022-02-02 18:01:49+00", Some("2022-02-02T18:01:49.000000000Z")),
        ("2022-02-02 18:01:49.3+00", Some("2022-02-02T18:01:49.300000000Z")),
        ("2022-02-02 18:01:49.345261+05:30", Some("2022-02-02T12:31:49.345261000Z")),
        ("2022-01-01 00:30:00-08", Some("2022-01-01T08:30:00.000000000Z")),
        ("2022-01-01 00:30:00+01:30:15", Some("2021-12-31T22:59:45.000000000Z")),
        ("2024-02-29 23:59:59.999999+00", Some("2024-02-29T23:59:59.999999000Z")),
        ("2022-02-02T18:01:49.345261000Z", None),
        ("2022-02-02T18:01:49Z", None),
        ("2022-02-02T18:01:49+00:00", None),
        ("2022-02-02 18:01:49", None),
        ("2022-02-02 18:01:49Z", None),
        ("2022-02-02", None),
        ("02/02/2022 18:01", None),
        ("1643824909", None),
        ("infinity", None),
        ("", None),
        // Of the right shape, and no time: rejects.
        ("2023-02-29 00:00:00+00", None),
        ("2022-02-02 25:00:00+00", None),
        ("2022-13-02 18:01:49+00", None),
    ];
    let rejects = 3;
    let id = |n: usize| format!("tkn-{n:02}");
    let mut items: Vec<Value> =
        forms.iter().enumerate().map(|(n, (old, _))| token("p", &id(n), [old, NEW[1]])).collect();
    // One attribute wants repair, the other has another type, is NULL, or is not there.
    for (n, other) in [(90, Some(json!({"N": "1643824909"}))), (91, Some(json!({"NULL": true}))), (92, None)]
    {
        let mut item = token("p", &id(n), OLD);
        match other {
            Some(other) => item["expires_at"] = other,
            None => drop(item.as_object_mut().expect("an item").remove("expires_at")),
        }
        items.push(item);
    }
    let mut expected = Items::new();
    for (n, item) in items.iter().enumerate() {
        let mut item = item.clone();
        match forms.get(n) {
            Some((_, new)) => new.iter().for_each(|new| item["created_at"] = s(new)),
            None => item["created_at"] = s(NEW[0]),
        }
        items::put(&mut expected, item);
    }
    let place = holding(&items);
    let planned = repair(&place, "plan", "repair.yaml", &["--all", "--diff"]).expect(3).out;
    let processed = 7 + 3 + rejects;
    let numbers = format!(
        "  Total records: {}\n  Skipped: {}\n  Processed: {processed}\n  Successful: {}\n  Failed: {rejects}\n",
        items.len(),
        items.len() - processed,
        processed - rejects
    );
    assert!(planned.contains(&numbers), "{planned}");
    let told = |fate: &str| {
        format!("[PROJECT#p][TOKEN#tkn-17]:\n  {fate}: \"2023-02-29 00:00:00+00\": there is no such day\n")
    };
    assert!(planned.contains(&told("DRY RUN - Would fail")), "{planned}");
    let done = repair(&place, "run", "repair.yaml", &["--diff"]).expect(3);
    assert!(done.out.contains(&told("✗ Failed")), "{}", done.out);
    assert!(done.out.contains(&numbers), "{}", done.out);
    for (value, name) in [("2023-02-29 00:00:00+00", "tkn-17"), ("2022-02-02 25:00:00+00", "tkn-18")] {
        assert!(done.err.contains(value) && done.err.contains(name), "{}", done.err);
    }
    items::assert_same(&held(&place), &expected);
    // What could not be repaired does not pass for repaired.
    let verified = repair(&place, "verify", "repair.yaml", &["--json"]).expect(4).json();
    assert_eq!(verified["assertions"][0]["value"], json!(format!("{rejects} rows")), "{verified}");
}

/// An embedded DynamoDB in the folder of each trial, whose times are those of an older program.
struct Repaired<'a> {
    place: &'a Place,
    items: Vec<Value>,
}

impl Target for Repaired<'_> {
    fn environment(&self) -> &'static str {
        "demo"
    }

    fn variable(&self, trial: &str) -> String {
        format!("endpoint=embedded:{trial}/items.dynamodb")
    }

    fn surroundings(&self, _: &mut Command) {}

    fn prepare(&self, trial: &str) {
        let path = self.place.path(&format!("{trial}/items.dynamodb"));
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder can be made");
        let database = Database::new(path.to_str().expect("the path is UTF-8")).expect("the database opens");
        import(&database, &self.items);
    }

    fn items(&self, trial: &str) -> Items {
        let items = items::in_file(&self.place.path(&format!("{trial}/items.dynamodb")), "cello");
        items::assert_same(&items, &repaired(&self.items));
        items
    }

    fn settle(&self, flows: &mut Value) {
        // What was repaired and not yet accounted for needs no repair when it is read again.
        let counts = &mut flows["timestamps"];
        let both = ["updated", "filtered"].map(|name| counts[name].as_u64().expect("a number"));
        assert!(both[1] >= 80, "{counts}");
        counts["updated"] = json!(both[0] + both[1]);
        counts["filtered"].take();
        counts["bytes"].take();
    }
}

#[test]
fn repairs_of_cello_survive_kills() {
    let place = Place::new();
    let many = (0..3_000).map(|n| token(&format!("p{}", n % 40), &format!("tkn-{n}"), OLD));
    let items = hundred_and_fifty().into_iter().chain(many).collect();
    let target = Repaired { place: &place, items };
    let spec = Shipped::named("cello").file("repair.yaml");
    let case = Case { place: &place, spec, target: &target, exit: 0, only: None };
    case.survives(kills(4));
}
