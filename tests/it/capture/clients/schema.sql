CREATE TABLE members (
  id TEXT COLLATE NOCASE PRIMARY KEY, name TEXT NOT NULL, email TEXT COLLATE NOCASE UNIQUE, balance REAL, photo BLOB);
CREATE TABLE payments (
  id INTEGER PRIMARY KEY, member TEXT REFERENCES members ON DELETE CASCADE ON UPDATE CASCADE, cents INT, paid_at DATETIME);
CREATE UNIQUE INDEX payments_once ON payments (member, paid_at) WHERE cents > 0;
CREATE TABLE pairs (a INT, b TEXT, x, PRIMARY KEY (b, a)) WITHOUT ROWID;
CREATE TABLE loose (k PRIMARY KEY, x, double AS (x * 2) STORED);
CREATE UNIQUE INDEX loose_x ON loose (lower(x));
