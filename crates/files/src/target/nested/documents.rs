//! The file out of its parts: document by document, list by list.

use super::super::Table;
use super::super::publish::{Placed, Sink, read};
use super::super::staging::Staging;
use super::super::writer::packed;
use super::sort::{Frame, Owned, Sorted, Sorter};
use crate::error::{Fault, Outcome};
use crate::format::{Compression, Format};
use crate::types::encode::{TextBuffer, quoted};
use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::PathBuf;
use whimbrel_store::{Documents, Shape, StoreErrorKind};

/// How much text is packed and written at once.
const WRITTEN_BYTES: usize = 1 << 20;

/// Puts a file together.
pub(in super::super) fn write(
    table: &Table,
    staging: &Staging,
    parts: &[Placed],
    sink: &mut Sink,
) -> Outcome<()> {
    let (shape, lists) = agreed(parts)?;
    let folder = staging.folder().map_or_else(std::env::temp_dir, PathBuf::from);
    let mut sorter = Sorter::new(&folder);
    for part in parts {
        let list = part.entry.shape.as_ref().and_then(|shape| shape.list.as_ref());
        let rank = match list {
            None => 0,
            Some(list) => 1 + lists.iter().position(|known| known == list).unwrap_or(0),
        };
        let rank = u16::try_from(rank)
            .map_err(|_| Fault::found(StoreErrorKind::LimitReached, "there are too many lists"))?;
        let mut bytes = read(staging, table, part)?;
        let mut next = Owned::default();
        let mut records = 0_u64;
        while next.read(&mut bytes)? {
            records += 1;
            sorter.push(&Frame { by: &next.by, rank, record: &next.record })?;
        }
        if records != part.entry.records {
            let what = format!("the part of slice {} does not hold what was committed of it", part.slice);
            return Err(Fault::found(StoreErrorKind::Mismatch, what));
        }
    }
    Writing::new(table, &shape, &lists, sink).all(sorter.sorted()?)
}

/// The shape that all parts have, and the lists of its documents.
fn agreed(parts: &[Placed]) -> Outcome<(Shape, Vec<String>)> {
    let different = || Fault::found(StoreErrorKind::Mismatch, "flows of different shapes write into it");
    let mut known: Option<&Shape> = None;
    let mut lists = BTreeSet::new();
    for part in parts {
        let shape = part.entry.shape.as_ref().ok_or_else(different)?;
        if known.is_some_and(|known| (&known.by, known.documents) != (&shape.by, shape.documents)) {
            return Err(different());
        }
        known = Some(shape);
        lists.extend(shape.list.clone());
    }
    let known = known.ok_or_else(different)?.clone();
    Ok((known, lists.into_iter().collect()))
}

/// A file under way.
struct Writing<'a> {
    shape: &'a Shape,
    lists: &'a [String],
    format: Format,
    compression: Compression,
    sink: &'a mut Sink,
    text: Vec<u8>,
    /// The document that is open, and how far it is.
    open: Option<Open>,
    documents: u64,
}

/// A document that is not at its end.
struct Open {
    by: Vec<u8>,
    /// Whether its own record came.
    is_filled: bool,
    /// Whether it has a member already.
    has_member: bool,
    /// The list that is open, by its place; those before it are written.
    list: Option<usize>,
}

impl<'a> Writing<'a> {
    fn new(table: &Table, shape: &'a Shape, lists: &'a [String], sink: &'a mut Sink) -> Self {
        let (format, compression) = (table.format, table.compression);
        let text = Vec::with_capacity(WRITTEN_BYTES + (WRITTEN_BYTES >> 2));
        Self { shape, lists, format, compression, sink, text, open: None, documents: 0 }
    }

    fn all(mut self, mut sorted: Sorted) -> Outcome<()> {
        let (head, tail) = match (self.shape.documents, self.format) {
            (Documents::Members, _) => ("{\n", "\n}\n"),
            (Documents::Records, Format::NdJson) => ("", ""),
            (Documents::Records, _) => ("[\n", "\n]\n"),
        };
        self.put(head);
        while let Some(record) = sorted.next()? {
            if self.open.as_ref().is_none_or(|open| open.by != record.by) {
                self.close();
                self.begin(&record.by);
            }
            self.take(record)?;
            if self.text.len() >= WRITTEN_BYTES {
                self.flush()?;
            }
        }
        self.close();
        self.put(tail);
        self.flush()
    }

    fn put(&mut self, text: &str) {
        self.text.extend(text.as_bytes());
    }

    fn name(&mut self, name: &str) {
        let mut text = TextBuffer::default();
        quoted(name, &mut text);
        self.put(text.as_str());
        self.put(":");
    }

    fn flush(&mut self) -> Outcome<()> {
        let text = std::mem::take(&mut self.text);
        self.sink.write_all(&packed(self.compression, text)?)?;
        Ok(())
    }

    fn begin(&mut self, by: &[u8]) {
        let is_line = self.format == Format::NdJson;
        if self.documents > 0 && !is_line {
            self.put(",\n");
        }
        self.documents += 1;
        if self.shape.documents == Documents::Members {
            self.text.extend(by);
            self.put(": {");
        } else {
            self.put("{");
            self.name(&self.shape.by.clone());
            self.text.extend(by);
        }
        let has_member = self.shape.documents == Documents::Records;
        self.open = Some(Open { by: by.to_vec(), is_filled: false, has_member, list: None });
    }

    /// Takes a record of the open document.
    fn take(&mut self, record: &Owned) -> Outcome<()> {
        let Some(mut open) = self.open.take() else { return Ok(()) };
        match usize::from(record.rank).checked_sub(1) {
            None if std::mem::replace(&mut open.is_filled, true) => {
                let name: String = String::from_utf8_lossy(&open.by).chars().take(80).collect();
                let what = format!("there are two documents for {name}");
                return Err(Fault::found(StoreErrorKind::Mismatch, what));
            }
            None => {
                let own = record.record.strip_prefix(b"{").and_then(|rest| rest.strip_suffix(b"}"));
                let own = own.unwrap_or(&record.record);
                if !own.is_empty() {
                    self.put(if std::mem::replace(&mut open.has_member, true) { "," } else { "" });
                    self.text.extend(own);
                }
            }
            Some(list) if open.list == Some(list) => {
                self.put(",");
                self.text.extend(&record.record);
            }
            Some(list) => {
                self.lists_up_to(&mut open, list);
                self.begin_list(&mut open, list);
                self.text.extend(&record.record);
            }
        }
        self.open = Some(open);
        Ok(())
    }

    /// Ends the list that is open, and writes those without elements that come before another.
    fn lists_up_to(&mut self, open: &mut Open, next: usize) {
        let from = open.list.map_or(0, |list| list + 1);
        if open.list.is_some() {
            self.put("]");
        }
        for empty in from..next {
            self.begin_list(open, empty);
            self.put("]");
        }
    }

    fn begin_list(&mut self, open: &mut Open, list: usize) {
        self.put(if std::mem::replace(&mut open.has_member, true) { "," } else { "" });
        if let Some(name) = self.lists.get(list) {
            self.name(&name.clone());
        }
        self.put("[");
        open.list = Some(list);
    }

    fn close(&mut self) {
        let Some(mut open) = self.open.take() else { return };
        self.lists_up_to(&mut open, self.lists.len());
        self.put(if self.format == Format::NdJson { "}\n" } else { "}" });
    }
}
