//! Which collections there are, and what they are.

mod settings;

pub(crate) use settings::{Metric, metric};

use crate::config::{ChromaConfig, DEFAULT_DATABASE, DEFAULT_TENANT};
use crate::error::{Fault, Outcome};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _, params};
use whimbrel_store::StoreErrorKind;

/// How many names a message lists.
const NAMES_SHOWN: usize = 20;

/// A collection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Collection {
    /// Its UUID, as text.
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) tenant: String,
    pub(crate) database: String,
    /// `None`: it has never held an embedding.
    pub(crate) dimension: Option<usize>,
    pub(crate) metric: Metric,
    /// The segment under which its records are kept.
    pub(crate) metadata_segment: Option<String>,
    /// The segment that is the name of its index's folder.
    pub(crate) vector_segment: Option<String>,
}

impl Collection {
    /// The name by which it can always be read.
    pub(crate) fn full_name(&self) -> String {
        format!("{}/{}/{}", self.tenant, self.database, self.name)
    }
}

/// Whether a table has a column; layouts differ by version.
pub(crate) fn has_column(connection: &Connection, table: &str, column: &str) -> Outcome<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM pragma_table_info(?1) WHERE name = ?2)";
    Ok(connection.query_row(sql, params![table, column], |row| row.get(0))?)
}

/// Whether there is a table.
pub(crate) fn has_table(connection: &Connection, table: &str) -> Outcome<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1)";
    Ok(connection.query_row(sql, [table], |row| row.get(0))?)
}

/// A number of the log as it is kept: an integer, or 8 or 24 bytes with the highest first.
pub(crate) fn sequence(value: ValueRef<'_>) -> Outcome<i64> {
    let unknown = || Fault::mismatch("a sequence number is kept in a form that no known chromadb writes");
    match value {
        ValueRef::Integer(number) => Ok(number),
        ValueRef::Blob(bytes) => {
            let (high, low) = bytes.split_last_chunk::<8>().ok_or_else(unknown)?;
            if high.iter().any(|byte| *byte != 0) {
                return Err(unknown());
            }
            i64::try_from(u64::from_be_bytes(*low)).map_err(|_| unknown())
        }
        _ => Err(unknown()),
    }
}

/// All collections, in the order of their full names, with the segments that each has.
pub(crate) fn collections(connection: &Connection) -> Outcome<Vec<Collection>> {
    if !has_table(connection, "collections")? || !has_table(connection, "embeddings")? {
        return Err(Fault::mismatch(
            "chroma.sqlite3 has no tables of chromadb: it is another program's, or torn",
        ));
    }
    let sql = if has_column(connection, "collections", "database_id")? {
        "SELECT c.id, c.name, c.dimension, d.tenant_id, d.name FROM collections c JOIN databases d ON d.id = c.database_id \
         ORDER BY d.tenant_id, d.name, c.name"
            .to_owned()
    } else {
        format!(
            "SELECT id, name, dimension, '{DEFAULT_TENANT}', '{DEFAULT_DATABASE}' FROM collections ORDER BY name"
        )
    };
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let id: String = row.get(0)?;
        let dimension: Option<i64> = row.get(2)?;
        let metadata_segment = segment(connection, &id, "METADATA")?;
        let vector_segment = segment(connection, &id, "VECTOR")?;
        found.push(Collection {
            metric: metric(connection, &id, vector_segment.as_deref())?,
            name: row.get(1)?,
            tenant: row.get(3)?,
            database: row.get(4)?,
            dimension: dimension.and_then(|dimension| usize::try_from(dimension).ok()),
            metadata_segment,
            vector_segment,
            id,
        });
    }
    Ok(found)
}

fn segment(connection: &Connection, collection: &str, scope: &str) -> Outcome<Option<String>> {
    let sql = "SELECT id FROM segments WHERE collection = ?1 AND scope = ?2 ORDER BY id";
    Ok(connection.query_row(sql, [collection, scope], |row| row.get(0)).optional()?)
}

/// The collection of a name: `docs` in the store's own tenant and database, `database/docs`, or
/// `tenant/database/docs`.
pub(crate) fn find(connection: &Connection, config: &ChromaConfig, name: &str) -> Outcome<Collection> {
    let parts: Vec<&str> = name.split('/').collect();
    let (tenant, database, own) = match parts.as_slice() {
        [tenant, database, own] => (*tenant, *database, *own),
        [database, own] => (config.tenant.as_str(), *database, *own),
        _ => (config.tenant.as_str(), config.database.as_str(), name),
    };
    let mut all = collections(connection)?;
    let is_it = |one: &Collection| one.tenant == tenant && one.database == database && one.name == own;
    // A tenant or database may have a slash in its name, too.
    let is_whole = |one: &Collection| one.full_name() == name;
    match all.iter().position(is_it).or_else(|| all.iter().position(is_whole)) {
        Some(place) => Ok(all.swap_remove(place)),
        None => Err(missing(&all, &format!("{tenant}/{database}/{own}"), own)),
    }
}

/// There is no such collection, with those that there are.
fn missing(all: &[Collection], wanted: &str, own: &str) -> Fault {
    let names: Vec<String> = all.iter().map(Collection::full_name).collect();
    let fault = |what: String| Fault::found(StoreErrorKind::NotFound, what);
    if names.is_empty() {
        return fault(format!("there is no collection \"{wanted}\", nor any other"));
    }
    let shown = names.iter().take(NAMES_SHOWN).cloned().collect::<Vec<_>>().join(", ");
    let more = names.len().saturating_sub(NAMES_SHOWN);
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    let fault = fault(format!("there is no collection \"{wanted}\"; there are {shown}{more}"));
    if let Some(same) = all.iter().find(|one| one.name == own) {
        return fault.with_hint(format!(
            "one of that name is in another place: write `collection: {}`, or give the store its `tenant` and `database`",
            same.full_name()
        ));
    }
    let nearest = all
        .iter()
        .max_by(|a, b| strsim::jaro_winkler(&a.name, own).total_cmp(&strsim::jaro_winkler(&b.name, own)));
    match nearest {
        Some(nearest) => fault.with_hint(format!("the nearest name is `{}`", nearest.name)),
        None => fault,
    }
}
