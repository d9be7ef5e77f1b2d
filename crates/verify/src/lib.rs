//! Proof that what was read arrived: numbers of records, every record or a sample of them, and the spec's own
//! assertions.

mod assertions;
mod compare;
mod count;
mod search;
mod verification;

pub use assertions::{VerifyError, assertions};
pub use compare::{Comparison, Found, Repaired, Repairs, Settings, Watch, private_file};
pub use count::count;
pub use search::searches;
pub use verification::{
    Assertion, AttributeDifference, Depth, Difference, DifferenceKind, FlowVerification, Outcome, Since,
    Verification,
};
