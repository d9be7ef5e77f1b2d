//! Differences as they are found: every one in a file, the first of each kind in memory.

use super::layout::Compared;
use crate::verification::{AttributeDifference, Difference, DifferenceKind, FlowVerification, Since};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use whimbrel_engine::{EngineError, Result};
use whimbrel_model::canonical::Canonical;
use whimbrel_model::{Fingerprint, FlowName};

/// How many differences of each flow and kind are shown.
const SHOWN: usize = 20;
/// How many records are written again at most: where more differ, the run itself is the better repair.
pub(crate) const MOST_REPAIRS: usize = 1_000_000;

/// Gathers differences. Memory does not grow with their number.
pub(crate) struct Differences {
    path: PathBuf,
    file: Option<BufWriter<File>>,
    shown: BTreeMap<(Option<FlowName>, DifferenceKind), Vec<Difference>>,
    /// Extra records that belong to no flow.
    pub others: u64,
    repairs: Repairs,
}

/// The records that would have to be written again, by flow.
#[derive(Clone, Debug, Default)]
pub struct Repairs {
    /// Their fingerprints, as the source has them.
    pub(crate) records: BTreeMap<FlowName, HashSet<Fingerprint>>,
    /// Whether there are more than are kept.
    pub(crate) overflow: bool,
    count: usize,
}

impl Repairs {
    /// How many records.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    fn add(&mut self, flow: &FlowName, fingerprint: Fingerprint) {
        if self.count == MOST_REPAIRS {
            self.overflow = true;
        } else if self.records.entry(flow.clone()).or_default().insert(fingerprint) {
            self.count += 1;
        }
    }
}

impl Differences {
    /// The file is made when the first difference comes.
    pub(crate) fn into_file(path: PathBuf) -> Self {
        Self { path, file: None, shown: BTreeMap::new(), others: 0, repairs: Repairs::default() }
    }

    /// Counts and keeps a difference.
    pub(crate) fn add(&mut self, difference: Difference, counts: &mut FlowVerification) -> Result<()> {
        match difference.kind {
            DifferenceKind::Missing => counts.missing += 1,
            DifferenceKind::Extra => counts.extra += 1,
            DifferenceKind::Different => counts.different += 1,
        }
        self.keep(difference)
    }

    /// A record that is missing or different, as the source has it.
    pub(crate) fn repair(&mut self, flow: &FlowName, fingerprint: Fingerprint) {
        self.repairs.add(flow, fingerprint);
    }

    /// The records that would have to be written again.
    pub(crate) fn take_repairs(&mut self) -> Repairs {
        std::mem::take(&mut self.repairs)
    }

    /// A record of the target that belongs to no flow.
    pub(crate) fn add_other(&mut self, key: Map<String, Value>, record: &Map<String, Value>) -> Result<()> {
        self.others += 1;
        self.keep(Difference {
            flow: None,
            kind: DifferenceKind::Extra,
            key,
            attributes: attributes(None, Some(record)),
            since: None,
        })
    }

    fn keep(&mut self, difference: Difference) -> Result<()> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| EngineError::file("write", &path, source)
        };
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                if let Some(folder) = self.path.parent() {
                    std::fs::create_dir_all(folder).map_err(failed(&self.path))?;
                }
                let made = File::create(&self.path).map_err(failed(&self.path))?;
                self.file.insert(BufWriter::new(made))
            }
        };
        serde_json::to_writer(&mut *file, &difference)
            .map_err(std::io::Error::from)
            .and_then(|()| file.write_all(b"\n"))
            .map_err(failed(&self.path))?;
        let shown = self.shown.entry((difference.flow.clone(), difference.kind)).or_default();
        if shown.len() < SHOWN {
            shown.push(difference);
        }
        Ok(())
    }

    /// The differences to show, and the file of all of them.
    pub(crate) fn end(self) -> Result<(Vec<Difference>, Option<String>)> {
        let Some(mut file) = self.file else { return Ok((Vec::new(), None)) };
        let kept = file.flush().and_then(|()| file.get_ref().sync_all());
        kept.map_err(|source| EngineError::file("write", &self.path, source))?;
        Ok((self.shown.into_values().flatten().collect(), Some(self.path.display().to_string())))
    }
}

/// A difference of one of a flow's records, with what both sides hold.
///
/// What the flow ignores is no part of it.
pub(crate) fn difference(
    flow: &Compared,
    key: Map<String, Value>,
    source: Option<&Map<String, Value>>,
    target: Option<&Map<String, Value>>,
    since: Option<Since>,
) -> Difference {
    let kind = match (source, target) {
        (Some(_), None) => DifferenceKind::Missing,
        (None, _) => DifferenceKind::Extra,
        (Some(_), Some(_)) => DifferenceKind::Different,
    };
    let mut attributes = attributes(source, target);
    attributes.retain(|attribute| !flow.ignore.contains(&attribute.name));
    Difference { flow: Some(flow.plan.name.clone()), kind, key, attributes, since }
}

/// The attributes that are not the same, by name.
fn attributes(
    source: Option<&Map<String, Value>>,
    target: Option<&Map<String, Value>>,
) -> Vec<AttributeDifference> {
    let get = |side: Option<&Map<String, Value>>, name: &str| side.and_then(|side| side.get(name)).cloned();
    let mut names: Vec<&String> = source.into_iter().chain(target).flat_map(Map::keys).collect();
    names.sort_unstable();
    names.dedup();
    let pairs = names.into_iter().map(|name| AttributeDifference {
        name: name.clone(),
        source: get(source, name),
        target: get(target, name),
    });
    pairs.filter(|pair| form(pair.source.as_ref()) != form(pair.target.as_ref())).collect()
}

/// The canonical form of a value: numbers by value, objects by sorted keys.
fn form(value: Option<&Value>) -> Option<Vec<u8>> {
    let mut canonical = Canonical::default();
    canonical.json(value?);
    Some(canonical.bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: &Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn only_what_differs_by_value_is_named() {
        let source = object(&json!({"a": 1.0, "b": {"x": 1, "y": 2}, "c": "", "d": []}));
        let target = object(&json!({"a": 1, "b": {"y": 2, "x": 1}, "c": null}));
        let found = attributes(Some(&source), Some(&target));
        let names: Vec<&str> = found.iter().map(|pair| pair.name.as_str()).collect();
        assert_eq!(names, ["c", "d"]);
        assert_eq!(found[1].target, None, "an empty list is not a missing one");
    }

    #[test]
    fn every_difference_is_in_the_file_and_few_are_in_memory() {
        let folder = std::env::temp_dir().join(format!("whimbrel-differences-{}", std::process::id()));
        let mut differences = Differences::into_file(folder.join("d.ndjson"));
        let record = object(&json!({"id": 1}));
        for _ in 0..100 {
            differences.add_other(record.clone(), &record).unwrap();
        }
        assert_eq!(differences.others, 100);
        let (shown, file) = differences.end().unwrap();
        assert_eq!(shown.len(), SHOWN);
        assert_eq!(std::fs::read_to_string(file.unwrap()).unwrap().lines().count(), 100);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
