//! Decimal text into PostgreSQL's binary numeric.

use bytes::{BufMut as _, BytesMut};

/// What PostgreSQL holds before and behind the point.
const MOST_WHOLE_DIGITS: i64 = 131_072;
const MOST_SCALE: i64 = 16_383;
const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xC000;
const INFINITY: u16 = 0xD000;
const MINUS_INFINITY: u16 = 0xF000;

/// `digits × 10^exponent`; the digits have no leading zero.
struct Parts {
    is_negative: bool,
    digits: Vec<u8>,
    exponent: i64,
}

impl Parts {
    fn parse(text: &str) -> Option<Self> {
        let (is_negative, rest) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (mantissa, exponent) = match rest.find(['e', 'E']) {
            Some(at) => (&rest[..at], i64::from(rest[at + 1..].parse::<i32>().ok()?)),
            None => (rest, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let mut digits = Vec::with_capacity(whole.len() + fraction.len());
        for byte in whole.bytes().chain(fraction.bytes()) {
            if !byte.is_ascii_digit() {
                return None;
            }
            if byte != b'0' || !digits.is_empty() {
                digits.push(byte - b'0');
            }
        }
        Some(Self { is_negative, digits, exponent: exponent - i64::try_from(fraction.len()).ok()? })
    }

    /// How many digits stand before the point; negative: so many zeros stand behind it first.
    fn whole_digits(&self) -> i64 {
        i64::try_from(self.digits.len()).unwrap_or(i64::MAX).saturating_add(self.exponent)
    }

    /// How many digits behind the point are needed, zeros at the end left out.
    fn needed_scale(&self) -> i64 {
        let zeros = self.digits.iter().rev().take_while(|digit| **digit == 0).count();
        if zeros == self.digits.len() {
            return i64::MIN;
        }
        -(self.exponent + i64::try_from(zeros).unwrap_or(0))
    }
}

/// Appends a number; `limit` is a type's precision and scale.
pub(crate) fn put(text: &str, limit: Option<(i64, i64)>, out: &mut BytesMut) -> Result<(), String> {
    let special = match text {
        "NaN" => Some(NAN),
        "Infinity" | "inf" => Some(INFINITY),
        "-Infinity" | "-inf" => Some(MINUS_INFINITY),
        _ => None,
    };
    if let Some(sign) = special {
        if limit.is_some() && sign != NAN {
            return Err(format!("is {text}, which a numeric of limited precision does not hold"));
        }
        [0, 0, sign, 0].into_iter().for_each(|word| out.put_u16(word));
        return Ok(());
    }
    let Some(parts) = Parts::parse(text) else { return Err("is no number".to_owned()) };
    let (whole, scale) = (parts.whole_digits(), parts.needed_scale());
    if let Some((precision, most)) = limit {
        if scale > most {
            return Err(format!(
                "has {scale} digits behind the point, numeric({precision},{most}) holds {most}"
            ));
        }
        if !parts.digits.is_empty() && whole > precision - most {
            let holds = precision - most;
            return Err(format!(
                "has {whole} digits before the point, numeric({precision},{most}) holds {holds}"
            ));
        }
    }
    if whole > MOST_WHOLE_DIGITS || scale > MOST_SCALE {
        return Err("is a number beyond what PostgreSQL's numeric holds".to_owned());
    }
    put_parts(&parts, out);
    Ok(())
}

/// `ndigits, weight, sign, dscale`, then digits to the base of 10,000.
fn put_parts(parts: &Parts, out: &mut BytesMut) {
    let shown_scale = u16::try_from((-parts.exponent).clamp(0, MOST_SCALE)).unwrap_or(0);
    if parts.digits.is_empty() {
        [0, 0, 0, shown_scale].into_iter().for_each(|word| out.put_u16(word));
        return;
    }
    let point = parts.whole_digits();
    let pad = usize::try_from((-point).rem_euclid(4)).unwrap_or(0);
    let padded: Vec<u8> = std::iter::repeat_n(0, pad).chain(parts.digits.iter().copied()).collect();
    let group = |digits: &[u8]| {
        (0..4).fold(0_u16, |sum, at| sum * 10 + u16::from(digits.get(at).copied().unwrap_or(0)))
    };
    let mut groups: Vec<u16> = padded.chunks(4).map(group).collect();
    while groups.last() == Some(&0) {
        groups.pop();
    }
    let weight = (point + i64::try_from(pad).unwrap_or(0)) / 4 - 1;
    out.put_u16(u16::try_from(groups.len()).unwrap_or(u16::MAX));
    out.put_i16(i16::try_from(weight).unwrap_or(i16::MAX));
    out.put_u16(if parts.is_negative { NEGATIVE } else { 0 });
    out.put_u16(shown_scale);
    groups.into_iter().for_each(|group| out.put_u16(group));
}

#[cfg(test)]
mod tests {
    use super::put;
    use crate::value::put_numeric;
    use bytes::BytesMut;
    use proptest::prelude::*;

    fn back(text: &str) -> String {
        let mut out = BytesMut::new();
        put(text, None, &mut out).unwrap();
        let mut text = Vec::new();
        put_numeric(&out, &mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn numbers_come_back_as_they_were() {
        for text in
            ["0", "1", "-1", "10000", "9999.9999", "0.00001", "1.50", "-12345678901234567890.123", "0.00"]
        {
            assert_eq!(back(text), text);
        }
        assert_eq!(back("1e10"), "10000000000");
        assert_eq!(back("1.5E-7"), "0.00000015");
        assert_eq!(back("-0"), "0");
        assert_eq!(back("NaN"), "NaN");
        assert_eq!(back("1e131071").len(), 131_072);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let refused = |text: &str, limit| put(text, limit, &mut BytesMut::new()).unwrap_err();
        assert!(refused("1.005", Some((5, 2))).contains("3 digits behind the point"));
        assert!(refused("1000", Some((5, 2))).contains("4 digits before the point"));
        assert!(refused("1e131072", None).contains("beyond"));
        assert!(refused("1e-16384", None).contains("beyond"));
        assert!(refused("Infinity", Some((5, 2))).contains("limited"));
        for text in ["", "-", ".", "1_000", "0x1", "1 ", "e1"] {
            assert_eq!(refused(text, None), "is no number", "{text:?}");
        }
        put("999.990", Some((5, 2)), &mut BytesMut::new()).unwrap();
        put("0.000", Some((3, 0)), &mut BytesMut::new()).unwrap();
    }

    proptest! {
        #[test]
        fn any_decimal_survives(text in "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,30})?") {
            let expected = if text.bytes().all(|byte| matches!(byte, b'-' | b'0' | b'.')) {
                text.trim_start_matches('-').to_owned()
            } else {
                text.clone()
            };
            prop_assert_eq!(back(&text), expected);
        }
    }
}
