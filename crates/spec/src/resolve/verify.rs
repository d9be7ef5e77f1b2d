//! Rules of verification with every value filled in.

use super::values::{Source, Values};
use crate::check::shorten;
use crate::column_path;
use crate::elements::text::{OneOrMany, ScopePart, ScopeValue, TemplateText, scope_part};
use crate::elements::verify::{Records, VerifyElement};
use crate::error::{Position, Result};
use crate::resolved::{
    AssertKind, AssertRule, ColumnPlace, Expected, ParameterValue, Relate, SearchDemand, SearchRule, Texts,
    VerifyQuery, VerifyRule,
};
use crate::span::{SqlText, TextSpan, TextStyle};
use crate::spec::Spec;
use crate::sql::{self, Finding};
use std::collections::BTreeMap;
use whimbrel_model::{FlowName, StoreName};

/// The endpoint of which `embed` is the shape.
const VOYAGE: &str = "https://api.voyageai.com/v1";
/// The share of neighbours that must be the same where the spec does not say it.
const OVERLAP: f64 = 0.8;
/// How long a search may take on the average where the spec does not say it.
const AVERAGE_MS: f64 = 1_000.0;
/// How many neighbours are looked for where the spec does not say it.
const TOP: u32 = 5;
/// How many stored vectors are looked for where the spec does not say it.
const STORED: u32 = 100;

pub(super) async fn resolve(spec: &Spec, values: &mut Values<'_>) -> Result<Vec<VerifyRule>> {
    let mut rules = Vec::new();
    for (index, rule) in spec.document().verify.iter().enumerate() {
        let index = index.to_string();
        rules.push(Rule { spec, rule, index: &index }.resolve(values).await?);
    }
    Ok(rules)
}

struct Rule<'a> {
    spec: &'a Spec,
    rule: &'a VerifyElement,
    index: &'a str,
}

impl Rule<'_> {
    async fn resolve(&self, values: &mut Values<'_>) -> Result<VerifyRule> {
        let rule = self.rule;
        let only = || rule.only.clone().unwrap_or_default();
        if let Some(records) = rule.records {
            let sample = match records {
                Records::All => None,
                Records::Sample(records) => Some(records),
            };
            return Ok(VerifyRule::Records { name: rule.name.clone(), sample, only: only() });
        }
        if let Some(mut search) = self.search() {
            search.texts = self.texts(values).await?;
            return Ok(VerifyRule::Search(Box::new(search)));
        }
        let (name, kind) = match (&rule.sql, &rule.compare, &rule.not_empty, &rule.json) {
            (Some(sql), ..) => (format!("sql: {}", one_line(&sql.0)), self.sql(values).await?),
            (_, Some(name), ..) => (name.clone(), self.compare(values).await?),
            (_, _, Some(columns), _) => {
                let equals = self.value("equals", rule.equals.as_ref(), values).await?;
                let columns = self.columns("not_empty", columns, values).await?;
                (named("not empty", &columns), AssertKind::NotEmpty { columns, equals })
            }
            (.., Some(columns)) => {
                let columns = self.columns("json", columns, values).await?;
                (named("JSON", &columns), AssertKind::Json { columns })
            }
            _ => return Ok(VerifyRule::Count { name: rule.name.clone(), only: only() }),
        };
        let position = self.spec.position(&["verify", self.index]);
        let name = rule.name.clone().unwrap_or(name);
        Ok(VerifyRule::Assert(Box::new(AssertRule { name, position, kind })))
    }

    /// The texts that are looked for, and what turns them into vectors.
    async fn texts(&self, values: &mut Values<'_>) -> Result<Option<Texts>> {
        let (Some(queries), Some(embed)) = (&self.rule.queries, &self.rule.embed) else { return Ok(None) };
        let url = match &embed.url {
            Some(_) => self.embedding("url", values).await?,
            None => VOYAGE.to_owned(),
        };
        let model = self.embedding("model", values).await?;
        let key = self.embedding("key", values).await?;
        values.secrets.add(&key);
        Ok(Some(Texts { queries: queries.clone(), url, model, key: ParameterValue(key) }))
    }

    async fn embedding(&self, key: &str, values: &mut Values<'_>) -> Result<String> {
        let path = ["verify", self.index, "embed", key];
        let node = self.spec.tree.find(&path).and_then(|node| Some((node.text()?, node.span())));
        let Some((text, span)) = node else { return Ok(String::new()) };
        let filled = values.fill(Source::new(text, span, false)).await?;
        self.not_empty(&filled, &format!("`{key}` of `embed`"), self.spec.position(&path))?;
        Ok(filled)
    }

    /// A rule about searches.
    fn search(&self) -> Option<SearchRule> {
        let rule = self.rule;
        let (flow, name, demand) = match (&rule.overlap, &rule.latency) {
            (Some(flow), _) => {
                (flow, format!("overlap: {flow}"), SearchDemand::Overlap(rule.at_least.unwrap_or(OVERLAP)))
            }
            (None, Some(flow)) => {
                let average_ms = rule.average_ms.unwrap_or(AVERAGE_MS);
                (flow, format!("latency: {flow}"), SearchDemand::AverageMs(average_ms))
            }
            (None, None) => return None,
        };
        Some(SearchRule {
            name: rule.name.clone().unwrap_or(name),
            position: self.spec.position(&["verify", self.index]),
            flow: FlowName::new(flow),
            top: rule.top.unwrap_or(TOP),
            stored: rule.stored.unwrap_or(STORED),
            texts: None,
            demand,
        })
    }

    async fn sql(&self, values: &mut Values<'_>) -> Result<AssertKind> {
        let mut expected = Vec::new();
        for (key, written) in self.rule.expected() {
            let relate = match key {
                "less" => Relate::Less,
                "less_or_equal" => Relate::LessOrEqual,
                "greater" => Relate::Greater,
                "greater_or_equal" => Relate::GreaterOrEqual,
                _ => Relate::Equal,
            };
            let value = self.value(key, Some(written), values).await?;
            expected.extend(value.map(|value| (relate, value)));
        }
        Ok(AssertKind::Sql {
            store: self.rule.store.as_deref().map(StoreName::new),
            query: self.query("sql", values).await?,
            expected: if self.rule.no_rows { Expected::NoRows } else { Expected::Value(expected) },
        })
    }

    async fn compare(&self, values: &mut Values<'_>) -> Result<AssertKind> {
        Ok(AssertKind::Compare {
            by: self.rule.by.as_ref().map(|by| by.as_slice().to_vec()).unwrap_or_default(),
            left: self.query("left", values).await?,
            right: self.query("right", values).await?,
        })
    }

    async fn query(&self, key: &str, values: &mut Values<'_>) -> Result<VerifyQuery> {
        let node = self.spec.tree.find(&["verify", self.index, key]);
        let text = node.and_then(|node| Some((node.text()?, node.span())));
        let Some((text, span)) = text else {
            let position = self.spec.position(&["verify", self.index]);
            return Err(self.spec.error(position, format!("a verify rule has no `{key}`"), "write a query"));
        };
        let (mut parameters, mut tables) = (BTreeMap::new(), BTreeMap::new());
        for finding in sql::scan(text) {
            match finding {
                Finding::Parameter { name, at } => {
                    let value = values.variable(name, span.at_byte(text, at), false).await?;
                    parameters.insert(name.to_owned(), ParameterValue(value));
                }
                Finding::Named { name, at } => {
                    let at = span.at_byte(text, at);
                    let table = values.variable(name, at, false).await?;
                    self.not_empty(&table, &format!("the table `{name}`"), at)?;
                    tables.insert(name.to_owned(), table);
                }
                Finding::Numbered { .. } | Finding::Spliced { .. } => {}
            }
        }
        Ok(VerifyQuery { sql: SqlText { text: text.to_owned(), span }, parameters, tables })
    }

    async fn value(
        &self,
        key: &str,
        written: Option<&ScopeValue>,
        values: &mut Values<'_>,
    ) -> Result<Option<ParameterValue>> {
        let Some(written) = written else { return Ok(None) };
        let at = self.spec.position(&["verify", self.index, key]);
        Ok(Some(ParameterValue(match scope_part(&written.0) {
            Some(ScopePart::Variable(name)) => values.variable(name, at, false).await?,
            Some(ScopePart::Text(text)) => text.to_owned(),
            None => written.0.clone(),
        })))
    }

    async fn columns(
        &self,
        key: &str,
        written: &OneOrMany<TemplateText>,
        values: &mut Values<'_>,
    ) -> Result<Vec<ColumnPlace>> {
        let mut places = Vec::new();
        for (index, text) in written.as_slice().iter().enumerate() {
            let index = index.to_string();
            let mut path = vec!["verify", self.index, key];
            if written.is_list() {
                path.push(&index);
            }
            let position = self.spec.position(&path);
            let column = column_path::read(self.spec, &text.0)
                .map_err(|(message, hint)| self.spec.error(position, message, hint))?;
            let span = self.spec.tree.find(&path).map(crate::node::Node::span);
            let start = span.map_or(position, |span| span.at_byte(&text.0, column.table_at));
            let source = Source::new(column.table, TextSpan { start, style: TextStyle::Plain }, false);
            let table = values.fill(source).await?;
            self.not_empty(&table, &format!("the table of `{}`", text.0), position)?;
            places.push(ColumnPlace {
                store: StoreName::new(column.store),
                table,
                column: column.column.to_owned(),
                position,
            });
        }
        Ok(places)
    }

    fn not_empty(&self, value: &str, what: &str, at: Position) -> Result<()> {
        if value.is_empty() {
            let hint = "give its variable a value, with `--set` or in the spec";
            return Err(self.spec.error(at, format!("{what} came out empty"), hint));
        }
        Ok(())
    }
}

fn named(what: &str, columns: &[ColumnPlace]) -> String {
    let columns: Vec<_> = columns.iter().map(|at| format!("{}.{}", at.table, at.column)).collect();
    format!("{what}: {}", columns.join(", "))
}

fn one_line(sql: &str) -> String {
    shorten(&sql.split_whitespace().collect::<Vec<_>>().join(" "))
}
