//! The rows of tables of both sides, compared and counted.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::{Kind, Result};
use crate::protocol::compare::{ComparedTable, Comparison, Difference};
use crate::remote::Batch;
use crate::store::{Judge, PlainFile};
use crate::sync::adoption::report::{ColumnDifference, TablePreview};
use crate::sync::adoption::twins::Uniques;
use crate::sync::verify::requests::Requests;

/// What was found of one table.
struct Count {
    preview: TablePreview,
    columns: BTreeMap<String, u64>,
    uniques: Uniques,
}

impl Count {
    fn of(table: &ComparedTable) -> Count {
        let preview = TablePreview { table: table.name().to_owned(), ..TablePreview::default() };
        Count { preview, columns: BTreeMap::new(), uniques: Uniques::of(table) }
    }

    fn add(&mut self, found: Difference, judge: &Judge<'_>) -> Result<()> {
        let preview = &mut self.preview;
        match (&found.local, &found.remote) {
            (Some(mine), None) => {
                preview.only_here += 1;
                self.uniques.local(&found.key, mine);
            }
            (None, Some(theirs)) => {
                preview.only_there += 1;
                self.uniques.remote(&found.key, theirs);
            }
            (Some(mine), Some(theirs)) => {
                preview.different += 1;
                if judge.takes_local(&preview.table, mine, theirs)? {
                    preview.takes_local += 1;
                    self.uniques.local(&found.key, mine);
                } else {
                    self.uniques.remote(&found.key, theirs);
                }
                for column in found.columns {
                    *self.columns.entry(column).or_default() += 1;
                }
            }
            (None, None) => {}
        }
        Ok(())
    }

    fn finish(self) -> TablePreview {
        let columns = self.columns.into_iter();
        let columns = columns.map(|(column, rows)| ColumnDifference { column, rows }).collect();
        TablePreview { columns, twins: self.uniques.twins(), ..self.preview }
    }
}

/// Compares tables of both sides. `watch` is told how many rows are compared, and how many are
/// here.
///
/// # Errors
///
/// The remote's, and `Storage` when the database fails.
pub(super) fn compare(
    file: &PlainFile,
    tables: Arc<[ComparedTable]>,
    brings_powers: bool,
    judge: &Judge<'_>,
    requests: &mut Requests,
    watch: &mut dyn FnMut(u64, u64),
) -> Result<Vec<TablePreview>> {
    let mut counts: Vec<_> = tables.iter().map(Count::of).collect();
    let mut comparison = Comparison::of_strangers(Arc::clone(&tables), brings_powers);
    loop {
        let mut snapshot = file.snapshot(&tables)?;
        let Some(statements) = comparison.ask(&mut snapshot)? else { break };
        let batch = Batch { statements, writes: false };
        match requests.send(&batch, || comparison.meanwhile(&mut snapshot)) {
            Ok(answer) => comparison.answered(&mut snapshot, &answer.rows)?,
            Err(error) => match error.kind() {
                Kind::Rejected if comparison.without_digests() => {
                    tracing::info!("the remote has no hash, so its rows are read: {error}");
                }
                Kind::TooLarge if comparison.too_large() => {}
                _ => return Err(error),
            },
        }
        for found in comparison.take_found() {
            let at = tables.iter().position(|table| table.name() == found.table);
            if let Some(at) = at {
                counts[at].add(found, judge)?;
            }
        }
        let (done, all) = comparison.progress();
        watch(done, all);
    }
    for (count, covered) in counts.iter_mut().zip(comparison.coverage()) {
        count.preview.equal = covered.rows - covered.differing;
        count.preview.only_there += covered.counted;
        count.preview.unnamed = covered.unnamed;
    }
    Ok(counts.into_iter().map(Count::finish).collect())
}
