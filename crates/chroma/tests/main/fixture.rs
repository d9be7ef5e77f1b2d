//! Directories with known contents, unpacked, and reading them.

use flate2::read::GzDecoder;
use futures::TryStreamExt as _;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;
use whimbrel_chroma::ChromaConfig;
use whimbrel_chroma::ChromaStore;
use whimbrel_model::StoreName;
use whimbrel_store::{ReadBatch, ReadRequest, Relation, Result, Source, conformance};

pub const ALL: [&str; 10] = [
    "0.4.24",
    "0.5.23",
    "0.6.3",
    "1.0.21",
    "1.5.9",
    "crash-0.6.3",
    "crash-1.5.9",
    "killed-1.5.9",
    "purge-loss-0.5.11",
    "upgraded-0.4.24-0.6.3-1.5.9",
];

/// The columns of every record, and where its embedding comes from.
pub const EVERYTHING: [&str; 6] = ["id", "document", "uri", "metadata", "embedding", "vector_state"];

/// A directory as chromadb left it.
pub struct Fixture {
    folder: TempDir,
    name: String,
}

fn packed(name: &str, file: &str) -> GzDecoder<File> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name).join(file);
    GzDecoder::new(File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

impl Fixture {
    pub fn unpack(name: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        tar::Archive::new(packed(name, "db.tar.gz"))
            .unpack(folder.path())
            .expect("the directory is unpacked");
        Self { folder, name: name.to_owned() }
    }

    pub fn directory(&self) -> PathBuf {
        self.folder.path().join("db")
    }

    /// What the directory is known to hold.
    pub fn truth(&self) -> Value {
        serde_json::from_reader(packed(&self.name, "truth.json.gz")).expect("the truth is JSON")
    }

    pub fn store(&self) -> ChromaStore {
        store(ChromaConfig::at(self.directory()))
    }

    /// Every file with its bytes and time of change.
    pub fn files(&self) -> BTreeMap<PathBuf, (Vec<u8>, std::time::SystemTime)> {
        let mut files = BTreeMap::new();
        let mut folders = vec![self.directory()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let modified = path.metadata().and_then(|metadata| metadata.modified()).expect("a time");
                    files.insert(path.clone(), (std::fs::read(&path).expect("a file"), modified));
                }
            }
        }
        files
    }
}

pub fn store(config: ChromaConfig) -> ChromaStore {
    ChromaStore::new(StoreName::new("vec"), config)
}

pub fn request(collection: &str, wanted: &[&str]) -> ReadRequest {
    ReadRequest {
        relation: Relation::Table(collection.to_owned()),
        slice_by: Vec::new(),
        columns: BTreeMap::new(),
        parameters: BTreeMap::new(),
        wanted: (!wanted.is_empty()).then(|| wanted.iter().map(|name| (*name).to_owned()).collect()),
        condition: None,
        wants_all: false,
        whole: false,
        batch_records: 100,
        batch_bytes: 1 << 20,
    }
}

/// All batches of a source, in order.
pub async fn read(source: &Arc<dyn Source>) -> Result<Vec<ReadBatch>> {
    let mut batches = Vec::new();
    for part in source.slices(1).await? {
        let stream = source.read(&part, None, &conformance::context()).await?;
        batches.extend(stream.try_collect::<Vec<_>>().await?);
    }
    Ok(batches)
}
