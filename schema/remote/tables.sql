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

-- Where pushes arrive. Always empty: its triggers judge each event, materialize it, and let no row in.
CREATE TABLE IF NOT EXISTS driftless_inbox (
  id      TEXT,     -- as in driftless_events, like all to `via`
  origin  TEXT,     -- the replica
  actor   TEXT,     -- who made it
  unit    TEXT,     -- what it was pushed with
  tbl     TEXT,     -- the table
  pk      TEXT,     -- the canonical key, a JSON array
  op      TEXT,     -- insert, update or delete
  before  TEXT,     -- old values, a JSON object
  after   TEXT,     -- new values, a JSON object
  base    INTEGER,  -- what its writer had seen of the log
  pair    TEXT,     -- id of the other half of a key change
  via     TEXT,     -- id of the event of which this is a foreign key's consequence
  other   TEXT,     -- key of the other half of a key change
  image   TEXT,     -- the new row of a key change, on its delete
  late    INTEGER,  -- 1: a later event of this push may supply what its foreign keys miss
  refuse  TEXT,     -- the error that this event alone gave: record it as rejected
  plain   INTEGER   -- 1: no value in it has a tag, so that none needs decoding
);

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
  oldest  INTEGER NOT NULL DEFAULT 1, -- the oldest seq that is kept
  r       TEXT,     -- why the event that is being judged is not applied
  cid     TEXT,     -- the event that is being materialized: its id,
  cunit   TEXT,     -- unit,
  corigin TEXT,     -- origin,
  ctbl    TEXT,     -- table,
  cpk     TEXT,     -- key,
  cop     TEXT,     -- insert, update, delete, or move for a key change,
  cafter  TEXT,     -- and new values;
  cold    TEXT,     -- the row as it was before, a JSON object;
  hush    INTEGER   -- 1 until capture has kept silent about it, once
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

-- Images of rows that a statement may be about to replace without telling any trigger.
CREATE TABLE IF NOT EXISTS driftless_notes (
  tbl TEXT NOT NULL,  -- the table
  own INTEGER NOT NULL, -- 1: the noted row and the one whose statement made the note have one key
  by  TEXT NOT NULL,  -- canonical key of the row whose statement made the note
  pk  TEXT NOT NULL,  -- the noted row's canonical key
  img TEXT NOT NULL,  -- the noted row as it was, a JSON object
  k1, k2, k3, k4, k5, k6, k7, k8, k9, k10, k11, k12, k13, k14, k15, k16 -- its key's values, folded by their collations
);
CREATE INDEX IF NOT EXISTS driftless_notes_key ON driftless_notes (tbl, k1);
-- Notes of other rows than their statement's own: a look here tells that there is nothing to do.
CREATE INDEX IF NOT EXISTS driftless_notes_others ON driftless_notes (tbl, by) WHERE own = 0;

-- The tagged values of the event that is being judged, decoded. Otherwise empty.
CREATE TABLE IF NOT EXISTS driftless_values (
  name TEXT PRIMARY KEY, -- the column
  v                      -- its value; no type, so that it stays as it is
);

-- Every power of two that a double can be: makes the exact spelling of a REAL.
CREATE TABLE IF NOT EXISTS driftless_pow2 (
  e INTEGER PRIMARY KEY, -- from -1074 to 1023
  p REAL NOT NULL UNIQUE -- 2^e
);
