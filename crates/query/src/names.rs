//! Which names a query uses of which table: a store whose records have no fixed columns must know before anybody
//! can ask it for a schema.

use datafusion::common::TableReference;
use datafusion::sql::sqlparser::ast::{
    Expr, Ident, Join, JoinConstraint, JoinOperator, ObjectName, Query, Select, SelectItem, TableAlias,
    TableFactor, TableWithJoins, Visitor,
};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

/// A column's name as it stands in the SQL.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Written {
    /// The column that SQL takes it for.
    pub column: String,
    /// The text, where it has capitals and no quotes, so that the column is another than it may seem.
    pub seems: Option<String>,
}

/// The names that a query uses.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// By what stands before the point: an alias, or a table's own name.
    qualified: BTreeMap<String, BTreeSet<Written>>,
    /// Without anything before them.
    bare: BTreeSet<Written>,
    /// The tables that an alias stands for.
    aliases: BTreeMap<String, BTreeSet<TableReference>>,
    /// What the query itself calls its results.
    outputs: BTreeSet<String>,
    /// Whether `*` stands for all columns somewhere.
    pub star: bool,
    /// Functions in the place of tables.
    pub functions: BTreeSet<String>,
    /// Tables with capitals and without quotes, as they are written.
    pub unquoted_tables: BTreeSet<String>,
}

impl Names {
    /// The names that may be columns of the table: those that are said to be its own, and those without a
    /// table before them.
    pub(crate) fn of(&self, table: &TableReference) -> (BTreeSet<Written>, &BTreeSet<Written>) {
        let stands_for = |qualifier: &str| match self.aliases.get(qualifier) {
            Some(tables) => tables.contains(table),
            None => qualifier == table.table(),
        };
        let own = self.qualified.iter().filter(|(qualifier, _)| stands_for(qualifier));
        (own.flat_map(|(_, names)| names.iter().cloned()).collect(), &self.bare)
    }

    /// Whether the query itself gives this name to a result.
    pub(crate) fn is_output(&self, name: &str) -> bool {
        self.outputs.contains(name)
    }

    fn relation(&mut self, name: &ObjectName, alias: Option<&TableAlias>) {
        let parts: Vec<&Ident> = name.0.iter().filter_map(|part| part.as_ident()).collect();
        if parts.iter().any(|part| seems(part).is_some()) {
            self.unquoted_tables.insert(name.to_string());
        }
        let parts: Vec<String> = parts.into_iter().map(normalized).collect();
        let table = match parts.as_slice() {
            [table] => TableReference::bare(table.clone()),
            [schema, table] => TableReference::partial(schema.clone(), table.clone()),
            [catalog, schema, table] => TableReference::full(catalog.clone(), schema.clone(), table.clone()),
            _ => return,
        };
        if let Some(alias) = alias {
            self.aliases.entry(normalized(&alias.name)).or_default().insert(table);
        }
    }

    fn joins(&mut self, joined: &TableWithJoins) {
        for Join { join_operator, .. } in &joined.joins {
            let Some(JoinConstraint::Using(columns)) = constraint(join_operator) else { continue };
            let names = columns.iter().filter_map(|name| name.0.last()?.as_ident());
            self.bare.extend(names.map(written));
        }
    }
}

impl Visitor for Names {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if let Some(with) = &query.with {
            self.outputs.extend(with.cte_tables.iter().flat_map(|cte| {
                cte.alias.columns.iter().map(|column| normalized(&column.name)).collect::<Vec<_>>()
            }));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        for item in &select.projection {
            match item {
                SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..) => self.star = true,
                SelectItem::ExprWithAlias { alias, .. } => {
                    self.outputs.insert(normalized(alias));
                }
                SelectItem::ExprWithAliases { aliases, .. } => {
                    self.outputs.extend(aliases.iter().map(normalized));
                }
                SelectItem::UnnamedExpr(_) => {}
            }
        }
        select.from.iter().for_each(|joined| self.joins(joined));
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        match factor {
            TableFactor::Table { name, args: Some(_), .. } => {
                let name = name.0.last().and_then(|part| part.as_ident());
                self.functions.extend(name.map(normalized));
            }
            TableFactor::Table { name, alias, .. } => self.relation(name, alias.as_ref()),
            TableFactor::NestedJoin { table_with_joins, .. } => self.joins(table_with_joins),
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Identifier(name) => {
                self.bare.insert(written(name));
            }
            Expr::CompoundIdentifier(path) => {
                if let [.., qualifier, name] = path.as_slice() {
                    self.qualified.entry(normalized(qualifier)).or_default().insert(written(name));
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

fn constraint(operator: &JoinOperator) -> Option<&JoinConstraint> {
    match operator {
        JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::Left(constraint)
        | JoinOperator::LeftOuter(constraint)
        | JoinOperator::Right(constraint)
        | JoinOperator::RightOuter(constraint)
        | JoinOperator::FullOuter(constraint)
        | JoinOperator::CrossJoin(constraint)
        | JoinOperator::Semi(constraint)
        | JoinOperator::LeftSemi(constraint)
        | JoinOperator::RightSemi(constraint)
        | JoinOperator::Anti(constraint)
        | JoinOperator::LeftAnti(constraint)
        | JoinOperator::RightAnti(constraint)
        | JoinOperator::StraightJoin(constraint)
        | JoinOperator::AsOf { constraint, .. } => Some(constraint),
        _ => None,
    }
}

/// The name that SQL takes an identifier for.
fn normalized(name: &Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_ascii_lowercase() }
}

fn seems(name: &Ident) -> Option<String> {
    let differs = name.quote_style.is_none() && name.value.bytes().any(|byte| byte.is_ascii_uppercase());
    differs.then(|| name.value.clone())
}

fn written(name: &Ident) -> Written {
    Written { column: normalized(name), seems: seems(name) }
}
