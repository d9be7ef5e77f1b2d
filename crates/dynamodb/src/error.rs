//! The SDK's errors as ours, decided on types and codes, never on the text of a message.

use aws_sdk_dynamodb::config::http::HttpResponse;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use std::error::Error;
use whimbrel_model::StoreName;
use whimbrel_store::{StoreError, StoreErrorKind};

/// How much of a message of the service is shown: it may echo the whole request, and with it records.
const SHOWN_CHARACTERS: usize = 200;

/// Cuts a text to a readable length.
pub(crate) fn cut(text: &str) -> String {
    let mut characters = text.chars();
    let mut shown: String = characters.by_ref().take(SHOWN_CHARACTERS).collect();
    if characters.next().is_some() {
        shown.push('…');
    }
    shown
}

/// What a failed request means for those who sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The store asks for patience and has done nothing.
    Throttled,
    /// The request never got there.
    NotSent,
    /// The request may have been carried out.
    Unknown,
    /// What the request holds is refused; another request may pass.
    Refused,
    /// A condition of the request did not hold: the key exists already.
    Exists,
    /// Trying again does not help.
    Fatal,
}

impl Fault {
    /// Whether the same request may be sent again.
    pub(crate) fn is_retryable(self) -> bool {
        match self {
            Self::Throttled | Self::NotSent | Self::Unknown => true,
            Self::Refused | Self::Exists | Self::Fatal => false,
        }
    }
}

/// What the service answered, its message cut.
#[derive(Debug, thiserror::Error)]
#[error("{code}: {message}")]
struct Answer {
    code: String,
    message: String,
}

/// A failed request.
#[derive(Debug)]
pub(crate) struct Failure {
    /// What it means for the request.
    pub(crate) fault: Fault,
    /// What it means for the store's user.
    pub(crate) kind: StoreErrorKind,
    /// The service's own reason, cut; or what happened to the connection.
    pub(crate) reason: String,
    /// Neither the service nor the connection says why: credentials that could not be renewed look like this.
    pub(crate) unexplained: bool,
    source: Box<dyn Error + Send + Sync>,
}

impl Failure {
    /// Sorts an error of the SDK.
    pub(crate) fn of<E>(error: SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
    {
        let status = error.raw_response().map(|response| response.status().as_u16());
        match error {
            SdkError::ServiceError(service) => {
                let (code, message) = (service.err().code(), service.err().message());
                Self::answered(status.unwrap_or(0), code.unwrap_or_default(), message.unwrap_or_default())
            }
            SdkError::ConstructionFailure(_) => {
                Self::unanswered(Fault::Fatal, StoreErrorKind::Internal, error)
            }
            SdkError::DispatchFailure(ref failure) if failure.is_user() => {
                Self::unanswered(Fault::Fatal, StoreErrorKind::Unsupported, error)
            }
            SdkError::DispatchFailure(_) if connection_was_refused(&error) => {
                Self::unanswered(Fault::NotSent, StoreErrorKind::Unreachable, error)
            }
            SdkError::DispatchFailure(ref failure) if failure.is_other() && failure.as_other().is_none() => {
                let failure = Self::unanswered(Fault::Unknown, StoreErrorKind::Unreachable, error);
                Self { unexplained: true, ..failure }
            }
            _ => Self::unanswered(Fault::Unknown, StoreErrorKind::Unreachable, error),
        }
    }

    /// Sorts what the service said of a request, or of one statement of it.
    pub(crate) fn answered(status: u16, code: &str, message: &str) -> Self {
        let (fault, kind) = meaning(status, code);
        let code = if code.is_empty() { format!("HTTP status {status}") } else { code.to_owned() };
        let message = if message.is_empty() { "no message".to_owned() } else { cut(message) };
        let reason = format!("{code}: {message}");
        Self { fault, kind, reason, unexplained: false, source: Answer { code, message }.into() }
    }

    /// Not worth trying again where nobody listens.
    pub(crate) fn fatal_where_nobody_listens(self) -> Self {
        let fault = if self.fault == Fault::NotSent { Fault::Fatal } else { self.fault };
        Self { fault, ..self }
    }

    /// The store carried out a part and gave the rest back.
    pub(crate) fn gave_back(what: &str) -> Self {
        let (fault, kind) = (Fault::Throttled, StoreErrorKind::Overloaded);
        Self { fault, kind, reason: what.to_owned(), unexplained: false, source: what.into() }
    }

    /// The answer began and did not come to its end.
    pub(crate) fn lost(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            fault: Fault::Unknown,
            kind: StoreErrorKind::Unreachable,
            reason: "the answer broke off".to_owned(),
            unexplained: false,
            source: source.into(),
        }
    }

    /// An answer that the API does not allow.
    pub(crate) fn protocol(what: &str) -> Self {
        Self {
            fault: Fault::Fatal,
            kind: StoreErrorKind::Protocol,
            reason: what.to_owned(),
            unexplained: false,
            source: what.into(),
        }
    }

    /// The credentials could not be had or renewed.
    pub(crate) fn no_credentials(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        let (fault, kind) = (Fault::Fatal, StoreErrorKind::Unauthenticated);
        Self {
            fault,
            kind,
            reason: "no valid credentials".to_owned(),
            unexplained: false,
            source: source.into(),
        }
    }

    fn unanswered<E>(fault: Fault, kind: StoreErrorKind, error: SdkError<E, HttpResponse>) -> Self
    where
        E: Error + Send + Sync + 'static,
    {
        let reason = error.to_string();
        // The SDK's own words ("dispatch failure") tell a person nothing; what lies below does.
        let source = error.into_source().unwrap_or_else(|error| error.to_string().into());
        Self { fault, kind, reason, unexplained: false, source }
    }

    /// The error that the engine gets: what was attempted, this as its cause, and the next step.
    pub(crate) fn into_error(self, store: &StoreName, context: impl Into<String>) -> StoreError {
        let error = StoreError::new(self.kind, store, context).caused_by(self.source);
        match self.kind {
            StoreErrorKind::Unauthenticated => error.with_hint(CREDENTIALS_HINT),
            StoreErrorKind::Forbidden => error.with_hint(FORBIDDEN_HINT),
            StoreErrorKind::Unreachable => {
                error.with_hint("look at `endpoint` and `region` of the store, and at the network")
            }
            _ => error,
        }
    }
}

/// What to do where an action is not allowed.
const FORBIDDEN_HINT: &str = "the identity lacks a permission that the message names; `whimbrel policy SPEC` prints all that a spec needs";

/// What to do where credentials are missing, wrong or expired.
pub(crate) const CREDENTIALS_HINT: &str = "set AWS_PROFILE or --aws-profile, or `profile` of the store, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; log in again where they expired";

/// The one table of codes: DynamoDB API Reference, "Common Errors"; Developer Guide, "Error handling with
/// DynamoDB"; and the codes of `BatchStatementError`.
fn meaning(status: u16, code: &str) -> (Fault, StoreErrorKind) {
    match code {
        "ProvisionedThroughputExceededException"
        | "ProvisionedThroughputExceeded"
        | "ThrottlingException"
        | "ThrottlingError"
        | "Throttling"
        | "RequestLimitExceeded"
        | "TooManyRequestsException"
        | "LimitExceededException"
        | "TransactionConflictException"
        | "TransactionConflict"
        | "ReplicatedWriteConflictException" => (Fault::Throttled, StoreErrorKind::Overloaded),
        "InternalServerError" | "InternalFailure" | "ServiceUnavailable" | "ServiceUnavailableException" => {
            (Fault::Unknown, StoreErrorKind::Overloaded)
        }
        "ValidationException"
        | "ValidationError"
        | "ItemCollectionSizeLimitExceededException"
        | "ItemCollectionSizeLimitExceeded"
        | "SerializationException"
        | "RequestEntityTooLarge" => (Fault::Refused, StoreErrorKind::Unsupported),
        "ConditionalCheckFailedException"
        | "ConditionalCheckFailed"
        | "DuplicateItemException"
        | "DuplicateItem" => (Fault::Exists, StoreErrorKind::Mismatch),
        "ResourceNotFoundException" | "ResourceNotFound" | "TableNotFoundException" => {
            (Fault::Fatal, StoreErrorKind::NotFound)
        }
        "ResourceInUseException" | "TableAlreadyExistsException" => (Fault::Fatal, StoreErrorKind::Mismatch),
        "ExpiredTokenException"
        | "ExpiredToken"
        | "UnrecognizedClientException"
        | "InvalidClientTokenId"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "IncompleteSignature"
        | "IncompleteSignatureException"
        | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException"
        | "RequestExpired" => (Fault::Fatal, StoreErrorKind::Unauthenticated),
        "AccessDeniedException" | "AccessDenied" | "NotAuthorized" | "OptInRequired" => {
            (Fault::Fatal, StoreErrorKind::Forbidden)
        }
        "UnknownOperationException" => (Fault::Fatal, StoreErrorKind::Unsupported),
        _ => match status {
            413 => (Fault::Refused, StoreErrorKind::Unsupported),
            429 => (Fault::Throttled, StoreErrorKind::Overloaded),
            500.. => (Fault::Unknown, StoreErrorKind::Overloaded),
            _ => (Fault::Fatal, StoreErrorKind::Protocol),
        },
    }
}

/// Whether the operating system says that nobody listens there: then nothing was sent.
fn connection_was_refused(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        let io = error.downcast_ref::<std::io::Error>();
        if io.is_some_and(|io| io.kind() == std::io::ErrorKind::ConnectionRefused) {
            return true;
        }
        next = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_decide() {
        for (status, code, fault, kind) in [
            (400, "ThrottlingException", Fault::Throttled, StoreErrorKind::Overloaded),
            (500, "InternalServerError", Fault::Unknown, StoreErrorKind::Overloaded),
            (503, "", Fault::Unknown, StoreErrorKind::Overloaded),
            (400, "ValidationException", Fault::Refused, StoreErrorKind::Unsupported),
            (400, "ExpiredTokenException", Fault::Fatal, StoreErrorKind::Unauthenticated),
            (400, "AccessDeniedException", Fault::Fatal, StoreErrorKind::Forbidden),
            (400, "NeverHeardOf", Fault::Fatal, StoreErrorKind::Protocol),
        ] {
            let failure = Failure::answered(status, code, "m");
            assert_eq!((failure.fault, failure.kind), (fault, kind), "{code} {status}");
        }
    }

    #[test]
    fn long_messages_are_cut() {
        let failure = Failure::answered(400, "ValidationException", &"ü".repeat(5000));
        assert!(failure.reason.chars().count() < 230, "{}", failure.reason.chars().count());
        assert!(failure.reason.ends_with('…'));
    }
}
