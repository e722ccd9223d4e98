//! What is looked at of a replica's own log: it is the remote's, sealed and chained.

use std::collections::HashSet;

use driftless::event::frame::{Hash, Sealed, chain, open};
use driftless::event::{Event, Seq};

use super::sql::number;
use super::world::{Checked, World};

/// A frame as it stands in the local log.
struct Frame {
    seq: i64,
    own: bool,
    sealed: Sealed,
    hash: Vec<u8>,
}

impl World {
    /// Looks at the frames that are new.
    pub(super) fn observe_frames(&mut self, at: usize, last: i64, cursor: i64) -> Checked {
        self.observe_overlooked(at, last)?;
        if cursor > last {
            self.observe_log(at, last, cursor)?;
            self.observe_overlooked(at, cursor)?;
        }
        let frames = number(&self.replicas[at].db, "SELECT count(*) FROM driftless_log");
        match frames - self.watches[at].frames {
            0 => Ok(()),
            more => Err(format!("{more} frames of its log are not chained behind the newest one")),
        }
    }

    /// The frames after one event and up to another.
    fn frames(&self, at: usize, after: i64, up_to: i64) -> Vec<Frame> {
        let sql = "SELECT seq, own, header, vals, hash FROM driftless_log \
                   WHERE seq > ?1 AND seq <= ?2 ORDER BY seq";
        let mut statement = self.replicas[at].db.prepare_cached(sql).unwrap();
        let frame = |line: &rusqlite::Row<'_>| {
            let sealed = Sealed { header: line.get(2)?, values: line.get(3)? };
            Ok(Frame { seq: line.get(0)?, own: line.get(1)?, sealed, hash: line.get(4)? })
        };
        statement.query_map([after, up_to], frame).unwrap().map(Result::unwrap).collect()
    }

    /// Whether a frame is an event of the remote's.
    fn check_frame(&self, at: usize, frame: &Frame, event: &Event) -> Checked {
        let seq = frame.seq;
        let here = open(&frame.sealed, Seq(seq)).map_err(|error| format!("{error:?}"))?;
        if here != *event {
            return Err(format!("event {seq} is {here:?} here, and {event:?} on the remote"));
        }
        if frame.own != self.watches[at].mine.contains(&event.id) {
            return Err(format!("event {seq} is taken for another writer's, or for one's own"));
        }
        Ok(())
    }

    /// The stretch of the local log that is new.
    fn observe_log(&mut self, at: usize, last: i64, cursor: i64) -> Checked {
        let mut wanted = self.log.range(last + 1..=cursor);
        let mut head = self.watches[at].chain;
        let found = self.frames(at, last, i64::MAX);
        for frame in &found {
            let seq = frame.seq;
            let Some((_, event)) = wanted.next().filter(|(wanted, _)| **wanted == seq) else {
                return Err(format!("the local log goes on with event {seq}"));
            };
            self.check_frame(at, frame, event)?;
            head = chain(&head, &frame.sealed);
            if frame.hash != head {
                return Err(format!("the chain breaks at event {seq}"));
            }
        }
        if let Some((missing, _)) = wanted.next() {
            return Err(format!(
                "event {missing} is not in the local log, and the cursor is behind it"
            ));
        }
        self.watches[at].chain = head;
        self.watches[at].frames += found.len() as i64;
        Ok(())
    }

    /// An acceptance gives pending events other numbers. Where a copy of the file pushes one under the
    /// number that it had, that is the copy's event: this file has it no more.
    pub(super) fn forget_renumbered(&mut self, at: usize) {
        let own = self.frames(at, 0, i64::MAX).into_iter().filter(|frame| frame.own);
        let own = own.filter_map(|frame| open(&frame.sealed, Seq(frame.seq)).ok());
        let known: HashSet<_> =
            own.map(|event| event.id).chain(self.watches[at].pending()).collect();
        self.watches[at].mine.retain(|id| known.contains(id));
    }

    /// Own events that the cursor had passed without them: where a copy of this file had pushed what
    /// both have pending to a remote that was made anew, before this file took that in. Such an event
    /// is sealed in its place, and chained behind the newest frame of that moment.
    fn observe_overlooked(&mut self, at: usize, cursor: i64) -> Checked {
        let sql = format!("SELECT count(*) FROM driftless_log WHERE seq <= {cursor}");
        while self.watches[at].frames < number(&self.replicas[at].db, &sql) {
            let head: Hash = self.watches[at].chain;
            let found = self.frames(at, 0, cursor);
            let next = |frame: &&Frame| frame.hash == chain(&head, &frame.sealed);
            let Some(frame) = found.iter().find(next) else { return Ok(()) };
            let Some(event) = self.log.get(&frame.seq) else {
                return Err(format!("event {} of its log is none of the remote's", frame.seq));
            };
            self.check_frame(at, frame, event)?;
            self.watches[at].chain = chain(&head, &frame.sealed);
            self.watches[at].frames += 1;
            self.seen.note("an overlooked event is settled");
        }
        Ok(())
    }
}
