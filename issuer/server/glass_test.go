package server

import (
	"bytes"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/issuertest"
)

// logbook is a log that several goroutines write.
type logbook struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logbook) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logbook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

var _ io.Writer = (*logbook)(nil)

// P21: publication, use and review raise the alarm: in the log of the service, in metrics, and in the answer about health as
// long as a review is overdue.
func TestP21_BreakGlassRaisesTheAlarm(t *testing.T) {
	var book logbook
	s := open(t, Limits{}, func(srv *Server) { srv.log = slog.New(slog.NewTextHandler(&book, nil)) })
	shows := func(want ...string) {
		t.Helper()
		metrics := string(s.admin("/metrics").body)
		for _, w := range want {
			if !strings.Contains(metrics, w) {
				t.Errorf("metrics lack %s", w)
			}
		}
	}
	shows(`writ_break_glass_total{event="published"} 0`, `writ_break_glass_unreviewed{state="open"} 0`)
	draft := s.DraftGlass(s.DeclareGlass(false))
	act := s.Sign(statement.BreakGlass, draft, issuertest.Alice, issuertest.Bob)
	logged, err := s.client.Apply(s.Ctx, statement.BreakGlass, act)
	if err != nil || len(logged) != 2 {
		t.Fatal(logged, err)
	}
	if !strings.Contains(book.String(), "level=WARN msg=break-glass what=break-glass") {
		t.Errorf("nothing warns of the publication: %s", book.String())
	}
	shows(`writ_break_glass_total{event="published"} 1`, `writ_break_glass_total{event="used"} 0`, `writ_break_glass_unreviewed{state="open"} 1`)
	g := &issuertest.Glass{BreakGlass: draft, Digest: statement.DigestOf(issuertest.Must(statement.Marshal(draft))(t)), Act: logged}
	g.Proof = s.attestOver(g)
	leaf := s.ReportGlass(s.Host, g, record.EventStart, nil)
	if _, err := s.client.Record(s.Ctx, leaf); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(book.String(), "what=used id=") || !strings.Contains(book.String(), "waived=false") {
		t.Errorf("nothing warns of the use: %s", book.String())
	}
	shows(`writ_break_glass_total{event="used"} 1`, `writ_break_glass_unreviewed{state="overdue"} 0`)
	if a := s.admin("/healthz"); a.status != 200 || string(a.body) != "ok\n" {
		t.Errorf("got %d %s", a.status, a.body)
	}
	s.Advance(25 * time.Hour)
	if a := s.admin("/healthz"); a.status != 200 || !strings.Contains(string(a.body), "warning: 1 break-glass authorization(s) should have been reviewed") {
		t.Errorf("got %d %s", a.status, a.body)
	}
	shows(`writ_break_glass_unreviewed{state="overdue"} 1`)
	if _, err := s.client.Apply(s.Ctx, statement.Review, s.SignReview(g.Digest, true, issuertest.Alice, issuertest.Carol)); err != nil {
		t.Fatal(err)
	}
	shows(`writ_break_glass_total{event="reviewed"} 1`, `writ_break_glass_unreviewed{state="open"} 0`)
	if a := s.admin("/healthz"); string(a.body) != "ok\n" {
		t.Errorf("got %s", a.body)
	}
}

// attestOver has the host attest over a session of its own.
func (s *site) attestOver(g *issuertest.Glass) []byte {
	s.Helper()
	session := s.dial()
	a := s.prepare(session, issuertest.Must(session.Challenge(s.Ctx))(s), issuertest.Spoil{Claims: func(c *artifact.RequestClaims) {
		c.Scope, c.Execution.ID, c.Limits, c.Lifetime, c.BreakGlass = issuertest.GlassScope(), g.ID, nil, g.Expires-g.IssuedAt, g.Digest[:]
	}})
	size := s.Size()
	// C16: a request for an attestation mints nothing, and one for an artifact is attested nothing.
	if _, err := session.Mint(s.Ctx, a.Request, a.Evidence); !denial.Is(err, denial.WrongType) {
		s.Errorf("got %v", err)
	}
	other := s.prepare(session, issuertest.Must(session.Challenge(s.Ctx))(s), issuertest.Spoil{})
	if _, err := session.Attest(s.Ctx, other.Request, other.Evidence); !denial.Is(err, denial.WrongType) {
		s.Errorf("got %v", err)
	}
	raw := issuertest.Must(session.Attest(s.Ctx, a.Request, a.Evidence))(s)
	if got := s.Size() - size; got != 3 { // T23: two refusals and the attestation
		s.Errorf("%d entries", got)
	}
	return raw
}
