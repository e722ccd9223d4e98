//! The inbox's triggers: for each table three that materialize an event that is to be applied, one
//! for each op, and three that are rare.
//!
//! The newest fires first. So an event that is to be applied, which is nearly every one, meets
//! `inbox_again` and the *apply* triggers, whose conditions judge it, and no further ones: the last
//! statement of its own lets no row in, and the triggers that are left do not run. One that is not
//! to be applied passes them all, and comes to `adopt` and to `record`.

use std::fmt::Write as _;

use super::cell::{Cell, and, decode};
use super::judge::{IMAGE, Judge, key_name};
use super::replica::NOW_MS;
use super::triggers::{Trigger, Write as Kind};
use super::ulid::ulid;
use crate::catalog::limits::PREFIX;
use crate::catalog::quote::{ident, literal};
use crate::catalog::sql::{differs, key_json, of, row_json};

/// Why the event that is being judged is not applied.
const REASON: &str = "driftless_meta.r";
/// The event itself, in the log.
const THIS: &str = "id = new.id";
const LOG: &str = "INSERT INTO driftless_events (id, origin, actor, unit, tbl, pk, op, \"before\", \
                   \"after\", base, via, pair, verdict, reason, received_at)";
const LOGGED: &str = "new.id, new.origin, new.actor, new.unit, new.tbl, new.pk, new.op, new.before, \
                      new.after, new.base, new.via, new.pair";
/// What was noted and not replaced is of no more use, and would send every later write of the
/// database the careful way.
const FORGET_NOTES: &str = "DELETE FROM driftless_notes;";
const FORGET_VALUES: &str = "DELETE FROM driftless_values WHERE new.plain IS NULL;";
/// Names no event any more.
const RESET: &str = "UPDATE driftless_meta SET r = NULL, cid = NULL, cunit = NULL, corigin = NULL, \
                     ctbl = NULL, cpk = NULL, cop = NULL, cafter = NULL, cold = NULL, hush = NULL WHERE one = 1";
/// Lets no row in, and no further trigger see it.
const DONE: &str = "SELECT RAISE(IGNORE);";

/// Decodes what has a tag, once for the event, before anything else looks at it: the values of the
/// row, and the keys.
pub(super) fn decode_values() -> Trigger {
    let value = decode("driftless_part.value");
    let mut sql = format!(
        "CREATE TRIGGER {PREFIX}inbox_decode BEFORE INSERT ON driftless_inbox WHEN new.plain IS NULL\n\
         BEGIN\n  DELETE FROM driftless_values;\n  \
         INSERT INTO driftless_values (name, v) SELECT driftless_part.key, {value} \
         FROM json_each({IMAGE}) AS driftless_part WHERE driftless_part.type = 'object';\n"
    );
    for json in ["new.pk", "new.other"] {
        let _ = writeln!(
            sql,
            "  INSERT INTO driftless_values (name, v) SELECT {} || driftless_part.key, \
             CASE driftless_part.type WHEN 'object' THEN {value} ELSE driftless_part.value END \
             FROM json_each({json}) AS driftless_part;",
            literal(&key_name(json)),
        );
    }
    sql.push_str("END");
    Trigger { name: format!("{PREFIX}inbox_decode"), sql }
}

/// The log takes an event of a table that is not replicated, and that is all.
pub(super) fn unknown_table(names: &[String]) -> Trigger {
    let name = format!("{PREFIX}inbox");
    let sql = format!(
        "CREATE TRIGGER {name} BEFORE INSERT ON driftless_inbox WHEN new.tbl NOT IN ({})\nBEGIN\n  \
         {LOG} VALUES ({LOGGED}, 'rejected', 'table', {NOW_MS});\n  {FORGET_VALUES}\n  {DONE}\nEND",
        names.join(", ")
    );
    Trigger { name, sql }
}

/// An event that is in the log already is looked at no further.
pub(super) fn again() -> Trigger {
    let name = format!("{PREFIX}inbox_again");
    let sql = format!(
        "CREATE TRIGGER {name} BEFORE INSERT ON driftless_inbox \
         WHEN EXISTS (SELECT 1 FROM driftless_events WHERE driftless_events.id = new.id)\nBEGIN\n  \
         {DONE}\nEND"
    );
    Trigger { name, sql }
}

fn case(arms: &[String]) -> String {
    format!("CASE\n    WHEN {}\n    END", arms.join("\n    WHEN "))
}

impl Judge<'_> {
    /// A row that is here from before the log is the web's: log it, so that the replica gets it. In
    /// a trigger of its own, since it is rare.
    fn adopt(&self) -> Trigger {
        let this = self.this();
        let key = "coalesce(new.other, new.pk)";
        let has_key = self.has_spelled_key(&this, key);
        let name = format!("{PREFIX}inbox_adopt_{}", self.table().name);
        let sql = format!(
            "CREATE TRIGGER {} BEFORE INSERT ON driftless_inbox WHEN new.tbl = {tbl} \
             AND (new.op = 'insert') = (new.pair IS NULL) AND new.op <> 'update' \
             AND EXISTS (SELECT 1 FROM {this} WHERE {has_key}) \
             AND NOT EXISTS (SELECT 1 FROM driftless_events WHERE driftless_events.tbl = {tbl} \
             AND driftless_events.pk = {key})\nBEGIN\n  \
             INSERT INTO driftless_events (id, origin, tbl, pk, op, \"after\", base, verdict, received_at) \
             SELECT {}, 'web', {tbl}, {}, 'insert', {}, 0, 'applied', {NOW_MS} FROM {this} \
             WHERE {has_key};\nEND",
            ident(&name),
            ulid(),
            key_json(self.table(), &this),
            row_json(self.table(), &this),
            tbl = self.name(),
        );
        Trigger { name, sql }
    }

    /// Names the event in `driftless_meta`: `word` is what capture will see of it, and `key` the
    /// row that the write will find.
    fn announce(&self, word: &str, key: &str) -> String {
        let this = self.this();
        let old = match word {
            "update" => format!(
                "(SELECT {} FROM {this} WHERE {})",
                row_json(self.table(), &this),
                self.has_key(&this, key)
            ),
            _ => "NULL".to_owned(),
        };
        format!(
            "cid = new.id, cunit = new.unit, corigin = new.origin, ctbl = new.tbl, \
             cpk = new.pk, cop = '{word}', cafter = new.after, cold = {old}, hush = 1"
        )
    }

    /// Decides, with what is to be set beside the reason, and appends the event with its verdict.
    ///
    /// The verdict goes through `driftless_meta`, for an INSERT whose SELECT reads its own table
    /// passes through a temporary one; and so does an UPDATE that may find more than one row.
    fn judge(&self, reason: &str, announce: &str) -> [String; 2] {
        let decide = format!("UPDATE driftless_meta SET r = {reason}{announce} WHERE one = 1;");
        let append = format!(
            "{LOG} SELECT {LOGGED}, CASE WHEN {REASON} IS NULL THEN 'applied' WHEN {REASON} = 'conflict' \
             OR {REASON} = 'pair' OR {REASON} = 'via' THEN 'superseded' ELSE 'rejected' END, {REASON}, \
             {NOW_MS} FROM driftless_meta;"
        );
        [decide, append]
    }

    /// If the silence was not used up and the row does not hold the values, a trigger of the web's
    /// refused the write without a word.
    fn refused(&self, which: &str, held: &str) -> String {
        format!(
            "UPDATE driftless_events SET verdict = 'rejected', reason = 'refused' WHERE {which} \
             AND (SELECT driftless_meta.hush FROM driftless_meta WHERE driftless_meta.r IS NULL) = 1 \
             AND NOT {held};"
        )
    }

    fn holds(&self) -> String {
        let this = self.this();
        let parts: Vec<_> = self
            .table()
            .columns
            .iter()
            .map(|column| {
                let cell = Cell::pushed(self.table(), "new.after", column);
                let same =
                    differs(column, &of(&this, &column.name), &format!("({})", cell.value()));
                format!("({} IS NULL OR NOT ({same}))", cell.kind())
            })
            .collect();
        format!(
            "EXISTS (SELECT 1 FROM {this} WHERE {} AND {})",
            self.has_key(&this, "new.pk"),
            and(&parts)
        )
    }

    fn assignments(&self, partly: bool) -> String {
        let parts: Vec<_> = self
            .table()
            .columns
            .iter()
            .map(|column| {
                let cell = Cell::pushed(self.table(), "new.after", column);
                let name = ident(&column.name);
                if partly {
                    format!(
                        "{name} = CASE WHEN {} IS NULL THEN {name} ELSE {} END",
                        cell.kind(),
                        cell.value()
                    )
                } else {
                    format!("{name} = {}", cell.value())
                }
            })
            .collect();
        parts.join(", ")
    }

    fn trigger(&self, word: &str, when: &str, body: &[String]) -> Trigger {
        let name = format!("{PREFIX}inbox_{word}_{}", self.table().name);
        let mut sql = format!(
            "CREATE TRIGGER {} BEFORE INSERT ON driftless_inbox WHEN new.tbl = {} AND {when}\nBEGIN\n",
            ident(&name),
            self.name(),
        );
        for statement in body {
            let _ = writeln!(sql, "  {statement}");
        }
        let _ = write!(sql, "  {DONE}\nEND");
        Trigger { name, sql }
    }

    /// Applies an event that has nothing against it: appends it, makes `write`, and looks whether
    /// the write took place, which is so if capture has used its silence up.
    fn apply(&self, op: Kind, word: &str, write: String, held: &str) -> Trigger {
        let mut body = vec![
            format!("UPDATE driftless_meta SET {} WHERE one = 1;", self.announce(word, "new.pk")),
            format!("{LOG} VALUES ({LOGGED}, 'applied', NULL, {NOW_MS});"),
            write,
            FORGET_NOTES.to_owned(),
            format!("{RESET} AND hush = 0;"),
            "SELECT RAISE(IGNORE) WHERE changes() > 0 AND new.plain;".to_owned(),
            self.refused(THIS, held),
        ];
        body.extend([format!("{RESET};"), FORGET_VALUES.to_owned()]);
        // The other half of a key change is not applied by itself.
        let alone = if op == Kind::Update { "" } else { " AND new.pair IS NULL" };
        let when = format!("new.op = '{word}'{alone} AND ({}) IS NULL", case(&self.arms(op)));
        self.trigger(word, &when, &body)
    }

    fn insert(&self) -> Trigger {
        let columns: Vec<_> = self.table().column_names().map(ident).collect();
        let values: Vec<_> =
            self.table().columns.iter().map(|column| self.value("new.after", column)).collect();
        // Not by a SELECT, which would pass through a temporary table.
        let write = format!(
            "INSERT INTO {} ({}) VALUES ({});",
            self.this(),
            columns.join(", "),
            values.join(", ")
        );
        self.apply(Kind::Insert, "insert", write, &self.holds())
    }

    fn update(&self) -> Trigger {
        let this = self.this();
        let write = format!(
            "UPDATE {this} SET {} WHERE {};",
            self.assignments(true),
            self.has_key(&this, "new.pk")
        );
        self.apply(Kind::Update, "update", write, &self.holds())
    }

    fn delete(&self) -> Trigger {
        let this = self.this();
        let write = format!("DELETE FROM {this} WHERE {};", self.has_key(&this, "new.pk"));
        self.apply(Kind::Delete, "delete", write, &format!("NOT {}", self.exists("new.pk")))
    }

    /// Logs what is not to be applied, with the reason. And the delete of a key change, which is
    /// judged for both halves: nothing is written before the insert comes.
    fn record(&self) -> Trigger {
        let arms = |op| case(&self.arms(op));
        // That there is a reason is why the event has come here.
        let reason = format!(
            "CASE WHEN new.pair IS NOT NULL AND new.op = 'delete' THEN {}\n    \
             ELSE coalesce(CASE new.op WHEN 'insert' THEN {}\n    WHEN 'update' THEN {}\n    \
             ELSE {} END, 'refused') END",
            arms(Kind::Move),
            arms(Kind::Insert),
            arms(Kind::Update),
            arms(Kind::Delete)
        );
        let mut body = self.judge(&reason, "").to_vec();
        body.extend([format!("{RESET};"), FORGET_VALUES.to_owned(), FORGET_NOTES.to_owned()]);
        self.trigger("record", "(new.op <> 'insert' OR new.pair IS NULL)", &body)
    }

    /// The insert of a key change shares the delete's verdict, and is materialized as an UPDATE of
    /// the old key, so that children follow.
    fn arrive(&self) -> Trigger {
        let this = self.this();
        let arm = "new.refuse IS NOT NULL THEN new.refuse".to_owned();
        let pair = "(SELECT driftless_events.verdict FROM driftless_events WHERE driftless_events.id = new.pair) \
                    IS NOT 'applied' THEN 'pair'";
        let announce = format!(", {}", self.announce("move", "new.other"));
        let mut body = self.judge(&case(&[arm, pair.to_owned()]), &announce).to_vec();
        body.extend([
            format!(
                "UPDATE {this} SET {} WHERE {} \
                 AND (SELECT driftless_meta.r FROM driftless_meta) IS NULL;",
                self.assignments(false),
                self.has_key(&this, "new.other")
            ),
            self.refused("(id = new.id OR id = new.pair)", &self.holds()),
            format!("{RESET};"),
            FORGET_VALUES.to_owned(),
            FORGET_NOTES.to_owned(),
        ]);
        self.trigger("arrive", "new.op = 'insert' AND new.pair IS NOT NULL", &body)
    }

    /// What is rare, which is to be made first.
    pub(super) fn rare_triggers(&self) -> Vec<Trigger> {
        vec![self.record(), self.arrive(), self.adopt()]
    }

    /// What is to be made last, and fires first.
    pub(super) fn common_triggers(&self) -> Vec<Trigger> {
        vec![self.delete(), self.update(), self.insert()]
    }
}
