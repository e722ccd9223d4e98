//! Requests that are under way, and what they are for.

use std::sync::Arc;

use super::effect::RequestId;
use super::staging::Stage;
use crate::event::EventId;
use crate::remote::statements::{Asker, Exchange, Sender, Span};
use crate::store::Push;

/// The request that is under way.
pub(super) struct Flight {
    pub(super) id: RequestId,
    pub(super) errand: Errand,
}

/// What a request is for.
pub(super) enum Errand {
    /// The first sync.
    FirstSync,
    /// To push and pull.
    Exchange(Box<Asked>),
    /// To learn what became of these.
    Inquiry(Vec<EventId>),
}

/// What an exchange was sent for.
pub(super) struct Asked {
    pub(super) push: Option<(Arc<Push>, ulid::Ulid, Sender)>,
    /// What it carries of a push that is larger than a request.
    pub(super) stage: Option<Stage>,
    pub(super) epoch: String,
    pub(super) span: Option<Span>,
    pub(super) asker: Asker,
    /// Whether its page is of no use any more.
    pub(super) void: bool,
}

impl Asked {
    pub(super) fn exchange(&self) -> Exchange<'_> {
        let push = self.push.as_ref().map(|(push, unit, sender)| (&**push, *unit, sender));
        let stage = self.stage.as_ref();
        Exchange {
            push,
            staged: stage.and_then(Stage::whole),
            part: stage.and_then(|stage| stage.part(self.asker.replica, &self.epoch)),
            pull: self.span,
            asker: Some(self.asker),
        }
    }
}
