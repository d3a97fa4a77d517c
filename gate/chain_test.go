package gate

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// tells checks what the log tells of the gate.
func (r *rig) tells(want ...string) {
	r.tb.Helper()
	if got := r.story(gateURI + r.name); !slices.Equal(got, want) {
		r.tb.Errorf("the log tells %q, want %q", got, want)
	}
}

func TestT01_NothingRunsWithoutALoggedStart(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	path, ran := r.mark()
	cmd := r.command("mark", path)
	r.line.onRecord(down)
	out := r.refuses(cmd, denial.AuditUnavailable)
	if ran() || out.Logged || !out.Spooled || out.Denied.Stage != denial.StageStartRecord {
		t.Errorf("ran: %v, got %+v", ran(), out)
	}
	r.tells()
	r.line.onRecord(nil)
	r.reopen()
	r.refuses(cmd, denial.ArtifactReplayed) // the use is gone
	// The issuer may have logged the start, so the gate had to send it again; the denial after it says that nothing ran.
	r.tells("start 1", "902", "504")
	if ran() {
		t.Error("the program ran")
	}
	r.runs(r.command("mark", path), 0)
	r.tells("start 1", "902", "504", "start 1", "end 0")
}

func TestT01_AnswerThatIsLost(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	path, ran := r.mark()
	cmd := r.command("mark", path)
	r.line.onRecord(lost)
	out := r.refuses(cmd, denial.AuditUnavailable)
	if ran() || !out.Spooled {
		t.Errorf("ran: %v, got %+v", ran(), out)
	}
	r.tells("start 1") // logged once, although it was sent twice
	r.line.onRecord(nil)
	r.refuses(cmd, denial.ArtifactReplayed)
	r.tells("start 1", "902", "504")
}

// forged is a receipt for a leaf in a log of two entries.
func (r *rig) forged(leaf []byte, key statement.Signer, issuer, log string, at uint64) []byte {
	r.tb.Helper()
	h := rfc6962.DefaultHasher
	first := h.HashLeaf([]byte("genesis"))
	head := receipt.Head{Size: 2, Root: receipt.Hash(h.HashChildren(first, h.HashLeaf(leaf))), Time: at}
	signed := must(receipt.SignHead(context.Background(), key, issuer, log, head))(r.tb)
	return must(receipt.Make(signed, 2, 1, []receipt.Hash{receipt.Hash(first)}))(r.tb)
}

func TestT01_IssuerThatLies(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	_, stranger := newKey(t)
	logKey, recordKey := r.keys[record.PurposeLog], r.keys[record.PurposeRecord]
	other := must(r.line.Record(t.Context(), r.denialLeaf()))(t) // a record of this gate with a valid receipt
	now := r.seconds()
	var want []string
	for _, row := range []struct {
		name string
		lie  func(leaf, answer []byte) []byte
	}{
		{"no answer", func(_, _ []byte) []byte { return nil }},
		{"garbage", func(_, _ []byte) []byte { return []byte("<html>502 Bad Gateway</html>") }},
		{"no receipt", func(leaf, _ []byte) []byte { return leaf }},
		{"another record", func(_, _ []byte) []byte { return other }},
		{"the receipt of another record", func(leaf, _ []byte) []byte {
			env := must(statement.Decode(other, len(other)))(t)
			return must(statement.Attach(leaf, must(env.Receipts())(t)[0]))(t)
		}},
		{"two receipts", func(leaf, answer []byte) []byte {
			env := must(statement.Decode(answer, len(answer)))(t)
			rs := must(env.Receipts())(t)
			return must(statement.Attach(leaf, rs[0], rs[0]))(t)
		}},
		{"a changed receipt", func(_, answer []byte) []byte { answer[len(answer)-100] ^= 1; return answer }},
		{"a receipt that is none", func(leaf, _ []byte) []byte { return must(statement.Attach(leaf, leaf))(t) }},
		{"a key of its own", func(leaf, _ []byte) []byte {
			return must(statement.Attach(leaf, r.forged(leaf, stranger, issuerURI, logURI, now)))(t)
		}},
		{"the key for records", func(leaf, _ []byte) []byte {
			return must(statement.Attach(leaf, r.forged(leaf, recordKey, issuerURI, logURI, now)))(t)
		}},
		{"another log", func(leaf, _ []byte) []byte {
			return must(statement.Attach(leaf, r.forged(leaf, logKey, issuerURI, logURI+"/2", now)))(t)
		}},
		{"another issuer", func(leaf, _ []byte) []byte {
			return must(statement.Attach(leaf, r.forged(leaf, logKey, issuerURI+"/2", logURI, now)))(t)
		}},
	} {
		path, ran := r.mark()
		cmd := r.command("mark", path)
		r.line.onRecord(func(_ context.Context, leaf []byte, pass func() ([]byte, error)) ([]byte, error) {
			answer, err := pass()
			if err != nil {
				return nil, err
			}
			return row.lie(leaf, answer), nil
		})
		out := r.refuses(cmd, denial.AuditUnavailable)
		if ran() || out.Logged || out.Denied.Stage != denial.StageStartRecord {
			t.Errorf("%s: ran: %v, got %+v", row.name, ran(), out)
		}
		// An honest issuer again: the chain goes on, whatever the liar did with the records.
		r.line.onRecord(nil)
		r.runs(r.command("exit", "0"), 0)
		want = append(want, "start 1", "902", "start 1", "end 0")
	}
	r.tells(append([]string{"101"}, want...)...)
}

// denialLeaf has the gate write a denial and returns its leaf as it was sent.
func (r *rig) denialLeaf() (leaf []byte) {
	r.tb.Helper()
	r.line.onRecord(func(_ context.Context, l []byte, pass func() ([]byte, error)) ([]byte, error) {
		leaf = l
		return pass()
	})
	r.refuses(Command{Path: r.child}, denial.NoArtifact)
	r.line.onRecord(nil)
	return leaf
}

func TestReceiptsOfARetiredLogKey(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	leaf := r.denialLeaf()
	at := r.seconds()
	raw := r.forged(leaf, r.keys[record.PurposeLog], issuerURI, logURI, at)
	logKey := slices.IndexFunc(r.trusted.Keys, func(k artifact.TrustKey) bool { return k.Purpose == artifact.PurposeLog })
	for name, row := range map[string]struct {
		from, to time.Time
		ok       bool
	}{
		"no bounds":    {time.Time{}, time.Time{}, true},
		"within":       {time.Unix(int64(at), 0), time.Unix(int64(at)+1, 0), true},
		"retired":      {time.Time{}, time.Unix(int64(at), 0), false},
		"not yet used": {time.Unix(int64(at)+1, 0), time.Time{}, false},
	} {
		trust := *r.trusted
		trust.Keys = slices.Clone(trust.Keys)
		trust.Keys[logKey].NotBefore, trust.Keys[logKey].NotAfter = row.from, row.to
		if _, err := verifyUnder(&trust, raw, leaf); (err == nil) != row.ok {
			t.Errorf("%s: got %v, want it accepted: %v", name, err, row.ok)
		}
	}
	// A retired key cannot help itself by dating the head back: what starts now was not logged then.
	path, ran := r.mark()
	cmd := r.command("mark", path)
	r.line.onRecord(func(_ context.Context, leaf []byte, _ func() ([]byte, error)) ([]byte, error) {
		return must(statement.Attach(leaf, r.forged(leaf, r.keys[record.PurposeLog], issuerURI, logURI, at-startSkew-60)))(t), nil
	})
	r.refuses(cmd, denial.AuditUnavailable)
	if ran() {
		t.Error("the program ran")
	}
}

func TestDenialsWaitForTheIssuerInOrder(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	good, other := r.command("exit", "0"), r.command("exit", "0")
	other.Path = "/bin/false"
	r.line.onRecord(down)
	for i, step := range []struct {
		cmd  Command
		want denial.Reason
	}{
		{Command{Path: r.child}, denial.NoArtifact}, {other, denial.ScopeDenied},
		{Command{Path: r.child, Artifact: []byte{0}}, denial.NotCanonical}, {Command{Path: r.child}, denial.NoArtifact},
	} {
		out, text := r.exec(step.cmd)
		if out.Started || out.Denied == nil || out.Logged || !out.Spooled || text != "" {
			t.Fatalf("step %d: got %+v", i, out)
		}
		if i != 2 { // which bad proof garbage is depends on the garbage
			wantDenied(t, out, step.want)
		}
	}
	if n := r.gate.state.pending(); n != 4 {
		t.Errorf("%d records wait, want 4", n)
	}
	r.tells()
	r.line.onRecord(nil)
	r.reopen()
	r.runs(good, 0)
	story := r.story(gateURI + "a")
	if len(story) != 6 || story[0] != "101" || story[1] != "404" || !strings.HasPrefix(story[2], "3") || story[3] != "101" {
		t.Errorf("the log tells %q", story)
	}
	if n := r.gate.state.pending(); n != 0 {
		t.Errorf("%d records wait, want none", n)
	}
}

func TestEndWaitsForTheIssuer(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	calls := 0
	r.line.onRecord(func(_ context.Context, _ []byte, pass func() ([]byte, error)) ([]byte, error) {
		if calls++; calls > 1 {
			return nil, errDown
		}
		return pass()
	})
	out, _ := r.exec(r.command("signal", "9"))
	if !out.Started || out.Status != 137 || !out.Spooled || !out.Logged {
		t.Errorf("got %+v, want a run whose end is spooled", out)
	}
	r.tells("start 1")
	r.line.onRecord(nil)
	r.runs(r.command("exit", "0"), 0)
	r.tells("start 1", "end -9", "start 1", "end 0")
}

func TestFullSpoolOpensAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	r.line.onRecord(down)
	r.refuses(Command{Path: r.child}, denial.NoArtifact) // in flight
	r.refuses(Command{Path: r.child}, denial.NoArtifact) // waits
	c := must(r.gate.state.loadChain())(t)
	for len(c.Waiting) < MaxWaiting-1 {
		c.Waiting = append(c.Waiting, c.Waiting[0])
	}
	if err := r.gate.state.saveChain(c); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if out := r.refuses(Command{Path: r.child}, denial.NoArtifact); out.Logged {
			t.Error("a denial was logged while the issuer is down")
		}
	}
	if n := r.gate.state.pending(); n != MaxWaiting+1 {
		t.Errorf("%d records wait, want %d", n, MaxWaiting+1)
	}
	// There is room for the end of what runs, always.
	s := &session{Gate: r.gate, run: denial.GateOrder().Begin()}
	s.claims.Execution.ID = nonce(t)
	s.ended(t.Context(), exitStatus{Exit: 5}, nil)
	if n := r.gate.state.pending(); n != MaxWaiting+2 {
		t.Errorf("%d records wait, want %d", n, MaxWaiting+2)
	}
	r.line.onRecord(nil)
	r.runs(r.command("exit", "0"), 0)
	story := r.story(gateURI + "a")
	if len(story) != MaxWaiting+4 || story[MaxWaiting+1] != "end 5" {
		t.Errorf("the log tells of %d things, want %d; the last are %q", len(story), MaxWaiting+4, story[max(0, len(story)-4):])
	}
}

func TestIssuerDecidesAgainstARecord(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		answer denial.Reason
		want   denial.Reason
		stays  bool // the record is sent again
	}{
		{"replayed", denial.ArtifactReplayed, denial.ArtifactReplayed, false},
		{"revoked", denial.HostRevoked, denial.HostRevoked, false},
		{"chain", denial.StateRollback, denial.StateRollback, false},
		{"not permitted", denial.NotPermitted, denial.NotPermitted, false},
		{"too large", denial.RequestLimit, denial.RequestLimit, false},
		{"other version", denial.UnsupportedVersion, denial.UnsupportedVersion, false},
		{"overloaded", denial.Overloaded, denial.AuditUnavailable, true},
		{"store fault", denial.StoreFault, denial.AuditUnavailable, true},
		{"no log", denial.AuditUnavailable, denial.AuditUnavailable, true},
		{"no HSM", denial.HSMUnavailable, denial.AuditUnavailable, true},
		{"internal", denial.Internal, denial.AuditUnavailable, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			r := newRig(t, newWorld(t), "a")
			path, ran := r.mark()
			cmd := r.command("mark", path)
			r.line.onRecord(func(context.Context, []byte, func() ([]byte, error)) ([]byte, error) {
				return nil, &denial.Denial{Reason: row.answer, Stage: denial.StagePresent, Detail: "so it says", Requirements: []string{"so it says"}}
			})
			out := r.refuses(cmd, row.want)
			if ran() || out.Denied.Stage != denial.StageStartRecord || out.Logged || out.Spooled != row.stays ||
				strings.Contains(fmt.Sprint(*out.Denied), "so it says") {
				t.Errorf("ran: %v, got %+v", ran(), out)
			}
			r.line.onRecord(nil)
			r.runs(r.command("exit", "0"), 0)
			if row.stays {
				r.tells("start 1", "902", "start 1", "end 0")
			} else {
				r.tells("start 1", "end 0")
			}
		})
	}
}

// A gate that was given the wrong URI once works again when it is given the right one.
func TestWrongAudienceDoesNotShutTheGate(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	cmd := r.command("exit", "0")
	o := r.options()
	o.Audience = gateURI + "b"
	wrong := must(Open(t.Context(), o))(t)
	out := must(wrong.Exec(t.Context(), cmd))(t)
	wantDenied(t, out, denial.AudienceMismatch)
	if out.Logged || out.Spooled {
		t.Errorf("got %+v, want a denial that the issuer does not take", out)
	}
	r.runs(cmd, 0)
}

func TestIssuerLearnsOfARevocationFirst(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	path, ran := r.mark()
	cmd := r.command("mark", path)
	r.line.onRecord(func(_ context.Context, _ []byte, pass func() ([]byte, error)) ([]byte, error) {
		r.revoke(record.CauseInitiator, robotURI)
		r.line.onRecord(nil)
		return pass()
	})
	out := r.refuses(cmd, denial.InitiatorRevoked)
	if ran() || out.Denied.Stage != denial.StageStartRecord || !out.Logged {
		t.Errorf("ran: %v, got %+v", ran(), out)
	}
	r.tells("805")
}
