//! Dates and times out of text and into text, without a digit lost.

/// Microseconds of a day.
pub(crate) const DAY_US: i64 = 86_400_000_000;

/// A date and time as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    /// Days since 1970-01-01, in the proleptic Gregorian calendar.
    pub days: i64,
    /// Microseconds of the day; `None`: a date alone.
    pub us: Option<i64>,
    /// Seconds east of UTC, where a zone was written.
    pub offset_s: Option<i64>,
}

impl Written {
    /// Microseconds since 1970, a zone taken into account; `None`: beyond the count.
    pub(crate) fn instant_us(self) -> Option<i64> {
        let us = self.days.checked_mul(DAY_US)?.checked_add(self.us.unwrap_or(0))?;
        us.checked_sub(self.offset_s.unwrap_or(0) * 1_000_000)
    }
}

/// Why a text is no date or time.
pub(crate) const FINER: &str = "has more digits than microseconds hold";
const NO_DATE: &str = "is no date or time as ISO 8601 writes it";
const IMPOSSIBLE: &str = "is a date that no calendar has";
const NO_TIME: &str = "is no time of day";

/// Reads `2024-02-29`, `2024-02-29T12:30:00.25Z`, `2024-02-29 12:30+01`, also with `BC`.
pub(crate) fn parse(text: &str) -> Result<Written, &'static str> {
    let text = text.trim();
    let (text, is_bc) = text.strip_suffix(" BC").map_or((text, false), |text| (text, true));
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    if !(4..=7).contains(&digits) {
        return Err(NO_DATE);
    }
    let year: i64 = text[..digits].parse().map_err(|_| NO_DATE)?;
    let rest = text[digits..].strip_prefix('-').ok_or(NO_DATE)?;
    let (month, rest) = two_digits(rest).ok_or(NO_DATE)?;
    let rest = rest.strip_prefix('-').ok_or(NO_DATE)?;
    let (day, rest) = two_digits(rest).ok_or(NO_DATE)?;
    // There is no year 0, neither before Christ nor after.
    if year == 0 {
        return Err(IMPOSSIBLE);
    }
    let year = if is_bc { 1 - year } else { year };
    if !(1..=12).contains(&month) || day < 1 || day > days_of_month(year, month) {
        return Err(IMPOSSIBLE);
    }
    let days = days_of(year, month, day);
    let Some(time) = rest.strip_prefix(['T', 't', ' ']) else {
        return if rest.is_empty() { Ok(Written { days, us: None, offset_s: None }) } else { Err(NO_DATE) };
    };
    let (us, zone) = time_of_day(time)?;
    Ok(Written { days, us: Some(us), offset_s: offset(zone.trim_start())? })
}

/// Reads `12:30`, `12:30:00.25`; midnight at the day's end is 24:00.
pub(crate) fn parse_time(text: &str) -> Result<i64, &'static str> {
    let (us, rest) = time_of_day(text.trim())?;
    if rest.is_empty() { Ok(us) } else { Err(NO_TIME) }
}

/// Reads `12:30:00.25+02`: microseconds of the day and seconds east of UTC; without a zone it is UTC.
pub(crate) fn parse_zoned_time(text: &str) -> Result<(i64, i64), &'static str> {
    let (us, zone) = time_of_day(text.trim())?;
    Ok((us, offset(zone.trim_start())?.unwrap_or(0)))
}

fn two_digits(text: &str) -> Option<(i64, &str)> {
    let (digits, rest) = text.split_at_checked(2)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some((digits.parse().ok()?, rest))
}

fn time_of_day(text: &str) -> Result<(i64, &str), &'static str> {
    let (hour, rest) = two_digits(text).ok_or(NO_TIME)?;
    let (minute, mut rest) = rest.strip_prefix(':').and_then(two_digits).ok_or(NO_TIME)?;
    let (mut second, mut us) = (0, 0);
    if let Some(seconds) = rest.strip_prefix(':') {
        (second, rest) = two_digits(seconds).ok_or(NO_TIME)?;
        if let Some(fraction) = rest.strip_prefix(['.', ',']) {
            let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
            if digits == 0 {
                return Err(NO_TIME);
            }
            if fraction[..digits].bytes().skip(6).any(|digit| digit != b'0') {
                return Err(FINER);
            }
            let padded = fraction[..digits].bytes().chain(std::iter::repeat(b'0')).take(6);
            us = padded.fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'));
            rest = &fraction[digits..];
        }
    }
    let all = ((hour * 60 + minute) * 60 + second) * 1_000_000 + us;
    if minute > 59 || second > 59 || all > DAY_US {
        return Err(NO_TIME);
    }
    Ok((all, rest))
}

fn offset(zone: &str) -> Result<Option<i64>, &'static str> {
    const NO_ZONE: &str = "has a zone that is no offset from UTC";
    if zone.is_empty() {
        return Ok(None);
    }
    if matches!(zone, "Z" | "z" | "UTC") {
        return Ok(Some(0));
    }
    let (sign, rest) = match (zone.strip_prefix('+'), zone.strip_prefix('-')) {
        (Some(rest), _) => (1, rest),
        (_, Some(rest)) => (-1, rest),
        _ => return Err(NO_ZONE),
    };
    let (hours, rest) = two_digits(rest).ok_or(NO_ZONE)?;
    let part = |rest: &'_ str| -> Option<(i64, String)> {
        if rest.is_empty() {
            return Some((0, String::new()));
        }
        let (value, rest) = two_digits(rest.strip_prefix(':').unwrap_or(rest))?;
        Some((value, rest.to_owned()))
    };
    let (minutes, rest) = part(rest).ok_or(NO_ZONE)?;
    let (seconds, rest) = part(&rest).ok_or(NO_ZONE)?;
    if !rest.is_empty() || hours > 15 || minutes > 59 || seconds > 59 {
        return Err(NO_ZONE);
    }
    Ok(Some(sign * ((hours * 60 + minutes) * 60 + seconds)))
}

fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01 of a date in the proleptic Gregorian calendar; the year 0 is 1 BC.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year (0 is 1 BC), month and day of a day since 1970-01-01.
fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (era * 400 + year + i64::from(month <= 2), month, of_year - (153 * shifted + 2) / 5 + 1)
}

/// A date as PostgreSQL writes it.
pub(crate) fn date_text(days: i64) -> String {
    let (year, month, day) = date_of(days);
    if year > 0 {
        format!("{year:04}-{month:02}-{day:02}")
    } else {
        format!("{:04}-{month:02}-{day:02} BC", 1 - year)
    }
}

/// A time as PostgreSQL writes it: no zeros behind the last digit of a fraction.
pub(crate) fn time_text(us: i64) -> String {
    let (seconds, fraction) = (us / 1_000_000, us % 1_000_000);
    let text = format!("{:02}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60);
    if fraction == 0 { text } else { format!("{text}.{fraction:06}").trim_end_matches('0').to_owned() }
}

/// A moment as PostgreSQL writes it in UTC.
pub(crate) fn moment_text(us: i64, zoned: bool) -> String {
    match us {
        i64::MAX => return "infinity".to_owned(),
        i64::MIN => return "-infinity".to_owned(),
        _ => {}
    }
    let date = date_text(us.div_euclid(DAY_US));
    let time = time_text(us.rem_euclid(DAY_US));
    let zone = if zoned { "+00" } else { "" };
    match date.strip_suffix(" BC") {
        Some(date) => format!("{date} {time}{zone} BC"),
        None => format!("{date} {time}{zone}"),
    }
}

/// A moment as RFC 3339 writes it, with nine digits of a second; `None`: its year has not four digits.
pub(crate) fn rfc3339_nanos(us: i64, ns: u16) -> Option<String> {
    let (year, month, day) = date_of(us.div_euclid(DAY_US));
    if !(1..=9999).contains(&year) {
        return None;
    }
    let of_day = us.rem_euclid(DAY_US);
    let (seconds, fraction) = (of_day / 1_000_000, of_day % 1_000_000);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    Some(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:06}{ns:03}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn moments_are_read() {
        let us = |text: &str| parse(text).unwrap().instant_us().unwrap();
        assert_eq!(us("1970-01-01T00:00:00Z"), 0);
        assert_eq!(us("1970-01-01 01:00:00.5+01:00"), 500_000);
        assert_eq!(us("1969-12-31T23:59:59.999999"), -1);
        assert_eq!(us("2024-02-29"), 1_709_164_800_000_000);
        assert_eq!(us("1970-01-01 24:00"), DAY_US);
        assert_eq!(us("1970-01-01T00:00:00.123456000-0530"), 123_456 + 19_800_000_000);
        assert_eq!(parse("0044-03-15 BC").unwrap().days, days_of(-43, 3, 15));
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for text in ["2023-02-29", "2024-13-01", "2024-00-10", "2024-04-31", "0000-01-01"] {
            assert_eq!(parse(text), Err(IMPOSSIBLE), "{text}");
        }
        assert_eq!(parse("2024-01-01T00:00:00.1234567"), Err(FINER));
        for text in
            ["", "yesterday", "24-01-01", "2024-1-1", "2024-01-01T", "2024-01-01T25:00", "2024-01-01Tx"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(parse("2024-01-01T00:00:00 Europe/Berlin").is_err());
        assert!(parse("2024-01-01T00:00:60").is_err());
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(us in -210_000_000_000_000_000_i64..9_000_000_000_000_000_000_i64) {
            let text = moment_text(us, true);
            prop_assert_eq!(parse(&text).unwrap().instant_us(), Some(us), "{}", text);
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,40}") {
            let _ = (parse(&text), parse_time(&text));
        }
    }
}
