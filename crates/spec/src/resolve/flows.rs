//! Flows with every value filled in.

use super::langchain;
use super::selection::{Chosen, Selection};
use super::values::{Source, Values};
use crate::each::EachPath;
use crate::elements::checks::CheckElement;
use crate::elements::from::From as FromElement;
use crate::elements::into::Into as IntoElement;
use crate::elements::text::{ScopePart, scope_part};
use crate::error::{Result, SpecError};
use crate::order;
use crate::resolved::{Check, Each, FromRequest, IntoRequest, ParameterValue, Relation, ResolvedFlow};
use crate::span::SqlText;
use crate::spec::Spec;
use crate::sql::{self, Finding};
use std::collections::{BTreeMap, BTreeSet};
use whimbrel_model::{FlowName, GroupName, StoreName};

pub(super) async fn resolve(
    spec: &Spec,
    selection: &Selection<'_>,
    values: &mut Values<'_>,
) -> Result<Vec<ResolvedFlow>> {
    let waits = order::waits_for(spec);
    let empty = BTreeSet::new();
    let mut flows = Vec::new();
    for chosen in &selection.flows {
        let first = waits.get(chosen.name).unwrap_or(&empty);
        let before = selection.flows.iter().filter(|other| first.contains(other.name));
        let after: Vec<FlowName> = before.flat_map(names).collect();
        flows.extend(targets(spec, chosen, &after, values).await?);
    }
    Ok(flows)
}

fn names<'a>(chosen: &'a Chosen<'_>) -> impl Iterator<Item = FlowName> + 'a {
    chosen.targets.iter().map(|index| FlowName::new(chosen.target_name(*index)))
}

/// One flow for each chosen target.
async fn targets(
    spec: &Spec,
    chosen: &Chosen<'_>,
    after: &[FlowName],
    values: &mut Values<'_>,
) -> Result<Vec<ResolvedFlow>> {
    let (name, flow) = (chosen.name, chosen.flow);
    let (Some(from), Some(into)) = (&flow.from, &flow.into) else { return Ok(Vec::new()) };
    let mut from = from_request(spec, name, from, values).await?;
    if from.relation == Relation::Run {
        // The run is in no store; what it writes to is open anyway.
        let first = into.as_slice().first().and_then(|into| into.store.clone());
        from.store = StoreName::new(first.unwrap_or_default());
    }
    let checks: Vec<Check> =
        flow.checks.iter().enumerate().flat_map(|(index, check)| checks(spec, name, index, check)).collect();
    let written = sql(spec, &["flows", name, "transform"]);
    let transform = written.or_else(|| langchain::transform(spec, name, flow));
    let parameters = parameters(&from, &checks, transform.as_ref(), values).await?;
    let mut resolved = Vec::new();
    for index in &chosen.targets {
        let Some(target) = into.as_slice().get(*index) else { continue };
        let written = index.to_string();
        let mut path = vec!["flows", name, "into"];
        if into.is_list() {
            path.push(&written);
        }
        resolved.push(ResolvedFlow {
            name: FlowName::new(chosen.target_name(*index)),
            scan: GroupName::new(name),
            group: flow.group.clone(),
            after: after.to_vec(),
            from: from.clone(),
            columns: flow
                .columns
                .iter()
                .map(|(name, kind)| (name.clone(), kind.as_str().to_owned()))
                .collect(),
            checks: checks.clone(),
            transform: transform.clone(),
            sample: flow.sample.clone(),
            into: into_request(spec, &path, target, values).await?,
            parameters: parameters.clone(),
            position: spec.key_position(&["flows", name]),
        });
    }
    Ok(resolved)
}

fn sql(spec: &Spec, path: &[&str]) -> Option<SqlText> {
    let node = spec.tree.find(path)?;
    Some(SqlText { text: node.text()?.to_owned(), span: node.span() })
}

/// A text under a path with its variables filled in; nothing where there is none.
pub(super) async fn text(spec: &Spec, path: &[&str], values: &mut Values<'_>) -> Result<String> {
    match spec.tree.find(path).and_then(|node| Some((node, node.text()?))) {
        Some((node, text)) => {
            let filled = values.fill(Source::new(text, node.span(), false)).await?;
            if filled.is_empty() {
                let key = path.last().copied().unwrap_or_default();
                let hint = "give its variable a value, with `--set` or in the spec";
                return Err(spec.error(node.position, format!("`{key}` came out empty"), hint));
            }
            Ok(filled)
        }
        None => Ok(String::new()),
    }
}

async fn from_request(
    spec: &Spec,
    name: &str,
    from: &FromElement,
    values: &mut Values<'_>,
) -> Result<FromRequest> {
    let relation = match sql(spec, &["flows", name, "from", "query"]) {
        Some(query) => Relation::Query(query),
        None if from.run.is_some() => Relation::Run,
        None => {
            let key = match (from.path.is_some(), from.collection.is_some()) {
                (true, _) => "path",
                (false, true) => "collection",
                (false, false) => "table",
            };
            Relation::Table(text(spec, &["flows", name, "from", key], values).await?)
        }
    };
    Ok(FromRequest {
        store: StoreName::new(from.store.clone().unwrap_or_default()),
        relation,
        filter: sql(spec, &["flows", name, "from", "where"]),
        slice_by: from.slice_by.as_ref().map(|columns| columns.as_slice().to_vec()).unwrap_or_default(),
        each: each(spec, name, from)?,
    })
}

fn each(spec: &Spec, name: &str, from: &FromElement) -> Result<Option<Each>> {
    let Some(text) = &from.each else { return Ok(None) };
    let position = spec.position(&["flows", name, "from", "each"]);
    let path = EachPath::parse(text)
        .map_err(|fault| spec.error(position, format!("`each`: {}", fault.message), "look at the path"))?;
    Ok(Some(Each { path, text: text.clone(), key_as: from.key_as.clone(), position }))
}

async fn into_request(
    spec: &Spec,
    path: &[&str],
    into: &IntoElement,
    values: &mut Values<'_>,
) -> Result<IntoRequest> {
    let place = if into.path.is_some() { "path" } else { "table" };
    let langchain = langchain::resolve(spec, path, into, values).await?;
    let mut scope = scope(spec, path, into, values).await?;
    let (table, key) = match &langchain {
        Some((langchain, table)) => {
            scope = scope.into_iter().map(|(name, value)| (langchain::member(&name), value)).collect();
            scope.insert(langchain::SCOPE.to_owned(), ParameterValue(langchain.uuid.clone()));
            (table.clone(), vec!["id".to_owned()])
        }
        None => {
            let key = into.key.as_ref().map(|key| key.as_slice().to_vec()).unwrap_or_default();
            (text(spec, &[path, &[place]].concat(), values).await?, key)
        }
    };
    Ok(IntoRequest {
        store: StoreName::new(into.store.clone().unwrap_or_default()),
        table,
        key,
        mode: into.mode,
        guarded: into.guarded,
        on_duplicate: into.on_duplicate,
        order: into.order.as_ref().map(|order| order.as_slice().to_vec()).unwrap_or_default(),
        scope,
        nulls: into.nulls,
        forms: into.forms.iter().map(|(column, form)| (column.clone(), form.as_str().to_owned())).collect(),
        ignore: into.ignore.clone(),
        compare: into.compare.unwrap_or_default(),
        delete_missing: into.delete_missing,
        allow_lossy: into.allow_lossy.clone(),
        shape: into.shape.clone(),
        langchain: langchain.map(|(langchain, _)| langchain),
        batch_records: into.batch.records,
        batch_bytes: into.batch.bytes,
        position: spec.position(path),
    })
}

/// The columns of `scope` with their values. An empty one is refused: it would be the tenant of every record
/// that lacks one.
async fn scope(
    spec: &Spec,
    path: &[&str],
    into: &IntoElement,
    values: &mut Values<'_>,
) -> Result<BTreeMap<String, ParameterValue>> {
    let mut resolved = BTreeMap::new();
    for (column, written) in into.scope.iter().flatten() {
        let at = spec.position(&[path, &["scope", column]].concat());
        let value = match scope_part(&written.0) {
            Some(ScopePart::Variable(name)) => values.variable(name, at, false).await?,
            Some(ScopePart::Text(text)) => text.to_owned(),
            None => written.0.clone(),
        };
        if value.is_empty() {
            let hint = "a tenant has a name: give its variable a value, with `--set` or in the spec";
            return Err(SpecError::invalid(at, format!("`{column}` in `scope` came out empty"), hint));
        }
        resolved.insert(column.clone(), ParameterValue(value));
    }
    Ok(resolved)
}

fn checks(spec: &Spec, name: &str, index: usize, check: &CheckElement) -> Vec<Check> {
    let index = index.to_string();
    let path = ["flows", name, "checks", index.as_str()];
    if let Some(sql) = sql(spec, &[path.as_slice(), &["expect"]].concat()) {
        return vec![Check::Expect { sql, message: check.message.clone() }];
    }
    let Some(required) = &check.required else { return Vec::new() };
    let columns = required.as_slice().iter().enumerate().map(|(at, column)| {
        let at = at.to_string();
        let mut path = [path.as_slice(), &["required"]].concat();
        if required.is_list() {
            path.push(&at);
        }
        Check::Required { column: column.clone(), position: spec.position(&path) }
    });
    columns.collect()
}

/// The values of all `$name` in a flow's SQL.
async fn parameters(
    from: &FromRequest,
    checks: &[Check],
    transform: Option<&SqlText>,
    values: &mut Values<'_>,
) -> Result<BTreeMap<String, ParameterValue>> {
    let query = match &from.relation {
        Relation::Query(query) => Some(query),
        Relation::Table(_) | Relation::Run => None,
    };
    let expected = checks.iter().filter_map(|check| match check {
        Check::Expect { sql, .. } => Some(sql),
        Check::Required { .. } => None,
    });
    let texts = query.into_iter().chain(&from.filter).chain(transform).chain(expected);
    let mut parameters = BTreeMap::new();
    for text in texts {
        for finding in sql::scan(&text.text) {
            let Finding::Parameter { name, at } = finding else { continue };
            if !parameters.contains_key(name) {
                let at = text.span.at_byte(&text.text, at);
                let value = values.variable(name, at, false).await?;
                parameters.insert(name.to_owned(), ParameterValue(value));
            }
        }
    }
    Ok(parameters)
}
