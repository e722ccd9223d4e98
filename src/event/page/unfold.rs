//! Lean lines: each line of a page leaves out the fields that it shares with the line before.
//!
//! A long page is sent in a form with few repetitions. The receiver makes whole lines of it at once
//! ([`unfold`]), so the rest of the code sees only whole lines.
//!
//! ```text
//! lean:  ["id",later,key,image]                    op, table and more as in the line before
//!        ["id",later,"table","op",key,image]       another table or op
//! ```
//!
//! * The event is one place after that of the line before. Its origin, actor, unit, base, cause,
//!   via, pair, verdict and reason are the same.
//! * `id` is whole, or only its last ten characters if the others are the same.
//! * `later` is the time from that event's `received_at` to this one's.
//! * `image` depends on the op: `before` of a delete, `after` of an insert, both of an update with
//!   `before` first. It is an object, or an array of all values in the order of the table's
//!   [`Layout`], which the request has given.
//! * `key` is an array, or 0 if it has one part, which is the first value of such an array.
//!
//! Echoes among the lines are short: see [`echo`](super::echo).

use std::io::Write as _;

use super::echo::{Said, Short, next, pieces};
use crate::event::json::Scanner;
use crate::event::value::write_string;

/// The columns of a table in the order of an array's values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The table's name.
    pub table: String,
    /// The names of all its columns.
    pub columns: Vec<String>,
}

/// A layout, prepared for writing lines.
struct Names {
    table: Vec<u8>,
    /// Each name, with the JSON before it and after it in an object.
    columns: Vec<Vec<u8>>,
}

impl Names {
    fn of(layout: &Layout) -> Names {
        let mut table = Vec::new();
        write_string(layout.table.as_bytes(), &mut table);
        let column = |(place, name): (usize, &String)| {
            let mut column = vec![if place == 0 { b'{' } else { b',' }];
            write_string(name.as_bytes(), &mut column);
            column.push(b':');
            column
        };
        Names { table, columns: layout.columns.iter().enumerate().map(column).collect() }
    }
}

/// How many characters of an id a lean line has if the others are those of the line before.
pub(crate) const ID_TAIL: usize = 10;
/// The number of characters of an id.
pub(crate) const ID: usize = 26;

/// The fields that a lean line takes from the line before it. They are still in their JSON.
#[derive(Clone, Copy)]
struct Before<'a> {
    seq: i64,
    id: [u8; ID],
    /// Origin, actor, unit.
    head: [&'a [u8]; 3],
    table: &'a [u8],
    op: &'a [u8],
    /// Base, cause, via, pair, verdict, reason.
    tail: [&'a [u8]; 6],
    received_at: i64,
}

fn fields<'a, const N: usize>(scanner: &mut Scanner<'a>) -> Option<[&'a [u8]; N]> {
    let mut fields = [&b""[..]; N];
    for field in &mut fields {
        *field = next(scanner)?;
    }
    Some(fields)
}

fn integer(scanner: &mut Scanner<'_>) -> Option<i64> {
    scanner.expect(b',').ok()?;
    scanner.integer().ok()
}

/// The characters between the quotes of a JSON string.
fn within(raw: &[u8]) -> Option<&[u8]> {
    raw.strip_prefix(b"\"")?.strip_suffix(b"\"")
}

impl<'a> Before<'a> {
    /// Reads the fields from a whole line.
    fn read(line: &'a [u8]) -> Option<Self> {
        let mut scanner = Scanner::new(line);
        scanner.eat(b'[').then_some(())?;
        let seq = scanner.integer().ok()?;
        let id = within(next(&mut scanner)?)?.try_into().ok()?;
        let head = fields(&mut scanner)?;
        let [table, _key, op, _before, _after] = fields(&mut scanner)?;
        let tail = fields(&mut scanner)?;
        let received_at = integer(&mut scanner)?;
        scanner.expect(b']').ok()?;
        scanner.end().ok()?;
        Some(Before { seq, id, head, table, op, tail, received_at })
    }
}

fn put(fields: &[&[u8]], out: &mut Vec<u8>) {
    for field in fields {
        out.push(b',');
        out.extend_from_slice(field);
    }
}

/// Appends the whole line for a lean one, and returns the fields for the next line. `None` if the
/// line is not lean; then the appended bytes must not be used.
fn write_lean<'a>(
    line: &'a [u8],
    before: &Before<'a>,
    layouts: &[Names],
    out: &mut Vec<u8>,
) -> Option<Before<'a>> {
    let mut scanner = Scanner::new(line);
    scanner.eat(b'[').then_some(())?;
    let tail = within(scanner.raw().ok()?)?;
    let mut this = *before;
    match tail.len() {
        ID => this.id.copy_from_slice(tail),
        ID_TAIL => this.id[ID - ID_TAIL..].copy_from_slice(tail),
        _ => return None,
    }
    this.seq = before.seq.checked_add(1)?;
    this.received_at = before.received_at.checked_add(integer(&mut scanner)?)?;
    let mut key = next(&mut scanner)?;
    if key.starts_with(b"\"") {
        (this.table, this.op) = (key, next(&mut scanner)?);
        key = next(&mut scanner)?;
    }
    write!(out, "[{},\"", this.seq).ok()?;
    out.extend_from_slice(&this.id);
    out.push(b'"');
    put(&this.head, out);
    put(&[this.table], out);
    if key == b"0" {
        let mut image = scanner.clone();
        image.expect(b',').ok()?;
        image.eat(b'[').then_some(())?;
        out.extend_from_slice(b",[");
        out.extend_from_slice(image.raw().ok()?);
        out.push(b']');
    } else {
        put(&[key], out);
    }
    put(&[this.op], out);
    let layout = layouts.iter().find(|layout| layout.table == this.table);
    match this.op {
        b"\"insert\"" => {
            put(&[b"null"], out);
            write_image(&mut scanner, layout, out)?;
        }
        b"\"delete\"" => {
            write_image(&mut scanner, layout, out)?;
            put(&[b"null"], out);
        }
        _ => {
            let images: [&[u8]; 2] = fields(&mut scanner)?;
            put(&images, out);
        }
    }
    scanner.expect(b']').ok()?;
    scanner.end().ok()?;
    put(&this.tail, out);
    write!(out, ",{}]", this.received_at).ok()?;
    Some(this)
}

/// Appends the next image, which is an object, or an array of the layout's values.
fn write_image(scanner: &mut Scanner<'_>, layout: Option<&Names>, out: &mut Vec<u8>) -> Option<()> {
    scanner.expect(b',').ok()?;
    out.push(b',');
    if !scanner.eat(b'[') {
        out.extend_from_slice(scanner.raw().ok()?);
        return Some(());
    }
    for (place, column) in layout?.columns.iter().enumerate() {
        if place > 0 {
            scanner.expect(b',').ok()?;
        }
        out.extend_from_slice(column);
        out.extend_from_slice(scanner.raw().ok()?);
    }
    scanner.expect(b']').ok()?;
    out.push(b'}');
    Some(())
}

/// The replacement for a line that cannot be made whole. Its effect is that whole lines are
/// requested, as for an echo whose event is not in the outbox.
const NOT_RESTORED: &[u8] = b"[0,0,0]";

/// The lines of a page, with each line whole or an echo. `layouts` are those of the request.
pub fn unfold(bytes: Vec<u8>, layouts: &[Layout]) -> Vec<u8> {
    let layouts: Vec<_> = layouts.iter().map(Names::of).collect();
    let mut out = Vec::new();
    // `copied`: all bytes before this place are in `out`.
    let (mut copied, mut at) = (0, 0);
    let mut echo: Option<Said<'_>> = None;
    let (mut whole, mut before): (Option<&[u8]>, Option<Before<'_>>) = (None, None);
    for line in pieces(&bytes) {
        let end = at + line.len();
        if line.starts_with(b"[\"") {
            out.extend_from_slice(&bytes[copied..at]);
            let last = before.or_else(|| whole.and_then(Before::read));
            let begin = out.len();
            before = last.and_then(|last| write_lean(line, &last, &layouts, &mut out));
            if before.is_none() {
                out.truncate(begin);
                out.extend_from_slice(NOT_RESTORED);
            }
            (whole, echo, copied) = (None, None, end);
        } else if let Some(short) = Short::read(line) {
            out.extend_from_slice(&bytes[copied..at]);
            echo = short.said().or(echo);
            match &echo {
                Some(said) => short.write(said, &mut out),
                None => out.extend_from_slice(NOT_RESTORED),
            }
            (whole, before, copied) = (None, None, end);
        } else {
            (whole, before, echo) = (Some(line), None, None);
        }
        at = end + 1;
    }
    if copied == 0 {
        return bytes;
    }
    out.extend_from_slice(&bytes[copied..]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Seq;
    use crate::event::page::Page;
    use crate::event::page::echo::{Echo, complete, has_echoes};

    const A: &str = "01JD8ZK3V5QWERTY0123456789";
    const B: &str = "01JD8ZK3V5QWERTY0123456780";
    const C: &str = "01JD8ZK3V5QWERTY9123456780";
    const UNIT: &str = "01JD8ZK3V5QWERTY0123456700";
    const WHOLE: &str = r#"[6,"01JD8ZK3V5QWERTY0123456781","web",null,null,"t",["x"],"insert",null,{"k":"x","v":1},0,null,null,null,"applied",null,16]"#;

    fn layouts() -> Vec<Layout> {
        let of = |table: &str, columns: &[&str]| Layout {
            table: table.to_owned(),
            columns: columns.iter().map(|&name| name.to_owned()).collect(),
        };
        vec![of("t", &["k", "v"]), of("\"u\"", &["n", "é"])]
    }

    fn unfolded(lines: &[&str]) -> String {
        String::from_utf8(unfold(lines.join("\n").into_bytes(), &layouts())).unwrap()
    }

    fn first() -> String {
        format!(r#"[4,"{A}",17,9,"{UNIT}",3,"applied",null]"#)
    }

    #[test]
    fn a_short_line_is_as_the_one_before_it() {
        let second = format!(r#"[5,"{B}",18,0]"#);
        let both = unfolded(&[&first(), &second, WHOLE]);
        let expected = [
            format!(r#"[4,"{A}",0,null,"{UNIT}",3,"applied",null,17,9]"#),
            format!(r#"[5,"{B}",0,null,"{UNIT}",3,"applied",null,18,0]"#),
            WHOLE.to_owned(),
        ];
        assert_eq!(both, expected.join("\n"));
        assert_eq!(unfolded(&[WHOLE]), WHOLE);
        assert_eq!(unfolded(&[&both]), both, "echoes are what they are");
    }

    #[test]
    fn a_short_line_that_follows_none_is_an_echo() {
        let second = format!(r#"[5,"{B}",18,0]"#);
        for lines in [vec![second.as_str()], vec![&first(), WHOLE, &second], vec!["", &second]] {
            let page = unfolded(&lines);
            assert_eq!(page.lines().last(), Some("[0,0,0]"));
            assert!(has_echoes(page.as_bytes()));
            assert_eq!(complete(page.as_bytes(), |_, _| Ok(true)).unwrap(), None);
        }
        for wrong in ["[5", "[5,", "[5,\"x\",18,0", "[5,\"x\",18,0,1]", "[5,\"x\",18,0] ]", "[]"] {
            assert_eq!(unfolded(&[&first(), wrong]).lines().last(), Some(wrong));
        }
    }

    #[test]
    fn a_lean_line_takes_what_it_lacks_from_the_line_before() {
        let lean = [
            WHOLE,
            r#"["0123456780",-2,0,["y",{"r":"1.0"}]]"#,
            &format!(r#"["{C}",5,"\"u\"","delete",["a",1],["n",null]]"#),
            r#"["9123456781",0,["b"],{"odd":1}]"#,
            r#"["9123456782",0,"t","update",["y"],{"v":1},{"v":2}]"#,
            r#"["9123456783",0,"nowhere","insert",["y"],{"k":"y"}]"#,
        ];
        let expected = [
            WHOLE,
            r#"[7,"01JD8ZK3V5QWERTY0123456780","web",null,null,"t",["y"],"insert",null,{"k":"y","v":{"r":"1.0"}},0,null,null,null,"applied",null,14]"#,
            r#"[8,"01JD8ZK3V5QWERTY9123456780","web",null,null,"\"u\"",["a",1],"delete",{"n":"n","é":null},null,0,null,null,null,"applied",null,19]"#,
            r#"[9,"01JD8ZK3V5QWERTY9123456781","web",null,null,"\"u\"",["b"],"delete",{"odd":1},null,0,null,null,null,"applied",null,19]"#,
            r#"[10,"01JD8ZK3V5QWERTY9123456782","web",null,null,"t",["y"],"update",{"v":1},{"v":2},0,null,null,null,"applied",null,19]"#,
            r#"[11,"01JD8ZK3V5QWERTY9123456783","web",null,null,"nowhere",["y"],"insert",null,{"k":"y"},0,null,null,null,"applied",null,19]"#,
        ];
        let page = unfolded(&lean);
        assert_eq!(page, expected.join("\n"));
        let page = Page { bytes: page.into_bytes(), last: Seq(11), count: 6, more: false };
        assert!(page.lines().unwrap().iter().all(|line| line.damaged.is_none()));
    }

    #[test]
    fn what_is_no_lean_line_is_marked_and_so_is_what_follows_it() {
        for wrong in [
            r#"["0123456780",1,0,["y",1]"#,
            r#"["0123456780",1,0,["y",1]]]"#,
            r#"["0123456780",1,0,["y"]]"#,
            r#"["0123456780",1,0,["y",1,2]]"#,
            r#"["0123456780",1,0,{"k":"y"}]"#,
            r#"["0123456780",1,0,[]]"#,
            r#"["0123456780",1,0]"#,
            r#"["012345678",1,0,["y",1]]"#,
            r#"["0123456780",9223372036854775807,0,["y",1]]"#,
            r#"["0123456780",1,"nowhere","insert",0,["y",1]]"#,
            r#"["0123456780",1,"t","update",0,["y",1]]"#,
            r#"["0123456780""#,
            r#"[""#,
        ] {
            let next = r#"["0123456781",1,0,["z",1]]"#;
            let page = unfolded(&[WHOLE, wrong, next, WHOLE]);
            assert_eq!(page, [WHOLE, "[0,0,0]", "[0,0,0]", WHOLE].join("\n"), "{wrong}");
        }
        for first in ["", "[1]", &first(), &WHOLE.replace("16]", "16")] {
            let page = unfolded(&[first, r#"["0123456781",1,0,["z",1]]"#]);
            assert_eq!(page.lines().last(), Some("[0,0,0]"), "{first}");
        }
        assert!(Echo::read(b"[0,0,0]").is_none());
    }
}
