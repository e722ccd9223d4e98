//! Everything that the command prints. Data goes to stdout; text for people goes to stderr.
//!
//! Colour is removed for a pipe and with `NO_COLOR`, and never carries information alone. Text from
//! a database goes through [`clean`], so that a row cannot move the cursor or repaint the screen.

pub(super) mod change;
pub(super) mod conflict;
pub(super) mod event;
pub(super) mod grid;
mod pager;
pub(super) mod version;

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anstyle::{AnsiColor, Style};
use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::json;

use self::pager::Pager;
use super::exit::Exit;
use crate::error::{Code, Error, Result};
use crate::sync::now_ms;

/// Time between two lines of progress where there is no terminal: a log of the output shows that
/// the work goes on.
const PLAIN_PROGRESS_MS: i64 = 15_000;
/// How often a spinner turns.
const SPINNER_TICK: Duration = Duration::from_millis(100);
/// The fewest characters of a listing's last column. A reason or a change can be understood in this
/// many.
const LAST_COLUMN: usize = 40;
/// How far the last column is indented on a line of its own.
const INDENT: usize = 10;

/// The meaning of a text, which decides its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    /// As it should be.
    Good,
    /// Worth a look.
    Notable,
    /// Wrong.
    Bad,
    /// A heading.
    Strong,
    /// Less important.
    Dim,
    /// No colour.
    Plain,
}

impl Tone {
    fn style(self) -> Style {
        match self {
            Tone::Good => AnsiColor::Green.on_default(),
            Tone::Notable => AnsiColor::Yellow.on_default(),
            Tone::Bad => AnsiColor::Red.on_default().bold(),
            Tone::Strong => Style::new().bold(),
            Tone::Dim => Style::new().dimmed(),
            Tone::Plain => Style::new(),
        }
    }

    /// `text` in this tone.
    pub(crate) fn paint(self, text: impl Display) -> String {
        let style = self.style();
        format!("{style}{text}{style:#}")
    }
}

/// Whether a character is unsafe to print: it moves the cursor, begins a line, or reverses the
/// order of the text after it.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// `text` with unsafe characters escaped, cut off after `most` characters.
pub(crate) fn clean(text: &str, most: usize) -> String {
    let mut out = String::with_capacity(text.len().min(most));
    for (count, c) in text.chars().enumerate() {
        if count == most {
            out.push('…');
            break;
        }
        if is_unsafe(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Where the command prints. A method fails when stdout is closed or its disk is full: see
/// [`is_closed`].
#[derive(Clone)]
pub(crate) struct Output {
    json: bool,
    /// The spinners on stderr, if that is a terminal. Lines are printed above them.
    bars: MultiProgress,
    /// Where lines of data go instead of stdout.
    pager: Option<Arc<Mutex<Pager>>>,
}

impl Output {
    /// Prints for people, or JSON.
    pub(crate) fn new(json: bool) -> Output {
        Output { json, bars: MultiProgress::new(), pager: None }
    }

    /// The same through a pager, on a terminal and not for JSON. The command waits for the pager's
    /// end when this is dropped.
    pub(crate) fn paged(&self) -> Output {
        let pager = if self.json { None } else { Pager::start() };
        Output { pager: pager.map(|pager| Arc::new(Mutex::new(pager))), ..self.clone() }
    }

    /// Whether JSON was asked for.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Whether stdout and stderr are a terminal, so that spinners may turn.
    pub(crate) fn is_live(&self) -> bool {
        io::stderr().is_terminal() && io::stdout().is_terminal() && !self.json
    }

    /// A line of data.
    pub(crate) fn line(&self, text: impl Display) -> Result<()> {
        if let Some(pager) = &self.pager {
            let mut pager = pager.lock().unwrap_or_else(PoisonError::into_inner);
            return pager.line(&text.to_string()).map_err(cannot_write);
        }
        self.bars
            .suspend(|| {
                let mut out = anstream::stdout().lock();
                writeln!(out, "{text}").and_then(|()| out.flush())
            })
            .map_err(cannot_write)
    }

    /// A row of a listing: one line, cut at the terminal's edge.
    pub(crate) fn row(&self, tone: Tone, text: &str) -> Result<()> {
        self.line(tone.paint(clean(text.trim_end(), columns())))
    }

    /// A row of a listing whose last column matters most. On a terminal without room for that
    /// column it goes on a line of its own.
    pub(crate) fn row_in_two(&self, tone: Tone, lead: &str, last: &str) -> Result<()> {
        for line in in_two(lead, last, columns()) {
            self.row(tone, &line)?;
        }
        Ok(())
    }

    /// A line of JSON.
    pub(crate) fn json(&self, value: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string(value).expect("what we print has text as its keys");
        self.line(text)
    }

    /// A line for people, on stderr; with `--json` an object with the text as its `note`.
    pub(crate) fn note(&self, text: impl Display) {
        match self.json {
            true => self.tell(json!({ "note": plain(text) })),
            false => self.tell(text),
        }
    }

    /// A warning; with `--json` an object with the text as its `warning`.
    pub(crate) fn warn(&self, text: impl Display) {
        match self.json {
            true => self.tell(json!({ "warning": plain(text) })),
            false => self.tell(format_args!("{} {text}", Tone::Notable.paint("warning:"))),
        }
    }

    /// Asks for a line, on stderr.
    pub(crate) fn prompt(&self, text: &str) {
        let mut err = anstream::stderr();
        // A closed stderr is no reason to fail.
        let _ = write!(err, "{text}").and_then(|()| err.flush());
    }

    fn tell(&self, line: impl Display) {
        self.bars.suspend(|| {
            // A closed stderr is no reason to fail.
            let _ = writeln!(anstream::stderr(), "{line}");
        });
    }

    /// An error, with its hint; with `--json` as one object: see [`JsonError`].
    pub(crate) fn error(&self, error: &Error) {
        if self.json {
            return self.failure(&JsonError {
                kind: error.kind().as_str(),
                code: error.code().as_str(),
                remote_code: error.remote_code(),
                message: error.message(),
                hint: error.hint(),
                exit: Exit::from(error.kind()).code(),
            });
        }
        self.note(format_args!(
            "{} {}",
            Tone::Bad.paint("error:"),
            clean(error.message(), usize::MAX)
        ));
        if let Some(hint) = error.hint() {
            self.note(format_args!(" {} {}", Tone::Good.paint("hint:"), clean(hint, usize::MAX)));
        }
    }

    /// The end of a command that a signal interrupts. `advice` says what was done and how to go on.
    pub(crate) fn interrupted(&self, advice: &str, exit: Exit) {
        if !self.json {
            return self.note(advice);
        }
        self.failure(&JsonError {
            kind: "interrupted",
            code: "interrupted",
            remote_code: None,
            message: advice,
            hint: None,
            exit: exit.code(),
        });
    }

    /// Prints the error of a command as JSON.
    fn failure(&self, error: &JsonError<'_>) {
        #[derive(Serialize)]
        struct Failure<'a> {
            error: &'a JsonError<'a>,
        }
        let line = serde_json::to_string(&Failure { error }).expect("it has text as its keys");
        self.tell(line);
    }

    /// The parser's output: the help, or what is wrong with the command line.
    pub(crate) fn usage(&self, error: &clap::Error) {
        if self.json && error.use_stderr() {
            let text = plain(error);
            let text = text.strip_prefix("error: ").unwrap_or(&text);
            let (message, rest) = text.split_once("\n\n").unwrap_or((text, ""));
            let (code, exit) = (Code::Usage, Exit::Usage.code());
            let (kind, code) = (code.kind().as_str(), code.as_str());
            let hint = Some(rest).filter(|rest| !rest.is_empty());
            let remote_code = None;
            return self.failure(&JsonError { kind, code, remote_code, message, hint, exit });
        }
        // A closed stderr is no reason to fail.
        let _ = error.print();
    }

    /// A table. Each row is one line.
    pub(crate) fn table(&self, header: &[&str], rows: &[(Tone, Vec<String>)]) -> Result<()> {
        let tones = std::iter::once(Tone::Strong).chain(rows.iter().map(|(tone, _)| *tone));
        for (line, tone) in lay_out(header, rows).lines().zip(tones) {
            self.row(tone, &line)?;
        }
        Ok(())
    }

    /// A table whose last column is a sentence. Where the terminal's edge would cut it, it goes on
    /// the next line, whole.
    pub(crate) fn listing(&self, header: &[&str], rows: &[(Tone, Vec<String>)]) -> Result<()> {
        let heading = (Tone::Strong, header.last().map_or("", |last| *last));
        let rows_end =
            rows.iter().map(|(tone, row)| (*tone, row.last().map_or("", String::as_str)));
        let ends = std::iter::once(heading).chain(rows_end);
        for (line, (tone, last)) in lay_out(header, rows).lines().zip(ends) {
            let line = line.trim_end();
            let lead = line.strip_suffix(last.trim_end()).unwrap_or(line);
            if line.chars().count() <= columns() {
                self.row(tone, line)?;
                continue;
            }
            self.row(tone, lead)?;
            self.line(tone.paint(format!("{:INDENT$}{}", "", clean(last, usize::MAX))))?;
        }
        Ok(())
    }

    /// Removes the spinners from the screen.
    pub(crate) fn clear(&self) {
        // Without a terminal there are none.
        let _ = self.bars.clear();
    }

    /// Prints the library's log on stderr, above the spinners.
    pub(crate) fn report(&self, filter: tracing_subscriber::EnvFilter) {
        let bars = self.bars.clone();
        let colour = anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never;
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(colour && io::stderr().is_terminal())
            .with_writer(move || Above { bars: bars.clone() })
            .init();
    }

    /// A spinner on a terminal. It is removed when it is dropped.
    pub(crate) fn spinner(&self, text: impl Into<String>) -> Spinner {
        let bar = ProgressBar::no_length();
        let bar = if self.json { bar } else { self.bars.add(bar) };
        let style = ProgressStyle::with_template("{spinner} {msg}").expect("it is a template");
        bar.set_style(style);
        bar.set_message(text.into());
        if self.is_live() {
            bar.enable_steady_tick(SPINNER_TICK);
        }
        let said_ms = AtomicI64::new(now_ms());
        Spinner { bar, output: self.clone(), said_ms }
    }
}

/// An error, as `--json` prints it on stderr: `{"error": …}`, one line.
#[derive(Serialize)]
struct JsonError<'a> {
    /// The text of a [`Kind`](crate::error::Kind), or `interrupted`.
    kind: &'static str,
    /// The text of a [`Code`], or `interrupted`.
    code: &'static str,
    /// The remote's own code, or null.
    remote_code: Option<&'a str>,
    message: &'a str,
    hint: Option<&'a str>,
    /// The exit code of the command.
    exit: u8,
}

/// A text without colours and without empty lines around it.
fn plain(text: impl Display) -> String {
    anstream::adapter::strip_str(&text.to_string()).to_string().trim().to_owned()
}

fn lay_out(header: &[&str], rows: &[(Tone, Vec<String>)]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header);
    for (_, row) in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

/// The width of the terminal in characters; unlimited where there is no terminal.
fn columns() -> usize {
    match terminal_size::terminal_size_of(io::stdout()) {
        Some((width, _)) => usize::from(width.0).saturating_sub(1),
        None => usize::MAX,
    }
}

/// A row as one line, or as two if its last column would be cut and has little room.
fn in_two(lead: &str, last: &str, columns: usize) -> Vec<String> {
    let (before, room) = (lead.chars().count(), last.chars().count());
    if before + room <= columns || columns - before.min(columns) >= LAST_COLUMN {
        return vec![format!("{lead}{last}")];
    }
    vec![lead.to_owned(), format!("{:INDENT$}{last}", "")]
}

/// See [`Output::spinner`].
pub(crate) struct Spinner {
    bar: ProgressBar,
    output: Output,
    /// When the last plain line of progress was printed, or the work began: ms since 1970.
    said_ms: AtomicI64,
}

impl Spinner {
    /// Replaces the text.
    pub(crate) fn say(&self, text: impl Into<String>) {
        self.bar.set_message(text.into());
    }

    /// Shows the progress: on a terminal at once, elsewhere as a plain line from time to time.
    pub(crate) fn progress(&self, text: impl Into<String>) {
        if self.output.is_live() {
            return self.say(text);
        }
        let now = now_ms();
        let said = self.said_ms.load(Ordering::Relaxed);
        if !self.output.is_json() && now - said >= PLAIN_PROGRESS_MS {
            self.said_ms.store(now, Ordering::Relaxed);
            self.output.note(text.into());
        }
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Writes to stderr, above the spinners.
struct Above {
    bars: MultiProgress,
}

impl Write for Above {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bars.suspend(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

fn cannot_write(source: io::Error) -> Error {
    let closed = source.kind() == io::ErrorKind::BrokenPipe;
    let code = if closed { Code::OutputClosed } else { Code::Storage };
    Error::new(code, format!("cannot write the output: {source}")).with_source(source)
}

/// Whether the program that reads our output has gone, as `head` does. That is no failure.
pub(crate) fn is_closed(error: &Error) -> bool {
    error.code() == Code::OutputClosed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_last_column_without_room_has_a_line_of_its_own() {
        let (lead, last) = ("x".repeat(50), "y".repeat(60));
        assert_eq!(in_two(&lead, &last, 110), [format!("{lead}{last}")], "it fits");
        assert_eq!(in_two(&lead, &last, 90), [format!("{lead}{last}")], "it is cut");
        let below = [lead.clone(), format!("          {last}")];
        assert_eq!(in_two(&lead, &last, 89), below);
        assert_eq!(in_two(&lead, "y", 51), [format!("{lead}y")]);
        assert_eq!(in_two(&lead, &last, usize::MAX), [format!("{lead}{last}")]);
    }

    #[test]
    fn a_row_cannot_take_over_the_terminal() {
        assert_eq!(clean("a\u{1b}[2Jb\nc\u{9b}d", 99), "a\\u{1b}[2Jb\\nc\\u{9b}d");
        assert_eq!(clean("a\u{202e}b\u{2028}c", 99), "a\\u{202e}b\\u{2028}c");
        assert_eq!(clean("José", 3), "Jos…");
        assert_eq!(clean("José", 4), "José");
    }
}
