//! Before-images of one table in a run's folder, for targets that cannot keep them beside the data: one SQLite file,
//! each portion on the disk before the write that rests on it.

use rusqlite::{Connection, params};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use whimbrel_model::StoreName;
use whimbrel_store::{BeforeImage, BeforeImages, Result, StoreError, StoreErrorKind};

/// `earlier`: what the write before the latest one left, where there was one. What holds nothing any more becomes a blob
/// of no bytes.
const TABLES: &str = "
CREATE TABLE IF NOT EXISTS images (
    key BLOB PRIMARY KEY, key_text TEXT NOT NULL, before TEXT, was BLOB, becomes BLOB NOT NULL, earlier BLOB
) STRICT, WITHOUT ROWID;
";

/// A deletion that is noted once more, after a kill, may have been carried out the first time: it is not forgotten.
const KEEP: &str = "
INSERT INTO images (key, key_text, before, was, becomes) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT (key) DO UPDATE SET
    before = CASE WHEN coalesce(excluded.was, x'') = images.becomes THEN images.before ELSE excluded.before END,
    was = CASE WHEN coalesce(excluded.was, x'') = images.becomes THEN images.was ELSE excluded.was END,
    earlier = CASE WHEN coalesce(excluded.was, x'') = images.becomes THEN images.becomes
        WHEN excluded.becomes = x'' AND excluded.was = images.was AND images.becomes = x'' THEN x'' END,
    becomes = excluded.becomes
";

/// The file of one table.
#[derive(Debug)]
pub struct ImageFile {
    store: StoreName,
    path: PathBuf,
    /// Opened with the first use: most runs look at it never or once.
    connection: Mutex<Option<Connection>>,
}

impl ImageFile {
    /// The file of a table in a run's folder. Does nothing yet.
    #[must_use]
    pub fn of(run_folder: &Path, store: &StoreName, resource: &str) -> Arc<Self> {
        let name = blake3::hash(format!("{store}\n{resource}").as_bytes()).to_hex();
        let path = run_folder.join("undo").join(format!("{}.sqlite", &name[..16]));
        Arc::new(Self { store: store.clone(), path, connection: Mutex::default() })
    }

    fn failed(&self, error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
        let context = format!("the before-images in {} cannot be kept or read", self.path.display());
        StoreError::new(StoreErrorKind::Internal, &self.store, context)
            .caused_by(error)
            .with_hint("look at the disk; nothing was written without its before-image")
    }

    fn with<T>(&self, work: impl FnOnce(&mut Connection) -> rusqlite::Result<T>) -> Result<T> {
        let mut slot = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = match &mut *slot {
            Some(connection) => connection,
            None => slot.insert(self.open()?),
        };
        work(connection).map_err(|error| self.failed(error))
    }

    fn open(&self) -> Result<Connection> {
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| self.failed(error))?;
        }
        let open = || {
            let connection = Connection::open(&self.path)?;
            connection.pragma_update(None, "journal_mode", "WAL")?;
            connection.pragma_update(None, "synchronous", "FULL")?;
            connection.execute_batch(TABLES)?;
            Ok(connection)
        };
        open().map_err(|error: rusqlite::Error| self.failed(error))
    }

    async fn on<T: Send + 'static>(
        self: Arc<Self>,
        work: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T> {
        let store = self.store.clone();
        let done = tokio::task::spawn_blocking(move || self.with(work)).await;
        done.unwrap_or_else(|error| {
            Err(StoreError::new(StoreErrorKind::Internal, &store, "before-images").caused_by(error))
        })
    }
}

/// What the engine lends to a target.
#[derive(Clone, Debug)]
pub struct Images(pub Arc<ImageFile>);

#[async_trait::async_trait]
impl BeforeImages for Images {
    async fn keep(&self, images: Vec<BeforeImage>) -> Result<()> {
        let keep = move |connection: &mut Connection| {
            let transaction = connection.transaction()?;
            {
                let mut insert = transaction.prepare_cached(KEEP)?;
                for image in &images {
                    insert.execute(params![
                        image.key.to_be_bytes(),
                        image.key_text,
                        image.before,
                        image.was.map(u128::to_be_bytes),
                        image.becomes.map_or_else(Vec::new, |becomes| becomes.to_be_bytes().to_vec()),
                    ])?;
                }
            }
            transaction.commit()
        };
        Arc::clone(&self.0).on(keep).await
    }

    async fn forget(&self, keys: Vec<u128>) -> Result<()> {
        let forget = move |connection: &mut Connection| {
            let transaction = connection.transaction()?;
            for key in &keys {
                let key = key.to_be_bytes();
                let sql = "UPDATE images SET becomes = earlier, earlier = NULL WHERE key = ?1 AND earlier IS NOT NULL";
                if transaction.prepare_cached(sql)?.execute([key])? == 0 {
                    transaction.prepare_cached("DELETE FROM images WHERE key = ?1")?.execute([key])?;
                }
            }
            transaction.commit()
        };
        Arc::clone(&self.0).on(forget).await
    }

    async fn behind(&self, key: Option<u128>, at_most: usize) -> Result<Vec<BeforeImage>> {
        let at_most = i64::try_from(at_most).unwrap_or(i64::MAX);
        let read = move |connection: &mut Connection| {
            let sql =
                "SELECT key, key_text, before, was, becomes FROM images WHERE key > ?1 ORDER BY key LIMIT ?2";
            let mut statement = connection.prepare_cached(sql)?;
            let first = key.map_or_else(Vec::new, |key| key.to_be_bytes().to_vec());
            let image = |row: &rusqlite::Row<'_>| {
                Ok(BeforeImage {
                    key: u128::from_be_bytes(row.get(0)?),
                    key_text: row.get(1)?,
                    before: row.get(2)?,
                    was: row.get::<_, Option<[u8; 16]>>(3)?.map(u128::from_be_bytes),
                    becomes: row.get::<_, Vec<u8>>(4)?.try_into().ok().map(u128::from_be_bytes),
                })
            };
            let rows = statement.query_map(params![first, at_most], image)?;
            rows.collect()
        };
        Arc::clone(&self.0).on(read).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(was: Option<u128>, becomes: impl Into<Option<u128>>) -> BeforeImage {
        let before = was.map(|was| format!("item {was}"));
        BeforeImage { key: 7, before, was, key_text: "seven".to_owned(), becomes: becomes.into() }
    }

    #[tokio::test]
    async fn a_deletion_is_forgotten_only_where_it_cannot_have_been_carried_out() {
        let folder = tempfile::tempdir().unwrap();
        let images = Images(ImageFile::of(folder.path(), &StoreName::new("ddb"), "t"));
        images.keep(vec![image(Some(1), None)]).await.unwrap();
        assert_eq!(images.behind(None, 10).await.unwrap(), [image(Some(1), None)]);
        images.forget(vec![7]).await.unwrap();
        assert_eq!(images.behind(None, 10).await.unwrap(), [], "it was refused at once");
        // Noted, and after a kill noted again: by then somebody has written, and it is refused.
        images.keep(vec![image(Some(1), None)]).await.unwrap();
        images.keep(vec![image(Some(1), None)]).await.unwrap();
        images.forget(vec![7]).await.unwrap();
        assert_eq!(images.behind(None, 10).await.unwrap(), [image(Some(1), None)]);
        // Whoever writes where nothing is left goes on from what was there before the deletion.
        images.keep(vec![image(None, 5)]).await.unwrap();
        assert_eq!(images.behind(None, 10).await.unwrap(), [image(Some(1), 5)]);
    }

    #[tokio::test]
    async fn the_oldest_image_stays_as_long_as_nobody_came_between() {
        let folder = tempfile::tempdir().unwrap();
        let images = Images(ImageFile::of(folder.path(), &StoreName::new("ddb"), "t"));
        images.keep(vec![image(None, 1)]).await.unwrap();
        // Written, and written again after a kill: what is read then is our own.
        images.keep(vec![image(Some(1), 1)]).await.unwrap();
        assert_eq!(images.behind(None, 10).await.unwrap(), [image(None, 1)]);
        // Another flow of the run goes on from there.
        images.keep(vec![image(Some(1), 2)]).await.unwrap();
        assert_eq!(images.behind(None, 10).await.unwrap(), [image(None, 2)]);
        // It was refused after all: the first write stands.
        images.forget(vec![7]).await.unwrap();
        assert_eq!(images.behind(None, 10).await.unwrap(), [image(None, 1)]);
        // Somebody else has written: what they wrote is what the next write takes the place of.
        images.keep(vec![image(Some(9), 3)]).await.unwrap();
        assert_eq!(images.behind(None, 10).await.unwrap(), [image(Some(9), 3)]);
        images.forget(vec![7]).await.unwrap();
        assert_eq!(images.behind(None, 10).await.unwrap(), []);
        assert!(images.behind(Some(7), 10).await.unwrap().is_empty());
    }
}
