//! Runs on real servers that are killed at any moment, and resumed.

use super::{Live, expected_parcels};
use crate::items::{self, Items};
use crate::kills::{Case, Target, kills};
use crate::parcels;
use std::process::Command;

impl Target for Live {
    fn environment(&self) -> &'static str {
        "live"
    }

    fn variable(&self, trial: &str) -> String {
        format!("table={}", self.tables.name(trial))
    }

    fn surroundings(&self, command: &mut Command) {
        Live::surroundings(self, command);
    }

    fn items(&self, trial: &str) -> Items {
        let items = self.tables.items(trial);
        items::assert_same(&items, &expected_parcels(&self.database));
        items
    }
}

/// Conditional writes are those in which a resumed run might take its own items for another's.
#[test]
fn parcels_under_insert_and_skip_existing_survive_kills() {
    let Some(live) = Live::with_parcels(2_200, 1_200) else { return };
    live.place.write("parcels.yaml", &parcels::SPEC.replace("mode: upsert", "mode: insert"));
    let spec = "parcels.yaml".to_owned();
    Case { place: &live.place, spec, target: &live, exit: 3, only: None }.survives(kills(4));
}
