//! What goes wrong, and what the machine makes of it.
//!
//! By the error's kind: an unavailable remote is tried again after a while, a refusal waits for a
//! person, a rejected push is searched for its culprit, and what is too large is asked for in
//! smaller parts.

use crate::error::{Code, Error, Kind};
use crate::event::EventId;
use crate::remote::statements::SCHEMA_VERSION;
use crate::store::{Outgoing, Push};
use crate::sync::machine::Machine;
use crate::sync::machine::push::bisect::Step;
use crate::sync::machine::push::staging::Stage;
use crate::sync::machine::request::Asked;
use crate::sync::status::SyncState;
use crate::verdict::TOO_LARGE;

/// How long to leave a remote alone that refused us, in ms: only a person can change its mind.
pub(in crate::sync) const REFUSED_RETRY_MS: u64 = 60_000;

impl Machine {
    /// The local database failed. It is tried again after a while, as a remote is.
    pub(in crate::sync) fn local_trouble(&mut self, error: Error) {
        tracing::warn!(kind = ?error.kind(), "{error}");
        self.retry_at = self.now.steady_ms + self.backoff.fail();
        self.fail_waiters(&error, 1);
        self.state = SyncState::Trouble;
        self.trouble = Some(error);
        self.changed();
    }

    /// The remote refuses us, and only a person can change that.
    pub(in crate::sync) fn refused(&mut self, error: Error, state: SyncState) {
        tracing::warn!(kind = ?error.kind(), "{error}");
        self.retry_at = self.now.steady_ms + REFUSED_RETRY_MS;
        self.due = self.retry_at;
        self.state = state;
        self.reachable = Some(true);
        self.dismiss_waiters(&error);
        self.trouble = Some(error);
        self.changed();
    }

    pub(in crate::sync) fn failed(&mut self, asked: Option<Asked>, error: Error) {
        let pushed = asked.as_ref().and_then(|asked| asked.push.as_ref());
        let pushed = pushed.map(|(push, ..)| &**push);
        let stage = asked.as_ref().and_then(|asked| asked.stage.as_ref());
        let part = stage.filter(|stage| stage.is_part());
        let paged = asked.as_ref().is_some_and(|asked| asked.span.is_some());
        if asked.is_none() && self.init.as_mut().is_some_and(|init| init.recover(&error)) {
            return;
        }
        match (error.kind(), pushed) {
            (Kind::Refused, None) if part.is_some() => self.part_rejected(error),
            (Kind::Rejected, None) if part.is_some() => self.part_rejected(error),
            (Kind::TooLarge, _) if stage.is_some() => self.stage_too_large(stage, paged, error),
            (Kind::Refused, Some(_)) => {
                self.hold_push(error);
                self.look_first = false;
            }
            (Kind::Refused, None) => self.refused(error, SyncState::Refused),
            _ if matches!(error.code(), Code::OwnTableMissing | Code::StagedTableMissing) => {
                let error = other_remote(None).with_source(error);
                self.refused(error, SyncState::OtherRemote);
            }
            (Kind::Rejected, Some(_)) if self.doubts(&error) => {}
            (Kind::Rejected, Some(push)) => self.push_rejected(push, error),
            (Kind::Rejected, None) => self.refused(error, SyncState::Trouble),
            (Kind::TooLarge, None) if error.code() == Code::RequestTooLarge => {
                self.request_too_large(error);
            }
            (Kind::TooLarge, push) => self.too_large(push, paged, error),
            _ => self.unavailable(error),
        }
        self.changed();
    }

    /// The remote is not the one that was read. Where that was found with a page that waits for
    /// what follows, which cannot be integrated, it is asked once more from the cursor on.
    pub(in crate::sync) fn at_odds(&mut self, error: Error, state: SyncState) {
        if state != SyncState::RolledBack || !self.pages.is_joining() {
            return self.refused(error, state);
        }
        self.restart_pages();
        let message = "the remote's log has changed in front of what waits to be integrated";
        self.failed(None, Error::corrupt(message).with_source(error));
    }

    /// What came is no page. The answers themselves are as they should be, so that they must not
    /// end the waits that grow: each would be asked for at once.
    pub(in crate::sync) fn unreadable(&mut self, error: Error) {
        self.no_page = true;
        self.unavailable(error);
        self.changed();
    }

    pub(in crate::sync) fn unavailable(&mut self, error: Error) {
        let wait = self.backoff.fail();
        tracing::info!(kind = ?error.kind(), wait_ms = wait, "{error}");
        self.retry_at = self.now.steady_ms + wait;
        self.due = self.due.min(self.retry_at);
        let away = error.kind() == Kind::Unavailable;
        self.reachable = Some(!away);
        self.state = if away { SyncState::Offline } else { SyncState::Trouble };
        self.fail_waiters(&error, 1);
        self.trouble = Some(error);
    }

    /// Pushing waits for a person; pulling goes on, and those who wait are told when it is done.
    pub(in crate::sync) fn hold_push(&mut self, error: Error) {
        tracing::warn!(kind = ?error.kind(), "nothing can be pushed: {error}");
        self.push_held_until = self.now.steady_ms + REFUSED_RETRY_MS;
        self.due = self.now.steady_ms;
        let refused = error.kind() == Kind::Refused;
        self.state = if refused { SyncState::Refused } else { SyncState::Trouble };
        self.push_trouble = Some(error);
    }

    /// The remote's triggers do not know a column, and would leave it out. Those who wait are told
    /// when what came in the same answer, and what follows it, is integrated.
    pub(in crate::sync) fn hold_for_column(&mut self, table: &str, column: &str) {
        let error = unknown_column(table, column);
        tracing::warn!(table, column, "nothing can be pushed: {error}");
        self.push_held_until = self.now.steady_ms + REFUSED_RETRY_MS;
        self.state = SyncState::Trouble;
        self.push_trouble = Some(error);
    }

    /// Says that so much hangs together that the remote may not take it in one transaction, before
    /// it is tried. It is said until it has gone through.
    pub(in crate::sync) fn say_oversized(&mut self, push: &Push) {
        if !push.is_oversized() || self.push_trouble.is_some() {
            return;
        }
        let (events, tables) = (push.events.len(), push.named_tables());
        let message = format!(
            "{events} changes of {tables} hang together by foreign keys, and the remote may not \
             take them in one transaction"
        );
        tracing::warn!(events, "{message}");
        self.state = SyncState::Trouble;
        let hint = "they are tried as they are, and nothing of them is refused for their number; \
            what was written after them waits behind them, and pulls go on";
        self.push_trouble = Some(Error::new(Code::TransactionTooLarge, message).with_hint(hint));
    }

    /// What those are told who wait while pushing waits for a person.
    pub(in crate::sync) fn push_is_held(&self) -> Option<Error> {
        let held = self.unsent && self.now.steady_ms < self.push_held_until;
        self.push_trouble.clone().filter(|_| held)
    }

    /// The culprit is looked for, but only on a remote that is as it should be: a request that only
    /// reads comes first.
    fn push_rejected(&mut self, push: &Push, error: Error) {
        tracing::info!(events = push.events.len(), "a push was rejected: looking for the culprit");
        self.staging = None;
        if !self.limits.is_searching() && !self.look_first {
            self.look_first = true;
            self.limits.suspect(push);
            return;
        }
        match self.limits.rejected(push, error.code()) {
            Step::Again => {}
            Step::Refuse(ids) => self.refuse(&ids, error.message()),
            Step::Stuck => self.stuck(&push.events, error),
        }
    }

    /// The next push records these as rejected.
    fn refuse(&mut self, ids: &[EventId], reason: &str) {
        if let Err(error) = self.store.refuse(ids, reason) {
            self.local_trouble(error);
        }
    }

    fn too_large(&mut self, push: Option<&Push>, paged: bool, error: Error) {
        match push {
            // Which of the two was too large is not known, so they go apart from now on.
            Some(push) if paged => {
                self.apart = true;
                self.look_first = true;
                self.limits.suspect(push);
            }
            Some(push) => self.carried_too_much(&push.events, error),
            None if self.pages.too_large() => {}
            None => {
                // What is to be pushed goes by itself, and is not kept by what cannot be pulled.
                self.apart = true;
                self.look_first = false;
                let after = self.pages.place().seq;
                let message = format!(
                    "the event behind {after} in the log cannot be pulled, for the remote sends \
                     next to nothing: {error}"
                );
                let error = Error::new(Code::EventUnreadable, message)
                    .with_hint("raise the remote's limit on the size of an answer; pushes go on")
                    .with_source(error);
                self.refused(error, SyncState::Trouble);
            }
        }
    }

    /// A request that pushes nothing has some hundred bytes. A smaller one does not help, so asking
    /// for less of the log would be no use.
    fn request_too_large(&mut self, error: Error) {
        let message = format!("nothing can be pulled: {error}, although it pushes nothing");
        self.refused(error.in_words(message), SyncState::Trouble);
    }

    /// A request of a push in parts was too large, or its answer. The last one carries no event, so
    /// it can only be the page.
    fn stage_too_large(&mut self, stage: Option<&Stage>, paged: bool, error: Error) {
        if paged {
            self.apart = true;
            return;
        }
        let events = stage.map(|stage| self.events_of(stage)).unwrap_or_default();
        self.staging = None;
        match events.is_empty() {
            true => {
                let message = format!("the remote takes next to nothing in a request: {error}");
                let error = Error::new(Code::RequestTooLarge, message)
                    .with_hint("raise the remote's limit on the size of a request")
                    .with_source(error);
                self.hold_push(error);
            }
            false => self.carried_too_much(&events, error),
        }
    }

    /// A request was too large for these events.
    fn carried_too_much(&mut self, events: &[Outgoing], error: Error) {
        match self.limits.too_large(events) {
            Step::Again => {}
            Step::Refuse(ids) => self.refuse(&ids, TOO_LARGE),
            Step::Stuck => self.stuck(events, error),
        }
    }

    fn stuck(&mut self, events: &[Outgoing], error: Error) {
        let event = events.first().expect("a push has events");
        let Outgoing { table, key, id, .. } = event;
        tracing::error!(table, %key, event = %id, "it can neither be pushed nor be recorded");
        let message = format!("event {id} of table `{table}` does not reach the remote: {error}");
        let code = match error.kind() {
            Kind::TooLarge => Code::EventTooLarge,
            _ => Code::EventUnpushable,
        };
        self.hold_push(Error::new(code, message).with_source(error));
    }
}

/// The error for a remote that is another database.
pub(crate) fn other_remote(found: Option<&str>) -> Error {
    let message = match found {
        Some(epoch) => format!("the URL leads to another database (its epoch is {epoch})"),
        None => "the URL leads to a database without driftless's tables".to_owned(),
    };
    Error::new(Code::OtherRemote, message)
}

/// The error for a column that the remote's triggers do not know.
pub(crate) fn unknown_column(table: &str, column: &str) -> Error {
    let message = format!("table `{table}` has a column `{column}` that the remote does not know");
    Error::new(Code::RemoteColumnMissing, message)
}

/// The error for a remote whose schema is not of this version.
pub(crate) fn schema_version(found: i64) -> Error {
    let message = format!(
        "the remote has version {found} of driftless's schema, and this program knows \
         {SCHEMA_VERSION}"
    );
    let newer = found > SCHEMA_VERSION;
    Error::new(if newer { Code::RemoteSchemaNewer } else { Code::RemoteSchemaOlder }, message)
}

/// The error for a replica that may neither push nor pull yet.
pub(in crate::sync) fn no_first_sync() -> Error {
    Error::new(Code::FirstSyncNotDone, "this replica's first sync is not done")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whichever_side_is_older_is_to_be_updated() {
        assert_eq!(schema_version(SCHEMA_VERSION + 1).code(), Code::RemoteSchemaNewer);
        assert_eq!(schema_version(SCHEMA_VERSION - 1).code(), Code::RemoteSchemaOlder);
    }
}
