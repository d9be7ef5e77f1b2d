//! Differences as they are found: every one in a file, the first of each kind in memory.

use super::folder::{Folder, private_file};
use super::ignored::Ignored;
use super::layout::Compared;
use crate::verification::{AttributeDifference, Difference, DifferenceKind, FlowVerification, Since};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use whimbrel_engine::{EngineError, Result};
use whimbrel_model::canonical::Canonical;
use whimbrel_model::{Fingerprint, FlowName};

/// How many differences of each flow and kind are shown.
const SHOWN: usize = 20;
/// Bytes of records of no flow that are gathered before they are spilled.
const PORTION: usize = 64 * 1024;
/// How many records are written again at most: where more differ, the run itself is the better repair.
pub(crate) const MOST_REPAIRS: usize = 1_000_000;

/// Gathers differences. Memory does not grow with their number.
pub(crate) struct Differences {
    path: PathBuf,
    file: Option<BufWriter<File>>,
    shown: BTreeMap<(Option<FlowName>, DifferenceKind), Vec<Difference>>,
    /// Differences in the file that are not shown.
    unlisted: u64,
    /// Extra records that belong to no flow.
    pub others: u64,
    repairs: Repairs,
}

/// What was found, cut to what is shown.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    /// Of each flow and kind the first.
    pub shown: Vec<Difference>,
    /// Those that are only in the file.
    pub unlisted: u64,
    /// The file of all of them; `None` where there are none.
    pub file: Option<String>,
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
        let (shown, repairs) = (BTreeMap::new(), Repairs::default());
        Self { path, file: None, shown, unlisted: 0, others: 0, repairs }
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

    /// Keeps a difference that is counted elsewhere.
    pub(crate) fn list(&mut self, difference: Difference) -> Result<()> {
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

    /// A record of the target that belongs to no flow, as [`Strangers`] wrote it.
    fn keep_other(&mut self, line: &[u8]) -> Result<()> {
        self.others += 1;
        self.keep(serde_json::from_slice(line).map_err(|error| unwritable(&error))?)
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
                // A file of an earlier verification may be open to others.
                let _ = std::fs::remove_file(&self.path);
                let made = private_file().create(true).write(true).truncate(true).open(&self.path);
                self.file.insert(BufWriter::new(made.map_err(failed(&self.path))?))
            }
        };
        serde_json::to_writer(&mut *file, &difference)
            .map_err(std::io::Error::from)
            .and_then(|()| file.write_all(b"\n"))
            .map_err(failed(&self.path))?;
        let shown = self.shown.entry((difference.flow.clone(), difference.kind)).or_default();
        if shown.len() < SHOWN {
            shown.push(difference);
        } else {
            self.unlisted += 1;
        }
        Ok(())
    }

    /// What is shown of the differences, and where all of them are.
    pub(crate) fn end(self) -> Result<Listed> {
        let Some(mut file) = self.file else { return Ok(Listed::default()) };
        let kept = file.flush().and_then(|()| file.get_ref().sync_all());
        kept.map_err(|source| EngineError::file("write", &self.path, source))?;
        let shown = self.shown.into_values().flatten().collect();
        Ok(Listed { shown, unlisted: self.unlisted, file: Some(self.path.display().to_string()) })
    }
}

/// Records of no flow, out of one part of a table: they become differences when the part has been read to its end.
pub(crate) struct Strangers {
    folder: Arc<Folder>,
    /// The number of the file that they are spilled into, once they are many.
    file: Option<u64>,
    gathered: Vec<u8>,
}

impl Strangers {
    pub(crate) fn new(folder: &Arc<Folder>) -> Self {
        Self { folder: Arc::clone(folder), file: None, gathered: Vec::new() }
    }

    /// Takes in a record.
    pub(crate) fn add(&mut self, key: Map<String, Value>, record: &Map<String, Value>) -> Result<()> {
        let difference = Difference {
            flow: None,
            kind: DifferenceKind::Extra,
            key,
            attributes: attributes(None, Some(record)),
            since: None,
            uncertain: false,
        };
        serde_json::to_writer(&mut self.gathered, &difference).map_err(|error| unwritable(&error))?;
        self.gathered.push(b'\n');
        if self.gathered.len() < PORTION {
            return Ok(());
        }
        self.spill()
    }

    fn spill(&mut self) -> Result<()> {
        /// Tells the files of one process's parts apart.
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = *self.file.get_or_insert_with(|| NUMBER.fetch_add(1, Ordering::Relaxed));
        let (path, mut file) = self.folder.append(&spilled(number))?;
        file.write_all(&self.gathered).map_err(|source| EngineError::file("write", path, source))?;
        self.gathered.clear();
        Ok(())
    }

    /// Their part has been read to its end.
    pub(crate) fn end(mut self, differences: &mut Differences) -> Result<()> {
        let gathered = std::mem::take(&mut self.gathered);
        if let Some(number) = self.file {
            let path = self.folder.path(&spilled(number));
            let failed = |source| EngineError::file("read", &path, source);
            for line in BufReader::new(File::open(&path).map_err(failed)?).lines() {
                differences.keep_other(line.map_err(failed)?.as_bytes())?;
            }
        }
        gathered
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .try_for_each(|line| differences.keep_other(line))
    }
}

impl Drop for Strangers {
    fn drop(&mut self) {
        if let Some(number) = self.file {
            // What is not removed goes with the folder.
            let _ = std::fs::remove_file(self.folder.path(&spilled(number)));
        }
    }
}

fn spilled(number: u64) -> String {
    format!("{number}.others")
}

fn unwritable(error: &serde_json::Error) -> EngineError {
    EngineError::Internal(format!("a difference has no JSON form: {error}"))
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
    attributes.retain(|attribute| differs(&flow.ignore, attribute));
    Difference { flow: Some(flow.plan.name.clone()), kind, key, attributes, since, uncertain: false }
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

/// Whether an attribute that is not the same still differs without what is left out of comparison.
fn differs(ignore: &Ignored, attribute: &AttributeDifference) -> bool {
    let rest = |value: &Option<Value>| {
        let kept = ignore.prune(&attribute.name, value.clone()?);
        form(Some(&kept))
    };
    !ignore.whole(&attribute.name) && rest(&attribute.source) != rest(&attribute.target)
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
    fn a_document_that_differs_in_what_is_ignored_alone_is_not_named() {
        let ignore = Ignored::new(vec!["doc.seen_at".to_owned(), "at".to_owned()]);
        let source = object(&json!({"doc": {"a": 1, "seen_at": "x"}, "at": 1, "n": {"seen_at": 1}, "m": {}}));
        let target = object(&json!({"doc": {"a": 1.0, "seen_at": "y"}, "at": 2, "n": {"seen_at": 2}}));
        let mut found = attributes(Some(&source), Some(&target));
        assert_eq!(found.len(), 4);
        found.retain(|attribute| differs(&ignore, attribute));
        let names: Vec<&str> = found.iter().map(|pair| pair.name.as_str()).collect();
        assert_eq!(names, ["m", "n"]);
    }

    /// A place for differences, with a folder for what is spilled.
    fn place() -> (tempfile::TempDir, Differences, Arc<Folder>) {
        let place = tempfile::tempdir().unwrap();
        let gone = tokio_util::sync::CancellationToken::new().drop_guard();
        let folder = Folder::at(place.path().join("compare-1"), gone);
        let differences = Differences::into_file(place.path().join("d.ndjson"));
        (place, differences, folder)
    }

    #[test]
    fn every_difference_is_in_the_file_and_few_are_in_memory() {
        let (_place, mut differences, folder) = place();
        let record = object(&json!({"id": 1, "text": "x".repeat(2_000)}));
        let mut strangers = Strangers::new(&folder);
        for _ in 0..100 {
            strangers.add(record.clone(), &record).unwrap();
        }
        assert!(strangers.file.is_some() && strangers.gathered.len() < PORTION, "many are spilled");
        strangers.end(&mut differences).unwrap();
        assert_eq!(differences.others, 100);
        let listed = differences.end().unwrap();
        assert_eq!((listed.shown.len(), listed.unlisted), (SHOWN, 80));
        let file = listed.file.unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = std::fs::metadata(&file).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "it holds values of records");
        }
        let lines = std::fs::read_to_string(file).unwrap();
        assert_eq!(lines.lines().count(), 100);
        assert!(lines.lines().all(|line| line.contains("\"id\":1")));
    }

    #[test]
    fn a_part_that_was_not_read_to_its_end_leaves_nothing() {
        let (place, differences, folder) = place();
        let record = object(&json!({"id": 1, "text": "x".repeat(2_000)}));
        let mut strangers = Strangers::new(&folder);
        for _ in 0..100 {
            strangers.add(record.clone(), &record).unwrap();
        }
        drop(strangers);
        assert_eq!((differences.others, differences.end().unwrap().file), (0, None));
        let left = std::fs::read_dir(place.path().join("compare-1")).unwrap();
        assert_eq!(left.count(), 1, "the lock alone");
    }
}
