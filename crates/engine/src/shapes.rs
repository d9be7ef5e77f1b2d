//! Whether the flows into one file of documents agree on what it is.

use crate::error::Result;
use crate::migration::{Scan, ScanFlow};
use std::collections::BTreeMap;
use whimbrel_model::StoreName;
use whimbrel_spec::resolved::Shape;
use whimbrel_spec::{Resolved, ResolvedFlow, SpecError, SpecErrorKind};

/// Flows into a file, with what they write.
type Writers<'a> = Vec<(&'a ResolvedFlow, &'a ScanFlow)>;

/// Refuses flows that write one file in different shapes, or the same place of it.
///
/// # Errors
/// The first flow that does not fit those before it.
pub(crate) fn check(resolved: &Resolved, scans: &[Scan]) -> Result<()> {
    let mut files: BTreeMap<(&StoreName, String), Writers<'_>> = BTreeMap::new();
    let planned = || scans.iter().flat_map(|scan| scan.flows.iter().chain(&scan.spilling));
    for flow in &resolved.flows {
        if let Some(plan) = planned().find(|plan| plan.plan.name == flow.name) {
            let file = (&flow.into.store, plan.plan.target.resource());
            files.entry(file).or_default().push((flow, plan));
        }
    }
    for ((_, file), writers) in files {
        if writers.iter().all(|(flow, _)| flow.into.shape.is_none()) {
            continue;
        }
        for (place, (flow, plan)) in writers.iter().enumerate() {
            let fault = writers[..place].iter().find_map(|(other, before)| {
                let fault = clash((other, before), (flow, plan))?;
                Some(format!("flows `{}` and `{}` into \"{file}\" {fault}", other.name, flow.name))
            });
            if let Some(message) = fault {
                let hint =
                    "of the flows into one file one writes its documents, others lists of their own in them";
                return Err(SpecError::at(SpecErrorKind::Invalid, flow.into.position, message, hint)
                    .in_file(&resolved.path)
                    .into());
            }
        }
    }
    Ok(())
}

/// Why two flows cannot write into one file.
fn clash(one: (&ResolvedFlow, &ScanFlow), other: (&ResolvedFlow, &ScanFlow)) -> Option<String> {
    let (Some(a), Some(b)) = (&one.0.into.shape, &other.0.into.shape) else {
        return Some("do not both have a `shape`".to_owned());
    };
    if (&a.object_by, &a.records_by) != (&b.object_by, &b.records_by) {
        return Some("have different shapes".to_owned());
    }
    match (&a.list, &b.list) {
        (None, None) => Some("both write its documents".to_owned()),
        (Some(a), Some(b)) => (a == b).then(|| format!("both write the list `{a}`")),
        (None, Some(list)) => named_twice(one.1, list),
        (Some(list), None) => named_twice(other.1, list),
    }
}

fn named_twice(documents: &ScanFlow, list: &str) -> Option<String> {
    let is_column = documents.plan.output().index_of(list).is_ok();
    is_column.then(|| format!("both write the member `{list}` of its documents"))
}

/// The shape as stores know it.
pub(crate) fn of(shape: &Shape) -> Option<whimbrel_store::Shape> {
    use whimbrel_store::Documents;
    let (by, documents) = match (&shape.object_by, &shape.records_by) {
        (Some(by), _) => (by, Documents::Members),
        (None, Some(by)) => (by, Documents::Records),
        // The spec was refused.
        (None, None) => return None,
    };
    Some(whimbrel_store::Shape { by: by.clone(), documents, list: shape.list.clone() })
}
