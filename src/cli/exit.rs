//! The exit codes.

use std::process::ExitCode;

use crate::error::Kind;

/// The outcome of a command, for the program that called it. docs/operations.md lists the codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// The command succeeded.
    Success = 0,
    /// `status`: health is red. Replication has stopped.
    Red = 1,
    /// The call was wrong: a flag, a table, an id, or a file that does not exist.
    Usage = 2,
    /// The remote cannot be reached. Try again later; nothing is lost.
    Unavailable = 3,
    /// The remote refuses us: credentials, another database, a newer schema, or the request itself.
    Refused = 4,
    /// Databases that should be equal are not.
    Divergence = 5,
    /// The local database or disk failed: damaged, read-only, locked, full.
    Storage = 6,
    /// Ctrl-C, before the work was done. What was done stays.
    Interrupted = 130,
}

impl Exit {
    /// The number.
    pub(crate) fn code(self) -> u8 {
        self as u8
    }
}

impl From<Kind> for Exit {
    fn from(kind: Kind) -> Exit {
        match kind {
            Kind::Usage => Exit::Usage,
            Kind::Unavailable => Exit::Unavailable,
            Kind::Refused | Kind::Rejected | Kind::TooLarge => Exit::Refused,
            Kind::Corrupt | Kind::Storage => Exit::Storage,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit.code())
    }
}
