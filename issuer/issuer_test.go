package issuer_test

import (
	"bytes"
	"encoding/hex"
	"maps"
	"slices"
	"testing"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/decision"
	"github.com/governed-execution/writ/denial"
	firmwarepolicy "github.com/governed-execution/writ/firmware-policy"
	"github.com/governed-execution/writ/issuer"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/issuertest"
)

// status returns the verified list that an artifact names.
func status(w *issuertest.World, c artifact.Claims) *artifact.Status {
	w.Helper()
	var n uint64
	for ; w.Issuer.StatusURI(n) != c.Status.List.URI; n++ {
		if n > 100 {
			w.Fatalf("the artifact names the list %s", c.Status.List.URI)
		}
	}
	raw := issuertest.Must(w.Issuer.Status(w.Ctx, n))(w)
	return issuertest.Must(artifact.VerifyStatus(raw, w.Trust(), w.Now(), 0))(w)
}

// verify verifies an artifact as a relying party does.
func verify(w *issuertest.World, minted *issuer.Minted) (*artifact.Artifact, error) {
	w.Helper()
	c, _, err := artifact.Inspect(minted.Artifact)
	if err != nil {
		w.Fatal(err)
	}
	return artifact.Verify(minted.Artifact, artifact.Want{Trust: w.Trust(), Now: w.Now(), Status: status(w, c)})
}

// blob returns what is stored under a digest.
func blob(w *issuertest.World, digest []byte) []byte {
	w.Helper()
	data, ok, err := w.Tree.Blob(w.Ctx, statement.Digest(digest))
	if err != nil || !ok {
		w.Fatalf("no blob %x: %v", digest, err)
	}
	return data
}

// documents returns the policies that an input names.
func documents(w *issuertest.World, in *decision.Input) (ap, az *firmwarepolicy.Document) {
	w.Helper()
	found := map[string]*firmwarepolicy.Document{}
	err := w.Tree.Leaves(w.Ctx, 0, w.Size(), func(_ uint64, leaf []byte) error {
		env := issuertest.Must(statement.Decode(leaf, statement.MaxStatement))(w)
		var p record.Policy
		if env.Kind() != statement.Policy || statement.Unmarshal(env.Payload(), &p) != nil {
			return nil
		}
		doc := issuertest.Must(firmwarepolicy.Decode(p.Document))(w)
		found[doc.Hash().String()] = doc
		return nil
	})
	if err != nil {
		w.Fatal(err)
	}
	return found[hex.EncodeToString(in.Appraisal.Hash)], found[hex.EncodeToString(in.Authorization.Hash)]
}

func TestPermitIsOneLeafAndVerifiesAndIsDecidedAgain(t *testing.T) {
	w := issuertest.New(t)
	before := w.Size()
	a := w.Prepare(issuertest.Spoil{})
	minted := issuertest.Must(a.Send())(t)
	if got := w.Size(); got != before+1 || minted.Index != before {
		t.Errorf("got %d entries and index %d after %d, want one more", got, minted.Index, before)
	}
	art := issuertest.Must(verify(w, minted))(t)
	c := art.Claims()
	if art.Digest() != statement.DigestOf(issuertest.Must(w.Tree.Leaf(w.Ctx, minted.Index))(t)) || art.Proof().Index != minted.Index {
		t.Error("the artifact is not the leaf that its receipt is for")
	}
	if c.Subject != w.Host.URI || c.Audience != issuertest.Gate || !bytes.Equal(c.Execution.ID, a.Claims.Execution.ID) || c.Initiator.Principal != issuertest.Robot {
		t.Errorf("got claims %+v", c)
	}
	if got := blob(w, c.Environment.Evidence.Value); !bytes.Equal(got, a.Evidence) {
		t.Error("other evidence is stored")
	}
	if got := blob(w, c.Policy.Request.Value); !bytes.Equal(got, a.Request) {
		t.Error("another request is stored")
	}
	in := issuertest.Must(decision.DecodeInput(blob(w, c.Policy.Input.Value)))(t)
	ap, az := documents(w, in)
	d := decision.Decide(in, ap, az)
	if d.Denied() != nil || !bytes.Equal(issuertest.Must(d.Claims().Encode())(t), issuertest.Must(c.Encode())(t)) {
		t.Errorf("decided again: %v, or other claims", d.Denied())
	}
	if _, err := d.Permit(); !denial.Is(err, denial.Internal) {
		t.Errorf("a decision that was made again permits: %v", err)
	}
	if n, denied := w.Issuer.Counts(); n != 1 || len(denied) != 0 {
		t.Errorf("got %d minted and %v denied", n, denied)
	}
}

// refusal is one way to be refused.
type refusal struct {
	name    string
	spoil   func(w *issuertest.World) issuertest.Spoil
	reason  denial.Reason
	stage   denial.Stage
	known   bool
	quoted  bool // evidence, challenge and exporter stand in the record
	decided bool // so does the decision input
	unread  bool // what the initiator signed is malformed or out of time: its request id is not read
	require []string
	alone   bool                      // it changes the world for all that come after
	after   func(*issuertest.Attempt) // once evidence is made
}

// plain is a spoil that does not depend on the world.
func plain(s issuertest.Spoil) func(*issuertest.World) issuertest.Spoil {
	return func(*issuertest.World) issuertest.Spoil { return s }
}

func claims(f func(*artifact.RequestClaims)) func(*issuertest.World) issuertest.Spoil {
	return plain(issuertest.Spoil{Claims: f})
}

func want(f func(*attest.Want)) func(*issuertest.World) issuertest.Spoil {
	return plain(issuertest.Spoil{Want: f})
}

// checkRefusal sends an attempt and checks all that a refusal must be.
func checkRefusal(w *issuertest.World, r refusal) {
	w.Helper()
	a := w.Prepare(r.spoil(w))
	if r.after != nil {
		r.after(&a)
	}
	before, _ := w.Issuer.Counts()
	size := w.Size()
	_, counted := w.Issuer.Counts()
	minted, err := a.Send()
	if minted != nil {
		w.Fatal("an artifact left")
	}
	ref := w.Refusal(err, r.reason)
	after, now := w.Issuer.Counts()
	if after != before || now[r.reason.Code()] != counted[r.reason.Code()]+1 {
		w.Errorf("got %d minted, and %v after %v", after, now, counted)
	}
	if ref.Denial.Stage != r.stage {
		w.Errorf("got stage %q, want %q", ref.Denial.Stage, r.stage)
	}
	if ref.Known != r.known || ref.Logged != r.known {
		w.Errorf("got known %v and logged %v, want %v", ref.Known, ref.Logged, r.known)
	}
	if !r.known {
		if w.Size() != size || ref.Statement != nil || ref.RequestID != nil {
			w.Errorf("got %d entries after %d, want none for a stranger", w.Size(), size)
		}
		return
	}
	if w.Size() != size+1 || ref.Index != size {
		w.Fatalf("got %d entries after %d and index %d, want exactly one", w.Size(), size, ref.Index)
	}
	checkRecord(w, a, r, ref)
}

// checkRecord checks the record of a denial, field by field.
func checkRecord(w *issuertest.World, a issuertest.Attempt, r refusal, ref *issuer.Refusal) {
	w.Helper()
	env := issuertest.Must(statement.Decode(ref.Statement, statement.MaxStatement))(w)
	if receipts, err := env.Receipts(); err != nil || len(receipts) != 1 || !bytes.Equal(env.Leaf(), issuertest.Must(w.Tree.Leaf(w.Ctx, ref.Index))(w)) {
		w.Errorf("the statement is not the leaf with one receipt: %v", err)
	}
	rec := w.Record(ref.Index)
	outcome := record.Denied
	if r.reason.Condition() == denial.ConditionUndecidable {
		outcome = record.Failed
	}
	if rec.Event != record.EventDenial || rec.Outcome != outcome || len(rec.Reasons) != 1 || rec.Reasons[0] != uint64(r.reason.Code()) ||
		rec.Stage != uint64(r.stage) || rec.Time != w.Seconds() || rec.Emitter.URI != issuertest.Issuer || rec.Previous != nil {
		w.Errorf("got record %+v", rec)
	}
	id := a.Claims.ID
	if r.unread {
		id = nil
	}
	if !bytes.Equal(rec.RequestID, id) || !bytes.Equal(ref.RequestID, id) || rec.Initiator != a.Signer || rec.Workload == "" {
		w.Errorf("got request %x by %q on %q", rec.RequestID, rec.Initiator, rec.Workload)
	}
	if !bytes.Equal(blob(w, rec.Request), a.Request) {
		w.Error("another request is stored")
	}
	if got := rec.Evidence != nil && rec.Challenge != nil && rec.Exporter != nil; got != r.quoted {
		w.Errorf("evidence in the record: %v, want %v", got, r.quoted)
	} else if got && (!bytes.Equal(blob(w, rec.Evidence), a.Evidence) || !bytes.Equal(rec.Exporter, a.Exporter[:])) {
		w.Error("other evidence is stored")
	}
	if got := rec.Input != nil; got != r.decided {
		w.Errorf("decision input in the record: %v, want %v", got, r.decided)
	} else if got {
		checkInput(w, rec, r)
	}
	checkStates(w, rec.Checks, r.stage)
	if len(r.require) > 0 && !slices.Equal(rec.Requirements, r.require) {
		w.Errorf("got requirements %q, want %q", rec.Requirements, r.require)
	}
}

// checkInput decides again.
func checkInput(w *issuertest.World, rec *record.Record, r refusal) {
	w.Helper()
	in := issuertest.Must(decision.DecodeInput(blob(w, rec.Input)))(w)
	ap, az := documents(w, in)
	again := decision.Decide(in, ap, az).Denied()
	if r.stage >= denial.StageTransaction {
		if again != nil {
			w.Errorf("decided again: %v, want a permit that failed later", again)
		}
		return
	}
	if again == nil || again.Reason != r.reason || again.Stage != r.stage || !slices.Equal(again.Requirements, rec.Requirements) || again.Detail != rec.Detail {
		w.Errorf("decided again: %v at %q", again, denial.Of(again).Stage)
	}
}

// checkStates checks that exactly the refusing stage failed, and none after it ran.
func checkStates(w *issuertest.World, states map[uint64]uint8, at denial.Stage) {
	w.Helper()
	want := map[uint64]uint8{}
	for _, s := range denial.IssuanceOrder() {
		switch {
		case s < at:
			want[uint64(s)] = uint8(denial.Success)
		case s == at:
			want[uint64(s)] = uint8(denial.Fail)
		default:
			want[uint64(s)] = uint8(denial.NotRun)
		}
	}
	// A stage whose fault a later check found out: those between had succeeded.
	for s := range states {
		if states[s] == uint8(denial.Success) && denial.Stage(s) > at && denial.Stage(s) < denial.StageRevocation {
			want[s] = uint8(denial.Success)
		}
	}
	if !maps.Equal(states, want) {
		w.Errorf("got states %v, want %v", states, want)
	}
}
