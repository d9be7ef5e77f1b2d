//! The order of flows by `after`.

use crate::elements::flows::After;
use crate::spec::Spec;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// For each flow, those that it waits for. Names that are no flows, and the flow itself, are left out.
/// `all` is every flow that does not wait for this one and does not say `all` itself.
pub(crate) fn waits_for(spec: &Spec) -> BTreeMap<&str, BTreeSet<&str>> {
    let flows = &spec.document().flows;
    let mut waits: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, flow) in flows {
        let named = match &flow.after {
            Some(After::Flows(names)) => {
                let others = names.iter().filter(|other| *other != name);
                others
                    .filter_map(|other| flows.get_key_value(other))
                    .map(|(other, _)| other.as_str())
                    .collect()
            }
            Some(After::All) | None => BTreeSet::new(),
        };
        waits.insert(name, named);
    }
    for (name, flow) in flows {
        if flow.after == Some(After::All) {
            let early = flows
                .iter()
                .filter(|(other, flow)| flow.after != Some(After::All) && !reaches(&waits, other, name));
            let early = early.map(|(other, _)| other.as_str()).collect();
            waits.insert(name, early);
        }
    }
    waits
}

/// Whether `from` waits for `to`, through others or not.
fn reaches(waits: &BTreeMap<&str, BTreeSet<&str>>, from: &str, to: &str) -> bool {
    let mut seen = BTreeSet::new();
    let mut open = vec![from];
    while let Some(name) = open.pop() {
        if name == to {
            return true;
        }
        if seen.insert(name) {
            open.extend(waits.get(name).into_iter().flatten().copied());
        }
    }
    false
}

/// A circle of flows that wait for each other, its first flow repeated at the end; `None` where there is none.
/// The circle begins with the flow that stands first in the file.
pub(crate) fn circle(spec: &Spec) -> Option<Vec<String>> {
    let waits = waits_for(spec);
    spec.flow_names().into_iter().find_map(|start| way_back(&waits, start))
}

/// The shortest way from a flow back to itself.
fn way_back(waits: &BTreeMap<&str, BTreeSet<&str>>, start: &str) -> Option<Vec<String>> {
    let mut ways = VecDeque::from([vec![start]]);
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        let last = way.last()?;
        for next in waits.get(last).into_iter().flatten().copied() {
            let longer: Vec<&str> = way.iter().copied().chain([next]).collect();
            if next == start {
                return Some(longer.into_iter().map(str::to_owned).collect());
            }
            if seen.insert(next) {
                ways.push_back(longer);
            }
        }
    }
    None
}

/// The chosen flows in the order of `after`, of which the file's order is kept as far as it goes.
pub(crate) fn sorted<'a>(spec: &'a Spec, chosen: &BTreeSet<&str>) -> Vec<&'a str> {
    let waits = waits_for(spec);
    let mut open: Vec<&'a str> = spec.flow_names().into_iter().filter(|name| chosen.contains(name)).collect();
    let mut sorted: Vec<&'a str> = Vec::new();
    while !open.is_empty() {
        // Every circle was refused before, so one is always ready; the first is taken should that be wrong.
        let ready = open.iter().position(|name| waits[*name].iter().all(|first| !open.contains(first)));
        sorted.push(open.remove(ready.unwrap_or(0)));
    }
    sorted
}
