//! Why a case came to no result.

use std::io;
use std::time::Duration;

use super::octets::to_text;

/// Why a case came to no result that could be compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// A program that the case runs is not there.
    #[error("there is no program {0}")]
    Missing(String),
    /// A program that prepares the case did not exit 0.
    #[error("before: {program} exited {exit}: {stderr}")]
    Before {
        /// Its name.
        program: String,
        /// Its exit code, negative for a signal.
        exit: i32,
        /// What it said.
        stderr: String,
    },
    /// A program ran longer than it may.
    #[error("timed out after {0:?}")]
    TimedOut(Duration),
    /// A program wrote more than anyone would compare.
    #[error("a program wrote more than {0} octets")]
    Output(usize),
    /// A scenario waited in vain.
    #[error("{what}; log:\n{log}")]
    Stuck {
        /// What it waited for, and why that will not come.
        what: String,
        /// The log up to there.
        log: String,
    },
    /// The case does not make sense.
    #[error("the case is wrong: {0}")]
    Case(String),
    /// The machine refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: String,
        /// The refusal.
        source: io::Error,
    },
}

impl Failure {
    /// For a program that was to prepare the case.
    pub(crate) fn before(program: &str, exit: i32, stderr: &[u8]) -> Self {
        Self::Before {
            program: program.to_owned(),
            exit,
            stderr: to_text(stderr),
        }
    }
}

/// Says what was being done when something was refused.
pub(crate) trait Doing<T> {
    /// Names what was being done.
    fn doing(self, what: &str) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, what: &str) -> Result<T, Failure> {
        self.map_err(|error| Failure::Io {
            what: what.to_owned(),
            source: error.into(),
        })
    }
}
