//! The engine: a migration is a table of slices, and a run maps each slice to a receipt.
//!
//! It knows the contract of stores and never a store by name. [`migration`] makes a spec ready, [`dry_run`]
//! shows what would happen, [`run`] begins, resumes and replays runs, [`runner`] places slices, [`slice`] works
//! on one, [`journal`] remembers.

pub mod activity;
pub mod changed;
pub mod changes;
pub mod condition;
pub mod costs;
pub mod distinct;
pub mod dry_run;
pub mod duplicates;
pub mod each;
pub mod error;
pub mod evidence;
pub mod exact;
pub mod flow;
pub mod functions;
pub mod journal;
mod kinds;
pub mod latency;
pub mod meaning;
pub mod memory;
pub mod migration;
pub mod needs;
pub mod ownership;
pub mod pace;
mod places;
pub mod price;
pub mod progress;
pub mod provision;
mod reasons;
pub mod receipts;
pub mod rejects;
pub mod reporter;
pub mod run;
pub mod runner;
mod shapes;
pub mod slice;
pub mod spill;
pub mod steps;
pub mod summary;
mod synced_file;
pub mod transform;
mod unaccounted;
pub mod undo;

pub use error::{EngineError, Result};
pub use journal::{Journal, JournalError};
pub use migration::Migration;
pub use progress::Progress;
pub use run::{Run, RunSettings};
pub use runner::RunnerSettings;
pub use summary::{RunOutcome, Summary};
