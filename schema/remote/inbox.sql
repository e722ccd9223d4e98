-- The events of the push that is under way, from its first statement to its last. Otherwise empty.
CREATE TABLE driftless_inbox (
  n       INTEGER PRIMARY KEY, -- its place in the push
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
  refuse  TEXT      -- the error that this event alone gave: record it as rejected
);
