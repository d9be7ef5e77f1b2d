//! Slices and cursors: ranges of rows.

use serde::{Deserialize, Serialize};
use whimbrel_model::{Cursor, SlicePart};

/// The rows above one and up to another; `None` is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Part {
    above: Option<i64>,
    upto: Option<i64>,
}

impl Part {
    /// All rows.
    pub(super) const WHOLE: Self = Self { above: None, upto: None };

    /// What of a slice lies behind a cursor; `None`: they are another store's.
    pub(super) fn of(part: &SlicePart, after: Option<&Cursor>) -> Option<Self> {
        let part: Self = serde_json::from_value(part.0.clone()).ok()?;
        match after {
            None => Some(part),
            Some(cursor) => Some(Self { above: Some(cursor.0.as_i64()?), ..part }),
        }
    }

    pub(super) fn to_slice(self) -> SlicePart {
        SlicePart(serde_json::to_value(self).unwrap_or_default())
    }

    /// The row below the first, and the last.
    pub(super) fn bounds(self) -> (i64, i64) {
        (self.above.unwrap_or(i64::MIN), self.upto.unwrap_or(i64::MAX))
    }

    /// Cuts behind each of the rows, which ascend and lie in it.
    pub(super) fn cut_at(self, rows: Vec<i64>) -> Vec<Self> {
        let mut above = self.above;
        let ends = rows.into_iter().map(Some).chain([self.upto]);
        ends.map(|upto| Self { above: std::mem::replace(&mut above, upto), upto }).collect()
    }
}

/// The cursor behind a row.
pub(super) fn cursor(row: i64) -> Cursor {
    Cursor(row.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_come_back_as_they_were_and_cover_everything() {
        let parts = Part::WHOLE.cut_at(vec![3, 1 << 62]);
        let bounds: Vec<_> = parts.iter().map(|part| part.bounds()).collect();
        assert_eq!(bounds, [(i64::MIN, 3), (3, 1 << 62), (1 << 62, i64::MAX)]);
        let kept: SlicePart =
            serde_json::from_str(&serde_json::to_string(&parts[1].to_slice()).unwrap()).unwrap();
        assert_eq!(Part::of(&kept, None), Some(parts[1]));
        assert_eq!(Part::of(&kept, Some(&cursor(7))).unwrap().bounds(), (7, 1 << 62));
        assert_eq!(Part::of(&SlicePart("x".into()), None), None);
        assert_eq!(Part::of(&kept, Some(&Cursor("x".into()))), None);
    }
}
