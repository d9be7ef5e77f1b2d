//! What the variables of a spec stand for in a query: values are bound, never spliced; the name of a table takes its
//! place in the parsed statement, as the name that it is.

use datafusion::common::{ParamValues, ScalarValue};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{Expr, Ident, ObjectName, ObjectNamePart, VisitMut as _, VisitorMut};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use whimbrel_spec::resolved::ParameterValue;

/// What the variables in a query stand for.
#[derive(Clone, Debug, Default)]
pub struct Bindings {
    /// The values of `$name`, as text.
    pub parameters: BTreeMap<String, ParameterValue>,
    /// The tables whose names `"${name}"` stands for, in the store's own way of naming.
    pub tables: BTreeMap<String, String>,
}

impl Bindings {
    /// The parameters as the planner takes them.
    pub(crate) fn values(&self) -> ParamValues {
        let value = |value: &ParameterValue| ScalarValue::from(value.0.as_str()).into();
        ParamValues::Map(self.parameters.iter().map(|(name, held)| (name.clone(), value(held))).collect())
    }

    /// Puts the names of tables where they belong.
    pub(crate) fn name_tables(&self, statement: &mut Statement) {
        if let (Statement::Statement(statement), false) = (statement, self.tables.is_empty()) {
            // The visitor never stops early.
            let _ = statement.visit(&mut Namer(&self.tables));
        }
    }
}

struct Namer<'a>(&'a BTreeMap<String, String>);

impl Namer<'_> {
    fn name(&self, ident: &mut Ident) {
        let variable = ident.value.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
        if let (Some(table), Some('"')) = (variable.and_then(|name| self.0.get(name)), ident.quote_style) {
            ident.value.clone_from(table);
        }
    }
}

impl VisitorMut for Namer<'_> {
    type Break = ();

    fn pre_visit_relation(&mut self, relation: &mut ObjectName) -> ControlFlow<()> {
        for part in &mut relation.0 {
            if let ObjectNamePart::Identifier(ident) = part {
                self.name(ident);
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::CompoundIdentifier(path) = expr {
            path.iter_mut().for_each(|ident| self.name(ident));
        }
        ControlFlow::Continue(())
    }
}
