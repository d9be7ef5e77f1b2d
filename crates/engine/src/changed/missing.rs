//! Deleting what a flow no longer yields.

use super::add_beside;
use super::kept;
use super::known::{Known, on};
use crate::error::{EngineError, Result};
use crate::migration::ScanFlow;
use futures::TryStreamExt as _;
use serde_json::{Map, Value};
use std::path::Path;
use std::sync::Arc;
use tokio::fs::File;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use whimbrel_model::Capacity;
use whimbrel_store::{HeldFlow, RunContext};

/// How many records are deleted at a time.
const AT_ONCE: usize = 1_000;

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
        let path = kept::folder(self.run_folder).join(format!("{}.missing", self.flow.plan.name));
        let failed = |source| EngineError::file("write", &path, source);
        let mut file = File::create(&path).await.map_err(failed)?;
        let capacity = self.find(flow, &mut file, &path).await?;
        add_beside(self.run_folder, &self.flow.plan.name, capacity, 0)?;
        file.flush().await.map_err(failed)?;
        drop(file);
        let read = |source| EngineError::file("read", &path, source);
        let mut lines = BufReader::new(File::open(&path).await.map_err(read)?).lines();
        let mut keys: Vec<Map<String, Value>> = Vec::new();
        while let Some(line) = lines.next_line().await.map_err(read)? {
            keys.push(serde_json::from_str(&line).map_err(|error| read(error.into()))?);
            if keys.len() == AT_ONCE {
                self.delete(&mut keys).await?;
            }
        }
        self.delete(&mut keys).await?;
        // Keys of records stand in it.
        tokio::fs::remove_file(&path).await.map_err(|source| EngineError::file("remove", &path, source))
    }

    /// Notes the keys of records that the source does not have.
    async fn find(&self, flow: &HeldFlow, file: &mut File, path: &Path) -> Result<Capacity> {
        let target = &self.flow.plan.target;
        let mut capacity = Capacity::default();
        for part in target.held_parts(super::PARTS).await? {
            let mut batches = target.held(&part, std::slice::from_ref(flow), self.context).await?;
            while let Some(batch) = batches.try_next().await? {
                if self.context.stop.is_cancelled() {
                    return Err(EngineError::Interrupted);
                }
                capacity += batch.capacity;
                let own: Vec<usize> =
                    (0..batch.records.len()).filter(|row| batch.records[*row].flow == Some(0)).collect();
                let keys: Vec<u128> = own.iter().map(|row| batch.records[*row].fingerprint.key).collect();
                let seen = on(self.seen, move |seen| seen.records(&keys)).await?;
                let gone = own.into_iter().zip(seen).filter(|(_, seen)| seen.is_none()).map(|(row, _)| row);
                let mut lines = String::new();
                for row in gone {
                    lines += &Value::Object(batch.contents.key(row)).to_string();
                    lines.push('\n');
                }
                file.write_all(lines.as_bytes())
                    .await
                    .map_err(|source| EngineError::file("write", path, source))?;
            }
        }
        Ok(capacity)
    }

    async fn delete(&self, keys: &mut Vec<Map<String, Value>>) -> Result<()> {
        if keys.is_empty() {
            return Ok(());
        }
        let deleted = self.flow.plan.target.delete(keys, self.context).await?;
        keys.clear();
        add_beside(self.run_folder, &self.flow.plan.name, deleted.capacity, deleted.records)
    }
}
