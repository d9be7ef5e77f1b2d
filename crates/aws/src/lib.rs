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
pub use policy::{Placed, Policy, Purpose, Statement, notes, policy};
pub use secrets::Secrets;
pub use session::{AwsError, AwsErrorKind, Session};
pub use users::{AccessKey, MadeUser, UserError, UserOrder, Users};

/// How a failure is told to whoever asked for a value: one that is not there lets a default take its place.
fn told(
    error: impl std::error::Error + Send + Sync + 'static,
    hint: String,
    is_absent: bool,
) -> whimbrel_spec::ProviderError {
    let told = match is_absent {
        true => whimbrel_spec::ProviderError::absent(error.to_string(), hint),
        false => whimbrel_spec::ProviderError::new(error.to_string(), hint),
    };
    told.caused_by(error)
}
