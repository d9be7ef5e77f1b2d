//! Runs that are killed with SIGKILL at any moment, resumed, and compared with a run that nobody disturbed.
//!
//! `WHIMBREL_KILLS` says how many kills each migration gets, `WHIMBREL_SEED` replays a sequence of moments.

use crate::items::{self, Items};
use crate::parcels;
use crate::place::Place;
use serde_json::Value;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

/// Kills of one trial at most: a migration that is always killed never ends.
const KILLS_A_TRIAL: u32 = 3;

/// A migration whose source is filled, and how it is begun.
struct Case<'a> {
    place: &'a Place,
    spec: String,
    table: &'a str,
    /// The variable that says where the items go.
    items_variable: &'a str,
    /// The exit code of a run that nobody disturbs.
    exit: i32,
    only: Option<&'a str>,
}

/// What a finished run left.
struct Left {
    items: Items,
    flows: Value,
    rejects: Vec<String>,
}

impl Case<'_> {
    fn begin(&self, trial: &str) -> Vec<String> {
        let items = format!("{}=embedded:{trial}/items.dynamodb", self.items_variable);
        let mut arguments = vec!["run", &self.spec, "--env", "demo", "--create", "--set", &items];
        arguments.extend(["--batch-size", "50"]);
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

    fn run(&self, arguments: &[String]) -> crate::place::Ended {
        self.place.run(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// What the journal, the run's folder and the target hold after the end.
    fn left(&self, trial: &str) -> Left {
        let status = self.run(&[&["status".to_owned()][..], &self.common(trial)].concat()).expect(0).json();
        let run = format!("{trial}/journal/runs/{}", status["run"].as_str().expect("the run's name"));
        let rejects =
            std::fs::read_to_string(self.place.path(&run).join("rejects.ndjson")).unwrap_or_default();
        let mut rejects: Vec<String> = rejects.lines().map(str::to_owned).collect();
        rejects.sort();
        let file = self.place.path(&format!("{trial}/items.dynamodb"));
        let mut flows = status["flows"].clone();
        for flow in flows.as_object_mut().expect("flows").values_mut() {
            *flow = flow["counts"].take();
        }
        Left { items: items::in_file(&file, self.table), flows, rejects }
    }

    /// Kills so many runs, at moments spread over the time that an undisturbed run takes, and resumes each.
    fn survives(&self, kills: u32) {
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
            self.kill_after(&self.begin(&trial), share);
            for _ in 1..KILLS_A_TRIAL {
                if killed >= kills || random.fraction() < 0.5 {
                    break;
                }
                if let Some(next) = self.next(&trial) {
                    killed += 1;
                    self.kill_after(&next, whole.mul_f64(random.fraction()));
                }
            }
            if let Some(next) = self.next(&trial) {
                self.run(&next).expect(self.exit);
            }
            let left = self.left(&trial);
            items::assert_same(&left.items, &expected.items);
            assert_eq!(left.flows, expected.flows, "the counts of {trial}");
            assert_eq!(left.rejects, expected.rejects, "the rejects of {trial}");
            std::fs::remove_dir_all(self.place.path(&trial)).expect("the trial can go");
        }
    }

    /// Kills what is still running after that time. What has ended before counts for the budget all the same: the
    /// moments are spread, not aimed.
    fn kill_after(&self, arguments: &[String], moment: Duration) {
        let mut running = self.place.start(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        std::thread::sleep(moment);
        if running.has_ended() {
            running.wait().expect(self.exit);
        } else {
            note(&format!("killed after {moment:?}"));
            running.kill();
        }
    }
}

/// For whoever reads a failed test's output.
fn note(text: &str) {
    writeln!(std::io::stderr(), "{text}").expect("standard error can be written");
}

#[test]
fn parcels_with_rejects_survive_kills() {
    let place = parcels::place();
    let case = Case {
        place: &place,
        spec: "parcels.yaml".to_owned(),
        table: "parcels",
        items_variable: "items",
        exit: 3,
        only: None,
    };
    case.survives(kills(4));
}

#[test]
fn cello_survives_kills() {
    let place = Place::new();
    let case = shipped(&place, "cello", "cello", None);
    case.survives(kills(2));
}

#[test]
fn ratels_users_and_followers_survive_kills() {
    let place = Place::new();
    let case = shipped(&place, "ratel", "ratel-local", Some("users,followers,feed_likes"));
    case.survives(kills(2));
}

/// A migration that comes with whimbrel, its source filled.
fn shipped<'a>(place: &'a Place, name: &str, table: &'a str, only: Option<&'a str>) -> Case<'a> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations").join(name);
    let read = |file: &str| std::fs::read_to_string(folder.join(file)).expect("a file of the migration");
    parcels::fill(
        place,
        &format!("data/{name}.pg"),
        &format!("{}\n{}", read("schema.sql"), read("sample.sql")),
    );
    let spec = folder.join(format!("{name}.yaml")).display().to_string();
    Case { place, spec, table, items_variable: "endpoint", exit: 0, only }
}

fn kills(default: u32) -> u32 {
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
