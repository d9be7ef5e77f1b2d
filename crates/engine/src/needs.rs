//! Which columns of its source a flow looks at, as far as its spec says it: a source whose records have no
//! fixed columns must know before anybody can ask it for a schema.

use datafusion::sql::parser::{DFParserBuilder, Statement as ParsedStatement};
use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Query, Select, SelectItem, SetExpr,
    Statement, visit_expressions,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use whimbrel_spec::resolved::{Check, WriteMode};
use whimbrel_spec::{Position, ResolvedFlow, SpecError, SpecErrorKind, SqlText};

/// What a condition is wrapped into, so that it is parsed as [`crate::transform::Compiler`] does.
const BEFORE_CONDITION: &str = "SELECT (";

/// A name that stands in SQL with capitals and without quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unquoted {
    /// As it is written.
    pub written: String,
    /// The column that SQL takes it for.
    pub column: String,
    /// Where it stands in the spec.
    pub position: Position,
}

/// The source's columns that a flow looks at, as the source spells them; `None`: all of them, or the SQL cannot
/// be read, which the compiler reports better.
///
/// They are the columns in `where`, checks and transform, those that messages and samples show, and those with a
/// declared type. In `mode: update` also the columns that are written: the values that were read guard them.
#[must_use]
pub fn wanted(flow: &ResolvedFlow) -> Option<BTreeSet<String>> {
    let transform = flow.transform.as_ref()?;
    let query = parse(transform.as_str())?;
    let mut columns = exact_names(flow);
    columns.extend(names_in(&query)?.into_iter().map(|name| normalized(&name)));
    for sql in conditions(flow) {
        let names = names_in(&parse(&wrapped(sql))?)?;
        columns.extend(names.into_iter().map(|name| normalized(&name)));
    }
    // What stands in an element is not what the target held.
    if flow.into.mode == WriteMode::Update && flow.from.each.is_none() {
        columns.extend(select(&query)?.projection.iter().filter_map(output_name));
    }
    Some(columns)
}

/// The columns that at least one of the flows looks at; `None`: all.
#[must_use]
pub fn wanted_by_any<'a>(flows: impl IntoIterator<Item = &'a ResolvedFlow>) -> Option<BTreeSet<String>> {
    flows.into_iter().try_fold(BTreeSet::new(), |mut columns, flow| {
        columns.extend(wanted(flow)?);
        Some(columns)
    })
}

/// The names with capitals that stand unquoted in the flow's SQL. SQL takes them for columns in lower case; a
/// source that has whatever it is asked for would answer with a column of nothing but NULL.
#[must_use]
pub fn unquoted(flow: &ResolvedFlow) -> Vec<Unquoted> {
    let transform = flow.transform.iter().map(|sql| (sql, sql.text.clone(), 0));
    let conditions = conditions(flow).map(|sql| (sql, wrapped(sql), BEFORE_CONDITION.len()));
    let mut found = Vec::new();
    for (sql, text, before) in transform.chain(conditions) {
        for name in parse(&text).and_then(|query| names_in(&query)).into_iter().flatten() {
            if name.quote_style.is_some() || normalized(&name) == name.value {
                continue;
            }
            let start = name.span.start;
            let line = usize::try_from(start.line).unwrap_or(1).max(1);
            let column = usize::try_from(start.column).unwrap_or(1);
            let column = if line == 1 { column.saturating_sub(before) } else { column };
            found.push(Unquoted {
                column: normalized(&name),
                position: sql.span.at(line, column.max(1)),
                written: name.value,
            });
        }
    }
    found
}

/// The first name whose quotes were surely forgotten: another place of the flow spells it with capitals.
#[must_use]
pub fn forgotten_quote(flow: &ResolvedFlow) -> Option<SpecError> {
    let mut exact = exact_names(flow);
    let texts = flow.transform.iter().map(|sql| sql.text.clone()).chain(conditions(flow).map(wrapped));
    for name in texts.filter_map(|text| names_in(&parse(&text)?)).flatten() {
        if name.quote_style.is_some() {
            exact.insert(name.value);
        }
    }
    unquoted(flow).into_iter().find_map(|name| {
        let meant = exact.iter().find(|other| other.eq_ignore_ascii_case(&name.column))?;
        if exact.contains(&name.column) {
            return None;
        }
        let message = format!(
            "flow `{}`: `{}` without quotes is the column `{}`",
            flow.name, name.written, name.column
        );
        let hint = format!("a name with capitals is written in double quotes: \"{meant}\"");
        Some(SpecError::at(SpecErrorKind::Invalid, name.position, message, hint))
    })
}

/// The one condition that an SQL text holds; nothing where it is none.
pub(crate) fn parse_condition(sql: &SqlText) -> Option<Expr> {
    match select(&parse(&wrapped(sql))?)?.projection.as_slice() {
        [SelectItem::ExprWithAlias { expr, .. }] => Some(expr.clone()),
        _ => None,
    }
}

/// The column that an expression is; nothing where it is no column of `input` alone.
pub(crate) fn column(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(name) => Some(normalized(name)),
        Expr::CompoundIdentifier(path) => match path.as_slice() {
            [relation, name] if normalized(relation) == "input" => Some(normalized(name)),
            _ => None,
        },
        Expr::Nested(inner) => column(inner),
        _ => None,
    }
}

/// The name that SQL takes an identifier for, as the planner does.
pub(crate) fn normalized(name: &Ident) -> String {
    if name.quote_style.is_some() { name.value.clone() } else { name.value.to_ascii_lowercase() }
}

fn wrapped(sql: &SqlText) -> String {
    format!("{BEFORE_CONDITION}{}\n) AS predicate FROM input", sql.text)
}

/// The SQL of `where` and of the checks.
fn conditions(flow: &ResolvedFlow) -> impl Iterator<Item = &SqlText> {
    let expected = flow.checks.iter().filter_map(|check| match check {
        Check::Expect { sql, .. } => Some(sql),
        Check::Required { .. } => None,
    });
    flow.from.filter.iter().chain(expected)
}

/// The columns that the spec names outside of SQL, case kept.
fn exact_names(flow: &ResolvedFlow) -> BTreeSet<String> {
    let mut names: BTreeSet<String> = flow.columns.keys().cloned().collect();
    names.extend(template_names(flow.sample.as_deref()));
    for check in &flow.checks {
        match check {
            Check::Required { column, .. } => names.extend([column.clone()]),
            Check::Expect { message, .. } => names.extend(template_names(message.as_deref())),
        }
    }
    names
}

/// The names in a template's braces.
fn template_names(template: Option<&str>) -> impl Iterator<Item = String> {
    let openings = template.into_iter().flat_map(|template| template.split('{').skip(1));
    openings.filter_map(|rest| rest.split_once('}').map(|(name, _)| name.to_owned()))
}

/// The one query that a text holds.
fn parse(sql: &str) -> Option<Query> {
    let parser = DFParserBuilder::new(sql).with_dialect(&PostgreSqlDialect {}).build();
    let mut statements = parser.ok()?.parse_statements().ok()?;
    match (statements.pop_front()?, statements.is_empty()) {
        (ParsedStatement::Statement(statement), true) => match *statement {
            Statement::Query(query) => Some(*query),
            _ => None,
        },
        _ => None,
    }
}

fn select(query: &Query) -> Option<&Select> {
    match query.body.as_ref() {
        SetExpr::Select(select) if query.with.is_none() => Some(select),
        _ => None,
    }
}

/// The names of all columns in a query; `None` where it may look at columns that it does not name.
fn names_in(query: &Query) -> Option<Vec<Ident>> {
    let select = select(query)?;
    let names_all =
        |item: &SelectItem| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..));
    if select.projection.iter().any(names_all) {
        return None;
    }
    let mut names = Vec::new();
    let all = visit_expressions(query, |expr| {
        match expr {
            Expr::Identifier(name) => names.push(name.clone()),
            Expr::CompoundIdentifier(path) => {
                let relation = path.iter().position(|name| normalized(name) == "input");
                names.extend(path.get(relation.map_or(0, |at| at + 1)).cloned());
            }
            Expr::Wildcard(_) | Expr::QualifiedWildcard(..) => return ControlFlow::Break(()),
            Expr::Function(call) if takes_all(&call.args) => return ControlFlow::Break(()),
            _ => {}
        }
        ControlFlow::Continue(())
    });
    all.is_continue().then_some(names)
}

/// Whether a function is called with `*`.
fn takes_all(arguments: &FunctionArguments) -> bool {
    let FunctionArguments::List(list) = arguments else { return false };
    list.args.iter().any(|argument| {
        let (FunctionArg::Unnamed(value)
        | FunctionArg::Named { arg: value, .. }
        | FunctionArg::ExprNamed { arg: value, .. }) = argument;
        !matches!(value, FunctionArgExpr::Expr(_))
    })
}

/// The name under which a column comes out, where the query gives it one.
fn output_name(item: &SelectItem) -> Option<String> {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(normalized(alias)),
        SelectItem::UnnamedExpr(Expr::Identifier(name)) => Some(normalized(name)),
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(path)) => path.last().map(normalized),
        _ => None,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::transform::Compiler;
    use arrow::datatypes::{DataType, Field, Schema};
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use whimbrel_model::{FlowName, GroupName, StoreName};
    use whimbrel_spec::resolved::{FromRequest, IntoRequest, NullRule, OnDuplicate, Relation};

    /// A flow without a transform, `where` or checks.
    pub(crate) fn bare_flow() -> ResolvedFlow {
        ResolvedFlow {
            name: FlowName::new("users"),
            scan: GroupName::new("users"),
            group: None,
            after: Vec::new(),
            from: FromRequest {
                store: StoreName::new("app"),
                relation: Relation::Table("t".to_owned()),
                filter: None,
                slice_by: Vec::new(),
                each: None,
            },
            columns: BTreeMap::new(),
            checks: Vec::new(),
            transform: None,
            sample: None,
            into: IntoRequest {
                store: StoreName::new("main"),
                table: "users".to_owned(),
                key: Vec::new(),
                mode: WriteMode::Upsert,
                on_duplicate: OnDuplicate::Reject,
                order: Vec::new(),
                scope: BTreeMap::new(),
                nulls: NullRule::Omit,
                forms: BTreeMap::new(),
                ignore: Vec::new(),
                compare: whimbrel_spec::resolved::Compare::Target,
                delete_missing: false,
                allow_lossy: Vec::new(),
                guarded: None,
                shape: None,
                langchain: None,
                batch_records: None,
                batch_bytes: None,
                position: Position::START,
            },
            parameters: BTreeMap::new(),
            position: Position::START,
        }
    }

    fn transforming(sql: &str) -> ResolvedFlow {
        ResolvedFlow { transform: Some(sql.into()), ..bare_flow() }
    }

    fn columns(flow: &ResolvedFlow) -> Option<Vec<String>> {
        wanted(flow).map(|columns| columns.into_iter().collect())
    }

    /// The compiler itself is the oracle: it needs each of these columns and no other.
    #[test]
    fn the_columns_of_a_transform_are_those_that_it_compiles_over() {
        for sql in [
            r#"SELECT substr(sk, 6) AS id, "userId" AS user_id, Title FROM input"#,
            "SELECT input.a, INPUT.b AS a2 FROM input",
            "SELECT CASE WHEN a = '1' THEN b ELSE coalesce(c, 'd') END AS x FROM input WHERE e IS NULL",
            "SELECT a::varchar || $p AS x, cast(b AS bigint) + 1 AS y FROM input",
            "SELECT json_object('k', a, 'l', b) AS doc FROM input",
            "SELECT a FROM input WHERE b IN ('x', c) AND d BETWEEN e AND 'z' OR f LIKE g || '%'",
            "SELECT trim(both ' ' from a) AS a, position('x' IN b) AS b, substring(c from 2 for 3) AS c FROM input",
            "SELECT extract(year FROM cast(a AS timestamp)) AS y FROM input",
            "SELECT \"a b\", \"ü\", \"select\", \"q\"\"q\" FROM input",
            "SELECT 'a' AS b FROM input",
        ] {
            let wanted = wanted(&transforming(sql)).expect(sql);
            let compiles = |columns: &BTreeSet<String>| {
                let fields: Vec<_> =
                    columns.iter().map(|name| Field::new(name, DataType::Utf8, true)).collect();
                let parameters = BTreeMap::from([("p".to_owned(), "x".to_owned())]);
                Compiler::new(&Arc::new(Schema::new(fields)), &parameters)
                    .unwrap()
                    .transform(Some(sql))
                    .map(drop)
            };
            assert_eq!(compiles(&wanted), Ok(()), "{sql}: {wanted:?}");
            for name in &wanted {
                let mut fewer = wanted.clone();
                fewer.remove(name);
                assert!(compiles(&fewer).is_err(), "{sql} does not need `{name}`");
            }
        }
    }

    #[test]
    fn a_star_and_what_cannot_be_read_want_everything() {
        assert_eq!(columns(&bare_flow()), None);
        for sql in [
            "SELECT * FROM input",
            "SELECT a, input.* FROM input",
            "SELECT count(*) FROM input",
            "WITH x AS (SELECT 1) SELECT a FROM x",
            "TABLE input",
            "SELECT a FROM input UNION ALL SELECT b FROM input",
            "SELECT a FROM input; SELECT b FROM input",
            "DELETE FROM input",
            "SELEC",
            "",
        ] {
            assert_eq!(columns(&transforming(sql)), None, "{sql}");
        }
        let mut flow = transforming("SELECT a FROM input");
        flow.from.filter = Some("b = = 1".into());
        assert_eq!(columns(&flow), None);
    }

    #[test]
    fn conditions_messages_and_declared_columns_count() {
        let mut flow = transforming("SELECT a FROM input");
        flow.from.filter = Some("starts_with(sk, 'X#') -- not this".into());
        flow.columns = BTreeMap::from([("filterValues".to_owned(), "json".to_owned())]);
        flow.sample = Some("{title} by {ownerId}, {".to_owned());
        flow.checks = vec![
            Check::Expect { sql: "is_uuid(\"convId\")".into(), message: Some("bad {sk}: {pk}".to_owned()) },
            Check::Required { column: "userId".to_owned(), position: Position::START },
        ];
        let expected = ["a", "convId", "filterValues", "ownerId", "pk", "sk", "title", "userId"];
        assert_eq!(columns(&flow).unwrap(), expected);
    }

    #[test]
    fn an_update_reads_what_it_writes() {
        let mut flow = transforming("SELECT id, upper(name) AS title, \"b\" AS \"B\", c || 'x' FROM input");
        assert_eq!(columns(&flow).unwrap(), ["b", "c", "id", "name"]);
        flow.into.mode = WriteMode::Update;
        assert_eq!(columns(&flow).unwrap(), ["B", "b", "c", "id", "name", "title"]);
    }

    #[test]
    fn a_scan_wants_what_any_of_its_flows_wants() {
        let (a, b) = (transforming("SELECT a FROM input"), transforming("SELECT b FROM input"));
        assert_eq!(wanted_by_any([&a, &b]), Some(["a", "b"].map(str::to_owned).into()));
        assert_eq!(wanted_by_any([&a, &bare_flow()]), None);
    }

    #[test]
    fn a_forgotten_quote_has_its_place() {
        let mut flow = transforming("SELECT id,\n       userId AS user_id FROM input");
        assert!(forgotten_quote(&flow).is_none(), "nothing else speaks of `userId`");
        flow.checks = vec![Check::Required { column: "userId".to_owned(), position: Position::START }];
        let error = forgotten_quote(&flow).unwrap();
        assert_eq!(error.message(), "flow `users`: `userId` without quotes is the column `userid`");
        assert!(error.hint().contains("\"userId\""), "{}", error.hint());
        flow.columns = BTreeMap::from([("userid".to_owned(), "text".to_owned())]);
        assert!(forgotten_quote(&flow).is_none(), "`userid` is there, too");
        let mut flow = bare_flow();
        flow.from.filter = Some("a = 1 AND createdAt > \"createdAt\"".into());
        assert_eq!(unquoted(&flow)[0].position.column, 11);
        assert_eq!(forgotten_quote(&flow).unwrap().position(), Some(Position { line: 1, column: 11 }));
    }
}
