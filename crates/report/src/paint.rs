//! Colours, for those who want them.

use console::Style;

/// Whether text is coloured. What it says is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// Text alone.
    Plain,
    /// With the escape sequences of a terminal.
    Coloured,
}

impl Paint {
    /// What went well.
    #[must_use]
    pub fn good(self, text: &str) -> String {
        self.with(&Style::new().green(), text)
    }

    /// What a person should look at.
    #[must_use]
    pub fn warn(self, text: &str) -> String {
        self.with(&Style::new().yellow(), text)
    }

    /// What went wrong.
    #[must_use]
    pub fn bad(self, text: &str) -> String {
        self.with(&Style::new().red(), text)
    }

    /// A heading.
    #[must_use]
    pub fn heading(self, text: &str) -> String {
        self.with(&Style::new().bold(), text)
    }

    /// A step on the way.
    #[must_use]
    pub fn step(self, text: &str) -> String {
        self.with(&Style::new().cyan(), text)
    }

    fn with(self, style: &Style, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Coloured => style.clone().force_styling(true).apply_to(text).to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Paint;

    #[test]
    fn colours_change_no_word() {
        assert_eq!(Paint::Plain.bad("no"), "no");
        let coloured = Paint::Coloured.bad("no");
        assert_ne!(coloured, "no");
        assert!(coloured.starts_with("\u{1b}[") && coloured.contains("no"), "{coloured:?}");
    }
}
