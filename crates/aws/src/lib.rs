//! What whimbrel asks of AWS beside the stores: values for variables.

mod credentials;

pub use credentials::{CredentialsError, CredentialsFile};
