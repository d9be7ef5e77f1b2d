//! Chroma as a store: a persistent directory of any chromadb from 0.4 on, read without chromadb, or a running server,
//! read over HTTP ([`server`]).
//!
//! The directory is never written to and its database never opened: a copy is, with the journal that a crash may have
//! left. Records exist where Chroma's table of records says so; their embeddings are where the index or the log of
//! operations holds them, the log first, since it has them bit for bit. See [`types`] for the columns.

mod catalog;
mod client;
pub mod config;
mod error;
mod index;
mod records;
mod server;
mod source;
pub mod types;

pub use config::ChromaConfig;

use async_trait::async_trait;
use catalog::Collection;
use client::{Client, DATABASE};
use error::{Fault, Outcome};
use server::{Server, ServerSource};
use source::ChromaSource;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::UNIX_EPOCH;
use whimbrel_model::{Identity, StoreName};
use whimbrel_store::{
    Finding, ReadRequest, Result, Source, Store, StoreError, StoreErrorKind, Target, WriteRequest,
};

/// How many collections `check` lists.
const COLLECTIONS_SHOWN: usize = 20;

/// A Chroma directory, whose database is copied when it is first asked for something, or a server.
pub struct ChromaStore {
    name: StoreName,
    place: Place,
}

enum Place {
    Directory(Arc<Client>),
    Server(Arc<Server>),
}

impl ChromaStore {
    /// The directory or server that a configuration names. Does no I/O.
    #[must_use]
    pub fn new(name: StoreName, config: ChromaConfig) -> Self {
        let place = match config.server().cloned() {
            None => Place::Directory(Arc::new(Client::new(&name, config))),
            Some(address) => Place::Server(Arc::new(Server::new(&name, config, &address))),
        };
        Self { name, place }
    }
}

/// What `check` tells of a directory.
fn findings(client: &Client) -> Outcome<Vec<Finding>> {
    let epoch = client.epoch()?;
    let connection = epoch.connection()?;
    let collections = catalog::collections(&connection)?;
    let places: BTreeSet<_> = collections.iter().map(|one| (&one.tenant, &one.database)).collect();
    let mut findings = vec![Finding::good(format!(
        "{}: {} collections in {} databases",
        client.config,
        collections.len(),
        places.len()
    ))];
    if epoch.had_journal() {
        findings.push(Finding::good(
            "a journal lies beside the database: a program is writing to it, or was killed; a copy is read, with the \
             journal applied",
        ));
    }
    findings.extend(collections.iter().take(COLLECTIONS_SHOWN).map(shown));
    let more = collections.len().saturating_sub(COLLECTIONS_SHOWN);
    findings.extend((more > 0).then(|| Finding::good(format!("and {more} more collections"))));
    Ok(findings)
}

fn shown(collection: &Collection) -> Finding {
    let dimension = collection.dimension.map_or("none yet".to_owned(), |count| count.to_string());
    let text = format!("{}: dimensions {dimension}, metric {}", collection.full_name(), collection.metric);
    Finding::good(text)
}

/// Path, inode and birth of the database: another file in its place has another identity.
fn identity(client: &Client) -> Outcome<String> {
    let path = client.config.path().join(DATABASE);
    let metadata = path.metadata().map_err(Fault::io(&path))?;
    let canonical = path.canonicalize().map_err(Fault::io(&path))?;
    let born = metadata.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
    let born = born.map(|born| format!(" born {}", born.as_nanos())).unwrap_or_default();
    Ok(format!("chroma {}{}{born}", canonical.display(), inode(&metadata)))
}

#[cfg(unix)]
fn inode(metadata: &std::fs::Metadata) -> String {
    use std::os::unix::fs::MetadataExt as _;
    format!(" inode {}", metadata.ino())
}

#[cfg(not(unix))]
fn inode(_metadata: &std::fs::Metadata) -> String {
    String::new()
}

#[async_trait]
impl Store for ChromaStore {
    fn name(&self) -> &StoreName {
        &self.name
    }

    fn location(&self) -> String {
        match &self.place {
            Place::Directory(client) => client.config.to_string(),
            Place::Server(server) => server.config.to_string(),
        }
    }

    async fn identity(&self) -> Result<Identity> {
        let identity = match &self.place {
            Place::Directory(client) => client.blocking("cannot say what it is", identity).await,
            Place::Server(server) => server.identity().await,
        };
        identity.map(Identity::new)
    }

    async fn check(&self) -> Vec<Finding> {
        let doing = format!("cannot read {}", self.location());
        let found = match &self.place {
            Place::Directory(client) => client.blocking(&doing, findings).await,
            Place::Server(server) => server.findings().await,
        };
        found.unwrap_or_else(|error| vec![Finding::bad(&error)])
    }

    async fn begin_epoch(&self) -> Result<()> {
        let begin = |client: &Client| {
            client.begin_epoch();
            Ok(())
        };
        match &self.place {
            Place::Directory(client) => client.blocking("cannot begin to read", begin).await,
            Place::Server(server) => {
                server.begin_epoch().await;
                Ok(())
            }
        }
    }

    fn source(&self, request: ReadRequest) -> Result<Arc<dyn Source>> {
        Ok(match &self.place {
            Place::Directory(client) => Arc::new(ChromaSource::new(client, request)?),
            Place::Server(server) => Arc::new(ServerSource::new(server, request)?),
        })
    }

    fn target(&self, _request: WriteRequest) -> Result<Arc<dyn Target>> {
        let context = "Chroma is a source only: nothing is ever written to it";
        Err(StoreError::new(StoreErrorKind::Unsupported, &self.name, context))
    }

    async fn close(&self) {
        match &self.place {
            Place::Directory(client) => client.close(),
            Place::Server(server) => server.close().await,
        }
    }
}
