//! The one line that says how far a run is, what it does and what it waits for. No clock of its own.

use std::time::Duration;
use whimbrel_engine::activity::{Doing, SliceSnapshot};
use whimbrel_engine::pace::{Rate, TimeLeft};
use whimbrel_engine::progress::Extent;
use whimbrel_report::figures::{bytes, count, seconds, share, units};
use whimbrel_store::StepExtent;

/// A slice that has taken no longer than this is not worth a word.
const WORTH_A_WORD: Duration = Duration::from_secs(10);
/// Characters of a name that are shown.
const SHOWN_CHARACTERS: usize = 60;

/// A run at one moment.
#[derive(Clone, Debug)]
pub struct Status {
    /// How far it is.
    pub extent: Extent,
    /// Records that the flows read, where the sources' own are not known yet.
    pub read: u64,
    /// How fast it is now.
    pub rate: Rate,
    /// When it may end.
    pub left: Option<TimeLeft>,
    /// Slices complete, and in all.
    pub slices: (u64, u64),
    /// The slice at work that began first.
    pub oldest: Option<SliceSnapshot>,
    /// What the run has mostly waited for of late.
    pub waits_for: Option<Doing>,
    /// Whether a store has asked for patience of late.
    pub throttled: bool,
    /// Records rejected.
    pub rejected: u64,
    /// Requests sent again in this process.
    pub retries: u64,
    /// Answers that asked for patience in this process.
    pub throttles: u64,
    /// How far a store is with what it does behind the load.
    pub step: Option<StepExtent>,
}

impl Status {
    /// What there is to say, the most important first.
    #[must_use]
    pub fn parts(&self) -> Vec<String> {
        let scanned = self.extent.scanned.max(if self.extent.expected.is_none() { self.read } else { 0 });
        let mut parts = vec![match (self.extent.expected, self.extent.share) {
            (Some(expected), Some(part)) if expected > 0 => {
                format!("{} of {} records ({})", count(scanned), count(expected), share(part))
            }
            (_, Some(part)) if self.slices.1 > 1 => {
                format!("{} records, {} of the slices", count(scanned), share(part))
            }
            _ => format!("{} records", count(scanned)),
        }];
        match &self.step {
            // All records are there: what they did last is of no interest.
            Some(step) => parts.insert(0, phase(step)),
            None => {
                parts.extend(self.left.map(left));
                parts.push(format!("{}/s", units(self.rate.records_per_s)));
                parts.extend(self.waits_for.as_ref().map(|doing| waits_for(doing, self.throttled)));
            }
        }
        if self.rejected > 0 {
            parts.push(format!("{} rejected", count(self.rejected)));
        }
        if self.rate.bytes_per_s >= 1.0 {
            parts.push(format!("{}/s", bytes(whole(self.rate.bytes_per_s))));
        }
        if self.slices.1 > 1 {
            parts.push(format!("slices {} of {}", count(self.slices.0), count(self.slices.1)));
        }
        parts.extend(self.oldest.as_ref().filter(|slice| slice.age >= WORTH_A_WORD).map(slowest));
        if self.retries > 0 {
            parts.push(format!("{} requests sent again", count(self.retries)));
        }
        if self.throttles > 0 {
            parts.push(format!("throttled {} times", count(self.throttles)));
        }
        parts
    }

    /// As many parts as fit into so many columns; the first in any case.
    #[must_use]
    pub fn line(&self, columns: usize) -> String {
        let mut line = String::new();
        for part in self.parts() {
            let (used, more) = (console::measure_text_width(&line), console::measure_text_width(&part));
            if line.is_empty() {
                line = part;
            } else if used + 2 + more <= columns {
                line = format!("{line}, {part}");
            }
        }
        console::truncate_str(&line, columns.max(1), "…").into_owned()
    }
}

/// What a store does behind the load, and how much of that is done.
fn phase(step: &StepExtent) -> String {
    let phase = shown(&step.phase);
    step.share().map_or(phase.clone(), |part| format!("{phase} {}", share(part)))
}

/// What a slice waits for, in words.
#[must_use]
pub fn waits_for(doing: &Doing, throttled: bool) -> String {
    let text = match doing {
        Doing::Reading(store) => format!("reading {}", shown(store.as_str())),
        Doing::Memory => "waiting for memory".to_owned(),
        Doing::Transforming => "transforming".to_owned(),
        Doing::Writing(store) => format!("writing to {}", shown(store.as_str())),
        Doing::Journal => "waiting for the journal".to_owned(),
        Doing::Pausing(store) => format!("waiting to ask {} again", shown(store.as_str())),
    };
    match doing {
        Doing::Reading(_) | Doing::Writing(_) if throttled => format!("throttled {text}"),
        _ => text,
    }
}

/// Names come from a spec: one line, and not endless.
#[must_use]
pub fn shown(name: &str) -> String {
    let clean: String = name.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    console::truncate_str(&clean, SHOWN_CHARACTERS, "…").into_owned()
}

fn left(left: TimeLeft) -> String {
    let least = seconds(left.least.as_secs_f64());
    match left.most.map(|most| most.as_secs_f64()) {
        // What differs by less than a tenth is one figure for people.
        Some(most) if most <= left.least.as_secs_f64() * 1.1 + 1.0 => format!("about {least} left"),
        Some(most) => format!("{least} to {} left", seconds(most)),
        None => format!("at least {least} left"),
    }
}

fn slowest(slice: &SliceSnapshot) -> String {
    let (age, records) = (seconds(slice.age.as_secs_f64()), count(slice.records));
    format!("slowest {}: {records} records in {age}", shown(slice.slice.as_str()))
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive figure for people")]
fn whole(value: f64) -> u64 {
    value as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use whimbrel_model::{SliceId, StoreName};

    fn busy() -> Status {
        let slice = SliceSnapshot {
            slice: SliceId::new("messages.0007"),
            age: Duration::from_secs(242),
            records: 12_000,
            doing: None,
        };
        Status {
            extent: Extent { scanned: 24_310, expected: Some(100_000), share: Some(0.2431) },
            read: 30_000,
            rate: Rate { records_per_s: 1_999.2, bytes_per_s: 3_600_000.0 },
            left: Some(TimeLeft { least: Duration::from_secs(40), most: Some(Duration::from_secs(125)) }),
            slices: (3, 20),
            oldest: Some(slice),
            waits_for: Some(Doing::Writing(StoreName::new("main"))),
            throttled: true,
            rejected: 17,
            retries: 2,
            throttles: 9,
            step: None,
        }
    }

    #[test]
    fn a_line_says_all_where_there_is_room() {
        insta::assert_snapshot!(busy().line(400), @"24,310 of 100,000 records (24.3 %), 40.0 s to 2 min 5 s left, 2,000/s, throttled writing to main, 17 rejected, 3.4 MiB/s, slices 3 of 20, slowest messages.0007: 12,000 records in 4 min 2 s, 2 requests sent again, throttled 9 times");
    }

    #[test]
    fn a_narrow_terminal_gets_what_matters_most() {
        insta::assert_snapshot!(busy().line(80), @"24,310 of 100,000 records (24.3 %), 40.0 s to 2 min 5 s left, 2,000/s, 3.4 MiB/s");
        insta::assert_snapshot!(busy().line(20), @"24,310 of 100,000 r…");
        for columns in 1..200 {
            assert!(console::measure_text_width(&busy().line(columns)) <= columns, "{columns}");
        }
    }

    #[test]
    fn what_is_not_known_is_not_said() {
        let mut status = Status {
            extent: Extent { scanned: 0, expected: None, share: None },
            read: 0,
            rate: Rate::default(),
            left: None,
            slices: (0, 1),
            oldest: None,
            waits_for: None,
            throttled: false,
            rejected: 0,
            retries: 0,
            throttles: 0,
            step: None,
        };
        insta::assert_snapshot!(status.line(100), @"0 records, 0/s");
        status.extent.share = Some(0.25);
        status.slices = (2, 8);
        status.read = 5_000;
        status.left = Some(TimeLeft { least: Duration::from_secs(90), most: None });
        insta::assert_snapshot!(status.line(100), @"5,000 records, 25.0 % of the slices, at least 1 min 30 s left, 0/s, slices 2 of 8");
    }

    #[test]
    fn an_index_that_is_made_stands_in_front_of_what_is_over() {
        let phase = "building index: loading tuples".to_owned();
        let step = Some(StepExtent { phase, done: 84_000, all: 200_000 });
        let over = Status { rate: Rate::default(), oldest: None, retries: 0, throttles: 0, step, ..busy() };
        insta::assert_snapshot!(over.line(400), @"building index: loading tuples 42.0 %, 24,310 of 100,000 records (24.3 %), 17 rejected, slices 3 of 20");
        let step = Some(StepExtent { phase: "initializing".to_owned(), done: 0, all: 0 });
        insta::assert_snapshot!(Status { step, ..over }.line(30), @"initializing, 17 rejected");
    }

    #[test]
    fn a_name_from_a_spec_stays_one_line() {
        let doing = Doing::Reading(StoreName::new(format!("a\n\u{1b}[31m{}", "x".repeat(100))));
        let text = waits_for(&doing, false);
        assert!(!text.contains(['\n', '\u{1b}']) && text.chars().count() < 80, "{text:?}");
    }
}
