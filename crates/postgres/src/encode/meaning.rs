//! What a text means to a type that PostgreSQL itself reads, where that is simple and certain: two texts that it
//! keeps as one value then have one canonical form. Where it is not, the text itself is the form, and reading back
//! asks the server whether two texts are one value.

use super::elements::elements_of;
use super::moment;
use super::wire::Wire;
use bytes::BytesMut;
use std::net::IpAddr;
use whimbrel_model::canonical::Canonical;
use whimbrel_model::decimal::Decimal;

/// What the texts of a type mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Themselves, as far as is known here.
    Text,
    /// A number, with as many digits as the database's locale has.
    Money,
    /// An address with the length of its network.
    Address,
    /// The digits of a hardware address; whether it has eight bytes.
    Hardware { is_wide: bool },
    /// Bits, as many as the type holds.
    Bits { limit: Option<usize>, is_varying: bool },
    /// Months, days and microseconds.
    Interval,
    /// A time of day and its distance from UTC.
    ZonedTime,
    /// A place in the write-ahead log.
    LogPlace,
    /// A range over a type of values.
    Range(Bounds),
    /// Floats of half precision.
    Halves,
    /// An array of one dimension.
    List(Box<Meaning>),
}

impl Meaning {
    /// Whether it is no more than the text.
    pub(crate) fn is_text(&self) -> bool {
        match self {
            Self::Text => true,
            Self::List(element) => element.is_text(),
            _ => false,
        }
    }
}

/// What a range is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Bounds {
    /// Whole numbers: PostgreSQL keeps `[1,5]` as `[1,6)`.
    Whole,
    /// Days, likewise.
    Days,
    /// Values between any two of which there may be others.
    Dense(Box<Wire>),
}

impl Meaning {
    /// The meaning of a type's texts by its oid, which never changes, or the function that sends it; `modifier` is
    /// the column's type modifier.
    pub(crate) fn of(oid: u32, send: &str, modifier: i32) -> Self {
        let limit = usize::try_from(modifier).ok().filter(|limit| *limit > 0);
        let dense = |wire| Self::Range(Bounds::Dense(Box::new(wire)));
        match oid {
            790 => Self::Money,
            869 | 650 => Self::Address,
            829 => Self::Hardware { is_wide: false },
            774 => Self::Hardware { is_wide: true },
            1560 => Self::Bits { limit, is_varying: false },
            1562 => Self::Bits { limit, is_varying: true },
            1186 => Self::Interval,
            1266 => Self::ZonedTime,
            3220 => Self::LogPlace,
            3904 | 3926 => Self::Range(Bounds::Whole),
            3912 => Self::Range(Bounds::Days),
            3906 => dense(Wire::Numeric(None)),
            3908 => dense(Wire::Timestamp(6)),
            3910 => dense(Wire::TimestampTz(6)),
            _ if send == "halfvec_send" => Self::Halves,
            _ => Self::Text,
        }
    }

    /// Appends what the text means. `Err`: PostgreSQL would cut or fill it to the type's length without a word.
    pub(crate) fn put(&self, text: &str, canonical: &mut Canonical) -> Result<(), String> {
        if let Self::Bits { limit: Some(limit), is_varying } = self
            && let Some(bits) = bits(text)
        {
            if *is_varying && bits.len() > *limit {
                return Err(format!("has {} bits: too long for type bit varying({limit})", bits.len()));
            }
            if !is_varying && bits.len() != *limit {
                return Err(format!("has {} bits, which does not match type bit({limit})", bits.len()));
            }
        }
        if self.put_known(text, canonical).is_none() {
            canonical.text(text);
        }
        Ok(())
    }

    /// Appends what is certain to be meant; `None`, and nothing appended: nothing is.
    fn put_known(&self, text: &str, canonical: &mut Canonical) -> Option<()> {
        match self {
            Self::Text => return None,
            Self::Money => {
                Decimal::parse(text)?;
                canonical.number(text);
            }
            Self::Address => canonical.binary(&address(text)?),
            Self::Hardware { is_wide } => canonical.text(&hardware(text, *is_wide)?),
            Self::Bits { .. } => canonical.text(&bits(text)?),
            Self::Interval => {
                let (months, days, us) = interval(text)?;
                canonical.list(3);
                [months, days, us].into_iter().for_each(|part| canonical.number(&part.to_string()));
            }
            Self::ZonedTime => {
                let (us, offset_s) = moment::parse_zoned_time(text).ok()?;
                canonical.list(2);
                canonical.time(us);
                canonical.number(&offset_s.to_string());
            }
            Self::LogPlace => {
                let (high, low) = text.split_once('/')?;
                let word = |digits: &str| {
                    (1..=8).contains(&digits.len()).then(|| u32::from_str_radix(digits, 16).ok()).flatten()
                };
                canonical.number(&(u64::from(word(high)?) << 32 | u64::from(word(low)?)).to_string());
            }
            Self::Range(bounds) => put_range(text, bounds, canonical)?,
            Self::Halves => {
                let inner = text.trim().strip_prefix('[')?.strip_suffix(']')?;
                let floats = inner.split(',').map(|float| float.trim().parse::<f32>().ok());
                canonical.vector(&floats.collect::<Option<Vec<_>>>()?);
            }
            Self::List(element) => {
                let elements = elements_of(text).ok()?;
                canonical.list(elements.len());
                for text in &elements {
                    match text {
                        None => canonical.null(),
                        Some(text) if element.put_known(text, canonical).is_none() => canonical.text(text),
                        Some(_) => {}
                    }
                }
            }
        }
        Some(())
    }
}

/// The length of the network and the bytes of the address.
fn address(text: &str) -> Option<Vec<u8>> {
    let text = text.trim();
    let (address, network) = text.split_once('/').map_or((text, None), |(one, other)| (one, Some(other)));
    let address: IpAddr = address.parse().ok()?;
    let bytes = match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let whole = u8::try_from(bytes.len() * 8).ok()?;
    let network = match network {
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits.parse().ok()?,
        Some(_) => return None,
        None => whole,
    };
    (network <= whole).then(|| std::iter::once(network).chain(bytes).collect())
}

fn hardware(text: &str, is_wide: bool) -> Option<String> {
    let text = text.trim();
    let digits: String = text.chars().filter(|char| !matches!(char, ':' | '-' | '.')).collect();
    let digits = digits.to_ascii_lowercase();
    if !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    match (digits.len(), is_wide) {
        (12, false) | (16, true) => Some(digits),
        // Six bytes are filled up in their middle.
        (12, true) => Some(format!("{}fffe{}", &digits[..6], &digits[6..])),
        _ => None,
    }
}

/// The bits of `0101`, `b0101` or `x5`.
pub(super) fn bits(text: &str) -> Option<String> {
    if let Some(hex) = text.strip_prefix(['x', 'X']) {
        let digit = |char: char| char.to_digit(16).map(|digit| format!("{digit:04b}"));
        return hex.chars().map(digit).collect();
    }
    let bits = text.strip_prefix(['b', 'B']).unwrap_or(text);
    bits.bytes().all(|byte| matches!(byte, b'0' | b'1')).then(|| bits.to_owned())
}

/// Months, days and microseconds of `1 year -2 mons 3 days -04:05:06.789` or `P1Y2M3DT4H5M6.7S`.
fn interval(text: &str) -> Option<(i64, i64, i64)> {
    let text = text.trim();
    if let Some(iso) = text.strip_prefix('P') {
        return iso_interval(iso);
    }
    let (mut months, mut days, mut us) = (0_i64, 0_i64, 0_i64);
    let mut words = text.split_ascii_whitespace().peekable();
    words.peek()?;
    while let Some(word) = words.next() {
        if word.contains(':') {
            us = us.checked_add(clock(word)?)?;
            continue;
        }
        let unit = words.next()?;
        let number = word.strip_prefix('+').unwrap_or(word);
        let is_seconds = matches!(unit, "sec" | "secs" | "second" | "seconds");
        if is_seconds {
            us = us.checked_add(seconds(number)?)?;
            continue;
        }
        let number: i64 = number.parse().ok()?;
        match unit {
            "year" | "years" => months = months.checked_add(number.checked_mul(12)?)?,
            "mon" | "mons" | "month" | "months" => months = months.checked_add(number)?,
            "week" | "weeks" => days = days.checked_add(number.checked_mul(7)?)?,
            "day" | "days" => days = days.checked_add(number)?,
            "hour" | "hours" => us = us.checked_add(number.checked_mul(3_600_000_000)?)?,
            "min" | "mins" | "minute" | "minutes" => us = us.checked_add(number.checked_mul(60_000_000)?)?,
            _ => return None,
        }
    }
    Some((months, days, us))
}

fn iso_interval(text: &str) -> Option<(i64, i64, i64)> {
    let (mut months, mut days, mut us) = (0_i64, 0_i64, 0_i64);
    let (date, time) = text.split_once('T').unwrap_or((text, ""));
    if text.is_empty() || text.ends_with('T') {
        return None;
    }
    for (text, is_time) in [(date, false), (time, true)] {
        let mut rest = text;
        while !rest.is_empty() {
            let at = rest.find(|char: char| char.is_ascii_alphabetic())?;
            let (number, unit) = (&rest[..at], &rest[at..=at]);
            rest = &rest[at + 1..];
            if (unit, is_time) == ("S", true) {
                us = us.checked_add(seconds(number)?)?;
                continue;
            }
            let number: i64 = number.parse().ok()?;
            match (unit, is_time) {
                ("Y", false) => months = months.checked_add(number.checked_mul(12)?)?,
                ("M", false) => months = months.checked_add(number)?,
                ("W", false) => days = days.checked_add(number.checked_mul(7)?)?,
                ("D", false) => days = days.checked_add(number)?,
                ("H", true) => us = us.checked_add(number.checked_mul(3_600_000_000)?)?,
                ("M", true) => us = us.checked_add(number.checked_mul(60_000_000)?)?,
                _ => return None,
            }
        }
    }
    Some((months, days, us))
}

/// `-04:05:06.789` in microseconds; hours may have any number of digits.
fn clock(text: &str) -> Option<i64> {
    let (is_negative, text) = match text.strip_prefix('-') {
        Some(text) => (true, text),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut parts = text.split(':');
    let (hours, minutes, rest) = (parts.next()?, parts.next()?, parts.next().unwrap_or("0"));
    let whole = |digits: &str| {
        let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| digits.parse::<i64>().ok()).flatten()
    };
    let (hours, minutes) = (whole(hours)?, whole(minutes).filter(|minutes| *minutes < 60)?);
    let us = seconds(rest).filter(|us| (0..60_000_000).contains(us) && !rest.starts_with(['-', '+']))?;
    if parts.next().is_some() {
        return None;
    }
    let all = hours.checked_mul(3_600_000_000)?.checked_add(minutes * 60_000_000 + us)?;
    Some(if is_negative { -all } else { all })
}

/// `-6.789` in microseconds; `None` also where it has more digits than those.
fn seconds(text: &str) -> Option<i64> {
    let (is_negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) || fraction.len() > 6 {
        return None;
    }
    let whole: i64 = whole.parse().ok()?;
    let fraction: i64 = format!("{fraction:0<6}").parse().ok()?;
    let us = whole.checked_mul(1_000_000)?.checked_add(fraction)?;
    Some(if is_negative { -us } else { us })
}

/// A range as it is written: its bounds, `None` without one, and whether they belong to it.
struct Written {
    lower: Option<String>,
    upper: Option<String>,
    has_lower: bool,
    has_upper: bool,
}

fn put_range(text: &str, bounds: &Bounds, canonical: &mut Canonical) -> Option<()> {
    let text = text.trim();
    if text.eq_ignore_ascii_case("empty") {
        canonical.null();
        return Some(());
    }
    let range = written_range(text)?;
    let (lower, upper, edges) = match bounds {
        Bounds::Dense(wire) => {
            let bound = |text: &Option<String>| {
                text.as_deref().map_or(Some(None), |text| dense(text, wire).map(Some))
            };
            let has_lower = range.has_lower && range.lower.is_some();
            let has_upper = range.has_upper && range.upper.is_some();
            (bound(&range.lower)?, bound(&range.upper)?, (has_lower, has_upper))
        }
        Bounds::Whole | Bounds::Days => {
            let is_days = *bounds == Bounds::Days;
            let lower = discrete(range.lower.as_deref(), is_days, !range.has_lower)?;
            let upper = discrete(range.upper.as_deref(), is_days, range.has_upper)?;
            (lower, upper, (true, false))
        }
    };
    if lower.is_some() && lower == upper && edges != (true, true) {
        canonical.null();
        return Some(());
    }
    canonical.list(4);
    for bound in [lower, upper] {
        match bound {
            None => canonical.null(),
            Some(bound) => canonical.binary(&bound),
        }
    }
    canonical.bool(edges.0);
    canonical.bool(edges.1);
    Some(())
}

fn dense(text: &str, wire: &Wire) -> Option<Vec<u8>> {
    let mut bound = Canonical::default();
    wire.put_cell(whimbrel_model::cell::Cell::Text(text), &mut BytesMut::new(), &mut bound).ok()?;
    Some(bound.bytes().to_vec())
}

/// A bound as the first value inside, or the first behind; `steps`: it is written as the one before.
#[expect(clippy::option_option, reason = "no bound is something else than a bound that is not understood")]
fn discrete(text: Option<&str>, is_days: bool, steps: bool) -> Option<Option<Vec<u8>>> {
    let Some(text) = text else { return Some(None) };
    let value = if is_days {
        let written = moment::parse(text).ok()?;
        if written.us.is_some() {
            return None;
        }
        written.days
    } else {
        text.parse().ok()?
    };
    Some(Some(value.checked_add(i64::from(steps))?.to_be_bytes().to_vec()))
}

fn written_range(text: &str) -> Option<Written> {
    let has_lower = match text.chars().next()? {
        '[' => true,
        '(' => false,
        _ => return None,
    };
    let (lower, rest) = bound(&text[1..])?;
    let (upper, rest) = bound(rest.strip_prefix(',')?)?;
    let has_upper = match rest {
        "]" => true,
        ")" => false,
        _ => return None,
    };
    Some(Written { lower, upper, has_lower, has_upper })
}

/// A bound, quoted or not, and what follows it.
fn bound(text: &str) -> Option<(Option<String>, &str)> {
    let mut bound = String::new();
    let mut is_quoted = false;
    let mut chars = text.char_indices().peekable();
    let mut inside = false;
    while let Some((at, char)) = chars.next() {
        match char {
            '"' if inside && chars.next_if(|(_, next)| *next == '"').is_some() => bound.push('"'),
            '"' => {
                inside = !inside;
                is_quoted = true;
            }
            '\\' => bound.push(chars.next()?.1),
            ',' | ')' | ']' if !inside => {
                let bound = (is_quoted || !bound.is_empty()).then_some(bound);
                return Some((bound, &text[at..]));
            }
            char => bound.push(char),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(meaning: &Meaning, text: &str) -> Vec<u8> {
        let mut canonical = Canonical::default();
        meaning.put(text, &mut canonical).unwrap();
        canonical.bytes().to_vec()
    }

    fn of(oid: u32) -> Meaning {
        Meaning::of(oid, "", -1)
    }

    #[test]
    fn texts_of_one_value_have_one_form() {
        for (oid, one, other) in [
            (790, "12.30", "12.3"),
            (869, "10.0.0.1", "10.0.0.1/32"),
            (869, "::FFFF:1.2.3.4", "::ffff:102:304/128"),
            (829, "08-00-2B-01-02-03", "08:00:2b:01:02:03"),
            (774, "08002b010203", "08:00:2b:ff:fe:01:02:03"),
            (1562, "x1F", "00011111"),
            (1186, "1 year 2 mons", "14 months"),
            (1186, "P1Y2M3DT-4H5M6.5S", "1 year 2 mons 3 days -03:54:53.5"),
            (1186, "1 week -00:00:01", "7 days -1 seconds"),
            (1266, "12:00:00.50+02", "12:00:00.5+02:00"),
            (3220, "00/ff", "0/FF"),
            (3904, "[1,5]", "[1,6)"),
            (3904, "(0,5]", "[1,6)"),
            (3904, "[3,3)", "empty"),
            (3912, "(2023-12-31,2024-02-28]", "[2024-01-01,2024-02-29)"),
            (3906, "[1.10,2]", "[1.1,2.00]"),
            (3908, "[\"2020-01-01 00:00:00\",)", "[2020-01-01,]"),
        ] {
            assert_eq!(form(&of(oid), one), form(&of(oid), other), "{one} and {other}");
        }
        let list = Meaning::List(Box::new(of(869)));
        assert_eq!(form(&list, "{10.0.0.1,NULL}"), form(&list, "{\"10.0.0.1/32\",NULL}"));
    }

    #[test]
    fn texts_of_two_values_have_two_forms() {
        for (oid, one, other) in [
            (790, "12.30", "12.31"),
            (869, "10.0.0.1/8", "10.0.0.1"),
            (1186, "30 days", "1 mon"),
            (1186, "1 day", "24:00:00"),
            (1266, "12:00:00+00", "14:00:00+02"),
            (1562, "", "0"),
            (3904, "[1,5]", "[1,5)"),
            (3904, "(,5)", "[5,)"),
            (3906, "[1.1,2]", "(1.1,2]"),
            (3906, "[1.1,2]", "[1.1,\"\")"),
            (0, "a", "A"),
        ] {
            assert_ne!(form(&of(oid), one), form(&of(oid), other), "{one} and {other}");
        }
    }

    #[test]
    fn bits_are_not_cut_to_length() {
        let mut canonical = Canonical::default();
        assert!(Meaning::of(1560, "", 5).put("101", &mut canonical).is_err());
        assert!(Meaning::of(1562, "", 2).put("101", &mut canonical).is_err());
        assert!(Meaning::of(1562, "", 3).put("101", &mut canonical).is_ok());
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[\\[\\](),\"\\\\{}0-9a-zPTÜ:+./ -]{0,30}") {
            for oid in [790, 869, 829, 774, 1560, 1562, 1186, 1266, 3220, 3904, 3912, 3906, 3908, 3910] {
                form(&Meaning::List(Box::new(of(oid))), &text);
                form(&of(oid), &text);
            }
        }
    }
}
