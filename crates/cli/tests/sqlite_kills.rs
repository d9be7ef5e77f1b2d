//! Runs between SQLite files that are killed at any moment, and resumed.

use crate::chest;
use crate::items::Items;
use crate::kills::{Case, Target, kills};
use crate::place::Place;
use serde_json::Value;
use std::process::Command;

/// A file in the folder of each trial.
struct Files<'a>(&'a Place);

impl Target for Files<'_> {
    fn environment(&self) -> &'static str {
        "demo"
    }

    fn variable(&self, trial: &str) -> String {
        format!("target={trial}/target.db")
    }

    fn surroundings(&self, _: &mut Command) {}

    fn prepare(&self, trial: &str) {
        std::fs::create_dir_all(self.0.path(trial)).expect("the folder can be made");
    }

    fn items(&self, trial: &str) -> Items {
        chest::rows(&self.0.path(&format!("{trial}/target.db")))
    }

    fn batch_size(&self) -> &'static str {
        "20"
    }

    fn assert_counts(&self, flows: &Value) {
        assert_eq!(flows["boxes"]["created"], chest::BOXES);
        assert_eq!(flows["things"]["read"], chest::BOXES);
        // The first thing of all is neither readable nor in a box.
        assert_eq!(flows["things"]["rejected"], chest::ORPHANS + chest::UNREADABLE - 1);
    }
}

#[test]
fn rows_of_a_file_survive_kills_on_their_way_into_another() {
    let place = Place::new();
    chest::write(&place, "sqlite");
    let spec = "chest.yaml".to_owned();
    Case { place: &place, spec, target: &Files(&place), exit: 3, only: None }.survives(kills(4));
}
