//! A part read from one end to the other, on a thread that may block.

use super::Columns;
use super::Known;
use super::csv;
use super::frame::Framing;
use super::input::{Input, is_array};
use super::part::{Part, Position, Segment, Within};
use super::text::{Notation, TextBatches};
use super::typed::TypedFile;
use crate::client::Place;
use crate::error::{Fault, Outcome};
use crate::format::Format;
use crate::types;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use whimbrel_model::{Capacity, StoreName};
use whimbrel_store::{ReadBatch, Result, StoreError, StoreErrorKind};

/// What is to be read.
pub(super) struct Job {
    pub(super) name: StoreName,
    pub(super) place: Place,
    pub(super) handle: Handle,
    pub(super) known: Arc<Known>,
    pub(super) part: Part,
    pub(super) of_members: bool,
    pub(super) max_records: usize,
    pub(super) max_bytes: usize,
    pub(super) stop: CancellationToken,
}

/// A read under way.
pub(super) struct Reader {
    job: Job,
    position: Position,
    sender: mpsc::Sender<Result<ReadBatch>>,
}

/// Whether somebody still wants to hear more.
enum Next {
    Go,
    Stop,
}

impl Reader {
    pub(super) fn new(job: Job, after: Position, sender: mpsc::Sender<Result<ReadBatch>>) -> Self {
        Self { job, position: after, sender }
    }

    /// Reads to the end, to a failure, or until nobody takes batches any more.
    pub(super) fn run(mut self) {
        let known = Arc::clone(&self.job.known);
        let read = match &known.columns {
            Columns::Named(columns, _) => {
                let notation = match known.found.format {
                    Format::Csv => Notation::Csv,
                    Format::DynamoDbJson => Notation::DynamoDb,
                    Format::Json | Format::NdJson | Format::Parquet | Format::Arrow => Notation::Json,
                };
                self.read_text(TextBatches::new(notation, columns), known.found.format)
            }
            Columns::Typed(schema) => self.read_typed(schema, known.found.format),
        };
        if let Err(fault) = read {
            let error = self.failed(fault);
            // Where nobody listens any more, nobody needs to know.
            let _ = self.sender.blocking_send(Err(error));
        }
    }

    fn failed(&self, fault: Fault) -> StoreError {
        let path =
            self.job.part.segments.get(self.position.segment).map(|segment| segment.file.path.as_str());
        fault.into_error(&self.job.name, &format!("cannot read \"{}\"", path.unwrap_or_default()))
    }

    fn send(&self, batch: ReadBatch) -> Next {
        match self.sender.blocking_send(Ok(batch)) {
            Ok(()) if !self.job.stop.is_cancelled() => Next::Go,
            _ => Next::Stop,
        }
    }

    /// Goes on to the next segment.
    fn next_segment(&mut self) {
        self.position = Position { segment: self.position.segment + 1, ..Position::default() };
    }

    fn segment(&self) -> Option<Segment> {
        self.job.part.segments.get(self.position.segment).cloned()
    }

    fn read_text(&mut self, mut batches: TextBatches, format: Format) -> Outcome<()> {
        let mut end = self.position;
        while let Some(segment) = self.segment() {
            let read = self.read_text_segment(&mut batches, &mut end, &segment, format);
            // What came before a failure is handed over first.
            if read.is_err() && !batches.is_empty() {
                self.send(batches.finish(&end)?);
            }
            match read? {
                Next::Go => self.next_segment(),
                Next::Stop => return Ok(()),
            }
        }
        if !batches.is_empty() {
            self.send(batches.finish(&end)?);
        }
        Ok(())
    }

    fn read_text_segment(
        &mut self,
        batches: &mut TextBatches,
        end: &mut Position,
        segment: &Segment,
        format: Format,
    ) -> Outcome<Next> {
        if self.position.within == Within::End {
            return Ok(Next::Go);
        }
        let (mut input, mut framing) = self.open_text(batches, segment, format)?;
        let is_ranged = segment.to < segment.file.size;
        loop {
            if is_ranged && input.position() >= segment.to {
                break;
            }
            let Some(framed) = framing.next(&mut input, batches.text())? else { break };
            let bytes = batches.bytes();
            batches.push(framed);
            self.position.records += 1;
            self.position.at = input.position();
            self.position.within = framing.within();
            *end = self.position;
            let is_full = batches.len() >= self.job.max_records || bytes >= self.job.max_bytes;
            if is_full && let Next::Stop = self.send(batches.finish(end)?) {
                return Ok(Next::Stop);
            }
        }
        self.job.place.check_unchanged(&segment.file)?;
        input.check(self.position.records)?;
        Ok(Next::Go)
    }

    /// Opens a segment where its next record begins.
    fn open_text(
        &self,
        batches: &mut TextBatches,
        segment: &Segment,
        format: Format,
    ) -> Outcome<(Input, Framing)> {
        let (Job { place, handle, .. }, file) = (&self.job, segment.data_file());
        let is_begun = self.position.at > 0;
        let mut framing = Framing::Elements(self.position.within);
        if self.job.of_members
            && format == Format::Json
            && !is_array(&mut Input::open(place, handle, &file, 0)?)?
        {
            framing = Framing::Members(self.position.within);
        }
        if format == Format::Csv {
            let mut input = Input::open(place, handle, &file, 0)?;
            let (header, separator) = csv::header(&mut input)?;
            framing = Framing::Csv(separator);
            let lacks = |name| format!("the file has no column `{name}`, which others of the table have");
            if !(header.is_empty() && input.fill()?.is_empty()) {
                let set = batches.set_header(&header, separator);
                set.map_err(|name| Fault::found(StoreErrorKind::Mismatch, lacks(name)))?;
            }
            if !is_begun && segment.from == 0 {
                return Ok((input, framing));
            }
            // Stretches of CSV begin with a record.
            let at = if is_begun { self.position.at } else { segment.from };
            return Ok((Input::open(place, handle, &file, at)?, framing));
        } else if format == Format::NdJson || file.expected.is_some() {
            framing = Framing::Lines;
        } else if format == Format::DynamoDbJson && self.position.within == Within::Start {
            let is_array = segment.from == 0 && is_array(&mut Input::open(place, handle, &file, 0)?)?;
            framing = if is_array { framing } else { Framing::Lines };
        }
        if is_begun {
            return Ok((Input::open(place, handle, &file, self.position.at)?, framing));
        }
        let mut input = Input::open(place, handle, &file, segment.from.saturating_sub(1))?;
        if segment.from > 0 {
            // The line that begins before the stretch belongs to the one before.
            input.pass_line()?;
        }
        Ok((input, framing))
    }

    fn read_typed(&mut self, schema: &SchemaRef, format: Format) -> Outcome<()> {
        let columns: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
        while let Some(segment) = self.segment() {
            let opened = TypedFile::open(&self.job.place, &self.job.handle, &segment.file, format)?;
            let most = (self.job.max_records, self.job.max_bytes);
            let batches = opened.read((segment.from, segment.to), self.position.at, most, &columns)?;
            for batch in batches {
                let batch = types::read_batch(schema, &batch?)?;
                if let Next::Stop = self.send_pieces(&batch) {
                    return Ok(());
                }
            }
            self.job.place.check_unchanged(&segment.file)?;
            self.next_segment();
        }
        Ok(())
    }

    /// Hands a batch over in pieces that are not too large.
    fn send_pieces(&mut self, batch: &RecordBatch) -> Next {
        let rows = batch.num_rows();
        let bytes = batch.get_array_memory_size();
        let by_bytes = rows.saturating_mul(self.job.max_bytes) / bytes.max(1);
        let most = by_bytes.clamp(1, self.job.max_records);
        let mut from = 0;
        while from < rows {
            let length = most.min(rows - from);
            let records = batch.slice(from, length);
            from += length;
            self.position.at += u64::try_from(length).unwrap_or(0);
            let share = bytes / rows * length;
            let batch = ReadBatch {
                records,
                cursor: self.position.cursor(),
                unreadable: Vec::new(),
                bytes: u64::try_from(share).unwrap_or(u64::MAX),
                capacity: Capacity::default(),
                originals: None,
            };
            if let Next::Stop = self.send(batch) {
                return Next::Stop;
            }
        }
        Next::Go
    }
}
