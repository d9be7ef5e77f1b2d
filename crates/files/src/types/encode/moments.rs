//! Dates and timestamps as text: letter by letter what Arrow prints, in a fraction of its time.

use super::cells::raw_counts;
use super::text::TextBuffer;
use arrow::array::{Array, ArrayRef, PrimitiveArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Int64Type, TimeUnit};
use arrow::error::ArrowError;
use whimbrel_model::canonical::Canonical;

/// Days from 1970-01-01 to the first and to the last day whose year has four digits.
const FIRST_DAY: i64 = -719_528;
const LAST_DAY: i64 = 2_932_896;
const SECONDS_A_DAY: i64 = 86_400;
const NANOSECONDS: i64 = 1_000_000_000;
/// `2020-09-13T12:26:40.123456789Z`, and what makes it a round number.
const LONGEST: usize = 32;
const DATE_BYTES: usize = 10;

/// The values of a column of dates or timestamps.
#[derive(Debug)]
pub(crate) struct Moments {
    counts: PrimitiveArray<Int64Type>,
    unit: Unit,
}

/// What is counted from 1970 on.
#[derive(Clone, Copy, Debug)]
enum Unit {
    Days,
    /// So many parts of a second; whether the moment is one of UTC.
    Parts(i64, bool),
}

/// A day and its text: moments mostly stand near each other.
#[derive(Debug, Default)]
pub(super) struct Day {
    days: Option<i64>,
    text: [u8; DATE_BYTES],
}

impl Moments {
    /// `None`: a type that only Arrow prints.
    pub(crate) fn new(column: &ArrayRef) -> Result<Option<Self>, ArrowError> {
        let unit = match column.data_type() {
            DataType::Date32 => Unit::Days,
            DataType::Timestamp(unit, zone) => {
                let is_utc = match zone.as_deref() {
                    None => false,
                    Some("UTC" | "+00:00") => true,
                    Some(_) => return Ok(None),
                };
                let parts = match unit {
                    TimeUnit::Second => 1,
                    TimeUnit::Millisecond => 1_000,
                    TimeUnit::Microsecond => 1_000_000,
                    TimeUnit::Nanosecond => NANOSECONDS,
                };
                Unit::Parts(parts, is_utc)
            }
            _ => return Ok(None),
        };
        Ok(Some(Self { counts: raw_counts(column)?, unit }))
    }

    pub(crate) fn is_null(&self, row: usize) -> bool {
        self.counts.is_null(row)
    }

    pub(super) fn len(&self) -> usize {
        self.counts.len()
    }

    pub(super) fn nulls(&self) -> Option<&NullBuffer> {
        self.counts.nulls()
    }

    /// Appends the canonical form of a value as a typed file holds it; of what is NULL it is anyone's. `false`: it is so far
    /// away that 64 bits do not count its microseconds; nothing is appended.
    #[inline]
    pub(super) fn append_typed(&self, row: usize, canonical: &mut Canonical) -> bool {
        let count = if self.is_null(row) { 0 } else { self.counts.value(row) };
        let Unit::Parts(parts, is_utc) = self.unit else {
            // Days are counted in 32 bits.
            canonical.date(i32::try_from(count).unwrap_or(0));
            return true;
        };
        let (micros, below) = match parts {
            NANOSECONDS => (Some(count.div_euclid(1_000)), count.rem_euclid(1_000)),
            parts => (count.checked_mul(1_000_000 / parts), 0),
        };
        let (Some(micros), Ok(below)) = (micros, u16::try_from(below)) else { return false };
        if is_utc {
            canonical.instant(micros, below);
        } else {
            canonical.local(micros, below);
        }
        true
    }

    /// Appends a value that is not NULL. What no calendar of four-digit years holds is the count itself, but for the
    /// infinities of PostgreSQL, which are the words that it reads.
    pub(crate) fn append(&self, row: usize, into: &mut TextBuffer) {
        self.append_near(row, &mut Day::default(), into);
    }

    /// The same, with the day of the one before it, and now of this one.
    #[inline]
    pub(super) fn append_near(&self, row: usize, day: &mut Day, into: &mut TextBuffer) {
        let count = self.counts.value(row);
        // Each by itself, so that what is divided by is known to the compiler: that is many times quicker.
        match self.unit {
            Unit::Days => self.append_moment(count, count, None, day, into),
            Unit::Parts(1, is_utc) => self.append_parts::<1>(count, is_utc, day, into),
            Unit::Parts(1_000, is_utc) => self.append_parts::<1_000>(count, is_utc, day, into),
            Unit::Parts(1_000_000, is_utc) => self.append_parts::<1_000_000>(count, is_utc, day, into),
            Unit::Parts(_, is_utc) => self.append_parts::<NANOSECONDS>(count, is_utc, day, into),
        }
    }

    fn append_parts<const PARTS: i64>(&self, count: i64, is_utc: bool, day: &mut Day, into: &mut TextBuffer) {
        let (second, part) = (count.div_euclid(PARTS), count.rem_euclid(PARTS));
        let (days, second) = (second.div_euclid(SECONDS_A_DAY), second.rem_euclid(SECONDS_A_DAY));
        self.append_moment(
            count,
            days,
            Some((small(second), small(part * (NANOSECONDS / PARTS)), is_utc)),
            day,
            into,
        );
    }

    fn append_moment(
        &self,
        count: i64,
        days: i64,
        within: Option<(u32, u32, bool)>,
        day: &mut Day,
        into: &mut TextBuffer,
    ) {
        if !(FIRST_DAY..=LAST_DAY).contains(&days) {
            return into.push_str(self.infinity(count).unwrap_or(itoa::Buffer::new().format(count)));
        }
        if day.days != Some(days) {
            *day = Day { days: Some(days), text: date(small(days - FIRST_DAY)) };
        }
        let mut bytes = [0; LONGEST];
        bytes[..DATE_BYTES].copy_from_slice(&day.text);
        let mut length = DATE_BYTES;
        if let Some((second, nanoseconds, is_utc)) = within {
            length = time(second, nanoseconds, &mut bytes);
            if is_utc {
                bytes[length] = b'Z';
                length += 1;
            }
        }
        into.push_short(&bytes, length);
    }

    fn infinity(&self, count: i64) -> Option<&'static str> {
        let (least, most) = match self.unit {
            Unit::Days => (i32::MIN.into(), i32::MAX.into()),
            Unit::Parts(..) => (i64::MIN, i64::MAX),
        };
        if count == most { Some("infinity") } else { (count == least).then_some("-infinity") }
    }
}

/// A number that fits: of days, seconds or nanoseconds.
fn small(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

/// A number below 100.
#[inline]
fn two(number: u32) -> [u8; 2] {
    let digit = |number: u32| b'0' + u8::try_from(number % 10).unwrap_or(0);
    [digit(number / 10), digit(number)]
}

/// The day of the Gregorian calendar, so many days behind the first of the year 0, counted in years that begin in March,
/// of which 400 are one era.
#[inline]
fn date(days: u32) -> [u8; DATE_BYTES] {
    const DAYS_AN_ERA: u32 = 146_097;
    // From the first of March of the era before.
    let days = days + (DAYS_AN_ERA - 60);
    let (era, day) = (days / DAYS_AN_ERA, days % DAYS_AN_ERA);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + u32::from(month <= 2) - 400;
    let ([a, b], [c, d]) = (two(year / 100), two(year % 100));
    let ([e, f], [g, h]) = (two(month), two(day));
    [a, b, c, d, b'-', e, f, b'-', g, h]
}

/// With 0, 3, 6 or 9 digits of a fraction, as few as hold it; the length of date and time.
#[inline]
fn time(second: u32, nanoseconds: u32, bytes: &mut [u8; LONGEST]) -> usize {
    const END: usize = DATE_BYTES + 9;
    let ([a, b], [c, d], [e, f]) = (two(second / 3600), two(second / 60 % 60), two(second % 60));
    bytes[DATE_BYTES..END].copy_from_slice(&[b'T', a, b, b':', c, d, b':', e, f]);
    if nanoseconds == 0 {
        return END;
    }
    let digits = |number: u32| {
        let [tens, ones] = two(number % 100);
        [two(number / 100)[1], tens, ones]
    };
    let (millis, rest) = (nanoseconds / 1_000_000, nanoseconds % 1_000_000);
    bytes[END] = b'.';
    bytes[END + 1..END + 4].copy_from_slice(&digits(millis));
    if rest == 0 {
        return END + 4;
    }
    bytes[END + 4..END + 7].copy_from_slice(&digits(rest / 1_000));
    bytes[END + 7..END + 10].copy_from_slice(&digits(rest % 1_000));
    if rest % 1_000 == 0 { END + 7 } else { END + 10 }
}

#[cfg(test)]
mod tests {
    use super::super::cells::printed;
    use super::*;
    use arrow::array::{
        Date32Array, TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray,
        TimestampSecondArray,
    };
    use proptest::prelude::*;
    use std::sync::Arc;

    fn assert_printed_alike(column: &ArrayRef) {
        let (moments, texts) = (Moments::new(column).unwrap().unwrap(), printed(column).unwrap());
        let mut day = Day::default();
        for row in 0..column.len() {
            let mut text = TextBuffer::default();
            moments.append_near(row, &mut day, &mut text);
            assert_eq!(
                text.as_str(),
                texts.value(row),
                "{:?} {}",
                column.data_type(),
                moments.counts.value(row)
            );
        }
    }

    fn assert_all_alike(counts: &[i64]) {
        let zones = [None, Some("UTC"), Some("+00:00")];
        for zone in zones {
            let zone = zone.map(Arc::<str>::from);
            let columns: [ArrayRef; 4] = [
                Arc::new(TimestampSecondArray::from(counts.to_vec()).with_timezone_opt(zone.clone())),
                Arc::new(TimestampMillisecondArray::from(counts.to_vec()).with_timezone_opt(zone.clone())),
                Arc::new(TimestampMicrosecondArray::from(counts.to_vec()).with_timezone_opt(zone.clone())),
                Arc::new(TimestampNanosecondArray::from(counts.to_vec()).with_timezone_opt(zone)),
            ];
            columns.iter().for_each(assert_printed_alike);
        }
        let days = counts.iter().filter_map(|count| i32::try_from(*count).ok());
        assert_printed_alike(&(Arc::new(Date32Array::from_iter_values(days)) as ArrayRef));
    }

    #[test]
    fn edges_are_printed_as_arrow_prints_them() {
        let mut counts =
            vec![i64::MIN, i64::MIN + 1, i64::MAX, i64::MAX - 1, i32::MIN.into(), i32::MAX.into()];
        for days in [FIRST_DAY, LAST_DAY, LAST_DAY + 1, 0, -1, 59, 60, 365, 11_016, 47_540, -25_509, -25_508]
        {
            for parts in [1, 86_400, 86_400_000, 86_400_000_000] {
                let count: i64 = days * parts;
                counts.extend([count - 1, count, count + 1, count + 10, count + 1_000, count + 120_000]);
            }
        }
        assert_all_alike(&counts);
    }

    /// The form of a column's only value as a typed file holds it.
    fn typed(column: impl Array + 'static) -> Option<Vec<u8>> {
        let mut canonical = Canonical::default();
        let moments = Moments::new(&(Arc::new(column) as ArrayRef)).unwrap().unwrap();
        moments.append_typed(0, &mut canonical).then(|| canonical.into_bytes())
    }

    #[test]
    fn moments_of_typed_files_are_told_apart_and_are_the_same_in_each_unit() {
        let nanos = |count: i64| typed(TimestampNanosecondArray::from(vec![count])).unwrap();
        let micros = |count: i64| typed(TimestampMicrosecondArray::from(vec![count])).unwrap();
        let forms = [i64::MIN, -1_001, -1_000, -1, 0, 1, 999, 1_000, 1_001, i64::MAX].map(nanos);
        let different: std::collections::BTreeSet<_> = forms.iter().collect();
        assert_eq!(different.len(), forms.len());
        assert_eq!(nanos(-7_000), micros(-7));
        assert_eq!(typed(TimestampMillisecondArray::from(vec![-7])).unwrap(), micros(-7_000));
        assert_eq!(typed(TimestampSecondArray::from(vec![7])).unwrap(), micros(7_000_000));
        assert_ne!(typed(TimestampMicrosecondArray::from(vec![7]).with_timezone("UTC")).unwrap(), micros(7));
        assert!(typed(TimestampSecondArray::from(vec![i64::MAX])).is_none());
        assert_ne!(typed(Date32Array::from(vec![1])), typed(Date32Array::from(vec![i32::MAX])));
    }

    proptest! {
        #[test]
        fn all_are_printed_as_arrow_prints_them(
            near in proptest::collection::vec(-3_000_000_i64..3_000_000, 8),
            seconds in proptest::collection::vec(-70_000_000_000_i64..260_000_000_000, 8),
            micros in proptest::collection::vec(-70_000_000_000_000_000_i64..260_000_000_000_000_000, 8),
            any in proptest::collection::vec(any::<i64>(), 8),
        ) {
            assert_all_alike(&[near, seconds, micros, any].concat());
        }
    }
}
