//! Dates and times in SQLite's forms, without a digit lost.
//!
//! | held as | is |
//! | --- | --- |
//! | text `YYYY-MM-DD`, with or without a time behind a space or a `T`: `HH:MM`, `HH:MM:SS`, `HH:MM:SS.fraction`, with or without `Z` or `±HH:MM` | that moment; without a zone in UTC, as SQLite takes it |
//! | real below 5373484.5 | a Julian day, to the millisecond as SQLite reads it |
//! | real beyond | seconds since 1970 with a fraction |
//! | integer | whole seconds since 1970 |
//!
//! Ambiguous, and therefore refused: an integer from 0 to 5373484, which may as well be a Julian day; one beyond the
//! year 9999, which most likely counts milliseconds; a text that is a number; a time without a date; a date that no
//! calendar has, which SQLite would take for the one after.

/// Microseconds of a day.
pub(crate) const DAY_US: i64 = 86_400_000_000;
/// The Julian days that SQLite knows end before this one: at the end of the year 9999.
const JULIAN_END: f64 = 5_373_484.5;
const JULIAN_END_WHOLE: i64 = 5_373_484;
/// 1970-01-01 as a Julian day, in milliseconds.
const EPOCH_JULIAN_MS: i64 = 210_866_760_000_000;
/// The first and the last second of the years 0 to 9999.
const SECONDS: std::ops::RangeInclusive<i64> = -62_167_219_200..=253_402_300_799;

const NO_DATE: &str = "it is no date or time in a form that SQLite knows";
const NO_DAY: &str = "no calendar has that date";
const NO_TIME: &str = "it has no such time of day";
const FINER: &str = "it has more digits of a second than microseconds hold";

/// Microseconds since 1970 of a text, and whether it has a zone.
pub(crate) fn of_text(text: &str) -> Result<(i64, bool), &'static str> {
    let bytes = text.as_bytes();
    let (Some(year), Some(month), Some(day)) =
        (digits(bytes, 0, 4), digits(bytes, 5, 2), digits(bytes, 8, 2))
    else {
        return Err(match bytes {
            _ if text.trim().parse::<f64>().is_ok() => {
                "it is a number as text, which may be a Julian day or seconds since 1970"
            }
            [_, _, b':', ..] => "it is a time without a date",
            _ => NO_DATE,
        });
    };
    if bytes.get(4) != Some(&b'-') || bytes.get(7) != Some(&b'-') {
        return Err(NO_DATE);
    }
    if !(1..=12).contains(&month) || day < 1 || day > days_of_month(year, month) {
        return Err(NO_DAY);
    }
    let midnight = days_of(year, month, day) * DAY_US;
    match text.get(10..) {
        Some("") => Ok((midnight, false)),
        Some(rest) if rest.starts_with([' ', 'T']) => {
            let (us, zone) = time_of_day(rest[1..].trim_start_matches(' '))?;
            let zone = offset_us(zone)?;
            Ok((midnight + us - zone.unwrap_or(0), zone.is_some()))
        }
        _ => Err(NO_DATE),
    }
}

/// Microseconds since 1970 of an integer.
pub(crate) fn of_integer(value: i64) -> Result<i64, &'static str> {
    match value {
        0..=JULIAN_END_WHOLE => Err("it may be a Julian day or seconds since 1970"),
        value if SECONDS.contains(&value) => Ok(value * 1_000_000),
        _ => Err("as seconds since 1970 it lies outside of the years 0 to 9999; it may count milliseconds"),
    }
}

/// Microseconds since 1970 of a real.
#[expect(clippy::cast_possible_truncation, reason = "the value is within the bounds that were just checked")]
#[expect(clippy::cast_precision_loss, reason = "a float that names the same microseconds again is exact")]
pub(crate) fn of_real(value: f64) -> Result<i64, &'static str> {
    if (0.0..JULIAN_END).contains(&value) {
        let ms = (value * 86_400_000.0 + 0.5) as i64;
        return Ok((ms - EPOCH_JULIAN_MS) * 1_000);
    }
    let bounds = *SECONDS.start() as f64..(*SECONDS.end() as f64 + 1.0);
    if !bounds.contains(&value) {
        return Err("it is no Julian day and no seconds since 1970 of the years 0 to 9999");
    }
    let us = (value * 1e6).round() as i64;
    if us as f64 / 1e6 == value { Ok(us) } else { Err(FINER) }
}

fn digits(bytes: &[u8], at: usize, count: usize) -> Option<i64> {
    let digits = bytes.get(at..at + count)?;
    digits.iter().try_fold(0, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0')))
}

/// `HH:MM[:SS[.fraction]]` in microseconds, and what stands behind it.
pub(crate) fn time_of_day(text: &str) -> Result<(i64, &str), &'static str> {
    let bytes = text.as_bytes();
    let (Some(hour), Some(b':'), Some(minute)) = (digits(bytes, 0, 2), bytes.get(2), digits(bytes, 3, 2))
    else {
        return Err(NO_TIME);
    };
    let (mut second, mut fraction_us, mut end) = (0, 0, 5);
    if bytes.get(end) == Some(&b':') {
        second = digits(bytes, end + 1, 2).ok_or(NO_TIME)?;
        end += 3;
        if bytes.get(end) == Some(&b'.') {
            let fraction = &bytes[end + 1..];
            let count = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
            if count == 0 {
                return Err(NO_TIME);
            }
            if fraction[..count].iter().skip(6).any(|digit| *digit != b'0') {
                return Err(FINER);
            }
            let padded = fraction[..count].iter().copied().chain(std::iter::repeat(b'0')).take(6);
            fraction_us = padded.fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
            end += 1 + count;
        }
    }
    let us = ((hour * 60 + minute) * 60 + second) * 1_000_000 + fraction_us;
    if minute > 59 || second > 59 || us > DAY_US {
        return Err(NO_TIME);
    }
    Ok((us, &text[end..]))
}

fn offset_us(zone: &str) -> Result<Option<i64>, &'static str> {
    const NO_ZONE: &str = "its zone is no offset from UTC";
    let zone = zone.trim_matches(' ');
    let bytes = zone.as_bytes();
    let sign = match bytes {
        [] => return Ok(None),
        b"Z" | b"z" => return Ok(Some(0)),
        [b'+', ..] => 1,
        [b'-', ..] => -1,
        _ => return Err(NO_ZONE),
    };
    match (digits(bytes, 1, 2), bytes.get(3), digits(bytes, 4, 2), bytes.len()) {
        (Some(hours @ 0..=14), Some(b':'), Some(minutes @ 0..=59), 6) => {
            Ok(Some(sign * (hours * 60 + minutes) * 60_000_000))
        }
        _ => Err(NO_ZONE),
    }
}

fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a date in the proleptic Gregorian calendar, which has a year 0.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// A day since 1970-01-01 as text; `None`: its year is none of 0 to 9999.
pub(crate) fn date_text(days: i64) -> Option<String> {
    let shifted = days.checked_add(719_468)?;
    let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let part = (5 * of_year + 2) / 153;
    let month = if part < 10 { part + 3 } else { part - 9 };
    let year = era * 400 + year + i64::from(month <= 2);
    (0..=9999)
        .contains(&year)
        .then(|| format!("{year:04}-{month:02}-{:02}", of_year - (153 * part + 2) / 5 + 1))
}

/// A time of day as text: no zeros behind the last digit of a fraction.
pub(crate) fn time_text(us: i64, ns: u16) -> String {
    let (seconds, fraction) = (us / 1_000_000, us % 1_000_000);
    let text = format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60);
    if fraction == 0 && ns == 0 {
        return text;
    }
    format!("{text}.{fraction:06}{ns:03}").trim_end_matches('0').to_owned()
}

/// A moment as text, in UTC where the instant is known; `None`: its year is none of 0 to 9999.
pub(crate) fn moment_text(us: i64, ns: u16, is_instant: bool) -> Option<String> {
    let date = date_text(us.div_euclid(DAY_US))?;
    let zone = if is_instant { "Z" } else { "" };
    Some(format!("{date} {}{zone}", time_text(us.rem_euclid(DAY_US), ns)))
}

/// A moment as RFC 3339 writes it, with nine digits of a second; `None`: its year is none of 0 to 9999.
pub(crate) fn rfc3339_nanos(us: i64, ns: u16) -> Option<String> {
    let date = date_text(us.div_euclid(DAY_US))?;
    let of_day = us.rem_euclid(DAY_US);
    let (seconds, fraction) = (of_day / 1_000_000, of_day % 1_000_000);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    Some(format!("{date}T{hour:02}:{minute:02}:{second:02}.{fraction:06}{ns:03}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rusqlite::Connection;

    /// Milliseconds since 1970, as SQLite reads a value.
    fn oracle(sql: &str) -> Option<i64> {
        let connection = Connection::open_in_memory().unwrap();
        let sql = format!("SELECT CAST(round((julianday({sql}) - 2440587.5) * 86400000) AS INTEGER)");
        connection.query_row(&sql, [], |row| row.get(0)).unwrap()
    }

    #[test]
    fn forms_of_text_are_read_as_sqlite_reads_them() {
        for text in [
            "2024-02-29",
            "2024-02-29 12:30",
            "2024-02-29T12:30",
            "2024-02-29 12:30:15",
            "2024-02-29T12:30:15.250",
            "2024-02-29 12:30:15.123Z",
            "2024-02-29T12:30:15+05:30",
            "0001-01-01 00:00:00-14:00",
            "9999-12-31 23:59:59.999",
            "1969-12-31 23:59:59.999",
            "0000-03-01",
        ] {
            let (us, _) = of_text(text).unwrap_or_else(|reason| panic!("{text}: {reason}"));
            assert_eq!(Some(us / 1000), oracle(&format!("'{text}'")), "{text}");
        }
    }

    #[test]
    fn numbers_are_read_as_sqlite_reads_them() {
        assert_eq!(of_real(2_460_370.020_833_333), Ok(oracle("2460370.020833333").unwrap() * 1000));
        assert_eq!(of_real(2_440_587.5), Ok(0));
        assert_eq!(of_integer(1_709_210_415), Ok(oracle("1709210415, 'unixepoch'").unwrap() * 1000));
        assert_eq!(of_integer(-1), Ok(-1_000_000));
        assert_eq!(of_real(1_709_210_415.25), Ok(1_709_210_415_250_000));
    }

    #[test]
    fn what_is_ambiguous_or_impossible_is_refused() {
        for text in [
            "",
            "now",
            "12:30",
            "12:30:00",
            "2460370.5",
            "1709210415",
            "2024-2-29",
            "2023-02-29",
            "2024-13-01",
            "2024-00-01",
            "2024-02-29 25:00",
            "2024-02-29 12:60",
            "2024-02-29T12:30:15.1234567",
            "2024-02-29x",
            "2024-02-29 12:30 CET",
            "2024-02-29 12:30+15:00",
            "2024/02/29",
            "29.02.2024",
        ] {
            assert!(of_text(text).is_err(), "{text}");
        }
        for value in [0, 2_460_370, 5_373_484, 1_709_210_415_000, i64::MAX, i64::MIN] {
            assert!(of_integer(value).is_err(), "{value}");
        }
        for value in [f64::INFINITY, -1e18, 1_709_210_415.123_456_7] {
            assert!(of_real(value).is_err(), "{value}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(us in -62_167_219_200_000_000_i64..253_402_300_800_000_000) {
            let text = moment_text(us, 0, true).unwrap();
            prop_assert_eq!(of_text(&text), Ok((us, true)), "{}", text);
            let text = moment_text(us, 0, false).unwrap();
            prop_assert_eq!(of_text(&text), Ok((us, false)), "{}", text);
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,30}|[0-9TZ:. +-]{0,30}|2024-01-01.{0,20}") {
            let _ = of_text(&text);
        }
    }
}
