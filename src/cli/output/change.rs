//! Rows that differ between two points, as people read them.

use super::event::{key, names, value};
use super::{Tone, clean};
use crate::event::Op;
use crate::event::value::Value;
use crate::inspect::RowChange;

/// The most characters of a value.
const VALUE_CHARS: usize = 60;

/// A row: its tone, its first line, and a line for each column.
pub(crate) fn lines(change: &RowChange) -> (Tone, String, Vec<String>) {
    let (tone, sign) = match change.op {
        Op::Insert => (Tone::Good, '+'),
        Op::Update => (Tone::Notable, '~'),
        Op::Delete => (Tone::Bad, '-'),
    };
    let unsure = if change.is_uncertain { "  (old values not sure)" } else { "" };
    let table = clean(&change.table, VALUE_CHARS);
    let first = format!("{sign} {table} {}{unsure}", key(&change.key));
    let columns = columns(change);
    let width = columns.iter().map(|(name, ..)| name.chars().count()).max().unwrap_or(0);
    let shown = |of: Option<&Value>| of.map(|of| value(of, VALUE_CHARS)).unwrap_or_default();
    let line = |(name, old, new): &(String, Option<&Value>, Option<&Value>)| {
        let values = match change.op {
            Op::Insert => shown(*new),
            Op::Update => format!("{} → {}", shown(*old), shown(*new)),
            Op::Delete => shown(*old),
        };
        format!("    {name:width$}  {values}")
    };
    (tone, first, columns.iter().map(line).collect())
}

/// The columns of a change, each with its old and its new value.
fn columns(change: &RowChange) -> Vec<(String, Option<&Value>, Option<&Value>)> {
    let (before, after) = (change.before.as_ref(), change.after.as_ref());
    let all = names([before, after].into_iter().flatten());
    let column = |name: &str| {
        let old = before.and_then(|image| image.get(name));
        let new = after.and_then(|image| image.get(name));
        (clean(name, VALUE_CHARS), old, new)
    };
    all.into_iter().map(column).collect()
}

/// A page for a browser: self-contained, without a script.
pub(crate) struct Page;

impl Page {
    /// Its beginning.
    pub(crate) fn head(title: &str) -> String {
        format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\"><title>{}</title>\n<style>\n\
             :root {{ color-scheme: light dark }}\n\
             body {{ font: 15px/1.5 system-ui, sans-serif; margin: 1rem auto; max-width: 60rem; \
             padding: 0 1rem }}\n\
             section {{ border-left: 4px solid #888; margin: 1rem 0; padding: .2rem .8rem }}\n\
             .insert {{ border-color: #2a7 }} .delete {{ border-color: #c33 }} \
             .update {{ border-color: #c80 }}\n\
             table {{ border-collapse: collapse }} td, th {{ text-align: left; \
             padding: .1rem .8rem .1rem 0; vertical-align: top; overflow-wrap: anywhere }}\n\
             h2 {{ font-size: 1rem; margin: 0 }}\n</style></head><body>\n<h1>{0}</h1>",
            escaped(title)
        )
    }

    /// A row.
    pub(crate) fn row(change: &RowChange) -> String {
        let (class, word) = match change.op {
            Op::Insert => ("insert", "inserted"),
            Op::Update => ("update", "updated"),
            Op::Delete => ("delete", "deleted"),
        };
        let mut html = format!(
            "<section class=\"{class}\"><h2>{} {} {word}</h2><table>",
            escaped(&change.table),
            escaped(&change.key.to_string())
        );
        html += "<tr><th>column<th>before<th>after</tr>";
        let shown = |of: Option<&Value>| of.map(|of| escaped(&value(of, usize::MAX)));
        for (name, old, new) in columns(change) {
            let (old, new) = (shown(old).unwrap_or_default(), shown(new).unwrap_or_default());
            html += &format!("<tr><td>{}<td>{old}<td>{new}</tr>", escaped(&name));
        }
        html + "</table></section>"
    }

    /// Its end.
    pub(crate) fn foot(rows: u64) -> String {
        let noun = if rows == 1 { "row" } else { "rows" };
        format!("<p>{rows} {noun} changed.</p>\n</body></html>")
    }
}

/// A text that a browser shows as it is.
fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for c in clean(text, usize::MAX).chars() {
        match c {
            '&' => html += "&amp;",
            '<' => html += "&lt;",
            '>' => html += "&gt;",
            '"' => html += "&quot;",
            c => html.push(c),
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_cannot_be_markup() {
        assert_eq!(escaped("<b>\"a\" & b</b>"), "&lt;b&gt;&quot;a&quot; &amp; b&lt;/b&gt;");
        assert_eq!(escaped("a\nb"), "a\\nb");
    }
}
