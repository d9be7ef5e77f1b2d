//! A file of text or of Parquet on a disk that grows while its slices are read.
//!
//! A slice of which little is written is held in memory until its end. When its turn comes, in the order of slices, its
//! bytes are written behind what is there, and are durable before its ledger says where they lie: what no ledger knows
//! of is cut off. So such a slice is written once, and waits for the disk once. A slice that ends before its turn waits a
//! moment for it. What has become too long to be held, or has waited long enough, is a part by itself; when its turn
//! comes that is put in as well. What never has its turn is put in by the load's last step.

use super::Table;
use super::ledger::{Entry, Extent, Ledger};
use super::publish::{self, order};
use super::staging::{PartKey, Staging, make_folder, sync_folder};
use crate::error::{Fault, Outcome};
use rustix::fs::Advice;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use whimbrel_model::{FlowName, SliceId};
use whimbrel_store::StoreErrorKind;

/// No slice of text holds more bytes than this.
const MOST_HELD_BYTES: usize = 16 << 20;
/// All together hold as much as so many.
const MOST_HELD_SLICES: usize = 3;
/// A slice of Parquet holds as much as this part of text: its batches are larger, and take more memory on their way.
const HELD_OF_PARQUET: usize = 4;
/// For how long a slice that has ended waits for those before it.
const PATIENCE: Duration = Duration::from_millis(100);

/// The file that slices of one flow are written into.
#[derive(Debug)]
pub(crate) struct Growing {
    table: Arc<Table>,
    staging: Staging,
    path: PathBuf,
    /// What slices have in front of their numbers.
    group: String,
    /// No slice holds more bytes than this.
    most_held: usize,
    state: Mutex<State>,
    turned: Condvar,
    /// Apart from the rest, which waits for the disk.
    memory: Mutex<Memory>,
}

/// What slices under way hold, and memory that was used before.
#[derive(Debug, Default)]
struct Memory {
    held_bytes: usize,
    /// For what comes next; together with what is held no more than may be held.
    spare: Vec<Vec<u8>>,
    spare_bytes: usize,
}

#[derive(Debug)]
struct State {
    /// `None`: nothing has been written by this process.
    file: Option<File>,
    /// So many bytes ledgers know of.
    length: u64,
    has_records: bool,
    /// The slice whose turn it is.
    next: u64,
    /// Slices under way.
    running: BTreeSet<u64>,
    /// Slices that have ended as parts.
    parts: BTreeMap<u64, SliceId>,
    /// The slice that was waited for in vain.
    late: Option<u64>,
}

/// A slice that is to be written into the file.
#[derive(Debug)]
pub(super) struct Turn {
    growing: Arc<Growing>,
    slice: SliceId,
    number: u64,
    held: Vec<Vec<u8>>,
    held_bytes: usize,
}

impl Growing {
    /// The file as an earlier attempt left it; it belongs to the flow and the scan of this slice. `None`: files like this
    /// one are put together at the end.
    pub(super) fn open(table: &Arc<Table>, staging: &Staging, slice: &SliceId) -> Outcome<Option<Self>> {
        let Some(path) = publish::growing_path(table, staging) else { return Ok(None) };
        let mut state = State {
            file: None,
            length: 0,
            has_records: false,
            next: 0,
            running: BTreeSet::new(),
            parts: BTreeMap::new(),
            late: None,
        };
        let ledgers = staging.ledgers()?;
        for (ledger, extent) in ledgers.iter().flat_map(|ledger| extents(ledger, &table.path)) {
            state.length = state.length.max(extent.end());
            state.has_records |= extent.length > 0;
            state.next = state.next.max(order(&ledger.slice).1 + 1);
        }
        Ok(Some(Self {
            table: Arc::clone(table),
            staging: staging.clone(),
            path,
            group: order(slice).0.to_owned(),
            most_held: MOST_HELD_BYTES / if table.format.is_text() { 1 } else { HELD_OF_PARQUET },
            state: Mutex::new(state),
            turned: Condvar::new(),
            memory: Mutex::default(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn most_in_all(&self) -> usize {
        self.most_held * MOST_HELD_SLICES
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A slice begins. `None`: it is one of another flow or scan, or its turn is over, and becomes a part.
    pub(super) fn enter(self: &Arc<Self>, flow: &FlowName, slice: &SliceId) -> Option<Turn> {
        let (group, number) = order(slice);
        let mut state = self.state();
        if *flow != self.table.request.flow || group != self.group || number < state.next {
            return None;
        }
        state.running.insert(number).then(|| Turn {
            growing: Arc::clone(self),
            slice: slice.clone(),
            number,
            held: Vec::new(),
            held_bytes: 0,
        })
    }

    /// Writes behind what is there what `put` writes; the extent is durable, and counts once a ledger has it.
    fn append(
        &self,
        state: &mut State,
        entry: &Entry,
        put: impl FnOnce(&mut File) -> io::Result<u64>,
    ) -> Outcome<Extent> {
        let at = state.length;
        if entry.length == 0 {
            return Ok(Extent { at, length: 0 });
        }
        if state.file.is_none() {
            state.file = Some(self.open_file(at)?);
        }
        let Some(file) = &mut state.file else { return Err(Fault::Io(io::ErrorKind::NotFound.into())) };
        // Behind that may stand what an attempt left that failed.
        file.seek(SeekFrom::Start(at))?;
        let [head, between, _] = publish::around_records(&self.table, entry)?;
        let before = if state.has_records { between } else { head };
        file.write_all(&before)?;
        if put(file)? != entry.length {
            let what =
                format!("a part of \"{}\" is not as long as what was committed of it", self.table.path);
            return Err(Fault::found(StoreErrorKind::Mismatch, what));
        }
        file.sync_data()?;
        let extent = Extent { at, length: before.len() as u64 + entry.length };
        let_go(file, extent);
        Ok(extent)
    }

    fn open_file(&self, length: u64) -> Outcome<File> {
        let folder = self.path.parent().unwrap_or(&self.path);
        make_folder(folder)?;
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&self.path)?;
        if file.metadata()?.len() < length {
            return Err(Fault::found(StoreErrorKind::Mismatch, "the parts that this run wrote are gone"));
        }
        file.set_len(length)?;
        sync_folder(folder)?;
        Ok(file)
    }

    /// Notes in a slice's ledger where its bytes lie, durably; with that its turn is over.
    fn settle(&self, state: &mut State, ledger: &mut Ledger, extent: Extent) -> Outcome<()> {
        let Some(entry) = ledger.flows.get_mut(&self.table.request.flow) else { return Ok(()) };
        entry.joined = Some(extent);
        entry.length = 0;
        ledger.version += 1;
        self.staging.keep(ledger)?;
        state.length = extent.end();
        state.has_records |= extent.length > 0;
        state.next += 1;
        Ok(())
    }

    /// Puts in the parts whose turn it is.
    fn put_in_parts(&self, state: &mut State) -> Outcome<()> {
        while let Some(slice) = state.parts.remove(&state.next) {
            let flow = &self.table.request.flow;
            let Some(mut ledger) = self.staging.ledger(&slice)? else { return Ok(()) };
            let Some(entry) = ledger.flows.get(flow).cloned() else { return Ok(()) };
            let key = PartKey { path: &self.table.path, slice: &slice, flow };
            let Some(part) = self.staging.folder().map(|folder| key.below(folder)) else { return Ok(()) };
            let extent = self.append(state, &entry, |mut file| {
                // From file to file the bytes stay within the system.
                io::copy(&mut File::open(&part)?.take(entry.length), &mut file)
            })?;
            self.settle(state, &mut ledger, extent)?;
            fs::remove_file(&part)?;
        }
        Ok(())
    }
}

/// Lets the system take back the memory in which it keeps what is on the disk: a dump must not drive out what a database
/// keeps there, and the next slice is written into memory that is warm.
fn let_go(file: &File, extent: Extent) {
    // It is a hint, and a file system may not take it.
    let _ = rustix::fs::fadvise(file, extent.at, NonZeroU64::new(extent.length), Advice::DontNeed);
}

/// Where in the file of this path the bytes of a slice lie.
fn extents<'a>(ledger: &'a Ledger, path: &'a str) -> impl Iterator<Item = (&'a Ledger, Extent)> {
    let own = ledger.flows.values().filter(move |entry| entry.path == path);
    own.filter_map(move |entry| Some((ledger, entry.joined?)))
}

impl Turn {
    /// Memory for so many bytes of the next batch. What was used before and is too small is given up: to make it larger
    /// would copy what nobody needs.
    pub(super) fn spare(&self, bytes: usize) -> Vec<u8> {
        let used = {
            let mut memory = self.growing.memory();
            let fits = memory.spare.iter().position(|spare| spare.capacity() >= bytes);
            let place = fits.or(memory.spare.len().checked_sub(1));
            let used = place.map(|place| memory.spare.swap_remove(place)).unwrap_or_default();
            memory.spare_bytes -= used.capacity();
            used
        };
        if used.capacity() < bytes { Vec::with_capacity(bytes) } else { used }
    }

    /// Holds the bytes of a batch; whether there was room for them. What is held stays, and can be taken.
    pub(super) fn hold(&mut self, bytes: Vec<u8>) -> bool {
        let length = bytes.len();
        self.held.push(bytes);
        self.held_bytes += length;
        let mut memory = self.growing.memory();
        memory.held_bytes += length;
        self.held_bytes <= self.growing.most_held && memory.held_bytes <= self.growing.most_in_all()
    }

    /// What is held, to be written as a part.
    pub(super) fn take(&mut self) -> Vec<Vec<u8>> {
        self.growing.memory().held_bytes -= std::mem::take(&mut self.held_bytes);
        std::mem::take(&mut self.held)
    }

    /// Keeps the memory of what is held, which is written.
    fn spare_held(&mut self) {
        let held = self.take();
        let mut memory = self.growing.memory();
        for buffer in held {
            if memory.held_bytes + memory.spare_bytes + buffer.capacity() <= self.growing.most_in_all() {
                memory.spare_bytes += buffer.capacity();
                memory.spare.push(buffer);
            }
        }
    }

    /// Writes what is held and the ledger of its slice, durably; `false`: it has not its turn. Waits for it a moment
    /// where those before it are under way.
    pub(super) fn write(&mut self, ledger: &mut Ledger) -> Outcome<bool> {
        let growing = Arc::clone(&self.growing);
        let waits = |state: &mut State| {
            state.next < self.number
                && state.late != Some(state.next)
                && state.running.first().is_some_and(|first| *first < self.number)
        };
        let waited = growing.turned.wait_timeout_while(growing.state(), PATIENCE, waits);
        let (mut state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            state.late = Some(state.next);
        }
        let Some(entry) = ledger.flows.get(&growing.table.request.flow).cloned() else { return Ok(false) };
        if state.next != self.number {
            return Ok(false);
        }
        let extent = growing.append(&mut state, &entry, |file| {
            self.held.iter().try_for_each(|bytes| file.write_all(bytes))?;
            Ok(self.held_bytes as u64)
        })?;
        growing.settle(&mut state, ledger, extent)?;
        let put_in = growing.put_in_parts(&mut state);
        drop(state);
        growing.turned.notify_all();
        self.spare_held();
        put_in.map(|()| true)
    }

    /// The slice has ended as a part, which its ledger knows of.
    pub(super) fn ended_as_part(&self) -> Outcome<()> {
        let mut state = self.growing.state();
        state.parts.insert(self.number, self.slice.clone());
        let put_in = self.growing.put_in_parts(&mut state);
        drop(state);
        self.growing.turned.notify_all();
        put_in
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.take();
        self.growing.state().running.remove(&self.number);
        self.growing.turned.notify_all();
    }
}
