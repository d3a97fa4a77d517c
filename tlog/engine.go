package tlog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"

	sqlite3 "modernc.org/sqlite/lib"

	"github.com/governed-execution/writ/denial"
)

// engine is the one connection that writes. It belongs to the writer goroutine. It takes no context: a statement that is
// interrupted half-way would leave the caller in doubt.
type engine struct {
	db    *sql.DB
	conn  *sql.Conn
	stmts map[string]*sql.Stmt
}

// writePragmas make every commit durable before it returns. Checkpoints are made by Log.checkpoint alone, so that a sync
// that fails in one is seen. Keys are hashes for the most part, which stand everywhere in their tables: 32 MiB of pages
// are kept in memory.
var writePragmas = []string{"busy_timeout(5000)", "journal_mode(WAL)", "synchronous(FULL)", "wal_autocheckpoint(0)",
	"trusted_schema(0)", "temp_store(MEMORY)", "cache_size(-32768)"}

var readPragmas = []string{"busy_timeout(5000)", "query_only(1)", "trusted_schema(0)", "temp_store(MEMORY)"}

// dsn returns the data source name of the file at path, which must be absolute.
func dsn(path, mode string, pragmas []string) string {
	q := url.Values{"mode": {mode}, "_dqs": {"0"}, "_defensive": {"1"}, "_pragma": pragmas}
	return (&url.URL{Scheme: "file", Path: path, RawQuery: q.Encode()}).String()
}

// openEngine opens or creates the database and its tables.
func openEngine(path string) (*engine, error) {
	// SQLite gives its other files the mode of this one: evidence and boot logs are nobody else's business.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening database: %w", err)
	}
	if err := f.Close(); err != nil {
		return nil, fmt.Errorf("opening database: %w", err)
	}
	db, err := sql.Open("sqlite", dsn(path, "rwc", writePragmas))
	if err != nil {
		return nil, fmt.Errorf("opening database: %w", err)
	}
	conn, err := db.Conn(context.Background())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("opening database: %w", err), db.Close())
	}
	e := &engine{db: db, conn: conn, stmts: map[string]*sql.Stmt{}}
	if err := e.prepareTables(path); err != nil {
		return nil, errors.Join(err, e.close())
	}
	return e, nil
}

// prepareTables creates the tables of an empty database and checks the version of any other.
func (e *engine) prepareTables(path string) error {
	var app, version, tables int64
	if err := errors.Join(e.row(&app, "PRAGMA application_id"), e.row(&version, "PRAGMA user_version"),
		e.row(&tables, "SELECT count(*) FROM sqlite_schema")); err != nil {
		return fmt.Errorf("reading schema: %w", err)
	}
	switch {
	case app == 0 && version == 0 && tables == 0:
		return e.createTables(path)
	case app != applicationID:
		return denial.New(denial.StoreFault, "the database is not a log")
	case version >= 1 && version < schemaVersion:
		return e.migrate(version)
	case version != schemaVersion:
		return denial.New(denial.UnsupportedVersion, "the log has schema version %d, this program knows %d", version, schemaVersion)
	}
	// A write that changes nothing shows whether the database can be written.
	return e.script(fmt.Sprintf("BEGIN IMMEDIATE; PRAGMA user_version = %d; COMMIT", schemaVersion))
}

func (e *engine) createTables(path string) error {
	if err := e.script(fmt.Sprintf("BEGIN IMMEDIATE; %s PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT",
		schema, applicationID, schemaVersion)); err != nil {
		return err
	}
	return syncDir(path)
}

// syncDir makes the names of the files beside path durable.
func syncDir(path string) error {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("opening directory: %w", err)
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func (e *engine) close() error {
	for _, s := range e.stmts {
		s.Close()
	}
	return errors.Join(e.conn.Close(), e.db.Close())
}

// script runs statements that return nothing and are not worth keeping.
func (e *engine) script(text string) error {
	_, err := e.conn.ExecContext(context.Background(), text)
	return err
}

// prepare returns the prepared statement for a query. Queries are constants of this package, so there are few.
func (e *engine) prepare(query string) (*sql.Stmt, error) {
	if s, ok := e.stmts[query]; ok {
		return s, nil
	}
	s, err := e.conn.PrepareContext(context.Background(), query)
	if err != nil {
		return nil, err
	}
	e.stmts[query] = s
	return s, nil
}

// exec runs one statement and returns how many rows it changed.
func (e *engine) exec(query string, args ...any) (int64, error) {
	s, err := e.prepare(query)
	if err != nil {
		return 0, err
	}
	result, err := s.Exec(args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// row scans the one value that a query gives.
func (e *engine) row(into any, query string, args ...any) error {
	s, err := e.prepare(query)
	if err != nil {
		return err
	}
	return s.QueryRow(args...).Scan(into)
}

// chunk is how many rows a statement writes or asks for at most. There is one prepared for each number up to it.
const chunk = 32

// find calls fn for each row that a query finds by tuples of parameters, which stand in it as %s.
func (e *engine) find(columns int, args []any, query string, fn func(scan func(...any) error) error) error {
	for part := range slices.Chunk(args, chunk*columns) {
		if err := e.eachRow(fmt.Sprintf(query, tuples(len(part)/columns, columns)), part, fn); err != nil {
			return err
		}
	}
	return nil
}

func (e *engine) eachRow(query string, args []any, fn func(scan func(...any) error) error) error {
	s, err := e.prepare(query)
	if err != nil {
		return err
	}
	found, err := s.Query(args...)
	if err != nil {
		return err
	}
	defer found.Close()
	for found.Next() {
		if err := fn(found.Scan); err != nil {
			return err
		}
	}
	return found.Err()
}

// insert writes rows of the given number of columns, many at a time; conflict says what if there is one already. A row
// that cannot be written ends the transaction, which is what a caller does after any error: so SQLite need not keep copies
// of pages to take back one statement alone.
func (e *engine) insert(into string, columns int, args []any, conflict string) error {
	for part := range slices.Chunk(args, chunk*columns) {
		if _, err := e.exec("INSERT OR ROLLBACK INTO "+into+" VALUES "+tuples(len(part)/columns, columns)+conflict, part...); err != nil {
			return err
		}
	}
	return nil
}

// rollback ends a transaction that failed. SQLite may have ended it already, which it calls an error.
func (e *engine) rollback() error {
	_, err := e.exec("ROLLBACK")
	if code(err) == sqlite3.SQLITE_ERROR {
		return nil
	}
	return err
}
