//! Parts of a table: stretches of files, and where they are cut.

use super::csv::Separator;
use super::frame::Framing;
use super::input::{Input, is_array};
use super::typed::TypedFile;
use crate::catalog::{DataFile, Found};
use crate::client::Place;
use crate::error::Outcome;
use crate::format::{Compression, Format};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::runtime::Handle;
use whimbrel_model::Cursor;

use crate::catalog::Expected;
use crate::client::FileRef;

/// What a stretch of a file holds at the least, so that a slice of its own pays.
const LEAST_BYTES: u64 = 64 << 10;

/// A part of a table: stretches of files, one behind the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Part {
    pub(super) segments: Vec<Segment>,
}

impl Part {
    pub(super) fn deserialized(value: &Value) -> Option<Self> {
        Self::deserialize(value).ok()
    }
}

/// A stretch of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Segment {
    pub(super) file: FileRef,
    /// In text the bytes in which its records begin, else the row groups or batches: from, and up to.
    pub(super) from: u64,
    pub(super) to: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) expected: Option<Expected>,
}

impl Segment {
    pub(super) fn data_file(&self) -> DataFile {
        DataFile { file: self.file.clone(), expected: self.expected.clone() }
    }
}

/// How far a part has been read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Position {
    /// The segment.
    pub(super) segment: usize,
    /// In text the byte behind the last record, of what is unpacked; else the row behind the last, counted from
    /// the segment's start.
    pub(super) at: u64,
    /// Records of the segment so far.
    #[serde(default)]
    pub(super) records: u64,
    /// Where in a JSON text that is.
    #[serde(default)]
    pub(super) within: Within,
}

/// Where in a JSON text a position is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Within {
    /// Nothing was read yet.
    #[default]
    Start,
    /// In the array, behind an element.
    Array,
    /// Behind a value, and in no array.
    Sequence,
    /// Nothing is to be read any more.
    End,
}

impl Position {
    pub(super) fn of(cursor: &Cursor) -> Option<Self> {
        Self::deserialize(&cursor.0).ok()
    }

    pub(super) fn cursor(&self) -> Option<Cursor> {
        serde_json::to_value(self).ok().map(Cursor)
    }
}

/// About `wanted` parts. Files keep their order.
pub(super) fn cut(place: &Place, handle: &Handle, found: &Found, wanted: usize) -> Outcome<Vec<Part>> {
    let wanted = u64::try_from(wanted.max(1)).unwrap_or(1);
    let total: u64 = found.files.iter().map(|file| file.file.size).sum();
    let piece = total.div_ceil(wanted).max(LEAST_BYTES);
    let mut segments = Vec::new();
    for file in &found.files {
        let pieces = if wanted == 1 { 1 } else { file.file.size.div_ceil(piece).max(1) };
        segments.extend(cut_file(place, handle, found.format, file, pieces)?);
    }
    Ok(gathered(segments, piece))
}

/// Segments side by side into parts of a size, each with its size.
fn gathered(segments: Vec<(u64, Segment)>, piece: u64) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut part = Part { segments: Vec::new() };
    let mut bytes = 0;
    for (size, segment) in segments {
        if bytes > 0 && bytes + size > piece.saturating_add(piece / 8) {
            parts.push(std::mem::replace(&mut part, Part { segments: Vec::new() }));
            bytes = 0;
        }
        bytes += size;
        part.segments.push(segment);
    }
    if !part.segments.is_empty() || parts.is_empty() {
        parts.push(part);
    }
    parts
}

fn cut_file(
    place: &Place,
    handle: &Handle,
    format: Format,
    file: &DataFile,
    pieces: u64,
) -> Outcome<Vec<(u64, Segment)>> {
    let size = file.file.size;
    let segment = |from, to| {
        let Segment { file, expected, .. } =
            Segment { file: file.file.clone(), from, to, expected: file.expected.clone() };
        Segment { file, from, to, expected }
    };
    if !format.is_text() {
        let opened = TypedFile::open(place, handle, &file.file, format)?;
        return Ok(cut_typed(&opened.group_bytes(), size, pieces, segment));
    }
    let is_near = matches!(place, Place::Folder(_));
    let is_packed = Compression::of_name(&file.file.path).0 != Compression::None;
    let is_lines = match format {
        _ if pieces <= 1 || is_packed || file.expected.is_some() => false,
        // A newline may stand in a quoted field: only who reads from the start knows where records begin. That is
        // quick on a disk; an object would be fetched twice.
        Format::Csv if is_near => {
            let bounds = csv_bounds(&mut Input::open(place, handle, file, 0)?, size / pieces)?;
            let stretches = bounds.iter().zip(bounds[1..].iter().chain([&size]));
            return Ok(stretches.map(|(from, to)| (to - from, segment(*from, *to))).collect());
        }
        Format::NdJson => true,
        Format::DynamoDbJson => !is_array(&mut Input::open(place, handle, file, 0)?)?,
        Format::Json | Format::Csv | Format::Parquet | Format::Arrow => false,
    };
    if !is_lines {
        return Ok(vec![(size, segment(0, size))]);
    }
    let bound = |number: u64| size / pieces * number + size % pieces * number / pieces;
    let stretches = (0..pieces).map(|number| (bound(number), bound(number + 1)));
    Ok(stretches.map(|(from, to)| (to - from, segment(from, to))).collect())
}

/// Where stretches of about a length begin, each with a record of CSV.
fn csv_bounds(input: &mut Input, length: u64) -> Outcome<Vec<u64>> {
    let mut bounds = vec![0];
    let (mut record, mut next) = (Vec::new(), length);
    let mut framing = Framing::Csv(Separator::COMMA);
    let mut is_header = true;
    while framing.next(input, &mut record)?.is_some() {
        if std::mem::take(&mut is_header) {
            framing = Framing::Csv(Separator::of_header(&record));
        }
        record.clear();
        if input.position() >= next {
            bounds.push(input.position());
            next = input.position() + length;
        }
    }
    // Behind the last record there is none to begin with.
    bounds.pop_if(|last| *last > 0 && *last >= input.position());
    Ok(bounds)
}

/// Groups side by side, so that each segment has about its share of the bytes.
fn cut_typed(
    groups: &[u64],
    size: u64,
    pieces: u64,
    segment: impl Fn(u64, u64) -> Segment,
) -> Vec<(u64, Segment)> {
    let share = groups.iter().sum::<u64>().div_ceil(pieces).max(1);
    let mut segments = Vec::new();
    let (mut from, mut bytes) = (0, 0);
    for (number, group) in (1_u64..).zip(groups) {
        bytes += group;
        if bytes >= share {
            segments.push((bytes, segment(from, number)));
            (from, bytes) = (number, 0);
        }
    }
    let count = u64::try_from(groups.len()).unwrap_or(u64::MAX);
    if from < count || segments.is_empty() {
        segments.push((bytes.max(size.min(1)), segment(from, count)));
    }
    segments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(from: u64, to: u64) -> Segment {
        let file = FileRef { path: "f".to_owned(), size: 0, version: String::new() };
        Segment { file, from, to, expected: None }
    }

    #[test]
    fn groups_are_shared_out_whole() {
        let cut = |groups: &[u64], pieces| {
            let segments = cut_typed(groups, 1, pieces, segment);
            segments.iter().map(|(_, segment)| (segment.from, segment.to)).collect::<Vec<_>>()
        };
        assert_eq!(cut(&[10, 10, 10, 10], 2), [(0, 2), (2, 4)]);
        assert_eq!(cut(&[10, 10, 10], 2), [(0, 2), (2, 3)]);
        assert_eq!(cut(&[10], 4), [(0, 1)]);
        assert_eq!(cut(&[], 4), [(0, 0)], "a file without groups is a part all the same");
    }

    #[test]
    fn small_files_share_a_part() {
        let sizes = |sizes: &[u64], piece| {
            let segments = sizes.iter().map(|size| (*size, segment(0, *size))).collect();
            gathered(segments, piece).iter().map(|part| part.segments.len()).collect::<Vec<_>>()
        };
        assert_eq!(sizes(&[10, 10, 10, 10], 20), [2, 2]);
        assert_eq!(sizes(&[50, 1, 1], 20), [1, 2]);
        assert_eq!(sizes(&[], 20), [0], "an empty export has one part");
    }

    #[test]
    fn positions_come_back() {
        let position = Position { segment: 2, at: 7, records: 3, within: Within::Array };
        assert_eq!(Position::of(&position.cursor().unwrap()), Some(position));
        assert_eq!(Position::of(&Cursor(serde_json::json!({"after": 1}))), None);
    }
}
