//! How columns are read: by their types, or as the spec declares.

use super::{Column, Found};
use crate::client::Lease;
use crate::error::from_driver;
use crate::template::identifier;
use crate::types::{CatalogType, ReadAs};
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::types::Type;
use whimbrel_model::StoreName;
use whimbrel_store::{ReadRequest, Result, StoreError, StoreErrorKind};

/// From this version on the elements of an array are cast one by one, whatever stands between them.
const CASTS_ELEMENTS: u32 = 110_000;

/// Gives columns their Arrow types.
pub(super) async fn columns(
    store: &StoreName,
    lease: &Lease,
    of: &str,
    found: Vec<Found>,
    request: &ReadRequest,
) -> Result<Vec<Column>> {
    check_names(store, of, &found, request)?;
    let oids = found.iter().map(|column| column.oid).collect();
    let (types, names) =
        futures::try_join!(Types::load(store, lease, oids), type_names(store, lease, &found))?;
    let mut columns = Vec::with_capacity(found.len());
    for (column, source_type) in found.into_iter().zip(names) {
        let Some(resolved) = types.resolve(&column) else {
            let context =
                format!("column `{}` of {of} has the type {source_type}, which is not read", column.name);
            let error = StoreError::new(StoreErrorKind::Unsupported, store, context);
            let name = identifier(&column.name);
            return Err(error.with_hint(format!(
                "read it in another form with a query: `SELECT {name}::text AS {name}, …`"
            )));
        };
        let natural = resolved.read_as(lease.server().version_number);
        let read_as = match request.columns.get(&column.name) {
            None => natural,
            Some(word) => natural
                .declared(word, resolved.scalar, resolved.is_array)
                .map_err(|offers| not_offered(store, &column.name, &source_type, word, &offers))?,
        };
        let column_type = read_as.column_type;
        columns.push(Column {
            name: column.name,
            type_oid: resolved.oid,
            source_type,
            is_money: resolved.scalar.is_money(),
            read_as,
            column_type,
            holds_null: column.holds_null,
            nullable: column.holds_null || column_type.may_be_unreadable(lease.server().text_is_utf8),
        });
    }
    Ok(columns)
}

fn check_names(store: &StoreName, of: &str, found: &[Found], request: &ReadRequest) -> Result<()> {
    let is_there = |name: &String| found.iter().any(|column| column.name == *name);
    let Some(unknown) = request.columns.keys().find(|name| !is_there(name)) else { return Ok(()) };
    let context = format!("`columns` names `{unknown}`, which {of} does not have");
    let mut names: Vec<_> = found.iter().map(|column| column.name.as_str()).collect();
    names.sort_by_cached_key(|name| strsim::damerau_levenshtein(unknown, name));
    names.truncate(8);
    let error = StoreError::new(StoreErrorKind::NotFound, store, context);
    Err(error.with_hint(format!("its columns are {}", names.join(", "))))
}

fn not_offered(
    store: &StoreName,
    column: &str,
    source_type: &str,
    word: &str,
    offers: &[&'static str],
) -> StoreError {
    let context = format!(
        "`columns` declares `{column}` as {word}, and a column of the type {source_type} is not read so"
    );
    let error = StoreError::new(StoreErrorKind::Unsupported, store, context);
    error.with_hint(format!(
        "it can be read as {}; for anything else convert it in the transform, or with a cast in a query",
        offers.join(", ")
    ))
}

/// The types of columns as PostgreSQL names them.
async fn type_names(store: &StoreName, lease: &Lease, found: &[Found]) -> Result<Vec<String>> {
    let failed = |error| from_driver(store, "cannot read the names of types", error);
    let (oids, modifiers): (Vec<_>, Vec<_>) =
        found.iter().map(|column| (column.oid, column.modifier)).unzip();
    // PostgreSQL's name of an array does not say with how many dimensions it was declared.
    let more = found.iter().map(|column| "[]".repeat(usize::try_from(column.dimensions - 1).unwrap_or(0)));
    let sql = "SELECT format_type(o, m) FROM unnest($1::oid[], $2::int4[]) WITH ORDINALITY AS t(o, m, n) ORDER BY n";
    let rows = lease
        .client()
        .query_typed(sql, &[(&oids, Type::OID_ARRAY), (&modifiers, Type::INT4_ARRAY)])
        .await
        .map_err(failed)?;
    let names = rows.iter().map(|row| row.try_get::<_, String>(0).map_err(failed));
    names.zip(more).map(|(name, more)| Ok(name? + &more)).collect()
}

/// The catalog's types, by oid, with those they stand on.
struct Types(BTreeMap<u32, TypeRow>);

struct TypeRow {
    catalog_type: CatalogType,
    /// The base type of a domain, else 0.
    base: u32,
    /// The element type of a true array, else 0.
    element: u32,
    /// With how many dimensions a domain over an array was declared.
    dimensions: i32,
}

/// The type of a column without domains.
struct Resolved<'a> {
    oid: u32,
    /// The type itself, or that of an array's elements.
    scalar: &'a CatalogType,
    is_array: bool,
    /// Whether an array has one dimension and no arrays in it, as far as was declared.
    is_list: bool,
}

impl Resolved<'_> {
    fn read_as(&self, version_number: u32) -> ReadAs {
        if !self.is_array {
            return self.scalar.read_as();
        }
        let read_as = self.scalar.array_read_as();
        let has_lists = version_number >= CASTS_ELEMENTS || !read_as.is_cast();
        if self.is_list && has_lists { read_as } else { ReadAs::whole_text() }
    }
}

impl Types {
    async fn load(store: &StoreName, lease: &Lease, oids: BTreeSet<u32>) -> Result<Self> {
        let sql = "SELECT t.oid, t.typtype::text, t.typbasetype, \
             CASE WHEN e.typarray = t.oid THEN t.typelem ELSE 0 END::oid, t.typndims, coalesce(p.proname::text, '') \
             FROM pg_catalog.pg_type t LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem \
             LEFT JOIN pg_catalog.pg_proc p ON p.oid = t.typsend WHERE t.oid = ANY($1)";
        let failed = |error| from_driver(store, "cannot read the catalog of types", error);
        let mut types = BTreeMap::new();
        let mut wanted: Vec<u32> = oids.into_iter().collect();
        while !wanted.is_empty() {
            let rows = lease.client().query_typed(sql, &[(&wanted, Type::OID_ARRAY)]).await;
            let rows = rows.map_err(failed)?;
            wanted.clear();
            for row in rows {
                let oid = row.try_get(0).map_err(failed)?;
                let kind: String = row.try_get(1).map_err(failed)?;
                let catalog_type = CatalogType {
                    oid,
                    kind: kind.chars().next().unwrap_or('?'),
                    send: row.try_get(5).map_err(failed)?,
                };
                let (base, element) = (row.try_get(2).map_err(failed)?, row.try_get(3).map_err(failed)?);
                let dimensions = row.try_get(4).map_err(failed)?;
                types.insert(oid, TypeRow { catalog_type, base, element, dimensions });
                wanted.extend([base, element].iter().filter(|oid| **oid != 0 && !types.contains_key(oid)));
            }
        }
        Ok(Self(types))
    }

    fn resolve(&self, column: &Found) -> Option<Resolved<'_>> {
        let (row, dimensions) = self.base(column.oid)?;
        let oid = row.catalog_type.oid;
        if row.element == 0 {
            return Some(Resolved { oid, scalar: &row.catalog_type, is_array: false, is_list: false });
        }
        let (element, _) = self.base(row.element)?;
        let is_list = column.dimensions <= 1 && dimensions <= 1 && element.element == 0;
        Some(Resolved { oid, scalar: &element.catalog_type, is_array: true, is_list })
    }

    /// Follows domains; the most dimensions that one of them declares.
    fn base(&self, oid: u32) -> Option<(&TypeRow, i32)> {
        let mut row = self.0.get(&oid)?;
        let mut dimensions = row.dimensions;
        while row.base != 0 {
            row = self.0.get(&row.base)?;
            dimensions = dimensions.max(row.dimensions);
        }
        Some((row, dimensions))
    }
}
