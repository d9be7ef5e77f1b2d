//! Times in text: told by their shape, read exactly or refused, written in RFC 3339.
//!
//! | shape | like |
//! | --- | --- |
//! | PostgreSQL's | `2022-02-02 18:01:49.345261+00`, `2022-02-02 23:31:49+05:30`, `0044-03-15 12:00:00+00 BC` |
//! | ISO 8601 | `2022-02-02T18:01:49Z`, `2022-02-02T18:01:49,345+0530`, `2022-02-02 18:01:49Z` with a space for the T |
//!
//! Both name their zone. What has the shape and is no time (February 30, 24:00, a leap second, an offset of a day
//! and more), or none that RFC 3339 can write (years before 0000 and after 9999), is an error and never bent into
//! another time.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, StringArray, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, TimeUnit};
use datafusion::common::{Result, exec_err};
use jiff::SignedDuration;
use jiff::civil::{Date, DateTime, Time, datetime};
use std::sync::Arc;
use whimbrel_model::decimal::Decimal;

/// How much of a text a reason shows.
const SHOWN_CHARACTERS: usize = 40;
const NANOS: i128 = 1_000_000_000;
const DAY_SECONDS: i64 = 86_400;

/// What stands between day and time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Separator {
    Space,
    T,
}

/// How the zone is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Zone {
    Z,
    /// `+05`, `+05:30`, `+05:30:15`, in seconds; `colons` is false for `+0530`.
    Offset {
        seconds: i64,
        colons: bool,
        is_possible: bool,
    },
}

/// A text of the right shape, nothing of it looked at yet but its digits.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Written<'a> {
    year: &'a str,
    /// Month, day, hour, minute, second.
    parts: [i8; 5],
    fraction: &'a str,
    separator: Separator,
    zone: Zone,
    is_before_christ: bool,
}

/// A text that is read from its front.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    fn take(&mut self, text: &str) -> Option<()> {
        self.0 = self.0.strip_prefix(text)?;
        Some(())
    }

    /// Digits, as many as there are.
    fn digits(&mut self) -> &'a str {
        let end = self.0.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.0.len());
        let (digits, rest) = self.0.split_at(end);
        self.0 = rest;
        digits
    }

    /// Two digits.
    fn two(&mut self) -> Option<i8> {
        let (two, rest) = self.0.split_at_checked(2)?;
        if !two.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        self.0 = rest;
        two.parse().ok()
    }

    fn zone(&mut self) -> Option<Zone> {
        if self.take("Z").or_else(|| self.take("z")).is_some() {
            return Some(Zone::Z);
        }
        let sign = match self.take("+") {
            Some(()) => 1,
            None => self.take("-").map(|()| -1)?,
        };
        let hours = self.two()?;
        let (minutes, seconds, colons) = if self.take(":").is_some() {
            let minutes = self.two()?;
            (minutes, if self.take(":").is_some() { self.two()? } else { 0 }, true)
        } else if self.0.starts_with(|c: char| c.is_ascii_digit()) {
            (self.two()?, 0, false)
        } else {
            (0, 0, true)
        };
        let all = i64::from(hours) * 3600 + i64::from(minutes) * 60 + i64::from(seconds);
        let is_possible = minutes < 60 && seconds < 60 && all < DAY_SECONDS;
        Some(Zone::Offset { seconds: sign * all, colons, is_possible })
    }
}

impl<'a> Written<'a> {
    /// Reads either shape; `None`: it has neither.
    fn of(text: &'a str) -> Option<Self> {
        let mut rest = Rest(text);
        let year = rest.digits();
        if !(4..=6).contains(&year.len()) {
            return None;
        }
        rest.take("-")?;
        let month = rest.two()?;
        rest.take("-")?;
        let day = rest.two()?;
        let separator = match rest.take(" ") {
            Some(()) => Separator::Space,
            None => rest.take("T").or_else(|| rest.take("t")).map(|()| Separator::T)?,
        };
        let hour = rest.two()?;
        rest.take(":")?;
        let minute = rest.two()?;
        rest.take(":")?;
        let second = rest.two()?;
        // ISO 8601 writes a comma, too.
        let has_comma = separator == Separator::T && rest.take(",").is_some();
        let fraction = if has_comma || rest.take(".").is_some() { rest.digits() } else { "0" };
        let zone = rest.zone()?;
        let is_before_christ = separator == Separator::Space && rest.take(" BC").is_some();
        let is_whole = rest.0.is_empty() && !fraction.is_empty();
        let parts = [month, day, hour, minute, second];
        is_whole.then_some(Self { year, parts, fraction, separator, zone, is_before_christ })
    }

    /// Whether PostgreSQL writes a time so.
    fn is_postgres(&self) -> bool {
        let zone = matches!(self.zone, Zone::Offset { colons: true, .. });
        self.separator == Separator::Space && zone && self.fraction.len() <= 6
    }

    /// Whether ISO 8601 does, with a year of four digits; RFC 3339 lets a space stand for its T. What PostgreSQL writes
    /// so is PostgreSQL's.
    fn is_iso(&self) -> bool {
        self.year.len() == 4 && !self.is_before_christ && !self.is_postgres()
    }

    /// The time in UTC.
    fn instant(&self) -> std::result::Result<DateTime, &'static str> {
        const UNWRITABLE: &str = "RFC 3339 can write the years 0000 to 9999 only";
        let [month, day, hour, minute, second] = self.parts;
        let year: i16 = self.year.parse().ok().filter(|year| *year <= 9999).ok_or(UNWRITABLE)?;
        if self.is_before_christ {
            return Err(UNWRITABLE);
        }
        // The year before 1 has no number in PostgreSQL's calendar.
        let date = Date::new(year, month, day).ok().filter(|_| year > 0 || !self.is_postgres());
        let date = date.ok_or("there is no such day")?;
        if second == 60 {
            return Err("there is no place for a leap second");
        }
        let nanos = self.nanos()?;
        let time = Time::new(hour, minute, second, nanos).map_err(|_| "there is no such time of the day")?;
        let seconds = match self.zone {
            Zone::Z => 0,
            Zone::Offset { is_possible: false, .. } => return Err("there is no such zone"),
            Zone::Offset { seconds, .. } => seconds,
        };
        let local = DateTime::from_parts(date, time);
        let utc = local.checked_sub(SignedDuration::from_secs(seconds)).ok();
        utc.filter(|utc| utc.year() >= 0).ok_or(UNWRITABLE)
    }

    fn nanos(&self) -> std::result::Result<i32, &'static str> {
        let (held, beyond) = self.fraction.split_at(self.fraction.len().min(9));
        if beyond.bytes().any(|digit| digit != b'0') {
            return Err("it has more than 9 digits of a second");
        }
        format!("{held:0<9}").parse().map_err(|_| "its fraction is no number")
    }
}

/// `is_pg_timestamp(text)`: whether it has the shape of PostgreSQL's times with their zone.
pub(super) fn is_pg_timestamp(args: &[ArrayRef]) -> Result<ArrayRef> {
    Ok(has_shape(args, |written| written.is_postgres()))
}

/// `is_iso_timestamp(text)`: whether it has the shape of ISO 8601's times with their zone.
pub(super) fn is_iso_timestamp(args: &[ArrayRef]) -> Result<ArrayRef> {
    Ok(has_shape(args, |written| written.is_iso()))
}

fn has_shape(args: &[ArrayRef], shape: impl Fn(&Written<'_>) -> bool) -> ArrayRef {
    let texts = args[0].as_string::<i32>().iter();
    let told = texts.map(|text| text.map(|text| Written::of(text).is_some_and(|written| shape(&written))));
    Arc::new(told.collect::<BooleanArray>())
}

/// `rfc3339(time, digits)`: text of either shape, or a timestamp, in RFC 3339 in UTC with 0, 3, 6 or 9 digits of a
/// second.
pub(super) fn rfc3339(args: &[ArrayRef]) -> Result<ArrayRef> {
    format_all(args, |text| {
        let shown = shown(text);
        let zoneless = Written::of(&format!("{text}Z")).is_some();
        if zoneless {
            return exec_err!("{shown} names no zone: add the one it is meant in, as in `… || '+00'`");
        }
        exec_err!("{shown} is no time as PostgreSQL or ISO 8601 write it")
    })
}

/// `try_rfc3339(time, digits)`: the same; NULL for text of another shape.
pub(super) fn try_rfc3339(args: &[ArrayRef]) -> Result<ArrayRef> {
    format_all(args, |_| Ok(None))
}

fn format_all(args: &[ArrayRef], misshapen: fn(&str) -> Result<Option<String>>) -> Result<ArrayRef> {
    let digits = args[1].as_primitive::<Int64Type>();
    let digits = |row: usize| -> Result<Option<usize>> {
        match (digits.is_valid(row), digits.value(row)) {
            (false, _) => Ok(None),
            (true, 0) => Ok(Some(0)),
            (true, 3) => Ok(Some(3)),
            (true, 6) => Ok(Some(6)),
            (true, 9) => Ok(Some(9)),
            (true, other) => {
                exec_err!("RFC 3339 is written with 0, 3, 6 or 9 digits of a second, not {other}")
            }
        }
    };
    let one = |row: usize| -> Result<Option<String>> {
        let Some(digits) = digits(row)? else { return Ok(None) };
        if args[0].is_null(row) {
            return Ok(None);
        }
        if let DataType::Timestamp(unit, _) = args[0].data_type() {
            let at = moment(&cast(&args[0].slice(row, 1), &DataType::Int64)?, *unit)?;
            return format(at, digits, "the timestamp").map(Some);
        }
        let text = args[0].as_string::<i32>().value(row);
        let Some(written) = Written::of(text).filter(|written| written.is_postgres() || written.is_iso())
        else {
            return misshapen(text);
        };
        match written.instant() {
            Ok(at) => format(at, digits, &shown(text)).map(Some),
            Err(reason) => exec_err!("{}: {reason}", shown(text)),
        }
    };
    Ok(Arc::new((0..args[0].len()).map(one).collect::<Result<StringArray>>()?))
}

/// The one timestamp, UTC.
fn moment(raw: &ArrayRef, unit: TimeUnit) -> Result<DateTime> {
    const EPOCH: DateTime = datetime(1970, 1, 1, 0, 0, 0, 0);
    let raw = raw.as_primitive::<Int64Type>().value(0);
    let nanos = i128::from(raw)
        * match unit {
            TimeUnit::Second => NANOS,
            TimeUnit::Millisecond => 1_000_000,
            TimeUnit::Microsecond => 1_000,
            TimeUnit::Nanosecond => 1,
        };
    let seconds = i64::try_from(nanos.div_euclid(NANOS)).unwrap_or(i64::MAX);
    let rest = i32::try_from(nanos.rem_euclid(NANOS)).unwrap_or(0);
    let at = EPOCH.checked_add(SignedDuration::new(seconds, rest)).ok().filter(|at| at.year() >= 0);
    match at {
        Some(at) => Ok(at),
        None => {
            exec_err!("the timestamp is infinite or outside the years 0000 to 9999 that RFC 3339 can write")
        }
    }
}

fn format(at: DateTime, digits: usize, shown: &str) -> Result<String> {
    let per_digit = 10_i32.pow(u32::try_from(9_usize.saturating_sub(digits)).unwrap_or(0));
    if at.subsec_nanosecond() % per_digit != 0 {
        return exec_err!("{shown} has more than {digits} digits of a second");
    }
    Ok(format!("{at:.digits$}Z"))
}

/// `from_epoch_s(number)`, `from_epoch_ms(number)`: the timestamp so many units after 1970 began, in UTC. A unit has
/// `digits` decimal digits of microseconds; a finer fraction is an error, since it would be lost.
pub(super) fn from_epoch(args: &[ArrayRef], digits: usize) -> Result<ArrayRef> {
    let unit_us = 10_i64.pow(u32::try_from(digits).unwrap_or(0));
    let far = |units: &str| exec_err!("{units} is further from 1970 than a timestamp reaches");
    let is_finite = |us: &i64| *us != i64::MAX && *us != i64::MIN;
    let whole = |units: i64| match units.checked_mul(unit_us).filter(is_finite) {
        Some(us) => Ok(us),
        None => far(&units.to_string()),
    };
    let in_text = |text: &str| {
        let Some(number) = Decimal::parse(text) else { return exec_err!("{} is no number", shown(text)) };
        let plain = number.to_string();
        let (units, fraction) = plain.split_once('.').unwrap_or((&plain, ""));
        if fraction.len() > digits {
            return exec_err!("{} has a finer fraction than microseconds", shown(text));
        }
        match format!("{units}{fraction:0<digits$}").parse().ok().filter(is_finite) {
            Some(us) => Ok(us),
            None => far(&shown(text)),
        }
    };
    let instants = match args[0].data_type() {
        DataType::Utf8 => {
            let texts = args[0].as_string::<i32>().iter();
            texts.map(|text| text.map(in_text).transpose()).collect::<Result<TimestampMicrosecondArray>>()?
        }
        _ => {
            let units = args[0].as_primitive::<Int64Type>().iter();
            units.map(|units| units.map(whole).transpose()).collect::<Result<TimestampMicrosecondArray>>()?
        }
    };
    Ok(Arc::new(instants.with_timezone("UTC")))
}

fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARACTERS) {
        Some((end, _)) => format!("\"{}…\"", &text[..end]),
        None => format!("\"{text}\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transform::{Compiler, TransformError};
    use arrow::array::Int64Array;
    use arrow::array::RecordBatch;
    use arrow::datatypes::{Field, Schema};
    use std::collections::BTreeMap;

    fn texts(values: &[&str]) -> ArrayRef {
        Arc::new(StringArray::from(values.to_vec()))
    }

    fn digits(digits: i64) -> ArrayRef {
        Arc::new(Int64Array::from(vec![digits]))
    }

    fn written(text: &str, count: i64) -> std::result::Result<Option<String>, String> {
        let found = rfc3339(&[texts(&[text]), digits(count)]).map_err(|error| error.to_string())?;
        Ok(found.as_string::<i32>().iter().next().flatten().map(str::to_owned))
    }

    fn tried(text: &str) -> std::result::Result<Option<String>, String> {
        let found = try_rfc3339(&[texts(&[text]), digits(9)]).map_err(|error| error.to_string())?;
        Ok(found.as_string::<i32>().iter().next().flatten().map(str::to_owned))
    }

    fn shapes(text: &str) -> (bool, bool) {
        let told = |array: ArrayRef| array.as_boolean().value(0);
        (
            told(is_pg_timestamp(&[texts(&[text])]).unwrap()),
            told(is_iso_timestamp(&[texts(&[text])]).unwrap()),
        )
    }

    #[test]
    fn times_of_either_shape_are_written_in_utc() {
        for (text, count, expected) in [
            ("2022-02-02 18:01:49.345261+00", 9, "2022-02-02T18:01:49.345261000Z"),
            ("2023-02-02 18:01:49.345261+00", 6, "2023-02-02T18:01:49.345261Z"),
            ("2022-02-02 18:01:49+00", 0, "2022-02-02T18:01:49Z"),
            ("2022-02-02 18:01:49.5+00", 3, "2022-02-02T18:01:49.500Z"),
            ("2022-02-02 18:01:49.100000+00", 3, "2022-02-02T18:01:49.100Z"),
            ("2022-02-02 18:01:49+05:30", 9, "2022-02-02T12:31:49.000000000Z"),
            ("2022-02-02 18:01:49-03", 0, "2022-02-02T21:01:49Z"),
            ("1890-01-01 00:00:00+00:19:32", 0, "1889-12-31T23:40:28Z"),
            ("2024-02-29 23:59:59.999999-00:01", 6, "2024-03-01T00:00:59.999999Z"),
            ("2000-02-29 00:00:00+00", 0, "2000-02-29T00:00:00Z"),
            ("0001-01-01 00:00:00+01", 0, "0000-12-31T23:00:00Z"),
            ("9999-12-31 23:59:59.999999+00", 6, "9999-12-31T23:59:59.999999Z"),
            ("2022-02-02T18:01:49Z", 9, "2022-02-02T18:01:49.000000000Z"),
            ("2022-02-02t18:01:49.345261789z", 9, "2022-02-02T18:01:49.345261789Z"),
            ("2022-02-02T18:01:49.1230000000000Z", 3, "2022-02-02T18:01:49.123Z"),
            ("2022-02-02T18:01:49.345+0530", 3, "2022-02-02T12:31:49.345Z"),
            ("2022-02-02T18:01:49-03:00", 0, "2022-02-02T21:01:49Z"),
            ("0000-01-01T00:00:00Z", 0, "0000-01-01T00:00:00Z"),
            ("2022-02-02 18:01:49Z", 3, "2022-02-02T18:01:49.000Z"),
            ("2022-02-02T18:01:49,345Z", 3, "2022-02-02T18:01:49.345Z"),
            ("2022-02-02 18:01:49.1234567+00:00", 9, "2022-02-02T18:01:49.123456700Z"),
            ("2022-02-02 18:01:49+0530", 0, "2022-02-02T12:31:49Z"),
            ("2022-02-02 18:01:49.345+05:30:15", 3, "2022-02-02T12:31:34.345Z"),
            ("2022-02-02 18:01:49-00:44", 0, "2022-02-02T18:45:49Z"),
        ] {
            assert_eq!(written(text, count).as_ref().map(Option::as_deref), Ok(Some(expected)), "{text}");
            assert_ne!(shapes(text), (false, false), "{text}");
        }
    }

    #[test]
    fn the_right_shape_of_no_time_is_an_error() {
        for (text, reason) in [
            ("2023-02-29 00:00:00+00", "no such day"),
            ("2022-02-30 18:01:49.345261+00", "no such day"),
            ("2022-13-01 00:00:00+00", "no such day"),
            ("2022-00-10 00:00:00+00", "no such day"),
            ("1900-02-29T00:00:00Z", "no such day"),
            ("0000-01-01 00:00:00+00", "no such day"),
            ("2022-02-02 24:00:00+00", "no such time"),
            ("2022-02-02 18:60:00+00", "no such time"),
            ("2022-02-02 18:01:61+00", "no such time"),
            ("2016-12-31 23:59:60+00", "leap second"),
            ("2016-12-31T23:59:60Z", "leap second"),
            ("2022-02-02 18:01:49+24", "no such zone"),
            ("2022-02-02 18:01:49+99:00", "no such zone"),
            ("2022-02-02 18:01:49-05:60", "no such zone"),
            ("2022-02-02T18:01:49+2500", "no such zone"),
            ("10000-01-01 00:00:00+00", "0000 to 9999"),
            ("294276-12-31 23:59:59.999999+00", "0000 to 9999"),
            ("9999-12-31 23:59:59-01", "0000 to 9999"),
            ("0000-01-01T00:00:00+01:00", "0000 to 9999"),
            ("0044-03-15 12:00:00+00 BC", "0000 to 9999"),
            ("2022-02-02T18:01:49.1234567891Z", "more than 9 digits"),
        ] {
            for outcome in [written(text, 9), tried(text)] {
                let error = outcome.expect_err(text);
                assert!(error.contains(reason) && error.contains(text), "{text}: {error}");
            }
            assert_ne!(shapes(text), (false, false), "{text}: what is to be repaired is told by its shape");
        }
        let error = written("2022-02-02 18:01:49.345261+00", 3).expect_err("a digit would be lost");
        assert!(error.contains("more than 3 digits"), "{error}");
        assert!(written("2022-02-02 18:01:49+00", 2).expect_err("2").contains("0, 3, 6 or 9"));
    }

    #[test]
    fn another_shape_is_told_apart() {
        for text in [
            "",
            "METADATA",
            "infinity",
            "-infinity",
            "2022-02-02",
            "2022-02-02 18:01:49",
            "2022-02-02T18:01:49",
            "2022-02-02 18:01+00",
            "2022-02-02 18:01:49.+00",
            "2022-02-02 18:01:49 +00",
            " 2022-02-02 18:01:49+00",
            "2022-02-02 18:01:49+00 ",
            "2022-02-02 18:01:49+0",
            "2022-02-02 18:01:49 UTC",
            "22-02-02 18:01:49+00",
            "2022-2-2 18:01:49+00",
            "+12022-02-02T18:01:49Z",
            "12022-02-02T18:01:49Z",
            "1643824909",
            "2022-W05-3T18:01:49Z",
            "2022-033T18:01:49Z",
            "20220202T180149Z",
            "2022-02-02 18:01:49,5+00",
            "2022-02-02 18:01:49Z BC",
            "2022-02-02T18:01:49Z BC",
            "٢٠٢٢-02-02 18:01:49+00",
            "2022-02-02 1ä:01:49+00",
        ] {
            assert_eq!(tried(text), Ok(None), "{text}");
            assert!(written(text, 9).is_err(), "{text}");
            assert_eq!(shapes(text), (false, false), "{text}");
        }
        let error = written("2022-02-02 18:01:49.345261", 9).expect_err("no zone");
        assert!(error.contains("names no zone"), "{error}");
        assert_eq!(shapes("2022-02-02 18:01:49.345261+00"), (true, false));
        assert_eq!(shapes("2022-02-02T18:01:49.345261000Z"), (false, true));
    }

    fn compiled(
        sql: &str,
        kind: DataType,
    ) -> std::result::Result<crate::transform::Transform, TransformError> {
        let schema = Arc::new(Schema::new(vec![Field::new("at", kind, true)]));
        Compiler::new(&schema, &BTreeMap::new())?.transform(Some(sql))
    }

    /// What a repair in place says: what has PostgreSQL's shape is written anew, the rest stays as it is.
    #[test]
    fn a_repair_rewrites_one_shape_and_leaves_the_others() {
        let times = [
            "2022-02-02 18:01:49.345261+00",
            "2022-02-02T18:01:49Z",
            "2022-02-30 18:01:49+00",
            "yesterday",
            "2022-02-02 18:01:49",
        ];
        let schema = Arc::new(Schema::new(vec![Field::new("at", DataType::Utf8, true)]));
        let batch = RecordBatch::try_new(schema, vec![texts(&times)]).unwrap();
        let sql = "SELECT CASE WHEN is_pg_timestamp(at) THEN rfc3339(at, 9) ELSE at END AS at FROM input";
        let repaired = compiled(sql, DataType::Utf8).unwrap().apply(&batch, &[0, 1, 2, 3, 4]).unwrap();
        let kept: Vec<_> = repaired.records.column(0).as_string::<i32>().iter().flatten().collect();
        assert_eq!(kept, ["2022-02-02T18:01:49.345261000Z", times[1], times[3], times[4]]);
        assert_eq!(repaired.failed.len(), 1, "{:?}", repaired.failed);
        assert!(
            repaired.failed[0].0 == 2 && repaired.failed[0].1.contains("no such day"),
            "{:?}",
            repaired.failed
        );

        let sql = "SELECT rfc3339(at, 9) AS at FROM input WHERE is_pg_timestamp(at)";
        let repaired = compiled(sql, DataType::Utf8).unwrap().apply(&batch, &[0, 1, 2, 3, 4]).unwrap();
        assert_eq!((repaired.records.num_rows(), repaired.filtered, repaired.failed.len()), (1, 3, 1));
    }

    #[test]
    fn a_wrong_argument_is_found_before_the_run() {
        let zoned = DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()));
        for (sql, kind, fits) in [
            ("SELECT rfc3339(at, 3) AS at FROM input", DataType::Utf8, true),
            ("SELECT rfc3339(substr(at, 2), 3) AS at FROM input", DataType::Utf8, true),
            ("SELECT rfc3339(at, 3) AS at FROM input", zoned, true),
            ("SELECT rfc3339(from_epoch_ms(at), 3) AS at FROM input", DataType::Int64, true),
            ("SELECT rfc3339(at, 3) AS at FROM input", DataType::Boolean, false),
            ("SELECT rfc3339(at, 3) AS at FROM input", DataType::Int64, false),
            ("SELECT rfc3339(at) AS at FROM input", DataType::Utf8, false),
            ("SELECT is_pg_timestamp(at) AS at FROM input", DataType::Date32, false),
            ("SELECT from_epoch_s(at) AS at FROM input", DataType::LargeUtf8, true),
            ("SELECT from_epoch_s(at) AS at FROM input", DataType::Float64, false),
        ] {
            assert_eq!(compiled(sql, kind.clone()).is_ok(), fits, "{sql} over {kind}");
        }
    }

    #[test]
    fn null_stays_null() {
        let none: ArrayRef = Arc::new(StringArray::from(vec![None::<&str>]));
        assert!(rfc3339(&[Arc::clone(&none), digits(9)]).unwrap().is_null(0));
        assert!(try_rfc3339(&[Arc::clone(&none), digits(9)]).unwrap().is_null(0));
        assert!(is_pg_timestamp(&[none]).unwrap().is_null(0));
    }

    #[test]
    fn an_epoch_in_text_keeps_its_fraction_or_is_an_error() {
        let of = |text: &str, digits| {
            let made = from_epoch(&[texts(&[text])], digits).map_err(|error| error.to_string())?;
            let text = rfc3339(&[made, self::digits(6)]).map_err(|error| error.to_string())?;
            Ok::<_, String>(text.as_string::<i32>().value(0).to_owned())
        };
        for (text, digits, expected) in [
            ("1643824909.345261", 6, "2022-02-02T18:01:49.345261Z"),
            ("1643824909345.261", 3, "2022-02-02T18:01:49.345261Z"),
            ("1643824909", 6, "2022-02-02T18:01:49.000000Z"),
            ("1.643824909E+9", 6, "2022-02-02T18:01:49.000000Z"),
            ("-0.5", 6, "1969-12-31T23:59:59.500000Z"),
            ("-1", 3, "1969-12-31T23:59:59.999000Z"),
            ("0", 3, "1970-01-01T00:00:00.000000Z"),
        ] {
            assert_eq!(of(text, digits).as_deref(), Ok(expected), "{text}");
        }
        for (text, digits, reason) in [
            ("1643824909.3452617", 6, "finer"),
            ("1643824909345.2617", 3, "finer"),
            ("1e300", 6, "further"),
            ("9223372036854.775807", 6, "further"),
            ("yesterday", 6, "no number"),
            ("NaN", 3, "no number"),
            ("", 3, "no number"),
        ] {
            let error = of(text, digits).expect_err(text);
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn timestamps_and_epochs() {
        let ms: ArrayRef = Arc::new(Int64Array::from(vec![1_643_824_909_345]));
        let at = from_epoch(&[ms], 3).unwrap();
        let text = rfc3339(&[Arc::clone(&at), digits(3)]).unwrap();
        assert_eq!(text.as_string::<i32>().value(0), "2022-02-02T18:01:49.345Z");
        assert!(rfc3339(&[at, digits(0)]).is_err(), "a digit would be lost");
        let s: ArrayRef = Arc::new(Int64Array::from(vec![-1]));
        let text = rfc3339(&[from_epoch(&[s], 6).unwrap(), digits(0)]).unwrap();
        assert_eq!(text.as_string::<i32>().value(0), "1969-12-31T23:59:59Z");
        let far: ArrayRef = Arc::new(Int64Array::from(vec![i64::MAX]));
        assert!(from_epoch(&[far], 3).is_err());
        let infinite: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![i64::MAX]));
        assert!(rfc3339(&[infinite, digits(9)]).is_err());
        let nanos: ArrayRef = Arc::new(arrow::array::TimestampNanosecondArray::from(vec![1]));
        let text = rfc3339(&[nanos, digits(9)]).unwrap();
        assert_eq!(text.as_string::<i32>().value(0), "1970-01-01T00:00:00.000000001Z");
    }
}
