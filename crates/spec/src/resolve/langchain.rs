//! A collection in the tables of langchain-postgres: its table, its UUID, and what its records are made of.

use super::flows::text;
use super::values::Values;
use crate::elements::flows::Flow;
use crate::elements::into::Into;
use crate::error::{Result, SpecError};
use crate::resolved::Langchain;
use crate::span::SqlText;
use crate::spec::Spec;
use std::fmt::Write as _;

/// The member of a record's metadata that a name in a flow's `scope` stands for: the library's tables have no columns
/// of a tenant.
pub(super) fn member(name: &str) -> String {
    format!("{METADATA}.{name}")
}

/// The library's column of metadata.
const METADATA: &str = "cmetadata";
/// The column of the library's table that says whose a record is.
pub(super) const SCOPE: &str = "collection_id";
/// The library's table of records.
const TABLE: &str = "langchain_pg_embedding";
/// Under this the URI of a record of Chroma stands in its metadata, as in Chroma's own: no other key has the name.
const URI: &str = "chroma:uri";

/// The collection and its table, where the target is one.
pub(super) async fn resolve(
    spec: &Spec,
    path: &[&str],
    into: &Into,
    values: &mut Values<'_>,
) -> Result<Option<(Langchain, String)>> {
    let Some(written) = &into.langchain else { return Ok(None) };
    let place = |key| [path, &["langchain", key]].concat();
    let collection = text(spec, &place("collection"), values).await?;
    let uuid = text(spec, &place("uuid"), values).await?;
    let uuid = match uuid.is_empty() {
        true => uuid_of(&collection),
        false => uuid.to_ascii_lowercase(),
    };
    if !is_uuid(&uuid) {
        let at = spec.position(&place("uuid"));
        return Err(SpecError::invalid(at, "`uuid` is none", "write its 36 characters, hyphens and all"));
    }
    let schema = text(spec, &place("schema"), values).await?;
    let table = if schema.is_empty() { TABLE.to_owned() } else { format!("{schema}.{TABLE}") };
    let langchain = Langchain {
        collection,
        uuid,
        dimension: written.dimension,
        metric: written.metric,
        index: written.index,
    };
    Ok(Some((langchain, table)))
}

/// What the records of a Chroma collection become, where the flow does not say it itself.
///
/// The library fails over a NULL document and NULL metadata, so an empty text and an empty object stand for them.
pub(super) fn transform(spec: &Spec, name: &str, flow: &Flow) -> Option<SqlText> {
    flow.from.as_ref()?.collection.as_ref()?;
    let target = flow.into.as_ref()?.as_slice().iter().find(|target| target.langchain.is_some())?;
    let mut metadata = format!("json_set(coalesce(metadata, '{{}}'), '{URI}', uri)");
    let scope = target.scope.iter().flatten();
    for (key, value) in target.langchain.as_ref()?.metadata.iter().chain(scope) {
        let value = match value.0.strip_prefix('$') {
            Some(text) if text.starts_with('$') => constant(text),
            Some(_) => value.0.clone(),
            None => constant(&value.0),
        };
        metadata = format!("json_set({metadata}, {}, {value})", constant(key));
    }
    let span = spec.tree.find(&["flows", name, "into"])?.span();
    let mut sql = String::from("SELECT id, coalesce(document, '') AS document, ");
    let _ = write!(sql, "{metadata} AS cmetadata, embedding FROM input");
    Some(SqlText { text: sql, span })
}

/// A text as a constant of SQL. A parameter's sign in it stays what it is: parameters are looked for outside of
/// quotes alone.
fn constant(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The UUID of a collection's name, the same for ever.
fn uuid_of(collection: &str) -> String {
    let hash = blake3::derive_key("whimbrel langchain collection", collection.as_bytes());
    let mut bytes = [0_u8; 16];
    bytes.copy_from_slice(&hash[..16]);
    // Version 8, which is made in a way of its own, of the usual variant.
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

fn is_uuid(text: &str) -> bool {
    let hyphen = |at: usize| matches!(at, 8 | 13 | 18 | 23);
    let fits = |(at, byte): (usize, u8)| if hyphen(at) { byte == b'-' } else { byte.is_ascii_hexdigit() };
    text.len() == 36 && text.bytes().enumerate().all(fits)
}
