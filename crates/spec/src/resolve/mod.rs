//! Fills in every value that the chosen flows need, and no other.

mod environment;
mod flows;
mod langchain;
mod selection;
mod stores;
mod values;
mod verify;

use crate::error::{Result, SpecError, SpecErrorKind};
use crate::provider::Providers;
use crate::redact::Redactor;
use crate::resolved::{Limits, Resolved, ResolvedStore};
use crate::spec::Spec;
use selection::Selection;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use values::Values;
use whimbrel_model::StoreName;

/// What a user says beside the spec.
#[derive(Clone, Default)]
pub struct Choices {
    /// `--env`.
    pub environment: Option<String>,
    /// `--set name=value`. The values are taken as they are, `${…}` in them too.
    pub set: BTreeMap<String, String>,
    /// `--only`: names of flows and groups; `None`: every flow that is not `manual`.
    pub only: Option<Vec<String>>,
    /// `${run_id}`; the same when a run is resumed. `None` outside a run.
    pub run_id: Option<String>,
    /// `${run_started}`: when the run began, RFC 3339; the same when it is resumed. `None` outside a run.
    pub run_started: Option<String>,
    /// Nothing is written with these values, so that one which only a run makes may be stood in for.
    pub preview: bool,
    /// `${working_folder}`: where whoever gave the command stands, an absolute path; paths in a spec are relative to
    /// the spec without it.
    pub working_folder: Option<String>,
}

impl std::fmt::Debug for Choices {
    /// Without the values of `--set`, which may be secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Choices")
            .field("environment", &self.environment)
            .field("set", &self.set.keys().collect::<Vec<_>>())
            .field("only", &self.only)
            .finish_non_exhaustive()
    }
}

/// Chooses the environment and the flows, asks the providers for what those need, and reads the files that
/// their stores name.
///
/// # Errors
/// A choice does not fit the spec ([`SpecErrorKind::Usage`]), a value is not to be had
/// ([`SpecErrorKind::NoValue`], [`SpecErrorKind::Provider`]) or wrong ([`SpecErrorKind::Invalid`]), a file cannot
/// be read ([`SpecErrorKind::Unreadable`]).
pub async fn resolve(spec: &Spec, choices: &Choices, providers: &Providers) -> Result<Resolved> {
    resolve_here(spec, choices, providers).await.map_err(|error| error.in_file(spec.path()))
}

async fn resolve_here(spec: &Spec, choices: &Choices, providers: &Providers) -> Result<Resolved> {
    let environment = environment::choose(spec, choices.environment.as_deref())?;
    let selection = selection::select(spec, choices.only.as_deref())?;
    let mut values = Values::new(spec, environment.clone(), choices, providers)?;
    let filled = fill(spec, environment, &selection, &mut values).await;
    filled.map_err(|error| error.redacted(&values.secrets)).map(|resolved| Resolved {
        secrets: values.secrets,
        creations: values.creations,
        ..resolved
    })
}

async fn fill(
    spec: &Spec,
    environment: Option<String>,
    selection: &Selection<'_>,
    values: &mut Values<'_>,
) -> Result<Resolved> {
    let base_dir = absolute(spec.base_dir())?;
    let mut digest = Digest::default();
    digest.add(spec.text().as_bytes());
    let mut stores = BTreeMap::new();
    for name in selection.stores(spec) {
        let store = stores::resolve(spec, &name, &base_dir, values, &mut digest).await?;
        stores.insert(StoreName::new(name), store);
    }
    let flows = flows::resolve(spec, selection, values).await?;
    refuse_same_paths(spec, &stores)?;
    let verify = verify::resolve(spec, values).await?;
    let document = spec.document();
    let chosen = environment.as_ref().and_then(|name| document.environments.get(name));
    let protected = chosen.is_some_and(|environment| environment.protected);
    let guards = chosen.map(|environment| environment.guards.clone()).unwrap_or_default();
    Ok(Resolved {
        migration: document.migration.clone(),
        environment,
        protected,
        guards: guards.into_iter().map(|(store, text)| (StoreName::new(store), text)).collect(),
        prices: document.prices.clone(),
        stores,
        flows,
        unmatched: document.unmatched,
        undo: document.undo,
        verify,
        limits: limits(spec),
        creations: Vec::new(),
        secrets: Redactor::default(),
        digest: digest.finish(),
        path: spec.path().to_owned(),
        base_dir,
    })
}

/// A PostgreSQL and a DynamoDB cannot lie in one embedded folder.
fn refuse_same_paths(spec: &Spec, stores: &BTreeMap<StoreName, ResolvedStore>) -> Result<()> {
    let mut seen: BTreeMap<String, &ResolvedStore> = BTreeMap::new();
    for store in stores.values() {
        let text = store.config.as_str().or_else(|| store.config.get("endpoint")?.as_str());
        let Some(path) = text.and_then(|text| text.strip_prefix("embedded:")) else { continue };
        match seen.insert(path.to_owned(), store) {
            Some(other) if other.kind != store.kind => {
                let at = spec.key_position(&["stores", store.name.as_str()]);
                let message =
                    format!("the stores `{}` and `{}` share `embedded:{path}`", other.name, store.name);
                return Err(SpecError::invalid(at, message, "give each its own path"));
            }
            _ => {}
        }
    }
    Ok(())
}

fn limits(spec: &Spec) -> Limits {
    let written = &spec.document().limits;
    let default = Limits::default();
    let duration =
        |text: &Option<crate::elements::text::DurationText>| crate::duration::parse(&text.as_ref()?.0);
    Limits {
        retry_for: duration(&written.retry_for).unwrap_or(default.retry_for),
        stall_after: duration(&written.stall_after).unwrap_or(default.stall_after),
        max_reject_rate: written.max_reject_rate,
        max_write_units: written.max_write_units,
        max_read_units: written.max_read_units,
        max_cost_usd: written.max_cost_usd,
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|error| {
        let message = format!("there is no folder to take `{}` from: {error}", path.display());
        SpecError::at(SpecErrorKind::Unreadable, None, message, "change into a folder that exists")
            .caused_by(error)
    })
}

/// Hashes texts so that no two lists of texts have one digest.
#[derive(Default)]
struct Digest(blake3::Hasher);

impl Digest {
    fn add(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    fn finish(&self) -> String {
        self.0.finalize().to_hex().to_string()
    }
}
