//! Reads three things from the text of a definition: the terms and the predicate of a `CREATE
//! INDEX`, the body of a `CREATE TABLE`, and the op of a `CREATE TRIGGER`.
//!
//! SQLite reports the columns of an index. An expression, the WHERE of a partial index and the op
//! of a trigger are only in the statement's text. The text is SQLite's record of a statement that
//! it accepted, so it is valid. The parser only needs to find the ends of strings, quoted names,
//! comments and brackets.

use crate::event::Op;

/// The parts of a `CREATE INDEX`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct IndexTerms {
    /// Each term's expression, without its ASC or DESC.
    terms: Vec<String>,
    /// The partial index's condition.
    predicate: Option<String>,
}

impl IndexTerms {
    /// The expression of a term.
    pub(crate) fn term(&self, index: usize) -> Option<&str> {
        self.terms.get(index).map(String::as_str)
    }

    /// The partial index's condition.
    pub(crate) fn predicate(&self) -> Option<&str> {
        self.predicate.as_deref()
    }
}

/// A token: its text, and its depth in brackets.
#[derive(Clone, Copy, Debug)]
struct Token<'a> {
    text: &'a str,
    depth: usize,
}

fn tokens(sql: &str) -> Vec<Token<'_>> {
    let bytes = sql.as_bytes();
    let (mut at, mut depth, mut found) = (0, 0_usize, Vec::new());
    while at < bytes.len() {
        let start = at;
        match bytes[at] {
            b'-' if bytes.get(at + 1) == Some(&b'-') => {
                at += bytes[at..].iter().position(|&b| b == b'\n').unwrap_or(bytes.len() - at);
                continue;
            }
            b'/' if bytes.get(at + 1) == Some(&b'*') => {
                at = sql[at + 2..].find("*/").map_or(bytes.len(), |end| at + 2 + end + 2);
                continue;
            }
            quote @ (b'\'' | b'"' | b'`' | b'[') => at = end_of_quoted(bytes, at, quote),
            byte if byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80 => {
                while at < bytes.len()
                    && (bytes[at].is_ascii_alphanumeric() || bytes[at] == b'_' || bytes[at] >= 0x80)
                {
                    at += 1;
                }
            }
            byte if byte.is_ascii_whitespace() => {
                at += 1;
                continue;
            }
            byte => {
                at += 1;
                depth = depth.saturating_sub(usize::from(byte == b')'));
            }
        }
        found.push(Token { text: &sql[start..at], depth });
        depth += usize::from(bytes[start] == b'(');
    }
    found
}

fn end_of_quoted(bytes: &[u8], start: usize, quote: u8) -> usize {
    let close = if quote == b'[' { b']' } else { quote };
    let mut at = start + 1;
    while at < bytes.len() {
        if bytes[at] == close {
            // A doubled quote is part of the text.
            if close != b']' && bytes.get(at + 1) == Some(&close) {
                at += 1;
            } else {
                return at + 1;
            }
        }
        at += 1;
    }
    bytes.len()
}

/// Whether a statement names the schema `main`, as in `main.members`.
pub(crate) fn names_main(sql: &str) -> bool {
    let tokens = tokens(sql);
    let is_main = |text: &str| {
        let inner = text.trim_start_matches(['"', '`', '[', '\'']);
        inner.trim_end_matches(['"', '`', ']', '\'']).eq_ignore_ascii_case("main")
    };
    tokens.windows(2).any(|pair| pair[1].text == "." && is_main(pair[0].text))
}

/// Parses a `CREATE INDEX` statement.
pub(crate) fn parse(sql: &str) -> IndexTerms {
    let tokens = tokens(sql);
    let Some(open) = tokens.iter().position(|token| token.text == "(" && token.depth == 0) else {
        return IndexTerms::default();
    };
    let close = tokens[open..]
        .iter()
        .position(|token| token.text == ")" && token.depth == 0)
        .map_or(tokens.len(), |offset| open + offset);
    let inside = &tokens[open + 1..close];
    let terms = inside
        .split(|token| token.text == "," && token.depth == 1)
        .map(|term| text_of(sql, without_order(term)))
        .collect();
    let after = tokens.get(close + 1..).unwrap_or_default();
    let predicate = match after.split_first() {
        Some((first, rest)) if first.text.eq_ignore_ascii_case("where") => Some(text_of(sql, rest)),
        _ => None,
    };
    IndexTerms { terms, predicate }
}

/// The body of a `CREATE TABLE`: everything from the first bracket on.
pub(crate) fn body(sql: &str) -> &str {
    let open = tokens(sql).into_iter().find(|token| token.text == "(");
    open.map_or("", |open| &sql[open.text.as_ptr() as usize - sql.as_ptr() as usize..])
}

/// The op that a trigger fires on. INSERT, UPDATE and DELETE are reserved words, so the first
/// unquoted one is the op.
pub(crate) fn trigger_op(sql: &str) -> Option<Op> {
    tokens(sql).iter().find_map(|token| token.text.to_ascii_lowercase().parse().ok())
}

/// The items of a list, up to the bracket that closes it, a FROM, a WHERE or a semicolon, and what
/// follows from there on.
pub(crate) fn split_list(sql: &str) -> (Vec<&str>, &str) {
    let offset = |text: &str| text.as_ptr() as usize - sql.as_ptr() as usize;
    let (mut items, mut start, mut open) = (Vec::new(), 0, 0_usize);
    for token in tokens(sql) {
        let at = offset(token.text);
        let ends = [")", ";"].contains(&token.text)
            || ["from", "where"].iter().any(|word| token.text.eq_ignore_ascii_case(word));
        match token.text {
            _ if open == 0 && ends => {
                items.push(sql[start..at].trim());
                return (items, &sql[at..]);
            }
            "," if open == 0 => {
                items.push(sql[start..at].trim());
                start = at + 1;
            }
            "(" => open += 1,
            ")" => open = open.saturating_sub(1),
            _ => {}
        }
    }
    items.push(sql[start..].trim());
    (items, "")
}

/// The name that a quoted or a plain name is; `None` if the text is anything else.
pub(crate) fn unquoted(sql: &str) -> Option<String> {
    let found = tokens(sql);
    let [Token { text, .. }] = found.as_slice() else { return None };
    let inner = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    if let Some(name) = inner('"') {
        return Some(name.replace("\"\"", "\""));
    }
    let is_plain = text.chars().all(|c| c.is_alphanumeric() || c == '_');
    is_plain.then(|| (*text).to_owned())
}

fn without_order<'t, 'a>(term: &'t [Token<'a>]) -> &'t [Token<'a>] {
    match term.split_last() {
        Some((last, rest))
            if last.text.eq_ignore_ascii_case("asc") || last.text.eq_ignore_ascii_case("desc") =>
        {
            rest
        }
        _ => term,
    }
}

/// The text from the first token to the last, as it is written.
fn text_of(sql: &str, tokens: &[Token<'_>]) -> String {
    let (Some(first), Some(last)) = (tokens.first(), tokens.last()) else {
        return String::new();
    };
    let offset = |text: &str| text.as_ptr() as usize - sql.as_ptr() as usize;
    let written = &sql[offset(first.text)..offset(last.text) + last.text.len()];
    // If the text ends in a comment, the SQL that we append would be part of the comment.
    if written.contains("--") { format!("{written}\n") } else { written.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_trigger_fires_on() {
        let check = |sql: &str, op: Option<Op>| assert_eq!(trigger_op(sql), op, "{sql}");
        check("CREATE TRIGGER a BEFORE INSERT ON t BEGIN DELETE FROM u; END", Some(Op::Insert));
        check("CREATE TRIGGER \"update\" after delete ON t BEGIN SELECT 1; END", Some(Op::Delete));
        check(
            "CREATE TRIGGER after UPDATE OF a, b ON [insert] BEGIN SELECT 1; END",
            Some(Op::Update),
        );
        check("CREATE TRIGGER t /* insert */ -- delete\n INSTEAD OF UPDATE ON v", Some(Op::Update));
        check("CREATE TRIGGER 'insert' ON t", None);
    }

    #[test]
    fn lists_and_names() {
        let list = r#"a, (SELECT old."x,y") , f(1, (2)), 'it''s, )' FROM t WHERE 1"#;
        let (items, rest) = split_list(list);
        assert_eq!(items, ["a", r#"(SELECT old."x,y")"#, "f(1, (2))", "'it''s, )'"]);
        assert_eq!(rest, "FROM t WHERE 1");
        assert_eq!(split_list("a, b) c"), (vec!["a", "b"], ") c"));
        assert_eq!(unquoted(r#""a""b c""#).as_deref(), Some("a\"b c"));
        assert_eq!(unquoted("plain_1").as_deref(), Some("plain_1"));
        assert_eq!(unquoted("a b"), None);
        assert_eq!(unquoted("'a'"), None);
    }

    #[test]
    fn a_schema_is_found_however_it_is_quoted() {
        for sql in ["SELECT 1 FROM main.t", "SELECT \"MAIN\" . t.a FROM t", "FROM [main].[t]"] {
            assert!(names_main(sql), "{sql}");
        }
        for sql in ["SELECT 'main.t' FROM t", "SELECT main FROM t -- main.t", "FROM domain.t"] {
            assert!(!names_main(sql), "{sql}");
        }
    }

    #[test]
    fn terms_and_predicates() {
        let check = |sql: &str, terms: &[&str], predicate: Option<&str>| {
            let written = parse(sql);
            assert_eq!(written.terms, terms, "{sql}");
            assert_eq!(written.predicate.as_deref(), predicate, "{sql}");
        };
        check("CREATE UNIQUE INDEX i ON t(a)", &["a"], None);
        check("CREATE UNIQUE INDEX \"i(x\" ON [t(] (a DESC, b)", &["a", "b"], None);
        check(
            "CREATE UNIQUE INDEX i ON t (lower(a) COLLATE NOCASE asc, b || ',' || \"c)\") WHERE d > '('",
            &["lower(a) COLLATE NOCASE", "b || ',' || \"c)\""],
            Some("d > '('"),
        );
        check(
            "CREATE UNIQUE INDEX i ON t(a, -- first, (of two\n (b + 1)) /* x) */ where b IS NOT NULL",
            &["a", "(b + 1)"],
            Some("b IS NOT NULL"),
        );
        check("CREATE UNIQUE INDEX i ON t(coalesce(a, 'it''s'))", &["coalesce(a, 'it''s')"], None);
    }
}
