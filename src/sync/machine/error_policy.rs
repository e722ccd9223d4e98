//! The decision about a failed request, from the kind of the error and the content of the request.
//!
//! | kind | request | decision |
//! | --- | --- | --- |
//! | `Unavailable`, `Corrupt` | any | try again, after growing waits |
//! | `Refused` | pushes | hold pushes for a minute; pulls continue |
//! | `Refused` | reads only | send nothing for a minute |
//! | `Rejected` | pushes | bisect the push to find the event that fails it |
//! | `TooLarge` | pushes and reads | send the two as separate requests |
//! | `TooLarge` | pushes | push less |
//! | `TooLarge` | reads | request less |
//!
//! A part of a staged push has other rules: it takes no effect, so no event can have failed it.

use crate::error::{Code, Error, Kind};
use crate::sync::status::SyncState;

/// The part of a push that a request carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Carried {
    /// Nothing.
    Nothing,
    /// All of it.
    Push,
    /// A part, which does not take effect yet.
    Part,
    /// The command that all its parts take effect.
    Commit,
}

/// The decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    /// Try again, after a growing wait.
    Retry,
    /// Send nothing for a minute, because only a person can fix it. The state is shown.
    LeaveAlone(SyncState),
    /// The same, for a database that this replica does not belong to.
    OtherRemote,
    /// Push nothing for a minute, because only a person can fix it. Pulls continue.
    HoldPushes,
    /// The remote did not store a part of a push.
    PartRejected,
    /// A request of a staged push was too large.
    StagedTooLarge,
    /// Bisect the push, unless the remote lacks an object that every push needs.
    Bisect,
    /// The request was too large although it pushes nothing. Requesting less would not help.
    NothingFits,
    /// The push or the page was too large, and it is not known which: send them separately.
    Split,
    /// Push less.
    PushLess,
    /// Request less.
    PullLess,
}

/// Decides about an error of a request that carried `carried`, and requested a page if `paged`.
pub(super) fn policy(error: &Error, carried: Carried, paged: bool) -> Policy {
    match (error.kind(), carried) {
        (Kind::Refused | Kind::Rejected, Carried::Part) => Policy::PartRejected,
        (Kind::TooLarge, Carried::Part | Carried::Commit) => Policy::StagedTooLarge,
        (Kind::Refused, Carried::Nothing) => Policy::LeaveAlone(SyncState::Refused),
        (Kind::Refused, _) => Policy::HoldPushes,
        _ if matches!(error.code(), Code::OwnTableMissing | Code::StagedTableMissing) => {
            Policy::OtherRemote
        }
        (Kind::Rejected, Carried::Nothing) => Policy::LeaveAlone(SyncState::Trouble),
        (Kind::Rejected, _) => Policy::Bisect,
        (Kind::TooLarge, Carried::Nothing) if error.code() == Code::RequestTooLarge => {
            Policy::NothingFits
        }
        (Kind::TooLarge, Carried::Nothing) => Policy::PullLess,
        (Kind::TooLarge, Carried::Push) if paged => Policy::Split,
        (Kind::TooLarge, Carried::Push) => Policy::PushLess,
        _ => Policy::Retry,
    }
}

/// The error for a request that reads only, and is too large.
pub(super) fn nothing_fits(error: Error) -> Error {
    let message = format!("nothing can be pulled: {error}, although it pushes nothing");
    error.in_words(message)
}

/// The error for an event that no answer can carry, even in small chunks.
pub(super) fn unpullable(after: impl std::fmt::Display, error: Error) -> Error {
    let message = format!(
        "the event after {after} in the log cannot be pulled, because the remote sends only tiny \
         answers: {error}"
    );
    Error::new(Code::EventUnreadable, message)
        .with_hint("raise the remote's limit on the size of an answer; pushes continue")
        .with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_leads_somewhere_for_every_request() {
        use Carried::{Commit, Nothing, Part, Push};
        let error = |code| Error::new(code, "x");
        for carried in [Nothing, Push, Part, Commit] {
            for code in [Code::Unavailable, Code::Corrupt, Code::Storage] {
                assert_eq!(policy(&error(code), carried, true), Policy::Retry);
            }
        }
        for (code, carried, paged, decision) in [
            (Code::Refused, Nothing, true, Policy::LeaveAlone(SyncState::Refused)),
            (Code::Refused, Push, true, Policy::HoldPushes),
            (Code::Refused, Commit, true, Policy::HoldPushes),
            (Code::Refused, Part, true, Policy::PartRejected),
            (Code::Rejected, Nothing, true, Policy::LeaveAlone(SyncState::Trouble)),
            (Code::Rejected, Push, true, Policy::Bisect),
            (Code::Rejected, Commit, true, Policy::Bisect),
            (Code::Rejected, Part, true, Policy::PartRejected),
            (Code::TooLarge, Nothing, true, Policy::PullLess),
            (Code::TooLarge, Push, true, Policy::Split),
            (Code::TooLarge, Push, false, Policy::PushLess),
            (Code::TooLarge, Part, false, Policy::StagedTooLarge),
            (Code::TooLarge, Commit, true, Policy::StagedTooLarge),
        ] {
            assert_eq!(policy(&error(code), carried, paged), decision, "{code:?} {carried:?}");
        }
        assert_eq!(policy(&error(Code::OwnTableMissing), Push, true), Policy::OtherRemote);
        let request = error(Code::RequestTooLarge);
        assert_eq!(policy(&request, Nothing, true), Policy::NothingFits);
        assert_eq!(policy(&request, Push, false), Policy::PushLess);
    }
}
