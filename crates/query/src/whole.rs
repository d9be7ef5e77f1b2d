//! A query that one store can answer alone, in that store's own words: its tables without the store before them.
//!
//! Only what both languages share goes that way: nothing with a function of whimbrel's own. Where the store refuses
//! the words all the same, the query is answered here.

use crate::statement::{Query, place};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    Expr, Function, Ident, ObjectName, ObjectNamePart, Statement as SqlStatement, Visit as _, VisitMut,
    Visitor, VisitorMut,
};
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use whimbrel_engine::functions;
use whimbrel_model::StoreName;

/// The store that holds every table of the query, and the query in that store's words.
pub(crate) fn in_one_store(query: &Query, known: &[StoreName]) -> Option<(StoreName, String)> {
    let Statement::Statement(statement) = &query.statement else { return None };
    if query.explains || !matches!(statement.as_ref(), SqlStatement::Query(_)) {
        return None;
    }
    let mut stores = BTreeSet::new();
    for table in &query.tables {
        let (store, name) = place(table, known).ok()?;
        // A name with a point in it is not what the store itself would read there.
        if table.table().contains('.') || name.is_empty() {
            return None;
        }
        stores.insert(store);
    }
    let store = stores.pop_first().filter(|_| stores.is_empty())?;
    let mut own =
        Own { names: functions::all().iter().map(|own| own.name().to_owned()).collect(), found: false };
    let _ = statement.visit(&mut own);
    if own.found {
        return None;
    }
    let mut whole = statement.clone();
    let _ = VisitMut::visit(whole.as_mut(), &mut Strip(&store));
    let sql = whole.to_string();
    Some((store, sql))
}

/// Looks for whimbrel's own functions.
struct Own {
    names: BTreeSet<String>,
    found: bool,
}

impl Visitor for Own {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if let Expr::Function(Function { name, .. }) = expr
            && let Some(ident) = name.0.last().and_then(ObjectNamePart::as_ident)
        {
            self.found |= self.names.contains(&ident.value.to_ascii_lowercase());
        }
        ControlFlow::Continue(())
    }
}

/// Takes the store's name away from before its tables.
struct Strip<'a>(&'a StoreName);

impl Strip<'_> {
    fn is_store(&self, ident: &Ident) -> bool {
        let store = self.0.as_str();
        if ident.quote_style.is_some() {
            ident.value == store
        } else {
            ident.value.to_ascii_lowercase() == store
        }
    }
}

impl VisitorMut for Strip<'_> {
    type Break = ();

    fn pre_visit_relation(&mut self, relation: &mut ObjectName) -> ControlFlow<()> {
        let first = relation.0.first().and_then(ObjectNamePart::as_ident);
        if relation.0.len() > 1 && first.is_some_and(|first| self.is_store(first)) {
            relation.0.remove(0);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::CompoundIdentifier(path) = expr
            && path.len() > 2
            && path.first().is_some_and(|first| self.is_store(first))
        {
            path.remove(0);
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Bindings;

    fn known() -> Vec<StoreName> {
        ["pg", "ddb", "Main"].map(StoreName::new).to_vec()
    }

    fn whole(sql: &str) -> Option<(String, String)> {
        let (store, sql) = in_one_store(&Query::parse(sql).unwrap(), &known())?;
        Some((store.as_str().to_owned(), sql))
    }

    #[test]
    fn what_names_one_store_goes_there_without_its_name() {
        let (store, sql) = whole(
            r#"WITH a AS (SELECT pg.m.id, 'it''s pg.x' AS pg FROM pg.m WHERE "userId" = $who)
               SELECT count(*) FILTER (WHERE a.id > 1.50) FROM a JOIN PG.public.c AS c ON a.id = c.id
               WHERE EXISTS (SELECT 1 FROM pg."T") -- pg.y"#,
        )
        .unwrap();
        assert_eq!(store, "pg");
        assert_eq!(
            sql,
            r#"WITH a AS (SELECT m.id, 'it''s pg.x' AS pg FROM m WHERE "userId" = $who) SELECT count(*) FILTER (WHERE a.id > 1.50) FROM a JOIN public.c AS c ON a.id = c.id WHERE EXISTS (SELECT 1 FROM "T")"#
        );
        assert_eq!(whole(r#"SELECT * FROM "Main".x"#).unwrap().1, "SELECT * FROM x");
    }

    #[test]
    fn what_one_store_cannot_answer_stays() {
        for sql in [
            "SELECT 1",
            "SELECT * FROM pg.x, ddb.y",
            "SELECT * FROM pg.x WHERE is_uuid(id)",
            "SELECT * FROM pg.x WHERE id IN (SELECT Fixed_Width(n, 3) FROM pg.y)",
            "EXPLAIN SELECT * FROM pg.x",
            "DESCRIBE pg.x",
            r#"SELECT * FROM pg."a.b""#,
        ] {
            assert_eq!(whole(sql), None, "{sql}");
        }
    }

    #[test]
    fn a_variable_is_the_name_of_a_table_and_nothing_else() {
        let evil = r#"x" WHERE 1=1; DROP TABLE y; --"#;
        let bindings =
            Bindings { tables: [("table".to_owned(), evil.to_owned())].into(), ..Bindings::default() };
        let query = Query::bound(r#"SELECT "${table}".a, '${table}' FROM pg."${table}""#, &bindings).unwrap();
        let (_, sql) = in_one_store(&query, &known()).unwrap();
        assert_eq!(
            sql,
            r#"SELECT "x"" WHERE 1=1; DROP TABLE y; --".a, '${table}' FROM "x"" WHERE 1=1; DROP TABLE y; --""#
        );
    }
}
