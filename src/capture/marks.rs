//! The statements and triggers that leave marks of parents that are about to go: see `leaving.rs`.

use super::layout::{Layout, generated_references};
use super::leaving::{LEAVING, Target, label, place, spelled, targets};
use super::triggers::{Dialect, Generator, Trigger, update_event};
use crate::catalog::quote::ident;
use crate::catalog::sql::of;

impl<S: Dialect> Generator<'_, S> {
    fn targets(&self) -> Vec<Target<'_>> {
        targets(self.table(), self.replicated())
    }

    fn mark(&self, target: &Target<'_>, from: &str, value: &dyn Fn(&str) -> String) -> String {
        let value = |at: usize| value(target.columns()[at]);
        let evicted = u8::from(!from.is_empty());
        format!(
            "INSERT INTO {LEAVING} (tbl, evicted, {}) SELECT {}, {evicted}, {}{from};",
            place(self.table(), target.columns()),
            label(self.table(), target.columns()),
            spelled(self.table(), target.columns(), &value),
        )
    }

    fn unmark(&self, target: &Target<'_>) -> String {
        let value = |at: usize| of("old", self.table().present(target.columns()[at]));
        format!(
            "DELETE FROM {LEAVING} WHERE tbl = {} AND {} IS {};",
            label(self.table(), target.columns()),
            place(self.table(), target.columns()),
            spelled(self.table(), target.columns(), &value),
        )
    }

    /// The statements that remove the marks of a row that has been deleted.
    pub(super) fn unmark_deleted(&self) -> Vec<String> {
        let targets = self.targets();
        targets.iter().filter(|to| to.on_delete()).map(|to| self.unmark(to)).collect()
    }

    /// The statements that mark the rows that a REPLACE by the row `by` may evict. They have
    /// before-images.
    pub(super) fn mark_evicted(&self, by: &str) -> Vec<String> {
        let places = self.places();
        let before_images = self.before_images();
        let noted = |name: &str| {
            let at = places.iter().position(|known| known.eq_ignore_ascii_case(name));
            format!("driftless_note.{}", Layout::before_image_column(at.expect("it is captured")))
        };
        let from = format!(
            " FROM {before_images} AS driftless_note WHERE driftless_note.tbl = {} \
             AND driftless_note.own = 0 AND driftless_note.by IS {by}",
            self.name()
        );
        let targets = self.targets();
        let deleted = targets.iter().filter(|target| target.on_delete());
        deleted.map(|target| self.mark(target, &from, &noted)).collect()
    }

    /// The statements that remove the marks of evicted rows.
    pub(super) fn unmark_evicted(&self) -> Vec<String> {
        let targets = self.targets();
        let one = |target: &Target<'_>| {
            let label = label(self.table(), target.columns());
            format!("DELETE FROM {LEAVING} WHERE tbl = {label} AND evicted;")
        };
        targets.iter().filter(|target| target.on_delete()).map(one).collect()
    }

    /// The captured columns, in the order in which a before-image has them.
    fn places(&self) -> Vec<String> {
        let made = generated_references(self.table(), self.replicated());
        self.table().column_names().map(str::to_owned).chain(made).collect()
    }

    /// The triggers that mark a row, and remove the mark of a row whose columns have changed.
    pub(super) fn leaving(&self) -> Vec<Trigger> {
        let targets = self.targets();
        let mut triggers = Vec::new();
        let old = |name: &str| of("old", self.table().present(name));
        let deleted: Vec<_> = targets
            .iter()
            .filter(|target| target.on_delete())
            .map(|target| self.mark(target, "", &old))
            .collect();
        if !deleted.is_empty() {
            triggers.push(self.trigger("leave", "BEFORE DELETE", "", &deleted));
        }
        let moved: Vec<_> = targets.iter().filter(|target| target.on_update()).collect();
        if moved.is_empty() {
            return triggers;
        }
        let mut names: Vec<&str> =
            moved.iter().flat_map(|target| target.columns().to_vec()).collect();
        names.sort_unstable();
        names.dedup();
        let present = |name: &str| self.table().present(name).to_owned();
        let changed = |name: &&str| format!("new.{0} IS NOT old.{0}", ident(&present(name)));
        let when = names.iter().map(changed).collect::<Vec<_>>().join(" OR ");
        // `SET rowid = …` names no column, and neither does a change of a generated one.
        let are_plain =
            !self.table().rowid_key && names.iter().all(|name| self.table().column(name).is_some());
        let of = are_plain.then(|| names.iter().map(|name| present(name)).collect::<Vec<_>>());
        let marks: Vec<_> = moved.iter().map(|target| self.mark(target, "", &old)).collect();
        let event = update_event("BEFORE UPDATE", of);
        triggers.push(self.trigger("leave_update", &event, &when, &marks));
        let removed: Vec<_> = moved.iter().map(|target| self.unmark(target)).collect();
        let when = format!("EXISTS (SELECT 1 FROM {LEAVING})");
        triggers.push(self.trigger("left_update", "AFTER UPDATE", &when, &removed));
        triggers
    }
}
