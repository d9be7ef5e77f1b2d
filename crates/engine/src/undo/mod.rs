//! Undoing a run: the targets become what they were before it.
//!
//! A table that the run made is removed, one that held nothing is emptied; both only where they hold exactly what the
//! run says it has written. Elsewhere before-images are needed, which a run keeps where its spec says `undo: true`.

mod emptying;
mod images;
mod outcome;
mod read_back;

use crate::changed;
use crate::error::{EngineError, Result};
use crate::flow::FlowPlan;
use crate::journal::{Journal, RunKind, RunRecord, TargetRecord};
use crate::migration::{Migration, Scan, ScanFlow};
use crate::run::{identities, same_fingerprints, same_stores};
use crate::summary;
use emptying::Emptying;
use images::{ImageFile, Images};
pub use outcome::UndoOutcome;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use whimbrel_model::{FlowName, StoreName};
use whimbrel_store::undo::CONFLICTS_LISTED;
use whimbrel_store::{BeforeImages, Removal, RunContext, TargetPlan, UndoStep, Undoing, Undone};

/// The option of a run that keeps before-images.
pub(crate) const UNDO: &str = "undo";
/// The outcome of a run that is being undone, and of one that was.
pub const UNDOING: &str = "undoing";
/// See [`UNDOING`].
pub const UNDONE: &str = "undone";
/// How a table is brought back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// The run made it: it is removed.
    Remove,
    /// It held nothing: what the run wrote is deleted.
    Empty,
    /// By before-images.
    Restore,
    /// The run has written nothing into it, or it is gone.
    Nothing,
}

/// What becomes of a table.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TableUndo {
    /// The store.
    pub store: StoreName,
    /// The table.
    pub table: String,
    /// How.
    pub way: Way,
    /// What is or was done.
    #[serde(flatten)]
    pub undone: Undone,
}

/// A run that is to be undone, with the retries of its rejects.
pub struct Undo<'a> {
    migration: &'a Migration,
    journal: &'a Journal,
    /// The latest first; the run itself is the last.
    runs: Vec<RunRecord>,
    context: RunContext,
}

/// The retries of a run, the latest first, and the run itself.
fn chain(journal: &Journal, run: &RunRecord) -> Result<Vec<RunRecord>> {
    let mut runs = vec![run.clone()];
    for later in journal.runs()?.into_iter().rev() {
        let is_retry = |of: &RunRecord| later.kind == RunKind::Retry { parent: of.id.clone() };
        if runs.iter().any(is_retry) && later.outcome.as_deref() != Some(UNDONE) {
            runs.push(later);
        }
    }
    runs.reverse();
    Ok(runs)
}

impl<'a> Undo<'a> {
    /// Looks whether the run is one that can be undone: its stores and tables are those that it wrote into.
    ///
    /// # Errors
    /// They are not, a later run has to be undone first, or a store or the journal fails.
    pub async fn of(
        migration: &'a Migration,
        journal: &'a Journal,
        run: &RunRecord,
        context: RunContext,
    ) -> Result<Self> {
        same_stores(&journal.stores(&run.id)?, &identities(migration).await?)?;
        let runs = chain(journal, run)?;
        let hint = "undo it with that build: this one could not tell what the run has written";
        runs.iter().try_for_each(|run| same_fingerprints(run, hint))?;
        Ok(Self { migration, journal, runs, context })
    }

    fn run(&self) -> Result<&RunRecord> {
        self.runs.last().ok_or_else(|| EngineError::Internal("a run to be undone was not found".to_owned()))
    }

    /// The names of the runs that are undone together, the latest first.
    pub fn runs(&self) -> impl Iterator<Item = &whimbrel_model::RunId> {
        self.runs.iter().map(|run| &run.id)
    }

    /// Looks what there is to be brought back, table by table; changes nothing.
    ///
    /// # Errors
    /// A table cannot be brought back, or a store or the journal fails.
    pub async fn look(&self) -> Result<Vec<TableUndo>> {
        self.all(UndoStep::Look).await
    }

    /// Brings everything back. May be called again after it was cut off.
    ///
    /// # Errors
    /// A store or the journal fails; some tables may have been brought back.
    pub async fn act(&self) -> Result<Vec<TableUndo>> {
        for run in &self.runs {
            self.journal.end(&run.id, UNDOING)?;
        }
        let mut targets = Vec::new();
        for run in &self.runs {
            targets.extend(self.journal.targets(&run.id)?);
        }
        // Whoever trusts what this journal knows of the tables would trust too much.
        changed::distrust(self.journal, self.run()?, &targets)?;
        let mut all = Vec::new();
        if !changed::deleting(self.migration).is_empty() {
            all = self.all(UndoStep::PutBack).await?;
        }
        if all.iter().all(|table| table.undone.conflicts == 0) {
            all = self.all(UndoStep::All).await?;
        }
        UndoOutcome::store(&all, &self.journal.run_folder(&self.run()?.id))?;
        if all.iter().all(|table| table.undone.conflicts == 0) {
            for run in &self.runs {
                self.journal.end(&run.id, UNDONE)?;
                forget_contents(&self.journal.run_folder(&run.id));
            }
        }
        Ok(all)
    }

    async fn all(&self, step: UndoStep) -> Result<Vec<TableUndo>> {
        let mut tables: Vec<(&StoreName, String, Vec<&ScanFlow>)> = Vec::new();
        for (_, flow) in self.migration.flows() {
            let table = flow.plan.target.resource();
            match tables.iter_mut().find(|(store, other, _)| **store == flow.store && *other == table) {
                Some((.., flows)) => flows.push(flow),
                None => tables.push((&flow.store, table, vec![flow])),
            }
        }
        if step != UndoStep::PutBack {
            // Children before their parents.
            tables.reverse();
        }
        let mut all = Vec::new();
        for (store, table, flows) in tables {
            let (way, undone) = self.table(&table, &flows, step).await?;
            all.push(TableUndo { store: store.clone(), table, way, undone });
        }
        Ok(all)
    }

    async fn table(&self, table: &str, flows: &[&ScanFlow], step: UndoStep) -> Result<(Way, Undone)> {
        let run = self.run()?;
        let recorded = self.journal.targets(&run.id)?;
        let Some(target) =
            recorded.iter().find(|target| flows.iter().any(|flow| flow.plan.name == target.flow))
        else {
            return Ok((Way::Nothing, Undone::default()));
        };
        let now = flows[0].plan.target.identity().await?.map(|identity| identity.as_str().to_owned());
        if now.is_none() && target.made {
            self.forget(flows[0], table).await?;
            return Ok((Way::Nothing, Undone { already: true, ..Undone::default() }));
        }
        if now != target.identity {
            let what = if now.is_none() { "is gone" } else { "is not the one that the run wrote into" };
            return Err(EngineError::refused(
                format!("store `{}`: table `{table}` {what}", flows[0].store),
                "what another has made in its place is left as it is",
            ));
        }
        match self.way(target, flows)? {
            Way::Nothing => Ok((Way::Nothing, Undone::default())),
            Way::Restore => Ok((Way::Restore, self.restore(table, flows, step).await?)),
            // The run has deleted nothing there.
            way if step == UndoStep::PutBack => Ok((way, Undone::default())),
            way => {
                self.refuse_later(target)?;
                let emptying = Emptying::of(self, flows, table)?;
                let undone = match emptying.has_begun() {
                    true => Undone::default(),
                    false => self.compare(flows).await?,
                };
                let act = step == UndoStep::All;
                if act && undone.conflicts == 0 && way == Way::Remove {
                    self.remove(flows[0], table).await?;
                } else if act && undone.conflicts == 0 {
                    return Ok((way, emptying.carry_out().await?));
                }
                Ok((way, undone))
            }
        }
    }

    fn written(&self, flows: &[&ScanFlow]) -> Result<u64> {
        let mut written = 0;
        for run in &self.runs {
            let of_run = self.written_by(run)?;
            written +=
                flows.iter().map(|flow| of_run.get(&flow.plan.name).copied().unwrap_or(0)).sum::<u64>();
        }
        Ok(written)
    }

    /// How many records a run has written or deleted, by flow.
    fn written_by(&self, run: &RunRecord) -> Result<BTreeMap<FlowName, u64>> {
        let counts = summary::counts(self.journal, run)?.into_iter();
        let mut written: BTreeMap<FlowName, u64> =
            counts.map(|(flow, counts)| (flow, counts.created + counts.updated)).collect();
        for (flow, deletions) in changed::deletions_of(&self.journal.run_folder(&run.id))? {
            *written.entry(flow).or_default() += deletions.deleted;
        }
        Ok(written)
    }

    fn way(&self, target: &TargetRecord, flows: &[&ScanFlow]) -> Result<Way> {
        if target.made {
            return Ok(Way::Remove);
        }
        if target.empty {
            return Ok(Way::Empty);
        }
        let run = self.run()?;
        if keeps(run) {
            return Ok(Way::Restore);
        }
        if self.written(flows)? == 0 && !run.is_unfinished() {
            return Ok(Way::Nothing);
        }
        if let RunKind::Retry { parent } = &run.kind {
            return Err(EngineError::refused(
                format!("the run {} replayed the rejects of another", run.id.short()),
                format!("`whimbrel undo {}` undoes both", parent.short()),
            ));
        }
        Err(EngineError::refused(
            format!(
                "the run {} kept no before-images, and the table `{}` held records before it",
                run.id.short(),
                target.resource
            ),
            "only a run of a spec with `undo: true` can be undone there; a backup, or point-in-time recovery, can help",
        ))
    }

    /// A table that held nothing holds after two runs what both have written.
    fn refuse_later(&self, target: &TargetRecord) -> Result<()> {
        let run = self.run()?;
        for later in self.journal.runs()? {
            if later.id == run.id {
                break;
            }
            if self.runs.iter().any(|own| own.id == later.id) || later.outcome.as_deref() == Some(UNDONE) {
                continue;
            }
            let is_same =
                |other: &TargetRecord| other.identity.is_some() && other.identity == target.identity;
            let written = self.written_by(&later)?;
            let wrote = |flow| written.get(flow).is_some_and(|records| *records > 0);
            if self.journal.targets(&later.id)?.iter().any(|other| is_same(other) && wrote(&other.flow)) {
                return Err(EngineError::refused(
                    format!(
                        "the run {} has written into table `{}` later",
                        later.id.short(),
                        target.resource
                    ),
                    format!("undo that one first: `whimbrel undo {}`", later.id.short()),
                ));
            }
        }
        Ok(())
    }

    async fn restore(&self, table: &str, flows: &[&ScanFlow], step: UndoStep) -> Result<Undone> {
        let (flow, mut all) = (flows[0], Undone::default());
        all.already = true;
        for run in &self.runs {
            let images: Arc<dyn BeforeImages> =
                Arc::new(Images(ImageFile::of(&self.journal.run_folder(&run.id), &flow.store, table)));
            let context = RunContext { run: run.id.clone(), ..self.context.clone() };
            let undone = flow.plan.target.undo(&images, step, &context).await?;
            let written = self.written_by(run)?;
            let wrote = |flow: &&ScanFlow| written.get(&flow.plan.name).is_some_and(|records| *records > 0);
            if undone.nothing_kept && flows.iter().any(wrote) {
                return Err(EngineError::refused(
                    format!(
                        "the before-images of run {} in table `{table}` are not there any more",
                        run.id.short()
                    ),
                    "they are kept for 30 days; a backup, or point-in-time recovery, can help",
                ));
            }
            all.already &= undone.already;
            all.restored += undone.restored;
            all.removed += undone.removed;
            all.conflicts += undone.conflicts;
            all.conflicting.extend(undone.conflicting);
            all.conflicting.truncate(CONFLICTS_LISTED);
            if step != UndoStep::Look && undone.conflicts > 0 {
                break;
            }
        }
        Ok(all)
    }

    async fn remove(&self, flow: &ScanFlow, table: &str) -> Result<()> {
        if flow.plan.target.remove().await? == Removal::Unable {
            return Err(EngineError::refused(
                format!("store `{}`: `{table}` cannot be removed by whimbrel", flow.store),
                "remove it by hand: the run made it, and it holds nothing else",
            ));
        }
        self.forget(flow, table).await
    }

    /// The journal no longer has a table that is gone.
    async fn forget(&self, flow: &ScanFlow, table: &str) -> Result<()> {
        let run = self.run()?;
        let Some(store) = self.migration.stores.get(&flow.store) else { return Ok(()) };
        let identity = store.identity().await?;
        for resource in self.journal.resources(&run.migration, run.environment.as_deref())? {
            let same = resource.identity.as_deref().is_none_or(|known| known == identity.as_str());
            if resource.store == flow.store && resource.name == table && same {
                self.journal.forget_resource(&resource)?;
            }
        }
        Ok(())
    }
}

/// Records stand in before-images and in what was noted to be deleted: of a run that is undone nobody needs them.
fn forget_contents(run_folder: &Path) {
    let mut removed = vec![std::fs::remove_dir_all(run_folder.join("undo"))];
    removed.extend(changed::doomed_files(run_folder).into_iter().map(std::fs::remove_file));
    for error in removed.into_iter().filter_map(std::result::Result::err) {
        if error.kind() != std::io::ErrorKind::NotFound {
            tracing::warn!(folder = %run_folder.display(), %error, "what the run kept for its undoing stays");
        }
    }
}

/// Whether a run keeps before-images.
#[must_use]
pub fn keeps(run: &RunRecord) -> bool {
    run.options.get(UNDO).and_then(Value::as_bool).unwrap_or_default()
}

/// A run's options with what its spec says of before-images.
pub(crate) fn noted(mut options: Value, keeps: bool) -> Value {
    if let (Value::Object(options), true) = (&mut options, keeps) {
        options.insert(UNDO.to_owned(), true.into());
    }
    options
}

/// What a plan says of the undoing of a run.
///
/// # Errors
/// The target's store fails.
pub(crate) async fn notes(flow: &FlowPlan, target: &TargetPlan, records: Option<u64>) -> Result<Vec<String>> {
    if !target.exists {
        return Ok(vec![
            "to undo the run removes the table, which the run makes: no before-images are needed".to_owned(),
        ]);
    }
    let mut notes = vec![match flow.target.undoing() {
        Undoing::Unable(why) => {
            format!("if the table holds records the run is refused, as it could not be undone: {why}")
        }
        Undoing::Beside(table) => {
            let rows = records.map(|records| format!(" of up to {records} rows")).unwrap_or_default();
            format!(
                "before-images{rows} are kept in {table}, in each batch's own transaction: as much room \
                 again as the rows that are written over, for 30 days; none where the table holds nothing"
            )
        }
        Undoing::HandedOver => {
            let units = image_units(flow, target, records);
            let reads = match (flow.changing.is_some(), units > 0.0) {
                (true, _) => "the reads that compare the records do for both".to_owned(),
                (false, true) => format!("about {units:.0} read units"),
                (false, false) => "one read of each key".to_owned(),
            };
            format!(
                "before-images are kept in the run's folder before each write, which is conditional on them: {reads}, \
                 as much room as what is written over; none where the table holds nothing"
            )
        }
    }];
    if deletes(flow) && !matches!(flow.target.undoing(), Undoing::Unable(_)) {
        notes.push(match flow.target.deletes_besides().await?.first() {
            Some(besides) => format!(
                "if the table holds records the run is refused, as it could not be undone: {}",
                unkept(besides)
            ),
            None => "what is deleted is kept before it is deleted, whole: as much room again as the records that go, \
                     and no further reads; to undo writes each of them again"
                .to_owned(),
        });
    }
    Ok(notes)
}

fn deletes(flow: &FlowPlan) -> bool {
    flow.changing.is_some_and(|changing| changing.delete_missing)
}

/// Why what a deletion does besides cannot be undone.
fn unkept(besides: &str) -> String {
    format!("not yet: where `delete_missing` deletes a record, {besides}")
}

/// Read units of before-images, beside what comparing reads.
#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn image_units(flow: &FlowPlan, target: &TargetPlan, records: Option<u64>) -> f64 {
    match (flow.target.undoing(), target.read_back, records) {
        (Undoing::HandedOver, Some(cost), Some(records)) if flow.changing.is_none() => {
            cost.each_units * records as f64
        }
        _ => 0.0,
    }
}

/// Read units that before-images use in a run of this migration.
pub(crate) fn read_units(migration: &Migration, scan: &Scan, flow: &ScanFlow) -> f64 {
    if migration.resolved.undo {
        image_units(&flow.plan, &flow.target, scan.description.records)
    } else {
        0.0
    }
}

/// From now on the targets of a run keep what they write over, where its spec says so.
///
/// # Errors
/// One of them cannot: nothing may be written.
pub(crate) async fn begin(migration: &Migration, journal: &Journal, run: &RunRecord) -> Result<()> {
    if !keeps(run) {
        return Ok(());
    }
    let recorded = journal.targets(&run.id)?;
    let mut files: BTreeMap<(&StoreName, String), Arc<dyn BeforeImages>> = BTreeMap::new();
    for (_, flow) in migration.flows() {
        let (name, table) = (&flow.plan.name, flow.plan.target.resource());
        let target = recorded.iter().find(|target| target.flow == *name);
        if target.is_none_or(|target| target.made || target.empty) {
            continue;
        }
        let refused = |why: &str| {
            EngineError::refused(
                format!("flow `{name}`: what it writes into `{table}` could not be undone: {why}"),
                "write `undo: false`, or take a backup and write into a table of its own",
            )
        };
        if let Undoing::Unable(why) = flow.plan.target.undoing() {
            return Err(refused(why));
        }
        if deletes(&flow.plan)
            && let Some(besides) = flow.plan.target.deletes_besides().await?.first()
        {
            return Err(refused(&unkept(besides)));
        }
        let file = files.entry((&flow.store, table.clone())).or_insert_with(|| {
            Arc::new(Images(ImageFile::of(&journal.run_folder(&run.id), &flow.store, &table)))
        });
        flow.plan.target.keep_before_images(Arc::clone(file)).await?;
    }
    Ok(())
}
