//! A file that is appended to and synced before a checkpoint records its length.

use crate::error::{EngineError, Result};
use std::path::PathBuf;
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncSeekExt as _, AsyncWriteExt as _};

/// The file; made when something is appended for the first time.
#[derive(Debug)]
pub(crate) struct SyncedFile {
    path: PathBuf,
    file: Option<File>,
    bytes: u64,
}

impl SyncedFile {
    /// Opens the file at a checkpoint: what lies behind `bytes` belongs to no checkpoint and goes.
    pub(crate) async fn open(path: PathBuf, bytes: u64) -> Result<Self> {
        let failed = |source| EngineError::file("reset", &path, source);
        if bytes == 0 {
            match tokio::fs::remove_file(&path).await {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error)),
            }
            return Ok(Self { path, file: None, bytes });
        }
        let mut file = OpenOptions::new().write(true).open(&path).await.map_err(failed)?;
        let length = file.metadata().await.map_err(failed)?.len();
        if length < bytes {
            let lost =
                std::io::Error::other(format!("{length} bytes are left of {bytes}: records are missing"));
            return Err(failed(lost));
        }
        file.set_len(bytes).await.map_err(failed)?;
        file.seek(std::io::SeekFrom::End(0)).await.map_err(failed)?;
        Ok(Self { path, file: Some(file), bytes })
    }

    /// Appends and waits until it is on the disk.
    pub(crate) async fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.write(bytes).await.map_err(|source| EngineError::file("write", &self.path, source))
    }

    async fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                if let Some(folder) = self.path.parent() {
                    tokio::fs::create_dir_all(folder).await?;
                }
                let file =
                    OpenOptions::new().write(true).create(true).truncate(true).open(&self.path).await?;
                self.file.insert(file)
            }
        };
        file.write_all(bytes).await?;
        file.flush().await?;
        file.sync_data().await?;
        self.bytes += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        Ok(())
    }

    /// The length that is on the disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}
