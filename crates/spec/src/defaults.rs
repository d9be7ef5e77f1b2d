//! Merges `defaults` into every flow.

use crate::elements::{from, into};
use crate::node::{Entry, Node, NodeValue};

/// The tree with `defaults.from` and `defaults.into` merged into every flow, one level deep. A flow's own keys
/// win, and its own `table` displaces a default `query` as well as a default `table`.
pub(crate) fn merged(mut tree: Node) -> Node {
    let default =
        |key: &str| tree.find(&["defaults", key]).map(|node| node.entries().to_vec()).unwrap_or_default();
    let (from, into) = (default("from"), default("into"));
    if from.is_empty() && into.is_empty() {
        return tree;
    }
    let NodeValue::Mapping(entries) = &mut tree.value else { return tree };
    let flows = entries.iter_mut().find(|entry| entry.key == "flows");
    if let Some(Entry { value: Node { value: NodeValue::Mapping(flows), .. }, .. }) = flows {
        for flow in flows {
            merge_flow(flow, "from", &from, from::RELATIONS);
            merge_flow(flow, "into", &into, into::PLACES);
        }
    }
    tree
}

fn merge_flow(flow: &mut Entry, key: &str, defaults: &[Entry], exclusive: &[&str]) {
    let NodeValue::Mapping(entries) = &mut flow.value.value else { return };
    if defaults.is_empty() {
        return;
    }
    let index = match entries.iter().position(|entry| entry.key == key) {
        Some(index) => index,
        None => {
            let value = Node { position: flow.key_position, value: NodeValue::Mapping(Vec::new()) };
            entries.push(Entry { key: key.to_owned(), key_position: flow.key_position, value });
            entries.len() - 1
        }
    };
    match &mut entries[index].value.value {
        NodeValue::Mapping(own) => merge(own, defaults, exclusive),
        NodeValue::Sequence(targets) => {
            for target in targets {
                if let NodeValue::Mapping(own) = &mut target.value {
                    merge(own, defaults, exclusive);
                }
            }
        }
        _ => {}
    }
}

fn merge(own: &mut Vec<Entry>, defaults: &[Entry], exclusive: &[&str]) {
    let has_exclusive = own.iter().any(|entry| exclusive.contains(&entry.key.as_str()));
    for entry in defaults {
        let displaced = has_exclusive && exclusive.contains(&entry.key.as_str());
        if !displaced && own.iter().all(|mine| mine.key != entry.key) {
            own.push(entry.clone());
        }
    }
}
