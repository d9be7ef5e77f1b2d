//! What is there: columns, keys, types, how many records, and what the database is.

use crate::client::{Lease, first_value};
use crate::config::PostgresConfig;
use crate::error::from_driver;
use crate::sql::{self, Relation};
use crate::template::{Query, identifier};
use crate::types::{CatalogType, ColumnType, scalar_of};
use arrow::datatypes::{Schema, SchemaRef};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use whimbrel_model::{Identity, StoreName};
use whimbrel_store::{ReadRequest, Result, StoreError, StoreErrorKind};

mod table;

/// Up to here records are counted, beyond the planner's estimate is good enough.
const COUNT_LIMIT: u64 = 200_000;

/// A column that is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub name: String,
    /// The type that the server says a result has: of a domain, its base.
    pub type_oid: u32,
    /// The type as PostgreSQL names it, usable in a cast.
    pub source_type: String,
    pub column_type: ColumnType,
    /// Whether the database itself may hold NULL.
    pub holds_null: bool,
    /// Whether a batch may: also for values that Arrow has no place for.
    pub nullable: bool,
}

/// A column that slices are ranges of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyColumn {
    /// Its name among the columns that are read.
    pub name: String,
    /// How it is written inside of a query.
    pub inside: String,
    pub source_type: String,
    pub holds_null: bool,
}

/// All that reading needs to know.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub relation: Relation,
    pub columns: Vec<Column>,
    pub schema: SchemaRef,
    /// The columns whose values name a record.
    pub key: Vec<String>,
    /// The columns that slices are ranges of; empty: one slice without order.
    pub slice_key: Vec<KeyColumn>,
    /// Whether no two records share a slice key.
    pub is_unique: bool,
    /// Whether the planner's sample of the relation is cheap.
    pub can_sample: bool,
    pub notes: Vec<String>,
}

/// Reads the layout of what a request names.
pub(crate) async fn layout(store: &StoreName, lease: &Lease, request: &ReadRequest) -> Result<Layout> {
    let mut layout = match &request.relation {
        whimbrel_store::Relation::Table(name) => table::layout(store, lease, name).await?,
        whimbrel_store::Relation::Query(sql) => query_layout(store, lease, sql, request).await?,
    };
    if layout.columns.is_empty() {
        let context = format!("{} has no column to read", layout.relation.name());
        return Err(StoreError::new(StoreErrorKind::Unsupported, store, context));
    }
    let names: BTreeSet<_> = layout.columns.iter().map(|column| column.name.as_str()).collect();
    if names.len() < layout.columns.len() {
        let context = "two columns of the query have one name";
        let error = StoreError::new(StoreErrorKind::Mismatch, store, context);
        return Err(
            error.with_hint("give each column a name of its own: `SELECT a.id AS a_id, b.id AS b_id`")
        );
    }
    if !request.slice_by.is_empty() {
        layout.slice_key = slice_key(store, &layout, &request.slice_by)?;
        let by_key: Vec<_> = layout.slice_key.iter().map(|column| column.name.clone()).collect();
        // Ranges over the unique key itself and more are as unique as it is.
        let is_table = matches!(layout.relation, Relation::Table { .. });
        layout.is_unique &=
            is_table && !layout.key.is_empty() && layout.key.iter().all(|name| by_key.contains(name));
        if layout.key.is_empty() {
            layout.key = by_key;
        }
        layout.notes.retain(|note| note != table::NO_KEY);
    }
    if layout.slice_key.is_empty() && !matches!(layout.relation, Relation::Table { .. }) {
        layout.notes.push("a query without slice_by: one slice, restarted whole".to_owned());
    }
    Ok(layout)
}

async fn query_layout(store: &StoreName, lease: &Lease, sql: &str, request: &ReadRequest) -> Result<Layout> {
    let query = Query::parse(sql, &request.parameters).map_err(|error| {
        StoreError::new(StoreErrorKind::Mismatch, store, "the query cannot be used").caused_by(error)
    })?;
    if query.has_slice() && request.slice_by.is_empty() {
        let error =
            StoreError::new(StoreErrorKind::Mismatch, store, "the query has a {slice} and no `slice_by`");
        return Err(error.with_hint("name the columns that slices are ranges of: `slice_by: id`"));
    }
    let doing = "the server does not take the query";
    let prepared = lease.client().prepare(&query.sql("TRUE")).await;
    let prepared = prepared.map_err(|error| from_driver(store, doing, error))?;
    let found = prepared.columns().iter().map(|column| Found {
        name: column.name().to_owned(),
        oid: column.type_().oid(),
        modifier: column.type_modifier(),
        holds_null: true,
    });
    let columns = columns(store, lease, "the query", found.collect()).await?;
    Ok(Layout {
        relation: Relation::Query(query),
        schema: schema(&columns),
        columns,
        key: Vec::new(),
        slice_key: Vec::new(),
        is_unique: false,
        can_sample: false,
        notes: Vec::new(),
    })
}

fn slice_key(store: &StoreName, layout: &Layout, slice_by: &[String]) -> Result<Vec<KeyColumn>> {
    let key_column = |written: &String| {
        let by_name = |name: &str| layout.columns.iter().find(|column| column.name == name);
        // `c.id` inside of a query is the column `id` outside of it.
        let last = written.rsplit('.').next().unwrap_or(written).trim_matches('"');
        let (column, inside) = match by_name(written) {
            Some(column) => (Some(column), identifier(written)),
            None => (by_name(last), written.clone()),
        };
        let column = column.ok_or_else(|| {
            let names: Vec<_> = layout.columns.iter().map(|column| column.name.as_str()).collect();
            let context =
                format!("`slice_by` names `{written}`, which {} does not have", layout.relation.name());
            let error = StoreError::new(StoreErrorKind::NotFound, store, context);
            error.with_hint(format!("its columns are {}", names.join(", ")))
        })?;
        Ok(KeyColumn {
            name: column.name.clone(),
            inside,
            source_type: column.source_type.clone(),
            holds_null: column.holds_null,
        })
    };
    slice_by.iter().map(key_column).collect()
}

/// A column as the catalog or a prepared statement has it.
struct Found {
    name: String,
    oid: u32,
    modifier: i32,
    holds_null: bool,
}

/// Gives columns their Arrow types; refuses what is not decoded yet, by name.
async fn columns(store: &StoreName, lease: &Lease, of: &str, found: Vec<Found>) -> Result<Vec<Column>> {
    let types = Types::load(store, lease, found.iter().map(|column| column.oid).collect()).await?;
    let (oids, modifiers): (Vec<_>, Vec<_>) =
        found.iter().map(|column| (column.oid, column.modifier)).unzip();
    let sql = "SELECT format_type(o, m) FROM unnest($1::oid[], $2::int4[]) WITH ORDINALITY AS t(o, m, n) ORDER BY n";
    let names = lease.client().query(sql, &[&oids, &modifiers]).await;
    let names = names.map_err(|error| from_driver(store, "cannot read the names of types", error))?;
    let mut columns = Vec::with_capacity(found.len());
    for (column, row) in found.into_iter().zip(names) {
        let source_type: String =
            row.try_get(0).map_err(|error| from_driver(store, "cannot read a type", error))?;
        let Some((type_oid, column_type)) = types.column_type(column.oid) else {
            let context =
                format!("column `{}` of {of} has the type {source_type}, which is not read yet", column.name);
            let error = StoreError::new(StoreErrorKind::Unsupported, store, context);
            let name = identifier(&column.name);
            return Err(error.with_hint(format!(
                "read it in another form with a query: `SELECT {name}::text AS {name}, …`"
            )));
        };
        columns.push(Column {
            name: column.name,
            type_oid,
            source_type,
            column_type,
            holds_null: column.holds_null,
            nullable: column.holds_null || column_type.may_be_unreadable(lease.server().text_is_utf8),
        });
    }
    Ok(columns)
}

fn schema(columns: &[Column]) -> SchemaRef {
    let field =
        |column: &Column| column.column_type.field(&column.name, column.nullable, &column.source_type);
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

/// The catalog's types, by oid, with those they stand on.
struct Types(BTreeMap<u32, TypeRow>);

struct TypeRow {
    catalog_type: CatalogType,
    /// The base type of a domain, else 0.
    base: u32,
    /// The element type of a true array, else 0.
    element: u32,
}

impl Types {
    async fn load(store: &StoreName, lease: &Lease, oids: BTreeSet<u32>) -> Result<Self> {
        let sql = "SELECT t.oid, t.typname::text, t.typtype::text, t.typbasetype, \
             CASE WHEN e.typarray = t.oid THEN t.typelem ELSE 0 END::oid \
             FROM pg_catalog.pg_type t LEFT JOIN pg_catalog.pg_type e ON e.oid = t.typelem WHERE t.oid = ANY($1)";
        let failed = |error| from_driver(store, "cannot read the catalog of types", error);
        let mut types = BTreeMap::new();
        let mut wanted: Vec<u32> = oids.into_iter().collect();
        while !wanted.is_empty() {
            let rows = lease.client().query(sql, &[&wanted]).await.map_err(failed)?;
            wanted.clear();
            for row in rows {
                let kind: String = row.try_get(2).map_err(failed)?;
                let oid = row.try_get(0).map_err(failed)?;
                let catalog_type = CatalogType {
                    oid,
                    name: row.try_get(1).map_err(failed)?,
                    kind: kind.chars().next().unwrap_or('?'),
                };
                let (base, element) = (row.try_get(3).map_err(failed)?, row.try_get(4).map_err(failed)?);
                types.insert(oid, TypeRow { catalog_type, base, element });
                wanted.extend([base, element].iter().filter(|oid| **oid != 0 && !types.contains_key(oid)));
            }
        }
        Ok(Self(types))
    }

    /// The oid of the type without domains, and what it is decoded as.
    fn column_type(&self, oid: u32) -> Option<(u32, ColumnType)> {
        let row = self.base(oid)?;
        let column_type = match row.element {
            0 => ColumnType::Scalar(scalar_of(&row.catalog_type)?),
            element => ColumnType::List(scalar_of(&self.base(element)?.catalog_type)?),
        };
        Some((row.catalog_type.oid, column_type))
    }

    /// Follows domains.
    fn base(&self, oid: u32) -> Option<&TypeRow> {
        let mut row = self.0.get(&oid)?;
        while row.base != 0 {
            row = self.0.get(&row.base)?;
        }
        Some(row)
    }
}

/// How many records there are: counted where they are few, else as the planner estimates.
pub(crate) async fn records(store: &StoreName, lease: &Lease, layout: &Layout) -> Result<u64> {
    let failed = |error| from_driver(store, "cannot estimate the number of records", error);
    let from = sql::from(layout, "TRUE");
    let plan = lease
        .client()
        .simple_query(&format!("EXPLAIN (FORMAT JSON) SELECT 1 {from}"))
        .await
        .map_err(failed)?;
    let plan: serde_json::Value =
        first_value(&plan).and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    let estimate = plan.pointer("/0/Plan/Plan Rows").map(ToString::to_string);
    let estimate = estimate.and_then(|rows| rows.parse().ok()).unwrap_or(0);
    if estimate > COUNT_LIMIT {
        return Ok(estimate);
    }
    let sql = format!("SELECT count(*) FROM (SELECT 1 {from} LIMIT {}) AS bounded", COUNT_LIMIT + 1);
    let count = lease.client().simple_query(&sql).await.map_err(failed)?;
    let count = first_value(&count).and_then(|count| count.parse().ok()).unwrap_or(0);
    Ok(if count <= COUNT_LIMIT { count } else { count.max(estimate) })
}

/// What the database is: the cluster's system identifier and the database's oid.
pub(crate) async fn identity(store: &StoreName, lease: &Lease, config: &PostgresConfig) -> Result<Identity> {
    let failed = |error| from_driver(store, "cannot read the identity of the database", error);
    let sql = "SELECT has_function_privilege('pg_catalog.pg_control_system()', 'execute'), \
         (SELECT oid::text FROM pg_catalog.pg_database WHERE datname = current_database())";
    let row = lease.client().query_one(sql, &[]).await.map_err(failed)?;
    let is_allowed: bool = row.try_get(0).map_err(failed)?;
    let database: String = row.try_get(1).map_err(failed)?;
    let cluster = if is_allowed {
        let sql = "SELECT system_identifier::text FROM pg_catalog.pg_control_system()";
        lease.client().query_one(sql, &[]).await.and_then(|row| row.try_get(0)).map_err(failed)?
    } else {
        // Without the cluster's own identifier the address has to do; it changes when the server moves.
        config.to_string()
    };
    Ok(Identity::new(format!("{cluster}:{database}")))
}
