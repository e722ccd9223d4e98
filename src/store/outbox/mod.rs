//! The outbox: the events of the application, and how a push is made of them.
//!
//! The capture triggers append to it. `reader` reads their rows, `write_order` restores the order
//! in which a row was written, and `pending` knows which rows have events without a verdict.
//! `batch` takes the next events. A push ends where a transaction ended (`boundaries`) or at a
//! place that separates no dependent events (`spans`). `fk_order` puts parents before children, and
//! `grouping` puts causes before consequences and joins the halves of a key change.

pub(super) mod batch;
pub(super) mod boundaries;
pub(super) mod fk_order;
pub(super) mod grouping;
pub(super) mod pending;
pub(super) mod reader;
pub(super) mod row;
pub(super) mod spans;
pub(super) mod stretch;
pub(super) mod watch;
pub(super) mod write_order;

use std::cell::{Ref, RefCell, RefMut};

/// What a store knows of its outbox, in addition to its rows.
#[derive(Debug, Default)]
pub(in crate::store) struct Outbox {
    pending: RefCell<pending::Pending>,
    layouts: reader::Layouts,
    /// Outbox numbers at which a transaction ended.
    boundaries: boundaries::Shared,
    /// The dependency spans of a stretch of the outbox that is larger than a push.
    spans: spans::KnownSpans,
    /// The greatest time of a local event that was the newest one when a boundary was noted.
    newest_ms: i64,
}

impl Outbox {
    /// The events without a verdict.
    pub(in crate::store) fn pending(&self) -> Ref<'_, pending::Pending> {
        self.pending.borrow()
    }

    pub(in crate::store) fn pending_mut(&self) -> RefMut<'_, pending::Pending> {
        self.pending.borrow_mut()
    }

    /// The layouts of the events read so far.
    pub(in crate::store) fn layouts(&self) -> &reader::Layouts {
        &self.layouts
    }

    /// Where transactions ended.
    pub(in crate::store) fn boundaries(&self) -> &boundaries::Shared {
        &self.boundaries
    }

    /// Events have other numbers now.
    pub(in crate::store) fn forget_numbers(&self) {
        self.pending_mut().forget();
        self.spans.forget();
    }
}
