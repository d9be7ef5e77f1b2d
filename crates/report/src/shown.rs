//! Texts of others made fit to be shown: names and values may hold anything.

use serde_json::Value;

/// Characters of a foreign text that a report keeps.
pub const KEPT_CHARACTERS: usize = 300;

/// A text cut to so many characters; what was cut is said.
#[must_use]
pub fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some((at, _)) => {
            let all = u64::try_from(text.chars().count()).unwrap_or(u64::MAX);
            format!("{}… ({} characters)", &text[..at], crate::figures::count(all))
        }
    }
}

/// A value as a report keeps it: a text as it is, all else as JSON, cut.
#[must_use]
pub fn kept(value: &Value) -> String {
    match value {
        Value::String(text) => cut(text, KEPT_CHARACTERS),
        other => cut(&other.to_string(), KEPT_CHARACTERS),
    }
}

/// The text in one line, where every character is seen: those that move the cursor, turn the direction of the
/// text or have no width are named.
#[must_use]
pub fn visible(text: &str) -> String {
    let mut seen = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' => seen.push('↵'),
            '\t' => seen.push(' '),
            c if is_unseen(c) => seen.push_str(&format!("‹U+{:04X}›", u32::from(c))),
            c => seen.push(c),
        }
    }
    seen
}

/// The same over several lines, as a statement has them.
#[must_use]
pub fn visible_lines(text: &str) -> String {
    text.lines().map(visible).collect::<Vec<_>>().join("\n")
}

fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn nothing_hides_or_turns_around() {
        assert_eq!(visible("a\u{202e}b\nc\u{0}\u{200b}d"), "a‹U+202E›b↵c‹U+0000›‹U+200B›d");
        assert_eq!(visible("تجربة 試 👩‍🚀 é"), "تجربة 試 👩‍🚀 é", "other scripts stay as they are");
        assert_eq!(visible_lines("a\n\u{7}b"), "a\n‹U+0007›b");
    }

    #[test]
    fn long_values_are_cut_and_say_so() {
        assert_eq!(cut("üüü", 2), "üü… (3 characters)");
        assert_eq!(kept(&json!("x")), "x");
        let number: Value = serde_json::from_str("{\"a\": 1.50}").unwrap();
        assert_eq!(kept(&number), "{\"a\":1.50}", "every digit");
        assert!(kept(&json!("y".repeat(10_240))).ends_with("… (10,240 characters)"));
    }
}
