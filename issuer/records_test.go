package issuer_test

import (
	"bytes"
	"crypto/elliptic"
	"encoding/hex"
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/issuer"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/issuertest"
)

// start has the host's gate start an artifact, and follows its chain if the record is taken.
func start(w *issuertest.World, m *issuer.Minted, edit func(*record.Record)) ([]byte, error) {
	w.Helper()
	leaf := w.Report(w.Host, m, record.EventStart, edit)
	out, err := w.Issuer.Take(w.Ctx, leaf)
	if err == nil {
		w.Host.Follow(leaf)
	}
	return out, err
}

func use(n uint64) func(*record.Record) { return func(r *record.Record) { r.Execution.Use = n } }

func TestGateRecordsFormAChain(t *testing.T) {
	w := issuertest.New(t)
	m := w.Permit()
	out := issuertest.Must(start(w, m, nil))(t)
	env := issuertest.Must(statement.Decode(out, statement.MaxStatement))(t)
	if receipts, err := env.Receipts(); err != nil || len(receipts) != 1 {
		t.Errorf("no receipt: %v", err)
	}
	if r := w.Record(w.Size()-1, w.Host.Key.Key()); r.Event != record.EventStart || r.Emitter.URI != w.Host.Gate || r.Emitter.Seq != 0 {
		t.Errorf("got record %+v", r)
	}
	for _, step := range []struct {
		event record.Event
		edit  func(*record.Record)
	}{
		{record.EventEnd, func(r *record.Record) { r.Execution.Start = w.Host.Chain.Previous }},
		{record.EventDenial, func(r *record.Record) {
			r.FillDenial(denial.New(denial.ScopeDenied, "not in the scope").At(denial.StageScope), nil)
		}},
		{record.EventStart, use(2)},
	} {
		leaf := w.Report(w.Host, m, step.event, step.edit)
		issuertest.Must(w.Issuer.Take(w.Ctx, leaf))(t)
		w.Host.Follow(leaf)
	}
	w.Restart()
	leaf := w.Report(w.Host, m, record.EventEnd, use(2))
	first := issuertest.Must(w.Issuer.Take(w.Ctx, leaf))(t)
	size := w.Size()
	again := issuertest.Must(w.Issuer.Take(w.Ctx, leaf))(t) // the gate did not hear the answer
	if !bytes.Equal(first, again) || w.Size() != size {
		t.Errorf("sent again: another answer, or %d entries after %d", w.Size(), size)
	}
}

// report is a gate's record that is refused.
type report struct {
	name   string
	before func(*issuertest.World, *issuer.Minted)
	event  record.Event // default start
	edit   func(*issuertest.World, *record.Record)
	reason denial.Reason
}

func bare(f func(*record.Record)) func(*issuertest.World, *record.Record) {
	return func(_ *issuertest.World, r *record.Record) { f(r) }
}

func revoking(c record.Cause, target func(*issuertest.World, *issuer.Minted) string) func(*issuertest.World, *issuer.Minted) {
	return func(w *issuertest.World, m *issuer.Minted) { w.Revoke(c, target(w, m)) }
}

var reports = []report{
	{name: "an event that gates do not write", event: record.EventSummary, reason: denial.NotPermitted},
	{name: "another gate's name", edit: bare(func(r *record.Record) { r.Emitter.URI = issuertest.OtherGate }), reason: denial.NotPermitted},
	{name: "a start of long ago", before: func(w *issuertest.World, _ *issuer.Minted) { w.Advance(issuer.RecordSkew * time.Second) },
		edit: func(w *issuertest.World, r *record.Record) { r.Time -= 2*issuer.RecordSkew + 1 }, reason: denial.EvidenceStale},
	{name: "a start of the future", edit: bare(func(r *record.Record) { r.Time += issuer.RecordSkew + 1 }), reason: denial.EvidenceStale},
	{name: "X13 a number twice", before: func(w *issuertest.World, m *issuer.Minted) {
		issuertest.Must(start(w, m, nil))(w)
		w.Host.Chain.Next--
	}, edit: bare(func(r *record.Record) { r.Execution.Use = 2 }), reason: denial.StateRollback},
	{name: "X13 a number left out", edit: bare(func(r *record.Record) { r.Emitter.Seq++ }), reason: denial.StateRollback},
	{name: "X13 another record before it", edit: bare(func(r *record.Record) { r.Previous = issuertest.Random(32) }), reason: denial.StateRollback},
	{name: "X13 the chain begins anew", before: func(w *issuertest.World, m *issuer.Minted) {
		issuertest.Must(start(w, m, nil))(w)
		w.Host.Chain = issuertest.Chain{Epoch: issuertest.Random(16)}
	}, edit: bare(func(r *record.Record) { r.Execution.Use = 2 }), reason: denial.StateRollback},
	{name: "X13 the chain goes on in another epoch", before: func(w *issuertest.World, m *issuer.Minted) {
		issuertest.Must(start(w, m, nil))(w)
		w.Host.Chain.Epoch = issuertest.Random(16)
	}, edit: bare(func(r *record.Record) { r.Execution.Use = 2 }), reason: denial.StateRollback},
	{name: "an artifact of nobody", edit: bare(func(r *record.Record) { r.CTI = issuertest.Random(16) }), reason: denial.KeyUnknown},
	{name: "another artifact's digest", edit: bare(func(r *record.Record) { r.Artifact = issuertest.Random(32) }), reason: denial.AudienceMismatch},
	{name: "P12 artifact revoked", before: revoking(record.CauseArtifact, func(w *issuertest.World, m *issuer.Minted) string {
		return hex.EncodeToString(inspect(w, m).ID)
	}), reason: denial.ArtifactRevoked},
	{name: "P12 host revoked", before: revoking(record.CauseHost, func(w *issuertest.World, _ *issuer.Minted) string { return w.Host.URI }), reason: denial.HostRevoked},
	{name: "P12 policy withdrawn", before: revoking(record.CausePolicy, func(w *issuertest.World, _ *issuer.Minted) string { return policyHash(w) }), reason: denial.PolicyWithdrawn},
	{name: "P12 initiator revoked", before: revoking(record.CauseInitiator, func(*issuertest.World, *issuer.Minted) string { return issuertest.Robot }), reason: denial.InitiatorRevoked},
	{name: "expired", before: func(w *issuertest.World, _ *issuer.Minted) { w.Advance(300 * time.Second) }, reason: denial.Expired},
	{name: "expired, says the issuer's clock", before: func(w *issuertest.World, _ *issuer.Minted) { w.Advance(300 * time.Second) },
		edit: bare(func(r *record.Record) { r.Time -= 100 }), reason: denial.Expired},
	{name: "expired, says the gate's clock", before: func(w *issuertest.World, _ *issuer.Minted) { w.Advance(250 * time.Second) },
		edit: bare(func(r *record.Record) { r.Time += 50 }), reason: denial.Expired},
	{name: "use 0", edit: bare(func(r *record.Record) { r.Execution.Use = 0 }), reason: denial.UseCountExceeded},
	{name: "a use more than the artifact allows", edit: bare(func(r *record.Record) { r.Execution.Use = 3 }), reason: denial.UseCountExceeded},
	{name: "X12 a use twice", before: func(w *issuertest.World, m *issuer.Minted) { issuertest.Must(start(w, m, nil))(w) }, reason: denial.ArtifactReplayed},
}

func TestGateRecordsAreRefusedWithTheirCode(t *testing.T) {
	for _, row := range reports {
		t.Run(row.name, func(t *testing.T) {
			w := issuertest.New(t)
			m := w.Permit()
			if row.before != nil {
				row.before(w, m)
			}
			if row.event == 0 {
				row.event = record.EventStart
			}
			for range 2 {
				leaf := w.Report(w.Host, m, row.event, func(r *record.Record) {
					if row.edit != nil {
						row.edit(w, r)
					}
				})
				size := w.Size()
				out, err := w.Issuer.Take(w.Ctx, leaf)
				ref := w.Refusal(err, row.reason)
				if out != nil || ref.Denial.Stage != denial.StageStartRecord || !ref.Known {
					t.Errorf("got %+v", ref)
				}
				if row.name == "a start of long ago" {
					if ref.Logged || w.Size() != size {
						t.Error("an old record fills the log")
					}
					continue
				}
				if !ref.Logged || w.Size() != size+1 {
					t.Fatalf("got %d entries after %d", w.Size(), size)
				}
				if r := w.Record(ref.Index); r.Reasons[0] != uint64(row.reason.Code()) || r.Workload != w.Host.URI || row.event == record.EventStart && r.CTI == nil {
					t.Errorf("got record %+v", r)
				}
			}
		})
	}
}

func TestStrangersWriteNoGateRecords(t *testing.T) {
	for name, row := range map[string]struct {
		spoil  func(w *issuertest.World, leaf []byte) []byte
		reason denial.Reason
	}{
		"noise":        {func(*issuertest.World, []byte) []byte { return []byte("noise") }, denial.WrongType},
		"signature":    {func(_ *issuertest.World, leaf []byte) []byte { leaf[len(leaf)-1] ^= 1; return leaf }, denial.SignatureInvalid},
		"too large":    {func(*issuertest.World, []byte) []byte { return make([]byte, statement.MaxStatement+1) }, denial.StructureLimit},
		"another kind": {func(w *issuertest.World, _ []byte) []byte { return w.Prepare(issuertest.Spoil{}).Request }, denial.KeyUnknown},
		"key of nobody": {func(w *issuertest.World, _ []byte) []byte {
			h := *w.Host
			h.Key = issuertest.NewKey(w)
			return w.Report(&h, w.Permit(), record.EventStart, nil)
		}, denial.KeyUnknown},
		"the issuer's record key": {func(w *issuertest.World, _ []byte) []byte {
			h := *w.Host
			h.Key = w.Keys[record.PurposeRecord]
			return w.Report(&h, w.Permit(), record.EventStart, nil)
		}, denial.KeyUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			w := issuertest.New(t)
			leaf := row.spoil(w, w.Report(w.Host, w.Permit(), record.EventStart, nil))
			size := w.Size()
			_, err := w.Issuer.Take(w.Ctx, leaf)
			if ref := w.Refusal(err, row.reason); ref.Known || ref.Logged || w.Size() != size {
				t.Errorf("got %+v", ref)
			}
		})
	}
}

func TestOneUseIsConsumedOnceByManyAtOnce(t *testing.T) {
	w := issuertest.New(t)
	m := w.Permit()
	leaves := make([][]byte, 50)
	for n := range leaves {
		leaves[n] = w.Report(w.Host, m, record.EventStart, nil)
	}
	reasons := parallel(len(leaves), func(i int) error { _, err := w.Issuer.Take(w.Ctx, leaves[i]); return err })
	if reasons[0] != 1 || reasons[denial.StateRollback] != 49 {
		t.Errorf("got %v, want one start and 49 times STATE_ROLLBACK", reasons)
	}
}

func TestRevocationBetweenCheckAndStartIsSeen(t *testing.T) {
	w := issuertest.New(t)
	m := w.Permit()
	id := hex.EncodeToString(inspect(w, m).ID)
	leaves := make([][]byte, 20)
	for n := range leaves {
		h := w.EnrolHost(fmt.Sprint(issuertest.OtherURI, n), issuertest.Gate)
		leaves[n] = w.Report(h, m, record.EventStart, use(uint64(n%2+1)))
	}
	revocation := w.Sign(statement.Revocation, w.Revocation(record.CauseArtifact, id), issuertest.Alice, issuertest.Bob)
	parallel(len(leaves)+1, func(i int) error {
		if i == len(leaves) {
			_, err := w.Issuer.Apply(w.Ctx, statement.Revocation, revocation)
			return err
		}
		_, err := w.Issuer.Take(w.Ctx, leaves[i])
		return err
	})
	revoked := false
	for i := range w.Size() {
		env := issuertest.Must(statement.Decode(issuertest.Must(w.Tree.Leaf(w.Ctx, i))(t), statement.MaxStatement))(t)
		var r record.Record
		switch {
		case env.Kind() == statement.Revocation:
			revoked = true
		case revoked && env.Kind() == statement.Record && statement.Unmarshal(env.Payload(), &r) == nil && r.Event == record.EventStart:
			t.Fatalf("a start at %d, behind the revocation", i)
		}
	}
	if !revoked {
		t.Fatal("nothing was revoked")
	}
}

func TestOldGateRecordsDoNotFillTheLog(t *testing.T) {
	w := issuertest.New(t)
	m := w.Permit()
	first := w.Report(w.Host, m, record.EventStart, nil)
	issuertest.Must(w.Issuer.Take(w.Ctx, first))(t)
	w.Host.Follow(first)
	before := *w.Host
	issuertest.Must(start(w, m, use(2)))(t)
	refused := w.Report(&before, m, record.EventStart, use(2))
	_, err := w.Issuer.Take(w.Ctx, refused) // a gate whose state was rolled back
	if ref := w.Refusal(err, denial.StateRollback); !ref.Logged {
		t.Error("a rollback that has just happened is not logged")
	}
	w.Advance((issuer.RecordSkew + 1) * time.Second)
	size := w.Size()
	for _, leaf := range [][]byte{first, refused, first} {
		_, err := w.Issuer.Take(w.Ctx, leaf) // anybody who has read it
		w.Refusal(err, denial.EvidenceStale)
	}
	if w.Size() != size {
		t.Errorf("got %d entries after %d", w.Size(), size)
	}
	checkSummary(w, map[denial.Reason]uint64{denial.EvidenceStale: 3})
}

func TestEnrolmentAnewKeepsTheChainOfTheGate(t *testing.T) {
	w := issuertest.New(t)
	m := w.Permit()
	issuertest.Must(start(w, m, nil))(t)
	// The same gate key again: softtpm makes a new one each time, so the request is sent twice.
	request, key := w.Host.TPM.GateRequest(t)
	raw := issuertest.Must(request.Encode())(t)
	w.Host.Key = &issuertest.Key{Signer: issuertest.Must(statement.NewSigner(key))(t)}
	w.Host.Chain = issuertest.Chain{Epoch: issuertest.Random(16)}
	enrol := func() {
		conn := issuer.NewConnection()
		cred := issuertest.Must(w.Issuer.BeginEnrolment(w.Ctx, conn, raw))(t)
		issuertest.Must(w.Issuer.FinishEnrolment(w.Ctx, conn, issuertest.Must(w.Host.TPM.Activate(*cred))(t)))(t)
	}
	enrol()
	issuertest.Must(start(w, m, use(2)))(t)
	late := w.Report(w.Host, m, record.EventEnd, nil)
	w.Keys[record.PurposeRecord].Once(func() { // while the enrolment is being signed
		issuertest.Must(w.Issuer.Take(w.Ctx, late))(t)
		w.Host.Follow(late)
	})
	enrol()
	leaf := w.Report(w.Host, m, record.EventEnd, use(2))
	issuertest.Must(w.Issuer.Take(w.Ctx, leaf))(t)
}

func TestStatusListTellsTheCause(t *testing.T) {
	for name, row := range map[string]struct {
		cause  record.Cause
		target func(*issuertest.World, artifact.Claims) string
		want   artifact.StatusValue
		reason denial.Reason
	}{
		"artifact":  {record.CauseArtifact, func(_ *issuertest.World, c artifact.Claims) string { return hex.EncodeToString(c.ID) }, artifact.StatusArtifact, denial.ArtifactRevoked},
		"host":      {record.CauseHost, func(_ *issuertest.World, c artifact.Claims) string { return c.Subject }, artifact.StatusHost, denial.HostRevoked},
		"initiator": {record.CauseInitiator, func(_ *issuertest.World, c artifact.Claims) string { return c.Initiator.Principal }, artifact.StatusInitiator, denial.InitiatorRevoked},
		"authorization policy": {record.CausePolicy, func(_ *issuertest.World, c artifact.Claims) string { return hex.EncodeToString(c.Policy.Hash.Value) },
			artifact.StatusPolicy, denial.PolicyWithdrawn},
		"appraisal policy": {record.CausePolicy, func(_ *issuertest.World, c artifact.Claims) string {
			return hex.EncodeToString(c.Policy.Appraisal.Hash.Value)
		}, artifact.StatusPolicy, denial.PolicyWithdrawn},
	} {
		t.Run(name, func(t *testing.T) {
			w := issuertest.New(t)
			w.EnrolInitiator(mallory)
			w.Publish(replace(w, w.Authorization(), `["`+issuertest.Robot+`"]`, `["`+issuertest.Robot+`", "`+mallory+`"]`))
			other := w.EnrolHost(issuertest.OtherURI, issuertest.OtherGate)
			bystander := issuertest.Must(w.Ask(issuertest.Spoil{Host: other, Initiator: mallory}))(t)
			m := w.Permit()
			issuertest.Must(verify(w, m))(t)
			w.Revoke(row.cause, row.target(w, inspect(w, m)))
			if _, err := verify(w, m); !denial.Is(err, row.reason) {
				t.Errorf("got %v, want %s", err, row.reason)
			}
			list := status(w, inspect(w, m))
			if v, err := list.Value(inspect(w, m).Status.List); err != nil || v != row.want {
				t.Errorf("got value %d and %v, want %d", v, err, row.want)
			}
			v, err := list.Value(inspect(w, bystander).Status.List)
			if want := row.cause == record.CausePolicy; err != nil || (v != artifact.StatusValid) != want {
				t.Errorf("bystander: got value %d and %v, revoked %v", v, err, want)
			}
			w.Restart()
			if _, err := verify(w, m); !denial.Is(err, row.reason) {
				t.Errorf("after a restart: got %v, want %s", err, row.reason)
			}
		})
	}
}

func TestP12_RevokedOncePermittedNeverAgain(t *testing.T) {
	w := issuertest.New(t)
	w.Revoke(record.CauseHost, w.Host.URI)
	w.Restart()
	_, err := w.Ask(issuertest.Spoil{})
	w.Refusal(err, denial.HostRevoked)
	_, err = w.Begin(issuer.NewConnection(), w.Host)
	w.Refusal(err, denial.HostRevoked)
}

func TestStatusListsAreSignedAsOftenAsNeeded(t *testing.T) {
	w := issuertest.New(t)
	m := w.Permit()
	key := w.Keys[record.PurposeStatus]
	token := func() []byte { return issuertest.Must(w.Issuer.Status(w.Ctx, 0))(t) }
	first := token()
	w.Advance((issuer.StatusLife - 1) * time.Second)
	if !bytes.Equal(first, token()) || key.Count.Load() != 1 {
		t.Errorf("%d signatures for a list that is still fresh", key.Count.Load())
	}
	w.Advance(time.Second)
	if bytes.Equal(first, token()) || key.Count.Load() != 2 {
		t.Errorf("%d signatures, want a second one", key.Count.Load())
	}
	w.Revoke(record.CauseArtifact, hex.EncodeToString(inspect(w, m).ID))
	if _, err := verify(w, m); !denial.Is(err, denial.ArtifactRevoked) {
		t.Errorf("a revocation waits: %v", err)
	}
	key.Dead.Store(true)
	w.Advance(issuer.StatusLife * time.Second)
	_, err := w.Issuer.Status(w.Ctx, 0)
	w.Refusal(err, denial.HSMUnavailable)
	key.Dead.Store(false)
	token()
	// A trust file may take a list as old as it says.
	trust := w.Trust()
	old := token()
	w.Advance(trust.RevocationAge)
	issuertest.Must(artifact.VerifyStatus(old, trust, w.Now(), 0))(t)
	w.Advance(time.Second)
	if _, err := artifact.VerifyStatus(old, trust, w.Now(), 0); !denial.Is(err, denial.RevocationUnknown) {
		t.Errorf("got %v", err)
	}
}

func TestListsThatNoArtifactNamesAreNotSigned(t *testing.T) {
	w := issuertest.New(t)
	before := w.Keys[record.PurposeStatus].Count.Load()
	for _, n := range []uint64{1, 2, 1 << 32, 1<<64 - 1} {
		_, err := w.Issuer.Status(w.Ctx, n)
		w.Refusal(err, denial.NotPermitted)
	}
	if got := w.Keys[record.PurposeStatus].Count.Load(); got != before {
		t.Errorf("%d signatures", got-before)
	}
}

func TestStatusIndicesGoOnAfterARestart(t *testing.T) {
	w := issuertest.New(t)
	seen := map[artifact.StatusRef]bool{}
	for range 3 {
		for range 3 {
			ref := inspect(w, w.Permit()).Status.List
			if seen[ref] {
				t.Fatalf("index %d twice", ref.Index)
			}
			seen[ref] = true
		}
		_, err := w.Ask(issuertest.Spoil{Claims: func(c *artifact.RequestClaims) { c.Lifetime = 601 }})
		w.Refusal(err, denial.LifetimeTooLong)
		w.Restart()
	}
	if !seen[artifact.StatusRef{Index: 0, URI: w.Issuer.StatusURI(0)}] {
		t.Error("the first artifact does not have the first index")
	}
}

// Entries may be public: whoever sends a record of a gate again is a stranger who could fill the log with its refusal, also
// at once, and also with the other of the two signatures that ECDSA lets anybody make of one.
func TestX13_RecordsOfTheLogAreNotRefusedInIt(t *testing.T) {
	w := issuertest.New(t)
	m := w.Permit()
	first := w.Report(w.Host, m, record.EventStart, nil)
	issuertest.Must(w.Issuer.Take(w.Ctx, first))(t)
	w.Host.Follow(first)
	last := w.Report(w.Host, m, record.EventEnd, func(r *record.Record) { r.Execution.Start = w.Host.Chain.Previous })
	issuertest.Must(w.Issuer.Take(w.Ctx, last))(t)
	w.Host.Follow(last)
	size := w.Size()
	for name, leaf := range map[string][]byte{"one before the last": first, "its twin": twin(first), "the last one's twin": twin(last)} {
		_, err := w.Issuer.Take(w.Ctx, leaf)
		if ref := w.Refusal(err, denial.StateRollback); ref.Logged || w.Size() != size {
			t.Errorf("%s fills the log", name)
		}
	}
}

// twin returns a statement signed by ES256 with the other s, which verifies as well.
func twin(leaf []byte) []byte {
	out := bytes.Clone(leaf)
	s := out[len(out)-32:]
	new(big.Int).Sub(elliptic.P256().Params().N, new(big.Int).SetBytes(s)).FillBytes(s)
	return out
}
