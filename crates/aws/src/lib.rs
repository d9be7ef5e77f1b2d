//! What whimbrel asks of AWS beside the stores: values for variables.

mod cognito;
mod credentials;
mod outputs;
mod parameters;
mod secrets;
mod session;

pub use cognito::{CognitoUsers, Removal};
pub use credentials::{CredentialsError, CredentialsFile};
pub use outputs::{CdkOutputs, OutputsError};
pub use parameters::Parameters;
pub use secrets::Secrets;
pub use session::{AwsError, AwsErrorKind, Session};
