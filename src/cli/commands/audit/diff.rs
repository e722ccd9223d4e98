//! `driftless diff`.

use clap::{Args, ValueEnum};

use super::history::counted;
use crate::cli::exit::Exit;
use crate::cli::output::change::{Page, lines};
use crate::cli::output::{Output, Tone, clean};
use crate::cli::session::Session;
use crate::error::{Error, Result};
use crate::event::RowKey;
use crate::inspect::{Condition, DiffCount, PointRange, Replica, RowChange, RowChangeView};

/// The arguments of `diff`.
#[derive(Debug, Args)]
pub(crate) struct DiffArgs {
    /// The two points: A..B, or A alone for A..now. A point is a seq, an event's id, a time, a
    /// date, an age such as 2h, `yesterday`, `today` or `now`
    #[arg(value_name = "A..B", value_parser = range)]
    range: PointRange,
    /// Only rows of this table
    #[arg(value_name = "TABLE")]
    table: Option<String>,
    /// Only this row
    #[arg(value_name = "KEY", allow_hyphen_values = true)]
    key: Option<String>,
    /// How to print it
    #[arg(short = 'r', long = "result", value_name = "FORM", value_enum, default_value = "table")]
    form: Form,
    /// Count the rows of each table instead
    #[arg(long)]
    stat: bool,
    /// Only rows for which this SQL holds; it may name tbl, key, op, before and after (JSON)
    #[arg(long = "where", value_name = "SQL")]
    condition: Option<String>,
}

/// The forms of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// Lines for people
    Table,
    /// An object a line
    Json,
    /// Statements that make A into B
    Sql,
    /// A page for a browser
    Html,
}

/// Parses two points. The error says how to write them.
fn range(text: &str) -> std::result::Result<PointRange, String> {
    text.parse().map_err(|error: Error| match error.hint() {
        Some(hint) => format!("{error}\n  {hint}"),
        None => error.to_string(),
    })
}

/// Prints the rows that differ.
///
/// # Errors
///
/// `Usage` when a point or a table is not known here, `Storage` when the database fails.
pub(crate) fn diff(session: &Session, args: &DiffArgs) -> Result<Exit> {
    let replica = session.replica()?;
    let output = session.output();
    let form = if output.is_json() { Form::Json } else { args.form };
    let condition = args.condition.as_deref().map(Condition::of_rows).transpose()?;
    let key = match (&args.table, &args.key) {
        (Some(table), Some(key)) => Some(replica.key(table, key)?),
        _ => None,
    };
    let mut printer = Printer::new(&replica, output, form, args.stat);
    each(&replica, output, args, key.as_ref(), &mut |change| match &condition {
        Some(condition) if !condition.takes_row(&change)? => Ok(()),
        _ => printer.print(&change),
    })?;
    printer.finish()?;
    Ok(Exit::Success)
}

fn each(
    replica: &Replica<'_>,
    output: &Output,
    args: &DiffArgs,
    key: Option<&RowKey>,
    visit: &mut dyn FnMut(RowChange) -> Result<()>,
) -> Result<()> {
    let (from, to) = (replica.point(args.range.from)?, replica.point(args.range.to)?);
    let spinner = output.spinner("reading the log");
    let mut watch = |events: u64| spinner.progress(format!("{events} events read"));
    replica.diff(from, to, args.table.as_deref(), key, &mut watch, visit)
}

/// Prints changed rows as they come.
struct Printer<'a> {
    replica: &'a Replica<'a>,
    output: &'a Output,
    form: Form,
    stat: bool,
    counts: Vec<DiffCount>,
}

impl<'a> Printer<'a> {
    fn new(replica: &'a Replica<'a>, output: &'a Output, form: Form, stat: bool) -> Self {
        Printer { replica, output, form, stat, counts: Vec::new() }
    }

    fn print(&mut self, change: &RowChange) -> Result<()> {
        let is_first = self.counts.is_empty();
        if self.counts.last().is_none_or(|last| last.table != change.table) {
            let table = change.table.clone();
            self.counts.push(DiffCount { table, ..DiffCount::default() });
        }
        self.counts.last_mut().expect("it has just been pushed").add(change);
        if self.stat {
            return Ok(());
        }
        match self.form {
            Form::Json => self.output.json(&RowChangeView::of(change)),
            Form::Sql => self.output.line(self.replica.change_sql(change)),
            Form::Html => {
                if is_first {
                    self.output.line(Page::head("Changed rows"))?;
                }
                self.output.line(Page::row(change))
            }
            Form::Table => {
                if !is_first {
                    self.output.line("")?;
                }
                let (tone, first, rest) = lines(change);
                self.output.row(tone, &first)?;
                rest.iter().try_for_each(|line| self.output.row(Tone::Plain, line))
            }
        }
    }

    fn finish(self) -> Result<()> {
        let total: u64 =
            self.counts.iter().map(|one| one.inserted + one.deleted + one.updated).sum();
        if self.stat && self.form == Form::Json {
            return self.counts.iter().try_for_each(|count| self.output.json(count));
        }
        if self.form == Form::Html && !self.stat {
            if total == 0 {
                self.output.line(Page::head("Changed rows"))?;
            }
            self.output.line(Page::foot(total))?;
        }
        if total == 0 {
            self.output.note("nothing differs");
        } else if self.stat {
            let row = |count: &DiffCount| {
                let numbers = [count.inserted, count.updated, count.values, count.deleted];
                let mut row = vec![clean(&count.table, usize::MAX)];
                row.extend(numbers.iter().map(u64::to_string));
                (Tone::Plain, row)
            };
            let rows: Vec<_> = self.counts.iter().map(row).collect();
            self.output.table(&["table", "inserted", "updated", "values", "deleted"], &rows)?;
        } else if self.form == Form::Table {
            let rows = usize::try_from(total).unwrap_or(usize::MAX);
            self.output.note(format_args!("{} changed", counted(rows, "row")));
        }
        Ok(())
    }
}
