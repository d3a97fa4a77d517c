package tlog

import (
	"errors"
	"fmt"
)

// applicationID marks a SQLite file as a log of Writ; schemaVersion is the version of the tables.
const (
	applicationID = 0x57524954 // "WRIT"
	schemaVersion = 4
)

// indexTables are the index of entries by digest and name (see run), and what is found by it.
const indexTables = `
CREATE TABLE digests (
	key   INTEGER PRIMARY KEY, -- level << 56, and the block
	block BLOB NOT NULL        -- number of items of the run (4 bytes); items: first 8 bytes of digest or name, place in the run (4 bytes); sorted
) STRICT;

CREATE TABLE payloads (
	key    INTEGER PRIMARY KEY, -- index of the entry << 16, and which of its blobs
	digest BLOB NOT NULL,
	data   BLOB NOT NULL
) STRICT;
`

// schema holds the tables. The log is leaves, nodes and heads. The others are projections: what an entry consumes once
// (spent), rows of state, counters, and data that entries name by digest: payloads, and in blobs what is never deleted.
const schema = `
CREATE TABLE leaves (
	idx    INTEGER PRIMARY KEY,
	hash   BLOB NOT NULL,  -- RFC 6962 leaf hash
	digest BLOB NOT NULL,  -- SHA-256 of the entry
	names  BLOB NOT NULL,  -- 16 bytes each: what the entry is found by beside its digest
	entry  BLOB NOT NULL
) STRICT;
` + indexTables + `
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
	idx    INTEGER NOT NULL DEFAULT 9223372036854775807 -- the greatest: never deleted; in a log of version 3, newest entry that brought it
) STRICT;
`

// keepBlobs brings the tables of version 1 to version 2. Which entries brought a blob was not written down then, so those
// that are there are never deleted.
const keepBlobs = "ALTER TABLE blobs ADD COLUMN idx INTEGER NOT NULL DEFAULT 9223372036854775807;"

// migrate brings the tables of an earlier version to this one. From version 2 to 3 an index of SQLite gave way to runs; from 3
// to 4 these got names, and what entries bring got a table of its own. What was there stays where it was.
func (e *engine) migrate(from int64) error {
	if err := e.script("BEGIN IMMEDIATE"); err != nil {
		return err
	}
	err := e.convert(from)
	if err == nil {
		err = e.script("COMMIT")
	}
	if err != nil {
		return errors.Join(fmt.Errorf("bringing the log to this version: %w", err), e.rollback())
	}
	return nil
}

func (e *engine) convert(from int64) error {
	script := "ALTER TABLE leaves ADD COLUMN names BLOB NOT NULL DEFAULT x'';" + indexTables + fmt.Sprintf("PRAGMA user_version = %d", schemaVersion)
	switch from {
	case 1:
		script = keepBlobs + "DROP INDEX leaves_digest;" + script
	case 2:
		script = "DROP INDEX leaves_digest;" + script
	case 3:
		script = "DROP TABLE digests;" + script
	}
	if err := e.script(script); err != nil {
		return err
	}
	var size uint64
	if err := e.row(&size, "SELECT coalesce(max(idx) + 1, 0) FROM leaves"); err != nil {
		return err
	}
	for at := uint64(0); at < size; { // run by run, because one has a limited number of entries
		next := min(size, at-at%(run{level: topLevel}).size()+(run{level: topLevel}).size())
		items, err := e.readItems(at, next)
		if err != nil {
			return err
		}
		if err := e.extendIndex(at, next, items); err != nil {
			return err
		}
		at = next
	}
	return nil
}

// forEver is the idx of a blob that is never deleted.
const forEver = 1<<63 - 1
