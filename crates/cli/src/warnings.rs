//! What a run warns of while it goes on: each condition once when it begins, and once when it ends. No clock and
//! no eyes of its own.

use crate::disk::Space;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;
use whimbrel_model::{Counts, FlowName};
use whimbrel_report::figures::{bytes, count, seconds, share};

/// The share of rejects that is warned of.
const REJECT_RATE: f64 = 0.05;
/// Before so many records have been read, their share of rejects says nothing.
const FEWEST_RECORDS: u64 = 1_000;
/// The share of answers that asked for patience that is warned of.
const THROTTLED_RATE: f64 = 0.1;
/// With fewer answers in a minute, their share says nothing.
const FEWEST_ANSWERS: u64 = 50;
/// The stretch over which answers are counted.
const THROTTLING_OVER: Duration = Duration::from_secs(60);
/// Looks at answers are at least so far apart.
const THROTTLING_EVERY: Duration = Duration::from_secs(2);
/// Less space than this for the journal is warned of.
const LEAST_SPACE_BYTES: u64 = 1024 * 1024 * 1024;
/// And less than this share of the disk.
const LEAST_SPACE_SHARE: f64 = 0.05;
/// A condition ends when its figure is better than its limit by this factor, so that it does not flicker.
const BETTER: f64 = 0.9;

/// What is seen of a run at one moment.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Since the display began.
    pub at: Duration,
    /// How long nothing has moved.
    pub idle: Duration,
    /// What the run waits for, in words.
    pub waits_for: Option<String>,
    /// Each flow's counts.
    pub flows: Vec<(FlowName, Counts)>,
    /// Answers of metered stores so far.
    pub answers: u64,
    /// Of requests, those that were answered by a plea for patience.
    pub throttles: u64,
    /// Memory that the process has, in bytes, and what it should have at the most.
    pub memory: Option<(u64, u64)>,
    /// Space on the journal's disk.
    pub space: Option<Space>,
}

/// What to tell people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// A condition holds from now on.
    Begins(String),
    /// It holds no longer.
    Ends(String),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Condition {
    Stall,
    Rejects(Option<FlowName>),
    Throttling,
    Memory,
    Space,
}

/// How a condition stands.
enum Standing {
    /// It holds; with the words for it.
    Bad(String),
    /// It does not; with the words for its end.
    Good(String),
    /// Neither: it stays as it was.
    Between,
}

/// The conditions that hold.
#[derive(Debug)]
pub struct Warnings {
    stall_after: Duration,
    holding: BTreeSet<Condition>,
    /// Answers and pleas for patience of the last while.
    answers: VecDeque<(Duration, u64, u64)>,
}

impl Warnings {
    /// None holds yet.
    #[must_use]
    pub fn new(stall_after: Duration) -> Self {
        Self { stall_after, holding: BTreeSet::new(), answers: VecDeque::new() }
    }

    /// Looks at a run; answers with what has changed.
    pub fn watch(&mut self, seen: &Seen) -> Vec<Notice> {
        let mut standings = vec![(Condition::Stall, self.stall(seen))];
        standings.extend(rejects(&seen.flows));
        standings.push((Condition::Throttling, self.throttling(seen)));
        standings.extend(seen.memory.map(|(now, most)| (Condition::Memory, memory(now, most))));
        standings.extend(seen.space.map(|space| (Condition::Space, free(space))));
        let changed = standings.into_iter().filter_map(|(condition, standing)| match standing {
            Standing::Bad(text) => self.holding.insert(condition).then_some(Notice::Begins(text)),
            Standing::Good(text) => self.holding.remove(&condition).then_some(Notice::Ends(text)),
            Standing::Between => None,
        });
        changed.collect()
    }

    fn stall(&self, seen: &Seen) -> Standing {
        if seen.idle < self.stall_after {
            return Standing::Good("records move again".to_owned());
        }
        let text = format!("no progress for {}", seconds(seen.idle.as_secs_f64()));
        Standing::Bad(match &seen.waits_for {
            Some(what) => format!("{text}: {what}"),
            None => text,
        })
    }

    fn throttling(&mut self, seen: &Seen) -> Standing {
        let last = self.answers.back().map(|(at, ..)| *at);
        if last.is_none_or(|last| seen.at.saturating_sub(last) >= THROTTLING_EVERY) {
            self.answers.push_back((seen.at, seen.answers, seen.throttles));
        }
        while self.answers.get(1).is_some_and(|(at, ..)| seen.at.saturating_sub(*at) >= THROTTLING_OVER) {
            self.answers.pop_front();
        }
        let Some((_, answers, throttles)) = self.answers.front() else { return Standing::Between };
        let throttled = seen.throttles.saturating_sub(*throttles);
        let all = seen.answers.saturating_sub(*answers) + throttled;
        let part = part(throttled, all);
        let over = seconds(THROTTLING_OVER.as_secs_f64());
        match all {
            FEWEST_ANSWERS.. if part > THROTTLED_RATE => Standing::Bad(format!(
                "throttled: {} of the requests of the last {over} were asked to wait",
                share(part)
            )),
            0 | FEWEST_ANSWERS.. if part <= THROTTLED_RATE * BETTER => {
                Standing::Good("no longer throttled".to_owned())
            }
            _ => Standing::Between,
        }
    }
}

fn rejects(flows: &[(FlowName, Counts)]) -> Vec<(Condition, Standing)> {
    let mut all: Vec<_> = flows.iter().map(|(flow, counts)| (Some(flow.clone()), *counts)).collect();
    if flows.len() > 1 {
        all.insert(0, (None, flows.iter().map(|(_, counts)| *counts).sum()));
    }
    let standing = |flow: &Option<FlowName>, counts: &Counts| {
        let of = flow
            .as_ref()
            .map_or_else(String::new, |flow| format!("flow {}: ", crate::status::shown(flow.as_str())));
        let due = counts.read.saturating_sub(counts.filtered);
        let part = part(counts.rejected, due);
        let text =
            format!("{of}{} of {} records rejected ({})", count(counts.rejected), count(due), share(part));
        match due {
            FEWEST_RECORDS.. if part > REJECT_RATE => Standing::Bad(text),
            _ if part <= REJECT_RATE * BETTER => Standing::Good(text),
            _ => Standing::Between,
        }
    };
    all.into_iter()
        .map(|(flow, counts)| {
            let standing = standing(&flow, &counts);
            (Condition::Rejects(flow), standing)
        })
        .collect()
}

fn memory(now: u64, most: u64) -> Standing {
    let text = format!("{} of memory, where {} were expected", bytes(now), bytes(most));
    if now > most {
        Standing::Bad(format!("{text}; --memory sets what records may take"))
    } else if part(now, most) <= BETTER {
        Standing::Good(text)
    } else {
        Standing::Between
    }
}

fn free(space: Space) -> Standing {
    let least = LEAST_SPACE_BYTES.max(share_of(space.all, LEAST_SPACE_SHARE));
    let text =
        format!("{} free on the journal's disk ({})", bytes(space.free), share(part(space.free, space.all)));
    if space.free < least {
        Standing::Bad(format!("{text}; a full disk stops the run, resumable"))
    } else if part(least, space.free) <= BETTER {
        Standing::Good(text)
    } else {
        Standing::Between
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share compared with a share")]
fn part(some: u64, all: u64) -> f64 {
    if all == 0 { 0.0 } else { some as f64 / all as f64 }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a share of a disk"
)]
fn share_of(all: u64, share: f64) -> u64 {
    (all as f64 * share) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1024 * 1024 * 1024;

    fn warnings() -> Warnings {
        Warnings::new(Duration::from_secs(600))
    }

    fn flow(name: &str, read: u64, rejected: u64) -> (FlowName, Counts) {
        (FlowName::new(name), Counts { read, rejected, ..Counts::default() })
    }

    fn begins(text: &str) -> Vec<Notice> {
        vec![Notice::Begins(text.to_owned())]
    }

    fn ends(text: &str) -> Vec<Notice> {
        vec![Notice::Ends(text.to_owned())]
    }

    #[test]
    fn a_stall_is_named_once_with_what_it_waits_for() {
        let mut warnings = warnings();
        let seen = |idle| Seen {
            idle: Duration::from_secs(idle),
            waits_for: Some("reading app".to_owned()),
            ..Seen::default()
        };
        assert_eq!(warnings.watch(&seen(599)), []);
        assert_eq!(warnings.watch(&seen(600)), begins("no progress for 10 min 0 s: reading app"));
        assert_eq!(warnings.watch(&seen(700)), []);
        assert_eq!(warnings.watch(&seen(0)), ends("records move again"));
        assert_eq!(warnings.watch(&seen(601)), begins("no progress for 10 min 1 s: reading app"));
    }

    #[test]
    fn rejects_are_warned_of_by_flow_and_in_all() {
        let mut warnings = warnings();
        let seen = |flows: &[_]| Seen { flows: flows.to_vec(), ..Seen::default() };
        assert_eq!(warnings.watch(&seen(&[flow("a", 999, 999)])), [], "too few to say");
        let bad = [flow("a", 2_000, 400), flow("b", 50_000, 0)];
        assert_eq!(warnings.watch(&seen(&bad)), begins("flow a: 400 of 2,000 records rejected (20.0 %)"));
        assert_eq!(warnings.watch(&seen(&bad)), []);
        let worse = [flow("a", 5_000, 3_400), flow("b", 50_000, 0)];
        assert_eq!(warnings.watch(&seen(&worse)), begins("3,400 of 55,000 records rejected (6.2 %)"));
        let between = [flow("a", 5_000, 3_400), flow("b", 66_000, 0)];
        assert_eq!(warnings.watch(&seen(&between)), [], "neither bad nor good");
        let better = [flow("a", 5_000, 3_400), flow("b", 95_000, 0)];
        assert_eq!(warnings.watch(&seen(&better)), ends("3,400 of 100,000 records rejected (3.4 %)"));
    }

    #[test]
    fn throttling_is_a_share_of_the_last_minute() {
        let mut warnings = warnings();
        let seen = |at, answers, throttles| Seen {
            at: Duration::from_secs(at),
            answers,
            throttles,
            ..Seen::default()
        };
        assert_eq!(warnings.watch(&seen(0, 10_000, 0)), []);
        assert_eq!(warnings.watch(&seen(10, 10_010, 20)), [], "too few to say");
        let text = "throttled: 20.0 % of the requests of the last 1 min 0 s were asked to wait";
        assert_eq!(warnings.watch(&seen(20, 10_080, 20)), begins(text));
        assert_eq!(warnings.watch(&seen(30, 10_160, 40)), []);
        assert_eq!(warnings.watch(&seen(90, 20_000, 40)), ends("no longer throttled"));
        assert_eq!(warnings.watch(&seen(92, 20_000, 5_000)).len(), 1);
        assert_eq!(warnings.watch(&seen(200, 20_000, 5_000)), ends("no longer throttled"), "all is quiet");
    }

    #[test]
    fn memory_and_space_have_limits() {
        let mut warnings = warnings();
        let seen = |memory, free| Seen {
            memory: Some((memory, 256 * 1024 * 1024)),
            space: Some(Space { free, all: 100 * GIB }),
            ..Seen::default()
        };
        assert_eq!(warnings.watch(&seen(GIB / 5, 50 * GIB)), []);
        let notices = warnings.watch(&seen(GIB, 4 * GIB));
        let [Notice::Begins(memory), Notice::Begins(space)] = &notices[..] else { panic!("{notices:?}") };
        assert_eq!(
            memory,
            "1.0 GiB of memory, where 256.0 MiB were expected; --memory sets what records may take"
        );
        assert_eq!(space, "4.0 GiB free on the journal's disk (4.0 %); a full disk stops the run, resumable");
        assert_eq!(warnings.watch(&seen(GIB / 4 - 1, 5 * GIB + 1)), [], "neither bad nor good");
        assert_eq!(warnings.watch(&seen(GIB / 8, 6 * GIB)).len(), 2);
        let small = Space { free: GIB - 1, all: 2 * GIB };
        assert_eq!(warnings.watch(&Seen { space: Some(small), ..Seen::default() }).len(), 1);
    }
}
