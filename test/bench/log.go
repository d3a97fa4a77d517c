package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/tlog"
)

// Each number of writers appends for appendTime, in each of appendRounds rounds that take turns with the bare work: short
// ones, so that other work on the machine hurts both alike.
const (
	appendTime   = 300 * time.Millisecond
	appendRounds = 15
	appendAim    = 0.5 // of bare
	startAim     = 5 * time.Second
	pathAim      = time.Millisecond
	million      = 1_000_000
)

// logFigures measures the log by itself, under a key in software, so that the token's time does not hide its own.
func logFigures(ctx context.Context, alone int) (err error) {
	dir, err := os.MkdirTemp("", "writ-bench-log-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	signer, err := statement.NewSigner(priv)
	if err != nil {
		return err
	}
	fmt.Println(machine())
	writers := []int{1, 64, 512}
	if alone > 0 {
		return appends(ctx, dir, signer, []int{alone})
	}
	if err := appends(ctx, dir, signer, writers); err != nil {
		return err
	}
	return atAMillion(ctx, dir, signer)
}

func openLog(ctx context.Context, path string, signer statement.Signer) (*tlog.Log, error) {
	return tlog.Open(ctx, tlog.Options{Path: path, Signer: signer, Issuer: "https://bench.example", LogID: "https://bench.example/log"})
}

// numbered returns an entry of the size of an artifact that is like no other.
func numbered(n uint64) []byte {
	entry := make([]byte, leafSize)
	binary.BigEndian.PutUint64(entry, n)
	return entry
}

// appends compares appending with the bare Merkle append of the same entries by as many writers: one durable commit and
// one signature for what waits, the leaf hashes, and the root of the grown tree.
func appends(ctx context.Context, dir string, signer statement.Signer, numbers []int) (err error) {
	log, err := openLog(ctx, filepath.Join(dir, "log.db"), signer)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	bare, err := newMerkle(ctx, filepath.Join(dir, "merkle.db"), signer)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bare.close()) }()
	var n atomic.Uint64
	fmt.Printf("\nAppending entries of %d bytes, beside a bare Merkle append of the same entries (median of %d rounds)\n", leafSize, appendRounds)
	fmt.Printf("%7s %9s %9s %10s %18s %6s   %s\n", "writers", "log /s", "bare /s", "p99 ms", "CPU us each: log", "bare", "of bare")
	for _, writers := range numbers {
		var ours, theirs sample
		var ratios []float64
		for range appendRounds {
			a, err := concurrently(writers, appendTime, func(int) error {
				_, err := log.Append(ctx, tlog.Entry{Leaf: numbered(n.Add(1))})
				return err
			})
			if err != nil {
				return err
			}
			b, err := concurrently(writers, appendTime, func(int) error { return bare.append(numbered(n.Add(1))) })
			if err != nil {
				return err
			}
			ours.add(a)
			theirs.add(b)
			ratios = append(ratios, a.perSecond()/b.perSecond())
		}
		fmt.Printf("%7d %9.0f %9.0f %10s %18.1f %6.1f   %s\n", writers, ours.perSecond(), theirs.perSecond(), ms(ours.quantile(0.99)),
			us(ours.cpuEach()), us(theirs.cpuEach()), atLeast(median(ratios), appendAim))
	}
	return nil
}

// merkle is the bare Merkle append.
type merkle struct {
	db     *sql.DB
	insert *sql.Stmt
	signer statement.Signer
	tree   *compact.Range
	queue  chan merkleEntry
	ended  chan struct{}
}

type merkleEntry struct {
	entry []byte
	done  chan error
}

func newMerkle(ctx context.Context, path string, signer statement.Signer) (*merkle, error) {
	// 16 MiB are written before they are copied back, as in package tlog.
	pragmas := []string{"busy_timeout(5000)", "journal_mode(WAL)", "synchronous(FULL)", "temp_store(MEMORY)", "wal_autocheckpoint(4096)"}
	dsn := url.URL{Scheme: "file", Path: path, RawQuery: url.Values{"mode": {"rwc"}, "_pragma": pragmas}.Encode()}
	db, err := sql.Open("sqlite", dsn.String())
	if err != nil {
		return nil, fmt.Errorf("opening database: %w", err)
	}
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(ctx, "CREATE TABLE leaves (idx INTEGER PRIMARY KEY, hash BLOB NOT NULL, entry BLOB NOT NULL) STRICT"); err != nil {
		return nil, errors.Join(fmt.Errorf("making table: %w", err), db.Close())
	}
	m := &merkle{db: db, signer: signer, queue: make(chan merkleEntry, 4096), ended: make(chan struct{})}
	if m.insert, err = db.PrepareContext(ctx, "INSERT INTO leaves (idx, hash, entry) VALUES (?, ?, ?)"); err != nil {
		return nil, errors.Join(fmt.Errorf("preparing: %w", err), db.Close())
	}
	m.tree = (&compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}).NewEmptyRange(0)
	go m.run()
	return m, nil
}

// append returns when the entry is durable and under a signed root.
func (m *merkle) append(entry []byte) error {
	e := merkleEntry{entry, make(chan error, 1)}
	m.queue <- e
	return <-e.done
}

func (m *merkle) run() {
	defer close(m.ended)
	for first := range m.queue {
		runtime.Gosched() // as the writer of package tlog: whoever can run has its turn
		batch := []merkleEntry{first}
		for len(m.queue) > 0 && len(batch) < 256 {
			batch = append(batch, <-m.queue)
		}
		err := m.write(batch)
		for _, e := range batch {
			e.done <- err
		}
	}
}

func (m *merkle) write(batch []merkleEntry) error {
	tx, err := m.db.Begin()
	if err != nil {
		return fmt.Errorf("committing: %w", err)
	}
	defer tx.Rollback()
	insert := tx.Stmt(m.insert)
	for _, e := range batch {
		hash := receipt.LeafHash(e.entry)
		if _, err := insert.Exec(m.tree.End(), hash[:], e.entry); err != nil {
			return fmt.Errorf("committing: %w", err)
		}
		if err := m.tree.Append(hash[:], nil); err != nil {
			return fmt.Errorf("growing tree: %w", err)
		}
	}
	if err := tx.Commit(); err != nil {
		return fmt.Errorf("committing: %w", err)
	}
	root, err := m.tree.GetRootHash(nil)
	if err != nil {
		return fmt.Errorf("computing root: %w", err)
	}
	_, err = receipt.SignCheckpoint(context.Background(), m.signer, "bench.example/log", receipt.Head{Size: m.tree.End(), Root: receipt.Hash(root)})
	return err
}

func (m *merkle) close() error {
	close(m.queue)
	<-m.ended
	return errors.Join(m.insert.Close(), m.db.Close())
}

// atAMillion measures a log of a million entries: starting, proofs, tiles and reading all of it again.
func atAMillion(ctx context.Context, dir string, signer statement.Signer) error {
	path := filepath.Join(dir, "million.db")
	log, err := openLog(ctx, path, signer)
	if err != nil {
		return err
	}
	for n := uint64(0); n < million; {
		var entries []tlog.Entry
		for ; len(entries) < 5000; n++ {
			entries = append(entries, tlog.Entry{Leaf: fmt.Appendf(nil, "entry %d", n)})
		}
		if _, err := log.Append(ctx, entries...); err != nil {
			return errors.Join(err, log.Close())
		}
	}
	if err := log.Close(); err != nil {
		return err
	}
	begun := time.Now()
	if log, err = openLog(ctx, path, signer); err != nil {
		return err
	}
	started := time.Since(begun)
	var at uint64
	next := func() uint64 { at = (at + 7919) % million; return at }
	fmt.Printf("\nAt %d entries\n", million)
	fmt.Printf("%-28s %9s   %9s   %s\n", "", "p50 ms", "p99 ms", "p50")
	fmt.Printf("%-28s %9s   %9s   %s s\n", "start-up", ms(started), "", atMost(started.Seconds(), startAim.Seconds()))
	for _, row := range []struct {
		what string
		aim  time.Duration
		call func(int) error
	}{
		{"inclusion path", pathAim, func(int) error { _, err := log.Path(ctx, next(), million); return err }},
		{"receipt", 0, func(int) error { _, err := log.Receipt(ctx, next()); return err }},
		{"entry by digest", 0, func(int) error {
			_, _, err := log.Find(ctx, statement.DigestOf(fmt.Appendf(nil, "entry %d", next())))
			return err
		}},
		{"tile of 256 hashes", 0, func(int) error {
			_, err := log.Tile(ctx, receipt.Tile{Index: next() / 257, Width: receipt.TileWidth})
			return err
		}},
		{"bundle of entries", 0, func(int) error {
			_, err := log.Tile(ctx, receipt.Tile{Index: next() / 257, Width: receipt.TileWidth, Entries: true})
			return err
		}},
	} {
		s, err := concurrently(1, 2*time.Second, row.call)
		if err != nil {
			return errors.Join(err, log.Close())
		}
		p50, aim := s.quantile(0.5), ""
		if row.aim > 0 {
			aim = atMost(p50.Seconds()*1000, row.aim.Seconds()*1000) + " ms"
		}
		fmt.Printf("%-28s %9s   %9s   %s\n", row.what, ms(p50), ms(s.quantile(0.99)), aim)
	}
	begun = time.Now()
	if err := log.Scrub(ctx); err != nil {
		return errors.Join(err, log.Close())
	}
	fmt.Printf("%-28s %9s\n", "scrub of everything", ms(time.Since(begun)))
	return log.Close()
}
