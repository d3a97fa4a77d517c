package tlog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/statement"
)

// Options say where a log lies and whose it is. Who can change them can make the issuer write a log of his own; nobody
// who pins the log key accepts it.
type Options struct {
	Path     string           // the database file; it is created if absent
	Signer   statement.Signer // the log key
	Earlier  []statement.Key  // earlier log keys, under which older heads still verify
	Issuer   string           // iss of the heads
	LogID    string           // URI of the log
	Now      func() time.Time // default time.Now
	Restored *Restored        // authorities let the log go on from a backup; nil: it must be whole
	Queue    int              // requests that may wait before the next is refused with 907; default 4096
}

// Log is an open log: its only writer, and a reader. It is safe for concurrent use.
type Log struct {
	Reader
	o      Options
	lock   *os.File
	mark   *mark
	db     *engine
	pool   *sql.DB                                    // read only
	commit func() error                               // ends the writer's transaction; a test lets it fail
	remark func(size uint64, root receipt.Hash) error // writes the mark; likewise
	cache  cache

	keys    keys
	gate    sync.RWMutex // held for reading while a request is put into the queue
	closed  bool
	queue   chan *request
	batches chan *batch   // from the writer to the signer
	ended   chan struct{} // closed when the signer has ended

	tree   tree   // of the writer
	stored uint64 // of the writer: size of the newest head that is stored signed
	dirty  int    // of the writer: bytes written since the last checkpoint

	heads    headList
	backlog  []receipt.Head // of the signer: committed and not yet signed
	behind   atomic.Bool    // the backlog is not empty because the key does not sign
	scrubbed atomic.Int64   // when Scrub last found nothing
	broken   atomic.Bool    // the store has failed: nothing is appended until it is opened again
}

// Open opens or creates a log. It checks, in this order: no other writer has it (906); it can be written (902); it is a
// log (906) of a known version (911); the entries are as many as the last head says (906); the root of the stored nodes
// is that of the last head (325); the last signed head is signed by the log key or an earlier one for this issuer and log
// and fits the nodes (325); the database is not older than its mark (906) and has the mark's root at that size (325).
//
// With Restored the log must be what that says, and may be older than its mark, as far as that covers it: see Restored.
//
// It does not read the entries: Scrub does.
func Open(ctx context.Context, o Options) (*Log, error) {
	if o.Signer == nil || o.Issuer == "" || o.LogID == "" || o.Path == "" {
		return nil, fmt.Errorf("opening log: path, signer, issuer and log URI are needed")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Queue <= 0 {
		o.Queue = 4096
	}
	l := &Log{o: o, keys: keys{signer: o.Signer, earlier: o.Earlier}, queue: make(chan *request, o.Queue), batches: make(chan *batch), ended: make(chan struct{})}
	if err := l.open(ctx); err != nil {
		return nil, errors.Join(openFault(err), l.release())
	}
	go l.runWriter()
	go l.runSigner()
	if len(l.backlog) > 0 {
		l.behind.Store(true)
		l.catchUp() // without success, Append will try again
	}
	return l, nil
}

func (l *Log) open(ctx context.Context) (err error) {
	path, err := filepath.Abs(l.o.Path)
	if err != nil {
		return fmt.Errorf("finding log: %w", err)
	}
	if l.lock, err = takeLock(path + ".lock"); err != nil {
		return err
	}
	if l.mark, err = openMark(path + ".mark"); err != nil {
		return err
	}
	l.remark = l.mark.write
	if l.db, err = openEngine(path); err != nil {
		return err
	}
	l.commit = func() error { _, err := l.db.exec("COMMIT"); return err }
	if l.pool, err = sql.Open("sqlite", dsn(path, "ro", readPragmas)); err != nil {
		return fmt.Errorf("opening database: %w", err)
	}
	l.pool.SetMaxIdleConns(8)
	l.Reader = Reader{q: &lookups{DB: l.pool, prepared: map[string]*sql.Stmt{}}, heads: l.heads.snapshot}
	return l.load(ctx)
}

// Close refuses new entries, finishes those that wait, stores what is signed and closes the files.
func (l *Log) Close() error {
	l.gate.Lock()
	if l.closed {
		l.gate.Unlock()
		return nil
	}
	l.closed = true
	close(l.queue)
	l.gate.Unlock()
	<-l.ended
	var err error
	if !l.broken.Load() {
		err = errors.Join(l.storeHeads(), l.truncate())
	}
	return errors.Join(err, l.release())
}

// release closes whatever is open.
func (l *Log) release() (err error) {
	if l.pool != nil {
		err = errors.Join(err, l.pool.Close())
	}
	if l.db != nil {
		err = errors.Join(err, l.db.close())
	}
	if l.mark != nil {
		err = errors.Join(err, l.mark.close())
	}
	if l.lock != nil {
		err = errors.Join(err, l.lock.Close())
	}
	if err != nil {
		return fmt.Errorf("closing log: %w", err)
	}
	return nil
}

// Append adds the entries, all or none, in this order and without others between them, and returns where they stand,
// in the same order. Nothing is returned before they are durable and under a signed head.
//
// Its refusals: an entry too large (313); the Reason of the first Guard or Once that does not hold, or ErrStale; the
// store cannot take it, or has failed before (902); the key does not sign (903); the clock stands before the last head
// or an entry's After (905); too many wait (907). After 902 and 903 the entries may be in the log, without receipt. A caller who gives up
// gets the error of ctx; entries that were committed by then stay. The entries must not be changed after the call.
func (l *Log) Append(ctx context.Context, entries ...Entry) ([]Appended, error) {
	if err := checkEntries(entries); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("appending: %w", err)
	}
	return l.await(newRequest(ctx, entries))
}

// SignHeads returns nil when every entry that is committed is under a signed head. It appends nothing. Append has what the key did not sign
// (903) signed before it appends more; whoever asks for a receipt of such an entry, or for health, need not wait for that. Its refusals are
// those of Append.
func (l *Log) SignHeads(ctx context.Context) error {
	_, err := l.await(newRequest(ctx, nil))
	return err
}

func (l *Log) await(r *request) ([]Appended, error) {
	if err := l.enqueue(r); err != nil {
		return nil, err
	}
	select {
	case a := <-r.done:
		return a.appended, a.err
	case <-r.ctx.Done():
		return nil, fmt.Errorf("appending: %w", r.ctx.Err())
	}
}

func (l *Log) enqueue(r *request) error {
	l.gate.RLock()
	defer l.gate.RUnlock()
	if l.closed {
		return denial.New(denial.AuditUnavailable, "the log is closed")
	}
	select {
	case l.queue <- r:
		return nil
	default:
		return denial.New(denial.Overloaded, "too many entries wait for the log")
	}
}
