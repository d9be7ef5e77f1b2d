//! Deleting what a flow no longer yields.
//!
//! The table is read to its end and what is to go is noted in a file, with what each record was when it was read; then
//! that file is worked through. Whoever is killed in between works through it again: what is gone is gone, and what
//! somebody has changed since stays. So a deletion is counted as often as it was carried out: once.

use super::known::{Known, on};
use super::{Beside, kept};
use crate::error::{EngineError, Result};
use crate::migration::ScanFlow;
use futures::TryStreamExt as _;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, BufWriter};
use whimbrel_store::{Doomed, HeldFlow, RunContext};

/// How many records are deleted at a time.
const AT_ONCE: usize = 1_000;
/// How many records that stay are named, key by key.
const NAMED: usize = 20;

/// How the file of what is to be deleted ends.
pub(super) const EXTENSION: &str = "missing";

/// The deletion of one flow's records.
pub(super) struct Deletion<'a> {
    pub(super) run_folder: &'a Path,
    pub(super) flow: &'a ScanFlow,
    /// The keys that the source has.
    pub(super) seen: &'a Arc<Known>,
    pub(super) context: &'a RunContext,
}

impl Deletion<'_> {
    /// Reads the table to its end, and then deletes: a store may have one connection for both.
    pub(super) async fn carry_out(&self, flow: &HeldFlow) -> Result<()> {
        let path = self.path();
        if !path.exists() {
            self.find(flow, &path).await?;
        }
        self.delete_all(&path).await?;
        self.note(|beside| beside.deletion_done = true)?;
        // Contents of records stand in it.
        tokio::fs::remove_file(&path).await.map_err(|source| EngineError::file("remove", &path, source))
    }

    /// Where what is to go is noted; there only once all of it is.
    fn path(&self) -> PathBuf {
        kept::folder(self.run_folder).join(format!("{}.{EXTENSION}", self.flow.plan.name))
    }

    fn note(&self, note: impl FnOnce(&mut Beside)) -> Result<()> {
        super::note_beside(self.run_folder, &self.flow.plan.name, note)
    }

    /// Notes the records that the source does not have.
    async fn find(&self, flow: &HeldFlow, path: &Path) -> Result<()> {
        let draft = path.with_extension("missing-part");
        let failed = |source| EngineError::file("write", &draft, source);
        let mut file = BufWriter::new(File::create(&draft).await.map_err(failed)?);
        let target = &self.flow.plan.target;
        for part in target.held_parts(super::PARTS).await? {
            let mut batches = target.held(&part, std::slice::from_ref(flow), self.context).await?;
            while let Some(batch) = batches.try_next().await? {
                if self.context.stop.is_cancelled() {
                    return Err(EngineError::Interrupted);
                }
                self.note(|beside| beside.capacity += batch.capacity)?;
                let own: Vec<usize> =
                    (0..batch.records.len()).filter(|row| batch.records[*row].flow == Some(0)).collect();
                let keys: Vec<u128> = own.iter().map(|row| batch.records[*row].fingerprint.key).collect();
                let seen = on(self.seen, move |seen| seen.records(&keys)).await?;
                let gone = own.into_iter().zip(seen).filter(|(_, seen)| seen.is_none()).map(|(row, _)| row);
                for row in gone {
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
        tokio::fs::rename(&draft, path).await.map_err(failed)
    }

    async fn delete_all(&self, path: &Path) -> Result<()> {
        // Counted anew: what an earlier attempt has deleted is gone, too.
        self.note(|beside| beside.restart_deletion())?;
        let read = |source| EngineError::file("read", path, source);
        let mut lines = BufReader::new(File::open(path).await.map_err(read)?).lines();
        let mut doomed: Vec<Doomed> = Vec::new();
        while let Some(line) = lines.next_line().await.map_err(read)? {
            doomed.push(serde_json::from_str(&line).map_err(|error| read(error.into()))?);
            if doomed.len() == AT_ONCE {
                self.delete(&mut doomed).await?;
            }
        }
        self.delete(&mut doomed).await
    }

    async fn delete(&self, doomed: &mut Vec<Doomed>) -> Result<()> {
        if doomed.is_empty() {
            return Ok(());
        }
        if self.context.stop.is_cancelled() {
            return Err(EngineError::Interrupted);
        }
        let deleted = self.flow.plan.target.delete(doomed, self.context).await?;
        let left = u64::try_from(deleted.left.len()).unwrap_or(u64::MAX);
        let named: Vec<String> = deleted
            .left
            .iter()
            .filter_map(|(place, reason)| {
                let key = Value::Object(doomed.get(*place)?.key.clone());
                tracing::warn!(flow = %self.flow.plan.name, %key, %reason, "not deleted");
                Some(format!("{key}: {reason}"))
            })
            .take(NAMED)
            .collect();
        self.note(|beside| {
            beside.capacity += deleted.capacity;
            beside.deleted += deleted.records;
            beside.left += left;
            beside.left_first.extend(named);
            beside.left_first.truncate(NAMED);
        })?;
        doomed.clear();
        Ok(())
    }
}
