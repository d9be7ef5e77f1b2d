//! From a spec's file to opened stores: the wiring of the program.

use crate::args::{Common, SpecArgs, Values};
#[cfg(feature = "embedded")]
use crate::embedded::{Embedded, PREFIX};
use crate::failure::{Failure, Result};
use crate::prompt::Prompt;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use whimbrel_aws::{CdkOutputs, CognitoUsers, CredentialsFile, Parameters, Secrets, Session};
use whimbrel_chroma::{ChromaConfig, ChromaStore};
use whimbrel_dynamodb::{DynamoConfig, DynamoStore};
use whimbrel_engine::migration::{Migration, Stores};
use whimbrel_files::{FilesConfig, FilesStore};
use whimbrel_model::{RunId, StoreName};
use whimbrel_postgres::{PostgresConfig, PostgresStore};
use whimbrel_spec::resolved::StoreKind;
use whimbrel_spec::{Choices, Providers, Redactor, Resolved, ResolvedStore, Spec, load};
use whimbrel_sqlite::{SqliteConfig, SqliteStore};
use whimbrel_store::{Store, StoreError, StoreErrorKind};

/// A spec with every variable filled in. Nothing is opened yet.
pub struct Workspace {
    /// The spec.
    pub resolved: Resolved,
    spec: Spec,
    values: Values,
}

/// How AWS is reached for values: `--aws-profile` and `--region` go before the environment.
fn session(values: &Values) -> Session {
    Session::named(values.aws_profile.clone(), values.region.clone())
}

/// Everything that a spec's `${provider:…}` may ask. AWS is not reached before the first value of it is needed.
fn providers(spec: &Spec, values: &Values) -> Providers {
    let aws = session(values);
    Providers::new(spec.base_dir())
        .with(Prompt)
        .with(CredentialsFile::default())
        .with(CdkOutputs::new(spec.base_dir()))
        .with(Parameters::new(aws.clone()))
        .with(Secrets::new(aws.clone()))
        .with(CognitoUsers::new(aws))
}

/// The variables that a run gives.
fn of_run((id, started_ms): (&RunId, i64)) -> Choices {
    let started = jiff::Timestamp::from_millisecond(started_ms).ok();
    Choices {
        run_id: Some(id.to_string()),
        run_started: started.map(|started| started.to_string()),
        ..Choices::default()
    }
}

/// A workspace whose stores are opened.
pub struct Opened {
    /// The stores.
    pub stores: Stores,
    /// What the servers among them were opened with.
    servers: BTreeMap<StoreName, ResolvedStore>,
    secrets: Redactor,
    #[cfg(feature = "embedded")]
    embedded: Embedded,
}

impl Workspace {
    /// Reads a spec and asks the providers for what its chosen flows need. `run`: name and beginning of the run,
    /// for the variables of that name.
    ///
    /// # Errors
    /// The spec or a value is wrong.
    pub async fn load(args: &SpecArgs, run: Option<(&RunId, i64)>) -> Result<Self> {
        Self::of(load(&args.spec)?, args, run).await
    }

    /// As [`Workspace::load`], where nothing will be written with the values: one that only a run makes is stood
    /// in for.
    ///
    /// # Errors
    /// As [`Workspace::load`].
    pub async fn preview(args: &SpecArgs) -> Result<Self> {
        Self::resolve(load(&args.spec)?, args, Choices { preview: true, ..Choices::default() }).await
    }

    /// As [`Workspace::load`], of a run that makes nothing beyond what stands in for the targets.
    ///
    /// # Errors
    /// As [`Workspace::load`].
    pub async fn rehearse(args: &SpecArgs, run: (&RunId, i64)) -> Result<Self> {
        Self::resolve(load(&args.spec)?, args, Choices { preview: true, ..of_run(run) }).await
    }

    /// As [`Workspace::load`], of a spec that is at hand.
    ///
    /// # Errors
    /// As [`Workspace::load`].
    pub async fn of(spec: Spec, args: &SpecArgs, run: Option<(&RunId, i64)>) -> Result<Self> {
        Self::resolve(spec, args, run.map(of_run).unwrap_or_default()).await
    }

    async fn resolve(spec: Spec, args: &SpecArgs, choices: Choices) -> Result<Self> {
        let folder = std::env::current_dir().ok();
        let choices = Choices {
            environment: args.values.env.clone(),
            set: args.values.set.iter().cloned().collect(),
            only: (!args.only.is_empty()).then(|| args.only.clone()),
            working_folder: folder.and_then(|folder| folder.into_os_string().into_string().ok()),
            ..choices
        };
        let resolved = whimbrel_spec::resolve(&spec, &choices, &providers(&spec, &args.values)).await?;
        Ok(Self { resolved, spec, values: args.values.clone() })
    }

    /// How AWS is reached for values of variables.
    #[must_use]
    pub fn aws(&self) -> Session {
        session(&self.values)
    }

    /// The spec as it is written.
    #[must_use]
    pub fn text(&self) -> &str {
        self.spec.text()
    }

    /// Opens the stores. Embedded ones are started, others are not yet connected to.
    ///
    /// # Errors
    /// A store's configuration is wrong, or an embedded one does not start.
    pub async fn open(&self) -> Result<Opened> {
        self.open_into(self.nothing_opened()).await
    }

    /// A place for opened stores.
    #[must_use]
    pub fn nothing_opened(&self) -> Opened {
        Opened {
            stores: Stores::new(),
            servers: BTreeMap::new(),
            secrets: self.resolved.secrets.clone(),
            #[cfg(feature = "embedded")]
            embedded: Embedded::default(),
        }
    }

    /// As [`Workspace::open`], beside what is running already. A server that is open keeps its connections.
    ///
    /// # Errors
    /// As [`Workspace::open`].
    pub async fn open_into(&self, mut opened: Opened) -> Result<Opened> {
        for (name, store) in &self.resolved.stores {
            if opened.servers.get(name) == Some(store) {
                continue;
            }
            match self.open_store(store, &mut opened).await {
                Ok(handle) => {
                    opened.stores.insert(name.clone(), handle);
                    // What a file's handle knows depends on the flows, too.
                    if matches!(store.kind, StoreKind::Postgres | StoreKind::DynamoDb) {
                        opened.servers.insert(name.clone(), store.clone());
                    }
                }
                Err(error) => {
                    let failure = self.placed(error, name).hiding(&self.resolved.secrets);
                    opened.close().await;
                    return Err(failure);
                }
            }
        }
        Ok(opened)
    }

    /// A configuration that cannot be used has a place in the spec; a store that does not start has not.
    fn placed(&self, error: StoreError, store: &StoreName) -> Failure {
        if error.kind() != StoreErrorKind::Unsupported {
            return error.into();
        }
        let position = self.spec.position(&["stores", store.as_str()]);
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        let hint = error.hint().unwrap_or("docs/spec.md lists what a store takes").to_owned();
        self.spec.error(position, format!("{error}{cause}"), hint).into()
    }

    /// Whether a flow writes into a store.
    fn is_written(&self, store: &ResolvedStore) -> bool {
        self.resolved.flows.iter().any(|flow| flow.into.store == store.name)
    }

    /// Whether vectors are written into a store, or its script makes columns of them.
    fn takes_vectors(&self, store: &ResolvedStore) -> bool {
        let stores = &self.resolved.stores;
        let is_chroma = |name| stores.get(name).is_some_and(|from| from.kind == StoreKind::Chroma);
        let mut flows = self.resolved.flows.iter().filter(|flow| flow.into.store == store.name);
        let script = store.schema_file.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
        flows.any(|flow| flow.into.langchain.is_some() || is_chroma(&flow.from.store))
            || script.is_some_and(|script| script.to_ascii_lowercase().contains("vector"))
    }

    async fn open_store(
        &self,
        store: &ResolvedStore,
        opened: &mut Opened,
    ) -> whimbrel_store::Result<Arc<dyn Store>> {
        match store.kind {
            StoreKind::Postgres => {
                Ok(Arc::new(open_postgres(store, opened, self.takes_vectors(store)).await?))
            }
            StoreKind::DynamoDb => {
                let mut config = store.config.clone();
                if let Value::Object(config) = &mut config {
                    let given = [("profile", &self.values.aws_profile), ("region", &self.values.region)];
                    for (key, value) in given {
                        if let Some(value) = value {
                            config.insert(key.to_owned(), value.clone().into());
                        }
                    }
                }
                Ok(Arc::new(open_dynamodb(&store.name, &config, opened)?))
            }
            StoreKind::Sqlite => Ok(Arc::new(open_sqlite(store, self.is_written(store))?)),
            StoreKind::Chroma => {
                let config = ChromaConfig::from_value(&store.config);
                let config = config.map_err(|error| wrong_config(&store.name, error))?;
                Ok(Arc::new(ChromaStore::new(store.name.clone(), config)))
            }
            StoreKind::Files => {
                let name = &store.name;
                let config =
                    FilesConfig::from_value(&store.config).map_err(|error| wrong_config(name, error))?;
                Ok(Arc::new(FilesStore::new(name.clone(), &config)?))
            }
        }
    }
}

impl Opened {
    /// Makes the migration ready.
    ///
    /// # Errors
    /// As [`Migration::prepare`].
    pub async fn prepare(&self, mut resolved: Resolved, common: &Common) -> Result<Migration> {
        resolved.limits.max_cost_usd = common.max_cost.or(resolved.limits.max_cost_usd);
        let batch_records = common.batch_size.and_then(|records| usize::try_from(records).ok());
        let prepared = Migration::prepare(resolved, self.stores.clone(), batch_records).await;
        prepared.map_err(|error| Failure::from(error).hiding(&self.secrets))
    }

    /// Nothing that is shown of a failure holds a secret.
    pub fn hide<T, E: Into<Failure>>(&self, result: std::result::Result<T, E>) -> Result<T> {
        result.map_err(|error| error.into().hiding(&self.secrets))
    }

    /// Closes every store and stops the embedded ones.
    pub async fn close(self) {
        for store in self.stores.values() {
            store.close().await;
        }
        drop(self.stores);
        #[cfg(feature = "embedded")]
        self.embedded.stop().await;
    }
}

/// Opens a PostgreSQL store, starting it where it is embedded; `vectors`: with pgvector, if it is.
///
/// # Errors
/// The configuration is wrong, or the embedded server does not start.
pub async fn open_postgres(
    store: &ResolvedStore,
    opened: &mut Opened,
    vectors: bool,
) -> whimbrel_store::Result<PostgresStore> {
    let name = &store.name;
    let config = match embedded_path(&store.config, "host") {
        None => PostgresConfig::from_value(&store.config).map_err(|error| wrong_config(name, error))?,
        Some(path) => start_postgres(name, path, opened, vectors).await?,
    };
    let opened = PostgresStore::new(name.clone(), config);
    Ok(match &store.schema_file {
        Some(path) => opened.with_schema_file(path.clone()),
        None => opened,
    })
}

/// The SQLite file that a store is. It is opened when it is first asked for something.
fn open_sqlite(store: &ResolvedStore, is_written: bool) -> whimbrel_store::Result<SqliteStore> {
    let written = store.config.as_str().unwrap_or_default();
    let config = SqliteConfig::parse(written).map_err(|error| wrong_config(&store.name, error))?;
    let opened = SqliteStore::new(store.name.clone(), config);
    let opened = match &store.schema_file {
        Some(path) => opened.with_schema_file(path.clone()),
        None => opened,
    };
    Ok(if is_written { opened.written() } else { opened })
}

#[cfg(feature = "embedded")]
async fn start_postgres(
    name: &StoreName,
    path: &Path,
    opened: &mut Opened,
    vectors: bool,
) -> whimbrel_store::Result<PostgresConfig> {
    let url = opened.embedded.postgres(name, path, vectors).await?;
    let config =
        PostgresConfig::from_value(&Value::String(url)).map_err(|error| wrong_config(name, error))?;
    Ok(PostgresConfig { shown_as: Some(format!("{PREFIX}{}", path.display())), ..config.embedded() })
}

#[cfg(feature = "embedded")]
fn open_dynamodb(
    name: &StoreName,
    config: &Value,
    opened: &mut Opened,
) -> whimbrel_store::Result<DynamoStore> {
    let parse = |config: &Value| DynamoConfig::from_value(config).map_err(|error| wrong_config(name, error));
    let Some(path) = embedded_path(config, "endpoint") else {
        return Ok(DynamoStore::new(name.clone(), parse(config)?));
    };
    let mut running = config.clone();
    running["endpoint"] = opened.embedded.dynamodb(name, path)?.into();
    let parsed = parse(&running)?;
    let config = DynamoConfig {
        region: parsed.region.or_else(|| Some("us-east-1".to_owned())),
        profile: None,
        credentials: Some(whimbrel_dynamodb::StaticCredentials::dummy()),
        shown_as: Some(format!("{PREFIX}{}", path.display())),
        ..parsed
    };
    Ok(DynamoStore::new(name.clone(), config))
}

#[cfg(not(feature = "embedded"))]
async fn start_postgres(
    name: &StoreName,
    _: &Path,
    _: &mut Opened,
    _: bool,
) -> whimbrel_store::Result<PostgresConfig> {
    Err(not_built_in(name))
}

#[cfg(not(feature = "embedded"))]
fn open_dynamodb(name: &StoreName, config: &Value, _: &mut Opened) -> whimbrel_store::Result<DynamoStore> {
    if embedded_path(config, "endpoint").is_some() {
        return Err(not_built_in(name));
    }
    let config = DynamoConfig::from_value(config).map_err(|error| wrong_config(name, error))?;
    Ok(DynamoStore::new(name.clone(), config))
}

#[cfg(not(feature = "embedded"))]
fn not_built_in(name: &StoreName) -> StoreError {
    StoreError::new(StoreErrorKind::Unsupported, name, "this whimbrel was built without embedded databases")
        .with_hint("build it with the feature `embedded`, or name a server")
}

/// The path of `embedded:PATH`, which stands for the whole configuration or under one of its keys.
pub fn embedded_path<'a>(config: &'a Value, key: &str) -> Option<&'a Path> {
    let text = config.as_str().or_else(|| config.get(key)?.as_str())?;
    text.strip_prefix("embedded:").map(Path::new)
}

fn wrong_config(name: &StoreName, error: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::new(StoreErrorKind::Unsupported, name, "its configuration cannot be used").caused_by(error)
}
