//! What a first sync and a dry run say in the same words.

use crate::catalog::{LeftOut, Why};
use crate::cli::output::{Output, Tone, clean};
use crate::error::Result;
use crate::inspect::Orphans;

/// Characters of a table's name that are shown.
pub(in crate::cli) const NAME_CHARS: usize = 40;

/// The tables that are not replicated, each with the reason. Those that were not named are on one
/// line.
pub(super) fn print_left_out(output: &Output, left_out: &[LeftOut]) -> Result<()> {
    let (unnamed, told): (Vec<_>, Vec<_>) =
        left_out.iter().partition(|found| found.why == Why::NotNamed);
    for found in told {
        let (table, reason) = (clean(&found.table, NAME_CHARS), clean(&found.reason, usize::MAX));
        output.line(Tone::Notable.paint(format_args!("left out   `{table}`: {reason}")))?;
    }
    if !unnamed.is_empty() {
        let names: Vec<_> = unnamed.iter().map(|found| found.table.as_str()).collect();
        let names = clean(&names.join(", "), usize::MAX);
        output.line(format_args!("not named  {names}"))?;
    }
    Ok(())
}

/// What is said of rows without a parent.
pub(super) fn clean_words(orphans: &Orphans) -> String {
    clean(&orphans.words(), usize::MAX)
}
