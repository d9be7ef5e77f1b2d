//! The records of one key, matched: what is equal, what gives way, what a run refused, and what is left differs.

use super::scratch::Entry;
use std::collections::BTreeMap;

/// What holds for a flow's records.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rule {
    /// A second record of one key cannot arrive.
    pub one_of_a_key: bool,
    /// What others wrote under a key before stays there.
    pub keeps_others: bool,
}

/// All records of one key.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub sources: Vec<Entry>,
    pub targets: Vec<Entry>,
    pub rejected: Vec<Entry>,
}

/// What became of the records of one key; flows by their places.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// Records that another one of their key comes after.
    pub give_way: Vec<usize>,
    /// Records that are the second of their key.
    pub second: Vec<usize>,
    /// Rejects that are not there as they were.
    pub unused_rejects: Vec<usize>,
    /// Records that others wrote: what should be there, where there is something, and what is.
    pub kept: Vec<(Option<Entry>, Entry)>,
    /// What differs: what should be there, and what is.
    pub pairs: Vec<(Option<Entry>, Option<Entry>)>,
}

impl Group {
    /// Matches the records; `rules` are the flows', by place.
    pub(crate) fn settle(mut self, rules: &[Rule]) -> Settled {
        let mut settled = Settled::default();
        self.leave_the_last(&mut settled);
        let has_arrived = self.leave_unequal();
        let was_refused = self.leave_unrefused(&mut settled);
        let rule = |flow: usize| rules.get(flow).copied().unwrap_or_default();
        self.sources.retain(|entry| {
            let is_second = has_arrived && rule(entry.flow).one_of_a_key;
            if is_second {
                settled.second.push(entry.flow);
            }
            !is_second
        });
        let both = self.sources.len().min(self.targets.len());
        for (source, target) in self.sources.drain(..both).zip(self.targets.drain(..both)) {
            if rule(source.flow).keeps_others {
                settled.kept.push((Some(source), target));
            } else {
                settled.pairs.push((Some(source), Some(target)));
            }
        }
        settled.pairs.extend(self.sources.into_iter().map(|source| (Some(source), None)));
        for target in self.targets {
            // The key was taken when the run came: that is why it refused the record.
            if was_refused {
                settled.kept.push((None, target));
            } else {
                settled.pairs.push((None, Some(target)));
            }
        }
        settled
    }

    /// Under `on_duplicate: last` only the greatest of a flow's records of one key is to arrive.
    fn leave_the_last(&mut self, settled: &mut Settled) {
        let mut greatest: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
        for entry in &self.sources {
            let order = greatest.entry(entry.flow).or_default();
            if entry.order > *order {
                order.clone_from(&entry.order);
            }
        }
        self.sources.retain(|entry| {
            let wins = greatest.get(&entry.flow).is_none_or(|order| entry.order == *order);
            if !wins {
                settled.give_way.push(entry.flow);
            }
            wins
        });
    }

    /// Takes out what both sides have; whether there was anything.
    fn leave_unequal(&mut self) -> bool {
        let before = self.sources.len();
        let targets = &mut self.targets;
        self.sources.retain(|entry| {
            let equal = targets.iter().position(|held| held.fingerprint.record == entry.fingerprint.record);
            equal.map(|at| targets.swap_remove(at)).is_none()
        });
        self.sources.len() < before
    }

    /// Takes out what a run refused; whether there was anything.
    fn leave_unrefused(&mut self, settled: &mut Settled) -> bool {
        let before = self.sources.len();
        let rejected = &mut self.rejected;
        self.sources.retain(|entry| {
            let known =
                rejected.iter().position(|reject| reject.fingerprint.record == entry.fingerprint.record);
            known.map(|at| rejected.swap_remove(at)).is_none()
        });
        settled.unused_rejects = self.rejected.iter().map(|entry| entry.flow).collect();
        self.sources.len() < before
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::scratch::Side;
    use whimbrel_model::Fingerprint;

    fn entry(side: Side, record: u128, order: u8) -> Entry {
        let (key, order) = (String::new(), vec![order]);
        Entry {
            side,
            reading: 0,
            unit: 0,
            flow: 0,
            fingerprint: Fingerprint { key: 7, record },
            order,
            key,
            record: String::new(),
        }
    }

    fn group(sources: &[(u128, u8)], targets: &[u128], rejected: &[u128]) -> Group {
        Group {
            sources: sources.iter().map(|(record, order)| entry(Side::Source, *record, *order)).collect(),
            targets: targets.iter().map(|record| entry(Side::Target, *record, 0)).collect(),
            rejected: rejected.iter().map(|record| entry(Side::Rejected, *record, 0)).collect(),
        }
    }

    /// Missing, extra, different.
    fn differences(settled: &Settled) -> (usize, usize, usize) {
        let count = |source: bool, target: bool| {
            let fits = |pair: &&(Option<Entry>, Option<Entry>)| {
                (pair.0.is_some(), pair.1.is_some()) == (source, target)
            };
            settled.pairs.iter().filter(fits).count()
        };
        (count(true, false), count(false, true), count(true, true))
    }

    const PLAIN: [Rule; 1] = [Rule { one_of_a_key: false, keeps_others: false }];

    #[test]
    fn what_is_equal_is_no_difference_and_everything_else_is_one() {
        assert_eq!(differences(&group(&[(1, 0)], &[1], &[]).settle(&PLAIN)), (0, 0, 0));
        assert_eq!(differences(&group(&[(1, 0)], &[], &[]).settle(&PLAIN)), (1, 0, 0));
        assert_eq!(differences(&group(&[], &[1], &[]).settle(&PLAIN)), (0, 1, 0));
        assert_eq!(differences(&group(&[(1, 0)], &[2], &[]).settle(&PLAIN)), (0, 0, 1));
        assert_eq!(differences(&group(&[(1, 0)], &[1, 1], &[]).settle(&PLAIN)), (0, 1, 0), "one twice");
        assert_eq!(differences(&group(&[(1, 0), (2, 0), (3, 0)], &[9], &[]).settle(&PLAIN)), (2, 0, 1));
    }

    #[test]
    fn what_a_run_refused_is_not_missing() {
        let settled = group(&[(1, 0)], &[], &[1]).settle(&PLAIN);
        assert_eq!((differences(&settled), settled.unused_rejects.len()), ((0, 0, 0), 0));
        let settled = group(&[(1, 0)], &[5], &[1]).settle(&PLAIN);
        assert_eq!((differences(&settled), settled.kept.len()), ((0, 0, 0), 1), "the key was taken");
        let settled = group(&[(2, 0)], &[], &[1]).settle(&PLAIN);
        assert_eq!(
            (differences(&settled), settled.unused_rejects.len()),
            ((1, 0, 0), 1),
            "it was changed since"
        );
    }

    #[test]
    fn of_several_records_of_one_key_one_arrives() {
        let watched = [Rule { one_of_a_key: true, keeps_others: false }];
        let settled = group(&[(1, 0), (2, 0)], &[1], &[]).settle(&watched);
        assert_eq!((differences(&settled), settled.second.len()), ((0, 0, 0), 1));
        let settled = group(&[(1, 5), (2, 9), (3, 1)], &[2], &[]).settle(&watched);
        assert_eq!((differences(&settled), settled.give_way.len()), ((0, 0, 0), 2));
        let settled = group(&[(1, 5), (2, 9)], &[1], &[]).settle(&watched);
        assert_eq!(differences(&settled), (0, 0, 1), "the wrong one is there");
    }

    #[test]
    fn what_others_wrote_is_kept_where_that_was_asked_for() {
        let keeping = [Rule { one_of_a_key: false, keeps_others: true }];
        let settled = group(&[(1, 0)], &[2], &[]).settle(&keeping);
        assert_eq!((differences(&settled), settled.kept.len()), ((0, 0, 0), 1));
        assert_eq!(differences(&group(&[(1, 0)], &[], &[]).settle(&keeping)), (1, 0, 0));
    }
}
