//! What people read: plans, summaries and verifications as text. Nothing here decides or measures anything.

pub mod figures;
pub mod plan;
pub mod summary;
mod table;
pub mod verification;

pub use plan::plan;
pub use summary::summary;
pub use verification::verification;
