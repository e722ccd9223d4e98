-- What driftless keeps in the remote database: plain tables, indexes and triggers; nothing runs.
-- Every statement may be run again. Runs on libSQL (SQLite 3.47) and on the Turso engine.

-- The log: every mutation by every writer, also those that lost, in commit order.
CREATE TABLE IF NOT EXISTS driftless_events (
  seq         INTEGER PRIMARY KEY AUTOINCREMENT, -- its place: commit order, since the database has one writer at a time
  id          TEXT NOT NULL UNIQUE, -- a ULID
  origin      TEXT NOT NULL,        -- the replica's id, or web
  actor       TEXT,                 -- who made it, as the application set it
  unit        TEXT,                 -- a ULID: events pushed together have the same
  tbl         TEXT NOT NULL,        -- the table
  pk          TEXT NOT NULL,        -- the row's canonical key, a JSON array
  op          TEXT NOT NULL,        -- insert, update or delete
  before      TEXT,                 -- old values, a JSON object
  after       TEXT,                 -- new values, a JSON object
  base        INTEGER NOT NULL,     -- what the writer had seen of the log
  cause       TEXT,                 -- id of the event whose materialization made this one
  via         TEXT,                 -- id of the event of which this is a foreign key's consequence
  pair        TEXT,                 -- id of the other half of a key change
  verdict     TEXT NOT NULL,        -- applied, superseded or rejected
  reason      TEXT,                 -- why it was not applied
  received_at INTEGER NOT NULL      -- ms since 1970, by this server's clock
);

-- The conflict rule looks for newer events of one row.
CREATE INDEX IF NOT EXISTS driftless_events_row ON driftless_events (tbl, pk, seq);

-- Parts of pushes that are larger than a request. They take effect together, with the last request.
CREATE TABLE IF NOT EXISTS driftless_staged (
  name      TEXT NOT NULL,    -- the replica
  token     TEXT NOT NULL,    -- a ULID that was drawn for the push
  part      INTEGER NOT NULL, -- which part of it this is, from 0
  events    TEXT NOT NULL,    -- the events, a JSON array of arrays
  staged_at INTEGER NOT NULL, -- ms since 1970, by this server's clock
  PRIMARY KEY (name, token, part)
);

-- One row.
CREATE TABLE IF NOT EXISTS driftless_meta (
  one     INTEGER PRIMARY KEY CHECK (one = 1), -- there is one row
  epoch   TEXT NOT NULL,              -- a ULID: this database's identity
  version INTEGER NOT NULL,           -- of this schema
  oldest  INTEGER NOT NULL DEFAULT 1  -- the oldest seq that is kept
);

-- One row a replica.
CREATE TABLE IF NOT EXISTS driftless_replicas (
  name    TEXT PRIMARY KEY,  -- the replica's id
  mark    TEXT,              -- its incarnation: the mark of its newest accepted push
  contact INTEGER,           -- when it last pushed: ms since 1970, by this server's clock
  cursor  INTEGER,           -- what it had integrated then
  chain   TEXT               -- the head of its log's chain then, in hex
);

-- The replicated tables.
CREATE TABLE IF NOT EXISTS driftless_tables (
  name     TEXT PRIMARY KEY,            -- the table, in the spelling of all events
  conflict TEXT NOT NULL DEFAULT 'row', -- what counts as a conflict: row or columns
  triggers TEXT NOT NULL DEFAULT '',    -- fingerprint of the triggers that were installed
  columns  TEXT NOT NULL DEFAULT '[]'   -- the columns that these triggers know, in the spelling of all events, a JSON array
);

-- One row: which replica last began to install triggers here. An installation may take several
-- requests, each a transaction; each asks whether another replica has begun since.
CREATE TABLE IF NOT EXISTS driftless_installs (
  one   INTEGER PRIMARY KEY CHECK (one = 1), -- there is one row
  token TEXT NOT NULL                        -- drawn by that replica
);

-- Every power of two that a double can be: makes the exact spelling of a REAL.
CREATE TABLE IF NOT EXISTS driftless_pow2 (
  e INTEGER PRIMARY KEY, -- from -1074 to 1023
  p REAL NOT NULL UNIQUE -- 2^e
);

-- Tables of which capture may have missed writes: its triggers were missing for a while, or did not
-- know a column. One row a table, until the table has been compared with the log.
CREATE TABLE IF NOT EXISTS driftless_gaps (
  n       INTEGER PRIMARY KEY AUTOINCREMENT, -- names the gap
  tbl     TEXT NOT NULL UNIQUE, -- the table
  since   INTEGER NOT NULL,     -- the end of the log when its capture was last known to be whole
  noticed INTEGER NOT NULL      -- ms since 1970, by this server's clock
);

-- Columns that applied events name and the remote's table does not have: their values are in the
-- log alone. A column that arrives is filled from the log.
CREATE TABLE IF NOT EXISTS driftless_owed (
  tbl   TEXT NOT NULL,    -- the table
  col   TEXT NOT NULL,    -- the column, as events name it
  since INTEGER NOT NULL, -- the first event that names it in vain
  PRIMARY KEY (tbl, col)
);
