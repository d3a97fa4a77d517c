package issuer_test

import (
	"strings"
	"testing"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/issuer"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/issuertest"
)

// evidenceOf reports whether the evidence of an artifact is still there.
func evidenceOf(w *issuertest.World, m *issuer.Minted) bool {
	w.Helper()
	c, _, err := artifact.Inspect(m.Artifact)
	if err != nil {
		w.Fatal(err)
	}
	_, found, err := w.Tree.Blob(w.Ctx, statement.Digest(c.Environment.Evidence.Value))
	if err != nil {
		w.Fatal(err)
	}
	return found
}

// last returns the newest record in the log.
func last(w *issuertest.World) *record.Record { return w.Record(w.Size() - 1) }

func TestT26_OldPayloadsGoAndReceiptsStay(t *testing.T) {
	t.Parallel()
	w := issuertest.New(t)
	old := w.Permit()
	w.Advance(issuer.MinRetention + time.Hour)
	young := w.Permit()
	end := issuertest.Must(w.Issuer.Purge(w.Ctx, w.Now().Add(-issuer.MinRetention)))(t)
	if end != old.Index+1 || evidenceOf(w, old) || !evidenceOf(w, young) {
		t.Errorf("payloads are gone before %d, want %d; old %v, young %v", end, old.Index+1, evidenceOf(w, old), evidenceOf(w, young))
	}
	if r := last(w); r.Event != record.EventKept || r.Retention.Act != record.Deleted || r.Retention.Index != end {
		t.Errorf("logged as %+v", r)
	}
	var keys statement.Keys
	if err := keys.Add(w.Issuer.Genesis().Keys[record.PurposeLog], statement.Receipt); err != nil {
		t.Fatal(err)
	}
	env := issuertest.Must(statement.Decode(old.Artifact, statement.MaxStatement))(t)
	if p, err := receipt.Verify(issuertest.Must(env.Receipts())(t)[0], env.Leaf(), keys); err != nil || p.Index != old.Index {
		t.Errorf("the receipt of the old artifact: got %+v, %v", p, err)
	}
	if err := w.Tree.Scrub(w.Ctx); err != nil {
		t.Error(err)
	}
	size := w.Size()
	if again := issuertest.Must(w.Issuer.Purge(w.Ctx, w.Now().Add(-issuer.MinRetention)))(t); again != end || w.Size() != size {
		t.Errorf("once more: got %d, and %d entries", again, w.Size()-size)
	}
	w.Permit() // the host's enrolment is as good as before
}

func TestT26_PayloadsThatAreTooYoungStay(t *testing.T) {
	t.Parallel()
	w := issuertest.New(t)
	m := w.Permit()
	if _, err := w.Issuer.Purge(w.Ctx, w.Now().Add(time.Second-issuer.MinRetention)); !denial.Is(err, denial.NotPermitted) || !evidenceOf(w, m) {
		t.Errorf("got %v, want 910", err)
	}
}

func TestT26_NothingUnderALegalHoldGoes(t *testing.T) {
	t.Parallel()
	w := issuertest.New(t)
	first, second := w.Permit(), w.Permit()
	hold := issuer.Hold{Name: "case 7", From: second.Index, Reason: "litigation"}
	if err := w.Issuer.PlaceHold(w.Ctx, hold); err != nil {
		t.Fatal(err)
	}
	if r := last(w); r.Retention == nil || r.Retention.Act != record.Held || r.Retention.Name != hold.Name || r.Retention.Index != hold.From {
		t.Errorf("logged as %+v", r)
	}
	for name, bad := range map[string]issuer.Hold{"the same name": hold, "no name": {From: 1}} {
		if err := w.Issuer.PlaceHold(w.Ctx, bad); err == nil {
			t.Errorf("%s: a hold was placed", name)
		}
	}
	err := w.Issuer.PlaceHold(w.Ctx, issuer.Hold{Name: "a slip", From: w.Size() + 1})
	if !denial.Is(err, denial.NotPermitted) || !strings.Contains(denial.Of(err).Hint(), "Name an entry that is there") {
		t.Errorf("a hold from behind the next entry on: got %v", err)
	}
	if err := w.Issuer.PlaceHold(w.Ctx, issuer.Hold{Name: "from now on", From: w.Size()}); err != nil {
		t.Errorf("a hold of what comes: got %v", err)
	}
	if err := w.Issuer.LiftHold(w.Ctx, "from now on"); err != nil {
		t.Fatal(err)
	}
	w.Advance(2 * issuer.MinRetention)
	purge := func() uint64 { return issuertest.Must(w.Issuer.Purge(w.Ctx, w.Now().Add(-issuer.MinRetention)))(t) }
	if end := purge(); end != second.Index || evidenceOf(w, first) || !evidenceOf(w, second) {
		t.Errorf("payloads are gone before %d; first %v, second %v", end, evidenceOf(w, first), evidenceOf(w, second))
	}
	w.Restart() // the hold outlives the process
	if purge(); !evidenceOf(w, second) {
		t.Error("held evidence is gone")
	}
	if holds := issuertest.Must(w.Issuer.Holds(w.Ctx))(t); len(holds) != 1 || holds[0].Name != hold.Name || holds[0].Reason != hold.Reason {
		t.Errorf("got holds %+v", holds)
	}
	if err := w.Issuer.LiftHold(w.Ctx, "another"); !denial.Is(err, denial.NotPermitted) {
		t.Errorf("got %v, want 910", err)
	}
	if err := w.Issuer.LiftHold(w.Ctx, hold.Name); err != nil {
		t.Fatal(err)
	}
	if r := last(w); r.Retention == nil || r.Retention.Act != record.Released || r.Retention.Name != hold.Name {
		t.Errorf("logged as %+v", r)
	}
	if purge(); evidenceOf(w, second) {
		t.Error("evidence that is held no more stays")
	}
}

// T20: what a caller puts into a name reaches the log as bytes of one field, never as a record or a line more.
func TestT20_ANameWithALineBreakIsOneRecord(t *testing.T) {
	t.Parallel()
	w := issuertest.New(t)
	size := w.Size()
	name := "case\r\n7\x00\u2028\",\"act\":2"
	if err := w.Issuer.PlaceHold(w.Ctx, issuer.Hold{Name: name, From: 1}); err != nil {
		t.Fatal(err)
	}
	if got := w.Size() - size; got != 1 {
		t.Errorf("%d entries, want 1", got)
	}
	if r := last(w); r.Retention.Name != name || r.Retention.Act != record.Held {
		t.Errorf("logged as %+v", r.Retention)
	}
	for _, host := range []string{"spiffe://x/a\r\nb", "spiffe://x/a\nforged: yes"} {
		before := w.Size()
		e := w.Initiator(host)
		if _, err := w.Issuer.Apply(w.Ctx, statement.Enrolment, w.Sign(statement.Enrolment, e, issuertest.Alice, issuertest.Bob)); err == nil {
			t.Errorf("%q was enrolled", host)
		}
		if w.Size()-before > 1 {
			t.Errorf("%q: %d entries", host, w.Size()-before)
		}
	}
}

// TestP16_AClockThatWasAheadMintsNothing sets the clock ten years ahead, where no policy is in force any more, and right
// again: what was logged meanwhile has a time that the log does not go back behind.
func TestP16_AClockThatWasAheadMintsNothing(t *testing.T) {
	t.Parallel()
	w := issuertest.New(t)
	w.Permit()
	const ahead = 10 * 365 * 24 * time.Hour
	w.Advance(ahead)
	_, err := w.Ask(issuertest.Spoil{})
	if ref := w.Refusal(err, denial.PolicyExpired); !ref.Logged {
		t.Error("the denial is not logged")
	}
	w.Advance(-ahead)
	_, err = w.Ask(issuertest.Spoil{})
	if ref := w.Refusal(err, denial.ClockUntrusted); ref.Logged {
		t.Error("logged in the past")
	}
}

// TestP13_RevocationDoesNotAskWhenAnArtifactWasMinted: what was minted before counts as revoked as much as what would be
// minted afterwards, and what is not revoked is not touched.
func TestP13_RevocationDoesNotAskWhenAnArtifactWasMinted(t *testing.T) {
	t.Parallel()
	w := issuertest.New(t)
	other := w.EnrolHost("spiffe://example/host/other", "https://gate.example/other")
	before := w.Permit()
	spared := issuertest.Must(w.Ask(issuertest.Spoil{Host: other}))(t)
	w.Advance(2 * time.Second)
	w.Revoke(record.CauseHost, w.Host.URI)
	status := func(m *issuer.Minted) error {
		c, _, err := artifact.Inspect(m.Artifact)
		if err != nil {
			t.Fatal(err)
		}
		token := issuertest.Must(w.Issuer.Status(w.Ctx, 0))(t)
		list := issuertest.Must(artifact.VerifyStatus(token, w.Trust(), w.Now(), 0))(t)
		_, err = artifact.Verify(m.Artifact, artifact.Want{Trust: w.Trust(), Now: w.Now(), Status: list, Audience: c.Audience})
		return err
	}
	if err := status(before); !denial.Is(err, denial.HostRevoked) {
		t.Errorf("minted before: got %v, want 803", err)
	}
	_, err := w.Ask(issuertest.Spoil{})
	w.Refusal(err, denial.HostRevoked)
	if err := status(spared); err != nil {
		t.Errorf("another host: %v", err)
	}
	if _, err := w.Ask(issuertest.Spoil{Host: other}); err != nil {
		t.Errorf("another host, afterwards: %v", err)
	}
}
