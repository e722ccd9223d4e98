//! The inbox's triggers: one for each table and kind of event, each of which judges the event,
//! appends it to the log, and materializes it.

use std::fmt::Write as _;

use super::cell::{Cell, and, decode};
use super::judge::{IMAGE, Judge, key_name};
use super::remote::ulid;
use super::replica::NOW_MS;
use super::sql::*;
use super::table::PREFIX;
use super::triggers::{Trigger, Write as Kind};

/// Why the event that is being judged is not applied.
const REASON: &str = "(SELECT driftless_meta.r FROM driftless_meta)";
/// What spells the key of an ordinary event, and those of a key change.
const KEYS: &[&str] = &["new.pk"];
const BOTH_KEYS: &[&str] = &["new.pk", "new.other"];
/// The event itself, in the log.
const THIS: &str = "id = new.id";
const APPLIED: &str = "(SELECT driftless_meta.r FROM driftless_meta) IS NULL";

impl Judge<'_> {
    /// Decodes what has a tag, once for the event: the values of the row, and the keys.
    fn decode_values(&self, keys: &[&str]) -> Vec<String> {
        let mut statements = vec![format!(
            "INSERT INTO driftless_values (name, v) SELECT driftless_part.key, {} \
             FROM json_each({IMAGE}) AS driftless_part WHERE new.plain IS NULL AND driftless_part.type = 'object';",
            decode("driftless_part.value")
        )];
        if !self.table.rowid_key {
            statements.extend(keys.iter().map(|json| {
                format!(
                    "INSERT INTO driftless_values (name, v) SELECT {} || driftless_part.key, \
                     CASE driftless_part.type WHEN 'object' THEN {} ELSE driftless_part.value END \
                     FROM json_each({json}) AS driftless_part WHERE new.plain IS NULL;",
                    literal(&key_name(json)),
                    decode("driftless_part.value")
                )
            }));
        }
        statements
    }

    /// A row that is here from before the log is the web's: log it, so that the replica gets it. In
    /// a trigger of its own, which fires first, since it is rare.
    fn adopt(&self) -> Trigger {
        let this = self.this();
        let key = "coalesce(new.other, new.pk)";
        let has_key = self.has_spelled_key(&this, key);
        let name = format!("{PREFIX}inbox_adopt_{}", self.table.name);
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
            key_json(self.table, &this),
            row_json(self.table, &this),
            tbl = self.name(),
        );
        Trigger { name, sql }
    }

    /// Decides, and names the event in `driftless_meta`: `word` is what capture will see of it, and
    /// `key` the row that the write will find. Then appends it to the log.
    ///
    /// The verdict goes through `driftless_meta`, for an INSERT whose SELECT reads its own table
    /// passes through a temporary one; and so does an UPDATE that may find more than one row.
    fn judge(&self, arms: &[String], word: Option<&str>, key: &str) -> [String; 2] {
        let this = self.this();
        let old = match word {
            Some("update") => format!(
                "(SELECT {} FROM {this} WHERE {})",
                row_json(self.table, &this),
                self.has_key(&this, key)
            ),
            _ => "NULL".to_owned(),
        };
        let announce = word.map(|word| {
            format!(
                ", cid = new.id, cunit = new.unit, corigin = new.origin, ctbl = new.tbl, \
                 cpk = new.pk, cop = '{word}', cafter = new.after, cold = {old}, hush = 1"
            )
        });
        let decide = format!(
            "UPDATE driftless_meta SET r = CASE\n    WHEN {}\n    END{} WHERE one = 1;",
            arms.join("\n    WHEN "),
            announce.unwrap_or_default()
        );
        let append = format!(
            "INSERT INTO driftless_events (id, origin, actor, unit, tbl, pk, op, \"before\", \"after\", \
             base, via, pair, verdict, reason, received_at) VALUES (new.id, new.origin, new.actor, \
             new.unit, new.tbl, new.pk, new.op, new.before, new.after, new.base, new.via, new.pair, \
             CASE WHEN {APPLIED} THEN 'applied' WHEN {REASON} = 'conflict' OR {REASON} = 'pair' \
             OR {REASON} = 'via' THEN 'superseded' ELSE 'rejected' END, {REASON}, {NOW_MS});"
        );
        [decide, append]
    }

    /// If the silence was not used up and the row does not hold the values, a trigger of the web's
    /// refused the write without a word.
    fn refused(&self, which: &str, held: &str) -> String {
        format!(
            "UPDATE driftless_events SET verdict = 'rejected', reason = 'refused' \
             WHERE {which} AND (SELECT driftless_meta.hush FROM driftless_meta) = 1 AND {APPLIED} \
             AND NOT {held};"
        )
    }

    fn holds(&self) -> String {
        let this = self.this();
        let parts: Vec<_> = self
            .table
            .columns
            .iter()
            .map(|column| {
                let cell = Cell::pushed(self.table, "new.after", column);
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
            .table
            .columns
            .iter()
            .map(|column| {
                let cell = Cell::pushed(self.table, "new.after", column);
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
        let name = format!("{PREFIX}inbox_{word}_{}", self.table.name);
        let mut sql = format!(
            "CREATE TRIGGER {} BEFORE INSERT ON driftless_inbox WHEN new.tbl = {} AND {when}\nBEGIN\n",
            ident(&name),
            self.name(),
        );
        let end = [
            "UPDATE driftless_meta SET r = NULL, cid = NULL, cunit = NULL, corigin = NULL, \
             ctbl = NULL, cpk = NULL, cop = NULL, cafter = NULL, cold = NULL, hush = NULL WHERE one = 1;"
                .to_owned(),
            "DELETE FROM driftless_values WHERE new.plain IS NULL;".to_owned(),
            // What was noted and not replaced is of no more use, and would send every later write
            // of the database the careful way.
            "DELETE FROM driftless_notes;".to_owned(),
            "SELECT RAISE(IGNORE);".to_owned(),
        ];
        for statement in body.iter().chain(&end) {
            let _ = writeln!(sql, "  {statement}");
        }
        sql.push_str("END");
        Trigger { name, sql }
    }

    fn insert(&self) -> Trigger {
        let columns: Vec<_> = self.table.column_names().map(ident).collect();
        let values: Vec<_> =
            self.table.columns.iter().map(|column| self.value("new.after", column)).collect();
        let [decide, append] = self.judge(&self.arms(Kind::Insert), Some("insert"), "new.pk");
        let mut body = self.decode_values(KEYS);
        body.extend([
            decide,
            append,
            format!(
                "INSERT INTO {} ({}) SELECT {} FROM driftless_meta WHERE driftless_meta.r IS NULL;",
                self.this(),
                columns.join(", "),
                values.join(", ")
            ),
            self.refused(THIS, &self.holds()),
        ]);
        self.trigger("insert", "new.op = 'insert' AND new.pair IS NULL", &body)
    }

    fn update(&self) -> Trigger {
        let this = self.this();
        let [decide, append] = self.judge(&self.arms(Kind::Update), Some("update"), "new.pk");
        let mut body = self.decode_values(KEYS);
        body.extend([
            decide,
            append,
            format!(
                "UPDATE {this} SET {} WHERE {} AND {APPLIED};",
                self.assignments(true),
                self.has_key(&this, "new.pk")
            ),
            self.refused(THIS, &self.holds()),
        ]);
        self.trigger("update", "new.op = 'update'", &body)
    }

    fn delete(&self) -> Trigger {
        let this = self.this();
        let [decide, append] = self.judge(&self.arms(Kind::Delete), Some("delete"), "new.pk");
        let mut body = self.decode_values(KEYS);
        body.extend([
            decide,
            append,
            format!("DELETE FROM {this} WHERE {} AND {APPLIED};", self.has_key(&this, "new.pk")),
            self.refused(THIS, &format!("NOT {}", self.exists("new.pk"))),
        ]);
        self.trigger("delete", "new.op = 'delete' AND new.pair IS NULL", &body)
    }

    /// The delete of a key change is judged for both halves; nothing is written yet.
    fn leave(&self) -> Trigger {
        let [decide, append] = self.judge(&self.arms(Kind::Move), None, "new.pk");
        let mut body = self.decode_values(BOTH_KEYS);
        body.extend([decide, append]);
        self.trigger("leave", "new.op = 'delete' AND new.pair IS NOT NULL", &body)
    }

    /// The insert of a key change shares the delete's verdict, and is materialized as an UPDATE of
    /// the old key, so that children follow.
    fn arrive(&self) -> Trigger {
        let this = self.this();
        let arm = "new.refuse IS NOT NULL THEN new.refuse".to_owned();
        let pair = "(SELECT driftless_events.verdict FROM driftless_events WHERE driftless_events.id = new.pair) \
                    IS NOT 'applied' THEN 'pair'";
        let [decide, append] = self.judge(&[arm, pair.to_owned()], Some("move"), "new.other");
        let mut body = self.decode_values(BOTH_KEYS);
        body.extend([
            decide,
            append,
            format!(
                "UPDATE {this} SET {} WHERE {} AND {APPLIED};",
                self.assignments(false),
                self.has_key(&this, "new.other")
            ),
            self.refused("(id = new.id OR id = new.pair)", &self.holds()),
        ]);
        self.trigger("arrive", "new.op = 'insert' AND new.pair IS NOT NULL", &body)
    }

    pub(super) fn triggers(&self) -> Vec<Trigger> {
        vec![self.arrive(), self.leave(), self.delete(), self.update(), self.insert(), self.adopt()]
    }
}
