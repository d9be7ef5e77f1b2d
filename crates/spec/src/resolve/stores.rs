//! Stores with every value filled in.

use super::values::{Source, Values};
use super::{Digest, absolute};
use crate::elements::stores::FileFormat;
use crate::error::{Position, Result, SpecError, SpecErrorKind};
use crate::names::suggest;
use crate::node::{Node, NodeValue};
use crate::redact::passwords_in_urls;
use crate::resolved::{ResolvedStore, StoreKind};
use crate::span::{TextSpan, TextStyle};
use crate::spec::Spec;
use serde_json::{Map, Value};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use whimbrel_model::StoreName;

/// Modes of libpq that whimbrel knows.
const SSL_MODES: &[&str] = &["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

/// What may become of the foreign keys of tables that are there.
const FOREIGN_KEYS: &[&str] = &["kept", "after_load"];

/// Parts of a PostgreSQL address that are paths of files.
const PATHS: &[&str] = &["sslrootcert", "sslcert", "sslkey"];

pub(super) async fn resolve(
    spec: &Spec,
    name: &str,
    base_dir: &Path,
    values: &mut Values<'_>,
    digest: &mut Digest,
) -> Result<ResolvedStore> {
    let store = spec.document().stores.get(name);
    let kind = match store {
        Some(store) if store.postgres.is_some() => StoreKind::Postgres,
        Some(store) if store.files.is_some() => StoreKind::Files,
        Some(store) if store.sqlite.is_some() => StoreKind::Sqlite,
        Some(store) if store.chroma.is_some() => StoreKind::Chroma,
        _ => StoreKind::DynamoDb,
    };
    let path = ["stores", name, kind.as_str()];
    let at = spec.position(&path);
    let filled = match spec.tree.find(&path) {
        Some(node) => match embedded_host(kind, node, values).await? {
            Some(embedded) => embedded,
            None => config(node, values).await?.unwrap_or(Value::Null),
        },
        None => Value::Null,
    };
    let config = match (kind, filled) {
        (StoreKind::Postgres, Value::String(url)) => postgres_url(&url, at, values)?,
        (StoreKind::Postgres, Value::Object(parts)) => postgres_parts(parts, spec, name, base_dir, values)?,
        (StoreKind::Postgres, _) => return Err(empty_url(spec, name, at)),
        (StoreKind::DynamoDb, Value::Object(parts)) => dynamodb(parts, spec, name, base_dir, digest)?,
        (StoreKind::DynamoDb, _) => Value::Object(Map::new()),
        (StoreKind::Sqlite, filled) => sqlite(&filled, name, at, base_dir)?,
        (StoreKind::Chroma, filled) => chroma(filled, name, at, base_dir, values)?,
        (StoreKind::Files, filled) => {
            let format = store.and_then(|store| store.format).map(FileFormat::as_str);
            files(filled, format, base_dir).ok_or_else(|| empty_root(name, at))??
        }
    };
    let schema_file = match spec.tree.find(&["stores", name, "schema"]) {
        Some(node) => {
            let file = values.fill(Source::new(node.text().unwrap_or_default(), node.span(), false)).await?;
            let path = absolute(&base_dir.join(&file))?;
            digest.add(&read(&path, &file, node.position)?);
            Some(path)
        }
        None => None,
    };
    Ok(ResolvedStore { name: StoreName::new(name), kind, config, schema_file })
}

/// `host: embedded:PATH` makes the whole store embedded; its other parts are not even asked for.
async fn embedded_host(kind: StoreKind, node: &Node, values: &mut Values<'_>) -> Result<Option<Value>> {
    let Some(host) = node.get("host").filter(|_| kind == StoreKind::Postgres) else { return Ok(None) };
    let filled = config(host, values).await?;
    Ok(filled.filter(|host| host.as_str().is_some_and(|host| host.starts_with("embedded:"))))
}

type Filled<'b> = Pin<Box<dyn Future<Output = Result<Option<Value>>> + Send + 'b>>;

/// A value with its variables filled in; `None` for text that came out empty.
fn config<'b>(node: &'b Node, values: &'b mut Values<'_>) -> Filled<'b> {
    Box::pin(async move {
        Ok(Some(match &node.value {
            NodeValue::Text(text, _) => {
                let filled = values.fill(Source::new(text, node.span(), true)).await?;
                return Ok((!filled.is_empty()).then_some(Value::String(filled)));
            }
            NodeValue::Sequence(items) => {
                let mut list = Vec::new();
                for item in items {
                    list.extend(config(item, values).await?);
                }
                Value::Array(list)
            }
            NodeValue::Mapping(entries) => {
                let mut map = Map::new();
                for entry in entries {
                    let span = TextSpan { start: entry.key_position, style: TextStyle::Plain };
                    let key = values.fill(Source::new(&entry.key, span, false)).await?;
                    if key.is_empty() {
                        let message = format!("the key `{}` came out empty", entry.key);
                        return Err(SpecError::invalid(
                            entry.key_position,
                            message,
                            "give its variable a value",
                        ));
                    }
                    if map.contains_key(&key) {
                        let message =
                            format!("the key `{}` is there twice: both came out as `{key}`", entry.key);
                        return Err(SpecError::invalid(
                            entry.key_position,
                            message,
                            "give each its own name",
                        ));
                    }
                    if let Some(value) = config(&entry.value, values).await? {
                        map.insert(key, value);
                    }
                }
                Value::Object(map)
            }
            _ => node.to_json(),
        }))
    })
}

fn empty_url(spec: &Spec, name: &str, at: Position) -> SpecError {
    let mut hint = "give it as `postgres://user@host:5432/db`".to_owned();
    if let Some(environment) = spec.embedded_environment() {
        hint.push_str(&format!("; to try it without any server: `--env {environment}`"));
    }
    SpecError::at(SpecErrorKind::NoValue, at, format!("the URL of the store `{name}` came out empty"), hint)
}

fn postgres_url(url: &str, at: Position, values: &mut Values<'_>) -> Result<Value> {
    passwords_in_urls(url).iter().for_each(|password| values.secrets.add(password));
    let known = ["postgres://", "postgresql://", "embedded:"].iter().any(|scheme| url.starts_with(scheme));
    if !known || url == "embedded:" {
        // The text itself may be a secret that went to the wrong place, so it is not shown.
        let message = "this is no PostgreSQL URL";
        let hint = "write `postgres://user@host:5432/db?sslmode=verify-full`, or `embedded:PATH`";
        return Err(SpecError::invalid(at, message, hint));
    }
    Ok(Value::String(url.to_owned()))
}

fn postgres_parts(
    mut parts: Map<String, Value>,
    spec: &Spec,
    name: &str,
    base_dir: &Path,
    values: &mut Values<'_>,
) -> Result<Value> {
    let at = |key: &str| spec.position(&["stores", name, "postgres", key]);
    let text =
        |parts: &Map<String, Value>, key: &str| parts.get(key).and_then(Value::as_str).map(str::to_owned);
    if let Some(password) = text(&parts, "password") {
        values.secrets.add(&password);
    }
    for (key, known) in [("sslmode", SSL_MODES), ("foreign_keys", FOREIGN_KEYS)] {
        let Some(word) = text(&parts, key).filter(|word| !known.contains(&word.as_str())) else { continue };
        let message = format!("`{key}` cannot be `{}`", crate::check::shorten(&word));
        return Err(SpecError::invalid(at(key), message, suggest(&word, "words", known.iter().copied())));
    }
    for key in ["port", "connect_timeout"] {
        let Some(written) = text(&parts, key) else { continue };
        let number = written.parse::<u16>().ok().filter(|number| *number > 0).ok_or_else(|| {
            let message = format!("`{key}` cannot be `{}`", crate::check::shorten(&written));
            SpecError::invalid(at(key), message, "it is a whole number from 1 to 65535")
        })?;
        parts.insert(key.to_owned(), Value::from(number));
    }
    for key in PATHS {
        // libpq's word for the certificate authorities that the system trusts.
        if let Some(file) = text(&parts, key).filter(|file| file != "system") {
            parts.insert((*key).to_owned(), path_value(&absolute(&base_dir.join(file))?));
        }
    }
    Ok(Value::Object(parts))
}

fn dynamodb(
    mut parts: Map<String, Value>,
    spec: &Spec,
    name: &str,
    base_dir: &Path,
    digest: &mut Digest,
) -> Result<Value> {
    if let Some(endpoint) = parts.get("endpoint").and_then(Value::as_str) {
        let known = ["http://", "https://", "embedded:"].iter().any(|scheme| endpoint.starts_with(scheme));
        if !known || endpoint == "embedded:" {
            let at = spec.position(&["stores", name, "dynamodb", "endpoint"]);
            let message = format!("`endpoint` cannot be `{}`", crate::check::shorten(endpoint));
            return Err(SpecError::invalid(
                at,
                message,
                "write `http://host:port`, `https://host` or `embedded:PATH`",
            ));
        }
    }
    let written =
        spec.tree.find(&["stores", name, "dynamodb", "tables"]).map(Node::entries).unwrap_or_default();
    if let Some(Value::Object(tables)) = parts.get_mut("tables") {
        for ((_, definition), entry) in tables.iter_mut().zip(written) {
            let Some(file) = definition.get("file").and_then(Value::as_str).map(str::to_owned) else {
                continue;
            };
            let path = absolute(&base_dir.join(&file))?;
            let at = entry.value.get("file").map_or(entry.key_position, |node| node.position);
            digest.add(&read(&path, &file, at)?);
            if let Value::Object(definition) = definition {
                definition.insert("file".to_owned(), path_value(&path));
            }
        }
    }
    Ok(Value::Object(parts))
}

/// The files' root absolute, unless it is a URL; nothing where it came out empty.
fn files(filled: Value, format: Option<&str>, base_dir: &Path) -> Option<Result<Value>> {
    let mut parts = match filled {
        Value::String(root) => Map::from_iter([("path".to_owned(), Value::String(root))]),
        Value::Object(parts) => parts,
        _ => return None,
    };
    let root = parts.get("path")?.as_str()?.to_owned();
    if !root.contains("://") {
        match absolute(&base_dir.join(&root)) {
            Ok(path) => parts.insert("path".to_owned(), path_value(&path)),
            Err(error) => return Some(Err(error)),
        };
    }
    if let Some(format) = format {
        parts.insert("format".to_owned(), Value::from(format));
    }
    Some(Ok(Value::Object(parts)))
}

fn empty_root(name: &str, at: Position) -> SpecError {
    let message = format!("the path of the store `{name}` came out empty");
    SpecError::at(SpecErrorKind::NoValue, at, message, "give it as `dumps/` or `s3://bucket/prefix/`")
}

/// The path of a SQLite file, absolute.
fn sqlite(filled: &Value, name: &str, at: Position, base_dir: &Path) -> Result<Value> {
    let written = filled.as_str().unwrap_or_default();
    let path = written.strip_prefix("sqlite:").unwrap_or(written);
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.is_empty() {
        let message = format!("the path of the store `{name}` came out empty");
        return Err(SpecError::at(SpecErrorKind::NoValue, at, message, "give it as `data/app.db`"));
    }
    if path == ":memory:" {
        let message = "a database in memory is gone when the run ends";
        return Err(SpecError::invalid(at, message, "name a file: `sqlite: data/app.db`"));
    }
    Ok(path_value(&absolute(&base_dir.join(path))?))
}

/// The parts of a Chroma directory, its path absolute, or of a server.
fn chroma(
    filled: Value,
    name: &str,
    at: Position,
    base_dir: &Path,
    values: &mut Values<'_>,
) -> Result<Value> {
    let mut parts = match filled {
        Value::Object(parts) => parts,
        other => Map::from_iter([("path".to_owned(), other)]),
    };
    let text = |parts: &Map<String, Value>, key: &str| {
        parts.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    [text(&parts, "token"), text(&parts, "password")].iter().for_each(|secret| values.secrets.add(secret));
    let (written, url) = (text(&parts, "path"), text(&parts, "url"));
    passwords_in_urls(&written).iter().for_each(|password| values.secrets.add(password));
    passwords_in_urls(&url).iter().for_each(|password| values.secrets.add(password));
    let is_url = |text: &str| text.starts_with("http://") || text.starts_with("https://");
    let server =
        ["chroma:", "chroma+"].iter().find_map(|front| written.strip_prefix(front)).unwrap_or(&written);
    if is_url(server) && url.is_empty() {
        parts.remove("path");
        parts.insert("url".to_owned(), Value::from(server));
        return Ok(Value::Object(parts));
    }
    let path = written.strip_prefix("chroma:").unwrap_or(&written);
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.is_empty() && url.is_empty() {
        let message = format!("the path of the store `{name}` came out empty");
        let hint = "give it as `data/chroma`, or the URL of a server as `http://localhost:8000`";
        return Err(SpecError::at(SpecErrorKind::NoValue, at, message, hint));
    }
    if !path.is_empty() {
        parts.insert("path".to_owned(), path_value(&absolute(&base_dir.join(path))?));
    }
    Ok(Value::Object(parts))
}

fn path_value(path: &Path) -> Value {
    Value::String(path.to_string_lossy().into_owned())
}

fn read(path: &PathBuf, written: &str, at: Position) -> Result<Vec<u8>> {
    std::fs::read(path).map_err(|error| {
        let message = format!("the file `{written}` cannot be read: {error}");
        let hint = format!("paths are relative to the spec: it was looked for at `{}`", path.display());
        SpecError::at(SpecErrorKind::Unreadable, at, message, hint).caused_by(error)
    })
}
