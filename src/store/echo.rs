//! Restores the values of own events in a page that came without them.
//!
//! The remote leaves the values out if the request has said that they are here ([`Store::held`]).
//! This was true of the file at that time. They are looked up again, by id, when the page is
//! integrated: meanwhile the file may have been restored, and a copy of it may have pushed other
//! events with the same numbers.

use std::borrow::Cow;

use crate::error::Result;
use crate::event::Origin;
use crate::event::page::Page;
use crate::event::page::echo::{Echo, Pushed, complete, has_echoes};
use crate::event::page::unfold::Layout;
use crate::protocol::Held;
use crate::store::Store;
use crate::store::outbox::reader::Reader;
use crate::store::outbox::row::{EVENT, read};

impl Store {
    /// The own events whose values the remote need not send: those that wait for their verdict
    /// here.
    pub fn held(&self) -> Result<Option<Held>> {
        let end = |order| {
            format!("SELECT n FROM driftless_outbox WHERE NOT settled ORDER BY n {order} LIMIT 1")
        };
        let sql = format!("SELECT ({}), ({})", end("ASC"), end("DESC"));
        let mut statement = self.db.prepare_cached(&sql)?;
        let (first, last) =
            statement.query_row([], |row| Ok((row.get::<_, Option<i64>>(0)?, row.get(1)?)))?;
        Ok(first.zip(last).map(|(first, last)| Held { replica: self.id, first, last }))
    }

    /// The replicated tables with their columns, spelled as in events.
    pub fn event_layouts(&self) -> Vec<Layout> {
        let layout = |(table, columns)| Layout { table, columns };
        self.columns().into_iter().map(layout).collect()
    }

    /// The page, with a whole line instead of each echo, as the remote would have sent it. `None`
    /// if the event of an echo is not pending here.
    pub fn completed<'p>(&self, page: &'p Page) -> Result<Option<Cow<'p, Page>>> {
        if !has_echoes(&page.bytes) {
            return Ok(Some(Cow::Borrowed(page)));
        }
        let sql = format!("SELECT {EVENT} FROM driftless_outbox WHERE n = ?1 AND NOT settled");
        let mut statement = self.db.prepare_cached(&sql)?;
        let mut reader = Reader::of_values(&self.db, self.outbox.layouts());
        let origin = Origin::Replica(self.id);
        let bytes = complete(&page.bytes, |echo: &Echo<'_>, out| {
            let mut rows = statement.query([echo.id().outbox_number()])?;
            let Some(row) = rows.next()? else { return Ok(false) };
            let event = read(&mut reader, row)?.into_event();
            let pushed = Pushed {
                origin,
                actor: event.actor.as_deref(),
                table: &event.table,
                key: &event.key,
                op: event.op,
                before: event.before.as_deref(),
                after: event.after.as_deref(),
            };
            Ok(event.id == echo.id() && echo.write(&pushed, out))
        });
        Ok(bytes?.map(|bytes| Cow::Owned(Page { bytes, ..*page })))
    }
}
