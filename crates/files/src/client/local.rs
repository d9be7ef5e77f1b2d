//! Files of this machine.

use super::{FileRef, changed};
use crate::error::Outcome;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// A folder, or one file.
#[derive(Clone, Debug)]
pub(crate) struct Folder {
    root: PathBuf,
}

fn version(metadata: &Metadata) -> String {
    let (seconds, nanoseconds) = (metadata.mtime(), metadata.mtime_nsec());
    format!("{}:{}:{seconds}.{nanoseconds:09}", metadata.dev(), metadata.ino())
}

fn reference(path: &Path, metadata: &Metadata) -> FileRef {
    FileRef { path: path.display().to_string(), size: metadata.len(), version: version(metadata) }
}

impl Folder {
    pub(super) fn new(root: &str) -> Self {
        Self { root: PathBuf::from(if root.is_empty() { "." } else { root }) }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn path_of(&self, table: &str) -> String {
        let path = if table.is_empty() || table == "." { self.root.clone() } else { self.root.join(table) };
        path.display().to_string()
    }

    /// Its absolute path, as far as it exists without links.
    pub(super) fn canonical(&self) -> Outcome<String> {
        let absolute = std::path::absolute(&self.root)?;
        let mut there = absolute.as_path();
        loop {
            match std::fs::canonicalize(there) {
                Ok(path) => {
                    let rest = absolute.strip_prefix(there).unwrap_or(Path::new(""));
                    return Ok(path.join(rest).display().to_string().trim_end_matches('/').to_owned());
                }
                Err(error) if is_absent(&error) => match there.parent() {
                    Some(parent) => there = parent,
                    None => return Ok(absolute.display().to_string()),
                },
                Err(error) => return Err(error.into()),
            }
        }
    }

    pub(super) fn probe(&self) -> Outcome<String> {
        match std::fs::metadata(&self.root) {
            Ok(metadata) if metadata.is_dir() => {
                let files = std::fs::read_dir(&self.root)?.count();
                Ok(format!("a folder, {files} entries"))
            }
            Ok(metadata) => Ok(format!("a file, {} bytes", metadata.len())),
            Err(error) if is_absent(&error) => Ok("is not there yet".to_owned()),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn find(&self, path: &str) -> Outcome<Option<FileRef>> {
        match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_file() => Ok(Some(reference(Path::new(path), &metadata))),
            Ok(_) => Ok(None),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn list(&self, folder: &str) -> Outcome<Vec<FileRef>> {
        let mut files = Vec::new();
        let mut folders = vec![PathBuf::from(folder)];
        while let Some(folder) = folders.pop() {
            let entries = match std::fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) if is_absent(&error) => continue,
                Err(error) => return Err(error.into()),
            };
            for entry in entries {
                let entry = entry?;
                let path = entry.path();
                let metadata = std::fs::metadata(&path)?;
                // A link to a folder may lead round in a circle.
                if metadata.is_dir() && entry.file_type()?.is_symlink() {
                    continue;
                }
                if metadata.is_dir() {
                    folders.push(path);
                } else if metadata.is_file() {
                    files.push(reference(&path, &metadata));
                }
            }
        }
        Ok(files)
    }

    /// Opens a file that must be what it was.
    pub(super) fn open_file(&self, file: &FileRef) -> Outcome<File> {
        let opened = match File::open(&file.path) {
            Ok(opened) => opened,
            Err(error) if is_absent(&error) => return Err(changed("it is gone since the run began")),
            Err(error) => return Err(error.into()),
        };
        if reference(Path::new(&file.path), &opened.metadata()?) == *file {
            Ok(opened)
        } else {
            Err(changed("it has changed since the run began"))
        }
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
