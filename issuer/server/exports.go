package server

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/governed-execution/writ/audit"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/issuer"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/tlog"
)

// A finished bundle is kept for keepExport, and maxExports of them, so that a download that broke off can go on.
const (
	keepExport = 15 * time.Minute
	maxExports = 4
)

// exports keeps finished bundles in temporary files without names.
type exports struct {
	mu   sync.Mutex
	kept []*export
}

// export is a finished bundle. Its file is closed when it is neither kept nor read.
type export struct {
	tag   string // entity tag: bundles that differ have different ones
	query string
	file  *os.File
	until time.Time
	users int
}

// find returns the kept bundle with a tag, if it answers the query; nil if there is none. The caller releases it.
func (x *exports) find(tag, query string, now time.Time) *export {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.sweep(now)
	for _, e := range x.kept {
		if e.tag == tag && e.query == query {
			e.users++
			return e
		}
	}
	return nil
}

// keep keeps a bundle, in place of the oldest where there are too many. The caller releases it.
func (x *exports) keep(e *export, now time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	e.users, e.until = 2, now.Add(keepExport)
	x.kept = append(x.kept, e)
	x.sweep(now)
}

// sweep gives up what is too old or too much. The caller holds the lock.
func (x *exports) sweep(now time.Time) {
	for len(x.kept) > 0 && (len(x.kept) > maxExports || !now.Before(x.kept[0].until)) {
		x.drop(x.kept[0])
		x.kept = x.kept[1:]
	}
}

func (x *exports) drop(e *export) {
	if e.users--; e.users == 0 {
		_ = e.file.Close() // it has no name, and all of it was read
	}
}

func (x *exports) release(e *export) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.drop(e)
}

// export answers with a bundle. The query names a range of log indices (from, to: half-open), one execution or one host.
// If-Range with the tag of an earlier answer, and Range, go on with that answer as long as it is kept.
func (s *Server) export(w http.ResponseWriter, r *http.Request) {
	q, err := audit.ParseQuery(r.URL.Query())
	if err != nil {
		s.refuseOwner(w, r, misform{denial.Of(err), http.StatusBadRequest})
		return
	}
	query := r.URL.Query().Encode()
	e := s.exports.find(r.Header.Get("If-Range"), query, time.Now())
	if e == nil {
		if e, err = s.build(r.Context(), q, query); err != nil {
			s.refuseOwner(w, r, err)
			return
		}
		s.exports.keep(e, time.Now())
	}
	defer s.exports.release(e)
	info, err := e.file.Stat()
	if err != nil {
		s.refuse(w, r, fmt.Errorf("reading bundle: %w", err))
		return
	}
	w.Header().Set("Content-Type", "application/x-tar")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("ETag", e.tag)
	http.ServeContent(w, r, "", time.Time{}, io.NewSectionReader(e.file, 0, info.Size()))
}

// refuseOwner refuses the owner of the admin socket, who is told everything. A fault is told to the journal too.
func (s *Server) refuseOwner(w http.ResponseWriter, r *http.Request, err error) {
	d := denial.Of(err)
	if d.Reason == denial.Internal {
		s.log.Error("request went wrong", "error", err)
	}
	s.refuseWith(w, r, &issuer.Refusal{Denial: d, Known: true}, statusOf(err))
}

// publicLog is a log that has its newest head cosigned before it gives out a checkpoint of it. If witnesses do not answer, or too
// few, the checkpoint is the log's alone: an auditor who names witnesses does not take it.
type publicLog struct {
	*tlog.Log
	publisher Publisher
}

func (p publicLog) Checkpoint(ctx context.Context) (receipt.Head, []byte, error) {
	if p.publisher != nil && p.publisher.Publish(ctx) == nil {
		if head, raw := p.publisher.Newest(); raw != nil {
			return head, raw, nil
		}
	}
	return p.Log.Checkpoint(ctx)
}

// build makes a bundle in a temporary file.
func (s *Server) build(ctx context.Context, q audit.Query, query string) (*export, error) {
	b, err := audit.Build(ctx, publicLog{s.issuer.Log(), s.publisher}, s.issuer, q)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	f, err := os.CreateTemp("", "writ-export-*")
	if err != nil {
		return nil, fmt.Errorf("making temporary file: %w", err)
	}
	if err := errors.Join(os.Remove(f.Name()), b.Write(ctx, f)); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	digest := b.Digest()
	return &export{tag: `"` + hex.EncodeToString(digest[:]) + `"`, query: query, file: f}, nil
}
