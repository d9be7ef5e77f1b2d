//! Dates and timestamps as text: letter by letter what Arrow prints, in a fraction of its time.

use super::cells::raw_counts;
use arrow::array::{Array, ArrayRef, PrimitiveArray};
use arrow::datatypes::{DataType, Int64Type, TimeUnit};
use arrow::error::ArrowError;

/// Days from 1970-01-01 to the first and to the last day whose year has four digits.
const FIRST_DAY: i64 = -719_528;
const LAST_DAY: i64 = 2_932_896;
const SECONDS_A_DAY: i64 = 86_400;
const NANOSECONDS: i64 = 1_000_000_000;
/// `2020-09-13T12:26:40.123456789Z`
const LONGEST: usize = 30;

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

    /// Appends a value that is not NULL. What no calendar of four-digit years holds is the count itself, but for the
    /// infinities of PostgreSQL, which are the words that it reads.
    pub(crate) fn append(&self, row: usize, into: &mut String) {
        let count = self.counts.value(row);
        let (days, within) = match self.unit {
            Unit::Days => (count, None),
            Unit::Parts(parts, is_utc) => {
                let (second, part) = (count.div_euclid(parts), count.rem_euclid(parts));
                let time = (second.rem_euclid(SECONDS_A_DAY), part * (NANOSECONDS / parts), is_utc);
                (second.div_euclid(SECONDS_A_DAY), Some(time))
            }
        };
        if !(FIRST_DAY..=LAST_DAY).contains(&days) {
            return into.push_str(self.infinity(count).unwrap_or(itoa::Buffer::new().format(count)));
        }
        let mut text = Text { bytes: [0; LONGEST], length: 0 };
        text.date(days);
        if let Some((second, nanoseconds, is_utc)) = within {
            text.time(second, nanoseconds);
            if is_utc {
                text.push(b'Z');
            }
        }
        // Digits and signs: it always is UTF-8.
        into.push_str(std::str::from_utf8(&text.bytes[..text.length]).unwrap_or_default());
    }

    fn infinity(&self, count: i64) -> Option<&'static str> {
        let (least, most) = match self.unit {
            Unit::Days => (i32::MIN.into(), i32::MAX.into()),
            Unit::Parts(..) => (i64::MIN, i64::MAX),
        };
        if count == most { Some("infinity") } else { (count == least).then_some("-infinity") }
    }
}

/// A moment's text, as far as it has come.
struct Text {
    bytes: [u8; LONGEST],
    length: usize,
}

impl Text {
    fn push(&mut self, byte: u8) {
        self.bytes[self.length] = byte;
        self.length += 1;
    }

    /// A number below 100.
    fn two(&mut self, number: i64) {
        let number = u8::try_from(number).unwrap_or(0);
        self.bytes[self.length..self.length + 2].copy_from_slice(&[b'0' + number / 10, b'0' + number % 10]);
        self.length += 2;
    }

    /// The last `width` digits of a number.
    fn digits(&mut self, number: i64, width: usize) {
        let mut rest = u32::try_from(number).unwrap_or(0);
        for byte in self.bytes[self.length..self.length + width].iter_mut().rev() {
            *byte = b'0' + u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
        }
        self.length += width;
    }

    /// The day of the Gregorian calendar, counted in years that begin in March, of which 400 are one era.
    fn date(&mut self, days: i64) {
        let from_era = days + 719_468;
        let (era, day) = (from_era.div_euclid(146_097), from_era.rem_euclid(146_097));
        let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let day = day - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        let year = year + era * 400 + i64::from(month <= 2);
        self.two(year / 100);
        self.two(year % 100);
        self.push(b'-');
        self.two(month);
        self.push(b'-');
        self.two(day);
    }

    /// With 0, 3, 6 or 9 digits of a fraction, as few as hold it.
    fn time(&mut self, second: i64, nanoseconds: i64) {
        for (mark, number) in [(b'T', second / 3600), (b':', second / 60 % 60), (b':', second % 60)] {
            self.push(mark);
            self.two(number);
        }
        let (fraction, width) = match nanoseconds {
            0 => return,
            whole if whole % 1_000_000 == 0 => (whole / 1_000_000, 3),
            whole if whole % 1_000 == 0 => (whole / 1_000, 6),
            whole => (whole, 9),
        };
        self.push(b'.');
        self.digits(fraction, width);
    }
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
        for row in 0..column.len() {
            let mut text = String::new();
            moments.append(row, &mut text);
            assert_eq!(text, texts.value(row), "{:?} {}", column.data_type(), moments.counts.value(row));
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
