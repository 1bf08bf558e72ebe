//! Why an action did not do its work.

use std::any::Any;
use std::error::Error;

use crate::bindings::imports::trainshed::plugin::types::Failure as Raw;
use crate::{ArtifactError, ModelError, ProgramError, ReportError};

/// Why an action did not do its work. The task takes the text as its status reason.
///
/// Every error becomes one by `?`: its message and those of its sources make the text,
/// and the SDK's own errors that say "the task was stopped" become [`Failure::Stopped`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// A parameter cannot be used.
    InvalidParameter {
        /// Its JSON pointer, e.g. `/batch_size`.
        pointer: String,
        /// What is wrong with it, and what would be right.
        message: String,
    },
    /// The work failed; one sentence a user understands.
    Failed(String),
    /// The plugin returned early because [`crate::Run::stopping`] said so.
    Stopped,
}

impl Failure {
    /// A parameter that cannot be used; `message` says what would be right.
    pub fn invalid_parameter(pointer: impl Into<String>, message: impl Into<String>) -> Self {
        Self::InvalidParameter {
            pointer: pointer.into(),
            message: message.into(),
        }
    }

    /// Work that failed; `message` is one sentence a user understands.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed(message.into())
    }
}

impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        if says_stopped(&error) {
            return Self::Stopped;
        }
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message.push_str(": ");
            message.push_str(&cause.to_string());
            source = cause.source();
        }
        Self::Failed(message)
    }
}

impl From<Failure> for Raw {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::InvalidParameter { pointer, message } => {
                Self::InvalidParameter((pointer, message))
            }
            Failure::Failed(message) => Self::Failed(message),
            Failure::Stopped => Self::Stopped,
        }
    }
}

fn says_stopped(error: &dyn Any) -> bool {
    error.downcast_ref() == Some(&ReportError::Stopped)
        || error.downcast_ref() == Some(&ModelError::Stopped)
        || error.downcast_ref() == Some(&ArtifactError::Stopped)
        || error.downcast_ref() == Some(&ProgramError::Stopped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_becomes_its_message_and_those_of_its_sources() {
        #[derive(Debug)]
        struct Outer(std::num::ParseIntError);
        impl std::fmt::Display for Outer {
            fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("row 3 is not usable")
            }
        }
        impl Error for Outer {
            fn source(&self) -> Option<&(dyn Error + 'static)> {
                Some(&self.0)
            }
        }

        let cause = "x".parse::<i32>().unwrap_err();
        let expected = Failure::failed("row 3 is not usable: invalid digit found in string");
        assert_eq!(Failure::from(Outer(cause)), expected);
    }

    #[test]
    fn a_stopped_report_is_a_stop_and_not_a_failure() {
        assert_eq!(Failure::from(ReportError::Stopped), Failure::Stopped);
        assert_eq!(Failure::from(ProgramError::Stopped), Failure::Stopped);
        let full = ReportError::QuotaExceeded("points".into());
        assert_eq!(
            Failure::from(full),
            Failure::failed("the task's points are used up")
        );
    }
}
