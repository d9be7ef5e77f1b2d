//! What whimbrel asks of AWS beside the stores: values for variables, who asks and what
//! that one may do, and the policy that a spec needs.

mod account;
mod cognito;
mod credentials;
mod outputs;
mod parameters;
mod policy;
mod secrets;
mod session;
mod users;

pub use account::{Account, Allowance, Caller, Reach};
pub use cognito::{CognitoUsers, Removal};
pub use credentials::{CredentialsError, CredentialsFile};
pub use outputs::{CdkOutputs, OutputsError};
pub use parameters::Parameters;
pub use policy::{Placed, Policy, Purpose, Statement, policy};
pub use secrets::Secrets;
pub use session::{AwsError, AwsErrorKind, Session};
pub use users::{AccessKey, MadeUser, UserError, UserOrder, Users};
