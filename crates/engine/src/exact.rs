//! Comparisons of exact numbers, which travel as text: by value, whatever their digits.
//!
//! Both sides become texts that sort as the numbers do ([`whimbrel_model::decimal::Decimal::sort_key`]), so that
//! DataFusion's own comparison of texts answers. Those of constants are made once, when the SQL is compiled.

use crate::functions;
use crate::meaning::meaning;
use crate::transform::TransformError;
use arrow::datatypes::{DataType, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, DataFusionError, ScalarValue};
use datafusion::logical_expr::expr::{Between, InList};
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, Operator, cast, lit};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use whimbrel_model::Logical;
use whimbrel_model::decimal::Decimal;

/// Whether a number of the SQL has more digits than a float holds.
#[must_use]
pub fn has_long_number(sql: &str) -> bool {
    let Ok(tokens) = Tokenizer::new(&PostgreSqlDialect {}, sql).tokenize() else { return false };
    let is_long = |text: &String| {
        let float = text.parse::<f64>().ok().filter(|float| float.is_finite());
        text.parse::<u64>().is_err() && float.and_then(of_float) != Decimal::parse(text)
    };
    tokens.iter().any(|token| matches!(token, Token::Number(text, _) if is_long(text)))
}

fn of_float(float: f64) -> Option<Decimal> {
    Decimal::parse(&float.to_string())
}

/// The expression with its comparisons of exact numbers by value. Those that have another side of which it is
/// unclear what its digits are (a float, a text) stay as they are.
///
/// # Errors
/// A number is compared with a constant that is none.
pub fn comparisons(expr: Expr, input: &Schema, schema: &DFSchema) -> Result<Expr, TransformError> {
    let mut wrong = None;
    let compared = Compared { input, schema };
    let changed = expr.transform_up(|expr| match compared.by_value(&expr) {
        Ok(Some(changed)) => Ok(Transformed::yes(changed)),
        Ok(None) => Ok(Transformed::no(expr)),
        Err(error) => {
            wrong = Some(error);
            Err(DataFusionError::Internal(String::new()))
        }
    });
    match (changed, wrong) {
        (_, Some(error)) => Err(error),
        (Ok(changed), None) => Ok(changed.data),
        (Err(error), None) => Err(TransformError::new(error.strip_backtrace())),
    }
}

struct Compared<'a> {
    input: &'a Schema,
    schema: &'a DFSchema,
}

impl Compared<'_> {
    /// The comparison by value; `None`: it is no comparison, or none of exact numbers.
    fn by_value(&self, expr: &Expr) -> Result<Option<Expr>, TransformError> {
        Ok(match expr {
            Expr::BinaryExpr(binary) if is_comparison(binary.op) => {
                let sides = self.keys(&[&binary.left, &binary.right])?;
                sides.map(|sides| {
                    let [left, right] = sides.map(Box::new);
                    Expr::BinaryExpr(BinaryExpr { left, op: binary.op, right })
                })
            }
            Expr::Between(between) => {
                let sides = self.keys(&[&between.expr, &between.low, &between.high])?;
                sides.map(|sides| {
                    let [expr, low, high] = sides.map(Box::new);
                    Expr::Between(Between { expr, negated: between.negated, low, high })
                })
            }
            Expr::InList(list) => {
                let sides: Vec<&Expr> = std::iter::once(&*list.expr).chain(&list.list).collect();
                self.key_list(&sides)?.and_then(|keys| {
                    let mut keys = keys.into_iter();
                    let expr = Box::new(keys.next()?);
                    Some(Expr::InList(InList { expr, list: keys.collect(), negated: list.negated }))
                })
            }
            _ => None,
        })
    }

    fn keys<const N: usize>(&self, sides: &[&Expr; N]) -> Result<Option<[Expr; N]>, TransformError> {
        Ok(self.key_list(sides)?.and_then(|keys| keys.try_into().ok()))
    }

    /// What sorts as each of the sides does; `None`: none of them is an exact number, or one cannot be compared.
    fn key_list(&self, sides: &[&Expr]) -> Result<Option<Vec<Expr>>, TransformError> {
        let is_number = |expr: &&&Expr| meaning(expr, self.input) == Some(Logical::Number);
        let Some(number) = sides.iter().find(is_number) else { return Ok(None) };
        let mut keys = Vec::with_capacity(sides.len());
        for side in sides {
            let Some(digits) = self.digits(side, number)? else { return Ok(None) };
            keys.push(functions::number_order().call(vec![digits]));
        }
        Ok(Some(keys))
    }

    /// The text of an operand's digits; `None`: it is unclear what they are.
    fn digits(&self, side: &Expr, number: &Expr) -> Result<Option<Expr>, TransformError> {
        if meaning(side, self.input) == Some(Logical::Number) {
            return Ok(Some(side.clone()));
        }
        match side {
            Expr::Negative(inner) => match inner.as_ref() {
                Expr::Literal(ScalarValue::Float64(Some(float)), _) => Ok(Some(lit((-float).to_string()))),
                _ => Ok(self.cast(side)),
            },
            Expr::Literal(value, _) if value.is_null() => Ok(Some(lit(ScalarValue::Utf8(None)))),
            Expr::Literal(ScalarValue::Float64(Some(float)), _) => Ok(Some(lit(float.to_string()))),
            Expr::Literal(value, _) => match value.try_as_str().flatten() {
                Some(text) if functions::order_of_number(text).is_some() => Ok(Some(lit(text))),
                Some(text) => {
                    let short: String = text.chars().take(40).collect();
                    let message = format!("{number} is a number, and it is compared with {short:?}");
                    let mut error = TransformError::new(message.replace("input.", ""));
                    error.hint = Some("compare it with a number: x > 5, x IN (1, 2.50)".to_owned());
                    Err(error)
                }
                None => Ok(self.cast(side)),
            },
            _ => Ok(self.cast(side)),
        }
    }

    /// Whole numbers and decimals, whose text has every digit.
    fn cast(&self, side: &Expr) -> Option<Expr> {
        let data_type = side.get_type(self.schema).ok()?;
        let is_exact = data_type.is_integer() || data_type.is_decimal();
        is_exact.then(|| cast(side.clone(), DataType::Utf8))
    }
}

fn is_comparison(operator: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(operator, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

#[cfg(test)]
mod tests {
    use super::has_long_number;
    use crate::transform::Compiler;
    use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use whimbrel_model::Logical;

    const NUMBERS: [Option<&str>; 9] = [
        Some("-1.5"),
        Some("0"),
        Some("9"),
        Some("10.50"),
        Some("12345678901234567890123456789012345678"),
        Some("12345678901234567890123456789012345679"),
        Some("NaN"),
        Some("-Infinity"),
        None,
    ];

    fn true_of(sql: &str) -> Result<Vec<usize>, String> {
        let fields = vec![
            Logical::Number.field("n", true),
            Logical::Number.field("m", true),
            Field::new("id", DataType::Int64, false),
            Field::new("name", DataType::Utf8, false),
            Field::new("f", DataType::Float64, false),
        ];
        let schema = Arc::new(Schema::new(fields));
        let numbers: ArrayRef = Arc::new(StringArray::from_iter(NUMBERS));
        let columns: Vec<ArrayRef> = vec![
            numbers,
            Arc::new(StringArray::from(vec!["9.0"; NUMBERS.len()])),
            Arc::new(Int64Array::from_iter_values(0..9)),
            Arc::new(StringArray::from(vec!["9"; NUMBERS.len()])),
            Arc::new(arrow::array::Float64Array::from(vec![9.0; NUMBERS.len()])),
        ];
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
        let parameters = BTreeMap::from([("ten".to_owned(), "10".to_owned())]);
        let compiler = Compiler::new(&schema, &parameters).unwrap();
        let verdicts = compiler.predicate(sql).map_err(|error| error.to_string())?.evaluate(&batch);
        Ok((0..NUMBERS.len()).filter(|row| verdicts[*row] == Ok(Some(true))).collect())
    }

    #[test]
    fn numbers_are_compared_by_value() {
        for (sql, rows) in [
            ("n > 9", vec![3, 4, 5, 6]),
            ("9 < n", vec![3, 4, 5, 6]),
            ("n >= '9.00'", vec![2, 3, 4, 5, 6]),
            ("n < -1", vec![0, 7]),
            ("n < -1.25", vec![0, 7]),
            ("n = 10.5", vec![3]),
            ("n = 1.05e1", vec![3]),
            ("n <> 9", vec![0, 1, 3, 4, 5, 6, 7]),
            ("n IN (0, 10.5, '9.0')", vec![1, 2, 3]),
            ("n NOT IN (0, 9)", vec![0, 3, 4, 5, 6, 7]),
            ("n BETWEEN 0 AND 10.5", vec![1, 2, 3]),
            ("n NOT BETWEEN 0 AND 10.5", vec![0, 4, 5, 6, 7]),
            ("n = 12345678901234567890123456789012345678", vec![4]),
            ("n > 12345678901234567890123456789012345678", vec![5, 6]),
            ("n = 'NaN'", vec![6]),
            ("n = m", vec![2]),
            ("n > $ten", vec![3, 4, 5, 6]),
            ("n < id", vec![0, 1, 7]),
            ("n = cast(id AS decimal(10, 2)) + cast(7.5 AS decimal(10, 2))", vec![3]),
            ("n IS DISTINCT FROM 9", vec![0, 1, 3, 4, 5, 6, 7, 8]),
            ("n = NULL", vec![]),
            ("(n > 9) IS NOT TRUE", vec![0, 1, 2, 7, 8]),
            ("CASE WHEN n > 9 THEN id = 3 ELSE id = 0 END", vec![0, 3]),
            ("coalesce(n, m) >= 9 AND NOT n > 9.5", vec![2]),
            ("abs(cast(n AS double)) = 9", vec![2]),
        ] {
            assert_eq!(true_of(sql), Ok(rows), "{sql}");
        }
    }

    #[test]
    fn what_is_no_number_is_refused() {
        for (sql, said) in [
            ("n = 'abc'", "n is a number, and it is compared with \"abc\""),
            ("n = name", "`n` is an exact number"),
            ("n > f", "`n` is an exact number"),
            ("n BETWEEN f AND 9", "`n` is an exact number"),
            ("n IN (name)", "`n` is an exact number"),
            ("(upper(n) > 'A') IS TRUE", "`n` is an exact number"),
            ("n + 1 > 5", "arithmetic"),
        ] {
            let error = true_of(sql).unwrap_err();
            assert!(error.contains(said), "{sql}: {error}");
        }
    }

    #[test]
    fn long_numbers_are_told_from_texts() {
        for sql in ["x = 0.12345678901234567890", "x > 18446744073709551617", "x < 1e999"] {
            assert!(has_long_number(sql), "{sql}");
        }
        for sql in ["x = 0.1", "x > 18446744073709551615", "x = '0.12345678901234567890'", "x = 1e300", "'"] {
            assert!(!has_long_number(sql), "{sql}");
        }
    }
}
