//! What waits to be written: answers, the newest status, and changed rows.
//!
//! One thread writes. If the client does not read, that thread waits, and nothing else does: a
//! newer status takes the place of an older one, and changed rows are joined ([`Notices`]). The
//! number of answers is bounded by the [`Slot`]s.

use std::collections::VecDeque;
use std::io::{Result, Write};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::message::{json, notification};
use super::notices::Notices;
use super::slots::Slot;
use crate::sync::{Changes, Status};

/// The status as the client gets it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct StatusView {
    #[serde(flatten)]
    status: Status,
    /// Whether the client has paused the replication.
    paused: bool,
}

impl StatusView {
    /// The status, and whether the client has paused the replication.
    pub(super) fn new(status: Status, paused: bool) -> StatusView {
        StatusView { status, paused }
    }
}

/// What waits to be written.
#[derive(Default)]
pub(super) struct Outgoing {
    waiting: Mutex<Waiting>,
    news: Condvar,
}

#[derive(Default)]
struct Waiting {
    answers: VecDeque<(String, Slot)>,
    status: Option<StatusView>,
    /// The newest status that was to be written.
    shown: Option<StatusView>,
    notices: Notices,
    is_closed: bool,
}

impl Outgoing {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes an answer, and frees its slot.
    pub(super) fn answer(&self, line: String, slot: Slot) {
        self.lock().answers.push_back((line, slot));
        self.news.notify_one();
    }

    /// Writes the status, if it differs from the one before in more than an age.
    pub(super) fn status(&self, status: StatusView) {
        let mut waiting = self.lock();
        let is_news = waiting.shown.as_ref().is_none_or(|shown| {
            shown.paused != status.paused || shown.status.differs_from(&status.status)
        });
        if is_news {
            waiting.shown = Some(status.clone());
            waiting.status = Some(status);
            self.news.notify_one();
        }
    }

    /// Writes which rows have changed.
    pub(super) fn changes(&self, changes: Changes) {
        self.lock().notices.add(changes);
        self.news.notify_one();
    }

    /// Nothing more will come.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.news.notify_one();
    }

    /// Writes what comes, until nothing more will.
    ///
    /// # Errors
    ///
    /// When `to` fails: the client is gone.
    pub(super) fn write(&self, mut to: impl Write) -> Result<()> {
        while let Some((line, slot)) = self.next() {
            to.write_all(line.as_bytes())?;
            to.write_all(b"\n")?;
            to.flush()?;
            drop(slot);
        }
        Ok(())
    }

    /// The next line, with the slot of its request if it is an answer. What a method has caused is
    /// written before its answer.
    fn next(&self) -> Option<(String, Option<Slot>)> {
        let mut waiting = self.lock();
        loop {
            if let Some(told) = waiting.notices.take() {
                return Some((notification("changes", &json(&told)), None));
            }
            if let Some(status) = waiting.status.take() {
                return Some((notification("status", &json(&status)), None));
            }
            if let Some((line, slot)) = waiting.answers.pop_front() {
                return Some((line, Some(slot)));
            }
            if waiting.is_closed {
                return None;
            }
            waiting = self.news.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
