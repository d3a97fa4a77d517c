package issuer_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/issuer"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/issuertest"
	"github.com/governed-execution/writ/test/softtpm"
)

// artifacts returns how many artifacts stand in the log.
func artifacts(w *issuertest.World) (n int) {
	w.Helper()
	err := w.Tree.Leaves(w.Ctx, 0, w.Size(), func(_ uint64, leaf []byte) error {
		if issuertest.Must(statement.Decode(leaf, statement.MaxStatement))(w).Kind() == statement.Artifact {
			n++
		}
		return nil
	})
	if err != nil {
		w.Fatal(err)
	}
	return n
}

// hold keeps others from writing to the log until the function that it returns is called.
func hold(w *issuertest.World) (release func()) {
	w.Helper()
	db := issuertest.Must(sql.Open("sqlite", w.Path))(w)
	conn := issuertest.Must(db.Conn(w.Ctx))(w)
	issuertest.Must(conn.ExecContext(w.Ctx, "BEGIN IMMEDIATE"))(w)
	return func() {
		issuertest.Must(conn.ExecContext(w.Ctx, "ROLLBACK"))(w)
		if err := errors.Join(conn.Close(), db.Close()); err != nil {
			w.Fatal(err)
		}
	}
}

func TestT01_NothingLeavesThatTheLogDoesNotTake(t *testing.T) {
	t.Parallel() // the log waits for five seconds before it gives up
	w := issuertest.New(t)
	good := w.Prepare(issuertest.Spoil{})
	refused := w.Prepare(issuertest.Spoil{Want: func(want *attest.Want) { want.Exporter[0] ^= 1 }})
	size := w.Size()
	release := hold(w)
	reasons := parallel(2, func(i int) error {
		minted, err := []issuertest.Attempt{good, refused}[i].Send()
		if ref, ok := err.(*issuer.Refusal); minted != nil || !ok || !ref.Known || ref.Logged || ref.Statement != nil {
			t.Errorf("attempt %d: got %v", i, err)
		}
		return err
	})
	if reasons[denial.AuditUnavailable] != 2 {
		t.Errorf("got %v, want AUDIT_UNAVAILABLE twice", reasons)
	}
	release()
	if w.Size() != size {
		t.Errorf("got %d entries after %d", w.Size(), size)
	}
	checkSummary(w, map[denial.Reason]uint64{denial.AuditUnavailable: 1, denial.ChannelBinding: 1})
	again := w.Prepare(issuertest.Spoil{Request: func([]byte) []byte { return good.Request }})
	issuertest.Must(again.Send())(t) // the request was not consumed
}

func TestNothingLeavesWithoutAToken(t *testing.T) {
	for _, row := range []struct {
		key    string
		logged bool
		entry  uint64 // entries that stay in the log without an answer
	}{
		{record.PurposeArtifact, true, 0},
		{record.PurposeRecord, false, 0},
		{record.PurposeLog, false, 1},
	} {
		t.Run(row.key, func(t *testing.T) {
			w := issuertest.New(t)
			spoil := issuertest.Spoil{}
			if row.key == record.PurposeRecord {
				spoil.Want = func(want *attest.Want) { want.Exporter[0] ^= 1 }
			}
			a := w.Prepare(spoil)
			w.Keys[row.key].Dead.Store(true)
			minted, err := a.Send()
			ref := w.Refusal(err, denial.HSMUnavailable)
			if minted != nil || !ref.Known || ref.Logged != row.logged {
				t.Errorf("got %+v", ref)
			}
			if row.logged {
				if ref.Denial.Stage != denial.StageTransaction || artifacts(w) != 0 {
					t.Errorf("got stage %q and %d artifacts", ref.Denial.Stage, artifacts(w))
				}
				checkSummary(w, nil)
			} else if err := w.Issuer.Summarise(w.Ctx); !denial.Is(err, denial.HSMUnavailable) {
				t.Errorf("a summary: %v", err)
			}
			w.Keys[row.key].Dead.Store(false)
			if n, _ := w.Issuer.Counts(); n != 0 {
				t.Errorf("%d artifacts left", n)
			}
			w.Permit()
		})
	}
}

// R07: what was committed while the log key did not sign is answered when it is asked for again, though nobody has appended anything since: the
// record of a gate, and a change of keys.
func TestR07_WhatWasCommittedIsAnswered(t *testing.T) {
	w := issuertest.New(t)
	m := w.Permit()
	start := w.Report(w.Host, m, record.EventStart, nil)
	key := w.Keys[record.PurposeLog]
	key.Dead.Store(true)
	for range 2 {
		_, err := w.Issuer.Take(w.Ctx, start)
		w.Refusal(err, denial.HSMUnavailable)
	}
	key.Dead.Store(false)
	size := w.Size()
	issuertest.Must(w.Issuer.Take(w.Ctx, start))(t)
	if w.Size() != size+1 {
		t.Errorf("a signed head of %d entries after %d, want one more", w.Size(), size)
	}

	_, steps := w.Replacement(record.PurposeStatus, record.KeyRetired)
	c := w.KeyChange(steps...)
	b := w.Sign(statement.KeyChange, c, w.Persons...)
	key.Dead.Store(true)
	if _, err := w.Issuer.Apply(w.Ctx, statement.KeyChange, b); !denial.Is(err, denial.HSMUnavailable) {
		t.Fatalf("got %v", err)
	}
	if _, err := w.Issuer.KeyHistory(w.Ctx); !denial.Is(err, denial.HSMUnavailable) {
		t.Errorf("the history of keys: got %v", err)
	}
	key.Dead.Store(false)
	before := w.Trust()
	if _, err := before.Follow(w.History()); err != nil {
		t.Error(err)
	}
}

func TestCountsAreExactWhenASummaryFailsHalfway(t *testing.T) {
	for _, key := range []string{record.PurposeRecord, record.PurposeLog} {
		t.Run(key, func(t *testing.T) {
			w := issuertest.New(t)
			for range 3 {
				_, err := w.Issuer.Mint(w.Ctx, issuer.NewConnection(), [32]byte{1}, nil, nil)
				w.Refusal(err, denial.WrongType)
			}
			w.Keys[key].Dead.Store(true)
			if err := w.Issuer.Summarise(w.Ctx); !denial.Is(err, denial.HSMUnavailable) {
				t.Fatalf("got %v", err)
			}
			w.Keys[key].Dead.Store(false)
			_, err := w.Issuer.Mint(w.Ctx, issuer.NewConnection(), [32]byte{1}, nil, nil)
			w.Refusal(err, denial.WrongType)
			if err := w.Issuer.Summarise(w.Ctx); err != nil {
				t.Fatal(err)
			}
			if got := summarised(w)[uint64(denial.WrongType.Code())]; got != 4 {
				t.Errorf("summaries tell of %d refusals, want 4", got)
			}
		})
	}
}

// summarised adds up all summaries in the log.
func summarised(w *issuertest.World) map[uint64]uint64 {
	w.Helper()
	all := map[uint64]uint64{}
	err := w.Tree.Leaves(w.Ctx, 0, w.Size(), func(i uint64, leaf []byte) error {
		env := issuertest.Must(statement.Decode(leaf, statement.MaxStatement))(w)
		var r record.Record
		if env.Kind() != statement.Record || statement.Unmarshal(env.Payload(), &r) != nil {
			return nil
		}
		for code, n := range r.Counts {
			all[code] += n
		}
		return nil
	})
	if err != nil {
		w.Fatal(err)
	}
	return all
}

func TestClosedLogAnswersNothing(t *testing.T) {
	w := issuertest.New(t)
	a := w.Prepare(issuertest.Spoil{})
	if err := w.Tree.Close(); err != nil {
		t.Fatal(err)
	}
	minted, err := a.Send()
	if ref, ok := err.(*issuer.Refusal); minted != nil || !ok || ref.Logged || ref.Denial.Reason.Condition() != denial.ConditionUndecidable {
		t.Errorf("got %v", err)
	}
}

func TestP15_StoreThatCannotBeReadRefuses(t *testing.T) {
	w := issuertest.New(t)
	w.Restart() // what is read has to come from the store
	a := w.Prepare(issuertest.Spoil{})
	db := issuertest.Must(sql.Open("sqlite", w.Path))(t)
	defer db.Close()
	issuertest.Must(db.Exec("ALTER TABLE state RENAME TO gone"))(t)
	_, err := a.Send()
	w.Refusal(err, denial.StoreFault)
	_, err = w.Issuer.Take(w.Ctx, w.Report(w.Host, mintedLike(w), record.EventStart, nil))
	w.Refusal(err, denial.StoreFault)
}

// mintedLike returns an artifact of another issuer, for a report that is never read.
func mintedLike(w *issuertest.World) *issuer.Minted {
	w.Helper()
	return issuertest.New(w).Permit()
}

func TestP16_ClockBehindTheLogRefuses(t *testing.T) {
	w := issuertest.New(t)
	w.Advance(-time.Hour)
	_, err := w.Ask(issuertest.Spoil{})
	if ref := w.Refusal(err, denial.ClockUntrusted); ref.Logged {
		t.Error("logged in the past")
	}
	w.Advance(time.Hour)
	w.Permit()
}

func TestCallerWhoHangsUpIsAnsweredInTheLog(t *testing.T) {
	w := issuertest.New(t)
	ctx, hangUp := context.WithCancel(w.Ctx)
	w.Keys[record.PurposeArtifact].Once(hangUp) // after the decision, before the commit
	a := w.Prepare(issuertest.Spoil{})
	minted := issuertest.Must(w.Issuer.Mint(ctx, a.Conn, a.Exporter, a.Request, a.Evidence))(t)
	issuertest.Must(verify(w, minted))(t)
	ctx, hangUp = context.WithCancel(w.Ctx)
	w.Keys[record.PurposeRecord].Once(hangUp)
	b := w.Prepare(issuertest.Spoil{Want: func(want *attest.Want) { want.Exporter[0] ^= 1 }})
	_, err := w.Issuer.Mint(ctx, b.Conn, b.Exporter, b.Request, b.Evidence)
	if ref := w.Refusal(err, denial.ChannelBinding); !ref.Logged {
		t.Error("a caller who hangs up keeps its denial out of the log")
	}
	c := w.Prepare(issuertest.Spoil{})
	if minted, err := w.Issuer.Mint(ctx, c.Conn, c.Exporter, c.Request, c.Evidence); err == nil || minted != nil {
		t.Error("a caller who is gone gets an artifact")
	}
}

func TestT21_NoSecretsInRecordsAndErrors(t *testing.T) {
	w := issuertest.New(t)
	canary := strings.Repeat("canary", 4)
	h := w.NewHost(issuertest.OtherURI, "")
	w.Approve(h)
	conn := issuer.NewConnection()
	secret := issuertest.Must(w.Begin(conn, h))(t)
	challenge := issuertest.Must(w.Issuer.Challenge(w.Ctx, conn))(t)
	var texts []string
	tell := func(err error) {
		t.Helper()
		var ref *issuer.Refusal
		if !errors.As(err, &ref) {
			t.Fatalf("got %v", err)
		}
		var out bytes.Buffer
		slog.New(slog.NewTextHandler(&out, nil)).Error("refused", "error", err)
		for _, p := range []*denial.Problem{denial.Known(ref.Denial), denial.Stranger(ref.Denial)} {
			data, _ := p.Encode()
			out.Write(data)
		}
		if ref.Logged {
			out.Write(issuertest.Must(json.Marshal(w.Record(ref.Index).Detail))(t))
		}
		texts = append(texts, out.String())
	}
	_, err := w.Issuer.FinishEnrolment(w.Ctx, conn, append(secret, []byte(canary)...))
	tell(err)
	_, err = w.Issuer.BeginEnrolment(w.Ctx, conn, []byte(canary))
	tell(err)
	for _, s := range []issuertest.Spoil{
		{Request: func([]byte) []byte { return []byte(canary) }},
		{Evidence: func([]byte) []byte { return []byte(canary) }},
		{Claims: func(c *artifact.RequestClaims) { c.Initiator = "urn:" + canary }},
		{Claims: func(c *artifact.RequestClaims) { c.Host = "urn:" + canary }},
		{Claims: func(c *artifact.RequestClaims) { c.Audience = "urn:" + canary }},
		{Claims: func(c *artifact.RequestClaims) { c.Scope[0].Target = "urn:" + canary }},
		{Parts: func(e *softtpm.Evidence) { e.BootLog = []byte(canary) }},
		{Parts: func(e *softtpm.Evidence) { e.Quote = []byte(canary) }},
		{Parts: func(e *softtpm.Evidence) { e.Challenge = attest.Nonce(challenge.Challenge) }},
	} {
		_, err := w.Ask(s)
		tell(err)
	}
	// Details are our own words; what the caller named stands in fields of its own, or nowhere.
	for _, needle := range []string{canary, hex.EncodeToString(secret), string(secret), hex.EncodeToString(challenge.Challenge), string(challenge.Challenge),
		hex.EncodeToString([]byte(canary)), fmt.Sprint(secret), fmt.Sprint(challenge.Challenge)} {
		for _, text := range texts {
			if strings.Contains(text, needle) {
				t.Errorf("%q stands in %q", needle, text)
			}
		}
	}
	// The activation secret is nowhere in the log's files.
	for _, name := range issuertest.Must(filepath.Glob(w.Path + "*"))(t) {
		if bytes.Contains(readFile(w, name), secret) {
			t.Errorf("%s holds the activation secret", name)
		}
	}
}

func TestT22_FloodOfStrangersIsOneSummary(t *testing.T) {
	const n = 100_000
	w := issuertest.New(t)
	noEvidence := w.Prepare(issuertest.Spoil{}).Request
	size := w.Size()
	for i := range n {
		var request []byte
		if i%4 == 0 {
			request = noEvidence
		}
		if _, err := w.Issuer.Mint(w.Ctx, issuer.NewConnection(), [32]byte{1}, request, nil); err == nil {
			t.Fatal("an artifact for noise")
		}
	}
	if w.Size() != size {
		t.Errorf("got %d entries after %d", w.Size(), size)
	}
	r := checkSummary(w, map[denial.Reason]uint64{denial.WrongType: n / 4 * 3, denial.NoEvidence: n / 4})
	if len(issuertest.Must(w.Tree.Leaf(w.Ctx, size))(t)) > 1024 {
		t.Errorf("a summary of %d bytes", len(issuertest.Must(w.Tree.Leaf(w.Ctx, size))(t)))
	}
	if _, counts := w.Issuer.Counts(); counts[denial.WrongType.Code()] != n/4*3 {
		t.Errorf("got %v", counts)
	}
	w.Advance(time.Minute)
	_, _ = w.Issuer.Mint(w.Ctx, issuer.NewConnection(), [32]byte{1}, nil, nil)
	if next := checkSummary(w, map[denial.Reason]uint64{denial.WrongType: 1}); next.Since != r.Time {
		t.Errorf("the next summary begins at %d, want %d", next.Since, r.Time)
	}
	checkSummary(w, nil)
}

// swapped is a token that gives another key for a purpose than it was asked for.
type swapped struct {
	*issuertest.Token
	purpose string
	key     statement.Signer
}

func (s swapped) Signer(ctx context.Context, purpose string, id statement.Thumbprint) (statement.Signer, error) {
	if purpose == s.purpose {
		return s.key, nil
	}
	return s.Token.Signer(ctx, purpose, id)
}

// without is a token that has no key for a purpose.
type without struct {
	*issuertest.Token
	purpose string
}

func (s without) Signer(ctx context.Context, purpose string, id statement.Thumbprint) (statement.Signer, error) {
	if purpose == s.purpose {
		return nil, denial.New(denial.HSMKeyPolicy, "it is gone")
	}
	return s.Token.Signer(ctx, purpose, id)
}

func TestOpenRefuses(t *testing.T) {
	w := issuertest.Bare(t)
	for name, spoil := range map[string]func(*issuer.Options){
		"no token":             func(o *issuer.Options) { o.Token = nil },
		"another artifact key": func(o *issuer.Options) { o.Token = swapped{w.Token, record.PurposeArtifact, issuertest.NewKey(t)} },
		"no record key":        func(o *issuer.Options) { o.Token = without{w.Token, record.PurposeRecord} },
		"no log key":           func(o *issuer.Options) { o.Token = without{w.Token, record.PurposeLog} },
		"keys swapped": func(o *issuer.Options) {
			o.Token = swapped{w.Token, record.PurposeStatus, w.Keys[record.PurposeRecord]}
		},
	} {
		o := w.Options()
		spoil(&o)
		if i, err := issuer.Open(w.Ctx, o); !denial.Is(err, denial.HSMKeyPolicy) || i != nil {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := issuer.Bootstrap(w.Ctx, w.Tree, w.Act, w.Keys[record.PurposeRecord], nil, w.Now()); !denial.Is(err, denial.PolicyRollback) {
		t.Errorf("a second genesis: %v", err)
	}
	g, act, err := issuer.ReadGenesis(w.Ctx, w.Tree)
	if err != nil || g.Issuer != issuertest.Issuer || len(act) != 2 {
		t.Errorf("got %v", err)
	}
}

func TestSealedStatements(t *testing.T) {
	w := issuertest.New(t)
	var keys statement.Keys
	if err := keys.Add(w.Keys[record.PurposeRecord].Key(), statement.Capsule, statement.Manifest); err != nil {
		t.Fatal(err)
	}
	size := w.Size()
	capsule := issuertest.Must(w.Issuer.SealCapsule(w.Ctx, "urn:x:capsule", issuertest.Must(statement.Marshal(map[uint64]string{0: "x"}))(t)))(t)
	issuertest.Must(issuertest.Must(statement.Decode(capsule, statement.MaxStatement))(t).Verify(keys, statement.Capsule))(t)
	if w.Size() != size {
		t.Error("a capsule is logged")
	}
	manifest := issuertest.Must(w.Issuer.SealManifest(w.Ctx, "urn:x:manifest", issuertest.Random(32)))(t)
	env := issuertest.Must(statement.Decode(manifest, statement.MaxStatement))(t)
	issuertest.Must(env.Verify(keys, statement.Manifest))(t)
	if receipts, err := env.Receipts(); err != nil || len(receipts) != 1 || w.Size() != size+1 {
		t.Errorf("a manifest without receipt: %v", err)
	}
}
