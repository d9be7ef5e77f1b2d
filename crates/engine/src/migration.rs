//! A migration made ready: its stores opened, its flows compiled and gathered into scan groups.

use crate::changed;
use crate::changes::Watch;
use crate::condition;
use crate::each::{EachSource, Parents};
use crate::error::{EngineError, Result};
use crate::flow::FlowPlan;
use crate::needs;
use crate::receipts::ReceiptSource;
use crate::shapes;
use crate::spill::SpillSource;
use crate::undo;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use whimbrel_model::{FingerprintKey, FlowName, GroupName, Slice, SliceId, SlicePart, StoreName};
use whimbrel_spec::resolved::{self, FromRequest, NullRule, Unmatched, WriteMode};
use whimbrel_spec::{Position, Resolved, ResolvedFlow, SpecError, SpecErrorKind};
use whimbrel_store::{
    Metric, Mode, Nulls, Parameter, ReadRequest, Relation, Source, SourceDescription, Store, StoreError,
    StoreErrorKind, Target, TargetPlan, VectorCollection, VectorIndex, WriteRequest,
};

/// The stores of a spec, opened, by their names.
pub type Stores = BTreeMap<StoreName, Arc<dyn Store>>;

/// Bytes that a batch holds at the most where the spec does not say.
const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// A migration made ready.
pub struct Migration {
    /// The spec with every variable filled in.
    pub resolved: Resolved,
    /// Its stores.
    pub stores: Stores,
    /// What is read, in an order in which each scan comes after those it waits for.
    pub scans: Vec<Scan>,
}

/// Flows that read the same thing; it is read once.
pub struct Scan {
    /// The name of its first flow.
    pub name: GroupName,
    /// The store that is read.
    pub store: StoreName,
    /// What is read.
    pub source: Arc<dyn Source>,
    /// What it holds.
    pub description: SourceDescription,
    /// Who takes its records.
    pub flows: Vec<ScanFlow>,
    /// Who takes its records once other flows of the scan are complete: they are spilled, and another scan
    /// reads what was spilled.
    pub spilling: Vec<ScanFlow>,
    /// Of a scan over spilled records: where they come from.
    pub spilled: Option<Spilled>,
    /// Of a scan over what the run itself has done: what reads that.
    pub receipts: Option<Arc<ReceiptSource>>,
    /// Of a scan over elements: the records that hold them.
    pub parents: Option<Arc<Parents>>,
    /// The scans that must be complete before this one begins.
    pub after: BTreeSet<GroupName>,
    /// Records in a batch.
    pub batch_records: usize,
}

impl Scan {
    /// The slice number `index`.
    #[must_use]
    pub fn slice(&self, index: usize, part: SlicePart) -> Slice {
        Slice { id: SliceId::of(&self.name, index), group: self.name.clone(), part }
    }

    /// The columns whose values tell kinds of records apart, where it matters what no flow takes: every record
    /// is seen, and every flow says which ones are its own.
    #[must_use]
    pub fn kinds(&self) -> Option<Vec<String>> {
        let all = self.flows.iter().chain(&self.spilling);
        let choosy = self.description.sees_all && all.clone().all(|flow| flow.plan.is_choosy());
        choosy.then(|| self.description.key.clone())
    }
}

/// Where spilled records come from.
#[derive(Clone)]
pub struct Spilled {
    /// The scan that spills them.
    pub by: GroupName,
    /// Reads them.
    pub source: Arc<SpillSource>,
}

/// A flow of a scan.
#[derive(Clone)]
pub struct ScanFlow {
    /// The flow, compiled.
    pub plan: Arc<FlowPlan>,
    /// The store that is written.
    pub store: StoreName,
    /// What its target says of the records to come.
    pub target: TargetPlan,
}

impl Migration {
    /// Compiles every flow and looks at every source and target. Reads catalogs, writes nothing.
    ///
    /// # Errors
    /// A store fails, SQL cannot be compiled, or a record could not have its place in its target.
    pub async fn prepare(resolved: Resolved, stores: Stores, batch_records: Option<usize>) -> Result<Self> {
        let mut scans: Vec<Scan> = Vec::new();
        for flows in scan_groups(&resolved.flows, &stores) {
            let mut scan = prepare_scan(&flows, &stores, batch_records, &resolved).await?;
            let waiting = spill_scans(&mut scan);
            scans.push(scan);
            scans.extend(waiting);
        }
        shapes::check(&resolved, &scans)?;
        let scan_of: BTreeMap<FlowName, GroupName> = scans
            .iter()
            .flat_map(|scan| scan.flows.iter().map(|flow| (flow.plan.name.clone(), scan.name.clone())))
            .collect();
        for scan in scans.iter_mut().filter(|scan| scan.spilled.is_none()) {
            let flows = resolved.flows.iter().filter(|flow| scan_of.get(&flow.name) == Some(&scan.name));
            let waits = flows.flat_map(|flow| &flow.after).filter_map(|after| scan_of.get(after));
            scan.after = waits.filter(|group| **group != scan.name).cloned().collect();
        }
        Ok(Self { resolved, stores, scans: in_order(scans)? })
    }

    /// From now on somebody is told of each record that a plan or a run of this migration alters.
    pub fn watch(&self, watch: &Watch) {
        let flows = self.scans.iter().flat_map(|scan| scan.flows.iter().chain(&scan.spilling));
        // A second watch would have to be told of what the first one was: there is none.
        flows.for_each(|flow| drop(flow.plan.watch.set(watch.clone())));
    }

    /// The names of the stores that are read.
    #[must_use]
    pub fn source_stores(&self) -> BTreeSet<&StoreName> {
        self.scans.iter().filter(|scan| scan.receipts.is_none()).map(|scan| &scan.store).collect()
    }

    /// Leaves out the flows that write what a run itself has done: each run writes other records.
    pub fn without_receipts(&mut self) {
        self.scans.retain(|scan| scan.receipts.is_none());
        self.resolved.flows.retain(|flow| flow.from.relation != resolved::Relation::Run);
    }

    /// Every flow with its scan, in order.
    pub fn flows(&self) -> impl Iterator<Item = (&Scan, &ScanFlow)> {
        self.scans.iter().flat_map(|scan| scan.flows.iter().map(move |flow| (scan, flow)))
    }

    /// The target of a flow, written in another mode.
    ///
    /// # Errors
    /// The flow is none of this migration's, or its store does not know the mode.
    pub fn target_in(&self, flow: &FlowName, mode: Mode) -> Result<Arc<dyn Target>> {
        let resolved = self.resolved.flows.iter().find(|other| other.name == *flow);
        let resolved = resolved
            .ok_or_else(|| EngineError::Internal(format!("flow `{flow}` is none of this migration")))?;
        Ok(opened(&self.stores, &resolved.into.store)?.target(write_request(resolved, mode))?)
    }

    /// How a flow's records are written; `None` where there is no such flow.
    #[must_use]
    pub fn write_request(&self, flow: &FlowName) -> Option<WriteRequest> {
        let flow = self.resolved.flows.iter().find(|other| other.name == *flow)?;
        Some(write_request(flow, mode(flow)))
    }

    /// A digest of what the spec's text does not say: the flows with the values of their variables, and the
    /// columns of their sources. Keyed, since a value may be secret.
    #[must_use]
    pub fn shape(&self, key: &FingerprintKey) -> String {
        let mut hasher = blake3::Hasher::new_keyed(key.as_bytes());
        let mut add = |part: &str| {
            hasher.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
            hasher.update(part.as_bytes());
        };
        for flow in &self.resolved.flows {
            add(flow.name.as_str());
            add(&format!("{:?} {:?} {:?}", flow.from.relation, flow.from.slice_by, flow.into.table));
            if let Some(each) = &flow.from.each {
                add(&format!("{:?} {:?}", each.path, each.key_as));
            }
            for (name, value) in flow.parameters.iter().chain(&flow.into.scope) {
                add(name);
                add(&value.0);
            }
        }
        // What is spilled has its source's columns; whether it is follows from the target's keys, which the run's own
        // steps put back.
        for scan in self.scans.iter().filter(|scan| scan.spilled.is_none()) {
            // Not the fields' own text: the order of their metadata differs from process to process.
            for field in scan.description.schema.fields() {
                add(field.name());
                add(&whimbrel_model::logical::type_name(field));
            }
        }
        hasher.finalize().to_hex().to_string()
    }

    /// The scan of a slice.
    #[must_use]
    pub fn scan(&self, name: &GroupName) -> Option<&Scan> {
        self.scans.iter().find(|scan| scan.name == *name)
    }
}

/// The store whose transactions a flow's batches are part of; checkpoints of one scan are moved by one
/// transaction, or by the journal alone.
fn domain<'a>(flow: &'a ResolvedFlow, stores: &Stores) -> Option<&'a StoreName> {
    let store = stores.get(&flow.into.store)?;
    let target = store.target(write_request(flow, mode(flow))).ok()?;
    target.capabilities().atomic_batch.then_some(&flow.into.store)
}

/// Whether one reading of a column can serve both flows: a type that one of them declares is declared by the
/// other, too, or the other does not look at the column.
fn same_types(flow: &ResolvedFlow, other: &ResolvedFlow) -> bool {
    let fits = |a: &ResolvedFlow, b: &ResolvedFlow| {
        let wanted = needs::wanted(b);
        let looks_at = |column: &String| wanted.as_ref().is_none_or(|wanted| wanted.contains(column));
        a.columns.iter().all(|(column, declared)| match b.columns.get(column) {
            Some(same) => same == declared,
            None => !looks_at(column),
        })
    };
    fits(flow, other) && fits(other, flow)
}

/// Flows that read the same relation of the same store in the same way.
fn scan_groups<'a>(flows: &'a [ResolvedFlow], stores: &Stores) -> Vec<Vec<&'a ResolvedFlow>> {
    let mut groups: Vec<Vec<&ResolvedFlow>> = Vec::new();
    for flow in flows {
        let same = |other: &ResolvedFlow| {
            let (a, b): (&FromRequest, &FromRequest) = (&flow.from, &other.from);
            a.store == b.store
                && a.relation == b.relation
                && a.slice_by == b.slice_by
                && a.each == b.each
                && same_types(flow, other)
                && flow.parameters == other.parameters
                && domain(flow, stores) == domain(other, stores)
        };
        // Flows of one scan run side by side; one that waits for another reads for itself, unless its target
        // can see to the order by itself.
        let waits = |other: &ResolvedFlow| {
            domain(flow, stores).is_none()
                && (flow.after.contains(&other.name) || other.after.contains(&flow.name))
        };
        let fits = |group: &Vec<&ResolvedFlow>| {
            group.iter().all(|other| same(other)) && !group.iter().any(|other| waits(other))
        };
        match groups.iter_mut().find(|group| fits(group)) {
            Some(group) => group.push(flow),
            None => groups.push(vec![flow]),
        }
    }
    groups
}

async fn prepare_scan(
    flows: &[&ResolvedFlow],
    stores: &Stores,
    batch_records: Option<usize>,
    resolved: &Resolved,
) -> Result<Scan> {
    let spec = &*resolved.path;
    let first = flows[0];
    let reading = |error: StoreError| placed(error, spec, first, first.position);
    let mut targets = Vec::new();
    for flow in flows {
        if let Some(error) = needs::forgotten_quote(flow) {
            return Err(error.in_file(spec).into());
        }
        let store = opened(stores, &flow.into.store)?;
        let mode = mode(flow);
        let target = store.target(write_request(flow, mode));
        targets.push((*flow, mode, target.map_err(|error| placed(error, spec, flow, flow.into.position))?));
    }
    let wished = flows.iter().filter_map(|flow| usize::try_from(flow.into.batch_records?).ok()).min();
    let able = targets.iter().map(|(flow, _, target)| changed::batch_records(flow, &**target)).min();
    let batch_records = batch_records.or(wished).or(able).unwrap_or(1000).max(1);
    let batch_bytes = flows.iter().filter_map(|flow| usize::try_from(flow.into.batch_bytes?).ok()).min();
    let batch_bytes = batch_bytes.unwrap_or(BATCH_BYTES);
    let request = read_request(flows, resolved.unmatched, batch_records, batch_bytes);
    let receipts = receipts(flows);
    let (source, parents) = match &receipts {
        Some(receipts) => (Arc::clone(receipts) as Arc<dyn Source>, None),
        None => open_source(first, &**opened(stores, &first.from.store)?, request, spec).await?,
    };
    let mut description = source.describe().await.map_err(reading)?;
    description.notes.extend(read_again(first, &resolved.flows));
    let mut scan_flows = Vec::new();
    for (flow, mode, target) in targets {
        let mut plan = FlowPlan::compile(flow, spec, &description, Arc::clone(&target), mode)?;
        let planned = target.plan(plan.output()).await;
        let mut target = planned.map_err(|error| placed(error, spec, flow, flow.into.position))?;
        plan.rule_on_duplicates(flow, &target.key, spec)?;
        if let Some((column, into)) = plan.ordered_as_text(&flow.into.order, &target.fidelity) {
            let message = format!(
                "flow `{}`: `order` names `{column}`, which is text here and {into} there: text sorts otherwise",
                flow.name
            );
            let hint =
                format!("declare what it is, `columns: {{ {column}: … }}`, or cast it in the transform");
            let error = SpecError::at(SpecErrorKind::Invalid, flow.into.position, message, hint);
            return Err(error.in_file(spec).into());
        }
        target.notes.push(plan.duplicates.note());
        if let Some(changing) = plan.changing {
            target.notes.extend(changing.notes(&target, description.records));
            changed::check(flow, &*plan.target).map_err(|(kind, message, hint)| {
                let error = SpecError::at(kind, flow.into.position, message, hint);
                EngineError::from(error.in_file(spec))
            })?;
        }
        if resolved.undo {
            target.notes.extend(undo::notes(&plan, &target, description.records).await?);
        }
        scan_flows.push(ScanFlow { plan: Arc::new(plan), store: flow.into.store.clone(), target });
    }
    Ok(Scan {
        name: GroupName::new(first.name.as_str()),
        store: first.from.store.clone(),
        source,
        description,
        flows: scan_flows,
        spilling: Vec::new(),
        spilled: None,
        receipts,
        parents,
        after: BTreeSet::new(),
        batch_records,
    })
}

/// What the run itself has done, for flows that read that.
fn receipts(flows: &[&ResolvedFlow]) -> Option<Arc<ReceiptSource>> {
    let first = flows.first().filter(|flow| flow.from.relation == resolved::Relation::Run)?;
    let own = flows.iter().map(|flow| flow.name.clone()).collect();
    Some(Arc::new(ReceiptSource::new(first.from.store.clone(), own)))
}

/// The source of a flow's records, and the records that hold them where they are elements.
async fn open_source(
    flow: &ResolvedFlow,
    store: &dyn Store,
    request: ReadRequest,
    spec: &Path,
) -> Result<(Arc<dyn Source>, Option<Arc<Parents>>)> {
    let Some(each) = &flow.from.each else {
        let source = store.source(request).map_err(|error| placed(error, spec, flow, flow.position))?;
        return Ok((source, None));
    };
    let source = EachSource::open(store, request, each).await;
    let source = source.map_err(|error| placed(error, spec, flow, each.position))?;
    let parents = Arc::clone(source.parents());
    Ok((Arc::new(source), Some(parents)))
}

/// What a plan says where something is read again, since other flows take other elements of it.
fn read_again(first: &ResolvedFlow, flows: &[ResolvedFlow]) -> Option<String> {
    let (store, relation) = (&first.from.store, &first.from.relation);
    let others = flows.iter().filter(|flow| flow.from.store == *store && flow.from.relation == *relation);
    let others = others.filter(|flow| flow.from.each != first.from.each);
    let names: Vec<String> = others.map(|flow| format!("`{}`", flow.name)).collect();
    (!names.is_empty()).then(|| {
        format!(
            "it is read once more for {}: flows with different `each` do not share a scan",
            names.join(", ")
        )
    })
}

/// Takes the flows out of a scan whose records must refer to records of its other flows, and makes a scan of its
/// own for each of them, over what the first one spills.
fn spill_scans(scan: &mut Scan) -> Vec<Scan> {
    let resources: Vec<(StoreName, String)> =
        scan.flows.iter().map(|flow| (flow.store.clone(), flow.plan.target.resource())).collect();
    let waits = |flow: &ScanFlow, own: &(StoreName, String)| {
        let enforced =
            |resource: &String| flow.target.parents.iter().any(|parent| parent.resource == *resource);
        resources.iter().any(|other| other != own && other.0 == own.0 && enforced(&other.1))
    };
    let flows = std::mem::take(&mut scan.flows).into_iter().zip(&resources);
    let (waiting, first): (Vec<_>, Vec<_>) = flows.partition(|(flow, own)| waits(flow, own));
    scan.flows = first.into_iter().map(|(flow, _)| flow).collect();
    let waiting: Vec<ScanFlow> = waiting.into_iter().map(|(flow, _)| flow).collect();
    if scan.flows.is_empty() {
        // They refer to each other in a circle: nobody can come first.
        scan.flows = waiting;
        return Vec::new();
    }
    let mut before = scan.name.clone();
    let mut scans = Vec::new();
    for flow in waiting {
        let source = Arc::new(SpillSource::new(flow.plan.name.clone(), &scan.description));
        let name = GroupName::new(format!("{}.spilled", flow.plan.name));
        scans.push(Scan {
            name: name.clone(),
            store: scan.store.clone(),
            description: source.description().clone(),
            source: Arc::clone(&source) as Arc<dyn Source>,
            flows: vec![flow.clone()],
            spilling: Vec::new(),
            receipts: None,
            spilled: Some(Spilled { by: scan.name.clone(), source }),
            parents: None,
            // One after the other: they may refer to each other.
            after: BTreeSet::from([std::mem::replace(&mut before, name)]),
            batch_records: scan.batch_records,
        });
        scan.spilling.push(flow);
    }
    scans
}

/// What a store cannot do with a flow is a mistake of the spec, and has a place in it; a store that fails is not.
fn placed(error: StoreError, spec: &Path, flow: &ResolvedFlow, position: Position) -> EngineError {
    match error.kind() {
        StoreErrorKind::NotFound | StoreErrorKind::Unsupported | StoreErrorKind::Mismatch => {
            let message = format!("flow `{}`: {error}", flow.name);
            let hint = error.hint().unwrap_or("compare the flow with what the store has").to_owned();
            SpecError::at(SpecErrorKind::Invalid, position, message, hint)
                .in_file(spec)
                .caused_by(error)
                .into()
        }
        _ => error.into(),
    }
}

fn opened<'a>(stores: &'a Stores, name: &StoreName) -> Result<&'a Arc<dyn Store>> {
    stores.get(name).ok_or_else(|| EngineError::Internal(format!("store `{name}` was not opened")))
}

fn read_request(
    flows: &[&ResolvedFlow],
    unmatched: Unmatched,
    batch_records: usize,
    batch_bytes: usize,
) -> ReadRequest {
    let flow = flows[0];
    let relation = match &flow.from.relation {
        resolved::Relation::Table(table) => Relation::Table(table.clone()),
        resolved::Relation::Query(query) => Relation::Query(query.text.clone()),
        // Nothing of a store is read.
        resolved::Relation::Run => Relation::Table(String::new()),
    };
    let parameters = flow.parameters.iter().map(|(name, value)| (name.clone(), Parameter(value.0.clone())));
    ReadRequest {
        relation,
        slice_by: flow.from.slice_by.clone(),
        columns: flows.iter().flat_map(|flow| flow.columns.clone()).collect(),
        parameters: parameters.collect(),
        wanted: needs::wanted_by_any(flows.iter().copied()),
        condition: condition::condition_of_any(flows.iter().copied()),
        wants_all: unmatched == Unmatched::Reject,
        whole: true,
        batch_records,
        batch_bytes,
    }
}

fn write_request(flow: &ResolvedFlow, mode: Mode) -> WriteRequest {
    let into = &flow.into;
    WriteRequest {
        flow: flow.name.clone(),
        table: into.table.clone(),
        key: into.key.clone(),
        mode,
        nulls: match into.nulls {
            NullRule::Omit => Nulls::Omit,
            NullRule::Null => Nulls::Null,
        },
        forms: into.forms.clone(),
        ignore: into.ignore.clone(),
        scope: into.scope.iter().map(|(column, value)| (column.clone(), value.0.clone())).collect(),
        allow_lossy: into.allow_lossy.clone(),
        shape: into.shape.as_ref().and_then(shapes::of),
        collection: into.langchain.as_ref().map(collection),
    }
}

fn collection(langchain: &resolved::Langchain) -> VectorCollection {
    VectorCollection {
        name: langchain.collection.clone(),
        id: langchain.uuid.clone(),
        dimension: langchain.dimension,
        metric: langchain.metric.map(|metric| match metric {
            resolved::MetricWord::L2 => Metric::L2,
            resolved::MetricWord::Cosine => Metric::Cosine,
            resolved::MetricWord::Ip => Metric::Ip,
        }),
        index: match langchain.index {
            resolved::IndexWord::None => None,
            resolved::IndexWord::Hnsw => Some(VectorIndex::Hnsw),
            resolved::IndexWord::Ivfflat => Some(VectorIndex::Ivfflat),
        },
    }
}

fn mode(flow: &ResolvedFlow) -> Mode {
    match flow.into.mode {
        WriteMode::Insert => Mode::Insert,
        WriteMode::Upsert => Mode::Upsert,
        WriteMode::SkipExisting => Mode::SkipExisting,
        WriteMode::Update => Mode::Update,
        WriteMode::Changed => Mode::Changed,
    }
}

/// Puts scans behind those they wait for.
fn in_order(mut waiting: Vec<Scan>) -> Result<Vec<Scan>> {
    let mut ordered: Vec<Scan> = Vec::with_capacity(waiting.len());
    while !waiting.is_empty() {
        let ready = |scan: &Scan| scan.after.iter().all(|name| ordered.iter().any(|done| done.name == *name));
        let Some(next) = waiting.iter().position(ready) else {
            let flow = FlowName::new(waiting[0].name.as_str());
            let message = "it reads the same thing as a flow that it must come after".to_owned();
            let hint = Some(
                "flows that read the same thing run together: give one of them its own `query`".to_owned(),
            );
            return Err(EngineError::Flow { flow, message, hint });
        };
        ordered.push(waiting.remove(next));
    }
    Ok(ordered)
}
