//! `run --rehearse`: the whole migration with embedded stores standing in for its targets, which are not touched.

use crate::failure::Result;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use whimbrel_engine::EngineError;
use whimbrel_model::StoreName;
use whimbrel_spec::Resolved;
use whimbrel_spec::resolved::StoreKind;

/// What is added to the name of the environment, so that a rehearsal's runs stand in nobody's way and prove nothing
/// of the real targets.
const ENVIRONMENT: &str = "rehearsal";

/// Puts embedded stores below `folder` in the place of the stores that the flows write.
///
/// # Errors
/// A store is read as well as written: its stand-in would be empty where the flows read it. The folder cannot be made.
pub fn stand_in(resolved: &mut Resolved, folder: &Path) -> Result<()> {
    let read: BTreeSet<&StoreName> = resolved.flows.iter().map(|flow| &flow.from.store).collect();
    let written: BTreeSet<StoreName> = resolved.flows.iter().map(|flow| flow.into.store.clone()).collect();
    if let Some(both) = written.iter().find(|store| read.contains(store)) {
        return Err(EngineError::refused(
            format!("store `{both}` is read as well as written, and what stands in for it would be empty"),
            "rehearse the flows that do not read what they write: `--only FLOW`; `plan --all` shows the others' changes",
        )
        .into());
    }
    let made = std::fs::create_dir_all(folder);
    made.map_err(|source| EngineError::file("make", folder, source))?;
    for name in &written {
        let Some(store) = resolved.stores.get_mut(name) else { continue };
        store.config = match store.kind {
            StoreKind::Postgres => embedded(&folder.join(format!("{name}.pg"))),
            StoreKind::Sqlite => Value::String(folder.join(format!("{name}.sqlite")).display().to_string()),
            // Nothing is ever written to it.
            StoreKind::Chroma => continue,
            StoreKind::Files => {
                let mut files = json!({ "path": folder.join(name.as_str()).display().to_string() });
                if let Some(format) = store.config.get("format") {
                    files["format"] = format.clone();
                }
                files
            }
            StoreKind::DynamoDb => {
                let tables = store.config.get("tables").cloned().unwrap_or_else(|| json!({}));
                json!({ "endpoint": embedded(&folder.join(format!("{name}.dynamodb"))), "tables": tables })
            }
        };
    }
    resolved.environment = Some(match resolved.environment.take() {
        Some(environment) => format!("{environment}, {ENVIRONMENT}"),
        None => ENVIRONMENT.to_owned(),
    });
    Ok(())
}

fn embedded(path: &Path) -> Value {
    Value::String(format!("embedded:{}", path.display()))
}
