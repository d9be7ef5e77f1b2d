//! The SQL of a user, parsed: it reads, and names tables of stores.

use crate::binding::Bindings;
use crate::error::{QueryError, Result};
use crate::names::Names;
use datafusion::common::TableReference;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::resolve::resolve_table_references;
use datafusion::sql::sqlparser::ast::{Statement as SqlStatement, Visit as _};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use std::collections::BTreeSet;
use whimbrel_model::StoreName;

/// A query: one statement that only reads.
#[derive(Debug)]
pub struct Query {
    pub(crate) statement: Statement,
    pub(crate) names: Names,
    /// The tables that it names, as SQL takes the names.
    pub(crate) tables: Vec<TableReference>,
    pub(crate) explains: bool,
    /// What its variables stand for.
    pub(crate) bindings: Bindings,
}

impl Query {
    /// Parses SQL in PostgreSQL's dialect.
    ///
    /// # Errors
    /// It is no SQL, more than one statement, or would change something.
    pub fn parse(sql: &str) -> Result<Self> {
        Self::bound(sql, &Bindings::default())
    }

    /// Parses SQL in which variables stand for values and for tables.
    ///
    /// # Errors
    /// As [`Query::parse`].
    pub fn bound(sql: &str, bindings: &Bindings) -> Result<Self> {
        let builder = DFParserBuilder::new(sql).with_dialect(&PostgreSqlDialect {});
        let parsed = builder.build().and_then(|mut parser| parser.parse_statements());
        let mut statements = parsed.map_err(|error| QueryError::planning(&error))?;
        let one = || {
            QueryError::sql(
                "one statement is expected",
                "give one query at a time: SELECT … FROM store.table",
            )
        };
        let mut statement = statements.pop_front().ok_or_else(one)?;
        if !statements.is_empty() {
            return Err(one());
        }
        bindings.name_tables(&mut statement);
        let mut names = Names::default();
        let explains = look(&statement, &mut names)?;
        let (tables, _) =
            resolve_table_references(&statement, true).map_err(|error| QueryError::planning(&error))?;
        let is_table = |table: &TableReference| {
            !(matches!(table, TableReference::Bare { .. }) && names.functions.contains(table.table()))
        };
        let tables = tables.into_iter().filter(is_table).collect();
        Ok(Self { statement, names, tables, explains, bindings: bindings.clone() })
    }

    /// Whether the answer is a plan for people to read, in lines.
    #[must_use]
    pub fn explains(&self) -> bool {
        self.explains
    }

    /// The stores that it names, out of those that there are.
    ///
    /// # Errors
    /// It names a store that is not there, or a table without its store.
    pub fn stores(&self, known: &[StoreName]) -> Result<BTreeSet<StoreName>> {
        self.tables.iter().map(|table| place(table, known).map(|(store, _)| store)).collect()
    }
}

/// The store and the store's own name of a table. Where there is one store, it need not be named.
pub(crate) fn place(table: &TableReference, known: &[StoreName]) -> Result<(StoreName, String)> {
    let (store, name) = match table {
        TableReference::Bare { table } => match known {
            [only] => return Ok((only.clone(), table.to_string())),
            _ => {
                let places: Vec<_> = known.iter().map(|store| format!("{store}.{table}")).collect();
                let message = format!("in which store is the table `{table}`?");
                return Err(QueryError::sql(message, format!("name it: {}", places.join(", "))));
            }
        },
        TableReference::Partial { schema, table } => (schema, table.to_string()),
        TableReference::Full { catalog, schema, table } => (catalog, format!("{schema}.{table}")),
    };
    if let Some(known) = known.iter().find(|known| known.as_str() == &**store) {
        return Ok((known.clone(), name));
    }
    // A table with a schema needs no store before it where there is one store.
    if let ([only], TableReference::Partial { schema, table }) = (known, table) {
        return Ok((only.clone(), format!("{schema}.{table}")));
    }
    let message = format!("there is no store `{store}`");
    let hint = match known.iter().find(|known| known.as_str().eq_ignore_ascii_case(store)) {
        Some(meant) => format!("a name with capitals is written in double quotes: \"{meant}\".{name}"),
        None => {
            let known: Vec<_> = known.iter().map(StoreName::as_str).collect();
            format!("the spec's flows use: {}", known.join(", "))
        }
    };
    Err(QueryError::sql(message, hint))
}

/// Collects the names of a statement that only reads, and says whether it explains.
fn look(statement: &Statement, names: &mut Names) -> Result<bool> {
    match statement {
        Statement::Explain(explained) => look(&explained.statement, names).map(|_| true),
        Statement::Statement(statement) => match statement.as_ref() {
            SqlStatement::Query(_) | SqlStatement::ExplainTable { .. } => {
                // The visitor never stops early.
                let _ = statement.visit(names);
                Ok(false)
            }
            SqlStatement::ShowTables { .. }
            | SqlStatement::ShowColumns { .. }
            | SqlStatement::ShowVariable { .. }
            | SqlStatement::ShowSchemas { .. }
            | SqlStatement::ShowDatabases { .. } => Err(QueryError::sql(
                "SHOW is not supported yet",
                "`DESCRIBE store.table` shows a table's columns; ask a SQL store for its tables in its own \
                 language: --store NAME \"SELECT tablename FROM pg_tables\"",
            )),
            _ => Err(changes()),
        },
        _ => Err(changes()),
    }
}

fn changes() -> QueryError {
    QueryError::sql(
        "only queries are answered; this would change something",
        "write SELECT, WITH, VALUES, DESCRIBE or EXPLAIN",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Vec<StoreName> {
        ["pg", "ddb"].map(StoreName::new).to_vec()
    }

    fn tables(sql: &str) -> Vec<String> {
        Query::parse(sql).unwrap().tables.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn only_what_reads_is_a_query() {
        for sql in [
            "DELETE FROM pg.t",
            "INSERT INTO pg.t VALUES (1)",
            "UPDATE pg.t SET a = 1",
            "DROP TABLE pg.t",
            "CREATE TABLE t AS SELECT 1",
            "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
            "COPY (SELECT 1) TO '/tmp/x.csv'",
            "COPY pg.t TO 'x.parquet'",
            "EXPLAIN DELETE FROM pg.t",
            "SET datafusion.execution.batch_size = 1",
            "BEGIN",
            "SHOW TABLES",
            "SELECT 1; SELECT 2",
            "",
            "SELEC 1",
        ] {
            let error = Query::parse(sql).unwrap_err();
            assert!(matches!(error, QueryError::Sql { .. }), "{sql}: {error}");
        }
        for sql in ["SELECT 1", "VALUES (1)", "WITH a AS (SELECT 1) SELECT * FROM a", "EXPLAIN SELECT 1"] {
            assert!(Query::parse(sql).is_ok(), "{sql}");
        }
        assert!(Query::parse("EXPLAIN SELECT 1").unwrap().explains());
    }

    #[test]
    fn tables_are_found_wherever_they_stand() {
        let sql = r#"WITH a AS (SELECT * FROM pg.x) SELECT * FROM a, ddb."Y" AS y, generate_series(1, 2)
                     WHERE id IN (SELECT id FROM pg.public.z)"#;
        assert_eq!(tables(sql), ["ddb.Y", "pg.x", "pg.public.z"]);
        assert_eq!(tables("DESCRIBE pg.x"), ["pg.x"]);
    }

    #[test]
    fn a_table_has_a_store() {
        let of = |sql: &str| Query::parse(sql).unwrap().stores(&known());
        assert_eq!(of("SELECT * FROM pg.x").unwrap(), BTreeSet::from([StoreName::new("pg")]));
        assert_eq!(of("SELECT 1").unwrap(), BTreeSet::new());
        let error = of("SELECT * FROM x").unwrap_err();
        assert_eq!(error.to_string(), "in which store is the table `x`?");
        assert_eq!(error.hint(), Some("name it: pg.x, ddb.x"));
        let error = of("SELECT * FROM pgg.x").unwrap_err();
        assert_eq!(error.hint(), Some("the spec's flows use: pg, ddb"));
        let one = [StoreName::new("Main")];
        let place = |sql: &str| place(&Query::parse(sql).unwrap().tables[0], &one).unwrap().1;
        assert_eq!([place("SELECT * FROM x"), place("SELECT * FROM public.x")], ["x", "public.x"]);
    }

    #[test]
    fn names_belong_to_the_tables_before_them() {
        let query = Query::parse(
            r#"SELECT t."userId", title, m.id FROM ddb.t JOIN pg.messages AS m USING (pk)
               WHERE t.sk LIKE 'A%' AND M.createdAt > '2024' ORDER BY day"#,
        )
        .unwrap();
        let of = |table: TableReference| {
            let (own, bare) = query.names.of(&table);
            let names = |set: &BTreeSet<crate::names::Written>| {
                set.iter().map(|name| name.column.clone()).collect::<Vec<_>>()
            };
            (names(&own), names(bare))
        };
        let bare = vec!["day".to_owned(), "pk".to_owned(), "title".to_owned()];
        assert_eq!(of(TableReference::partial("ddb", "t")).0, ["sk", "userId"]);
        assert_eq!(
            of(TableReference::partial("pg", "messages")),
            (vec!["createdat".to_owned(), "id".to_owned()], bare)
        );
        assert!(!query.names.star);
        assert!(Query::parse("SELECT t.* FROM ddb.t").unwrap().names.star);
        assert!(!Query::parse("SELECT count(*) FROM ddb.t").unwrap().names.star);
    }
}
