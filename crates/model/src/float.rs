//! Floats as text.

use std::fmt::Display;

/// `f32` or `f64`.
pub trait Float: zmij::Float + Display + Into<f64> + Copy {
    /// Numbers of so many digits name floats of their own.
    const DIGITS: usize;
    /// No text that names one needs more digits than this.
    const MOST_DIGITS: u32;
    /// A float with more bits behind the point than this, each of which is a digit behind it, has more digits than one that lies
    /// in the middle between two numbers of [`Float::MOST_DIGITS`].
    const MOST_BITS: i32 = most_bits(Self::MOST_DIGITS + 1);
}

impl Float for f32 {
    const DIGITS: usize = 6;
    const MOST_DIGITS: u32 = 9;
}

impl Float for f64 {
    const DIGITS: usize = 15;
    const MOST_DIGITS: u32 = 17;
}

/// With how many bits behind the point a float may still have no more than so many digits. Of one with `n` bits, the last of
/// which is set, the digits are those of an odd multiple of 5ⁿ.
const fn most_bits(digits: u32) -> i32 {
    let (mut bits, mut least) = (0, 5_u64);
    while least < 10_u64.pow(digits) {
        (bits, least) = (bits + 1, least * 5);
    }
    bits
}

/// Gives the shortest text that names a float, without an exponent: as [`ToString`] writes it, mostly much quicker and
/// without memory of its own.
pub fn shortest<F: Float, T>(value: F, take: impl FnOnce(&str) -> T) -> T {
    let wide: f64 = value.into();
    if wide.is_finite() {
        let mut buffer = zmij::Buffer::new();
        let text = buffer.format_finite(value);
        let text = text.strip_suffix(".0").unwrap_or(text);
        // Of two shortest texts that are equally near, ToString takes the larger one, and the quick way the even one.
        let is_only_one = text.len() <= F::DIGITS || bits_behind_the_point(wide) > F::MOST_BITS;
        // What is very small or large has an exponent there.
        if is_only_one && !text.as_bytes().contains(&b'e') {
            return take(text);
        }
    }
    take(&value.to_string())
}

/// Whether the shortest text of a finite float is the number's normal form, as it stands in a canonical one. It may be told of
/// fewer than it is.
#[must_use]
pub fn is_shortest_normal(value: f64) -> bool {
    // What is smaller than this has more zeros behind the point than the normal form, and what is larger more digits.
    (value == 0.0 && value.is_sign_positive()) || (1e-8..1e20).contains(&value.abs())
}

/// How many bits a number needs behind the point; below zero where it ends before it.
fn bits_behind_the_point(value: f64) -> i32 {
    const FRACTION_BITS: i32 = 52;
    const BIAS: i32 = 1023;
    let (fraction, exponent) =
        (value.to_bits() & ((1 << FRACTION_BITS) - 1), value.to_bits() >> FRACTION_BITS & 0x7FF);
    let zeros = i32::try_from(fraction.trailing_zeros()).unwrap_or(0).min(FRACTION_BITS);
    FRACTION_BITS + BIAS - i32::try_from(exponent).unwrap_or(0) - zeros
}

#[cfg(test)]
#[expect(clippy::cast_precision_loss, reason = "the numbers have no more bits than the floats")]
mod tests {
    use super::{Float, is_shortest_normal, shortest};
    use crate::decimal::Decimal;
    use proptest::prelude::*;
    use proptest::strategy::Strategy;

    fn text(value: impl Float) -> String {
        shortest(value, str::to_owned)
    }

    /// Floats with few bits behind the point: their digits end soon.
    fn in_the_middle() -> impl Strategy<Value = f64> {
        (0_u32..54)
            .prop_flat_map(|bits| (0_u64..1 << bits, 0_i32..40))
            .prop_map(|(whole, bits)| whole as f64 * 2_f64.powi(-bits))
    }

    proptest! {
        #[test]
        fn a_shortest_text_that_is_called_normal_is_normal(bits: u64, exponent in -30_i32..30, near in -1e6..1e6) {
            for value in [f64::from_bits(bits), 0.0, -0.0, near, near.trunc(), 10_f64.powi(exponent), 3.0 * 10_f64.powi(exponent)] {
                if value.is_finite() && is_shortest_normal(value) {
                    let normal = Decimal::parse(&text(value)).map(|number| number.to_string());
                    prop_assert_eq!(normal, Some(text(value)));
                }
            }
        }
    }

    #[test]
    fn the_ends_are_written() {
        let values =
            [0.01, -0.5, 1.0, -12_345.678_9, 1e15, 1e16, 1e17, 999_999_999_999_999.0, 0.000_001, 1e-7];
        let ends =
            [0.0, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.1 + 0.2, f64::MIN_POSITIVE, f64::MAX];
        for value in values.into_iter().chain(ends) {
            assert_eq!(text(value), value.to_string());
        }
        for value in [0.1_f32, -2_078_004.3, 8_191.875, 131_072.13, f32::NAN, f32::MAX] {
            assert_eq!(text(value), value.to_string());
        }
    }

    /// What has few digits may lie in the middle between two texts that are equally short.
    #[test]
    fn floats_of_few_digits_are_written_as_they_always_were() {
        for (whole, bits) in (0_u16..3_000).flat_map(|whole| (0..64).map(move |bits| (whole, bits))) {
            let (single, double) =
                (f32::from(whole) * 2_f32.powi(-bits), f64::from(whole) * 2_f64.powi(-bits));
            assert_eq!((text(single), text(double)), (single.to_string(), double.to_string()));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn floats_are_written_as_they_always_were(value in prop_oneof![
            any::<f64>(),
            any::<f32>().prop_map(f64::from),
            (any::<i32>(), 0_i32..9).prop_map(|(whole, places)| f64::from(whole) / 10_f64.powi(places)),
            (any::<u32>(), 0_i32..9).prop_map(|(whole, places)| f64::from(whole) * 10_f64.powi(4 - places)),
            in_the_middle(),
        ], bits: u32) {
            prop_assert_eq!(text(value), value.to_string());
            let single = f32::from_bits(bits);
            prop_assert_eq!(text(single), single.to_string());
        }

        #[test]
        fn single_floats_with_few_bits_behind_the_point_are(whole in 0_u32..1 << 24, bits in 0_i32..30) {
            let value = whole as f32 * 2_f32.powi(-bits);
            prop_assert_eq!(text(value), value.to_string());
        }
    }
}
