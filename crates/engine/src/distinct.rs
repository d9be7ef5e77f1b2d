//! Whether two records of one key can meet in a target.
//!
//! They cannot where the target's key is an injective function of the source's: where each column of the
//! source's key can be read back out of the target's key. That is decided on the expressions alone, and
//! carefully: what is not recognised proves nothing.

use crate::error::Result;
use crate::migration::{Migration, ScanFlow};
use arrow::datatypes::{DataType, Schema};
use datafusion::logical_expr::{Expr, Operator};
use std::collections::BTreeSet;
use whimbrel_model::Logical;
use whimbrel_store::Mode;

/// Tells the targets of which it is certain that no two records of the run share a key there. Where a key is made of
/// text or of fractions that is left to the targets' own keys: what is distinct to a source may be one to a target.
pub(crate) async fn tell(migration: &Migration) -> Result<()> {
    for (scan, flow) in migration.flows() {
        let place = |flow: &ScanFlow| (flow.store.clone(), flow.plan.target.resource());
        let own = place(flow);
        let writers = migration.flows().filter(|(_, other)| place(other) == own).count();
        let plan = &flow.plan;
        if writers == 1 && plan.mode == Mode::Insert && plan.has_exact_key() {
            let is_certain = scan.spilled.is_none() && scan.source.delivers_keys_once().await?;
            if is_certain {
                plan.target.expect_distinct_keys();
            }
        }
    }
    Ok(())
}

/// A piece of a key's text.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    /// The same in every record.
    Constant(String),
    /// A column; `plain` where its text holds nothing but digits, letters a to f, and hyphens.
    Column { name: String, plain: bool },
}

/// The source columns that can be read back out of an expression's value; `None` where that is not known.
#[must_use]
pub fn readable_columns(expr: &Expr, input: &Schema) -> Option<BTreeSet<String>> {
    let pieces = pieces(expr, input)?;
    let free = pieces.iter().filter(|piece| matches!(piece, Piece::Column { plain: false, .. })).count();
    if free > 1 {
        return None;
    }
    // Between two columns something must stand that cannot be part of a plain one.
    let mut separated = true;
    let mut columns = BTreeSet::new();
    for piece in pieces {
        match piece {
            Piece::Constant(text) => {
                separated |= text.contains(|c: char| !(c.is_ascii_hexdigit() || c == '-'));
            }
            Piece::Column { name, .. } if separated => {
                columns.insert(name);
                separated = false;
            }
            Piece::Column { .. } => return None,
        }
    }
    Some(columns)
}

fn pieces(expr: &Expr, input: &Schema) -> Option<Vec<Piece>> {
    match expr {
        Expr::Literal(value, _) => Some(vec![Piece::Constant(value.to_string())]),
        Expr::Column(column) => {
            let field = input.field_with_name(&column.name).ok()?;
            let plain = field.data_type().is_integer() || Logical::of(field) == Some(Logical::Uuid);
            let exact = plain || matches!(field.data_type(), DataType::Utf8 | DataType::Boolean);
            exact.then(|| vec![Piece::Column { name: column.name.clone(), plain }])
        }
        Expr::Cast(cast) if cast.field.data_type().is_string() => pieces(&cast.expr, input),
        Expr::BinaryExpr(binary) if binary.op == Operator::StringConcat => {
            let mut left = pieces(&binary.left, input)?;
            left.extend(pieces(&binary.right, input)?);
            Some(left)
        }
        Expr::ScalarFunction(call) if call.name() == "concat" => {
            let parts = call.args.iter().map(|argument| pieces(argument, input));
            Some(parts.collect::<Option<Vec<_>>>()?.concat())
        }
        Expr::ScalarFunction(call) if call.name() == "fixed_width" => pieces(call.args.first()?, input),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::transform::Compiler;
    use arrow::datatypes::{DataType, Field, Schema};
    use std::collections::BTreeMap;
    use std::sync::Arc;

    fn distinct(key: &str, source_key: &[&str]) -> bool {
        let fields = vec![
            Field::new("id", DataType::Int64, false),
            Field::new("other", DataType::Int64, false),
            Field::new("name", DataType::Utf8, false),
            Field::new("town", DataType::Utf8, false),
            Field::new("share", DataType::Float64, false),
        ];
        let compiler = Compiler::new(&Arc::new(Schema::new(fields)), &BTreeMap::new()).unwrap();
        let transform = compiler.transform(Some(&format!("SELECT {key} FROM input"))).unwrap();
        let source_key: Vec<String> = source_key.iter().map(|name| (*name).to_owned()).collect();
        transform.tells_apart(&["pk".to_owned(), "sk".to_owned()], &source_key)
    }

    #[test]
    fn what_can_be_read_back_tells_records_apart() {
        for (key, source_key) in [
            ("'U#' || id AS pk, 'M' AS sk", &["id"][..]),
            ("'U#' || id AS pk, 'F#' || other AS sk", &["id", "other"]),
            ("'U#' || id || '#' || other AS pk", &["id", "other"]),
            ("'U#' || id || '#' || name AS pk", &["id", "name"]),
            ("'P#' || name AS pk, 'T#' || town AS sk", &["name", "town"]),
            ("'C#' || fixed_width(other, 10) || '#' || id AS pk", &["id"]),
            ("concat('C#', cast(id AS varchar)) AS pk", &["id"]),
            ("id AS pk, other AS sk", &["id", "other"]),
        ] {
            assert!(distinct(key, source_key), "{key}");
        }
    }

    #[test]
    fn what_cannot_proves_nothing() {
        for (key, source_key) in [
            ("'U#' || id AS pk", &["id", "other"][..]),
            ("'U' || id || other AS pk", &["id", "other"]),
            ("name || '#' || town AS pk", &["name", "town"]),
            ("upper(name) AS pk", &["name"]),
            ("'U#' || share AS pk", &["share"]),
            ("'same' AS pk", &["id"]),
            ("'U#' || id AS other_column", &["id"]),
            ("'U#' || id AS pk", &[]),
        ] {
            assert!(!distinct(key, source_key), "{key}");
        }
    }
}
