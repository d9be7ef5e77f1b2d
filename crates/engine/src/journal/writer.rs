//! The one thread that writes while a run goes on.
//!
//! It gathers what arrives within [`GATHER`], keeps of each slice and flow only the newest checkpoint, and
//! commits all of it in one transaction, a checkpoint together with its sums. Whoever must know that something
//! is on the disk waits for the answer of [`JournalWriter::reserve`], [`JournalWriter::done`] or
//! [`JournalWriter::flush`]; such a wait ends the gathering.

use super::{JournalError, Sample, samples, sqlite};
use rusqlite::{Connection, OptionalExtension, Transaction, params};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use whimbrel_model::{Buckets, Checkpoint, FlowName, Receipt, RunId, ScanTally, SliceId};

/// How long the thread gathers before it commits.
const GATHER: Duration = Duration::from_millis(200);

/// Something that must be on the disk before the checkpoints are that rest on it.
pub trait BeforeCommit: Send + Sync {
    /// Brings it to the disk.
    ///
    /// # Errors
    /// It cannot be: the checkpoints are not stored, and the journal has failed.
    fn before_commit(&self) -> Result<(), JournalError>;
}

type Answer = oneshot::Sender<Result<(), String>>;
/// How far the flows of a slice have come.
type SliceState = (u64, Vec<(FlowName, Checkpoint)>);

enum Message {
    Checkpoint { slice: SliceId, state: SliceState },
    Reserve { slice: SliceId, records: u64, answer: Answer },
    Done { slice: SliceId, receipts: Vec<Receipt>, answer: Answer },
    Flush { answer: Answer },
    Sample(Sample),
}

/// Checkpoints that may wait for the thread. Beyond, one is passed over: the slice's next one says more.
const MOST_WAITING: usize = 256;

/// The way to the writing thread. It ends when the last handle is dropped.
#[derive(Clone, Debug)]
pub struct JournalWriter {
    sender: mpsc::Sender<Message>,
    waiting: Arc<AtomicUsize>,
    failure: Arc<OnceLock<String>>,
}

impl JournalWriter {
    pub(super) fn start(
        connection: Connection,
        path: PathBuf,
        run: RunId,
        before: Option<Arc<dyn BeforeCommit>>,
    ) -> Self {
        let (sender, receiver) = mpsc::channel();
        let (waiting, failure) = (Arc::default(), Arc::default());
        let writing = Writing {
            connection,
            path,
            run,
            before,
            waiting: Arc::clone(&waiting),
            failure: Arc::clone(&failure),
        };
        std::thread::spawn(move || writing.run(&receiver));
        Self { sender, waiting, failure }
    }

    /// Hands over the checkpoints of all flows of a slice, which are stored together. Durable within a second,
    /// or the journal has failed.
    ///
    /// # Errors
    /// The journal has failed before.
    pub fn checkpoint(
        &self,
        slice: &SliceId,
        epoch: u64,
        flows: Vec<(FlowName, Checkpoint)>,
    ) -> Result<(), JournalError> {
        if let Some(failure) = self.failure.get() {
            return Err(JournalError::Stopped(failure.clone()));
        }
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= MOST_WAITING {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Ok(());
        }
        self.send(Message::Checkpoint { slice: slice.clone(), state: (epoch, flows) })
    }

    /// Notes that up to `records` records of the slice may be sent from now on. Answers when it is durable.
    ///
    /// # Errors
    /// The journal fails.
    pub async fn reserve(&self, slice: &SliceId, records: u64) -> Result<(), JournalError> {
        self.answered(|answer| Message::Reserve { slice: slice.clone(), records, answer }).await
    }

    /// Closes a slice with a receipt for each of its flows. Answers when it is durable.
    ///
    /// # Errors
    /// The journal fails.
    pub async fn done(&self, slice: &SliceId, receipts: Vec<Receipt>) -> Result<(), JournalError> {
        self.answered(|answer| Message::Done { slice: slice.clone(), receipts, answer }).await
    }

    /// Keeps how far the run is. Nothing rests on it.
    pub fn sample(&self, sample: Sample) {
        // A thread that has ended is found out by whoever hands over a checkpoint.
        let _ = self.sender.send(Message::Sample(sample));
    }

    /// Answers when everything handed over before is durable.
    ///
    /// # Errors
    /// The journal fails.
    pub async fn flush(&self) -> Result<(), JournalError> {
        self.answered(|answer| Message::Flush { answer }).await
    }

    async fn answered(&self, message: impl FnOnce(Answer) -> Message) -> Result<(), JournalError> {
        let (answer, waiting) = oneshot::channel();
        self.send(message(answer))?;
        match waiting.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(failure)) => Err(JournalError::Stopped(failure)),
            Err(_) => Err(JournalError::Stopped("its thread has ended".to_owned())),
        }
    }

    fn send(&self, message: Message) -> Result<(), JournalError> {
        self.sender.send(message).map_err(|_| JournalError::Stopped("its thread has ended".to_owned()))
    }
}

/// What one transaction holds.
#[derive(Default)]
struct Portion {
    checkpoints: BTreeMap<SliceId, SliceState>,
    reserved: BTreeMap<SliceId, u64>,
    done: Vec<(SliceId, Vec<Receipt>)>,
    answers: Vec<Answer>,
    samples: Vec<Sample>,
}

impl Portion {
    /// Takes a message in; whether somebody waits for it.
    fn add(&mut self, message: Message, waiting: &AtomicUsize) -> bool {
        match message {
            Message::Checkpoint { slice, state } => {
                waiting.fetch_sub(1, Ordering::Relaxed);
                self.checkpoints.insert(slice, state);
                return false;
            }
            Message::Reserve { slice, records, answer } => {
                self.reserved.insert(slice, records);
                self.answers.push(answer);
            }
            Message::Done { slice, receipts, answer } => {
                self.checkpoints.remove(&slice);
                self.done.push((slice, receipts));
                self.answers.push(answer);
            }
            Message::Flush { answer } => self.answers.push(answer),
            Message::Sample(sample) => {
                self.samples.push(sample);
                return false;
            }
        }
        true
    }
}

struct Writing {
    connection: Connection,
    path: PathBuf,
    run: RunId,
    before: Option<Arc<dyn BeforeCommit>>,
    waiting: Arc<AtomicUsize>,
    failure: Arc<OnceLock<String>>,
}

impl Writing {
    fn run(mut self, receiver: &mpsc::Receiver<Message>) {
        let waiting = Arc::clone(&self.waiting);
        while let Ok(first) = receiver.recv() {
            let mut portion = Portion::default();
            let mut awaited = portion.add(first, &waiting);
            let until = Instant::now() + GATHER;
            while !awaited
                && let Ok(message) = receiver.recv_timeout(until.saturating_duration_since(Instant::now()))
            {
                awaited = portion.add(message, &waiting);
            }
            receiver.try_iter().for_each(|message| {
                portion.add(message, &waiting);
            });
            self.write(portion);
        }
    }

    fn write(&mut self, mut portion: Portion) {
        let answers = std::mem::take(&mut portion.answers);
        if self.failure.get().is_none()
            && let Err(cause) = self.store(&portion)
        {
            tracing::error!(error = %cause, "the journal failed");
            let source =
                std::error::Error::source(&cause).map(|source| format!(": {source}")).unwrap_or_default();
            // Only this thread sets it.
            let _ = self.failure.set(format!("{cause}{source}"));
        }
        for answer in answers {
            let outcome = self.failure.get().map_or(Ok(()), |failure| Err(failure.clone()));
            // Whoever asked may have given up; the journal does not mind.
            let _ = answer.send(outcome);
        }
    }

    fn store(&mut self, portion: &Portion) -> Result<(), JournalError> {
        let moves = !portion.checkpoints.is_empty() || !portion.done.is_empty();
        if let Some(before) = self.before.as_ref().filter(|_| moves) {
            before.before_commit()?;
        }
        store(&mut self.connection, &self.run, portion).map_err(|error| sqlite(&self.path, error))
    }
}

fn store(connection: &mut Connection, run: &RunId, portion: &Portion) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
    for (slice, (epoch, flows)) in &portion.checkpoints {
        for (flow, checkpoint) in flows {
            store_checkpoint(&transaction, run, slice, flow, *epoch, checkpoint, &checkpoint.sums)?;
        }
    }
    for (slice, records) in &portion.reserved {
        let mut statement = transaction
            .prepare_cached("UPDATE slices SET reserved = max(reserved, ?3) WHERE run = ?1 AND id = ?2")?;
        statement.execute(params![run.as_str(), slice.as_str(), signed(*records)])?;
    }
    for (slice, receipts) in &portion.done {
        for receipt in receipts {
            // A closed slice's sums live on in its flow's.
            store_checkpoint(
                &transaction,
                run,
                slice,
                &receipt.flow,
                receipt.epoch,
                &receipt.last,
                &Buckets::default(),
            )?;
            add_sums(&transaction, run, &receipt.flow, &receipt.last.sums)?;
        }
        let mut statement =
            transaction.prepare_cached("UPDATE slices SET done = 1 WHERE run = ?1 AND id = ?2")?;
        statement.execute(params![run.as_str(), slice.as_str()])?;
    }
    samples::store(&transaction, run, &portion.samples)?;
    transaction.commit()
}

fn store_checkpoint(
    transaction: &Transaction,
    run: &RunId,
    slice: &SliceId,
    flow: &FlowName,
    epoch: u64,
    checkpoint: &Checkpoint,
    sums: &Buckets,
) -> rusqlite::Result<()> {
    let counts = checkpoint.counts;
    let scan = (checkpoint.scan != ScanTally::default())
        .then(|| serde_json::to_string(&checkpoint.scan))
        .transpose()
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))?;
    let mut statement = transaction.prepare_cached(
        "INSERT OR REPLACE INTO checkpoints (run, slice, flow, epoch, seq, cursor, position, reject_bytes, read, created,
             updated, unchanged, skipped, rejected, filtered, bytes, read_units, write_units, sums, scan,
             spared_write_units)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21)",
    )?;
    statement.execute(params![
        run.as_str(),
        slice.as_str(),
        flow.as_str(),
        signed(epoch),
        signed(checkpoint.seq),
        checkpoint.cursor.as_ref().map(|cursor| cursor.0.to_string()),
        signed(checkpoint.position),
        signed(checkpoint.reject_bytes),
        signed(counts.read),
        signed(counts.created),
        signed(counts.updated),
        signed(counts.unchanged),
        signed(counts.skipped),
        signed(counts.rejected),
        signed(counts.filtered),
        signed(counts.bytes),
        checkpoint.capacity.read_units,
        checkpoint.capacity.write_units,
        sums.to_bytes(),
        scan,
        checkpoint.capacity.spared_write_units,
    ])?;
    Ok(())
}

fn add_sums(transaction: &Transaction, run: &RunId, flow: &FlowName, more: &Buckets) -> rusqlite::Result<()> {
    let key = params![run.as_str(), flow.as_str()];
    let mut statement = transaction.prepare_cached("SELECT sums FROM sums WHERE run = ?1 AND flow = ?2")?;
    let stored: Option<Vec<u8>> = statement.query_row(key, |row| row.get(0)).optional()?;
    let mut sums = match stored {
        Some(bytes) => Buckets::from_bytes(&bytes).map_err(|error| {
            rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Blob, Box::new(error))
        })?,
        None => Buckets::default(),
    };
    sums.merge(more);
    let mut statement =
        transaction.prepare_cached("INSERT OR REPLACE INTO sums (run, flow, sums) VALUES (?1, ?2, ?3)")?;
    statement.execute(params![run.as_str(), flow.as_str(), sums.to_bytes()])?;
    Ok(())
}

/// SQLite's integers are signed; no count of records comes near their end.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
