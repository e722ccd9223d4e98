//! The pull half of the machine: which part of the log to request next, and which pages wait to be
//! integrated.
//!
//! [`Puller`] adds to [`pages`] the facts that the machine needs: whether the last page could be
//! read, and which request has last read the log. A line that fits into no answer is put together
//! from [`chunks`].

pub(in crate::sync) mod chunks;
pub(in crate::sync) mod pages;

use crate::error::Result;
use crate::event::Seq;
use crate::event::page::unfold::Layout;
use crate::event::page::{Offset, Page};
use crate::protocol::incarnation::Place;
use crate::protocol::statements::{LogRange, ReceivedChunk};
use crate::protocol::{Held, Lean};
use crate::sync::machine::io::{PullSize, RequestId};
use pages::Pages;

/// The pull half of one machine.
pub(super) struct Puller {
    most: PullSize,
    pages: Pages,
    /// Whether the last page could not be read. Until one can, an answer is not a success.
    /// Otherwise it would reset the backoff, and the page would be requested in a tight loop.
    last_page_invalid: bool,
    /// The last request that has brought a page, even an empty one.
    last_read: RequestId,
    /// Whether the file records that a transaction arrives in parts.
    in_parts: bool,
    /// Whether own events must come with their values: the page at the cursor has an event that is
    /// not pending here.
    whole_lines: bool,
}

impl Puller {
    /// Nothing is known about the log after the cursor. `in_parts` is from the file.
    pub(super) fn after(cursor: Place, most: PullSize, in_parts: bool) -> Self {
        Puller {
            most,
            pages: Pages::after(cursor, most),
            last_page_invalid: false,
            last_read: RequestId(0),
            in_parts,
            whole_lines: false,
        }
    }

    /// The log is another one, or was read by another process. Nothing of it counts as read:
    /// waiting pages are requested again.
    pub(super) fn begin_anew(&mut self, cursor: Place) {
        self.pages = Pages::after(cursor, self.most);
        self.last_read = RequestId(0);
    }

    /// Drops the waiting pages: the next page is requested from the cursor on.
    pub(super) fn restart(&mut self, cursor: Place) {
        self.pages.restart(cursor);
    }

    pub(super) fn place(&self) -> Place {
        self.pages.place()
    }

    pub(super) fn head(&self) -> Seq {
        self.pages.head()
    }

    /// The part of the log to request next.
    pub(super) fn range(&self) -> LogRange {
        self.pages.range()
    }

    /// The short forms that its lines may have. `held` are own events that wait for their verdict,
    /// and `layouts` are those of the local tables.
    pub(super) fn lean(
        &mut self,
        held: Option<Held>,
        layouts: impl FnOnce() -> Vec<Layout>,
    ) -> Option<Lean> {
        self.whole_lines &= !self.is_at_end();
        let known = self.pages.head().0.saturating_sub(self.pages.place().seq.0);
        let is_long = usize::try_from(known).is_ok_and(|known| known >= self.most.lean);
        let held = held.filter(|held| held.len() >= self.most.echoes);
        if self.whole_lines || !(is_long || held.is_some()) {
            return None;
        }
        let layouts = if is_long { layouts() } else { Vec::new() };
        Some(Lean { held, layouts })
    }

    /// The page at the cursor lacks values that are not here: request whole lines.
    pub(super) fn ask_whole_lines(&mut self) {
        self.whole_lines = true;
    }

    /// Whether the waiting pages were requested with whole lines.
    pub(super) fn asks_whole_lines(&self) -> bool {
        self.whole_lines
    }

    pub(super) fn has_room(&self) -> bool {
        self.pages.has_room()
    }

    /// Whether the log is known to go on.
    pub(super) fn more(&self) -> bool {
        self.pages.more()
    }

    /// Whether a page waits to be integrated.
    pub(super) fn has_page(&self) -> bool {
        self.pages.front().is_some()
    }

    /// Whether all of the known log is integrated.
    pub(super) fn is_at_end(&self) -> bool {
        !self.has_page() && !self.more()
    }

    pub(super) fn is_joining(&self) -> bool {
        self.pages.is_joining()
    }

    /// The log continues: something was pushed, or was found there.
    pub(super) fn expect(&mut self) {
        self.pages.expect();
    }

    /// An answer to the request `id` arrived. Returns whether it brought anything new.
    ///
    /// # Errors
    ///
    /// `Corrupt` when a chunk does not belong to its line.
    pub(super) fn came_in(
        &mut self,
        id: RequestId,
        page: Page,
        chunk: Option<ReceivedChunk>,
        head: Seq,
    ) -> Result<bool> {
        let new = self.pages.came_in(page, chunk, head)?;
        self.last_read = id;
        Ok(new)
    }

    pub(super) fn last_read(&self) -> RequestId {
        self.last_read
    }

    /// The part to integrate next: see [`Pages::part`].
    pub(super) fn part(&self, events: usize) -> Option<(Page, Offset)> {
        self.pages.part(events)
    }

    pub(super) fn integrated(&mut self, end: Offset) {
        self.pages.integrated(end);
    }

    /// See [`Pages::lengthen`].
    pub(super) fn lengthen(&mut self, end: Offset) -> bool {
        self.pages.lengthen(end)
    }

    /// See [`Pages::too_large`].
    pub(super) fn too_large(&mut self) -> bool {
        self.pages.too_large()
    }

    /// A page could not be read.
    pub(super) fn page_was_invalid(&mut self) {
        self.last_page_invalid = true;
    }

    pub(super) fn is_last_page_invalid(&self) -> bool {
        self.last_page_invalid
    }

    /// A page could be read, or there is none. Returns whether the last one could not.
    pub(super) fn page_was_valid(&mut self) -> bool {
        std::mem::take(&mut self.last_page_invalid)
    }

    /// Whether a large transaction arrives in parts, if that differs from the file's record, which
    /// must then be changed.
    pub(super) fn new_in_parts(&mut self) -> Option<bool> {
        let in_parts = self.pages.in_parts();
        (std::mem::replace(&mut self.in_parts, in_parts) != in_parts).then_some(in_parts)
    }
}
