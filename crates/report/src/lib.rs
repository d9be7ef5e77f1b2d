//! What people read: plans, summaries and verifications as text. Nothing here decides or measures anything.

mod failing;
pub mod figures;
mod paint;
pub mod plan;
pub mod summary;
mod table;
pub mod verification;

pub use paint::Paint;
pub use plan::plan;
pub use summary::summary;
pub use verification::verification;
