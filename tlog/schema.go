package tlog

// applicationID marks a SQLite file as a log of Writ; schemaVersion is the version of the tables.
const (
	applicationID = 0x57524954 // "WRIT"
	schemaVersion = 2
)

// schema holds the tables. The log is leaves, nodes and heads. The others are projections: what an entry consumes once
// (spent), rows of state, counters, and data that entries name by digest (blobs).
const schema = `
CREATE TABLE leaves (
	idx    INTEGER PRIMARY KEY,
	hash   BLOB NOT NULL,  -- RFC 6962 leaf hash
	digest BLOB NOT NULL,  -- SHA-256 of the entry
	entry  BLOB NOT NULL
) STRICT;
CREATE INDEX leaves_digest ON leaves (digest);

CREATE TABLE nodes (       -- complete inner nodes; level 1 is above the leaves
	level INTEGER NOT NULL,
	idx   INTEGER NOT NULL,
	hash  BLOB NOT NULL,
	PRIMARY KEY (level, idx)
) STRICT, WITHOUT ROWID;

CREATE TABLE heads (       -- one row for each committed batch
	size   INTEGER PRIMARY KEY,
	root   BLOB NOT NULL,
	time   INTEGER NOT NULL,
	signed BLOB            -- stored with the next batch, or at Close
) STRICT;

CREATE TABLE spent (
	name TEXT NOT NULL,
	key  BLOB NOT NULL,
	idx  INTEGER NOT NULL, -- the entry that consumed it
	PRIMARY KEY (name, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE state (
	bucket TEXT NOT NULL,
	key    BLOB NOT NULL,
	value  BLOB NOT NULL,
	PRIMARY KEY (bucket, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE counters (
	name  TEXT PRIMARY KEY,
	value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE blobs (
	digest BLOB PRIMARY KEY,
	data   BLOB NOT NULL,
	idx    INTEGER NOT NULL DEFAULT 9223372036854775807 -- newest entry that brought it; the greatest: never deleted
) STRICT;
`

// migrate brings the tables of version 1 to version 2. Which entries brought a blob was not written down then, so those
// that are there are never deleted.
const migrate = "ALTER TABLE blobs ADD COLUMN idx INTEGER NOT NULL DEFAULT 9223372036854775807;"

// forEver is the idx of a blob that is never deleted.
const forEver = 1<<63 - 1
