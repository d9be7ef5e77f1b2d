//! What is there: columns, keys, types, how many records, and what the database is.

use crate::client::{Lease, ask, first_value};
use crate::config::PostgresConfig;
use crate::error::from_driver;
use crate::source::Filter;
use crate::sql::{self, Relation};
use crate::template::{Query, identifier};
use crate::types::{ColumnType, ReadAs, Scalar};
use arrow::datatypes::{Schema, SchemaRef};
use std::collections::BTreeSet;
use std::sync::Arc;
use whimbrel_model::{Identity, StoreName};
use whimbrel_store::{ReadRequest, Result, StoreError, StoreErrorKind};

mod read_as;
mod structure;
mod table;

pub(crate) use structure::structure;
pub(crate) use table::{Resolved as ResolvedTable, candidates, resolve};

/// Up to here records are counted, beyond the planner's estimate is good enough.
const COUNT_LIMIT: u64 = 200_000;
/// The oid of `char(n)`.
const BPCHAR: u32 = 1042;
const TEXT: u32 = 25;
const VARCHAR: u32 = 1043;
/// From this version on there are collations by which texts of different bytes are equal.
const BLIND_COLLATIONS: u32 = 120_000;

/// From this version on a server has `starts_with`.
const STARTS_WITH: u32 = 110_000;

/// A column that is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Column {
    pub name: String,
    /// The type that the server says a result has: of a domain, its base.
    pub type_oid: u32,
    /// The type as PostgreSQL names it, usable in a cast.
    pub source_type: String,
    /// Whether it is money, whose digits are a matter of the database's settings.
    pub is_money: bool,
    pub read_as: ReadAs,
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
    /// The column that tells it as text; `None`: it has to be asked for.
    pub told_by: Option<usize>,
    pub equality: Equality,
}

/// When two values of a column are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Equality {
    /// Where their bytes are.
    Bytes,
    /// Where their bytes are, unless a collation says otherwise.
    Collation,
    /// For the database to say: 1.0 and 1.00 are, and so may be `a` and `A`.
    Database,
}

impl KeyColumn {
    fn new(columns: &[Column], at: usize, inside: String) -> Option<Self> {
        let column = columns.get(at)?;
        // The cast of a char(n) to text takes its padding, and keys have always been stored so.
        let is_told = column.read_as.is_key_text() && column.type_oid != BPCHAR;
        Some(Self {
            name: column.name.clone(),
            inside,
            source_type: column.source_type.clone(),
            holds_null: column.holds_null,
            told_by: is_told.then_some(at),
            equality: match (column.column_type, column.type_oid) {
                _ if !is_told || column.read_as.is_cast() => Equality::Database,
                (ColumnType::Scalar(Scalar::Text), TEXT | VARCHAR) => Equality::Collation,
                (ColumnType::Scalar(Scalar::Text), _) => Equality::Database,
                _ => Equality::Bytes,
            },
        })
    }
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
    /// What of the request's condition the server is told, as SQL.
    pub filter: Option<String>,
    pub notes: Vec<String>,
}

impl Layout {
    /// Whether the columns of a row tell its slice key.
    pub(crate) fn tells_keys(&self) -> bool {
        self.slice_key.iter().all(|column| column.told_by.is_some())
    }

    /// Whether the server has to number the groups of records that share a key.
    pub(crate) fn numbers_groups(&self) -> bool {
        !self.is_unique && self.slice_key.iter().any(|column| column.equality != Equality::Bytes)
    }

    /// How many fields stand behind the columns of a row in an ordered part.
    pub(crate) fn hidden_fields(&self) -> usize {
        usize::from(self.numbers_groups()) + if self.tells_keys() { 0 } else { self.slice_key.len() }
    }

    /// The fields of a row in an ordered part by which it can be told whether two rows share a key.
    pub(crate) fn group_fields(&self) -> Vec<usize> {
        if self.numbers_groups() { vec![self.columns.len()] } else { self.key_fields() }
    }

    /// The fields of a row in an ordered part that are its slice key.
    pub(crate) fn key_fields(&self) -> Vec<usize> {
        let first = self.columns.len() + usize::from(self.numbers_groups());
        let hidden = self.slice_key.iter().enumerate().map(|(at, _)| first + at);
        let told: Option<_> = self.slice_key.iter().map(|column| column.told_by).collect();
        told.unwrap_or_else(|| hidden.collect())
    }
}

/// Reads the layout of what a request names.
pub(crate) async fn layout(store: &StoreName, lease: &Lease, request: &ReadRequest) -> Result<Layout> {
    let mut layout = match &request.relation {
        whimbrel_store::Relation::Table(name) => table::layout(store, lease, name, request).await?,
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
    if let Some(note) = money_note(store, lease, &layout.columns).await? {
        layout.notes.push(note);
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
    settle_collations(store, lease, &mut layout).await?;
    if let Some(condition) = request.condition.as_ref().filter(|_| !request.wants_all) {
        let is_utf8 = lease.server().keeps_utf8;
        let knows_starts = lease.server().version_number >= STARTS_WITH;
        let filter = Filter { columns: &layout.columns, alias: sql::ALIAS, is_utf8, knows_starts };
        layout.filter = filter.sql(condition);
    }
    if layout.slice_key.is_empty() && !matches!(layout.relation, Relation::Table { .. }) {
        layout.notes.push("a query without slice_by: one slice, restarted whole".to_owned());
    }
    Ok(layout)
}

/// The columns that somebody looks at, with those that slices and records are named by. Where one is asked for that
/// is not there all are kept: whoever reports it names those that there are.
fn only_wanted(mut columns: Vec<Column>, request: &ReadRequest, key: &[String]) -> Vec<Column> {
    let Some(wanted) = request.wanted.as_ref().filter(|_| !request.whole) else { return columns };
    if !wanted.iter().all(|name| columns.iter().any(|column| column.name == *name)) {
        return columns;
    }
    let in_key = |name: &String| {
        let by = |written: &String| written == name || bare(written) == name;
        key.contains(name) || request.slice_by.iter().any(by)
    };
    let first = columns.first().cloned();
    columns.retain(|column| wanted.contains(&column.name) || in_key(&column.name));
    // Records are counted also where nobody looks at them.
    if columns.is_empty() {
        columns.extend(first);
    }
    columns
}

/// `c.id` inside of a query is the column `id` outside of it.
fn bare(written: &str) -> &str {
    written.rsplit('.').next().unwrap_or(written).trim_matches('"')
}

/// Finds out what equal texts are, where that matters.
async fn settle_collations(store: &StoreName, lease: &Lease, layout: &mut Layout) -> Result<()> {
    let by_collation = layout
        .slice_key
        .iter_mut()
        .filter(|column| column.equality == Equality::Collation)
        .collect::<Vec<_>>();
    if layout.is_unique || by_collation.is_empty() {
        return Ok(());
    }
    let mut equality = Equality::Bytes;
    if lease.server().version_number >= BLIND_COLLATIONS {
        let sql = "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_collation WHERE NOT collisdeterministic)";
        let failed = |error| from_driver(store, "cannot read the collations", error);
        let row = lease.client().query_one(sql, &[]).await.map_err(failed)?;
        if row.try_get(0).map_err(failed)? {
            equality = Equality::Database;
        }
    }
    by_collation.into_iter().for_each(|column| column.equality = equality);
    Ok(())
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
        dimensions: 0,
        holds_null: true,
    });
    let columns = read_as::columns(store, lease, "the query", found.collect(), request).await?;
    let columns = only_wanted(columns, request, &[]);
    Ok(Layout {
        relation: Relation::Query(query),
        schema: schema(&columns),
        columns,
        key: Vec::new(),
        slice_key: Vec::new(),
        is_unique: false,
        can_sample: false,
        filter: None,
        notes: Vec::new(),
    })
}

fn slice_key(store: &StoreName, layout: &Layout, slice_by: &[String]) -> Result<Vec<KeyColumn>> {
    let key_column = |written: &String| {
        let by_name = |name: &str| layout.columns.iter().position(|column| column.name == name);
        let (at, inside) = match by_name(written) {
            Some(at) => (Some(at), identifier(written)),
            None => (by_name(bare(written)), written.clone()),
        };
        at.and_then(|at| KeyColumn::new(&layout.columns, at, inside)).ok_or_else(|| {
            let names: Vec<_> = layout.columns.iter().map(|column| column.name.as_str()).collect();
            let context =
                format!("`slice_by` names `{written}`, which {} does not have", layout.relation.name());
            let error = StoreError::new(StoreErrorKind::NotFound, store, context);
            error.with_hint(format!("its columns are {}", names.join(", ")))
        })
    };
    slice_by.iter().map(key_column).collect()
}

/// A column as the catalog or a prepared statement has it.
struct Found {
    name: String,
    oid: u32,
    modifier: i32,
    /// With how many dimensions an array was declared; 0: it is not known, or it is none.
    dimensions: i16,
    holds_null: bool,
}

/// What money means here: its values are whole numbers, and a setting says where their decimal point stands.
async fn money_note(store: &StoreName, lease: &Lease, columns: &[Column]) -> Result<Option<String>> {
    let names: Vec<_> =
        columns.iter().filter(|column| column.is_money).map(|column| format!("`{}`", column.name)).collect();
    if names.is_empty() {
        return Ok(None);
    }
    let failed = |error| from_driver(store, "cannot read how money is written", error);
    let sql = "SELECT current_setting('lc_monetary'), scale(0::money::numeric)";
    let row = lease.client().query_one(sql, &[]).await.map_err(failed)?;
    let locale: String = row.try_get(0).map_err(failed)?;
    let digits: i32 = row.try_get(1).map_err(failed)?;
    Ok(Some(format!(
        "money ({}) is read as a decimal number with {digits} digits behind the point, as lc_monetary `{locale}` has it",
        names.join(", ")
    )))
}

fn schema(columns: &[Column]) -> SchemaRef {
    let field =
        |column: &Column| column.column_type.field(&column.name, column.nullable, &column.source_type);
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

/// How many records there are: counted where they are few, else as the planner estimates.
pub(crate) async fn records(store: &StoreName, lease: &Lease, layout: &Layout) -> Result<u64> {
    let failed = |error| from_driver(store, "cannot estimate the number of records", error);
    let from = format!("{} WHERE {}", sql::from(layout, "TRUE"), sql::filter(layout));
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
    let identity = lease.server().identity.get_or_try_init(|| ask_identity(store, lease, config)).await?;
    Ok(identity.clone())
}

async fn ask_identity(store: &StoreName, lease: &Lease, config: &PostgresConfig) -> Result<Identity> {
    let failed = |error| from_driver(store, "cannot read the identity of the database", error);
    let sql = "SELECT has_function_privilege('pg_catalog.pg_control_system()', 'execute'), \
         (SELECT oid::text FROM pg_catalog.pg_database WHERE datname = current_database())";
    let rows = lease.client().query_typed(sql, &[]).await.map_err(failed)?;
    let nameless =
        || StoreError::new(StoreErrorKind::Protocol, store, "the server does not say which database it is");
    let row = rows.first().ok_or_else(nameless)?;
    let is_allowed: bool = row.try_get(0).map_err(failed)?;
    let database: String = row.try_get(1).map_err(failed)?;
    let cluster = if is_allowed {
        let sql = "SELECT system_identifier::text FROM pg_catalog.pg_control_system()";
        ask(lease.client(), sql, &[]).await.map_err(failed)?.ok_or_else(nameless)?
    } else {
        // Without the cluster's own identifier the address has to do; it changes when the server moves.
        config.to_string()
    };
    Ok(Identity::new(format!("{cluster}:{database}")))
}
