//! The kind of a statement, from the first words of its text.
//!
//! SQLite compiles every statement. This finds only what must be known besides: whether there is a
//! statement, whether it opens or ends a transaction, and whether its counters (changes, last row
//! id) mean anything.

/// The kind of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    /// Nothing: the text is empty, or white space and comments.
    Nothing,
    /// Opens a transaction.
    Begin(Begin),
    /// Ends a transaction.
    End,
    /// `INSERT` or `REPLACE`.
    Insert,
    /// `UPDATE` or `DELETE`.
    Change,
    /// Cannot write: `SELECT`, `VALUES`, `EXPLAIN`, `PRAGMA`, and savepoints.
    Read,
    /// Anything else: the definition of a table, or an error.
    Define,
}

/// How a transaction opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// `BEGIN` or `BEGIN DEFERRED`: the write lock is taken by the first write.
    Deferred,
    /// `BEGIN IMMEDIATE` or `BEGIN EXCLUSIVE`.
    Immediate,
    /// `BEGIN READONLY`, which libSQL has and SQLite has not.
    ReadOnly,
}

impl Verb {
    /// The verb of the first statement in `sql`.
    pub(super) fn of(sql: &str) -> Verb {
        let mut words = Words::of(sql);
        let Some(first) = words.next() else { return Verb::Nothing };
        match first.to_ascii_uppercase().as_str() {
            "BEGIN" => Verb::Begin(begin(words)),
            "COMMIT" | "END" => Verb::End,
            "ROLLBACK" if words.any(|word| word.eq_ignore_ascii_case("TO")) => Verb::Read,
            "ROLLBACK" => Verb::End,
            "WITH" => words.find_map(main_verb).unwrap_or(Verb::Define),
            "PRAGMA" | "EXPLAIN" | "SAVEPOINT" | "RELEASE" => Verb::Read,
            word => main_verb(word).unwrap_or(Verb::Define),
        }
    }

    /// Whether it may need the write lock.
    pub(super) fn writes(self) -> bool {
        matches!(self, Verb::Insert | Verb::Change | Verb::Define)
    }
}

fn begin(words: Words<'_>) -> Begin {
    for word in words {
        match word.to_ascii_uppercase().as_str() {
            "IMMEDIATE" | "EXCLUSIVE" => return Begin::Immediate,
            "READONLY" => return Begin::ReadOnly,
            _ => {}
        }
    }
    Begin::Deferred
}

fn main_verb(word: &str) -> Option<Verb> {
    // Longer words are names. The length rules most of them out without a comparison.
    if !(6..=7).contains(&word.len()) {
        return None;
    }
    match word.to_ascii_uppercase().as_str() {
        "INSERT" | "REPLACE" => Some(Verb::Insert),
        "UPDATE" | "DELETE" => Some(Verb::Change),
        "SELECT" | "VALUES" => Some(Verb::Read),
        _ => None,
    }
}

/// The words of the first statement that are not quoted, not in a comment and not in parentheses.
struct Words<'a> {
    rest: &'a str,
    depth: usize,
}

impl<'a> Words<'a> {
    fn of(sql: &'a str) -> Self {
        // Semicolons before the statement are not its end.
        let mut rest = sql;
        loop {
            let shorter =
                skip_comment(rest.trim_start_matches([' ', '\t', '\n', '\r', '\x0c', ';']));
            if shorter.len() == rest.len() {
                return Words { rest, depth: 0 };
            }
            rest = shorter;
        }
    }
}

/// `text` without the comment that it begins with, if it does.
fn skip_comment(text: &str) -> &str {
    if let Some(comment) = text.strip_prefix("--") {
        return comment.find('\n').map_or("", |end| &comment[end..]);
    }
    if let Some(comment) = text.strip_prefix("/*") {
        return comment.find("*/").map_or("", |end| &comment[end + 2..]);
    }
    text
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        loop {
            let text = skip_comment(self.rest);
            if text.len() < self.rest.len() {
                self.rest = text;
                continue;
            }
            let first = text.chars().next()?;
            let after = &text[first.len_utf8()..];
            if first.is_alphanumeric() || first == '_' {
                let end = text
                    .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$'))
                    .unwrap_or(text.len());
                self.rest = &text[end..];
                if self.depth == 0 {
                    return Some(&text[..end]);
                }
                continue;
            }
            self.rest = match first {
                ';' => "",
                // A doubled quote counts as two quoted texts side by side, with the same result.
                '\'' | '"' | '`' => after.find(first).map_or("", |end| &after[end + 1..]),
                '[' => after.find(']').map_or("", |end| &after[end + 1..]),
                _ => after,
            };
            match first {
                '(' => self.depth += 1,
                ')' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verb_is_the_first_word_outside_comments() {
        for (sql, verb) in [
            ("", Verb::Nothing),
            (" ;; -- nothing\n/* at all */ ;", Verb::Nothing),
            ("-- unfinished", Verb::Nothing),
            ("/* unfinished", Verb::Nothing),
            ("select 1", Verb::Read),
            ("/* insert */ SELECT 1", Verb::Read),
            ("-- delete\n;Insert into t values (1)", Verb::Insert),
            ("replace into t values (1)", Verb::Insert),
            ("UPDATE t SET a = 'select'", Verb::Change),
            ("DELETE FROM t", Verb::Change),
            ("create table insert_ (a)", Verb::Define),
            ("explain insert into t values (1)", Verb::Read),
            ("sélect", Verb::Define),
        ] {
            assert_eq!(Verb::of(sql), verb, "{sql}");
        }
    }

    #[test]
    fn a_with_clause_is_looked_through() {
        for (sql, verb) in [
            ("with a as (delete) select 1", Verb::Read),
            ("with a(x) as (select ')' union values (1)) insert into t select 1", Verb::Insert),
            ("with \"update\" as (select 1) delete from t", Verb::Change),
            ("with [insert] as (select 1) /* ( */ values (1)", Verb::Read),
            ("with a as /* ) */(select 1)/**//**/insert into t select 1", Verb::Insert),
            ("with 'it''s ( not' as (select 1) update t set a = 1", Verb::Change),
            ("with", Verb::Define),
        ] {
            assert_eq!(Verb::of(sql), verb, "{sql}");
        }
    }

    #[test]
    fn transactions_are_told_apart_from_savepoints() {
        for (sql, verb) in [
            ("BEGIN", Verb::Begin(Begin::Deferred)),
            ("begin transaction;", Verb::Begin(Begin::Deferred)),
            ("BEGIN DEFERRED -- IMMEDIATE", Verb::Begin(Begin::Deferred)),
            ("BEGIN IMMEDIATE", Verb::Begin(Begin::Immediate)),
            ("BEGIN EXCLUSIVE TRANSACTION", Verb::Begin(Begin::Immediate)),
            ("BEGIN TRANSACTION READONLY", Verb::Begin(Begin::ReadOnly)),
            ("BEGIN; SELECT immediate", Verb::Begin(Begin::Deferred)),
            ("COMMIT", Verb::End),
            ("END TRANSACTION", Verb::End),
            ("ROLLBACK", Verb::End),
            ("ROLLBACK TO SAVEPOINT a", Verb::Read),
            ("SAVEPOINT a", Verb::Read),
        ] {
            assert_eq!(Verb::of(sql), verb, "{sql}");
        }
    }
}
