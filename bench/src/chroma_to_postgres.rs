//! Chroma → pgvector: a directory of vectors, beside a binary COPY of the same rows and langchain-postgres.
//!
//! There is no index over the vectors on either side.

use crate::peer::{self, FILL_CHROMA, LANGCHAIN, per_second};
use crate::program::{self, judge};
use crate::route::{Bench, Limit, Measurement, Outcome, Route};
use crate::{Result, load, say};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde_json::json;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// As many as the common models give.
const DIMENSION: u32 = 1_024;
/// Records that langchain-postgres gets; it is slow enough to be judged by them.
const LANGCHAIN_RECORDS: u64 = 5_000;

/// Into which tables the records go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tables {
    /// One table with a column for each part of a record.
    Plain,
    /// Those of langchain-postgres.
    Langchain,
}

/// One kind of tables.
pub(crate) struct ChromaToPostgres {
    pub(crate) tables: Tables,
}

impl Route for ChromaToPostgres {
    fn name(&self) -> String {
        match self.tables {
            Tables::Plain => "chroma-postgres".to_owned(),
            Tables::Langchain => "chroma-langchain".to_owned(),
        }
    }

    fn measure<'a>(&'a self, bench: &'a mut Bench) -> BoxFuture<'a, Result<Measurement>> {
        self.measure_in_order(bench).boxed()
    }
}

impl ChromaToPostgres {
    async fn measure_in_order(&self, bench: &Bench) -> Result<Measurement> {
        let folder = tempfile::Builder::new().prefix("whimbrel-bench-").tempdir()?;
        let Some(source) = directory(bench.rows, folder.path()).await? else {
            let outcome = Outcome::Refused("there is no chromadb to make the directory with".to_owned());
            return Ok(Measurement { route: self.name(), outcome, limits: Vec::new() });
        };
        read(&source)?;
        load::clear(&bench.postgres).await?;
        let spec = self.spec_text(&load::url(&bench.postgres)?, &source);
        let watched = program::run(bench, folder.path(), "docs", &spec).await?;
        let mut outcome = judge(&watched, bench.rows)?;
        let mut limits = Vec::new();
        if let Outcome::Done(_) = outcome {
            match self.copied(bench, folder.path()).await {
                Ok(limit) => limits.extend(limit),
                Err(error) => outcome = Outcome::Failed(error.to_string()),
            }
        }
        limits.extend(langchain(bench, folder.path(), &source).await?);
        load::remove(&bench.postgres).await?;
        Ok(Measurement { route: self.name(), outcome, limits })
    }

    fn table(&self) -> &'static str {
        match self.tables {
            Tables::Plain => "docs",
            Tables::Langchain => "langchain_pg_embedding",
        }
    }

    fn spec_text(&self, database: &str, source: &Path) -> String {
        let into = match self.tables {
            Tables::Plain => "table: docs, key: [id]".to_owned(),
            Tables::Langchain => {
                format!("langchain: {{ collection: docs, metric: l2, dimension: {DIMENSION}, index: none }}")
            }
        };
        // Strings of JSON are strings of YAML.
        let (database, source) = (json!(database), json!(source.to_string_lossy()));
        format!(
            "migration: bench-chroma
stores:
  vec: {{ chroma: {source} }}
  pg: {{ postgres: {database} }}
flows:
  docs:
    from: {{ store: vec, collection: docs }}
    into: {{ store: pg, {into} }}
"
        )
    }

    /// `psql` with a file of the rows that arrived, into a table of the same definition.
    async fn copied(&self, bench: &Bench, folder: &Path) -> Result<Option<Limit>> {
        let (table, url) = (self.table(), load::url(&bench.postgres)?);
        let client = load::open(&bench.postgres, true).await?;
        let sql = format!(
            "SELECT count(*), count(*) FILTER (WHERE vector_dims(embedding) = {DIMENSION}) FROM {table}"
        );
        let held = client.query_one(&sql, &[]).await?;
        let (held, whole) = (u64::try_from(held.get::<_, i64>(0))?, u64::try_from(held.get::<_, i64>(1))?);
        if held != bench.rows || whole != bench.rows {
            return Err(
                format!("{} vectors were to arrive, {whole} of {held} rows have theirs", bench.rows).into()
            );
        }
        peer::psql(folder, &url, &format!("\\copy {table} to 'rows.bin' (format binary)")).await?;
        client.batch_execute(&format!("CREATE TABLE again (LIKE {table} INCLUDING ALL)")).await?;
        client.batch_execute(&format!("DROP TABLE {table}")).await?;
        client.batch_execute("CHECKPOINT").await?;
        let took = peer::psql(folder, &url, "\\copy again from 'rows.bin' (format binary)").await?;
        let what = "psql \\copy from a binary file of the same rows, the whole process";
        Ok(took.map(|took| Limit::process(what, per_second(bench.rows, took.as_secs_f64()))))
    }
}

/// langchain-postgres in a database of its own, from the same directory.
async fn langchain(bench: &Bench, folder: &Path, source: &Path) -> Result<Option<Limit>> {
    load::clear(&bench.postgres).await?;
    let most = LANGCHAIN_RECORDS.min(bench.rows);
    let arguments = [&*source.to_string_lossy(), "docs", &load::url(&bench.postgres)?, &most.to_string()]
        .map(str::to_owned);
    let rate = LANGCHAIN.rate(folder, most, &arguments.each_ref().map(String::as_str)).await?;
    let what = "langchain-postgres' add_embeddings, by the first 5,000, imports not counted";
    Ok(rate.map(|rate| Limit::peer(what, rate)))
}

/// The directory, made where it is not there from an earlier start; `None` where there is no chromadb.
async fn directory(rows: u64, folder: &Path) -> Result<Option<PathBuf>> {
    let path = peer::home()?.join(format!("chroma-{rows}x{DIMENSION}"));
    if path.is_dir() {
        return Ok(Some(path));
    }
    say(&format!("filling a Chroma directory with {rows} vectors of {DIMENSION} dimensions …"));
    let making = path.with_extension("making");
    if making.exists() {
        fs::remove_dir_all(&making)?;
    }
    let (rows, dimension) = (rows.to_string(), DIMENSION.to_string());
    let said = FILL_CHROMA.run(folder, &[&making.to_string_lossy(), &rows, &dimension]).await?;
    if said.is_none() {
        return Ok(None);
    }
    fs::rename(&making, &path)?;
    Ok(Some(path))
}

/// Reads a directory once, so that it is in memory for all that are measured.
fn read(path: &Path) -> Result<()> {
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        if path.is_dir() {
            read(&path)?;
        } else {
            std::io::copy(&mut File::open(path)?, &mut std::io::sink())?;
        }
    }
    Ok(())
}
