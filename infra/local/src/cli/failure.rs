//! Exit statuses, and the messages on standard error.

use std::error::Error;
use std::io::Write as _;
use std::process::ExitCode;

use acs_identity::client::CallError;
use acs_identity::client::local::EndpointError;
use acs_identity::control::ControlError;
use identity::error_chain::error_chain;

const FAILED: u8 = 1;
const WRONG_USAGE: u8 = 2;
const UNREACHABLE: u8 = 3;

/// The command was not done.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line is wrong.
    Usage(String),
    /// The service is unreachable or cannot do its work now.
    Unreachable(Box<dyn Error>),
    /// The service has refused a call.
    Refused(CallError),
    Other(Box<dyn Error>),
}

impl Failure {
    pub(crate) fn other(error: impl Error + 'static) -> Self {
        Self::Other(error.into())
    }

    /// The failure of the report about a change that has taken place.
    pub(crate) fn after_effect(self, effect: &str) -> Self {
        match self {
            Self::Other(error) => Self::Other(format!("{effect}: {error}").into()),
            other => other,
        }
    }

    /// Writes the message to standard error.
    pub(crate) fn report(&self) -> ExitCode {
        let (message, status) = match self {
            Self::Usage(message) => (format!("error: {message}"), WRONG_USAGE),
            Self::Unreachable(error) => (format!("error: {}", error_chain(error.as_ref())), UNREACHABLE),
            Self::Refused(error) => (format!("ERROR: {error}"), FAILED),
            Self::Other(error) => (format!("error: {}", error_chain(error.as_ref())), FAILED),
        };
        // Without standard error, the exit status is all that is left to report.
        let _ = writeln!(std::io::stderr(), "{message}");
        ExitCode::from(status)
    }
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Refused { .. } => Self::Refused(error),
            CallError::Unavailable(_) | CallError::Unreachable { .. } => Self::Unreachable(error.into()),
            _ => Self::Other(error.into()),
        }
    }
}

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::NotRunning(_) => Self::Unreachable(error.into()),
            _ => Self::Other(error.into()),
        }
    }
}

impl From<EndpointError> for Failure {
    fn from(error: EndpointError) -> Self {
        match error {
            EndpointError::NotRunning(error) => error.into(),
            EndpointError::Connection { .. } => Self::Usage(error.to_string()),
        }
    }
}

impl From<Box<dyn Error>> for Failure {
    fn from(error: Box<dyn Error>) -> Self {
        Self::Other(error)
    }
}
