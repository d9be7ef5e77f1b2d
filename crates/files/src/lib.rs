//! Files of records, on this machine or in an object store: read in parts, written whole or not at all.
//!
//! This crate knows no other store and nothing of flows: it gives and gets batches of Arrow records, and says
//! what became of each that it wrote.

mod catalog;
mod client;
mod config;
mod error;
mod format;
mod source;
mod target;
mod types;

pub use config::{ConfigError, FilesConfig};
pub use format::{Compression, Format};

use async_trait::async_trait;
use client::{Bucket, Place};
use object_store::ObjectStore;
use source::FilesSource;
use std::sync::Arc;
use target::{FilesTarget, Sessions};
use whimbrel_model::{Identity, StoreName};
use whimbrel_store::{Finding, ReadRequest, Result, Source, Store, Target, WriteRequest};

/// Files below a root. Its tables are paths there: of a file, of a folder of files of one format, or of an export
/// of a DynamoDB table; the empty path is the root itself.
#[derive(Debug)]
pub struct FilesStore {
    name: StoreName,
    place: Place,
    format: Option<Format>,
    sessions: Arc<Sessions>,
}

impl FilesStore {
    /// Does no I/O.
    ///
    /// # Errors
    /// The root is a URL that cannot be right, or the environment's settings for it cannot.
    pub fn new(name: StoreName, config: &FilesConfig) -> Result<Self> {
        let place = Place::open(config).map_err(|fault| fault.into_error(&name, "cannot be opened"))?;
        Ok(Self { place, format: config.format, name, sessions: Arc::default() })
    }

    /// Files below a prefix of an object store that is open already.
    #[must_use]
    pub fn over(
        name: StoreName,
        objects: Arc<dyn ObjectStore>,
        prefix: &str,
        format: Option<Format>,
    ) -> Self {
        let shown = format!("{objects}/{prefix}");
        let place = Place::Bucket(Bucket::over(objects, prefix, shown));
        Self { place, format, name, sessions: Arc::default() }
    }

    /// Every commit is durable when it is answered. Otherwise on a disk short slices become durable at their end, and
    /// long ones now and then; [`whimbrel_store::Writer::last`] tells how far they have come.
    #[must_use]
    pub fn durable_at_once(self) -> Self {
        Self { sessions: Arc::new(Sessions::durable_at_once()), ..self }
    }
}

#[async_trait]
impl Store for FilesStore {
    fn name(&self) -> &StoreName {
        &self.name
    }

    fn location(&self) -> String {
        self.place.shown()
    }

    async fn identity(&self) -> Result<Identity> {
        let failed = |fault: error::Fault| fault.into_error(&self.name, "cannot say what it is");
        Ok(Identity::new(format!("files {}", self.place.canonical().await.map_err(failed)?)))
    }

    async fn check(&self) -> Vec<Finding> {
        let shown = self.place.shown();
        vec![match self.place.probe().await {
            Ok(found) => Finding::good(format!("{shown}: {found}")),
            Err(fault) => Finding::bad(&fault.into_error(&self.name, &format!("cannot read {shown}"))),
        }]
    }

    fn source(&self, request: ReadRequest) -> Result<Arc<dyn Source>> {
        Ok(Arc::new(FilesSource::new(&self.name, &self.place, self.format, request)?))
    }

    fn target(&self, request: WriteRequest) -> Result<Arc<dyn Target>> {
        Ok(Arc::new(FilesTarget::new(&self.name, &self.place, self.format, request, &self.sessions)?))
    }
}
