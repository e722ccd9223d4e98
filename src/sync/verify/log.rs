//! The comparison of the local log with the remote's, by ranges of seqs.

use std::collections::BTreeMap;

use crate::error::{Kind, Result};
use crate::event::Seq;
use crate::protocol::Statement;
use crate::protocol::compare::{Digest, log_digests, log_lines, read_digests, read_log_lines};
use crate::remote::{Answer, Batch};
use crate::store::{LogCheck, Store};
use crate::sync::verify::report::LogDifference;
use crate::sync::verify::requests::Requests;

/// The number of ranges in a request.
pub(in crate::sync) const RANGES: u64 = 320;
/// The most events of a range.
pub(in crate::sync) const RANGE_EVENTS: u64 = 10_000;
/// The number of events in a request that reads them.
const LINES: usize = 2_000;
/// The most events that are named.
const NAMED: usize = 1_000;

/// The number of events in a range of a log.
pub(in crate::sync) fn range_events(events: u64) -> u64 {
    (events / RANGES + 1).clamp(100, RANGE_EVENTS)
}

/// Compares the local log with the same part of the remote's.
///
/// # Errors
///
/// The errors of the remote; `Storage` when the database fails.
pub(in crate::sync) fn compare_logs(
    store: &Store,
    requests: &mut Requests,
    local: &LogCheck,
) -> Result<Vec<LogDifference>> {
    let Some((_, last)) = local.range else { return Ok(Vec::new()) };
    let ends = local.ranges.iter().skip(1).map(|(from, _)| *from).chain([Seq(last.0 + 1)]);
    let ranges: Vec<_> = local.ranges.iter().map(|(from, _)| *from).zip(ends).collect();
    let here: Vec<_> = local.ranges.iter().map(|(_, digest)| *digest).collect();
    let mut differing = Vec::new();
    for (ranges, here) in ranges.chunks(RANGES as usize).zip(here.chunks(RANGES as usize)) {
        let there = match requests.send(&read(log_digests(ranges)), || Ok(())) {
            Ok(answer) => read_digests(&result(&answer), ranges.len())?,
            // It lacks the function for the hash.
            Err(error) if error.kind() == Kind::Rejected => vec![Digest::default(); ranges.len()],
            Err(error) => return Err(error),
        };
        let unequal = ranges.iter().zip(here.iter().zip(&there)).filter(|(_, (a, b))| a != b);
        differing.extend(unequal.map(|(range, _)| *range));
    }
    let mut found = Vec::new();
    for (from, to) in differing {
        let mut from = from;
        while from < to && found.len() < NAMED {
            let answer = requests.send(&read(log_lines(from, to, LINES)), || Ok(()))?;
            let there = read_log_lines(&result(&answer))?;
            let end = if there.len() < LINES { to } else { Seq(there[LINES - 1].0.0 + 1) };
            compare_lines(store, from, end, there, &mut found)?;
            from = end;
        }
    }
    Ok(found)
}

fn compare_lines(
    store: &Store,
    from: Seq,
    to: Seq,
    there: Vec<(Seq, String)>,
    found: &mut Vec<LogDifference>,
) -> Result<()> {
    let mut there: BTreeMap<_, _> = there.into_iter().collect();
    for (seq, local) in store.outlines(from, to)? {
        let remote = there.remove(&seq);
        if remote.as_ref() != Some(&local) {
            found.push(LogDifference { seq, remote, local: Some(local) });
        }
    }
    for (seq, remote) in there {
        // An event that is not valid for this program has no frame.
        if !store.is_malformed(seq)? {
            found.push(LogDifference { seq, remote: Some(remote), local: None });
        }
    }
    found.sort_by_key(|difference| difference.seq);
    Ok(())
}

fn read(statement: Statement) -> Batch {
    Batch { statements: vec![statement], writes: false }
}

fn result(answer: &Answer) -> crate::remote::Rows {
    answer.rows.first().cloned().unwrap_or_default()
}
