//! The request in flight, and its kind.

mod comparison;
pub(super) mod next;

use std::sync::Arc;

use ulid::Ulid;

use crate::event::EventId;
use crate::protocol::incarnation::{Incarnation, Place};
use crate::protocol::meta::Asker;
use crate::protocol::statements::{Exchange, LogRange, Sender};
use crate::protocol::{Lean, Push};
use crate::sync::machine::error_policy::Carried;
use crate::sync::machine::io::RequestId;
use crate::sync::machine::push::staging::Stage;

/// The kind of a request.
pub(super) enum RequestKind {
    /// A request of the first sync.
    FirstSync,
    /// A push and a pull.
    Exchange(Box<ExchangeRequest>),
    /// A check whether the log still ends at this place.
    IdlePoll(Place),
    /// A question about these events.
    Reconcile(Vec<EventId>),
    /// A comparison of suspect tables.
    Recapture,
    /// A search for writes that capture on the remote has missed.
    Find,
}

/// The requests of one machine.
///
/// * At most one is waited for. An answer with another id is ignored.
pub(super) struct Requests {
    in_flight: Option<(RequestId, RequestKind)>,
    last: RequestId,
}

impl Requests {
    /// The next request is the one after `last`.
    pub(super) fn after(last: RequestId) -> Self {
        Requests { in_flight: None, last }
    }

    /// Sends a request. Returns its id.
    pub(super) fn send(&mut self, kind: RequestKind) -> RequestId {
        self.last = RequestId(self.last.0 + 1);
        self.in_flight = Some((self.last, kind));
        self.last
    }

    /// Handles an answer. Returns the kind of the request, if it was waited for.
    pub(super) fn take(&mut self, id: RequestId) -> Option<RequestKind> {
        self.in_flight.take_if(|(in_flight, _)| *in_flight == id).map(|(_, kind)| kind)
    }

    /// Stops waiting for the request. Returns whether there was one.
    pub(super) fn give_up(&mut self) -> bool {
        self.in_flight.take().is_some()
    }

    /// The page of the request cannot be used any more.
    pub(super) fn discard_page(&mut self) {
        if let Some((_, RequestKind::Exchange(request))) = &mut self.in_flight {
            request.discard_page = true;
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.is_none()
    }

    /// Whether the request moves or decides something.
    pub(super) fn is_busy(&self) -> bool {
        self.in_flight.as_ref().is_some_and(|(_, kind)| match kind {
            RequestKind::Exchange(request) => request.push.is_some() || request.stage.is_some(),
            RequestKind::FirstSync | RequestKind::Reconcile(_) | RequestKind::Recapture => true,
            RequestKind::IdlePoll(_) | RequestKind::Find => false,
        })
    }

    /// Whether a push is in flight that is not sent in parts.
    pub(super) fn is_pushing(&self) -> bool {
        self.in_flight.as_ref().is_some_and(|(_, kind)| match kind {
            RequestKind::Exchange(request) => request.push.is_some() && request.stage.is_none(),
            _ => false,
        })
    }

    pub(super) fn last(&self) -> RequestId {
        self.last
    }
}

/// The content of an exchange.
pub(super) struct ExchangeRequest {
    push: Option<(Arc<Push>, Ulid, Sender)>,
    /// Its part of a push that is larger than a request.
    stage: Option<Stage>,
    epoch: String,
    range: Option<LogRange>,
    /// The short forms that the lines of the page may have.
    lean: Option<Lean>,
    asker: Asker,
    discard_page: bool,
}

impl ExchangeRequest {
    /// A request that only reads.
    pub(super) fn reading(asker: Asker, epoch: String) -> Self {
        ExchangeRequest {
            push: None,
            stage: None,
            epoch,
            range: None,
            lean: None,
            asker,
            discard_page: false,
        }
    }

    /// The same, with a push and the id of its first unit.
    pub(super) fn pushing(self, push: Arc<Push>, unit: Ulid, sender: Sender) -> Self {
        ExchangeRequest { push: Some((push, unit, sender)), ..self }
    }

    /// The same, with its part of a staged push.
    pub(super) fn staging(self, stage: Option<Stage>) -> Self {
        ExchangeRequest { stage, ..self }
    }

    /// The same, with the part of the log that it requests, and the forms of its lines.
    pub(super) fn pulling(self, range: LogRange, lean: Option<Lean>) -> Self {
        ExchangeRequest { range: Some(range), lean, ..self }
    }

    /// The request in the protocol's form.
    pub(super) fn exchange(&self) -> Exchange<'_> {
        let push = self.push.as_ref().map(|(push, unit, sender)| (&**push, *unit, sender));
        let stage = self.stage.as_ref();
        Exchange {
            push,
            staged: stage.and_then(Stage::whole),
            part: stage.and_then(|stage| stage.part(self.asker.replica, &self.epoch)),
            pull: self.range,
            lean: self.lean.as_ref(),
            asker: Some(self.asker),
        }
    }

    pub(super) fn push(&self) -> Option<&Push> {
        self.push.as_ref().map(|(push, ..)| &**push)
    }

    /// The incarnation that was issued for the push.
    pub(super) fn incarnation(&self) -> Option<Incarnation> {
        self.push.as_ref().and_then(|(.., sender)| sender.incarnations.issued.last().copied())
    }

    pub(super) fn stage(&self) -> Option<&Stage> {
        self.stage.as_ref()
    }

    /// The part of a staged push, if it carries one.
    pub(super) fn part(&self) -> Option<&Stage> {
        self.stage.as_ref().filter(|stage| stage.is_part())
    }

    /// The newest known place in the log when it was sent.
    pub(super) fn place(&self) -> Place {
        self.asker.place
    }

    /// Whether it requests a page.
    pub(super) fn is_paged(&self) -> bool {
        self.range.is_some()
    }

    /// Whether its page cannot be used any more.
    pub(super) fn discards_page(&self) -> bool {
        self.discard_page
    }

    /// The part of a push that it carries.
    pub(super) fn carried(&self) -> Carried {
        match (&self.stage, &self.push) {
            (Some(stage), _) if stage.is_part() => Carried::Part,
            (Some(_), _) => Carried::Commit,
            (None, Some(_)) => Carried::Push,
            (None, None) => Carried::Nothing,
        }
    }
}
