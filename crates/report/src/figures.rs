//! Figures for people.

/// A count with thousands apart: `24,310`.
#[must_use]
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// Units, rounded up to a whole one: `24,310`.
#[must_use]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive figure for people")]
pub fn units(value: f64) -> String {
    count(value.max(0.0).ceil() as u64)
}

/// Bytes in the unit that fits: `3.4 MiB`.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a rounded figure for people")]
pub fn bytes(value: u64) -> String {
    let mut rest = value as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if rest < 1024.0 {
            return if unit == "B" { format!("{value} B") } else { format!("{rest:.1} {unit}") };
        }
        rest /= 1024.0;
    }
    format!("{rest:.1} TiB")
}

/// A duration in the unit that fits: `0.8 s`, `2 min 5 s`, `3 h 2 min`.
#[must_use]
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive figure for people")]
pub fn seconds(value: f64) -> String {
    let whole = value.round() as u64;
    match whole {
        0..60 => format!("{value:.1} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

/// Dollars with as many digits as a small sum needs: `$0.0156`, `$12.30`.
#[must_use]
pub fn usd(value: f64) -> String {
    if value == 0.0 || value >= 1.0 { format!("${value:.2}") } else { format!("${value:.4}") }
}

/// A count as a figure to divide and to draw; beyond 2^53 it is rounded.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a figure for people and for drawing")]
pub fn float(value: u64) -> f64 {
    value as f64
}

/// A share: `99.8 %`. All is only what is all, none what is none.
#[must_use]
pub fn share(value: f64) -> String {
    let rounded = format!("{:.1}", value * 100.0);
    match rounded.as_str() {
        "100.0" if value < 1.0 => "> 99.9 %".to_owned(),
        "0.0" if value > 0.0 => "< 0.1 %".to_owned(),
        "100.0" => "100 %".to_owned(),
        "0.0" => "0 %".to_owned(),
        rounded => format!("{rounded} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_as_people_write_them() {
        assert_eq!([count(0), count(999), count(1000), count(1_234_567)], ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([bytes(12), bytes(2048), bytes(5_000_000_000)], ["12 B", "2.0 KiB", "4.7 GiB"]);
        assert_eq!([seconds(0.25), seconds(125.0), seconds(7300.0)], ["0.2 s", "2 min 5 s", "2 h 1 min"]);
        assert_eq!([usd(0.0), usd(0.0156), usd(12.3)], ["$0.00", "$0.0156", "$12.30"]);
        assert_eq!(
            [share(1.0), share(0.99999), share(0.5), share(0.00001)],
            ["100 %", "> 99.9 %", "50.0 %", "< 0.1 %"]
        );
    }
}
