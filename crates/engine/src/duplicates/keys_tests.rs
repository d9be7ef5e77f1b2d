use super::*;

/// So few claims in memory that several generations come about.
const FEW: usize = 10;

struct Trial {
    folder: tempfile::TempDir,
    set: KeySet,
}

impl Trial {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let set = KeySet::open_with(folder.path(), FEW).unwrap();
        Self { folder, set }
    }

    /// As after a kill: nothing is closed, and another process opens what is there.
    fn reopened(self) -> Self {
        let set = KeySet::open_with(self.folder.path(), FEW).unwrap();
        Self { folder: self.folder, set }
    }

    fn begin(&self, slice: &str, after: u64) -> AttemptId {
        self.set.begin(&RunId::new("run"), &FlowName::new("flow"), &SliceId::new(slice), after).unwrap()
    }

    /// How many of the keys are the attempt's own.
    fn claim(&self, attempt: AttemptId, seq: u64, keys: std::ops::Range<u64>) -> usize {
        let keys: Vec<_> = keys.map(|number| Some(key(number))).collect();
        self.set.claim(attempt, seq, &keys).unwrap().into_iter().filter(|own| *own).count()
    }
}

fn key(number: u64) -> u128 {
    let mut half = [0; 16];
    half.copy_from_slice(&blake3::hash(&number.to_be_bytes()).as_bytes()[..16]);
    u128::from_be_bytes(half)
}

#[test]
fn a_key_is_claimed_once_in_memory_and_on_the_disk() {
    let trial = Trial::new();
    let (a, b) = (trial.begin("a", 0), trial.begin("b", 0));
    for batch in 0..10 {
        assert_eq!(trial.claim(a, batch + 1, batch * 7..batch * 7 + 7), 7);
    }
    assert!(trial.set.held().generations.newest() >= 4);
    assert_eq!(trial.claim(b, 1, 0..70), 0);
    assert_eq!(trial.claim(a, 11, 60..80), 10, "those of another batch of the same attempt are taken, too");
    let twice = [Some(key(100)), None, Some(key(100)), None];
    assert_eq!(trial.set.claim(b, 2, &twice).unwrap(), [true, true, false, true]);
    let trial = trial.reopened();
    let c = trial.begin("c", 0);
    assert_eq!(trial.claim(c, 1, 0..81), 1);
}

#[test]
fn what_lies_beyond_the_checkpoint_is_claimed_again() {
    let mut trial = Trial::new();
    let a = trial.begin("a", 0);
    for batch in 0..10 {
        trial.claim(a, batch + 1, batch * 7..batch * 7 + 7);
    }
    for round in 0..3 {
        trial = trial.reopened();
        let (again, other) = (trial.begin("a", 4), trial.begin("b", 0));
        assert_eq!(trial.claim(other, 1, 0..70), 0, "round {round}: another slice takes nothing over");
        assert_eq!(trial.claim(again, 5, 0..28), 0, "round {round}: what is accounted for stays");
        // Cut elsewhere, and in another order.
        assert_eq!(trial.claim(again, 5, 50..70), 20);
        assert_eq!(trial.claim(again, 6, 28..50), 22);
        assert_eq!(trial.claim(again, 7, 28..70), 0);
    }
}

#[test]
fn smaller_batches_do_not_bring_stale_claims_to_life() {
    let trial = Trial::new();
    let first = trial.begin("a", 0);
    for batch in 0..10 {
        trial.claim(first, batch + 1, batch * 10..batch * 10 + 10);
    }
    // The checkpoint was behind 50 records; the second attempt cuts batches of two, and comes to 70.
    let second = trial.begin("a", 5);
    for batch in 0..10 {
        assert_eq!(trial.claim(second, 6 + batch, 50 + batch * 2..52 + batch * 2), 2);
    }
    let third = trial.begin("a", 15);
    assert_eq!(trial.claim(third, 16, 70..100), 30, "the first attempt's batches 8 to 10 are stale for ever");
    assert_eq!(trial.claim(third, 17, 0..70), 0);
}

#[test]
fn a_slice_without_cursors_begins_anew() {
    let trial = Trial::new();
    let first = trial.begin("a", 0);
    assert_eq!(trial.claim(first, 1, 0..30), 30);
    let second = trial.begin("a", 0);
    assert_eq!(trial.claim(second, 1, 0..30), 30);
    assert_eq!(trial.claim(second, 2, 0..30), 0);
}

#[test]
fn a_key_that_is_given_back_is_free() {
    let trial = Trial::new();
    let (a, b) = (trial.begin("a", 0), trial.begin("b", 0));
    trial.claim(a, 1, 0..25);
    trial.claim(a, 2, 25..30);
    trial.set.release(a, 1, &[key(3), key(29)]).unwrap();
    trial.set.release(a, 2, &[key(28)]).unwrap();
    trial.set.release(b, 1, &[key(4)]).unwrap();
    let trial = trial.reopened();
    let c = trial.begin("c", 0);
    let own = trial.set.claim(c, 1, &(0..30).map(|number| Some(key(number))).collect::<Vec<_>>()).unwrap();
    let free: Vec<usize> =
        own.iter().enumerate().filter(|(_, own)| **own).map(|(number, _)| number).collect();
    assert_eq!(free, [3, 28], "only the batch that has claimed a key gives it back");
    trial.set.give_back(&[key(7)]).unwrap();
    assert_eq!(trial.claim(c, 2, 0..30), 1);
}

#[test]
fn lost_keys_are_found_out() {
    let trial = Trial::new();
    trial.begin("a", 0);
    let begun = |slice: &str| {
        trial.set.begin(&RunId::new("run"), &FlowName::new("flow"), &SliceId::new(slice), 3).map(drop)
    };
    assert!(begun("a").is_ok());
    let lost = begun("b").unwrap_err();
    assert!(lost.to_string().contains("the keys that slice `b` of flow `flow` has claimed are missing"));
    let other = tempfile::tempdir().unwrap();
    std::fs::write(other.path().join("keys.sqlite"), "something else, long enough to be looked at").unwrap();
    assert!(matches!(KeySet::open(other.path()), Err(JournalError::Sqlite { .. })));
}

#[test]
fn the_greatest_order_of_each_key_is_kept() {
    let trial = Trial::new();
    let (set, run) = (&trial.set, RunId::new("run"));
    let candidate = |number: u64, order: u8| (key(number), Box::from([order]));
    let last = |candidates: &[(u64, u8)]| {
        let records: Vec<_> =
            candidates.iter().map(|(number, order)| Some(candidate(*number, *order))).collect();
        set.are_last(&records).unwrap()
    };
    set.begin_first_pass().unwrap();
    set.add_candidates(&[candidate(1, 9)]).unwrap();
    set.begin_first_pass().unwrap();
    assert!(!set.has_first_pass(&run, "by a").unwrap(), "killed, it begins anew");
    set.add_candidates(&[candidate(1, 3), candidate(2, 7), candidate(3, 1)]).unwrap();
    set.add_candidates(&[candidate(1, 5), candidate(2, 2), candidate(1, 4)]).unwrap();
    assert_eq!(set.end_first_pass(&run, "by a").unwrap(), 2);
    assert!(set.has_first_pass(&run, "by a").unwrap());
    assert!(!set.has_first_pass(&run, "by b").unwrap());
    assert_eq!(
        last(&[(1, 3), (1, 4), (1, 5), (2, 2), (3, 0), (4, 0)]),
        [false, false, true, false, true, true]
    );
    assert_eq!(set.unmet().unwrap(), 1, "the last record of 2 was not met");
    let trial = trial.reopened();
    let (two, five): (u128, Box<[u8]>) = (key(2), Box::from([8]));
    assert_eq!(trial.set.are_last(&[Some((two, five)), None]).unwrap(), [true, true]);
    assert_eq!(trial.set.unmet().unwrap(), 0);
}

/// Not a test of time: it says what a claim costs, by `cargo nextest run --run-ignored all -p whimbrel-engine`.
#[test]
#[ignore = "it measures"]
fn claims_a_second() {
    let folder = tempfile::tempdir().unwrap();
    let before = crate::memory::peak_bytes();
    let set = KeySet::open(folder.path()).unwrap();
    let attempt = set.begin(&RunId::new("run"), &FlowName::new("flow"), &SliceId::new("a"), 0).unwrap();
    let batch =
        |number: u64| (number * 5_000..number * 5_000 + 5_000).map(|n| Some(key(n))).collect::<Vec<_>>();
    let claim = |batches: u64, own: bool| {
        let mut spent = Duration::ZERO;
        for number in 0..batches {
            let keys = batch(number);
            let began = std::time::Instant::now();
            let claimed = set.claim(attempt, number + 1, &keys).unwrap();
            if number % 6 == 5 {
                set.sync().unwrap();
            }
            spent += began.elapsed();
            assert!(claimed.into_iter().all(|claimed| claimed == own));
        }
        u128::from(5_000 * batches) * 1_000 / spent.as_millis()
    };
    let first = claim(1_000, true);
    let peak = crate::memory::peak_bytes() - before;
    let second = claim(20, false);
    drop(set);
    let began = std::time::Instant::now();
    let set = KeySet::open(folder.path()).unwrap();
    assert!(set.held().generations.newest() > 20);
    let opened = began.elapsed();
    eprintln!(
        "{first} first claims a second, {second} second ones; {peak} bytes more; opened again in {opened:?}"
    );
}
