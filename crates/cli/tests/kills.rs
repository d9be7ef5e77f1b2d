//! Runs that are killed with SIGKILL at any moment, resumed, and compared with a run that nobody disturbed.
//!
//! `WHIMBREL_KILLS` says how many kills each migration gets, `WHIMBREL_SEED` replays a sequence of moments.

use crate::items::{self, Items};
use crate::letters;
use crate::parcels;
use crate::place::{Ended, Place, Running, Shipped};
use dynoxide::{Database, ImportOptions};
use serde_json::{Value, json};
use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

/// Kills of one trial at most: a migration that is always killed never ends.
const KILLS_A_TRIAL: u32 = 3;

/// A migration whose source is filled, and how it is begun.
pub struct Case<'a> {
    pub place: &'a Place,
    pub spec: String,
    pub target: &'a dyn Target,
    /// The exit code of a run that nobody disturbs.
    pub exit: i32,
    pub only: Option<&'a str>,
}

/// Where the items go: somewhere else in each trial.
pub trait Target {
    /// The environment of the spec.
    fn environment(&self) -> &'static str;
    /// The variable that says where the items of a trial go, and its value.
    fn variable(&self, trial: &str) -> String;
    /// What the program finds in its own environment.
    fn surroundings(&self, command: &mut Command);
    /// What a trial left there.
    fn items(&self, trial: &str) -> Items;
    /// How many records a batch holds: few, so that there are many moments between them.
    fn batch_size(&self) -> &'static str {
        "50"
    }
    /// What the program says of its flows, as far as it is known beforehand.
    fn assert_counts(&self, _flows: &Value) {}
    /// Makes what a trial finds there, before its first run.
    fn prepare(&self, _trial: &str) {}
    /// Looks at what a killed run left there.
    fn look(&self, _trial: &str) {}
    /// Takes out of the counts what a kill may well change.
    fn settle(&self, _flows: &mut Value) {}
    /// Removes what a trial left there.
    fn clear(&self, _trial: &str) {}
}

/// An embedded DynamoDB in the folder of each trial.
struct Embedded<'a> {
    place: &'a Place,
    variable: &'a str,
    table: &'a str,
}

impl Target for Embedded<'_> {
    fn environment(&self) -> &'static str {
        "demo"
    }

    fn variable(&self, trial: &str) -> String {
        format!("{}=embedded:{trial}/items.dynamodb", self.variable)
    }

    fn surroundings(&self, _: &mut Command) {}

    fn items(&self, trial: &str) -> Items {
        items::in_file(&self.place.path(&format!("{trial}/items.dynamodb")), self.table)
    }
}

/// What a finished run left.
struct Left {
    items: Items,
    flows: Value,
    rejects: Vec<String>,
}

impl Case<'_> {
    fn begin(&self, trial: &str) -> Vec<String> {
        let (environment, items) = (self.target.environment(), self.target.variable(trial));
        let mut arguments = vec!["run", &self.spec, "--env", environment, "--create", "--set", &items];
        arguments.extend(["--batch-size", self.target.batch_size()]);
        arguments.extend(self.only.iter().flat_map(|only| ["--only", only]));
        arguments.iter().map(|&argument| argument.to_owned()).chain(self.common(trial)).collect()
    }

    fn common(&self, trial: &str) -> Vec<String> {
        vec!["--json".to_owned(), "--journal".to_owned(), format!("{trial}/journal")]
    }

    /// What a user would type next: nothing where the run is over.
    fn next(&self, trial: &str) -> Option<Vec<String>> {
        let status = self.run(&[&["status".to_owned()][..], &self.common(trial)].concat());
        if status.code == Some(2) {
            return Some(self.begin(trial));
        }
        let status = status.expect(0).json();
        match status["state"].as_str().expect("a state") {
            "killed" => Some([&["resume".to_owned()][..], &self.common(trial)].concat()),
            "complete" | "incomplete" => None,
            other => panic!("a killed run is {other}"),
        }
    }

    /// Begins the run of a trial.
    pub fn begin_trial(&self, trial: &str) -> Running {
        self.start(&self.begin(trial))
    }

    /// A killed run goes on to its end, and leaves what it should.
    pub fn goes_on(&self, trial: &str) {
        if let Some(next) = self.next(trial) {
            self.run(&next).expect(self.exit);
        }
        assert!(!self.left(trial).items.is_empty());
    }

    fn start(&self, arguments: &[String]) -> Running {
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        self.place.start_with(&arguments, |command| self.target.surroundings(command))
    }

    fn run(&self, arguments: &[String]) -> Ended {
        self.start(arguments).wait()
    }

    /// What the journal, the run's folder and the target hold after the end.
    fn left(&self, trial: &str) -> Left {
        let status = self.run(&[&["status".to_owned()][..], &self.common(trial)].concat()).expect(0).json();
        let run = format!("{trial}/journal/runs/{}", status["run"].as_str().expect("the run's name"));
        let rejects =
            std::fs::read_to_string(self.place.path(&run).join("rejects.ndjson")).unwrap_or_default();
        let mut rejects: Vec<String> = rejects.lines().map(comparable).collect();
        rejects.sort();
        let mut flows = status["flows"].clone();
        for flow in flows.as_object_mut().expect("flows").values_mut() {
            *flow = flow["counts"].take();
            assert_adds_up(flow);
        }
        self.target.assert_counts(&flows);
        self.target.settle(&mut flows);
        let rejected = |flow: &Value| flow["rejected"].as_u64().expect("a number");
        let counted: u64 = flows.as_object().expect("flows").values().map(rejected).sum();
        assert_eq!(rejects.len() as u64, counted, "every reject that is counted is kept, and no other");
        Left { items: self.target.items(trial), flows, rejects }
    }

    /// Kills so many runs, at moments spread over the time that an undisturbed run takes, and resumes each.
    pub fn survives(&self, kills: u32) {
        self.target.prepare("undisturbed");
        let began = Instant::now();
        self.run(&self.begin("undisturbed")).expect(self.exit);
        let whole = began.elapsed();
        let expected = self.left("undisturbed");
        assert!(!expected.items.is_empty());
        let mut random = Random::seeded();
        let mut killed = 0;
        while killed < kills {
            let trial = format!("trial-{killed}");
            // The first kill of a trial has its share of the time; the others come at any moment.
            let share = whole.mul_f64((f64::from(killed) + random.fraction()) / f64::from(kills));
            killed += 1;
            self.target.prepare(&trial);
            self.kill_after(&self.begin(&trial), share);
            self.target.look(&trial);
            for _ in 1..KILLS_A_TRIAL {
                if killed >= kills || random.fraction() < 0.5 {
                    break;
                }
                if let Some(next) = self.next(&trial) {
                    killed += 1;
                    self.kill_after(&next, whole.mul_f64(random.fraction()));
                    self.target.look(&trial);
                }
            }
            if let Some(next) = self.next(&trial) {
                self.run(&next).expect(self.exit);
            }
            let left = self.left(&trial);
            items::assert_same(&left.items, &expected.items);
            assert_eq!(left.flows, expected.flows, "the counts of {trial}");
            assert_same_rejects(&trial, &left.rejects, &expected.rejects);
            self.target.clear(&trial);
            std::fs::remove_dir_all(self.place.path(&trial)).expect("the trial can go");
        }
    }

    /// Kills what is still running after that time. What has ended before counts for the budget all the same: the
    /// moments are spread, not aimed.
    fn kill_after(&self, arguments: &[String], moment: Duration) {
        let mut running = self.start(arguments);
        std::thread::sleep(moment);
        if running.has_ended() {
            running.wait().expect(self.exit);
        } else {
            note(&format!("killed after {moment:?}"));
            running.kill();
        }
    }
}

/// What is read becomes something.
#[track_caller]
fn assert_adds_up(counts: &Value) {
    let count = |name: &str| counts[name].as_u64().unwrap_or_else(|| panic!("`{name}` in {counts}"));
    let became = ["created", "updated", "unchanged", "skipped", "rejected", "filtered"].map(count);
    assert_eq!(count("read"), became.iter().sum::<u64>(), "{counts}");
}

/// Says where they differ, the first few of each side.
#[track_caller]
fn assert_same_rejects(trial: &str, found: &[String], expected: &[String]) {
    let only = |these: &[String], those: &[String]| {
        these.iter().filter(|line| !those.contains(line)).take(3).cloned().collect::<Vec<_>>()
    };
    if found != expected {
        let (extra, missing) = (only(found, expected), only(expected, found));
        let (found, expected) = (found.len(), expected.len());
        panic!("{trial}: {found} rejects, {expected} expected; missing {missing:#?}, extra {extra:#?}");
    }
}

/// A line of a reject file without what another run may well say otherwise: which of two records of one key comes
/// second, the number by which PostgreSQL knows a table, and fingerprints, which are keyed by the journal.
fn comparable(line: &str) -> String {
    let mut reject: Value = serde_json::from_str(line).expect("a line is JSON");
    if reject["reason"].as_str().is_some_and(|reason| reason.contains("a second record with the key")) {
        for place in ["record", "original"] {
            if let Some(partition) = reject[place].get_mut("pk") {
                partition.take();
            }
        }
        reject["key"].take();
        reject["slice"].take();
    }
    if reject["slice"].as_str().is_some_and(|slice| slice.starts_with("after-load.")) {
        reject["slice"].take();
    }
    if let Some(reject) = reject.as_object_mut() {
        reject.remove("fingerprint");
    }
    // The attributes of an item have no order.
    reject.sort_all_objects();
    reject.to_string()
}

/// For whoever reads a failed test's output.
fn note(text: &str) {
    writeln!(std::io::stderr(), "{text}").expect("standard error can be written");
}

#[test]
fn parcels_with_rejects_survive_kills() {
    let place = parcels::place();
    let target = Embedded { place: &place, variable: "items", table: "parcels" };
    let case = Case { place: &place, spec: "parcels.yaml".to_owned(), target: &target, exit: 3, only: None };
    case.survives(kills(4));
}

/// The embedded PostgreSQL writes a note in place at every start; a kill in the middle of that leaves it empty.
#[test]
fn a_database_starts_after_a_kill_in_the_middle_of_its_start() {
    let place = parcels::place();
    let note = place.path("data/parcels.pg/tmp/pglite/.pglite-oxide-runtime-layout.json");
    assert!(note.exists(), "the note is where it is thought to be");
    std::fs::write(&note, "").expect("the note can be written");
    let count = ["query", "parcels.yaml", "SELECT count(*) AS n FROM parcels", "--store", "pg", "--json"];
    let ended = place.run(&[&count[..], &["--env", "demo"]].concat()).expect(0);
    assert_eq!(ended.out.trim(), format!(r#"{{"n":{}}}"#, parcels::PARCELS));
}

#[test]
fn cello_survives_kills() {
    let place = Place::new();
    let target = Embedded { place: &place, variable: "endpoint", table: "cello" };
    let case = Case { place: &place, spec: shipped(&place, "cello"), target: &target, exit: 0, only: None };
    case.survives(kills(2));
}

#[test]
fn ratels_users_and_followers_survive_kills() {
    let place = Place::new();
    let target = Embedded { place: &place, variable: "endpoint", table: "ratel-local" };
    let only = Some("users,followers,feed_likes");
    let case = Case { place: &place, spec: shipped(&place, "ratel"), target: &target, exit: 0, only };
    case.survives(kills(2));
}

/// Two flows out of one scan into an embedded PostgreSQL in the folder of each trial.
struct Letters<'a> {
    place: &'a Place,
    expected: letters::Expected,
}

impl Letters<'_> {
    fn database(trial: &str) -> String {
        format!("database=embedded:{trial}/letters.pg")
    }
}

impl Target for Letters<'_> {
    fn environment(&self) -> &'static str {
        "demo"
    }

    fn variable(&self, trial: &str) -> String {
        Self::database(trial)
    }

    fn surroundings(&self, _: &mut Command) {}

    fn items(&self, trial: &str) -> Items {
        let database = Self::database(trial);
        let query = ["query", "letters.yaml", letters::ROWS, "--store", "main", "--json", "--env", "demo"];
        let ended = self.place.run(&[&query[..], &["--set", &database]].concat()).expect(0);
        let document = |line: &str| {
            let mut row: Value = serde_json::from_str(line).expect("a line is JSON");
            row["document"].take()
        };
        rows(ended.out.lines().map(document), self.expected)
    }

    fn assert_counts(&self, flows: &Value) {
        self.expected.assert_counts(flows);
    }
}

/// Rows by table and id; they must be as many as the items that are as they should be.
pub fn rows(documents: impl IntoIterator<Item = Value>, expected: letters::Expected) -> Items {
    let mut items = Items::new();
    for mut document in documents {
        let name = |value: &Value| value.as_str().expect("a text").to_owned();
        let key = (name(&document["table"]), name(&document["id"]));
        assert_eq!(items.insert(key, document["row"].take()), None, "an id comes once");
    }
    let count = |table: &str| items.keys().filter(|(of, _)| of == table).count() as u64;
    let found = (count("conversations"), count("messages"));
    assert_eq!(
        found,
        (expected.conversations.arrive, expected.messages.arrive),
        "conversations and messages"
    );
    items
}

/// Writes the spec, and what makes its tables.
pub fn write_letters(place: &Place) {
    place.write("letters.yaml", letters::SPEC);
    place.write("letters.sql", letters::SCHEMA);
}

#[test]
fn conversations_and_their_messages_survive_kills() {
    let place = Place::new();
    write_letters(&place);
    let (items, expected) = letters::items(210);
    let path = place.path("data/letters.dynamodb");
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("the folder can be made");
    let database = Database::new(path.to_str().expect("the path is UTF-8")).expect("the database opens");
    let key = |name, role| json!({"AttributeName": name, "KeyType": role});
    let attribute = |name| json!({"AttributeName": name, "AttributeType": "S"});
    let table = json!({
        "TableName": letters::TABLE, "BillingMode": "PAY_PER_REQUEST",
        "KeySchema": [key("pk", "HASH"), key("sk", "RANGE")],
        "AttributeDefinitions": [attribute("pk"), attribute("sk")],
    });
    database.create_table(serde_json::from_value(table).expect("a table")).expect("the table can be made");
    let item = |item| serde_json::from_value(item).expect("an item");
    let items = items.into_iter().map(item).collect();
    database.import_items(letters::TABLE, items, ImportOptions::default()).expect("the items can be written");
    drop(database);
    let target = Letters { place: &place, expected };
    let case = Case { place: &place, spec: "letters.yaml".to_owned(), target: &target, exit: 3, only: None };
    case.survives(kills(2));
}

/// The spec of a migration that comes with whimbrel; its embedded source is filled.
fn shipped(place: &Place, name: &str) -> String {
    let shipped = Shipped::named(name);
    parcels::fill(place, &format!("data/{name}.pg"), &shipped.script());
    shipped.spec()
}

/// How many kills were asked for.
pub fn kills(default: u32) -> u32 {
    std::env::var("WHIMBREL_KILLS")
        .map_or(default, |kills| kills.parse().expect("WHIMBREL_KILLS is a number"))
}

/// A sequence of numbers that only its seed decides.
struct Random(u64);

impl Random {
    fn seeded() -> Self {
        let seed =
            std::env::var("WHIMBREL_SEED").map_or(1, |seed| seed.parse().expect("WHIMBREL_SEED is a number"));
        note(&format!("WHIMBREL_SEED={seed}"));
        Self(seed)
    }

    /// From 0 to 1. (SplitMix64.)
    fn fraction(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        f64::from(u32::try_from((mixed ^ (mixed >> 31)) >> 32).expect("32 bits")) / f64::from(u32::MAX)
    }
}
