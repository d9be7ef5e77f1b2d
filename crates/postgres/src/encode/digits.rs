//! Numbers as text, without allocating.

/// The longest text: the sign, the digits of a whole number of 64 bits, and a point.
const LONGEST: usize = 24;
/// Up to here each whole number is a float of its own, and numbers of so many digits name floats of their own.
const LARGEST: f64 = 999_999_999_999_999.0;
/// The powers of ten by which [`Digits::float`] looks for a whole number, with the places that they stand for.
const SCALES: [(f64, usize); 4] = [(1.0, 0), (100.0, 2), (10_000.0, 4), (1_000_000.0, 6)];

/// A number's text.
pub(super) struct Digits {
    bytes: [u8; LONGEST],
    start: usize,
}

impl Digits {
    /// Empty, to be filled from the end.
    const fn new() -> Self {
        Self { bytes: [0; LONGEST], start: LONGEST }
    }

    fn push(&mut self, byte: u8) {
        self.start -= 1;
        self.bytes[self.start] = byte;
    }

    fn push_digit(&mut self, rest: &mut u64) {
        let digit = (*rest % 10) as u8;
        *rest /= 10;
        self.push(b'0' + digit);
    }

    /// A whole number, as [`ToString`] writes it.
    pub(super) fn whole(value: i64) -> Self {
        let (mut digits, mut rest) = (Self::new(), value.unsigned_abs());
        loop {
            digits.push_digit(&mut rest);
            if rest == 0 {
                break;
            }
        }
        if value < 0 {
            digits.push(b'-');
        }
        digits
    }

    /// A float as [`ToString`] writes it, the shortest text that names it; `None`: it has to be searched for.
    ///
    /// Decimal numbers of up to 15 digits name floats of their own. Where one of them names this float, and division
    /// is correctly rounded, no shorter text and no other of that length does: without zeros at its end it is the
    /// shortest.
    pub(super) fn float(value: f64) -> Option<Self> {
        for (scale, places) in SCALES {
            let scaled = (value * scale).round();
            if scaled.is_nan() || scaled.abs() > LARGEST {
                return None;
            }
            if scaled / scale == value && scaled != 0.0 {
                #[expect(clippy::cast_possible_truncation, reason = "a whole number of 15 digits")]
                let whole = scaled as i64;
                return Some(Self::decimal(whole, places));
            }
        }
        None
    }

    /// A whole number with a point so many places before its end, without zeros behind the point that say nothing.
    fn decimal(value: i64, places: usize) -> Self {
        let (mut digits, mut rest) = (Self::new(), value.unsigned_abs());
        let mut places = places;
        while places > 0 && rest % 10 == 0 {
            rest /= 10;
            places -= 1;
        }
        if places > 0 {
            for _ in 0..places {
                digits.push_digit(&mut rest);
            }
            digits.push(b'.');
        }
        loop {
            digits.push_digit(&mut rest);
            if rest == 0 {
                break;
            }
        }
        if value < 0 {
            digits.push(b'-');
        }
        digits
    }

    pub(super) fn as_str(&self) -> &str {
        // Digits, a point and a sign are ASCII.
        std::str::from_utf8(&self.bytes[self.start..]).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::Digits;
    use proptest::prelude::*;

    #[test]
    fn the_ends_are_written() {
        for value in [0, 1, -1, 10, i64::MAX, i64::MIN] {
            assert_eq!(Digits::whole(value).as_str(), value.to_string());
        }
        for value in [0.01, -0.5, 1.0, -12_345.678_9, 1e14, 999_999_999_999_999.0, 0.000_001, 100.1, 4.35] {
            assert_eq!(Digits::float(value).expect("plain").as_str(), value.to_string());
        }
        for value in [0.0, -0.0, f64::NAN, f64::INFINITY, 1e15, 0.1 + 0.2, f64::MIN_POSITIVE, 1e-7] {
            assert!(Digits::float(value).is_none(), "{value}");
        }
    }

    proptest! {
        #[test]
        fn whole_numbers_are_written_as_they_always_were(value: i64) {
            let digits = Digits::whole(value);
            prop_assert_eq!(digits.as_str(), value.to_string());
        }

        #[test]
        fn floats_are_written_as_they_always_were(value in prop_oneof![
            any::<f64>(),
            any::<f32>().prop_map(f64::from),
            (any::<i32>(), 0_i32..9).prop_map(|(whole, places)| f64::from(whole) / 10_f64.powi(places)),
            (any::<u32>(), 0_i32..9).prop_map(|(whole, places)| f64::from(whole) * 10_f64.powi(4 - places)),
        ]) {
            if let Some(digits) = Digits::float(value) {
                prop_assert_eq!(digits.as_str(), value.to_string());
            }
        }
    }
}
