//! Requests that are under way, and what they are for.

use std::sync::Arc;

use crate::event::EventId;
use crate::remote::statements::{Asker, Exchange, Sender, Span};
use crate::store::Push;
use crate::sync::machine::io::RequestId;
use crate::sync::machine::push::staging::Stage;

/// The request that is under way.
pub(in crate::sync) struct Flight {
    pub(in crate::sync) id: RequestId,
    pub(in crate::sync) errand: Errand,
}

/// What a request is for.
pub(in crate::sync) enum Errand {
    /// The first sync.
    FirstSync,
    /// To push and pull.
    Exchange(Box<Asked>),
    /// To learn what became of these.
    Inquiry(Vec<EventId>),
}

/// What an exchange was sent for.
pub(in crate::sync) struct Asked {
    pub(in crate::sync) push: Option<(Arc<Push>, ulid::Ulid, Sender)>,
    /// What it carries of a push that is larger than a request.
    pub(in crate::sync) stage: Option<Stage>,
    pub(in crate::sync) epoch: String,
    pub(in crate::sync) span: Option<Span>,
    pub(in crate::sync) asker: Asker,
    /// Whether its page is of no use any more.
    pub(in crate::sync) void: bool,
}

impl Asked {
    pub(in crate::sync) fn exchange(&self) -> Exchange<'_> {
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
