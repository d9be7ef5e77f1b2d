//! Which flows a command is about.

use crate::elements::flows::Flow;
use crate::error::{Result, SpecError, SpecErrorKind};
use crate::names::suggest;
use crate::order;
use crate::spec::Spec;
use std::collections::{BTreeMap, BTreeSet};

/// The chosen flows in their order.
pub(super) struct Selection<'a> {
    pub(super) flows: Vec<Chosen<'a>>,
}

/// A chosen flow, and which of its targets.
pub(super) struct Chosen<'a> {
    pub(super) name: &'a str,
    pub(super) flow: &'a Flow,
    /// Indexes into `into`, ascending.
    pub(super) targets: Vec<usize>,
}

impl Selection<'_> {
    /// The stores that the chosen flows use.
    pub(super) fn stores(&self, spec: &Spec) -> BTreeSet<String> {
        let mut stores = BTreeSet::new();
        for chosen in &self.flows {
            stores.extend(chosen.flow.from.iter().filter_map(|from| from.store.clone()));
            let targets = chosen.flow.into.iter().flat_map(|into| into.as_slice()).enumerate();
            let targets = targets.filter(|(index, _)| chosen.targets.contains(index));
            stores.extend(targets.filter_map(|(_, target)| target.store.clone()));
        }
        stores.retain(|name| spec.document().stores.contains_key(name));
        stores
    }
}

impl Chosen<'_> {
    /// What a target's flow is called.
    pub(super) fn target_name(&self, index: usize) -> String {
        target_name(self.name, self.flow, index)
    }
}

fn target_name(name: &str, flow: &Flow, index: usize) -> String {
    match flow.into.as_ref().is_some_and(|into| into.is_list()) {
        true => format!("{name}.{}", index + 1),
        false => name.to_owned(),
    }
}

fn target_count(flow: &Flow) -> usize {
    flow.into.as_ref().map_or(0, |into| into.as_slice().len())
}

/// Every flow that is not manual, or those that are named, by their own name, their group's, or with the
/// number of a target.
pub(super) fn select<'a>(spec: &'a Spec, only: Option<&[String]>) -> Result<Selection<'a>> {
    let flows = &spec.document().flows;
    let mut targets: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
    match only {
        None => {
            for (name, flow) in flows.iter().filter(|(_, flow)| !flow.manual) {
                targets.insert(name, (0..target_count(flow)).collect());
            }
        }
        Some(names) => {
            for name in names {
                let found = named(spec, name);
                if found.is_empty() {
                    return Err(unknown(spec, name));
                }
                found
                    .into_iter()
                    .for_each(|(flow, indexes)| targets.entry(flow).or_default().extend(indexes));
            }
        }
    }
    if targets.is_empty() {
        let at = spec.key_position(&["flows"]);
        let message = "there is no flow to run: all are `manual`";
        let names = flows.keys().map(String::as_str).collect::<Vec<_>>().join(",");
        return Err(SpecError::at(SpecErrorKind::Usage, at, message, format!("name them: `--only {names}`")));
    }
    let chosen: BTreeSet<&str> = targets.keys().copied().collect();
    let sorted = order::sorted(spec, &chosen).into_iter();
    let flows = sorted.filter_map(|name| {
        let indexes = targets.get(name)?.iter().copied().collect();
        Some(Chosen { name, flow: flows.get(name)?, targets: indexes })
    });
    Ok(Selection { flows: flows.collect() })
}

fn named<'a>(spec: &'a Spec, name: &str) -> Vec<(&'a str, Vec<usize>)> {
    let mut found = Vec::new();
    for (flow_name, flow) in &spec.document().flows {
        let whole = flow_name == name || flow.group.as_deref() == Some(name);
        let indexes =
            (0..target_count(flow)).filter(|index| whole || target_name(flow_name, flow, *index) == name);
        let indexes: Vec<usize> = indexes.collect();
        if !indexes.is_empty() {
            found.push((flow_name.as_str(), indexes));
        }
    }
    found
}

fn unknown(spec: &Spec, name: &str) -> SpecError {
    let flows = &spec.document().flows;
    let mut names: BTreeSet<&str> = flows.keys().map(String::as_str).collect();
    names.extend(flows.values().filter_map(|flow| flow.group.as_deref()));
    let message = format!("there is no flow and no group `{name}`");
    SpecError::at(
        SpecErrorKind::Usage,
        None,
        message,
        suggest(name, "flows and groups", names.iter().copied()),
    )
}
