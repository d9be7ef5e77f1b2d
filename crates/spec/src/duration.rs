//! Durations as people write them: `90s`, `5m`, `1h30m`.

use std::time::Duration;

/// Reads whole numbers with units `ms`, `s`, `m`, `h`, `d`; `None` for anything else and for nothing.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let count: u64 = rest[..digits].parse().ok()?;
        let unit_length = rest[digits..].find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len() - digits);
        let unit_ms: u64 = match &rest[digits..digits + unit_length] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        total = total.checked_add(Duration::from_millis(count.checked_mul(unit_ms)?))?;
        rest = &rest[digits + unit_length..];
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_need_units() {
        assert_eq!(parse("5m"), Some(Duration::from_secs(300)));
        assert_eq!(parse("1h30m"), Some(Duration::from_secs(5400)));
        assert_eq!(parse("250ms"), Some(Duration::from_millis(250)));
        for wrong in
            ["", "5", "m", "5 m", "-5m", "5min", "1.5h", "99999999999999999999s", "18446744073709551615d"]
        {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
