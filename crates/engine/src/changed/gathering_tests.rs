//! Files of fingerprints: what is gathered is known, and what is not whole is not trusted.

use super::*;

fn print(key: u128, record: u128) -> Fingerprint {
    Fingerprint { key, record }
}

/// Keys as hashes give them: all over their range.
fn key(number: u64) -> u128 {
    let mut half = [0; 16];
    half.copy_from_slice(&blake3::hash(&number.to_be_bytes()).as_bytes()[..16]);
    u128::from_be_bytes(half)
}

fn notes() -> Notes {
    Notes::from([("run".to_owned(), "r1".to_owned())])
}

fn known(path: &Path, portions_of: usize, prints: &[Fingerprint], resident_bytes: usize) -> Known {
    let mut gathering = Gathering::with_portions_of(path, portions_of).expect("made");
    prints.chunks(7).for_each(|prints| gathering.add(prints).expect("added"));
    gathering.finish(notes(), resident_bytes).expect("written")
}

#[test]
fn what_was_added_last_is_known() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("sub/a.seen");
    let (low, high) = (print(0, 1), print(u128::MAX, u128::MAX));
    let first = [print(3, 30), low, print(1, 10), print(3, 31), high];
    let second = [print(2, 20), print(1, u128::MAX)];
    // The same whether the two of a key lie in one portion, in two, or in portions of their own.
    for portions_of in [1, 2, 3, 100] {
        let known = known(&path, portions_of, &[&first[..], &second].concat(), 0);
        let records = known.records(&[1, 2, 3, 4, 0, u128::MAX, 1]).expect("found");
        assert_eq!(
            records,
            [Some(u128::MAX), Some(20), Some(31), None, Some(1), Some(u128::MAX), Some(u128::MAX)],
            "portions of {portions_of}"
        );
        assert_eq!((known.count(), known.noted("run"), known.noted("table")), (5, Some("r1"), None));
    }
    let left: Vec<_> = std::fs::read_dir(path.parent().expect("a folder")).expect("read").collect();
    assert_eq!(left.len(), 1, "what was only needed on the way is gone: {left:?}");
}

#[test]
fn many_are_found_in_memory_on_the_disk_and_on_both() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.held");
    let prints: Vec<_> = (0..20_000).map(|number| print(key(number), u128::from(number))).collect();
    let keys: Vec<u128> = (0..20_100).map(key).collect();
    let expected: Vec<_> = (0..20_100).map(|number| (number < 20_000).then_some(number)).collect();
    for resident_bytes in [0, 32 * 10_007, 32 << 20] {
        let written = known(&path, 3_000, &prints, resident_bytes);
        let opened = Known::open(&path, resident_bytes).expect("read").expect("whole");
        for known in [written, opened] {
            assert_eq!(known.resident.len(), resident_bytes.min(32 * 20_000));
            assert_eq!(known.records(&keys).expect("found"), expected);
            assert_eq!((known.count(), known.noted("run")), (20_000, Some("r1")));
        }
    }
}

#[test]
fn nothing_is_known_of_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.held");
    assert!(Known::open(&path, 0).expect("no error").is_none());
    assert!(Known::notes_of(&path).expect("no error").is_none());
    drop(known(&path, 10, &[], 100));
    let known = Known::open(&path, 100).expect("read").expect("whole");
    assert_eq!((known.records(&[0, 5, u128::MAX]).expect("found"), known.count()), (vec![None; 3], 0));
}

#[test]
fn what_is_torn_or_of_another_form_is_not_trusted() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.prior");
    let prints: Vec<_> = (0..200).map(|number| print(key(number), 1)).collect();
    drop(known(&path, 50, &prints, 0));
    assert_eq!(Known::notes_of(&path).expect("read"), Some(notes()));
    let whole = std::fs::read(&path).expect("there");
    for length in [0, 1, 31, 32, 200 * 32, whole.len() - 1] {
        std::fs::write(&path, &whole[..length]).expect("torn");
        assert!(Known::open(&path, 0).expect("no error").is_none(), "{length} bytes of it");
        assert!(Known::notes_of(&path).expect("no error").is_none(), "{length} bytes of it");
    }
    // One bit in an entry, in the directory, in the notes, in the numbers, in the digest, in the magic.
    for at in [40, 200 * 32 + 3, whole.len() - 80, whole.len() - 70, whole.len() - 40, whole.len() - 1] {
        let mut other = whole.clone();
        other[at] ^= 1;
        std::fs::write(&path, other).expect("damaged");
        assert!(Known::open(&path, 0).expect("no error").is_none(), "byte {at}");
    }
    std::fs::write(
        &path,
        b"SQLite format 3\0 and whatever follows in a file of an earlier whimbrel, at some length",
    )
    .expect("old");
    assert!(Known::open(&path, 0).expect("no error").is_none());
    std::fs::write(&path, &whole).expect("whole again");
    assert!(Known::open(&path, 0).expect("no error").is_some());
}

#[test]
fn what_was_cut_off_is_made_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.seen");
    let mut cut_off = Gathering::with_portions_of(&path, 2).expect("made");
    cut_off.add(&[print(1, 1), print(2, 2), print(3, 3)]).expect("added");
    drop(cut_off);
    std::fs::write(folder.path().join("a.seen-part"), b"half").expect("written");
    assert!(Known::open(&path, 0).expect("no error").is_none());
    let known = known(&path, 2, &[print(3, 30)], 0);
    assert_eq!((known.records(&[1, 3]).expect("found"), known.count()), (vec![None, Some(30)], 1));
}
