//! The end of a command that did not do its work, and the one place that prints errors.

use std::process::ExitCode;

use crate::config::ConfigError;
use crate::service::ServiceError;
use crate::terminal::output;

/// Exit code of a configuration error, as in sysexits(3).
const EXIT_CONFIG: u8 = 78;

/// Reason why a command did not do its work. The text of an error is `what failed: cause`; a fix follows as `hint: …` on a line of
/// its own.
pub(super) enum Failure {
    /// An error to print; exit code 1.
    Failed(anyhow::Error),
    /// The command has printed the reason; exit code 1.
    Reported,
    /// The configuration cannot be used; exit code 78.
    Config(String),
}

impl Failure {
    /// Prints the error, and returns the exit code.
    pub(super) fn report(self) -> ExitCode {
        match self {
            Failure::Reported => ExitCode::FAILURE,
            Failure::Failed(error) => {
                output::error(&format!("{error:#}"));
                ExitCode::FAILURE
            }
            Failure::Config(problems) => {
                output::error(&format!("the configuration cannot be used:\n{problems}"));
                ExitCode::from(EXIT_CONFIG)
            }
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Failure::Failed(error)
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Failure::Config(error.to_string())
    }
}

impl From<ServiceError> for Failure {
    fn from(error: ServiceError) -> Self {
        match error {
            ServiceError::Config(problems) => Failure::Config(problems),
            ServiceError::Failed(error) => Failure::Failed(error),
        }
    }
}

/// Prints a usage error and ends the process with exit code 2.
pub(super) fn usage(problem: impl std::fmt::Display) -> ! {
    clap::Error::raw(clap::error::ErrorKind::ValueValidation, format!("{problem}\n")).exit()
}
