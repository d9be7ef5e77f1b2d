//! One file for each command.

pub mod check;
pub mod clean;
pub mod copy;
pub mod create;
#[cfg(feature = "embedded")]
pub mod demo;
pub mod list;
pub mod plan;
pub mod policy;
pub mod query;
pub mod report;
pub mod resume;
pub mod run;
pub mod schema;
pub mod status;
pub mod undo;
pub mod verify;

use crate::args::Common;
use crate::console::Console;
use crate::log::Log;

/// What every command is given.
pub struct Program {
    /// The flags that every command knows.
    pub common: Common,
    /// Where results and words go.
    pub console: Console,
    /// The log.
    pub log: Log,
}

impl Program {
    /// Slices that are read at a time: what the flag says, else four, or one for each processor if there are more.
    #[must_use]
    pub fn parallel(&self) -> usize {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        self.common.parallel.map_or_else(|| processors.max(4), usize::from)
    }
}
