//! The two streams: people read standard error, programs standard output.

use crate::args::Common;
use serde::Serialize;
use std::io::{IsTerminal, Write};
use whimbrel_report::Paint;

/// What may be said, and in which form.
#[derive(Clone, Copy, Debug)]
pub struct Console {
    json: bool,
    quiet: bool,
    /// Whether a live display may be drawn.
    pub live: bool,
    /// Whether progress is shown at all.
    pub progress: bool,
}

impl Console {
    /// As the flags say.
    #[must_use]
    pub fn new(common: &Common) -> Self {
        let progress = !common.quiet && !common.no_progress && common.log.is_none();
        Self { json: common.json, quiet: common.quiet, live: std::io::stderr().is_terminal(), progress }
    }

    /// Whether what is said is coloured: on a terminal, unless NO_COLOR stands in the environment.
    #[must_use]
    pub fn paint(&self) -> Paint {
        if self.live && console::colors_enabled_stderr() { Paint::Coloured } else { Paint::Plain }
    }

    /// The same for results that are text themselves.
    #[must_use]
    pub fn paint_of_output() -> Paint {
        let coloured = std::io::stdout().is_terminal() && console::colors_enabled();
        if coloured { Paint::Coloured } else { Paint::Plain }
    }

    /// Whether results are for programs.
    #[must_use]
    pub fn json(&self) -> bool {
        self.json
    }

    /// Says something to people.
    pub fn say(&self, text: impl AsRef<str>) {
        if !self.quiet && !text.as_ref().is_empty() {
            write(&mut std::io::stderr().lock(), text.as_ref());
        }
    }

    /// Says what must be said.
    pub fn insist(text: impl AsRef<str>) {
        write(&mut std::io::stderr().lock(), text.as_ref());
    }

    /// The command's result: JSON for programs on standard output, or text for people on standard error.
    pub fn result(&self, value: &impl Serialize, text: impl AsRef<str>) {
        if self.json {
            Self::print_json(value);
        } else {
            self.say(text);
        }
    }

    /// The command's result where its text itself is the result, as of `list`: both on standard output.
    pub fn print(&self, value: &impl Serialize, text: impl AsRef<str>) {
        if self.json {
            Self::print_json(value);
        } else {
            write(&mut std::io::stdout().lock(), text.as_ref());
        }
    }

    /// A document for programs, on standard output in any case.
    pub fn output(value: &impl Serialize) {
        let text =
            serde_json::to_string_pretty(value).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"));
        write(&mut std::io::stdout().lock(), &text);
    }

    fn print_json(value: &impl Serialize) {
        let text = serde_json::to_string(value).unwrap_or_else(|error| format!("{{\"error\":\"{error}\"}}"));
        write(&mut std::io::stdout().lock(), &text);
    }
}

/// A reader that has gone away is no failure of ours.
fn write(stream: &mut impl Write, text: &str) {
    let _ = stream.write_all(text.as_bytes());
    if !text.ends_with('\n') {
        let _ = stream.write_all(b"\n");
    }
    let _ = stream.flush();
}
