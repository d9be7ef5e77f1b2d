//! Emptying a table that held nothing before a run. What is to be deleted is on the disk first, record by record as it
//! was read, so that a deletion that is cut off goes on with exactly that.

use super::Undo;
use crate::error::{EngineError, Result};
use crate::migration::ScanFlow;
use futures::TryStreamExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, BufWriter};
use whimbrel_store::undo::CONFLICTS_LISTED;
use whimbrel_store::{Doomed, Mode, Target, Undone};

/// How many records are deleted at a time.
const AT_ONCE: usize = 1_000;
/// Parts in which a table is read.
const PARTS: usize = 4;

/// The records of one table.
pub(super) struct Emptying<'a, 'u> {
    undo: &'a Undo<'u>,
    flows: &'a [&'a ScanFlow],
    /// In the one mode in which a target tells a record from a later version of it.
    target: Arc<dyn Target>,
    path: PathBuf,
}

impl<'a, 'u> Emptying<'a, 'u> {
    pub(super) fn of(undo: &'a Undo<'u>, flows: &'a [&'a ScanFlow], table: &str) -> Result<Self> {
        let name = blake3::hash(format!("{}\n{table}", flows[0].store).as_bytes()).to_hex();
        let folder = undo.journal.run_folder(&undo.run()?.id).join("undo");
        let target = undo.migration.target_in(&flows[0].plan.name, Mode::Changed)?;
        Ok(Self { undo, flows, target, path: folder.join(format!("{}.doomed", &name[..16])) })
    }

    /// Whether the deletion has begun: then the table no longer holds all that the run wrote.
    pub(super) fn has_begun(&self) -> bool {
        self.path.exists()
    }

    /// Deletes what was noted, and notes it first. What was written between the two stays.
    pub(super) async fn carry_out(&self) -> Result<Undone> {
        let target = &self.target;
        if !target.deletes() || self.flows[0].target.key.is_empty() {
            return Err(EngineError::refused(
                format!(
                    "store `{}`: records of `{}` cannot be deleted by a key",
                    self.flows[0].store,
                    target.resource()
                ),
                "empty it by hand: it held nothing before the run",
            ));
        }
        if !self.has_begun() {
            self.note().await?;
        }
        let undone = self.delete_all().await?;
        if undone.conflicts == 0 {
            // Keys of records stand in it.
            let removed = tokio::fs::remove_file(&self.path).await;
            removed.map_err(|source| EngineError::file("remove", &self.path, source))?;
        }
        Ok(undone)
    }

    async fn note(&self) -> Result<()> {
        let failed = |source| EngineError::file("write", &self.path, source);
        let folder = self.path.parent().unwrap_or(Path::new("."));
        tokio::fs::create_dir_all(folder).await.map_err(failed)?;
        let draft = self.path.with_extension("draft");
        let mut file = BufWriter::new(File::create(&draft).await.map_err(failed)?);
        let held = self.undo.held_flows(self.flows)?;
        let target = &self.target;
        for part in target.held_parts(PARTS).await? {
            let mut batches = target.held(&part, &held, &self.undo.context).await?;
            while let Some(batch) = batches.try_next().await? {
                for row in 0..batch.records.len() {
                    let doomed =
                        Doomed { key: batch.contents.key(row), version: batch.contents.version(row) };
                    let mut line = serde_json::to_vec(&doomed).map_err(|error| failed(error.into()))?;
                    line.push(b'\n');
                    file.write_all(&line).await.map_err(failed)?;
                }
            }
        }
        file.flush().await.map_err(failed)?;
        file.get_ref().sync_all().await.map_err(failed)?;
        tokio::fs::rename(&draft, &self.path).await.map_err(failed)
    }

    async fn delete_all(&self) -> Result<Undone> {
        let read = |source| EngineError::file("read", &self.path, source);
        let mut lines = BufReader::new(File::open(&self.path).await.map_err(read)?).lines();
        let (mut doomed, mut undone) = (Vec::new(), Undone::default());
        loop {
            let line = lines.next_line().await.map_err(read)?;
            let is_last = line.is_none();
            if let Some(line) = line {
                doomed.push(serde_json::from_str::<Doomed>(&line).map_err(|error| read(error.into()))?);
            }
            if doomed.len() == AT_ONCE || (is_last && !doomed.is_empty()) {
                self.delete(&doomed, &mut undone).await?;
                doomed.clear();
            }
            if is_last {
                return Ok(undone);
            }
        }
    }

    async fn delete(&self, doomed: &[Doomed], undone: &mut Undone) -> Result<()> {
        if self.undo.context.stop.is_cancelled() {
            return Err(EngineError::Interrupted);
        }
        let deleted = self.target.delete(doomed, &self.undo.context).await?;
        undone.removed += deleted.records;
        for (place, _) in deleted.left {
            undone.conflicts += 1;
            let key = doomed.get(place).filter(|_| undone.conflicting.len() < CONFLICTS_LISTED);
            undone.conflicting.extend(key.map(|doomed| doomed.key.clone()));
        }
        Ok(())
    }
}
