//! Collections in the tables of langchain-postgres: `langchain_pg_collection` with a row a collection, and
//! `langchain_pg_embedding` with the records of all of them, whose ids are unique over all.

use super::catalog::Table;
use crate::client::Lease;
use crate::encode::Wire;
use crate::error::from_driver;
use crate::template::{identifier, literal};
use arrow::datatypes::Schema;
use serde_json::json;
use whimbrel_model::StoreName;
use whimbrel_model::logical::{METRIC, SOURCE_TYPE};
use whimbrel_store::{
    LoadStep, Metric, Owner, Removal, Result, StoreError, StoreErrorKind, VectorCollection, VectorIndex,
};

/// The kind of the step that makes an index over vectors.
pub(super) const VECTOR_INDEX: &str = "vector index";
/// What an index over `vector` takes.
const MOST_INDEXED: u32 = 2_000;
/// The key of a collection's metadata that says whose it is.
const OWNER: &str = "whimbrel";
/// What the comment of tables says that were made here.
const MADE: &str = "made by whimbrel for langchain-postgres";
const COLLECTIONS: &str = "langchain_pg_collection";
const EMBEDDINGS: &str = "langchain_pg_embedding";
const VECTORS: &str = "embedding";

/// A collection, and the store whose tables it is in.
#[derive(Clone, Copy)]
pub(super) struct Langchain<'a> {
    pub store: &'a StoreName,
    pub collection: &'a VectorCollection,
}

/// The schema of a table, quoted, with its point; empty where its name has none.
fn schema_of(sql: &str) -> &str {
    sql.rfind('.').map_or("", |point| &sql[..=point])
}

/// The number of dimensions in the name of a type, `vector(3)`.
pub(super) fn dimension_of(type_name: &str) -> Option<u32> {
    type_name.strip_prefix("vector(")?.strip_suffix(')')?.parse().ok()
}

impl Langchain<'_> {
    fn error(&self, kind: StoreErrorKind, context: impl Into<String>) -> StoreError {
        StoreError::new(kind, self.store, context)
    }

    fn failed(&self, doing: &str) -> impl Fn(tokio_postgres::Error) -> StoreError {
        let (store, doing) = (self.store.clone(), format!("{doing} collection `{}`", self.collection.name));
        move |error| from_driver(&store, doing.clone(), error)
    }

    /// What makes the two tables as the library itself makes them; `schema`: quoted, with its point.
    pub(super) fn statements(&self, schema: &str, records: &Schema) -> Vec<String> {
        let vector = match self.dimension(records) {
            Some(dimension) => format!("vector({dimension})"),
            None => "vector".to_owned(),
        };
        let mut statements = vec!["CREATE EXTENSION IF NOT EXISTS vector".to_owned()];
        if let Some(name) = schema.strip_suffix('.') {
            statements.push(format!("CREATE SCHEMA IF NOT EXISTS {name}"));
        }
        let collections = format!("{schema}{COLLECTIONS}");
        statements.extend([
            format!(
                "CREATE TABLE IF NOT EXISTS {collections} (\n  uuid uuid NOT NULL PRIMARY KEY,\n  name varchar NOT NULL,\n  \
                 cmetadata json,\n  CONSTRAINT langchain_pg_collection_name_key UNIQUE (name)\n)"
            ),
            format!(
                "CREATE TABLE {schema}{EMBEDDINGS} (\n  id varchar NOT NULL PRIMARY KEY,\n  collection_id uuid,\n  \
                 embedding {vector},\n  document varchar,\n  cmetadata jsonb,\n  \
                 CONSTRAINT langchain_pg_embedding_collection_id_fkey FOREIGN KEY (collection_id) \
                 REFERENCES {collections} (uuid) ON DELETE CASCADE\n)"
            ),
            format!("CREATE INDEX ix_cmetadata_gin ON {schema}{EMBEDDINGS} USING gin (cmetadata jsonb_path_ops)"),
            format!("COMMENT ON TABLE {schema}{EMBEDDINGS} IS '{MADE}'"),
        ]);
        statements
    }

    /// How many floats a vector has, as the spec or the source says.
    fn dimension(&self, records: &Schema) -> Option<u32> {
        self.collection.dimension.or_else(|| {
            let field = records.field_with_name(VECTORS).ok()?;
            dimension_of(field.metadata().get(SOURCE_TYPE)?)
        })
    }

    /// By which distance vectors are searched, as the spec or the source says.
    fn metric(&self, records: &Schema) -> Option<Metric> {
        self.collection.metric.or_else(|| source_metric(records))
    }

    /// Refuses what could never be found again, and says what a reader must know.
    pub(super) fn check(&self, table: &Table, records: &Schema) -> Result<Vec<String>> {
        let mismatch = |context: String| self.error(StoreErrorKind::Mismatch, context);
        if table.column("id").is_none() {
            let context = format!("{} is of langchain-community, whose columns are others", table.sql);
            let hint = "give the collection a schema of its own, `langchain: { schema: NAME }`";
            return Err(mismatch(context).with_hint(hint));
        }
        for name in ["id", "document", "cmetadata", VECTORS] {
            if records.field_with_name(name).is_err() {
                let context =
                    format!("the records have no column `{name}`, which a collection's records have");
                let hint = "the transform yields id, document, cmetadata and embedding";
                return Err(mismatch(context).with_hint(hint));
            }
        }
        self.check_dimension(table, records)?;
        if let (Some(asked), Some(source)) = (self.collection.metric, source_metric(records))
            && asked != source
        {
            let (asked, source) = (asked.as_str(), source.as_str());
            let context = format!("`metric` is {asked}, and the source searches by {source}");
            return Err(mismatch(context).with_hint(format!("write `metric: {source}`, or leave it out")));
        }
        Ok(self.notes(records))
    }

    fn check_dimension(&self, table: &Table, records: &Schema) -> Result<()> {
        let mismatch = |context: String| self.error(StoreErrorKind::Mismatch, context);
        let field = records.field_with_name(VECTORS).ok();
        let source = field.and_then(|field| dimension_of(field.metadata().get(SOURCE_TYPE)?));
        if let (Some(asked), Some(source)) = (self.collection.dimension, source)
            && asked != source
        {
            let context = format!("`dimension` is {asked}, and the source's vectors have {source}");
            return Err(mismatch(context).with_hint("leave it out, or read another collection"));
        }
        let known = self.dimension(records);
        let column = table.column(VECTORS).map(|column| &column.wire);
        if let (Some(Wire::Vector(Some(held))), Some(dimension)) = (column, known)
            && u32::try_from(*held) != Ok(dimension)
        {
            let context = format!("vectors have {dimension} dimensions, and {} takes {held}", table.sql);
            let hint = "all collections of one table have one number of dimensions: give this one a schema of its own, \
                 `langchain: { schema: NAME }`";
            return Err(mismatch(context).with_hint(hint));
        }
        if self.collection.index.is_none() {
            return Ok(());
        }
        let has_none = matches!(column, Some(Wire::Vector(None)));
        if has_none || known.is_some_and(|dimension| dimension > MOST_INDEXED) {
            let context = match known {
                Some(dimension) if !has_none => {
                    format!(
                        "an index takes vectors of at most {MOST_INDEXED} dimensions, and these have {dimension}"
                    )
                }
                _ => {
                    format!("the column `{VECTORS}` of {} says no dimensions, and has no index so", table.sql)
                }
            };
            let hint = match known {
                Some(dimension) if dimension <= MOST_INDEXED => {
                    format!("ALTER TABLE {} ALTER COLUMN {VECTORS} TYPE vector({dimension})", table.sql)
                }
                _ => "leave `index` out: every search then looks at all vectors".to_owned(),
            };
            return Err(mismatch(context).with_hint(hint));
        }
        Ok(())
    }

    fn notes(&self, records: &Schema) -> Vec<String> {
        let strategy = match self.metric(records) {
            Some(Metric::L2) => "EUCLIDEAN",
            Some(Metric::Cosine) => "COSINE",
            Some(Metric::Ip) => "MAX_INNER_PRODUCT",
            None => return Vec::new(),
        };
        let mut notes = vec![format!(
            "the library keeps no distance: open it with PGVector(…, collection_name={:?}, \
             distance_strategy=DistanceStrategy.{strategy})",
            self.collection.name
        )];
        notes.extend(self.collection.index.map(|index| {
            let setting = match index {
                VectorIndex::Hnsw => "hnsw.iterative_scan = 'strict_order'",
                VectorIndex::Ivfflat => "ivfflat.iterative_scan = 'relaxed_order'",
            };
            format!(
                "an index hides records from searches with a filter, and from long answers: ALTER DATABASE … SET {setting} \
                 lets them look further"
            )
        }));
        notes
    }

    /// The UUID under which the target has the collection.
    pub(super) async fn uuid(&self, lease: &Lease, table: &Table) -> Result<Option<String>> {
        let sql = format!("SELECT uuid::text FROM {}{COLLECTIONS} WHERE name = $1", schema_of(&table.sql));
        let row = lease.client().query_opt(&sql, &[&self.collection.name]).await;
        let row = row.map_err(self.failed("cannot look for"))?;
        row.map(|row| row.try_get(0)).transpose().map_err(self.failed("cannot look for"))
    }

    /// Whether the target has the collection.
    ///
    /// # Errors
    /// It has it under another UUID.
    pub(super) async fn is_there(&self, lease: &Lease, table: &Table) -> Result<bool> {
        let Some(uuid) = self.uuid(lease, table).await? else { return Ok(false) };
        if uuid == self.collection.id {
            return Ok(true);
        }
        let name = &self.collection.name;
        let context = format!("a collection `{name}` is there already, and was not made by this migration");
        let hint = format!(
            "to add to it, write `langchain: {{ collection: {name}, uuid: {uuid} }}`; else give yours another name"
        );
        Err(self.error(StoreErrorKind::Mismatch, context).with_hint(hint))
    }

    /// Refuses to go on where the target lacks the collection.
    pub(super) async fn require(&self, lease: &Lease, table: &Table) -> Result<()> {
        if self.is_there(lease, table).await? {
            return Ok(());
        }
        let context = format!("there is no collection `{}` in {COLLECTIONS}", self.collection.name);
        let hint = "make it with `whimbrel create` or `whimbrel run --create`";
        Err(self.error(StoreErrorKind::NotFound, context).with_hint(hint))
    }

    /// Makes the collection where it is missing; `true`: it was.
    pub(super) async fn make(&self, lease: &Lease, table: &Table, records: &Schema) -> Result<bool> {
        if self.is_there(lease, table).await? {
            return Ok(false);
        }
        let metadata = match self.metric(records) {
            Some(metric) => json!({ "hnsw:space": metric.as_str() }),
            None => json!({}),
        };
        let sql = format!(
            "INSERT INTO {}{COLLECTIONS} (uuid, name, cmetadata) VALUES ($1::text::uuid, $2, $3::text::json)",
            schema_of(&table.sql)
        );
        let VectorCollection { id, name, .. } = self.collection;
        let made = lease.client().execute(&sql, &[id, name, &metadata.to_string()]).await;
        made.map_err(self.failed("cannot make"))?;
        Ok(true)
    }

    /// What makes the index that was asked for, where the table has none such.
    pub(super) async fn step(
        &self,
        lease: &Lease,
        table: &Table,
        records: &Schema,
    ) -> Result<Option<LoadStep>> {
        let Some(index) = self.collection.index else { return Ok(None) };
        let failed = self.failed("cannot look at the indexes of");
        let sql = "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid \
             JOIN pg_catalog.pg_am m ON m.oid = c.relam JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid \
             AND a.attnum = ANY (i.indkey) WHERE i.indrelid = $1::oid AND m.amname IN ('hnsw', 'ivfflat') AND a.attname = $2::text), \
             (SELECT count(*) FROM (SELECT FROM "
            .to_owned()
            + &table.sql
            + ") AS all_rows)";
        let row = lease.client().query_one(&sql, &[&table.oid, &VECTORS]).await.map_err(&failed)?;
        let (is_there, rows): (bool, i64) =
            (row.try_get(0).map_err(&failed)?, row.try_get(1).map_err(&failed)?);
        if is_there {
            return Ok(None);
        }
        let class = match self.metric(records).unwrap_or(Metric::Cosine) {
            Metric::L2 => "vector_l2_ops",
            Metric::Cosine => "vector_cosine_ops",
            Metric::Ip => "vector_ip_ops",
        };
        let (method, with) = match index {
            VectorIndex::Hnsw => ("hnsw", "m = 16, ef_construction = 64".to_owned()),
            VectorIndex::Ivfflat => ("ivfflat", format!("lists = {}", lists(rows))),
        };
        let name = format!("ix_{VECTORS}_{method}");
        let text = format!(
            "CREATE INDEX IF NOT EXISTS {} ON {} USING {method} ({VECTORS} {class}) WITH ({with})",
            identifier(&name),
            table.sql
        );
        Ok(Some(LoadStep { name: format!("{VECTOR_INDEX}:{}:{name}", table.oid), text }))
    }

    /// Whose the collection is, as its metadata says.
    pub(super) async fn owner(&self, lease: &Lease, table: &Table) -> Result<Option<Owner>> {
        let failed = self.failed("cannot read whose it is:");
        let sql = format!(
            "SELECT cmetadata::jsonb #>> '{{{OWNER},migration}}', cmetadata::jsonb #>> '{{{OWNER},environment}}' \
             FROM {}{COLLECTIONS} WHERE uuid = $1::text::uuid",
            schema_of(&table.sql)
        );
        let row = lease.client().query_opt(&sql, &[&self.collection.id]).await.map_err(&failed)?;
        let Some(row) = row else { return Ok(None) };
        let migration: Option<String> = row.try_get(0).map_err(&failed)?;
        let environment: Option<String> = row.try_get(1).map_err(&failed)?;
        Ok(migration.map(|migration| Owner { migration, environment }))
    }

    /// Writes whose it is; `false` where there is no such collection.
    pub(super) async fn claim(&self, lease: &Lease, table: &Table, owner: &Owner) -> Result<bool> {
        let sql = format!(
            "UPDATE {}{COLLECTIONS} SET cmetadata = (CASE WHEN json_typeof(cmetadata) = 'object' THEN cmetadata::jsonb \
             ELSE '{{}}' END || $2::text::jsonb)::json WHERE uuid = $1::text::uuid",
            schema_of(&table.sql)
        );
        let mine = json!({ OWNER: { "migration": owner.migration, "environment": owner.environment } });
        let done = lease.client().execute(&sql, &[&self.collection.id, &mine.to_string()]).await;
        Ok(done.map_err(self.failed("cannot write whose it is:"))? > 0)
    }

    /// Removes the collection and its records, and the tables with the last collection where they were made here.
    pub(super) async fn remove(&self, lease: &Lease, table: &Table, within: &str) -> Result<Removal> {
        let (schema, client) = (schema_of(&table.sql), lease.client());
        let failed = self.failed("cannot remove");
        let records = format!("DELETE FROM {} WHERE {within}", table.sql);
        let deleted = client.execute(&records, &[]).await.map_err(&failed)?;
        let others =
            format!("SELECT EXISTS (SELECT 1 FROM {} WHERE collection_id = $1::text::uuid)", table.sql);
        let row = client.query_one(&others, &[&self.collection.id]).await.map_err(&failed)?;
        if row.try_get::<_, bool>(0).map_err(&failed)? {
            return Ok(Removal::Shared { records: deleted });
        }
        let row = format!("DELETE FROM {schema}{COLLECTIONS} WHERE uuid = $1::text::uuid");
        let removed = client.execute(&row, &[&self.collection.id]).await.map_err(&failed)?;
        let made = literal(&format!("%{MADE}%")).unwrap_or_default();
        let empty = format!(
            "SELECT NOT EXISTS (SELECT 1 FROM {schema}{COLLECTIONS}) AND NOT EXISTS (SELECT 1 FROM {}) \
             AND coalesce(pg_catalog.obj_description($1::oid, 'pg_class'), '') LIKE {made}",
            table.sql
        );
        let row = client.query_one(&empty, &[&table.oid]).await.map_err(&failed)?;
        if row.try_get::<_, bool>(0).map_err(&failed)? {
            let drop = format!("DROP TABLE {}, {schema}{COLLECTIONS}", table.sql);
            client.batch_execute(&drop).await.map_err(&failed)?;
        }
        Ok(if removed > 0 { Removal::Removed } else { Removal::Absent })
    }
}

/// How many lists an index has for so many rows, as its makers advise.
fn lists(rows: i64) -> i64 {
    match rows {
        ..=1_000_000 => (rows / 1_000).max(10),
        _ => rows.isqrt(),
    }
}

fn source_metric(records: &Schema) -> Option<Metric> {
    let field = records.field_with_name(VECTORS).ok()?;
    Metric::of_word(field.metadata().get(METRIC)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        assert_eq!(schema_of("public.langchain_pg_embedding"), "public.");
        assert_eq!(schema_of("\"a.b\".langchain_pg_embedding"), "\"a.b\".");
        assert_eq!(schema_of("langchain_pg_embedding"), "");
        assert_eq!(dimension_of("vector(1024)"), Some(1024));
        assert_eq!(dimension_of("vector"), None);
        assert_eq!((lists(5), lists(50_000), lists(4_000_000)), (10, 50, 2_000));
    }
}
