package tlog

import (
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
)

// entrySize is about that of an artifact.
const entrySize = 900

// permit is an entry as the issuer appends it: with a request id, a guard, a row and evidence.
func permit(n uint64) Entry {
	key := binary.BigEndian.AppendUint64(nil, n)
	body := make([]byte, entrySize)
	copy(body, key)
	return Entry{Leaf: body, Once: []Once{{"request", key, denial.RequestReplayed}},
		Guards: []Guard{{"policy", 0, denial.PolicyRollback}}, Puts: []Put{{"permit", key, key}}}
}

// BenchmarkAppend measures receipted entries for a number of callers that wait for their answers.
func BenchmarkAppend(b *testing.B) {
	for _, callers := range []int{1, 64, 512} {
		b.Run(fmt.Sprintf("callers=%d", callers), func(b *testing.B) {
			s := newSite(b)
			s.append(leaf("genesis"))
			var n atomic.Uint64
			signed := s.token.signed.Load()
			inParallel(b, callers, func() error {
				_, err := s.log.Append(context.Background(), permit(n.Add(1)))
				return err
			})
			b.ReportMetric(float64(b.N)/float64(s.token.signed.Load()-signed), "entries/batch")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "entries/s")
		})
	}
}

func inParallel(b *testing.B, callers int, call func() error) {
	var left atomic.Int64
	left.Store(int64(b.N))
	errs := make(chan error, callers)
	b.ResetTimer()
	for range callers {
		go func() {
			for left.Add(-1) >= 0 {
				if err := call(); err != nil {
					errs <- err
					return
				}
			}
			errs <- nil
		}()
	}
	for range callers {
		if err := <-errs; err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
}

// BenchmarkBare is the baseline: per batch, one durable commit of the bare rows of the batch, their hashes and one
// signature, without queue, checks, projections, nodes and receipts.
func BenchmarkBare(b *testing.B) {
	for _, batch := range []int{1, 32, 256} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			token := newToken(b, newKey(b))
			db, err := sql.Open("sqlite", dsn(filepath.Join(b.TempDir(), "bare.db"), "rwc", writePragmas))
			if err != nil {
				b.Fatal(err)
			}
			defer db.Close()
			db.SetMaxOpenConns(1)
			if _, err := db.Exec("CREATE TABLE leaves (idx INTEGER PRIMARY KEY, hash BLOB, entry BLOB)"); err != nil {
				b.Fatal(err)
			}
			b.ResetTimer()
			for n := uint64(0); n < uint64(b.N); {
				n = bareBatch(b, db, token, n, min(n+uint64(batch), uint64(b.N)))
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "entries/s")
		})
	}
}

func bareBatch(b *testing.B, db *sql.DB, token *token, n, end uint64) uint64 {
	tx, err := db.Begin()
	if err != nil {
		b.Fatal(err)
	}
	edge := ranges.NewEmptyRange(0)
	for ; n < end; n++ {
		e := permit(n)
		hash := receipt.LeafHash(e.Leaf)
		if err := edge.Append(hash[:], nil); err != nil {
			b.Fatal(err)
		}
		if _, err := tx.Exec("INSERT INTO leaves VALUES (?, ?, ?)", n, hash[:], e.Leaf); err != nil {
			b.Fatal(err)
		}
	}
	if err := tx.Commit(); err != nil {
		b.Fatal(err)
	}
	root, err := rootOf(edge.End(), edge.Hashes())
	if err != nil {
		b.Fatal(err)
	}
	if _, err := receipt.SignHead(context.Background(), token, testIssuer, testLog, receipt.Head{Size: n, Root: root, Time: testStart}); err != nil {
		b.Fatal(err)
	}
	return n
}

// BenchmarkMillion fills a log with a million entries and measures opening it, one path and one whole receipt.
func BenchmarkMillion(b *testing.B) {
	const million = 1 << 20
	s := newSite(b)
	for n := 0; n < million; {
		var entries []Entry
		for range 8192 {
			entries = append(entries, leaf(fmt.Sprintf("entry %d", n)))
			n++
		}
		s.append(entries...)
	}
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			s.close()
			s.open()
		}
		if b.Elapsed()/time.Duration(b.N) > 5*time.Second {
			b.Error("opening takes longer than 5 s")
		}
	})
	ctx, i := context.Background(), uint64(0)
	b.Run("path", func(b *testing.B) {
		for b.Loop() {
			i = (i + 7919) % million
			if _, err := s.log.Path(ctx, i, million); err != nil {
				b.Fatal(err)
			}
		}
		if b.Elapsed()/time.Duration(b.N) > time.Millisecond {
			b.Error("a path takes longer than 1 ms")
		}
	})
	b.Run("receipt", func(b *testing.B) {
		for b.Loop() {
			i = (i + 7919) % million
			if _, err := s.log.Receipt(ctx, i); err != nil {
				b.Fatal(err)
			}
		}
	})
}
