//! The format of the demo's scripts, which `fixtures/gym/README.md` describes.

use crate::error::{Error, Result};

/// A directive of a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Directive {
    /// There is a desktop of this name.
    Replica(String),
    /// There is a writer of this name on the remote.
    Remote(String),
    /// A writer runs a transaction.
    Step(Step),
    /// All desktops that are online synchronise.
    Sync,
    /// This desktop is cut off from the network.
    Offline(String),
    /// This desktop is reconnected.
    Online(String),
}

/// A transaction of one writer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// The writer's name.
    who: String,
    /// A sentence for people.
    sentence: String,
    /// The statements.
    sql: String,
}

impl Step {
    /// The writer's name.
    pub(super) fn who(&self) -> &str {
        &self.who
    }

    /// A sentence for people.
    pub(super) fn sentence(&self) -> &str {
        &self.sentence
    }

    /// The statements.
    pub(super) fn sql(&self) -> &str {
        &self.sql
    }
}

/// Reads a script.
///
/// # Errors
///
/// `Corrupt`, with the line's number, for a directive that is not known.
pub(super) fn parse(script: &str) -> Result<Vec<Directive>> {
    let mut directives: Vec<Directive> = Vec::new();
    for (index, line) in script.lines().enumerate() {
        if let Some(text) = line.strip_prefix("-- @") {
            let directive = directive(text).ok_or_else(|| {
                Error::corrupt(format!("line {} of the script is no directive", index + 1))
            })?;
            directives.push(directive);
        } else if !line.starts_with("--")
            && let Some(Directive::Step(step)) = directives.last_mut()
        {
            step.sql += line;
            step.sql.push('\n');
        }
    }
    Ok(directives)
}

fn directive(text: &str) -> Option<Directive> {
    if let Some((who, sentence)) = text.split_once(": ") {
        let [who, sentence] = [who, sentence].map(str::to_owned);
        return Some(Directive::Step(Step { who, sentence, sql: String::new() }));
    }
    let (word, name) = text.split_once(' ').unwrap_or((text, ""));
    let named =
        |directive: fn(String) -> Directive| (!name.is_empty()).then(|| directive(name.to_owned()));
    match word {
        "replica" => named(Directive::Replica),
        "remote" => named(Directive::Remote),
        "offline" => named(Directive::Offline),
        "online" => named(Directive::Online),
        "sync" => Some(Directive::Sync),
        _ => None,
    }
}

/// Splits the SQL of a step, which has neither triggers nor a BEGIN.
pub(super) fn statements(sql: &str) -> Vec<String> {
    let mut statements = Vec::new();
    let mut statement = String::new();
    let mut quote = None;
    let mut rest = sql.chars().peekable();
    while let Some(c) = rest.next() {
        match (quote, c) {
            (None, ';') => statements.push(std::mem::take(&mut statement)),
            (None, '-') if rest.peek() == Some(&'-') => {
                while rest.next_if(|c| *c != '\n').is_some() {}
            }
            (None, '\'' | '"') => {
                quote = Some(c);
                statement.push(c);
            }
            // A doubled quote counts as an end and a new beginning, with the same result.
            (Some(open), c) if open == c => {
                quote = None;
                statement.push(c);
            }
            _ => statement.push(c),
        }
    }
    statements.push(statement);
    statements.retain(|statement| !statement.trim().is_empty());
    statements
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_read() {
        let script = "-- A comment.\n-- @replica a\n-- @remote w\n\n-- @a: Does it.\n\
                      INSERT INTO t VALUES (1);\n-- why\nDELETE FROM t;\n-- @sync\n-- @offline a\n\
                      -- @online a\n";
        let step = Step {
            who: "a".to_owned(),
            sentence: "Does it.".to_owned(),
            sql: "INSERT INTO t VALUES (1);\nDELETE FROM t;\n".to_owned(),
        };
        let a = || "a".to_owned();
        assert_eq!(
            parse(script).unwrap(),
            [
                Directive::Replica(a()),
                Directive::Remote("w".to_owned()),
                Directive::Step(step),
                Directive::Sync,
                Directive::Offline(a()),
                Directive::Online(a()),
            ]
        );
        for nonsense in ["-- @dance", "-- @replica"] {
            assert!(parse(nonsense).unwrap_err().message().contains("line 1"), "{nonsense}");
        }
    }

    #[test]
    fn statements_end_at_semicolons_that_are_not_quoted() {
        let sql = "INSERT INTO t VALUES ('a;''b--c', \"d;\"); -- no; end\nDELETE FROM t\n;\n";
        let found = statements(sql);
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[0], "INSERT INTO t VALUES ('a;''b--c', \"d;\")");
        assert_eq!(found[1].trim(), "DELETE FROM t");
    }
}
