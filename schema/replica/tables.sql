-- What driftless keeps in a replica's database. Every statement may be run again.
-- Runs on SQLite 3.35 and later, since any client's writes fire the capture triggers.

-- One row. The triggers read it once for each captured change, so it is kept short.
CREATE TABLE IF NOT EXISTS driftless_state (
  one       INTEGER PRIMARY KEY CHECK (one = 1), -- there is one row
  replaying INTEGER NOT NULL DEFAULT 0, -- 1 inside a transaction that applies remote events: capture is silent
  cursor    INTEGER NOT NULL DEFAULT 0, -- the highest seq of the remote log that has been integrated: the base of new events
  clock     INTEGER NOT NULL DEFAULT 0, -- ms since 1970: no new event's time part is below this
  actor     TEXT,                       -- who is at work, as the application set it
  sent      INTEGER NOT NULL DEFAULT 0, -- the highest outbox number whose verdict the remote has given
  chain     BLOB NOT NULL               -- hash of the newest sealed frame
);

-- Settings and identity, as names and values.
CREATE TABLE IF NOT EXISTS driftless_settings (
  name  TEXT PRIMARY KEY, -- replica, url, epoch, version (of this schema), confirmed and marks (see src/protocol/incarnation.rs), staged (counts the writes of a first sync), ...
  value TEXT              -- the setting's text
) WITHOUT ROWID;

-- The identities that this file had before it was found to be a copy, or was told to go on with
-- another remote.
CREATE TABLE IF NOT EXISTS driftless_identities (
  n       INTEGER PRIMARY KEY, -- counts them, from 1
  replica TEXT NOT NULL,       -- the replica's id
  epoch   TEXT,                -- the epoch of the remote that it belonged to
  cursor  INTEGER NOT NULL,    -- what it had integrated when it ended
  cause   TEXT NOT NULL,       -- why it ended: copied or accepted
  ended   INTEGER NOT NULL     -- when: ms since 1970
);

-- The replicated tables.
CREATE TABLE IF NOT EXISTS driftless_tables (
  name     TEXT PRIMARY KEY,                -- the table, in the remote's spelling
  conflict TEXT NOT NULL DEFAULT 'row',     -- what counts as a conflict: row or columns
  triggers TEXT NOT NULL DEFAULT '',        -- fingerprint of the capture triggers that were installed
  columns  TEXT NOT NULL DEFAULT '[]',      -- the remote's spelling of its columns, a JSON array
  definition TEXT NOT NULL DEFAULT '',      -- a hash of its CREATE TABLE when it was last looked at
  compared TEXT NOT NULL DEFAULT '[]',      -- the columns that it had when its rows were last compared with the remote's, a JSON array
  suspect  TEXT                             -- capture may have missed writes: anew, gap or absent, and the schema version; NULL if not
) WITHOUT ROWID;

-- Rows that were missing here after a schema change, and came back from the remote, until a person
-- has decided about them.
CREATE TABLE IF NOT EXISTS driftless_returned (
  tbl  TEXT NOT NULL,    -- the table
  pk   TEXT NOT NULL,    -- the row's canonical key
  at   INTEGER NOT NULL, -- when it came back: ms since 1970
  PRIMARY KEY (tbl, pk)
) WITHOUT ROWID;

-- How the values of a table's events stand in the outbox. Rows are never changed: an event is read
-- by the definition with which it was captured.
CREATE TABLE IF NOT EXISTS driftless_layouts (
  id   INTEGER PRIMARY KEY, -- a hash of the rest
  tbl  TEXT NOT NULL,       -- the table
  spec TEXT NOT NULL        -- its columns in their order, and what its key is, as JSON (see src/capture/layout.rs)
);

-- Local events whose verdict this replica does not know yet, in the order they were made. The newest
-- row stays when all is settled (settled = 1), so that numbers are never used twice.
-- No column is NOT NULL: a constraint that may fail would make SQLite keep a journal of each statement.
-- A captured event has a layout, and its values in b1, b2, ... (the old ones) and a1, a2, ... (the new
-- ones), which are added for as many columns as the widest table has. Of an update they are NULL
-- where nothing changed; the old key is always there. An event without a layout has its values as
-- JSON: one of adoption, or of a driftless before schema 2.
CREATE TABLE IF NOT EXISTS driftless_outbox (
  n       INTEGER PRIMARY KEY, -- the order; also the high bits of the id's random part
  ms      INTEGER,             -- the id's time part: ms since 1970
  tail    INTEGER,             -- the id's low 40 bits: random
  layout  INTEGER,             -- which table it is, and where its values are
  tbl     TEXT,                -- without a layout: the table
  pk      TEXT,                -- without a layout: the row's canonical key, a JSON array
  op      INTEGER,             -- 0 insert, 1 update, 2 delete
  before  TEXT,                -- without a layout: old values, a JSON object: of the changed columns, or of all for a delete
  after   TEXT,                -- without a layout: new values: of the changed columns, or of all for an insert
  changes TEXT,                -- instead of before and after: {"column": [old, new]} for each changed column
  base    INTEGER,             -- the cursor when the change was made
  actor   TEXT,                -- who made it
  pair    INTEGER,             -- 1: the delete of a key change, 2: its insert, right behind it
  via     TEXT,                -- a foreign key's consequence: the number of the foreign key in the layout, from 0; before schema 3: [table, key] of the parent that went, a JSON array
  undo    TEXT,                -- the undo image where it is no longer the old values
  aside   INTEGER DEFAULT 0,   -- 1: set aside, so not in its row now
  winner  INTEGER,             -- seq of the event for which it was set aside
  refuse  TEXT,                -- what the remote said when this event alone was pushed: to be recorded as rejected
  settled INTEGER DEFAULT 0    -- 1: has its verdict, and is kept for its number alone
);

-- Images of rows that a statement may be about to replace without telling any trigger. The image
-- stands in v1, v2, ..., which are added like the outbox's columns. There is a table for each
-- collation of a key, so that no function is needed to find the row by another spelling of its key.
CREATE TABLE IF NOT EXISTS driftless_notes (
  tbl TEXT,    -- the table
  own INTEGER, -- 1: the noted row and the one whose statement made the note have one key
  by,          -- the row whose statement made the note: its key's value, or one text of a key of several columns
  k            -- the same of the noted row
);
CREATE INDEX IF NOT EXISTS driftless_notes_key ON driftless_notes (tbl, k);
-- Notes of other rows than their statement's own: a look here tells that there is nothing to do.
CREATE INDEX IF NOT EXISTS driftless_notes_others ON driftless_notes (tbl, by) WHERE own = 0;
-- The same for tables whose key has a column with the collation NOCASE.
CREATE TABLE IF NOT EXISTS driftless_notes_nocase (
  tbl TEXT,          -- as in driftless_notes, like the others
  own INTEGER,       -- 1: one key
  by COLLATE NOCASE, -- the row whose statement made the note
  k COLLATE NOCASE   -- the noted row
);
CREATE INDEX IF NOT EXISTS driftless_notes_nocase_key ON driftless_notes_nocase (tbl, k);
CREATE INDEX IF NOT EXISTS driftless_notes_nocase_others ON driftless_notes_nocase (tbl, by) WHERE own = 0;
-- The same for tables whose key is one column with the collation RTRIM.
CREATE TABLE IF NOT EXISTS driftless_notes_rtrim (
  tbl TEXT,         -- as in driftless_notes, like the others
  own INTEGER,      -- 1: one key
  by COLLATE RTRIM, -- the row whose statement made the note
  k COLLATE RTRIM   -- the noted row
);
CREATE INDEX IF NOT EXISTS driftless_notes_rtrim_key ON driftless_notes_rtrim (tbl, k);
CREATE INDEX IF NOT EXISTS driftless_notes_rtrim_others ON driftless_notes_rtrim (tbl, by) WHERE own = 0;

-- Marks of rows that are about to go, by which a foreign key's consequence is known as one. A mark
-- has what the foreign keys lead to, in the column with its affinity.
CREATE TABLE IF NOT EXISTS driftless_leaving (
  tbl TEXT,        -- the table; with columns, if they are not its key
  evicted INTEGER, -- 1: a REPLACE evicts it
  n NUMERIC,       -- the value, if the column is a number's
  t TEXT,          -- the same of a text's
  b                -- the same of any other column's, or of several columns
);

-- One row. Made anew with a column for every name that a column of a replicated table has: what a
-- trigger finds in the place of a column that the application has dropped.
CREATE TABLE IF NOT EXISTS driftless_names (
  driftless_none -- nothing: the table is made anew with the triggers
);

-- Every power of two that a double can be: makes the exact spelling of a REAL (see src/event/value.rs).
CREATE TABLE IF NOT EXISTS driftless_pow2 (
  p REAL PRIMARY KEY,  -- 2^e
  e INTEGER NOT NULL   -- from -1074 to 1023
) WITHOUT ROWID;

-- The local log: settled events as sealed frames (see src/event/frame.rs).
CREATE TABLE IF NOT EXISTS driftless_log (
  seq    INTEGER PRIMARY KEY, -- its place in the remote log
  id     BLOB NOT NULL,       -- the event's id, 16 bytes
  own    INTEGER NOT NULL,    -- 1: this file's outbox had it
  header BLOB NOT NULL,       -- the frame's header
  vals   BLOB,                -- the frame's values; NULL once erased
  hash   BLOB NOT NULL        -- the chain's hash up to this frame
);

-- Own events by id: what tells a consequence of ours from another writer's event.
CREATE INDEX IF NOT EXISTS driftless_log_own ON driftless_log (id) WHERE own;

-- Which events of the local log are of a row. The setting rows_indexed has the last seq up to which
-- this is complete: see src/store/log/row_index.rs.
CREATE TABLE IF NOT EXISTS driftless_log_rows (
  row INTEGER NOT NULL, -- 40 bits of a hash of table and key, keyed by the setting row_secret; above them the number of 65,536 seqs
  seq INTEGER NOT NULL, -- the event's place in driftless_log
  PRIMARY KEY (row, seq)
) WITHOUT ROWID;

-- The conflict inbox: local events that lost.
CREATE TABLE IF NOT EXISTS driftless_conflicts (
  seq       INTEGER PRIMARY KEY,     -- the lost event's place in the log, where its frame is
  id        BLOB NOT NULL,           -- its id, 16 bytes
  kind      TEXT NOT NULL,           -- conflict, collision (two inserts with one key) or rejected
  winner    INTEGER,                 -- seq of the event that won, where there is one
  theirs    TEXT,                    -- the row as it stood when the loss was learnt, a JSON object; NULL if it was gone
  state     TEXT NOT NULL DEFAULT 'open', -- open, restored, dismissed, or moot: what it wanted came another way
  noticed   INTEGER NOT NULL,        -- when this replica learnt of it: ms since 1970
  tbl       TEXT,                    -- the lost event's table
  pk        TEXT,                    -- its row's canonical key
  other     TEXT,                    -- of a key change: the new key
  ends      INTEGER                  -- outbox number at which a transaction ended, the first that is known from the event on; its own number if it was not captured; NULL: not known
);
CREATE INDEX IF NOT EXISTS driftless_conflicts_id ON driftless_conflicts (id);
CREATE INDEX IF NOT EXISTS driftless_conflicts_ends ON driftless_conflicts (ends);
-- Which conflicts a later event of the row may make moot.
CREATE INDEX IF NOT EXISTS driftless_conflicts_row ON driftless_conflicts (tbl, pk)
  WHERE state = 'open';
CREATE INDEX IF NOT EXISTS driftless_conflicts_other ON driftless_conflicts (tbl, other)
  WHERE state = 'open';

-- Values of own events that were too large to travel: the log has none of them.
CREATE TABLE IF NOT EXISTS driftless_kept (
  id     BLOB PRIMARY KEY, -- the event's id, 16 bytes
  before TEXT,             -- what was underneath it, a JSON object
  after  TEXT              -- its new values
) WITHOUT ROWID;

-- The logs of former remotes. Their seqs and chains are their own.
CREATE TABLE IF NOT EXISTS driftless_old_log (
  former INTEGER NOT NULL, -- the identity that this file had then: driftless_identities.n
  seq    INTEGER NOT NULL, -- as in driftless_log, like the others
  id     BLOB NOT NULL,    -- the event's id
  own    INTEGER NOT NULL, -- 1: this file's outbox had it
  header BLOB NOT NULL,    -- the frame's header
  vals   BLOB,             -- the frame's values
  hash   BLOB NOT NULL,    -- the chain's hash up to this frame
  PRIMARY KEY (former, seq)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS driftless_old_log_own ON driftless_old_log (id) WHERE own;

-- Local events that lost on former remotes.
CREATE TABLE IF NOT EXISTS driftless_old_conflicts (
  former  INTEGER NOT NULL, -- as in driftless_old_log
  seq     INTEGER NOT NULL, -- as in driftless_conflicts, like the others
  id      BLOB NOT NULL,    -- the event's id
  kind    TEXT NOT NULL,    -- conflict, collision or rejected
  winner  INTEGER,          -- seq of the event that won, in that log
  theirs  TEXT,             -- the row as it stood then
  state   TEXT NOT NULL,    -- open, restored, dismissed or moot
  noticed INTEGER NOT NULL, -- when this replica learnt of it
  tbl     TEXT,             -- the lost event's table
  pk      TEXT,             -- its row's canonical key
  other   TEXT,             -- of a key change: the new key
  ends    INTEGER,          -- as in driftless_conflicts
  PRIMARY KEY (former, seq)
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS driftless_old_conflicts_id ON driftless_old_conflicts (id);
CREATE INDEX IF NOT EXISTS driftless_old_conflicts_row ON driftless_old_conflicts (tbl, pk)
  WHERE state = 'open';
CREATE INDEX IF NOT EXISTS driftless_old_conflicts_other ON driftless_old_conflicts (tbl, other)
  WHERE state = 'open';

-- Pulled events that cannot be applied here yet, in their order.
CREATE TABLE IF NOT EXISTS driftless_quarantine (
  seq    INTEGER PRIMARY KEY, -- the event's place in the log, where its frame is
  tbl    TEXT NOT NULL,       -- its table
  pk     TEXT NOT NULL,       -- its row's key: later events of that row follow it
  reason TEXT NOT NULL,       -- why it could not be applied
  img    TEXT,                -- the row before the event, a JSON object, if the row cannot be here at all
  line   BLOB                 -- what came, of one that could not be read and has no frame; or NULL
);
CREATE INDEX IF NOT EXISTS driftless_quarantine_row ON driftless_quarantine (tbl, pk);

-- Rows of the remote while the first sync reads them, before they are shown.
CREATE TABLE IF NOT EXISTS driftless_staging (
  tbl TEXT NOT NULL,   -- the table
  pk  TEXT NOT NULL,   -- the row's canonical key
  img TEXT,            -- the row, a JSON object; NULL if it was deleted meanwhile
  PRIMARY KEY (tbl, pk)
) WITHOUT ROWID;
