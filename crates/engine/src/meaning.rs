//! What an expression's value means where its Arrow type does not say it: an exact number, JSON and a UUID travel
//! as text, and must not become mere text by being looked at.

use crate::functions;
use arrow::datatypes::Schema;
use datafusion::logical_expr::{Expr, Operator};
use whimbrel_model::Logical;

/// What the value of an expression means; `None`: what its Arrow type says.
#[must_use]
pub fn meaning(expr: &Expr, input: &Schema) -> Option<Logical> {
    let one = |exprs: &mut dyn Iterator<Item = &Expr>| {
        let mut meanings = exprs.filter(|expr| !is_null(expr)).map(|expr| meaning(expr, input));
        let first = meanings.next()??;
        meanings.all(|other| other == Some(first)).then_some(first)
    };
    match expr {
        Expr::Column(column) => Logical::of(input.field_with_name(&column.name).ok()?),
        Expr::Case(case) => {
            let branches = case.when_then_expr.iter().map(|(_, then)| then.as_ref());
            one(&mut branches.chain(case.else_expr.as_deref()))
        }
        Expr::ScalarFunction(call) if call.name() == "coalesce" => one(&mut call.args.iter()),
        Expr::ScalarFunction(call) if call.name() == "nullif" => meaning(call.args.first()?, input),
        Expr::ScalarFunction(call) if call.name() == "json_object" => Some(Logical::Json),
        _ => None,
    }
}

fn is_null(expr: &Expr) -> bool {
    matches!(expr, Expr::Literal(value, _) if value.is_null())
}

/// The name of an exact number that is used as if it were a float, an integer or mere text, so that digits or its
/// type would be lost on the way.
#[must_use]
pub fn misused_number(expr: &Expr, input: &Schema) -> Option<String> {
    let is_column = |expr: &&Expr| matches!(expr, Expr::Column(_));
    match expr {
        Expr::Column(_)
        | Expr::Literal(..)
        | Expr::Cast(_)
        | Expr::TryCast(_)
        | Expr::IsNull(_)
        | Expr::IsNotNull(_) => None,
        Expr::Alias(alias) => misused_number(&alias.expr, input),
        Expr::Case(case) => {
            let thens = case.when_then_expr.iter().map(|(_, then)| then.as_ref());
            let branches: Vec<&Expr> = thens.chain(case.else_expr.as_deref()).collect();
            let whens = case.when_then_expr.iter().map(|(when, _)| when.as_ref());
            let conditions: Vec<&Expr> = whens.chain(case.expr.as_deref()).collect();
            let mixed = if meaning(expr, input).is_none() { number(&branches, input) } else { None };
            mixed.or_else(|| among(&conditions, input))
        }
        // Its text is what is wanted.
        Expr::BinaryExpr(binary) if binary.op == Operator::StringConcat => {
            let mut sides = vec![binary.left.as_ref(), binary.right.as_ref()];
            sides.retain(|side| !is_column(side));
            among(&sides, input)
        }
        Expr::ScalarFunction(call) if call.name() == "concat" => {
            let pieces: Vec<&Expr> = call.args.iter().filter(|piece| !is_column(piece)).collect();
            among(&pieces, input)
        }
        // A comparison by value: nothing is lost.
        Expr::ScalarFunction(call) if call.name() == functions::NUMBER_ORDER => {
            among(&call.args.iter().collect::<Vec<_>>(), input)
        }
        Expr::ScalarFunction(_) if meaning(expr, input).is_some() => None,
        Expr::BinaryExpr(binary) => looked_at(&[binary.left.as_ref(), binary.right.as_ref()], input),
        Expr::ScalarFunction(call) => looked_at(&call.args.iter().collect::<Vec<_>>(), input),
        Expr::Negative(inner) | Expr::Not(inner) => looked_at(&[inner.as_ref()], input),
        Expr::Between(between) => looked_at(&[&between.expr, &between.low, &between.high], input),
        Expr::InList(list) => {
            looked_at(&std::iter::once(&*list.expr).chain(&list.list).collect::<Vec<_>>(), input)
        }
        Expr::IsTrue(inner)
        | Expr::IsFalse(inner)
        | Expr::IsUnknown(inner)
        | Expr::IsNotTrue(inner)
        | Expr::IsNotFalse(inner)
        | Expr::IsNotUnknown(inner) => looked_at(&[inner], input),
        _ => None,
    }
}

/// Whether one of them is an exact number, or misuses one.
fn looked_at(exprs: &[&Expr], input: &Schema) -> Option<String> {
    number(exprs, input).or_else(|| among(exprs, input))
}

fn among(exprs: &[&Expr], input: &Schema) -> Option<String> {
    exprs.iter().find_map(|expr| misused_number(expr, input))
}

/// The first of the expressions that is an exact number.
fn number(exprs: &[&Expr], input: &Schema) -> Option<String> {
    let found = exprs.iter().find(|expr| meaning(expr, input) == Some(Logical::Number));
    found.map(|expr| match expr {
        Expr::Column(column) => column.name.clone(),
        other => other.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use crate::transform::Compiler;
    use arrow::datatypes::{DataType, Field, Schema};
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use whimbrel_model::Logical;

    fn compiled(sql: &str) -> Result<Option<Logical>, String> {
        let fields = vec![
            Logical::Number.field("n", true),
            Logical::Number.field("m", true),
            Logical::Json.field("doc", true),
            Field::new("id", DataType::Int64, false),
        ];
        let compiler = Compiler::new(&Arc::new(Schema::new(fields)), &BTreeMap::new()).unwrap();
        let transform =
            compiler.transform(Some(&format!("SELECT {sql} AS x FROM input"))).map_err(|e| e.to_string())?;
        Ok(Logical::of(transform.output().field(0)))
    }

    #[test]
    fn a_choice_between_numbers_is_a_number() {
        for sql in [
            "n",
            "CASE WHEN id = 1 THEN n END",
            "CASE WHEN n IS NULL THEN m ELSE n END",
            "coalesce(n, m)",
            "nullif(n, m)",
        ] {
            assert_eq!(compiled(sql), Ok(Some(Logical::Number)), "{sql}");
        }
        assert_eq!(compiled("CASE WHEN id = 1 THEN doc END"), Ok(Some(Logical::Json)));
        assert_eq!(compiled("'N#' || n"), Ok(None));
        assert_eq!(compiled("cast(n AS decimal(20, 4)) * 2"), Ok(None));
        assert_eq!(compiled("CASE WHEN cast(n AS double) > 1 THEN 'big' ELSE 'small' END"), Ok(None));
    }

    #[test]
    fn a_number_that_would_lose_something_is_refused() {
        for sql in [
            "coalesce(n, 7)",
            "CASE WHEN id = 1 THEN n ELSE 'none' END",
            "upper(n)",
            "CASE WHEN abs(n) > 1 THEN 1 END",
        ] {
            let error = compiled(sql).unwrap_err();
            assert!(error.contains("`n` is an exact number"), "{sql}: {error}");
        }
        for sql in ["n * 2", "-n"] {
            assert!(compiled(sql).is_err(), "{sql}");
        }
    }
}
