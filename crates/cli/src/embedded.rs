//! Databases inside the process, for demos, rehearsals and tests: `embedded:PATH`.
//!
//! Both are real: PostgreSQL 17 compiled to WebAssembly, and a DynamoDB API over SQLite. Each is reached over
//! loopback by the ordinary client, so that nothing behaves otherwise than against a server.

mod torn;

use pglite_oxide::{PgliteServer, PgliteServerBuilder, extensions};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use whimbrel_model::StoreName;
use whimbrel_store::{Result, StoreError, StoreErrorKind};

/// The prefix of an embedded store's URL.
pub const PREFIX: &str = "embedded:";

/// The file in a PostgreSQL folder that says that its database has pgvector.
const VECTORS: &str = "with-pgvector";

/// The embedded databases of this process, one for each path, until it ends.
#[derive(Default)]
pub struct Embedded {
    postgres: BTreeMap<PathBuf, PostgresServer>,
    dynamodb: BTreeMap<PathBuf, DynamoServer>,
}

impl Embedded {
    /// Starts PostgreSQL over a folder, making it where it is missing; answers with its URL. `vectors`: with pgvector,
    /// as in every later start over that folder.
    ///
    /// # Errors
    /// The folder cannot be used, another process uses it, or the server does not start.
    pub async fn postgres(&mut self, store: &StoreName, path: &Path, vectors: bool) -> Result<String> {
        if let Some(server) = self.postgres.get(path) {
            return Ok(server.url());
        }
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
            let context = format!("embedded PostgreSQL does not start in {}", path.display());
            StoreError::new(StoreErrorKind::Unreachable, store, context)
                .caused_by(error)
                .with_hint("another whimbrel may use that folder; else delete it to begin anew")
        };
        make_parent(path).map_err(|error| failed(error.into()))?;
        let folder = path.to_owned();
        let starting = tokio::task::spawn_blocking(move || {
            torn::mend(&folder)?;
            PostgresServer::start(folder, vectors)
        });
        let started = starting.await.map_err(|error| failed(error.into()))?;
        let server = started.map_err(failed)?;
        let url = server.url();
        self.postgres.insert(path.to_owned(), server);
        Ok(url)
    }

    /// Starts a DynamoDB API over a file, making it where it is missing; answers with its endpoint.
    ///
    /// # Errors
    /// The file cannot be used or no loopback port is free.
    pub fn dynamodb(&mut self, store: &StoreName, path: &Path) -> Result<String> {
        if let Some(server) = self.dynamodb.get(path) {
            return Ok(server.endpoint());
        }
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| {
            let context = format!("embedded DynamoDB does not start over {}", path.display());
            StoreError::new(StoreErrorKind::Unreachable, store, context).caused_by(error).with_hint(
                "another whimbrel may use that file; else delete it to begin anew, or give another path",
            )
        };
        let server = DynamoServer::start(path).map_err(failed)?;
        let endpoint = server.endpoint();
        self.dynamodb.insert(path.to_owned(), server);
        Ok(endpoint)
    }

    /// Stops every server. Clients have closed their connections before.
    pub async fn stop(self) {
        let stopping = tokio::task::spawn_blocking(move || {
            for (path, server) in self.postgres {
                if let Err(error) = server.server.shutdown() {
                    tracing::warn!(path = %path.display(), %error, "embedded PostgreSQL did not stop cleanly");
                }
            }
            drop(self.dynamodb);
        });
        if let Err(error) = stopping.await {
            tracing::warn!(%error, "the embedded databases did not stop cleanly");
        }
    }
}

/// PostgreSQL and the folder of its socket.
struct PostgresServer {
    server: PgliteServer,
    /// Removed with the server. Not beside the data: a socket's path is short on every system.
    #[cfg(unix)]
    _socket: tempfile::TempDir,
}

impl PostgresServer {
    /// Over a unix socket, where there are such: small answers come twenty times sooner than over TCP.
    #[cfg(unix)]
    fn start(
        folder: PathBuf,
        vectors: bool,
    ) -> std::result::Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        let socket = tempfile::Builder::new().prefix("whimbrel-").tempdir()?;
        let path = socket.path().join(".s.PGSQL.5432");
        let server = with_vectors(PgliteServer::builder().unix(path), folder, vectors)?;
        Ok(Self { server, _socket: socket })
    }

    #[cfg(not(unix))]
    fn start(
        folder: PathBuf,
        vectors: bool,
    ) -> std::result::Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self { server: with_vectors(PgliteServer::builder(), folder, vectors)? })
    }

    fn url(&self) -> String {
        self.server.database_url()
    }
}

/// Starts the server over a folder, with pgvector where that is asked for or the folder was ever used so: a database
/// that holds vectors cannot be read without it.
fn with_vectors(
    builder: PgliteServerBuilder,
    folder: PathBuf,
    vectors: bool,
) -> std::result::Result<PgliteServer, Box<dyn std::error::Error + Send + Sync>> {
    let mark = folder.join(VECTORS);
    if !vectors && !mark.exists() {
        return Ok(builder.path(folder).start()?);
    }
    let server = builder.path(folder).extension(extensions::VECTOR).start()?;
    std::fs::write(mark, "this database has pgvector\n")?;
    Ok(server)
}

fn make_parent(path: &Path) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), std::fs::create_dir_all)
}

/// A DynamoDB API on a runtime of its own, so that it never waits for the engine's tasks nor they for it.
struct DynamoServer {
    address: SocketAddr,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl DynamoServer {
    fn start(path: &Path) -> std::result::Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        make_parent(path)?;
        let path = path.to_str().ok_or("the path is not UTF-8")?;
        let database = dynoxide::Database::new(path).map_err(|error| error.to_string())?;
        // What is usual there for SQLite with a write-ahead log (synchronous = NORMAL): a write waits for the disk
        // only now and then. A killed process loses nothing by it; a power cut may lose the last writes.
        database.disable_bulk_loading().map_err(|error| error.to_string())?;
        let listener = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let serve = async move {
            let listener = match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => listener,
                Err(error) => return tracing::error!(%error, "embedded DynamoDB cannot listen"),
            };
            let shutdown = async move {
                // The sender is never used; its end is the signal.
                let _ = stopped.await;
            };
            if let Err(error) = dynoxide::server::serve_with_shutdown(listener, database, shutdown).await {
                tracing::error!(%error, "embedded DynamoDB stopped");
            }
        };
        let thread = std::thread::spawn(move || {
            runtime.block_on(serve);
            // Clients may keep idle connections open; nothing waits for them.
            runtime.shutdown_background();
        });
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for DynamoServer {
    fn drop(&mut self) {
        self.stop.take();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::warn!("embedded DynamoDB did not stop cleanly");
        }
    }
}
