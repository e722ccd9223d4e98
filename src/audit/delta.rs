//! What a stretch of the log did to one row: what is known of the row in front of it and behind it.
//!
//! A row's events say more than their own columns. The first event that changes a column has its
//! value in front of the stretch, the last one its value behind it. An insert says that the row was
//! not there; a delete has the whole row. So two points are compared, or the tables of a former
//! moment rebuilt, from the events in between alone.
//!
//! Some events do not say all of it: an update without old values (it was too large to travel, or a
//! trigger wrote more than it had told), a consequence that deleted a row which may have been gone,
//! and one whose writer had changed the row before, and lost. Then the delta is *unsure*, and
//! the caller asks the row's earlier events ([`fold`]).

use crate::event::value::Value;
use crate::event::{Event, Image, Op};

/// What is known of a row at a point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// It was not there.
    Absent,
    /// It was there, with these values; with the others too if `whole`.
    Row {
        /// The columns that are known.
        image: Image,
        /// Whether these are all.
        whole: bool,
    },
}

/// What a stretch of the log did to a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Delta {
    start: Known,
    end: Known,
    unsure: bool,
}

/// A change of a row, settled or pending.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step<'a> {
    /// What it did.
    op: Op,
    /// The old values.
    before: Option<&'a Image>,
    /// The new values.
    after: Option<&'a Image>,
    /// Whether another event made it, which may have found the row gone.
    is_consequence: bool,
}

impl<'a> Step<'a> {
    /// A change by itself, with the old and the new values.
    pub(crate) fn new(op: Op, before: Option<&'a Image>, after: Option<&'a Image>) -> Self {
        Step { op, before, after, is_consequence: false }
    }

    /// What a settled event did.
    pub(crate) fn of(event: &'a Event) -> Self {
        Step {
            op: event.op,
            before: event.before.as_ref(),
            after: event.after.as_ref(),
            is_consequence: event.via.is_some() || event.cause.is_some(),
        }
    }
}

/// The value of a column, whatever the case of its name.
pub(crate) fn get<'i>(image: &'i Image, name: &str) -> Option<&'i Value> {
    image.0.iter().find(|(mine, _)| mine.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// Sets the columns that `other` has to its values.
pub(crate) fn overlay(image: &mut Image, other: &Image) {
    for (name, value) in &other.0 {
        match image.0.iter_mut().find(|(mine, _)| mine.eq_ignore_ascii_case(name)) {
            Some((_, mine)) => *mine = value.clone(),
            None => image.0.push((name.clone(), value.clone())),
        }
    }
}

/// Sets the columns that `image` lacks to the values that `other` has.
pub(crate) fn underlay(image: &mut Image, other: &Image) {
    for (name, value) in &other.0 {
        if get(image, name).is_none() {
            image.0.push((name.clone(), value.clone()));
        }
    }
}

impl Delta {
    /// The delta of a stretch with one event.
    pub(crate) fn first(step: Step<'_>) -> Delta {
        let (before, after) = (step.before.cloned(), step.after.cloned());
        let bare = before.as_ref().is_none_or(|image| image.0.is_empty());
        match step.op {
            Op::Insert => Delta {
                start: Known::Absent,
                end: Known::Row { image: after.unwrap_or_default(), whole: true },
                unsure: step.after.is_none(),
            },
            Op::Update => {
                let (before, after) = (before.unwrap_or_default(), after.unwrap_or_default());
                let unsure = after.0.iter().any(|(name, _)| get(&before, name).is_none());
                Delta {
                    start: Known::Row { image: before, whole: false },
                    end: Known::Row { image: after, whole: false },
                    unsure: unsure || step.after.is_none(),
                }
            }
            Op::Delete => Delta {
                start: Known::Row { image: before.unwrap_or_default(), whole: true },
                end: Known::Absent,
                unsure: bare || step.is_consequence,
            },
        }
    }

    /// Lengthens the stretch by an event.
    pub(crate) fn then(&mut self, step: Step<'_>) {
        match (step.op, &mut self.end) {
            // An action of a foreign key on a row whose key changes is logged in front of the
            // insert under the new key, which has it already. So the row was not there yet.
            (Op::Insert, Known::Row { whole: false, .. }) => {
                *self = Delta::first(step);
            }
            (Op::Insert, end) => {
                *end = Known::Row { image: step.after.cloned().unwrap_or_default(), whole: true };
            }
            (Op::Update | Op::Delete, Known::Absent) => {}
            (Op::Update, Known::Row { image, .. }) => {
                let empty = Image::default();
                let (before, after) = (step.before.unwrap_or(&empty), step.after.unwrap_or(&empty));
                if let Known::Row { image: start, whole: false } = &mut self.start {
                    // A column that an earlier event changed is in both images.
                    for (name, _) in &after.0 {
                        if get(image, name).is_some() || get(start, name).is_some() {
                            continue;
                        }
                        match get(before, name) {
                            Some(value) => start.0.push((name.clone(), value.clone())),
                            None => self.unsure = true,
                        }
                    }
                }
                self.unsure |= step.after.is_none();
                overlay(image, after);
            }
            (Op::Delete, end) => {
                if let Known::Row { image, whole: whole @ false } = &mut self.start {
                    match step.before {
                        Some(before) => underlay(image, before),
                        None => self.unsure = true,
                    }
                    *whole = true;
                }
                *end = Known::Absent;
            }
        }
    }

    /// A delta that was put away.
    pub(crate) fn from_parts(start: Known, end: Known, unsure: bool) -> Delta {
        Delta { start, end, unsure }
    }

    /// What is known of the row in front of the stretch.
    pub(crate) fn start(&self) -> &Known {
        &self.start
    }

    /// What is known of it behind the stretch.
    pub(crate) fn end(&self) -> &Known {
        &self.end
    }

    /// Whether the events do not tell all about the row in front of the stretch.
    pub(crate) fn is_unsure(&self) -> bool {
        self.unsure
    }

    /// The same, unsure unless the row was not there.
    pub(crate) fn doubted(self) -> Delta {
        let unsure = self.unsure || self.start != Known::Absent;
        Delta { unsure, ..self }
    }

    /// The same with what the row's earlier events say of it in front of the stretch.
    pub(crate) fn with_start(mut self, start: Known) -> Delta {
        // What the stretch did to it is known from there on.
        if let (Known::Row { image, whole: true }, Known::Row { image: end, whole }) =
            (&start, &mut self.end)
            && !*whole
        {
            underlay(end, image);
            *whole = true;
        }
        Delta { start, unsure: false, ..self }
    }
}

/// The row behind these events of it, in their order. `None` if they do not tell: none of them is
/// an insert or a delete.
pub(crate) fn fold<'a>(events: impl IntoIterator<Item = &'a Event>) -> Option<Known> {
    let mut row = None;
    for event in events.into_iter().filter(|event| event.verdict.is_applied()) {
        match (event.op, &mut row) {
            (Op::Insert, row) => {
                let image = event.after.clone()?;
                *row = Some(Known::Row { image, whole: true });
            }
            (Op::Delete, row) => *row = Some(Known::Absent),
            (Op::Update, Some(Known::Row { image, .. })) => overlay(image, event.after.as_ref()?),
            (Op::Update, _) => {}
        }
    }
    row
}

/// How a row differs between two points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Net {
    /// It has come, with these values.
    Inserted(Image),
    /// It has gone; it had these values.
    Deleted(Image),
    /// These columns had and have these values.
    Updated(Image, Image),
}

/// What is left of a delta when values that came back are left out. `None` if nothing is.
pub(crate) fn net(delta: &Delta) -> Option<Net> {
    match (&delta.start, &delta.end) {
        (Known::Absent, Known::Absent) => None,
        (Known::Absent, Known::Row { image, .. }) => Some(Net::Inserted(image.clone())),
        (Known::Row { image, .. }, Known::Absent) => Some(Net::Deleted(image.clone())),
        (Known::Row { image: start, .. }, Known::Row { image: end, .. }) => {
            let changed = |(name, value): &&(String, Value)| get(start, name) != Some(value);
            let after: Vec<_> = end.0.iter().filter(changed).cloned().collect();
            let before = after.iter().filter_map(|(name, _)| {
                get(start, name).map(|value| (name.clone(), value.clone()))
            });
            let before = Image(before.collect());
            (!after.is_empty()).then_some(Net::Updated(before, Image(after)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(columns: &[(&str, i64)]) -> Image {
        let column = |(name, value): &(&str, i64)| ((*name).to_owned(), Value::Integer(*value));
        Image(columns.iter().map(column).collect())
    }

    fn step<'a>(op: Op, before: Option<&'a Image>, after: Option<&'a Image>) -> Step<'a> {
        Step::new(op, before, after)
    }

    fn delta(steps: &[Step<'_>]) -> Delta {
        let mut delta = Delta::first(steps[0]);
        steps[1..].iter().for_each(|step| delta.then(*step));
        delta
    }

    #[test]
    fn the_first_old_value_and_the_last_new_one_count() {
        let (a1, a2) = (image(&[("a", 1)]), image(&[("a", 2)]));
        let (a3, b5, b6) = (image(&[("A", 3)]), image(&[("b", 5)]), image(&[("b", 6)]));
        let one = step(Op::Update, Some(&a1), Some(&a2));
        let two = step(Op::Update, Some(&a2), Some(&a3));
        let other = step(Op::Update, Some(&b5), Some(&b6));
        let found = net(&delta(&[one, other, two]));
        let (before, after) = (image(&[("a", 1), ("b", 5)]), image(&[("a", 3), ("b", 6)]));
        assert_eq!(found, Some(Net::Updated(before, after)));
        let back = step(Op::Update, Some(&a2), Some(&a1));
        assert_eq!(net(&delta(&[one, back])), None, "it came back");
    }

    #[test]
    fn a_delete_tells_the_columns_that_nothing_changed() {
        let (a1, a2) = (image(&[("a", 1)]), image(&[("a", 2)]));
        let row = image(&[("a", 2), ("b", 5)]);
        let update = step(Op::Update, Some(&a1), Some(&a2));
        let gone = delta(&[update, step(Op::Delete, Some(&row), None)]);
        assert_eq!(net(&gone), Some(Net::Deleted(image(&[("a", 1), ("b", 5)]))));
        assert!(!gone.is_unsure());
        let again = image(&[("a", 1), ("b", 5)]);
        let mut back = gone;
        back.then(step(Op::Insert, None, Some(&again)));
        assert_eq!(net(&back), None, "the same row stands there again");
    }

    #[test]
    fn a_row_that_came_and_went_leaves_nothing() {
        let row = image(&[("a", 1)]);
        let come = step(Op::Insert, None, Some(&row));
        assert_eq!(net(&delta(&[come, step(Op::Delete, Some(&row), None)])), None);
        assert_eq!(net(&delta(&[come])), Some(Net::Inserted(row.clone())));
    }

    #[test]
    fn what_is_logged_in_front_of_a_new_key_is_no_row_yet() {
        let (a1, a2) = (image(&[("a", 1)]), image(&[("a", 2)]));
        let early = step(Op::Update, Some(&a1), Some(&a2));
        let found = delta(&[early, step(Op::Insert, None, Some(&a2))]);
        assert_eq!(net(&found), Some(Net::Inserted(a2.clone())));
    }

    #[test]
    fn what_does_not_tell_all_is_unsure() {
        let (none, row) = (Image::default(), image(&[("a", 1)]));
        assert!(delta(&[step(Op::Update, Some(&none), Some(&row))]).is_unsure());
        let gone = Step { is_consequence: true, ..step(Op::Delete, Some(&row), None) };
        assert!(delta(&[gone]).is_unsure());
        let sure = delta(&[gone]).with_start(Known::Absent);
        assert_eq!((net(&sure), sure.is_unsure()), (None, false));
    }
}
