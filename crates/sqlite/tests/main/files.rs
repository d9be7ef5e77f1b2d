//! Files that are no databases, that are locked away, that somebody has left behind, that are replaced.

use crate::fixture::{Fixture, all, column, open, reading, writing};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use whimbrel_store::{Mode, Relation, Store as _, StoreErrorKind};

const TABLE: &str = "CREATE TABLE t (a); INSERT INTO t VALUES (1), (2)";

async fn failure(path: &Path) -> whimbrel_store::StoreError {
    let store = open(path);
    let source = store.source(reading(Relation::Table("t".to_owned()))).unwrap();
    let error = all(&*source).await.unwrap_err();
    let is_empty = path.metadata().is_ok_and(|found| found.len() == 0);
    assert_eq!(store.check().await.iter().all(|finding| finding.ok), is_empty, "a check finds it, too");
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_database_is_refused_clearly() {
    let fixture = Fixture::missing();
    let path = fixture.path();
    let error = failure(&path).await;
    assert_eq!(error.kind(), StoreErrorKind::NotFound);
    assert!(!path.exists(), "nothing is made");
    fs::write(&path, "id,name\n1,a\n").unwrap();
    let error = failure(&path).await;
    assert_eq!(error.kind(), StoreErrorKind::Mismatch);
    assert!(error.to_string().contains("is no SQLite database, or it is encrypted"), "{error}");
    assert!(failure(fixture.folder()).await.to_string().contains("is a folder"));
    fs::write(&path, "").unwrap();
    let error = failure(&path).await;
    assert_eq!(
        (error.kind(), error.hint()),
        (StoreErrorKind::NotFound, Some("the database holds no tables"))
    );
    let mut damaged = b"SQLite format 3\0".to_vec();
    damaged.extend([0x55; 5000]);
    fs::write(&path, damaged).unwrap();
    let error = failure(&path).await;
    assert_eq!(error.kind(), StoreErrorKind::Mismatch);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_in_a_folder_that_cannot_be_written_to_is_read() {
    let fixture = Fixture::new(&format!("PRAGMA journal_mode = WAL; {TABLE}"));
    let inner = fixture.folder().join("sealed");
    fs::create_dir(&inner).unwrap();
    let path = inner.join("a b?.db");
    fs::copy(fixture.path(), &path).unwrap();
    fs::set_permissions(&inner, fs::Permissions::from_mode(0o555)).unwrap();
    let store = open(&path);
    let source = store.source(reading(Relation::Table("t".to_owned()))).unwrap();
    assert_eq!(column(&*source, "a").await, ["1", "2"]);
    fs::set_permissions(&inner, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Copies a database as a killed program leaves it: in the middle of a transaction.
fn left_behind(fixture: &Fixture, mode: &str) -> std::path::PathBuf {
    let writer = fixture.connect();
    // With so small a cache pages are written before the commit.
    writer
        .execute_batch(&format!(
            "PRAGMA journal_mode = {mode}; PRAGMA cache_size = 2; PRAGMA wal_autocheckpoint = 0; INSERT INTO t VALUES (3); BEGIN; \
             WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 90000) INSERT INTO t SELECT i || 'uncommitted' FROM n; \
             UPDATE t SET a = 'gone' WHERE a IN (1, 2)"
        ))
        .unwrap();
    let copy = fixture.folder().join("copy.db");
    for suffix in ["", "-journal", "-wal"] {
        let from = format!("{}{suffix}", fixture.path().display());
        if Path::new(&from).exists() {
            fs::copy(from, format!("{}{suffix}", copy.display())).unwrap();
        }
    }
    copy
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_ahead_log_that_was_left_behind_is_read() {
    let fixture = Fixture::new(TABLE);
    let copy = left_behind(&fixture, "WAL");
    assert!(fs::metadata(fixture.folder().join("copy.db-wal")).unwrap().len() > 0);
    let store = open(&copy);
    let source = store.source(reading(Relation::Table("t".to_owned()))).unwrap();
    assert_eq!(column(&*source, "a").await, ["1", "2", "3"], "what was committed, and nothing else");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hot_journal_is_never_read_over() {
    let fixture = Fixture::new(TABLE);
    let copy = left_behind(&fixture, "DELETE");
    assert!(fs::metadata(fixture.folder().join("copy.db-journal")).unwrap().len() > 0);
    let store = open(&copy);
    let source = store.source(reading(Relation::Table("t".to_owned()))).unwrap();
    let error = all(&*source).await.unwrap_err();
    assert!(error.to_string().contains("was left in the middle of a transaction"), "{error}");
    assert!(error.hint().unwrap().contains("sqlite3 FILE"));
    // A target is whimbrel's to bring in order.
    let target = store.target(writing("t", Mode::Insert)).unwrap();
    assert_eq!(target.count(&[Vec::new()]).await.unwrap().flows, [3]);
    assert_eq!(column(&*source, "a").await, ["1", "2", "3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_left_behind_is_not_read_as_it_lies() {
    for mode in ["WAL", "DELETE"] {
        let fixture = Fixture::new(TABLE);
        let copy = left_behind(&fixture, mode);
        fs::set_permissions(fixture.folder(), fs::Permissions::from_mode(0o555)).unwrap();
        let is_sealed = fs::write(fixture.folder().join("x"), "").is_err();
        let store = open(&copy);
        let source = store.source(reading(Relation::Table("t".to_owned()))).unwrap();
        let read = all(&*source).await;
        fs::set_permissions(fixture.folder(), fs::Permissions::from_mode(0o755)).unwrap();
        // The superuser may write anywhere, and brings a log in order.
        if is_sealed || mode == "DELETE" {
            let error = read.unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Forbidden, "{error}");
        } else {
            assert_eq!(read.unwrap()[0].records.num_rows(), 3);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_in_the_place_of_another_has_another_identity() {
    let fixture = Fixture::new(TABLE);
    let before = fixture.store.identity().await.unwrap();
    let link = fixture.folder().join("link.db");
    std::os::unix::fs::symlink(fixture.path(), &link).unwrap();
    assert_eq!(open(&link).identity().await.unwrap(), before, "however it is reached");
    fixture.connect().execute_batch("INSERT INTO t VALUES (3); VACUUM").unwrap();
    assert_eq!(fixture.store.identity().await.unwrap(), before);
    let other = fixture.folder().join("other.db");
    fs::copy(fixture.path(), &other).unwrap();
    fs::rename(&other, fixture.path()).unwrap();
    assert_ne!(fixture.store.identity().await.unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_keeps_its_identity_when_its_file_is_made() {
    let fixture = Fixture::missing();
    let target = fixture.target(writing("t", Mode::Insert));
    let before = fixture.store.identity().await.unwrap();
    fixture.store.execute_script(TABLE).await.unwrap();
    assert_eq!(fixture.store.identity().await.unwrap(), before);
    let table = target.identity().await.unwrap().unwrap();
    assert!(table.as_str().contains("inode") && table.as_str().ends_with("table \"t\""), "{table}");
}
