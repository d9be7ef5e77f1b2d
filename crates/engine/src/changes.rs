//! What is altered record by record, for those who want to see each: foreseen by a plan, or done by a run.

use crate::error::Result;
use crate::flow::{FlowPlan, Reached};
use arrow::array::RecordBatch;
use serde::Serialize;
use serde_json::{Map, Value};
use std::sync::Arc;
use whimbrel_model::{FlowName, Reject, record};
use whimbrel_store::{Encoded, Mode, Outcome, RunContext, StoreErrorKind};

/// A record that a run alters, or tries to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// Its flow.
    pub flow: FlowName,
    /// The values of its key in the target, in order.
    pub key: Vec<Value>,
    /// What is different, attribute by attribute.
    pub attributes: Vec<Alteration>,
    /// What became of it, or would.
    pub fate: Fate,
}

/// An attribute that is altered.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Alteration {
    /// Its name.
    pub name: String,
    /// What the target held, as far as it was read; `None`: nothing, or nobody looked.
    pub old: Option<Value>,
    /// What it holds then; `None`: nothing.
    pub new: Option<Value>,
}

/// What becomes of a record.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// A run would create it.
    WouldCreate,
    /// A run would update it.
    WouldUpdate,
    /// A run would reject it, and why.
    WouldFail(String),
    /// It was created.
    Created,
    /// It was updated.
    Updated,
    /// It was rejected, and why: a conflict with a newer value, for one.
    Failed(String),
}

/// Is told of each change. Called from many tasks at once.
#[derive(Clone)]
pub struct Watch(pub Arc<dyn Fn(&Change) + Send + Sync>);

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watch(…)")
    }
}

/// Tells what a run would alter, and which records it would reject, so far as that can be known beforehand.
///
/// # Errors
/// The target cannot be asked what it holds.
pub(crate) async fn foresee(plan: &FlowPlan, reached: &Reached, context: &RunContext) -> Result<()> {
    let Some(watch) = plan.watch.get() else { return Ok(()) };
    tell_rejects(plan, &reached.rejects, Fate::WouldFail);
    let records = &reached.records;
    if records.num_rows() == 0 {
        return Ok(());
    }
    let encoded = plan.target.encode(records, context);
    let is_known = reached.guards.is_some() && plan.reads_its_target;
    let held = if is_known { None } else { held(plan, records, context).await? };
    for (row, encoded) in encoded.into_iter().enumerate() {
        let key = key(plan, records, row);
        let old = held.as_ref().and_then(|held| held.get(row)?.as_ref());
        let (attributes, fate) = match (encoded, &reached.guards) {
            (Err(refusal), _) => (Vec::new(), Fate::WouldFail(refusal.reason)),
            (Ok(Encoded { preview: Value::Object(new), .. }), Some(guards)) => {
                let attributes = guarded(plan, &new, guards, row);
                let fate = if held.is_some() { guarded_fate(&attributes, old) } else { Fate::WouldUpdate };
                if attributes.iter().all(|attribute| old.is_some_and(|old| attribute.is_done(old))) {
                    continue;
                }
                (attributes, fate)
            }
            (Ok(Encoded { preview: Value::Object(new), .. }), None) => {
                let Some(fate) = fate(plan.mode, old.is_some()) else { continue };
                (compared(plan, old, &new), fate)
            }
            (Ok(_), _) => continue,
        };
        // A record that fails has nothing to alter, all the same it is told.
        if !attributes.is_empty() || matches!(fate, Fate::WouldFail(_)) {
            (watch.0)(&Change { flow: plan.name.clone(), key, attributes, fate });
        }
    }
    Ok(())
}

/// What the target holds under the keys of records; `None`: it holds nothing that a record would be added to.
async fn held(
    plan: &FlowPlan,
    records: &RecordBatch,
    context: &RunContext,
) -> Result<Option<Vec<Option<Map<String, Value>>>>> {
    let found = match plan.target.look_up(records, context).await {
        Ok(found) => found,
        // A file is written whole; a table that is not there yet holds nothing.
        Err(error) if matches!(error.kind(), StoreErrorKind::Unsupported | StoreErrorKind::NotFound) => {
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    let record = |row: &Option<usize>| row.map(|row| found.held.contents.record(row));
    Ok(Some(found.rows.iter().map(record).collect()))
}

fn fate(mode: Mode, is_held: bool) -> Option<Fate> {
    Some(match (mode, is_held) {
        (Mode::SkipExisting, true) => return None,
        (Mode::Insert, true) => Fate::WouldFail("its key is there already".to_owned()),
        (Mode::Update, false) => Fate::WouldFail("there is no record with this key".to_owned()),
        (_, true) => Fate::WouldUpdate,
        (_, false) => Fate::WouldCreate,
    })
}

/// What becomes of a record whose guards were read elsewhere, a dump for one, by what the target holds now.
fn guarded_fate(attributes: &[Alteration], held: Option<&Map<String, Value>>) -> Fate {
    let Some(held) = held else { return Fate::WouldFail("there is no record with this key".to_owned()) };
    match attributes.iter().find(|attribute| !attribute.is_as_read(held)) {
        Some(Alteration { name, .. }) => {
            Fate::WouldFail(format!("conflict: attribute `{name}` holds another value than was read"))
        }
        None => Fate::WouldUpdate,
    }
}

impl Alteration {
    /// Whether the target holds the new value already.
    fn is_done(&self, held: &Map<String, Value>) -> bool {
        is_same(held.get(&self.name), self.new.as_ref())
    }

    /// Whether the target holds the value that was read.
    fn is_as_read(&self, held: &Map<String, Value>) -> bool {
        is_same(self.old.as_ref(), held.get(&self.name))
    }
}

/// Tells of records that go no further.
pub(crate) fn tell_rejects(plan: &FlowPlan, rejects: &[Reject], fate: impl Fn(String) -> Fate) {
    let Some(watch) = plan.watch.get() else { return };
    for reject in rejects {
        // By the target's key where the source has those columns too, as the others are.
        let by_target: Option<Vec<Value>> =
            plan.into_key.iter().map(|name| reject.record.get(name).cloned()).collect();
        let key = by_target.unwrap_or_else(|| reject.key.values().cloned().collect());
        let fate = fate(reject.reason.clone());
        (watch.0)(&Change { flow: plan.name.clone(), key, attributes: Vec::new(), fate });
    }
}

/// Tells what a run did with a record.
pub(crate) fn tell(plan: &FlowPlan, reached: &Reached, row: usize, outcome: &Outcome, context: &RunContext) {
    let Some(watch) = plan.watch.get() else { return };
    let fate = match outcome {
        Outcome::Created(_) => Fate::Created,
        Outcome::Updated(_) => Fate::Updated,
        Outcome::Rejected(refusal) => Fate::Failed(refusal.reason.clone()),
        Outcome::Unchanged(_) | Outcome::Skipped => return,
    };
    let record = reached.records.slice(row, 1);
    let encoded = plan.target.encode(&record, context).pop();
    let attributes = match encoded {
        Some(Ok(Encoded { preview: Value::Object(new), .. })) => match &reached.guards {
            Some(guards) => guarded(plan, &new, guards, row),
            None => compared(plan, None, &new),
        },
        _ => Vec::new(),
    };
    let key = key(plan, &reached.records, row);
    (watch.0)(&Change { flow: plan.name.clone(), key, attributes, fate });
}

fn key(plan: &FlowPlan, records: &RecordBatch, row: usize) -> Vec<Value> {
    let mut key = record::key_to_json(records, row, &plan.into_key);
    plan.into_key.iter().filter_map(|name| key.remove(name)).collect()
}

/// What differs from the values that were read.
fn guarded(plan: &FlowPlan, new: &Map<String, Value>, guards: &RecordBatch, row: usize) -> Vec<Alteration> {
    let names = plan.output().fields().iter().map(|field| field.name());
    let names = names.filter(|name| !plan.into_key.contains(name));
    let alteration = |name: &String| {
        let new = new.get(name).filter(|value| !value.is_null()).cloned();
        let old = guards.column_by_name(name).map(|column| record::value_to_json(column, row));
        let old = old.filter(|value| !value.is_null());
        (!is_same(old.as_ref(), new.as_ref())).then(|| Alteration { name: name.clone(), old, new })
    };
    names.filter_map(alteration).collect()
}

/// What differs from what the target holds.
fn compared(plan: &FlowPlan, old: Option<&Map<String, Value>>, new: &Map<String, Value>) -> Vec<Alteration> {
    let names = plan.output().fields().iter().map(|field| field.name());
    let names = names.filter(|name| !plan.into_key.contains(name));
    let alteration = |name: &String| {
        let old = old.and_then(|old| old.get(name)).cloned();
        let new = new.get(name).cloned();
        (old != new).then(|| Alteration { name: name.clone(), old, new })
    };
    names.filter_map(alteration).collect()
}

/// A number that was read as text is still the number; what is not there and NULL are no values.
fn is_same(old: Option<&Value>, new: Option<&Value>) -> bool {
    let is_value = |value: &&Value| !value.is_null();
    match (old.filter(is_value), new.filter(is_value)) {
        (Some(Value::String(old)), Some(Value::Number(new))) => *old == new.to_string(),
        (old, new) => old == new,
    }
}
