//! What of a flow's `where` can be said in terms that stores understand.
//!
//! It says too little rather than too much: whatever `where` is true of satisfies it. What an expression means
//! depends on the types of its columns, and those are known here only as far as the spec declares them, so
//! only three kinds of column are spoken of: text (also what is undeclared: it is compared with text only),
//! `integer` and `boolean`. A text is compared byte by byte; a store that compares otherwise, or whose
//! undeclared column holds no text, must leave the comparison to the engine.

use crate::needs;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, UnaryOperator, Value,
};
use std::collections::BTreeMap;
use whimbrel_spec::ResolvedFlow;
use whimbrel_spec::resolved::ParameterValue;
use whimbrel_store::{Comparison, Condition, Literal};

/// What every record satisfies that reaches the flow; `None`: nothing can be said.
#[must_use]
pub fn condition(flow: &ResolvedFlow) -> Option<Condition> {
    condition_of_any([flow])
}

/// What every record satisfies that reaches at least one of the flows of a scan; `None`: nothing can be said.
/// A type that one flow declares holds for all of them.
#[must_use]
pub fn condition_of_any<'a>(
    flows: impl IntoIterator<Item = &'a ResolvedFlow, IntoIter: Clone>,
) -> Option<Condition> {
    let flows = flows.into_iter();
    let mut kinds = BTreeMap::new();
    for (column, declared) in flows.clone().flat_map(|flow| &flow.columns) {
        let kind = Kind::of(declared);
        let known = kinds.entry(column.as_str()).or_insert(kind);
        if *known != kind {
            *known = Kind::Other;
        }
    }
    let say = |flow: &ResolvedFlow| {
        let expr = needs::parse_condition(flow.from.filter.as_ref()?)?;
        Reader { kinds: &kinds, parameters: &flow.parameters }.say(&expr)
    };
    any(flows.map(say).collect::<Option<_>>()?)
}

struct Reader<'a> {
    /// Of the columns whose type is declared.
    kinds: &'a BTreeMap<&'a str, Kind>,
    parameters: &'a BTreeMap<String, ParameterValue>,
}

/// What a column's comparisons mean.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Byte by byte.
    Text,
    /// As whole numbers.
    Integer,
    /// True or false.
    Boolean,
    /// As something whose comparison no store can be trusted to share: instants in many spellings, floats.
    Other,
}

impl Kind {
    fn of(declared: &str) -> Self {
        match declared {
            "text" => Self::Text,
            "integer" => Self::Integer,
            "boolean" => Self::Boolean,
            _ => Self::Other,
        }
    }
}

impl Reader<'_> {
    fn say(&self, expr: &Expr) -> Option<Condition> {
        match expr {
            Expr::Nested(inner) | Expr::IsTrue(inner) => self.say(inner),
            Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
                all([self.say(left), self.say(right)].into_iter().flatten().collect())
            }
            Expr::BinaryOp { left, op: BinaryOperator::Or, right } => {
                any(vec![self.say(left)?, self.say(right)?])
            }
            Expr::BinaryOp { left, op, right } => self.compare(left, comparison(op)?, right),
            Expr::Between { expr, negated: false, low, high } => {
                let low = self.compare(expr, Comparison::GreaterOrEqual, low);
                let high = self.compare(expr, Comparison::LessOrEqual, high);
                all([low, high].into_iter().flatten().collect())
            }
            Expr::InList { expr, list, negated: false } => {
                let equals = list.iter().map(|value| self.compare(expr, Comparison::Equal, value));
                any(equals.collect::<Option<_>>()?)
            }
            Expr::Like { negated: false, any: false, expr, pattern, escape_char: None } => {
                self.like(expr, pattern)
            }
            Expr::IsNotNull(inner) => needs::column(inner).map(Condition::Present),
            Expr::Function(call) => self.starts_with(call),
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) => {
                let column = needs::column(expr).filter(|column| self.kind(column) == Kind::Boolean)?;
                Some(Condition::Compare(column, Comparison::Equal, Literal::Boolean(true)))
            }
            _ => None,
        }
    }

    fn kind(&self, column: &str) -> Kind {
        self.kinds.get(column).copied().unwrap_or(Kind::Text)
    }

    /// A column compared with a value, or a value with a column.
    fn compare(&self, left: &Expr, comparison: Comparison, right: &Expr) -> Option<Condition> {
        let (column, comparison, value) = match (needs::column(left), needs::column(right)) {
            (Some(column), None) => (column, comparison, right),
            (None, Some(column)) => (column, turned(comparison), left),
            _ => return None,
        };
        let literal = match self.kind(&column) {
            Kind::Text => Literal::Text(self.text(value)?),
            Kind::Integer => Literal::Number(self.integer(value)?),
            Kind::Boolean if comparison == Comparison::Equal => Literal::Boolean(boolean(value)?),
            Kind::Boolean | Kind::Other => return None,
        };
        Some(Condition::Compare(column, comparison, literal))
    }

    /// `column LIKE 'abc%'`: up to the first character that stands for others.
    fn like(&self, expr: &Expr, pattern: &Expr) -> Option<Condition> {
        let column = self.text_column(expr)?;
        let pattern = self.text(pattern)?;
        match pattern.find(['%', '_', '\\']) {
            None => Some(Condition::Compare(column, Comparison::Equal, Literal::Text(pattern))),
            Some(end) => prefix(column, pattern.get(..end)?),
        }
    }

    fn starts_with(&self, call: &Function) -> Option<Condition> {
        let [name] = call.name.0.as_slice() else { return None };
        let FunctionArguments::List(arguments) = &call.args else { return None };
        let [
            FunctionArg::Unnamed(FunctionArgExpr::Expr(text)),
            FunctionArg::Unnamed(FunctionArgExpr::Expr(start)),
        ] = arguments.args.as_slice()
        else {
            return None;
        };
        if needs::normalized(name.as_ident()?) != "starts_with" {
            return None;
        }
        prefix(self.text_column(text)?, &self.text(start)?)
    }

    fn text_column(&self, expr: &Expr) -> Option<String> {
        needs::column(expr).filter(|column| self.kind(column) == Kind::Text)
    }

    /// The text that an expression is in every record: a constant, a parameter, several of them joined.
    fn text(&self, expr: &Expr) -> Option<String> {
        match expr {
            Expr::Nested(inner) => self.text(inner),
            Expr::BinaryOp { left, op: BinaryOperator::StringConcat, right } => {
                Some(self.text(left)? + &self.text(right)?)
            }
            Expr::Value(value) => match &value.value {
                Value::SingleQuotedString(text) => Some(text.clone()),
                Value::DollarQuotedString(text) => Some(text.value.clone()),
                Value::Placeholder(name) => {
                    self.parameters.get(name.strip_prefix('$')?).map(|value| value.0.clone())
                }
                _ => None,
            },
            _ => None,
        }
    }

    /// A whole number, written as one or as text, in its shortest form.
    fn integer(&self, expr: &Expr) -> Option<String> {
        let whole = |text: &str| text.parse::<i64>().ok().map(|number| number.to_string());
        match expr {
            Expr::Nested(inner) => self.integer(inner),
            Expr::UnaryOp { op: UnaryOperator::Minus, expr } => match expr.as_ref() {
                Expr::Value(value) => match &value.value {
                    Value::Number(number, _) => whole(&format!("-{number}")),
                    _ => None,
                },
                _ => None,
            },
            Expr::Value(value) => match &value.value {
                Value::Number(number, _) => whole(number),
                // The planner turns the text into a number. Only what is surely read as this one is said.
                _ => self.text(expr).filter(|text| whole(text).as_ref() == Some(text)),
            },
            _ => None,
        }
    }
}

fn boolean(expr: &Expr) -> Option<bool> {
    match expr {
        Expr::Nested(inner) => boolean(inner),
        Expr::Value(value) => match value.value {
            Value::Boolean(value) => Some(value),
            _ => None,
        },
        _ => None,
    }
}

fn comparison(operator: &BinaryOperator) -> Option<Comparison> {
    match operator {
        BinaryOperator::Eq => Some(Comparison::Equal),
        BinaryOperator::Lt => Some(Comparison::Less),
        BinaryOperator::LtEq => Some(Comparison::LessOrEqual),
        BinaryOperator::Gt => Some(Comparison::Greater),
        BinaryOperator::GtEq => Some(Comparison::GreaterOrEqual),
        _ => None,
    }
}

/// The comparison of the same two values the other way round.
fn turned(comparison: Comparison) -> Comparison {
    match comparison {
        Comparison::Equal => Comparison::Equal,
        Comparison::Less => Comparison::Greater,
        Comparison::LessOrEqual => Comparison::GreaterOrEqual,
        Comparison::Greater => Comparison::Less,
        Comparison::GreaterOrEqual => Comparison::LessOrEqual,
    }
}

/// An empty beginning says nothing that a store could use.
fn prefix(column: String, start: &str) -> Option<Condition> {
    (!start.is_empty()).then(|| Condition::StartsWith(column, start.to_owned()))
}

fn all(parts: Vec<Condition>) -> Option<Condition> {
    let flat = parts.into_iter().flat_map(|part| match part {
        Condition::All(inner) => inner,
        other => vec![other],
    });
    joined(flat, Condition::All)
}

fn any(parts: Vec<Condition>) -> Option<Condition> {
    let flat = parts.into_iter().flat_map(|part| match part {
        Condition::Any(inner) => inner,
        other => vec![other],
    });
    joined(flat, Condition::Any)
}

fn joined(
    parts: impl Iterator<Item = Condition>,
    join: fn(Vec<Condition>) -> Condition,
) -> Option<Condition> {
    let mut distinct: Vec<Condition> = Vec::new();
    for part in parts {
        if !distinct.contains(&part) {
            distinct.push(part);
        }
    }
    match distinct.len() {
        0 => None,
        1 => distinct.pop(),
        _ => Some(join(distinct)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::needs::tests::bare_flow;
    use crate::transform::Compiler;
    use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray};
    use std::sync::Arc;

    const PARAMETERS: &[(&str, &str)] =
        &[("p", "MSG#"), ("n", "5"), ("pad", "05"), ("like", "a%"), ("user", "7")];
    const COLUMNS: &[(&str, &str)] =
        &[("n", "integer"), ("flag", "boolean"), ("at", "timestamp"), ("f", "float")];

    fn filtering(sql: &str) -> ResolvedFlow {
        let owned = |pair: &(&str, &str)| (pair.0.to_owned(), pair.1.to_owned());
        let mut flow = bare_flow();
        flow.from.filter = Some(sql.into());
        flow.columns = COLUMNS.iter().map(owned).collect();
        let parameters = PARAMETERS.iter().map(owned);
        flow.parameters = parameters.map(|(name, value)| (name, ParameterValue(value))).collect();
        flow
    }

    /// A short form: `sk^MSG#` begins with, `sk?` is present.
    fn shown(condition: &Condition) -> String {
        let list = |parts: &[Condition], word: &str| {
            format!("({})", parts.iter().map(shown).collect::<Vec<_>>().join(word))
        };
        match condition {
            Condition::All(parts) => list(parts, " & "),
            Condition::Any(parts) => list(parts, " | "),
            Condition::StartsWith(column, start) => format!("{column}^{start}"),
            Condition::Present(column) => format!("{column}?"),
            Condition::Compare(column, comparison, literal) => {
                let sign = match comparison {
                    Comparison::Equal => "=",
                    Comparison::Less => "<",
                    Comparison::LessOrEqual => "<=",
                    Comparison::Greater => ">",
                    Comparison::GreaterOrEqual => ">=",
                };
                match literal {
                    Literal::Text(text) => format!("{column}{sign}'{text}'"),
                    Literal::Number(text) => format!("{column}{sign}{text}"),
                    Literal::Boolean(value) => format!("{column}{sign}{value}"),
                }
            }
        }
    }

    fn said(sql: &str) -> String {
        condition(&filtering(sql)).map_or_else(|| "-".to_owned(), |condition| shown(&condition))
    }

    const SAID: &[(&str, &str)] = &[
        ("starts_with(sk, 'MSG#')", "sk^MSG#"),
        ("STARTS_WITH(input.sk, $p)", "sk^MSG#"),
        ("sk LIKE 'MSG#%'", "sk^MSG#"),
        ("sk LIKE 'a_b%'", "sk^a"),
        ("sk LIKE 'a\\_b%'", "sk^a"),
        ("sk LIKE 'abc'", "sk='abc'"),
        ("sk LIKE $like", "sk^a"),
        ("pk = 'a'", "pk='a'"),
        ("'a' = pk", "pk='a'"),
        ("('a') < (pk)", "pk>'a'"),
        ("'b' >= pk", "pk<='b'"),
        ("pk = 'MSG#' || $user", "pk='MSG#7'"),
        ("pk = $p AND sk > 'a'", "(pk='MSG#' & sk>'a')"),
        ("pk = 'a' AND sk >= 'b' AND sk <= 'c'", "(pk='a' & sk>='b' & sk<='c')"),
        ("pk = 'a' AND length(sk) > 1", "pk='a'"),
        ("pk = 'a' OR length(sk) > 1", "-"),
        ("pk = 'a' OR sk = 'b' OR pk = 'a'", "(pk='a' | sk='b')"),
        ("(pk = 'a' OR sk = 'b') AND sk <> 'x'", "(pk='a' | sk='b')"),
        ("pk IN ('a', 'b', $p)", "(pk='a' | pk='b' | pk='MSG#')"),
        ("pk IN ('a', sk)", "-"),
        ("pk IN ('a', 5)", "-"),
        ("sk BETWEEN 'a' AND 'b'", "(sk>='a' & sk<='b')"),
        ("sk BETWEEN 'a' AND pk", "sk>='a'"),
        ("sk IS NOT NULL", "sk?"),
        ("(pk = 'a') IS TRUE", "pk='a'"),
        ("n > 5", "n>5"),
        ("-5 < n", "n>-5"),
        ("n = $n", "n=5"),
        ("n IN (1, 2)", "(n=1 | n=2)"),
        ("n BETWEEN 1 AND 5", "(n>=1 & n<=5)"),
        ("flag", "flag=true"),
        ("flag AND pk = 'a'", "(flag=true & pk='a')"),
        ("flag = false", "flag=false"),
        ("pk = $$a$$", "pk='a'"),
    ];

    /// Of these nothing is said.
    const UNSAID: &[&str] = &[
        "pk <> 'a'",
        "NOT pk = 'a'",
        "NOT (pk = 'a' AND sk = 'b')",
        "pk NOT IN ('a')",
        "pk NOT LIKE 'a%'",
        "pk NOT BETWEEN 'a' AND 'b'",
        "pk IS NULL",
        "pk IS DISTINCT FROM 'a'",
        "(pk = 'a') IS NOT TRUE",
        "pk = sk",
        "upper(pk) = 'A'",
        "pk ILIKE 'a%'",
        "pk LIKE '%a'",
        "starts_with(sk, '')",
        "starts_with('abc', sk)",
        "starts_with(sk, pk)",
        "pk = NULL",
        "true",
        "'a' = 'a'",
        "n > 5.5",
        "n = $pad",
        "n > 9223372036854775808",
        "f > 5",
        "at > '2024-01-01'",
        "at >= $p",
        "cast(pk AS varchar) = 'a'",
        "pk = cast('a' AS varchar)",
        "flag > false",
    ];

    #[test]
    fn what_can_be_said_is_said() {
        for (sql, expected) in SAID {
            assert_eq!(said(sql), *expected, "{sql}");
        }
        for sql in UNSAID {
            assert_eq!(said(sql), "-", "{sql}");
        }
        // A number compared with what may be text means another thing to each store.
        assert_eq!(said("pk = 5"), "-");
        assert_eq!(condition(&bare_flow()), None);
        for broken in ["pk = = 'a'", "pk = 'a'), (sk = 'b'", ""] {
            assert_eq!(said(broken), "-", "{broken}");
        }
        assert_eq!(said("\"userId\" = 'a' AND userId = 'b'"), "(userId='a' & userid='b')");
    }

    #[test]
    fn a_scan_is_said_only_where_all_of_its_flows_are() {
        let (a, b) = (filtering("starts_with(sk, 'A#')"), filtering("sk LIKE 'B#%'"));
        assert_eq!(shown(&condition_of_any([&a, &b, &a]).unwrap()), "(sk^A# | sk^B#)");
        assert_eq!(shown(&condition_of_any([&a, &a]).unwrap()), "sk^A#");
        assert_eq!(condition_of_any([&a, &filtering("upper(sk) = 'B'")]), None);
        assert_eq!(condition_of_any([&a, &bare_flow()]), None);
        // What another flow of the scan declares is the type for this one, too.
        let mut declaring = filtering("starts_with(pk, 'A#')");
        declaring.columns.extend([("sk".to_owned(), "timestamp".to_owned())]);
        assert_eq!(condition_of_any([&a, &declaring]), None);
        declaring.columns.extend([("sk".to_owned(), "text".to_owned())]);
        assert_eq!(shown(&condition_of_any([&a, &declaring]).unwrap()), "(sk^A# | pk^A#)");
    }

    struct Row {
        pk: Option<&'static str>,
        sk: Option<&'static str>,
        n: Option<i64>,
        flag: Option<bool>,
    }

    impl Row {
        fn satisfies(&self, condition: &Condition) -> bool {
            let text = |column: &str| if column == "pk" { self.pk } else { self.sk };
            match condition {
                Condition::All(parts) => parts.iter().all(|part| self.satisfies(part)),
                Condition::Any(parts) => parts.iter().any(|part| self.satisfies(part)),
                Condition::StartsWith(column, start) => {
                    text(column).is_some_and(|text| text.starts_with(start))
                }
                Condition::Present(column) => text(column).is_some(),
                Condition::Compare(column, comparison, literal) => {
                    let order = match literal {
                        Literal::Text(value) => text(column).map(|text| text.cmp(value.as_str())),
                        Literal::Number(value) => self.n.map(|n| n.cmp(&value.parse().unwrap())),
                        Literal::Boolean(value) => self.flag.map(|flag| flag.cmp(value)),
                    };
                    order.is_some_and(|order| match comparison {
                        Comparison::Equal => order.is_eq(),
                        Comparison::Less => order.is_lt(),
                        Comparison::LessOrEqual => order.is_le(),
                        Comparison::Greater => order.is_gt(),
                        Comparison::GreaterOrEqual => order.is_ge(),
                    })
                }
            }
        }
    }

    fn rows() -> Vec<Row> {
        let texts = [
            None,
            Some(""),
            Some("MSG#"),
            Some("MSG#7"),
            Some("a"),
            Some("a_b"),
            Some("abc"),
            Some("b"),
            Some("ü"),
        ];
        let numbers = [None, Some(-5), Some(1), Some(5), Some(i64::MAX)];
        let mut rows = Vec::new();
        for (index, pk) in texts.into_iter().enumerate() {
            for sk in texts {
                for n in numbers {
                    let flag = [None, Some(true), Some(false)][(index + rows.len()) % 3];
                    rows.push(Row { pk, sk, n, flag });
                }
            }
        }
        rows
    }

    /// The engine's own evaluation is the oracle: nothing that `where` is true of is left out.
    #[test]
    fn every_record_that_is_wanted_satisfies_it() {
        let rows = rows();
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("pk", Arc::new(rows.iter().map(|row| row.pk).collect::<StringArray>())),
            ("sk", Arc::new(rows.iter().map(|row| row.sk).collect::<StringArray>())),
            ("n", Arc::new(rows.iter().map(|row| row.n).collect::<Int64Array>())),
            ("flag", Arc::new(rows.iter().map(|row| row.flag).collect::<BooleanArray>())),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let parameters = PARAMETERS.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let compiler = Compiler::new(&batch.schema(), &parameters.collect()).unwrap();
        let (mut tried, mut left_out) = (0, 0);
        for (sql, _) in SAID {
            let Some(condition) = condition(&filtering(sql)) else { continue };
            let verdicts =
                compiler.predicate(sql).unwrap_or_else(|error| panic!("{sql}: {error}")).evaluate(&batch);
            let mut found = 0;
            for (row, verdict) in rows.iter().zip(verdicts) {
                let satisfied = row.satisfies(&condition);
                left_out += usize::from(!satisfied);
                if verdict == Ok(Some(true)) {
                    found += 1;
                    let seen = (row.pk, row.sk, row.n, row.flag);
                    assert!(satisfied, "{sql}: {} leaves out {seen:?}", shown(&condition));
                }
            }
            assert!(found > 0, "{sql} is never true");
            tried += 1;
        }
        assert!(tried > 25 && left_out > 5_000, "{tried}, {left_out}");
    }
}
