//! Exact decimal numbers as text: parsing and normal form, without ever passing through a float.

use std::fmt;

/// A finite decimal number in normal form: `(-1)^negative × 0.digits × 10^exponent`, the digits without
/// leading or trailing zeros. Zero has no digits, exponent 0, and is not negative.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Decimal {
    negative: bool,
    digits: String,
    exponent: i64,
}

impl Decimal {
    /// Parses `[+-]digits[.digits][(e|E)[+-]digits]`; `None` for anything else, NaN and infinities included.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, rest) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (mantissa, exponent) = match rest.find(['e', 'E']) {
            Some(at) => (&rest[..at], rest[at + 1..].parse::<i32>().ok()?),
            None => (rest, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if (whole.is_empty() && fraction.is_empty()) || !all_digits(whole) || !all_digits(fraction) {
            return None;
        }
        let digits = [whole, fraction].concat();
        let significant = digits.trim_start_matches('0');
        let leading_zeros = i64::try_from(digits.len() - significant.len()).ok()?;
        let significant = significant.trim_end_matches('0');
        if significant.is_empty() {
            return Some(Self { negative: false, digits: String::new(), exponent: 0 });
        }
        let exponent = i64::from(exponent) + i64::try_from(whole.len()).ok()? - leading_zeros;
        Some(Self { negative, digits: significant.to_owned(), exponent })
    }

    /// The part of a number's text that is its normal form, told without allocating. It may be `None` for some of
    /// which a part is, and is for what is no number.
    #[must_use]
    pub fn plain(text: &str) -> Option<&str> {
        let bytes = text.as_bytes();
        let first = usize::from(bytes.first() == Some(&b'-'));
        let digits = |from: usize| {
            let rest = bytes.get(from..).unwrap_or_default();
            from + rest.iter().take_while(|byte| byte.is_ascii_digit()).count()
        };
        // Where the digits before the point end, and those behind it that are not zeros at the end.
        let whole = digits(first);
        let end = match bytes.get(whole) {
            None => whole,
            Some(b'.') if digits(whole + 1) == bytes.len() => {
                let zeros = bytes.iter().rev().take_while(|byte| **byte == b'0').count();
                let end = bytes.len() - zeros;
                if end == whole + 1 { whole } else { end }
            }
            Some(_) => return None,
        };
        let is_plain = match bytes[first..whole] {
            [b'1'..=b'9', ..] => whole - first <= 40,
            // Zero has no sign, and smaller numbers are written with an exponent.
            [b'0'] if end == whole => first == 0,
            [b'0'] => bytes[whole + 1..end].iter().take_while(|byte| **byte == b'0').count() <= 8,
            _ => false,
        };
        if is_plain { text.get(..end) } else { None }
    }

    /// A text that stands before, beside or behind the text of another number, byte by byte, as the numbers do.
    #[must_use]
    pub fn sort_key(&self) -> String {
        if self.digits.is_empty() {
            return ZERO_KEY.to_owned();
        }
        // An exponent is that of an i32, moved by no more than the length of a text.
        let magnitude = self.exponent.saturating_add(MAGNITUDES / 2).clamp(0, MAGNITUDES - 1);
        if !self.negative {
            return format!("3{magnitude:0width$}{}", self.digits, width = MAGNITUDE_DIGITS);
        }
        // Of two negative numbers, the one that begins as the other and goes on is the less: `~` is behind all digits.
        let digits: String = self.digits.bytes().map(|digit| char::from(b'9' - digit + b'0')).collect();
        format!("1{:0width$}{digits}~", MAGNITUDES - 1 - magnitude, width = MAGNITUDE_DIGITS)
    }

    /// The number times ten to the power of `scale`, where that is a whole number of at most `precision` digits (up to
    /// 38, the most that an `i128` holds whatever they are).
    #[must_use]
    pub fn scaled(&self, precision: u8, scale: i8) -> Option<i128> {
        if self.digits.is_empty() {
            return Some(0);
        }
        let count = i64::try_from(self.digits.len()).ok()?;
        // No digit behind the point is a zero at the end: where one is left there, the number does not fit.
        let zeros = self.exponent.checked_sub(count)?.checked_add(i64::from(scale))?;
        if zeros < 0 || count.checked_add(zeros)? > i64::from(precision.min(MOST_DIGITS)) {
            return None;
        }
        let whole = self.digits.parse::<i128>().ok()? * 10_i128.pow(u32::try_from(zeros).ok()?);
        Some(if self.negative { -whole } else { whole })
    }

    /// The same of a number's text, which is looked at once where it is short and plain; `None` also for what is no number.
    #[must_use]
    pub fn scaled_text(text: &str, precision: u8, scale: i8) -> Option<i128> {
        let short = short(text, scale)
            .filter(|whole| whole.unsigned_abs() < 10_u128.pow(u32::from(precision.min(MOST_DIGITS))));
        short.or_else(|| Self::parse(text)?.scaled(precision, scale))
    }

    /// How many significant digits it has; 0 for zero.
    #[must_use]
    pub fn precision(&self) -> usize {
        self.digits.len()
    }

    /// The power of ten of the first significant digit: 0 for 1 to 9.9, -1 for 0.1. `None` for zero.
    #[must_use]
    pub fn magnitude(&self) -> Option<i64> {
        (!self.digits.is_empty()).then(|| self.exponent - 1)
    }
}

/// So many digits an `i128` holds, whatever they are.
const MOST_DIGITS: u8 = 38;
/// So many an `i64` does.
const SHORT_DIGITS: usize = 18;

/// A number of few digits, no more of them behind the point than `scale`, times ten to the power of `scale`; `None`: it is
/// another one, or none at all.
fn short(text: &str, scale: i8) -> Option<i128> {
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let missing = usize::try_from(scale).ok()?.checked_sub(fraction.len())?;
    if whole.is_empty() || whole.len() + fraction.len() > SHORT_DIGITS {
        return None;
    }
    let mut value = 0_i64;
    for byte in whole.bytes().chain(fraction.bytes()) {
        if !byte.is_ascii_digit() {
            return None;
        }
        value = value * 10 + i64::from(byte - b'0');
    }
    let value = i128::from(if is_negative { -value } else { value });
    value.checked_mul(10_i128.checked_pow(u32::try_from(missing).ok()?)?)
}

/// The sort key of zero; those of negative numbers begin with `1`, those of others with `3`.
const ZERO_KEY: &str = "2";
/// How many magnitudes there are, and their digits.
const MAGNITUDES: i64 = 1_000_000_000_000;
const MAGNITUDE_DIGITS: usize = 12;

impl fmt::Display for Decimal {
    /// Plain notation where that takes at most 40 characters, else scientific.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.digits.is_empty() {
            return f.write_str("0");
        }
        if self.negative {
            f.write_str("-")?;
        }
        let count = i64::try_from(self.digits.len()).unwrap_or(i64::MAX);
        let zeros = |n: i64| "0".repeat(usize::try_from(n).unwrap_or(0));
        match self.exponent {
            e if (1..=40).contains(&e) && e >= count => write!(f, "{}{}", self.digits, zeros(e - count)),
            e if e >= 1 && e < count => {
                let (whole, fraction) = self.digits.split_at(usize::try_from(e).unwrap_or(0));
                write!(f, "{whole}.{fraction}")
            }
            e if (-8..=0).contains(&e) => write!(f, "0.{}{}", zeros(-e), self.digits),
            e => {
                let (first, rest) = self.digits.split_at(1);
                let point = if rest.is_empty() { "" } else { "." };
                write!(f, "{first}{point}{rest}E{}", e - 1)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_so_many_digits_is_whole_when_scaled() {
        let most = "9".repeat(38);
        let most_number = most.parse::<i128>().unwrap();
        for (text, precision, scale, expected) in [
            ("12.34", 12, 2, Some(1234)),
            ("-12.34", 12, 2, Some(-1234)),
            ("12", 4, 2, Some(1200)),
            ("12.5", 4, 2, Some(1250)),
            ("0.00", 4, 2, Some(0)),
            ("-0.00", 4, 2, Some(0)),
            ("0", 38, 38, Some(0)),
            ("+7", 4, 0, Some(7)),
            ("007.10", 4, 2, Some(710)),
            ("1e2", 5, 2, Some(10_000)),
            ("125E-1", 5, 2, Some(1250)),
            // Zeros at the end are no digits.
            ("12.34000", 4, 2, Some(1234)),
            ("99.99", 4, 2, Some(9999)),
            ("-99.99", 4, 2, Some(-9999)),
            ("100.00", 4, 2, None),
            ("100", 4, 2, None),
            ("12.345", 12, 2, None),
            ("1e-3", 12, 2, None),
            ("123456789012345678.5", 20, 1, Some(1_234_567_890_123_456_785)),
            (&most, 38, 0, Some(most_number)),
            (&format!("-{most}"), 38, 0, Some(-most_number)),
            (&format!("{most}0"), 38, 0, None),
            ("1", 38, 38, None),
            ("0.1", 38, 38, Some(10_i128.pow(37))),
            ("NaN", 12, 2, None),
            ("", 12, 2, None),
            ("-", 12, 2, None),
            (".", 12, 2, None),
            ("1.2.3", 12, 2, None),
            ("1 ", 12, 2, None),
            ("1e99999", 38, 2, None),
        ] {
            let parsed = Decimal::parse(text).and_then(|number| number.scaled(precision, scale));
            assert_eq!(Decimal::scaled_text(text, precision, scale), expected, "{text}");
            assert_eq!(parsed, expected, "{text}");
        }
    }

    #[test]
    fn the_plain_part_of_a_text_is_its_normal_form() {
        let plain = [
            ("1.50", "1.5"),
            ("100.00", "100"),
            ("7", "7"),
            ("0", "0"),
            ("0.00", "0"),
            ("-10", "-10"),
            ("123456789012345678901234567890", "123456789012345678901234567890"),
            ("5.", "5"),
            ("0.5", "0.5"),
            ("-0.0500", "-0.05"),
            ("0.000000001", "0.000000001"),
            ("-12345678901234567890123456789012345678.90", "-12345678901234567890123456789012345678.9"),
        ];
        for (text, part) in plain {
            assert_eq!((Decimal::plain(text), normal(text).as_str()), (Some(part), part), "{text}");
        }
        let not = [
            "",
            ".",
            "-",
            "-0",
            "-0.00",
            "01",
            "1 ",
            "1.-1",
            "12345678901234567890123456789012345678901",
            "0.0000000001",
            ".5",
            "00.5",
            "01.0",
            "1.2.0",
            "1..0",
            "1.0.0",
            "1.x0",
            "1e10",
            "1.0e10",
            "+1.0",
            "NaN",
            "Infinity",
            " 1.0",
            "0.5 ",
            "0.-5",
        ];
        assert!(not.iter().all(|text| Decimal::plain(text).is_none()), "{not:?}");
        for number in -3000_i32..3000 {
            let hundredths = format!(
                "{}{}.{:02}",
                if number < 0 { "-" } else { "" },
                number.abs() / 100,
                number.abs() % 100
            );
            for text in
                [format!("{number}"), format!("{hundredths}000"), format!("{hundredths}e-2"), hundredths]
            {
                assert!(Decimal::plain(&text).is_none_or(|part| part == normal(&text)), "{text}");
            }
        }
    }

    fn normal(text: &str) -> String {
        Decimal::parse(text).unwrap().to_string()
    }

    #[test]
    fn equal_values_have_one_form() {
        for text in ["1.50", "+1.5", "01.5", "15e-1", "0.15E1", "150e-2"] {
            assert_eq!(normal(text), "1.5");
        }
        for text in ["0", "-0", "0.000", "0e10", ".0", "-0.0E-7"] {
            assert_eq!(normal(text), "0");
        }
    }

    #[test]
    fn every_digit_is_kept() {
        assert_eq!(
            normal("12345678901234567890123456789012345678"),
            "12345678901234567890123456789012345678"
        );
        assert_eq!(normal("-0.00001"), "-0.00001");
        assert_eq!(normal("1e100"), "1E100");
        assert_eq!(normal("1.25e-100"), "1.25E-100");
        assert_eq!(normal("120"), "120");
    }

    #[test]
    fn what_is_no_number_is_none() {
        for text in ["", "-", ".", "1.2.3", "NaN", "Infinity", "1e", "e5", "0x10", "1 ", "١"] {
            assert_eq!(Decimal::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn sort_keys_are_in_the_order_of_the_numbers() {
        let ordered = [
            "-1e2147483647",
            "-12345678901234567890123456789012345678",
            "-100",
            "-99.9",
            "-1.55",
            "-1.5",
            "-1",
            "-0.5",
            "-0.05",
            "-1e-2147483648",
            "0",
            "1e-130",
            "0.05",
            "0.1",
            "0.10000000000000000000000000000001",
            "1",
            "1.5",
            "1.55",
            "2",
            "9",
            "10",
            "10.0001",
            "99.9",
            "100",
            "9007199254740993",
            "12345678901234567890123456789012345678",
            "1e125",
        ];
        let keys: Vec<_> = ordered.iter().map(|text| Decimal::parse(text).unwrap().sort_key()).collect();
        assert!(keys.is_sorted_by(|left, right| left < right), "{keys:#?}");
        for (left, right) in [("1.50", "1.5"), ("-0", "0.000"), ("1e2", "100"), ("-10", "-1e1")] {
            let key = |text| Decimal::parse(text).unwrap().sort_key();
            assert_eq!(key(left), key(right));
        }
    }

    #[test]
    fn precision_and_magnitude() {
        let number = Decimal::parse("-0.00120").unwrap();
        assert_eq!((number.precision(), number.magnitude()), (2, Some(-3)));
        assert_eq!(Decimal::parse("999").unwrap().magnitude(), Some(2));
        assert_eq!(Decimal::parse("0").unwrap().magnitude(), None);
    }
}
