//! Objects of an object store.

use super::FileRef;
use crate::config::FilesConfig;
use crate::error::{Fault, Outcome};
use bytes::{Buf as _, Bytes};
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path;
use object_store::{BackoffConfig, GetOptions, ObjectMeta, ObjectStore, ObjectStoreExt as _, RetryConfig};
use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use whimbrel_store::StoreErrorKind;

/// How much one request fetches of what is read from end to end, and how many are on their way.
const FETCH_BYTES: u64 = 4 << 20;
const FETCHES_AHEAD: usize = 2;
/// How many objects `check` lists.
const PROBED_OBJECTS: usize = 100;

/// A bucket, and the prefix below which the files are.
#[derive(Clone, Debug)]
pub(crate) struct Bucket {
    objects: Arc<dyn ObjectStore>,
    prefix: String,
    shown: String,
}

impl Bucket {
    pub(super) fn open(config: &FilesConfig, scheme: &str) -> Outcome<Self> {
        let url = &config.root;
        let is_plain = |endpoint: &String| endpoint.starts_with("http://");
        let objects: Arc<dyn ObjectStore> = match scheme {
            "s3" | "s3a" => {
                let mut builder = AmazonS3Builder::from_env().with_url(url).with_retry(patience());
                if let Some(endpoint) = &config.endpoint {
                    builder = builder.with_config(AmazonS3ConfigKey::S3Endpoint, endpoint);
                }
                if config.endpoint.clone().or_else(environment_endpoint).as_ref().is_some_and(is_plain) {
                    builder = builder.with_allow_http(true);
                }
                if let Some(region) = &config.region {
                    builder = builder.with_region(region);
                }
                Arc::new(builder.build()?)
            }
            "gs" => {
                Arc::new(GoogleCloudStorageBuilder::from_env().with_url(url).with_retry(patience()).build()?)
            }
            "az" | "azure" | "abfs" | "abfss" | "adl" => {
                Arc::new(MicrosoftAzureBuilder::from_env().with_url(url).with_retry(patience()).build()?)
            }
            other => {
                let what = format!("there is no object store `{other}://` here; there are s3, gs, az, abfss");
                return Err(Fault::found(StoreErrorKind::Unsupported, what));
            }
        };
        let after_scheme = url.split_once("://").map_or("", |(_, rest)| rest);
        let prefix = after_scheme.split_once('/').map_or("", |(_, prefix)| prefix);
        let shown = match config
            .endpoint
            .clone()
            .or_else(environment_endpoint)
            .filter(|_| scheme.starts_with("s3"))
        {
            Some(endpoint) => format!("{} at {}", without_credentials(url), without_credentials(&endpoint)),
            None => without_credentials(url),
        };
        Ok(Self::over(objects, prefix, shown))
    }

    /// Files below a prefix of any object store.
    pub(crate) fn over(objects: Arc<dyn ObjectStore>, prefix: &str, shown: String) -> Self {
        Self { objects, prefix: prefix.trim_matches('/').to_owned(), shown }
    }

    pub(super) fn shown(&self) -> &str {
        &self.shown
    }

    pub(crate) fn objects(&self) -> &Arc<dyn ObjectStore> {
        &self.objects
    }

    pub(super) fn path_of(&self, table: &str) -> String {
        let table = table.trim_matches('/');
        match (self.prefix.as_str(), table) {
            (prefix, "" | ".") => prefix.to_owned(),
            ("", table) => table.to_owned(),
            (prefix, table) => format!("{prefix}/{table}"),
        }
    }

    /// Lists a few of the objects below the prefix.
    pub(super) async fn probe(&self) -> Outcome<String> {
        let prefix = Path::parse(&self.prefix).map_err(object_store::Error::from)?;
        let prefix = (!self.prefix.is_empty()).then_some(&prefix);
        let found = self.objects.list(prefix).take(PROBED_OBJECTS).try_collect::<Vec<_>>().await?.len();
        let more = if found == PROBED_OBJECTS { " or more" } else { "" };
        Ok(format!("answers, {found}{more} objects"))
    }

    pub(super) async fn find(&self, path: &str) -> Outcome<Option<FileRef>> {
        if path.is_empty() {
            return Ok(None);
        }
        match self.objects.head(&Path::parse(path).map_err(object_store::Error::from)?).await {
            Ok(meta) => Ok(Some(reference(meta))),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn list(&self, folder: &str) -> Outcome<Vec<FileRef>> {
        let prefix = Path::parse(folder).map_err(object_store::Error::from)?;
        let prefix = (!folder.is_empty()).then_some(&prefix);
        let found: Vec<ObjectMeta> = self.objects.list(prefix).try_collect().await?;
        Ok(found.into_iter().map(reference).collect())
    }

    /// A range of an object that must be what it was.
    pub(super) async fn range(
        &self,
        file: &FileRef,
        range: Range<u64>,
    ) -> Result<Bytes, object_store::Error> {
        let if_match = file.version.strip_prefix(ETAG).map(str::to_owned);
        let options = GetOptions { range: Some(range.into()), if_match, ..GetOptions::default() };
        self.objects.get_opts(&Path::parse(&file.path)?, options).await?.bytes().await
    }

    pub(super) fn reader(&self, handle: &Handle, file: &FileRef, from: u64, to: u64) -> FetchedAhead {
        let (sender, receiver) = mpsc::channel(1);
        let (bucket, file) = (self.clone(), file.clone());
        handle.spawn(async move {
            let steps = usize::try_from(FETCH_BYTES).unwrap_or(usize::MAX);
            let ranges = (from..to).step_by(steps).map(|start| start..(start + FETCH_BYTES).min(to));
            let mut fetched =
                futures::stream::iter(ranges).map(|range| bucket.range(&file, range)).buffered(FETCHES_AHEAD);
            while let Some(bytes) = fetched.next().await {
                let failed = bytes.is_err();
                if sender.send(bytes).await.is_err() || failed {
                    return;
                }
            }
        });
        FetchedAhead { receiver, left: Bytes::new(), missing: to.saturating_sub(from) }
    }
}

/// How long one request is tried again; beyond that the run decides.
fn patience() -> RetryConfig {
    // Pauses are chosen by chance and may all be short: time alone ends it.
    let backoff = BackoffConfig { max_backoff: Duration::from_secs(5), ..BackoffConfig::default() };
    RetryConfig { backoff, max_retries: 1_000, retry_timeout: Duration::from_secs(30) }
}

fn environment_endpoint() -> Option<String> {
    ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"]
        .iter()
        .find_map(|name| std::env::var(name).ok())
}

fn without_credentials(url: &str) -> String {
    match url.split_once("://").and_then(|(scheme, rest)| {
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        // In `abfss://container@account…` what is before the sign is no secret.
        let host = match authority.rsplit_once('@') {
            Some((user, host)) if user.contains(':') => host,
            _ => authority,
        };
        Some(format!("{scheme}://{host}/{}", path.split(['?', '#']).next()?))
    }) {
        Some(shown) => shown,
        None => "(an object store)".to_owned(),
    }
}

/// What an ETag is told apart by from a time, in a version.
const ETAG: &str = "etag ";

fn reference(meta: ObjectMeta) -> FileRef {
    let version = match meta.e_tag {
        Some(etag) => format!("{ETAG}{etag}"),
        None => meta.last_modified.to_rfc3339(),
    };
    FileRef { path: meta.location.to_string(), size: meta.size, version }
}

/// An object's bytes, fetched ahead of whoever reads them. Only for threads that may block.
pub(super) struct FetchedAhead {
    receiver: mpsc::Receiver<Result<Bytes, object_store::Error>>,
    left: Bytes,
    /// How many bytes are still to come: an end before them is none.
    missing: u64,
}

impl Read for FetchedAhead {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.left.is_empty() {
            match self.receiver.blocking_recv() {
                Some(Ok(bytes)) => {
                    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                    self.missing = self.missing.checked_sub(length).ok_or(io::ErrorKind::InvalidData)?;
                    self.left = bytes;
                }
                Some(Err(error)) => return Err(io::Error::other(error)),
                None if self.missing > 0 => return Err(io::ErrorKind::ConnectionAborted.into()),
                None => return Ok(0),
            }
        }
        let length = self.left.len().min(into.len());
        self.left.copy_to_slice(&mut into[..length]);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_in_a_url_are_not_shown() {
        for (url, shown) in [
            ("s3://bucket/a/b/", "s3://bucket/a/b/"),
            ("http://127.0.0.1:9000", "http://127.0.0.1:9000/"),
            ("https://key:hush@host:9/x?token=hush", "https://host:9/x"),
            (
                "abfss://container@account.dfs.core.windows.net/x",
                "abfss://container@account.dfs.core.windows.net/x",
            ),
        ] {
            assert_eq!(without_credentials(url), shown);
        }
    }

    #[test]
    fn an_end_before_the_last_byte_is_an_error() {
        let (sender, receiver) = mpsc::channel(1);
        sender.try_send(Ok(Bytes::from_static(b"ab"))).unwrap();
        drop(sender);
        let mut cut = FetchedAhead { receiver, left: Bytes::new(), missing: 3 };
        let mut read = Vec::new();
        assert_eq!(cut.read_to_end(&mut read).unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        assert_eq!(read, b"ab");
    }
}
