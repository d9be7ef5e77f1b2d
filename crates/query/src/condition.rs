//! What of a filter can be said in terms that stores understand. It says too little rather than too much: the
//! filter itself is applied to whatever the store delivers.
//!
//! As in the engine, only columns whose comparison every store shares are spoken of: text byte by byte, whole
//! and exact numbers, truth values.

use crate::numbers::Form;
use datafusion::arrow::array::{Decimal128Array, Decimal256Array};
use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::{Between, BinaryExpr, Expr, Operator};
use whimbrel_model::Logical;
use whimbrel_store::{Comparison, Condition, Literal};

/// The columns that a filter speaks of.
pub(crate) struct Columns<'a> {
    /// As the store has them.
    pub stored: &'a Schema,
    /// What each becomes in SQL.
    pub forms: &'a [Form],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    Boolean,
}

impl Columns<'_> {
    /// What every record satisfies that the filter takes; `None`: nothing can be said.
    pub(crate) fn say(&self, expr: &Expr) -> Option<Condition> {
        match expr {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::And, right }) => {
                join([self.say(left), self.say(right)].into_iter().flatten().collect(), Condition::All)
            }
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
                Some(Condition::Any(vec![self.say(left)?, self.say(right)?]))
            }
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => match (left.as_ref(), right.as_ref()) {
                (Expr::Column(column), Expr::Literal(value, _)) => {
                    self.compare(&column.name, comparison(*op)?, value)
                }
                (Expr::Literal(value, _), Expr::Column(column)) => {
                    self.compare(&column.name, comparison(op.swap()?)?, value)
                }
                _ => None,
            },
            Expr::Between(Between { expr, negated: false, low, high }) => {
                let (Expr::Column(column), Expr::Literal(low, _), Expr::Literal(high, _)) =
                    (expr.as_ref(), low.as_ref(), high.as_ref())
                else {
                    return None;
                };
                let low = self.compare(&column.name, Comparison::GreaterOrEqual, low)?;
                Some(Condition::All(vec![low, self.compare(&column.name, Comparison::LessOrEqual, high)?]))
            }
            Expr::InList(list) if !list.negated && !list.list.is_empty() => {
                let Expr::Column(column) = list.expr.as_ref() else { return None };
                let equal = |value: &Expr| match value {
                    Expr::Literal(value, _) => self.compare(&column.name, Comparison::Equal, value),
                    _ => None,
                };
                join(list.list.iter().map(equal).collect::<Option<_>>()?, Condition::Any)
            }
            Expr::Like(like) if !like.negated && !like.case_insensitive && like.escape_char.is_none() => {
                self.like(&like.expr, &like.pattern)
            }
            Expr::ScalarFunction(call) if call.name() == "starts_with" => match call.args.as_slice() {
                [Expr::Column(column), Expr::Literal(start, _)] => {
                    self.prefix(&column.name, start.try_as_str()??)
                }
                _ => None,
            },
            Expr::IsNotNull(inner) => match inner.as_ref() {
                Expr::Column(column) => Some(Condition::Present(column.name.clone())),
                _ => None,
            },
            Expr::Column(column) if self.kind(&column.name)? == Kind::Boolean => {
                Some(Condition::Compare(column.name.clone(), Comparison::Equal, Literal::Boolean(true)))
            }
            _ => None,
        }
    }

    fn kind(&self, column: &str) -> Option<Kind> {
        let (at, field) = self.stored.column_with_name(column)?;
        match field.data_type() {
            _ if self.forms.get(at) != Some(&Form::Same) => Some(Kind::Number),
            DataType::Utf8 if Logical::of(field).is_none() => Some(Kind::Text),
            DataType::Boolean => Some(Kind::Boolean),
            data_type if data_type.is_integer() => Some(Kind::Number),
            _ => None,
        }
    }

    fn compare(&self, column: &str, comparison: Comparison, value: &ScalarValue) -> Option<Condition> {
        let literal = match self.kind(column)? {
            Kind::Text => Literal::Text(value.try_as_str()??.to_owned()),
            Kind::Number => Literal::Number(number(value)?),
            Kind::Boolean => match value {
                ScalarValue::Boolean(Some(value)) if comparison == Comparison::Equal => {
                    Literal::Boolean(*value)
                }
                _ => return None,
            },
        };
        Some(Condition::Compare(column.to_owned(), comparison, literal))
    }

    /// `column LIKE 'abc%'`: up to the first character that stands for others.
    fn like(&self, expr: &Expr, pattern: &Expr) -> Option<Condition> {
        let (Expr::Column(column), Expr::Literal(pattern, _)) = (expr, pattern) else { return None };
        let text = pattern.try_as_str()??;
        match text.find(['%', '_', '\\']) {
            None => self.compare(&column.name, Comparison::Equal, pattern),
            Some(end) => self.prefix(&column.name, text.get(..end)?),
        }
    }

    fn prefix(&self, column: &str, start: &str) -> Option<Condition> {
        let useful = self.kind(column)? == Kind::Text && !start.is_empty();
        useful.then(|| Condition::StartsWith(column.to_owned(), start.to_owned()))
    }
}

/// What all of the filters say together.
pub(crate) fn all(conditions: Vec<Condition>) -> Option<Condition> {
    join(conditions, Condition::All)
}

fn join(mut conditions: Vec<Condition>, how: fn(Vec<Condition>) -> Condition) -> Option<Condition> {
    match conditions.len() {
        0 => None,
        1 => conditions.pop(),
        _ => Some(how(conditions)),
    }
}

fn comparison(operator: Operator) -> Option<Comparison> {
    match operator {
        Operator::Eq => Some(Comparison::Equal),
        Operator::Lt => Some(Comparison::Less),
        Operator::LtEq => Some(Comparison::LessOrEqual),
        Operator::Gt => Some(Comparison::Greater),
        Operator::GtEq => Some(Comparison::GreaterOrEqual),
        _ => None,
    }
}

/// An exact number as it is written.
fn number(value: &ScalarValue) -> Option<String> {
    let plain = |text: String| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    };
    match value {
        ScalarValue::Decimal128(Some(_), ..) => {
            let array = value.to_array().ok()?;
            Some(plain(array.as_any().downcast_ref::<Decimal128Array>()?.value_as_string(0)))
        }
        ScalarValue::Decimal256(Some(_), ..) => {
            let array = value.to_array().ok()?;
            Some(plain(array.as_any().downcast_ref::<Decimal256Array>()?.value_as_string(0)))
        }
        other if other.data_type().is_integer() && !other.is_null() => Some(other.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::arrow::datatypes::Field;
    use datafusion::prelude::{col, lit};
    use whimbrel_store::Comparison::{Equal, Greater, GreaterOrEqual, LessOrEqual};

    fn say(expr: &Expr) -> Option<Condition> {
        let stored = Schema::new(vec![
            Field::new("t", DataType::Utf8, true),
            Field::new("i", DataType::Int64, true),
            Field::new("b", DataType::Boolean, true),
            Field::new("f", DataType::Float64, true),
            Logical::Number.field("n", true),
            Logical::Json.field("j", true),
        ]);
        let mut forms = vec![Form::Same; 6];
        forms[4] = Form::Wide(76, 20);
        Columns { stored: &stored, forms: &forms }.say(expr)
    }

    fn compare(column: &str, how: Comparison, literal: Literal) -> Condition {
        Condition::Compare(column.to_owned(), how, literal)
    }

    fn text(value: &str) -> Literal {
        Literal::Text(value.to_owned())
    }

    fn whole(value: &str) -> Literal {
        Literal::Number(value.to_owned())
    }

    #[test]
    fn what_stores_share_is_said() {
        assert_eq!(say(&col("t").eq(lit("a"))), Some(compare("t", Equal, text("a"))));
        assert_eq!(say(&lit(5_i64).lt(col("i"))), Some(compare("i", Greater, whole("5"))));
        let decimal = ScalarValue::Decimal128(Some(1250), 10, 2);
        assert_eq!(say(&col("n").eq(lit(decimal))), Some(compare("n", Equal, whole("12.5"))));
        assert_eq!(say(&col("b")), Some(compare("b", Equal, Literal::Boolean(true))));
        let begins = Condition::StartsWith("t".to_owned(), "ab".to_owned());
        assert_eq!(say(&col("t").like(lit("ab%c"))), Some(begins.clone()));
        let between = vec![compare("i", GreaterOrEqual, whole("1")), compare("i", LessOrEqual, whole("2"))];
        assert_eq!(say(&col("i").between(lit(1_i64), lit(2_i64))), Some(Condition::All(between)));
        let any = vec![compare("t", Equal, text("a")), compare("t", Equal, text("b"))];
        assert_eq!(say(&col("t").in_list(vec![lit("a"), lit("b")], false)), Some(Condition::Any(any)));
        assert_eq!(say(&col("f").is_not_null()), Some(Condition::Present("f".to_owned())));
        let half = col("t").like(lit("ab%")).and(col("f").gt(lit(1.5)));
        assert_eq!(say(&half), Some(begins), "one side of AND is enough");
    }

    #[test]
    fn what_they_may_not_share_is_left_out() {
        for expr in [
            col("f").eq(lit(1.0)),
            col("j").eq(lit("{}")),
            col("t").not_eq(lit("a")),
            col("t").eq(lit("a")).or(col("f").eq(lit(1.0))),
            col("t").not_like(lit("a%")),
            col("t").like(lit("%a")),
            col("t").eq(col("t")),
            col("t").is_null(),
            col("t").in_list(vec![lit("a")], true),
            col("unknown").eq(lit("a")),
            col("t").eq(lit(ScalarValue::Utf8(None))),
        ] {
            assert_eq!(say(&expr), None, "{expr}");
        }
    }
}
