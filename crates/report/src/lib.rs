//! What people read: plans, summaries, verifications and reports. Nothing here decides or measures anything.
//!
//! A [`Report`] is data, made of a run's journal and folder by [`Report::of_run`] or of a verification alone by
//! [`Report::of_verification`]. It is shown by [`markdown`], [`html`] and, for programs, by [`receipt`]; [`write`]
//! puts it into a file. [`keep_plan`] keeps what a report needs to know from before the run.

mod collect;
mod conclusion;
mod cost;
mod failing;
pub mod figures;
mod html;
mod kept_plan;
mod markdown;
mod paint;
pub mod plan;
pub mod receipt;
pub mod report;
mod shown;
pub mod summary;
mod table;
mod throughput;
pub mod verification;
mod verified;
mod wording;
mod write;

pub use cost::lines as cost_lines;
pub use html::html;
pub use kept_plan::keep_plan;
pub use markdown::markdown;
pub use paint::Paint;
pub use plan::plan;
pub use receipt::receipt;
pub use report::Report;
pub use summary::summary;
pub use verification::verification;
pub use write::{Format, files, write};
